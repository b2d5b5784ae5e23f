"""What is read of a console."""

from __future__ import annotations

from vmsnap_nb.system.guest.console import plain


def test_escapes_and_returns_of_a_console_are_taken_away() -> None:
    assert plain("\x1b[6n\x1b[1;32mok\x1b[0m\r\nnext\r") == "ok\nnext"
