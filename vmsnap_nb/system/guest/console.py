"""Reads what a guest has written to its serial console, where that is kept in a file."""

from __future__ import annotations

import os
import re
import stat
import xml.etree.ElementTree as ET

from vmsnap_nb.errors import GuestError
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.words.message import t

__all__ = ["console_kind", "console_log", "plain", "read_console"]

_MOST = 4 << 20
# ECMA-48: control sequences (ESC [ … letter), and other two-byte escapes.
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-Z\\-_c78=>]")
_OTHERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All that a terminal may act on but tabulator and line feed."""


def console_log(domain: ET.Element) -> str | None:
    """Return the file that a domain's XML names for its first serial port, or None."""
    serial = domain.find("devices/serial")
    if serial is None:
        return None
    log = serial.find("log")
    if log is None and serial.get("type") == "file":
        log = serial.find("source")
        return None if log is None else log.get("path")
    return None if log is None else log.get("file")


def console_kind(domain: ET.Element) -> str:
    """Return to what a domain's XML connects the console that libvirt opens; empty if the guest has none.

    libvirt takes the first console, or the first serial port where there is none (``qemuDomainOpenConsole``).
    """
    found = domain.find("devices/console")
    found = domain.find("devices/serial") if found is None else found
    return "" if found is None else found.get("type", "")


def read_console(path: str) -> str:
    """Read such a file: at most its last 4 MiB; empty if there is none yet.

    The name comes from the guest's XML: it is not followed where it is a link, and no device or pipe is opened.
    """
    tried = t("read the console log {path}", path=path)
    try:
        with open(path, "rb", opener=_opener) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise GuestError(tried, why=t("it is not a regular file"), next_step=t("use virsh console"))
            file.seek(max(0, status.st_size - _MOST))
            return plain(file.read(_MOST).decode(errors="replace"))
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise from_os_error(error, tried) from error


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def plain(text: str) -> str:
    r"""Take terminal control sequences, carriage returns and other control characters out.

    Examples
    --------
    >>> plain("\x1b[6nlogin:\r\n")
    'login:\n'
    """
    return _OTHERS.sub("", _CONTROL.sub("", text))
