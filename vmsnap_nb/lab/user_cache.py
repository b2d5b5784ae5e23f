"""Where a user's labs keep what they found out about this machine; whatever is lost there is found out again."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

__all__ = ["user_cache", "write_whole"]


def user_cache() -> Path:
    """Give the folder: ``vmsnap_nb`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. It may not be there."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vmsnap_nb")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever reads half of it.

    Raises
    ------
    OSError
        It cannot be written; what was there is there still.
    """
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
