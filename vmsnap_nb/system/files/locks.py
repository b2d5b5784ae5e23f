"""Which images QEMU processes hold: asked of the kernel, without taking a lock.

QEMU locks single bytes of an image, one for each permission that it has taken: byte 100 for reading, 101 for writing
(QEMU, block/file-posix.c, ``RAW_LOCK_PERM_BASE``; include/block/block-common.h, ``BLK_PERM_*``). They are open file
description locks (man 2 fcntl). The kernel's table, ``/proc/locks``, would tell of all files at once, but listing it
takes the kernel 8 ms on an idle machine and ten times as long on a busy one; to ask for one open file takes 1 us.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterable, Iterator
from typing import Literal
from uuid import UUID

from vmsnap_nb.model.identity import Identity
from vmsnap_nb.system.files.devices import identity_of

__all__ = [
    "Held",
    "claim",
    "claim_guest",
    "claim_open",
    "deleted_and_open",
    "held",
    "holders",
    "is_claimed",
    "is_open",
    "keep",
    "open_for_writing",
    "open_in_guest",
    "release",
]

Held = Literal["", "read", "write"]

_ask, _GETLK = fcntl.fcntl, fcntl.F_OFD_GETLK
_READ_BYTE, _WRITE_BYTE = 100, 101
_FLOCK = struct.Struct("hhqqi4x")
"""``struct flock`` of 64-bit Linux: type, whence, start, length, process."""
_ANY = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _READ_BYTE, 2, 0)
_WRITE = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _WRITE_BYTE, 1, 0)
_OURS = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 1 << 62, 1, 0)
"""A byte far behind the end of any image: no QEMU locks it, and on no file system is anything kept from being read."""
_OURS_FREE = _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 1 << 62, 0, 0)
_OURS_SHARED = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 1 << 62, 1, 0)
_FREE = struct.pack("h", fcntl.F_UNLCK)
_NONE = _FREE + _ANY[2:]
"""The answer where nobody has locked anything: only the type is changed."""


def held(fd: int) -> Held:
    """Return for what a process has locked an open file in QEMU's way now: ``write``, ``read`` or empty.

    It is empty, too, on file systems without locks.
    """
    try:
        if _ask(fd, _GETLK, _ANY) == _NONE:
            return ""
        return "read" if _ask(fd, _GETLK, _WRITE)[:2] == _FREE else "write"
    except OSError:
        return ""


def claim(path: str, *, shared: bool = False) -> int:
    """Lock an image against other plans: in this process, in others, and on a file system that knows of them elsewhere.

    If `shared`, other plans may have it shared as well: they rely on its content, and do not change it. `release`, or
    the end of the process, ends the lock; `BlockingIOError` where another plan has it.
    """
    return _locked(path, os.O_RDONLY if shared else os.O_RDWR, _OURS_SHARED if shared else _OURS)


def claim_guest(path: str, uuid: str) -> int:
    """Lock a guest against other plans as `claim` does, by one of its images.

    Each guest has a byte of its own there, since several can have one base.
    """
    place = (1 << 62) + 1 + (UUID(uuid).int >> 67)
    return _locked(path, os.O_RDWR, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0))


def _locked(path: str, access: int, lock: bytes) -> int:
    fd = os.open(path, access | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock)
    except BaseException:
        os.close(fd)
        raise
    return keep(fd)


def keep(fd: int) -> int:
    """Take note of an open file with a lock on it, which a copy of this process made by fork shall not have."""
    _KEPT.add(fd)
    return fd


def claim_open(fd: int) -> None:
    """Lock an open file in the same way, where the file system can."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _OURS)


def is_claimed(fd: int) -> bool | None:
    """Return whether a plan has locked an open file; None where the file system does not tell."""
    try:
        return _ask(fd, _GETLK, _OURS)[:2] != _FREE
    except OSError:
        return None


def is_open(identity: Identity) -> bool:
    """Return whether a process has a file open, of those that this user may look into."""
    return any(
        _leads_to(f"/proc/{pid}/fd/{fd}", identity)
        for pid in _entries("/proc")
        if pid.isdigit()
        for fd in _entries(f"/proc/{pid}/fd")
    )


