"""Where a user's labs keep what they found out about this machine; whatever is lost there is found out again."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["user_cache"]


def user_cache() -> Path:
    """Give the folder: ``vmsnap_nb`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. It may not be there."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vmsnap_nb")
