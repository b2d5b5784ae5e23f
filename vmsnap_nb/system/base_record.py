"""Records of backing files in an extended attribute of the overlays that vmsnap_nb creates.

An attribute is neither content nor header: QEMU and libvirt leave it alone, and where a file system has none, or a copy
loses it, nothing is known. Whoever may write to an overlay can forge it: it is only a reason to warn.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache

from vmsnap_nb.model.base_record import BaseRecord
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.system.files.devices import identity_of
from vmsnap_nb.system.files.locks import held

__all__ = ["on_copies", "read_base_record", "write_base_record"]

_NAME = "user.vmsnap_nb.base"
_RECORD = struct.Struct("<QQQq8s8s")
"""Device, inode, size, time, sample, reference: so short that ext4 keeps it in the inode, and no block is taken."""
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_BLOCK = 4096
_BLOCKS = 16


def write_base_record(overlay: int, backing: Reference) -> None:
    """Let an overlay, by its descriptor, remember its backing file; of a device or a network image nothing is kept."""
    if backing.path is None:
        return
    with contextlib.suppress(OSError):  # no such attributes here, or no access: then nothing is remembered
        fd = os.open(backing.path, _FLAGS)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or held(fd) == "write":
                return  # what is being written has no lasting size and time
            record = _RECORD.pack(
                *identity_of(status),
                status.st_size,
                status.st_mtime_ns // 10**9,
                _sample(fd, status.st_size),
                _checksum(os.fsencode(backing.written)),
            )
        finally:
            os.close(fd)
        os.setxattr(overlay, _NAME, record)


def read_base_record(overlay: int, backing: Reference) -> BaseRecord | None:
    """Return what an overlay, by its descriptor, remembers of the backing file in its header, or None."""
    if not hasattr(os, "getxattr"):  # Python for browsers
        return None
    try:
        device, inode, size, mtime, sample, written = _RECORD.unpack(os.getxattr(overlay, _NAME))
    except (OSError, struct.error):
        return None
    if written != _checksum(os.fsencode(backing.written)):
        return None  # it was given another one since
    return BaseRecord(written=backing.written, identity=(device, inode), size=size, mtime=mtime, sample=sample)


def on_copies(images: Mapping[str, Image], based: Iterable[tuple[str, str]]) -> dict[str, Image]:
    """Return the overlays whose base is a copy of the one that they remember, with the place of that copy.

    `based` has the paths of overlays and of the images below.
    """
    found, sample_of = {}, cache(_sample_of)  # one base may have any number of overlays
    for path, below in based:
        record, base = images[path].base_record, images.get(below)
        if record is None or base is None or base.identity is None or base.identity == record.identity:
            continue
        same = (base.file_size, (base.mtime_ns or 0) // 10**9) == (record.size, record.mtime)
        is_file = base.known_from == "file" and not base.device
        if same and is_file and sample_of(base.path, base.identity) == record.sample:
            here = replace(record, identity=base.identity)
            found[path] = Image.build({**vars(images[path]), "base_record": here})
    return found


def _sample_of(path: str, identity: Identity) -> bytes | None:
    """Return a checksum of the content of a file, or None if it cannot be read or is another one by now."""
    with contextlib.suppress(OSError):
        fd = os.open(path, _FLAGS)
        try:
            status = os.fstat(fd)
            return _sample(fd, status.st_size) if identity_of(status) == identity else None
        finally:
            os.close(fd)
    return None


def _sample(fd: int, size: int) -> bytes:
    """Return a checksum of the first block, the last one, and some between them."""
    last = max(0, size - _BLOCK)
    return _checksum(b"".join(os.pread(fd, _BLOCK, last * number // (_BLOCKS - 1)) for number in range(_BLOCKS)))


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8).digest()
