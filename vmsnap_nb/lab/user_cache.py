"""Where a user's labs keep what they found out about this machine; whatever is lost there is found out again."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["user_cache"]


def user_cache() -> Path:
    """Return ``$VMSNAP_CACHE``, or ``vmsnap_nb`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; it may not be there."""
    if named := os.environ.get("VMSNAP_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vmsnap_nb")
