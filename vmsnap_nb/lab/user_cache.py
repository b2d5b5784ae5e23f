"""Where a user's labs keep what they found out about this machine; whatever is lost there is found out again."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vmsnap_nb.system.files.owner import owner_of

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


def _is_own(folder: Path, links: int = 40) -> bool:
    """Return whether nobody else can create, rename or replace files in a folder, or put another in its place."""
    path = Path(os.path.abspath(folder))
    try:
        places = (path / "capabilities", path, *path.parents)
        return links > 0 and all(_is_kept(one, links - 1) for one in places if os.path.lexists(one))
    except OSError:
        return False


def _is_kept(path: Path, links: int) -> bool:
    found = os.lstat(path)
    if owner_of(found) not in (0, os.geteuid()):
        return False
    if stat.S_ISLNK(found.st_mode):
        return _is_own(path.parent / os.readlink(path), links)
    others = found.st_mode & (stat.S_IWOTH if found.st_gid == os.getegid() else stat.S_IWOTH | stat.S_IWGRP)
    return not others or bool(found.st_mode & stat.S_ISVTX)
