"""What files take on disk."""

from __future__ import annotations

import os
import sys

__all__ = ["bytes_on_disk", "taken"]

_UNIT = None if sys.platform == "emscripten" else 512
"""Bytes of a block in ``st_blocks``, which POSIX leaves open: Emscripten counts blocks of the file system."""


def bytes_on_disk(status: os.stat_result) -> int:
    """Return the bytes that a file takes on disk."""
    return status.st_blocks * (_UNIT or status.st_blksize)


def taken(path: str) -> int | None:
    """Return the bytes that a file takes on disk: 0 if there is none, None if that cannot be seen."""
    try:
        return bytes_on_disk(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError:
        return None
