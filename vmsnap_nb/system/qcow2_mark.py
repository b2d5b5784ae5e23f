"""Marking a qcow2 image, so that QEMU refuses to open it and says why.

The format has a place for this: incompatible features. A program must not open an image that has one which it does not
know, and a feature name table tells it what to call the bit (QEMU, docs/interop/qcow2.rst). So an image that was merged
into another has the highest bit, 63, with a name of its own. Only the header changes, and whoever clears
that bit again (the highest of byte 72) can open the image as before.

A file name such as ``*.invalid`` would not do: overlays refer to each other by name, a file can have several, and any
program would open it under the new one.
"""

from __future__ import annotations

import os
from struct import Struct

from vmsnap_nb.errors import ImageError
from vmsnap_nb.system import qcow2_format as f
from vmsnap_nb.system.os_errors import from_os_error

__all__ = ["INVALID_NAME", "mark_invalid", "marked", "write_header"]

INVALID_NAME = "merged into another image, so not valid"

_FEATURES_AT = 72
_NAME_TABLE = 0x6803F857
_NAME = Struct(">BB46s")
"""Type (0: incompatible), number of the bit, name padded with zeros."""


def marked(head: bytes) -> bytes:
    """Give the first cluster of an image with the mark set, and with its name where there is room for it.

    Parameters
    ----------
    head : bytes
        The first cluster, of version 3.

    Returns
    -------
    bytes
        As many.

    Raises
    ------
    ValueError
        It is not of version 3.
    """
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


def mark_invalid(path: str) -> bytes | None:
    """Mark an image of version 3.

    Parameters
    ----------
    path : str
        The image.

    Returns
    -------
    bytes or None
        Its first cluster as it was, for `write_header`; None if it was marked already.

    Raises
    ------
    ImageError
        It is not a qcow2 image of version 3.
    PermissionDeniedError, NotFoundError, VmsnapError
        The system refused.
    """
    tried = f"mark {path} as invalid"
    try:
        with open(path, "rb") as file:
            start = file.read(f.HEADER.size)
            if len(start) < f.HEADER.size or start[:4] != f.MAGIC or start[4:8] != b"\0\0\0\3":
                raise ImageError(tried, said="it is not a qcow2 image of version 3")
            if start[_FEATURES_AT] & 0x80:
                return None
            bits = int.from_bytes(start[20:24])
            if bits not in f.CLUSTER_BITS:
                raise ImageError(tried, said=f"its clusters would have 2^{bits} bytes")
            head = start + file.read((1 << bits) - len(start))
    except OSError as error:
        raise from_os_error(error, tried) from error
    write_header(path, marked(head), tried)
    return head


def write_header(path: str, head: bytes, tried: str) -> None:
    """Write the first cluster of an image, in one write, and wait until it is on the disk."""
    try:
        mode = os.stat(path).st_mode & 0o7777
        if not mode & 0o200:
            os.chmod(path, mode | 0o200)
        try:
            with open(path, "r+b", buffering=0) as file:
                file.write(head)
                os.fsync(file.fileno())
        finally:
            if not mode & 0o200:
                os.chmod(path, mode)
    except OSError as error:
        raise from_os_error(error, tried) from error
