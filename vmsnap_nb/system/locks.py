"""Which images QEMU processes hold: asked of the kernel, without taking a lock.

QEMU locks single bytes of an image, one for each permission that it has taken: byte 100 for reading, 101 for writing
(QEMU, block/file-posix.c, ``RAW_LOCK_PERM_BASE``; include/block/block-common.h, ``BLK_PERM_*``). They are open file
description locks (man 2 fcntl). The kernel's table, ``/proc/locks``, would tell of all files at once, but listing it
takes the kernel 8 ms on an idle machine and ten times as long on a busy one; to ask for one open file takes 1 us.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Literal

from vmsnap_nb.model.image import Identity

__all__ = ["Held", "claim", "held", "holders"]

Held = Literal["", "read", "write"]

_ask, _GETLK = fcntl.fcntl, fcntl.F_OFD_GETLK
_READ_BYTE, _WRITE_BYTE = 100, 101
_FLOCK = struct.Struct("hhqqi4x")
"""``struct flock`` of 64-bit Linux: type, whence, start, length, process."""
_ANY = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _READ_BYTE, 2, 0)
_WRITE = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _WRITE_BYTE, 1, 0)
_OURS = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 1 << 62, 1, 0)
"""A byte far behind the end of any image: no QEMU locks it, and on no file system is anything kept from being read."""
_FREE = struct.pack("h", fcntl.F_UNLCK)
_NONE = _FREE + _ANY[2:]
"""The answer where nobody has locked anything: only the type is changed."""


def held(fd: int) -> Held:
    """Tell whether a process has locked a file in QEMU's way now, and for what.

    Parameters
    ----------
    fd : int
        The file, open for reading.

    Returns
    -------
    str
        ``write``, ``read`` or empty; empty, too, on file systems without locks.
    """
    try:
        if _ask(fd, _GETLK, _ANY) == _NONE:
            return ""
        return "read" if _ask(fd, _GETLK, _WRITE)[:2] == _FREE else "write"
    except OSError:
        return ""


def claim(path: str) -> int:
    """Lock an image against other plans: in this process, in others, and on a file system that knows of them elsewhere.

    Parameters
    ----------
    path : str
        The image.

    Returns
    -------
    int
        The file, open; closing it, or the end of the process, ends the lock.

    Raises
    ------
    BlockingIOError
        Another plan has it.
    OSError
        It cannot be opened for writing, or its file system has no locks.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _OURS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def holders(identity: Identity) -> list[tuple[int, str]]:
    """Find the processes that have a file open with a lock on it: for messages, since it looks at every process.

    Parameters
    ----------
    identity : tuple of int
        Device and inode.

    Returns
    -------
    list of (int, str)
        Process numbers and commands; only processes that this user may look into.
    """
    return sorted(
        (int(pid), _read(f"/proc/{pid}/comm").strip())
        for pid in _entries("/proc")
        if pid.isdigit() and any(_locks(pid, fd, identity) for fd in _entries(f"/proc/{pid}/fd"))
    )


def _locks(pid: str, fd: str, identity: Identity) -> bool:
    try:
        status = os.stat(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == identity and "lock:" in _read(f"/proc/{pid}/fdinfo/{fd}")


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # it has ended meanwhile, or is somebody else's
        return []


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except OSError:
        return ""
