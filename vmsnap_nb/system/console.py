"""Reads what a guest has written to its serial console, where that is kept in a file."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET

from vmsnap_nb.system.os_errors import from_os_error

__all__ = ["console_log", "plain", "read_console"]

_MOST = 4 << 20
# ECMA-48: control sequences (ESC [ … letter), and other two-byte escapes.
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-Z\\-_c78=>]")


def console_log(domain: ET.Element) -> str | None:
    """Give the file that a domain's XML names for its first serial port, or None."""
    serial = domain.find("devices/serial")
    if serial is None:
        return None
    log = serial.find("log")
    if log is None and serial.get("type") == "file":
        log = serial.find("source")
        return None if log is None else log.get("path")
    return None if log is None else log.get("file")


def read_console(path: str) -> str:
    """Read such a file: at most its last 4 MiB; empty if there is none yet.

    Raises
    ------
    PermissionDeniedError
        The file may not be read.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _MOST))
            return plain(file.read(_MOST).decode(errors="replace"))
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise from_os_error(error, f"read the console log {path}") from error


def plain(text: str) -> str:
    r"""Take terminal control sequences and carriage returns out.

    Examples
    --------
    >>> plain("\x1b[6nlogin:\r\n")
    'login:\n'
    """
    return _CONTROL.sub("", text).replace("\r\n", "\n").replace("\r", "")
