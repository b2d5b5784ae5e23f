"""The name of this machine, as libvirt would give it."""

from __future__ import annotations

import socket

__all__ = ["other_name"]


def other_name(name: str) -> str:
    """Return the name of this machine if it is another one than `name`, that of libvirt's machine, or nothing.

    The domain does not count: libvirt asks for it (virGetHostname), and gets one or not.
    """
    own = socket.gethostname()
    if _first(own) == _first(name):
        return ""
    try:
        canonical = socket.getaddrinfo(own, None, flags=socket.AI_CANONNAME)[0][3]
    except (OSError, UnicodeError, IndexError):
        return own
    return "" if _first(canonical) == _first(name) else own


def _first(name: str) -> str:
    return name.partition(".")[0].lower()
