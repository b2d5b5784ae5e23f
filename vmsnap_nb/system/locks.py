"""Which images QEMU processes hold, without opening any image.

QEMU locks single bytes of an image, one for each permission that it has taken: byte 100 for reading, 101 for writing
(QEMU, block/file-posix.c, ``RAW_LOCK_PERM_BASE``; block.h, ``BLK_PERM_*``). The kernel lists all locks, with the file's
device and inode, in ``/proc/locks`` (man 5 proc_locks). On file systems that show another device number in `os.stat`
than the kernel uses itself (btrfs subvolumes) nothing is found there, and an image counts as not held.
"""

from __future__ import annotations

import os
from typing import Literal

from vmsnap_nb.model.image import Identity

__all__ = ["held", "holders"]

_READ_BYTE = 100
_WRITE_BYTE = 101
_TABLE = "/proc/locks"


def held(table: str = _TABLE) -> dict[Identity, Literal["read", "write"]]:
    """Tell which files are locked in QEMU's way now, and for what.

    Parameters
    ----------
    table : str
        The kernel's table of locks.

    Returns
    -------
    dict
        From (device, inode) to ``write`` or ``read``; empty where the system has no such table.
    """
    try:
        with open(table, "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return {}
    found: dict[Identity, Literal["read", "write"]] = {}
    for line in lines:
        lock = _parse(line.split())
        if lock is None:
            continue
        identity, first, last = lock
        if first <= _WRITE_BYTE <= last:
            found[identity] = "write"
        elif first <= _READ_BYTE <= last:
            found.setdefault(identity, "read")
    return found


def _parse(words: list[bytes]) -> tuple[Identity, int, int] | None:
    # 12: OFDLCK ADVISORY  READ -1 fe:00:2146342 100 101      (a lock that is waited for has "->" in the second place)
    if len(words) != 8 or words[1] not in {b"OFDLCK", b"POSIX"} or words[7] == b"EOF":
        return None
    try:
        major, minor, inode = words[5].split(b":")
        return (os.makedev(int(major, 16), int(minor, 16)), int(inode)), int(words[6]), int(words[7])
    except ValueError:
        return None


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
