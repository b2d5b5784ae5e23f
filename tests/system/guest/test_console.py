"""What is read of a console."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from vmsnap_nb.system.guest.console import console_kind, plain


def test_escapes_and_returns_of_a_console_are_taken_away() -> None:
    assert plain("\x1b[6n\x1b[1;32mok\x1b[0m\r\nnext\r") == "ok\nnext"


@pytest.mark.parametrize(
    ("devices", "kind"),
    [
        ("", ""),
        ("<serial type='pty'/>", "pty"),
        ("<serial type='pty'/><console type='file'/>", "file"),
        ("<serial type='tcp'/><serial type='pty'/>", "tcp"),
    ],
)
def test_the_console_that_libvirt_opens(devices: str, kind: str) -> None:
    assert console_kind(ET.fromstring(f"<domain><devices>{devices}</devices></domain>")) == kind
