"""Reads small files that somebody else may have put there: never through a link, never waiting, never without end."""

from __future__ import annotations

import os
import stat

from vmsnap_nb.system.files.owner import owner_of
from vmsnap_nb.words.message import t

__all__ = ["read_small"]


def read_small(path: str | os.PathLike[str], most: int, *, of_anyone: bool = False) -> bytes:
    """Return what is in a regular file that is at most so long; OSError for any other.

    It must be root's or this user's, unless nothing is done according to what is in it: then it may be `of_anyone`.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(None, t("{path} is not a regular file", path=os.fspath(path)))
        if not of_anyone and (owner := owner_of(found)) not in (0, os.geteuid()):
            raise OSError(None, t("{path} belongs to another user (uid {uid})", path=os.fspath(path), uid=owner))
        if found.st_size > most:
            raise OSError(None, t("{path} is larger than {most} bytes", path=os.fspath(path), most=most))
        with open(fd, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(fd)
