"""Where a user's labs keep what they found out about this machine; whatever is lost there is found out again."""

from __future__ import annotations

import os
from pathlib import Path

from vmsnap_nb.system.files.owner import replaceable

__all__ = ["user_cache"]


def user_cache() -> Path | None:
    """Return ``$VMSNAP_CACHE``, or ``vmsnap_nb`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; it may not be there.

    None if others can change what is there, as where root has the variable of another user: labs believe what they
    find in it, and would write through links that others have put there.
    """
    if named := os.environ.get("VMSNAP_CACHE"):
        folder = Path(named)
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "vmsnap_nb")
    return folder if _is_own(folder) else None


def _is_own(folder: Path) -> bool:
    """Return whether nobody else can create, rename or replace files in a folder, or put another in its place."""
    try:
        return not replaceable(str(folder / "capabilities" / "file"), {0, os.geteuid()}, may_be_made=True)
    except OSError:
        return False
