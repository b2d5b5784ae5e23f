"""Files of ours that are not complete yet: a name that nobody can foresee, made anew, locked while they are written."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import struct
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from vmsnap_nb.model.identity import Identity
from vmsnap_nb.system.files.locks import claim_open, held, is_claimed, is_open, keep, release

__all__ = [
    "NO_LINKS",
    "Temporary",
    "incomplete",
    "is_temporary",
    "leftovers",
    "publish",
    "publish_new",
    "sync_folder",
    "temporary",
]

_NAME = re.compile(r"\.[0-9a-f]{32}\.partial")
_DAY = 86_400
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What file systems say that have no hard links, such as FAT."""
_PART = b"LibvirtQemudPart"
_HEADER = struct.Struct(">4s20xQ28xI")
"""Of qcow2: the magic, the size of the disk, and how many snapshots there are."""
_MOST_EMPTY = 1 << 20
"""Bytes of an overlay in which nothing is written yet: of a header and tables, with the largest clusters."""


@dataclass(frozen=True, slots=True)
class Temporary:
    """A new, empty file: its path, and a descriptor that reads and writes it."""

    path: str
    fd: int


def is_temporary(name: str) -> bool:
    """Return whether a file has a name as `temporary` gives."""
    return _NAME.fullmatch(name) is not None


@contextlib.contextmanager
def temporary(folder: str, mode: int = 0o600) -> Iterator[Temporary]:
    """Make a file with these permission bits, whatever the umask; it is removed in the end unless it was renamed.

    It is locked meanwhile, which tells `leftovers` that it is none. A link of that name is not followed.
    """
    path = os.path.join(folder, f".{uuid.uuid4().hex}.partial")
    fd = keep(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        claim_open(fd)
        os.fchmod(fd, mode)
        yield Temporary(path, fd)
    finally:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.lstat(path), os.fstat(fd)):
                os.unlink(path)
        release(fd)


def publish(new: Temporary, path: str) -> None:
    """Give a file that is complete its name, in place of what has it: file and folder are on the disk then."""
    os.fsync(new.fd)
    os.replace(new.path, path)
    sync_folder(os.path.dirname(path))


def publish_new(new: Temporary, path: str) -> None:
    """Give a file that is complete its name, unless another has it by now: FileExistsError."""
    os.fsync(new.fd)
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Unlike a rename, a link never replaces a file; and it is this file, whatever has its temporary name by now.
        # Only with a descriptor of a folder, which is not used here, Python follows a link (linkat(2)).
        os.link(f"/proc/self/fd/{new.fd}", path, src_dir_fd=folder, follow_symlinks=True)
    except OSError as error:
        if error.errno not in NO_LINKS or os.path.lexists(path):
            raise
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        os.replace(new.path, path)
    finally:
        os.close(folder)
    sync_folder(os.path.dirname(path))


def sync_folder(folder: str) -> None:
    """Wait until the names in a folder are on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def leftovers(folder: str) -> Iterator[tuple[str, Identity]]:
    """Yield the files in a folder that this user's processes had begun and that nobody completes any more."""
    try:
        names = sorted(name for name in os.listdir(folder) if is_temporary(name))
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):
            if identity := _left(path):
                yield path, identity


def incomplete(path: str) -> Identity | None:
    """Return which file it is, if it is one of a snapshot that libvirt or QEMU had begun, and never completed.

    That is an overlay without a header or with a disk of no size yet, or memory that libvirt marks as a part (libvirt,
    src/qemu/qemu_saveimage.h, ``QEMU_SAVE_PARTIAL``) until all is there.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return None
        head = os.pread(fd, _HEADER.size, 0)
    except OSError:
        return None
    finally:
        os.close(fd)
    begun = found.st_size <= _MOST_EMPTY and (not head[: len(_PART)].strip(b"\0") or _is_without_disk(head))
    return (found.st_dev, found.st_ino) if begun or head.startswith(_PART) else None


def _is_without_disk(head: bytes) -> bool:
    """Return whether a header of qcow2 has a disk of no size, and no snapshot.

    QEMU writes it like this first (QEMU, block/qcow2.c, ``qcow2_co_create``).
    """
    if len(head) < _HEADER.size:
        return False
    magic, size, snapshots = _HEADER.unpack(head)
    return magic == b"QFI\xfb" and not (size or snapshots)


def _left(path: str) -> Identity | None:
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        return None
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not os.path.samestat(found, os.fstat(fd)) or held(fd):
            return None
        claimed = is_claimed(fd)
    finally:
        os.close(fd)
    # A file system without locks does not tell; there only a file that nobody has touched for long is one.
    if claimed or (claimed is None and time.time() - found.st_mtime < _DAY):
        return None
    identity = found.st_dev, found.st_ino
    return None if is_open(identity) else identity
