"""Marking a qcow2 image, so that QEMU refuses to open it and says why.

The format has a place for this: incompatible features. A program must not open an image that has one which it does not
know, and a feature name table tells it what to call the bit (QEMU, docs/interop/qcow2.rst). So an image that was merged
into another has the highest bit, 63, with a name of its own. Only the header changes, and whoever clears
that bit again (the highest of byte 72) can open the image as before.

A file name such as ``*.invalid`` would not do: overlays refer to each other by name, a file can have several, and any
program would open it under the new one.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from struct import Struct

from vmsnap_nb.errors import ImageError
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.system.files.errors import os_errors
from vmsnap_nb.system.files.identity import same_file
from vmsnap_nb.system.files.writing import write_all
from vmsnap_nb.system.qcow2 import format as f
from vmsnap_nb.words.message import Message, t

__all__ = ["INVALID_NAME", "mark_invalid", "marked", "write_header"]

INVALID_NAME = "merged into another image, so not valid"

_FEATURES_AT = 72
_NAME_TABLE = 0x6803F857
_NAME = Struct(">BB46s")
"""Type (0: incompatible), number of the bit, name padded with zeros."""


def marked(head: bytes) -> bytes:
    """Return the first cluster of an image of version 3 with the mark set, and its name where there is room for it."""
    if head[:4] != f.MAGIC or int.from_bytes(head[4:8]) != 3:
        raise ValueError("not a qcow2 image of version 3")
    features = int.from_bytes(head[_FEATURES_AT : _FEATURES_AT + 8]) | f.MERGED
    head = head[:_FEATURES_AT] + features.to_bytes(8) + head[_FEATURES_AT + 8 :]
    return _named(head) or head


def _named(head: bytes) -> bytes | None:
    """Add the name of the bit to the feature name table; None if there is no room or it is there."""
    length = int.from_bytes(head[100:104])
    name_at, name_size = int.from_bytes(head[8:16]), int.from_bytes(head[16:20])
    backing = head[name_at : name_at + name_size] if name_at else b""
    end = name_at or len(head)
    entry = _NAME.pack(0, f.MERGED.bit_length() - 1, INVALID_NAME.encode())
    parts: list[tuple[int, bytes]] = []
    place = length
    while place + 8 <= end:
        kind, size = f.EXTENSION.unpack_from(head, place)
        if kind == f.END:
            break
        if size > end - place - 8:
            return None
        parts.append((kind, head[place + 8 : place + 8 + size]))
        place += 8 + (size + 7 & ~7)
    table = next((data for kind, data in parts if kind == _NAME_TABLE), b"")
    if entry in table:
        return None
    parts = [(kind, data) for kind, data in parts if kind != _NAME_TABLE]
    parts.append((_NAME_TABLE, table + entry))
    new = head[:length]
    for kind, data in parts:
        new += f.EXTENSION.pack(kind, len(data)) + data + bytes(-len(data) % 8)
    new += f.EXTENSION.pack(f.END, 0)
    if len(new) + len(backing) > len(head):
        return None
    if name_at:
        new = new[:8] + len(new).to_bytes(8) + new[16:]
    new += backing
    return new + bytes(len(head) - len(new))


def mark_invalid(path: str, identity: Identity | None = None) -> bytes | None:
    """Mark an image of version 3; return its first cluster as it was, or None if it was marked already.

    `write_header` writes it back, as is done here if the mark cannot be written to the disk.
    """
    tried = t("mark {image} as invalid", image=path)
    with os_errors(tried), same_file(path, identity, tried) as file, file.opened(write=True) as fd:
        start = os.pread(fd, f.HEADER.size, 0)
        if len(start) < f.HEADER.size or start[:4] != f.MAGIC or start[4:8] != b"\0\0\0\3":
            raise ImageError(
                tried,
                why=t("it is not a version 3 qcow2 image"),
                next_step=t(
                    "convert its header with {command}",
                    command=shlex.join(["qemu-img", "amend", "-f", "qcow2", "-o", "compat=1.1", path]),
                ),
            )
        if start[_FEATURES_AT] & 0x80:
            return None
        bits = int.from_bytes(start[20:24])
        if bits not in f.CLUSTER_BITS:
            raise ImageError(
                tried,
                why=t("its cluster size of 2^{bits} bytes is invalid; 2^9 to 2^21 are valid", bits=bits),
                next_step=t("inspect the image with vmsnap_nb.chain(path); to find damage, run qemu-img check"),
            )
        head = os.pread(fd, 1 << bits, 0)
        try:
            _write(fd, marked(head))
        except BaseException:
            with contextlib.suppress(OSError):
                _write(fd, head)
            raise
    return head


def write_header(path: str, head: bytes, tried: Message, identity: Identity | None = None) -> None:
    """Write the first cluster of an image, in one write, and wait until it is on the disk."""
    with os_errors(tried), same_file(path, identity, tried) as file, file.opened(write=True) as fd:
        _write(fd, head)


def _write(fd: int, head: bytes) -> None:
    write_all(fd, head, 0)
    os.fsync(fd)
