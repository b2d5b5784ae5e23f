"""Who may read what is made here: nobody who may not read the image below, whose data it will show."""

from __future__ import annotations

import contextlib
import os
import stat

__all__ = ["Permission", "permission_below", "restrict"]

_OWNER = stat.S_IRUSR | stat.S_IWUSR
_MOST = 0o664
"""Others may never write."""


class Permission:
    """Mode and owner that a new overlay gets."""

    def __init__(self, found: os.stat_result | None) -> None:
        self._found = found

    @property
    def mode(self) -> int:
        """Permission bits: those of the image below, and its owner may write."""
        return _OWNER | (0 if self._found is None else stat.S_IMODE(self._found.st_mode) & _MOST)

    def give(self, fd: int, most: int = 0o777) -> None:
        """Give a file this mode, within `most`, and as root also this owner.

        Where the group cannot be that of the image below, its members may do no more than others.
        """
        found, mode = self._found, self.mode & (most | _OWNER)
        if found is not None:
            with contextlib.suppress(OSError):
                os.fchown(fd, found.st_uid if os.geteuid() == 0 else -1, found.st_gid)
            if os.fstat(fd).st_gid != found.st_gid:
                mode &= ~0o070 | (mode & 0o007) << 3
        os.fchmod(fd, mode)


def permission_below(path: str | None) -> Permission:
    """Return what an overlay of this image gets; of one that is not here, or cannot be seen: only its owner uses it."""
    try:
        return Permission(None if path is None else os.stat(path))
    except OSError:
        return Permission(None)


def restrict(path: str, below: str) -> None:
    """Give an overlay that another program has made owner and mode of the image below, where it has more."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:  # of another name it would be another's file
            permission_below(below).give(fd, most=stat.S_IMODE(found.st_mode))
    finally:
        os.close(fd)