def release(fd: int) -> None:
    """End the lock of a file that is kept, and close it; nothing happens in a process that was forked meanwhile."""
    if fd not in _KEPT:
        return
    _KEPT.discard(fd)
    # Not by closing alone: a program that is being started has a copy until it begins.
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _OURS_FREE)
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _let_go() -> None:
    # A copy made by fork shares the locks: it would hold them when this process has ended.
    while _KEPT:
        with contextlib.suppress(OSError):
            os.close(_KEPT.pop())


_KEPT: set[int] = set()
os.register_at_fork(after_in_child=_let_go)


def holders(identity: Identity) -> list[tuple[int, str]]:
    """Find the processes that have a file open with a lock on it: for messages, since it looks at every process.

    Only processes are found that this user may look into: their numbers and commands.
    """
    return sorted(
        (int(pid), _read(f"/proc/{pid}/comm").strip())
        for pid in _entries("/proc")
        if pid.isdigit() and any(_locks(pid, fd, identity) for fd in _entries(f"/proc/{pid}/fd"))
    )


def open_for_writing(identities: Iterable[Identity]) -> set[Identity]:
    """Return those files that a process has open for writing, among processes that this user may look into."""
    wanted, found = set(identities), set[Identity]()
    for pid, fd in _open_files():
        identity = _opened(pid, fd)
        if identity in wanted and identity not in found and _writes(pid, fd):
            found.add(identity)
    return found


def deleted_and_open(paths: Iterable[str]) -> set[str]:
    """Return those names under which a process has a file open for writing that is deleted, as `open_for_writing`.

    In another mount namespace, as in a container, the same name may be one of another file system.
    """
    wanted = {f"{path} (deleted)": path for path in paths}
    found: set[str] = set()
    for pid, fd in _open_files():
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        if target in wanted and _writes(pid, fd) and _may_be_at(wanted[target], pid, fd):
            found.add(wanted[target])
    return found


def _may_be_at(path: str, pid: str, fd: str) -> bool:
    """Return whether what a process has open may have been at a path here: on the same file system, or on none."""
    try:
        folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return True
    try:
        here = _file_system("self", str(folder))
    finally:
        os.close(folder)
    there = _file_system(pid, fd)
    return here is None or there is None or here == there


def _file_system(pid: str, fd: str) -> str | None:
    """Return the device of the file system of an open file: that of its mount, which a file need not have itself."""
    told = _read(f"/proc/{pid}/fdinfo/{fd}").splitlines()
    mount = next((line.split()[1] for line in told if line.startswith("mnt_id:")), None)
    mounts = (line.split() for line in _read(f"/proc/{pid}/mountinfo").splitlines())
    return next((fields[2] for fields in mounts if fields[0] == mount), None)


def open_in_guest(guest: str) -> frozenset[Identity] | None:
    """Return the files that the QEMU of a guest has open; None where this user sees no such process."""
    name = f"guest={guest.replace(',', ',,')},"
    pids = [pid for pid in _entries("/proc") if pid.isdigit() and name in _read(f"/proc/{pid}/cmdline")]
    found = [identity for pid in pids for fd in _entries(f"/proc/{pid}/fd") if (identity := _opened(pid, fd))]
    return frozenset(found) if found else None


def _opened(pid: str, fd: str) -> Identity | None:
    try:
        return identity_of(os.stat(f"/proc/{pid}/fd/{fd}"))
    except OSError:
        return None


def _open_files() -> Iterator[tuple[str, str]]:
    return ((pid, fd) for pid in _entries("/proc") if pid.isdigit() for fd in _entries(f"/proc/{pid}/fd"))


def _writes(pid: str, fd: str) -> bool:
    flags = next((line for line in _read(f"/proc/{pid}/fdinfo/{fd}").splitlines() if line.startswith("flags:")), "")
    return bool(flags) and int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY


def _locks(pid: str, fd: str, identity: Identity) -> bool:
    return _leads_to(f"/proc/{pid}/fd/{fd}", identity) and "lock:" in _read(f"/proc/{pid}/fdinfo/{fd}")


def _leads_to(path: str, identity: Identity) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return identity_of(status) == identity


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
