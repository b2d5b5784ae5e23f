"""What files take on disk."""

from __future__ import annotations

import os

__all__ = ["taken"]


def taken(path: str) -> int | None:
    """Return the bytes that a file takes on disk: 0 if there is none, None if that cannot be seen."""
    try:
        return os.lstat(path).st_blocks * 512
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError:
        return None
