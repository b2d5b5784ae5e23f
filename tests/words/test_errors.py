"""An error tells its own diagnosis from the words of another program."""

from __future__ import annotations

import pytest

import vmsnap_nb as vs


@pytest.mark.parametrize(
    "kind", [vs.VmsnapError, vs.InvalidRequestError, vs.InUseError, vs.CommandError, vs.LibvirtError]
)
def test_an_error_says_what_why_and_what_next(kind: type[vs.VmsnapError]) -> None:
    own = kind("commit a", why="b is\nbased on it", next_step="choose b")
    assert str(own) == "cannot commit a\n  why:  b is\n        based on it\n  next: choose b"
    quoted = kind("commit a", said="Image is locked")
    assert str(quoted) == "cannot commit a\n  said: Image is locked"
    assert [own.reason, quoted.reason, kind("x").reason] == ["b is\nbased on it", "Image is locked", ""]
    assert [own.said, own.quoted] == ["b is\nbased on it", None]
    assert [quoted.said, quoted.quoted] == ["Image is locked", "Image is locked"]
