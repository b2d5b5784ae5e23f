"""Writes all of some bytes: one call can write a part of them, as where a disk becomes full."""

from __future__ import annotations

import os

__all__ = ["write_all"]


def write_all(fd: int, data: bytes, at: int) -> None:
    """Write bytes at an offset of a file; an error says that not all of them are there."""
    rest = memoryview(data)
    while rest:
        count = os.pwrite(fd, rest, at)
        rest, at = rest[count:], at + count
