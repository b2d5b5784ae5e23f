"""The snapshot table and the bitmap directory of a qcow2 image: lists of entries of any length, read piece by piece."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from vmsnap_nb.model.image import Bitmap, InternalSnapshot
from vmsnap_nb.system.qcow2 import format as f
from vmsnap_nb.words.message import NOTHING, Message, t

__all__ = ["BitmapsHeader", "Pread", "Room", "SnapshotEntry", "read_bitmaps", "read_snapshots", "text"]

Pread = Callable[[int, int], bytes]
"""Reads at an offset so many bytes, or fewer at the end of a file."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PIECE = 4 << 10
_ENTRY = 600
"""Bytes of memory that an entry takes beside its names."""
_LONGEST = 255
"""Bytes of a name that QEMU knows (block/snapshot.h, QEMUSnapshotInfo)."""
_ESCAPED = {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)}
"""What is no UTF-8, by what `surrogateescape` makes of it."""


class Room:
    """Memory for the entries of all images that are read together: each can have so many that a few take all of it.

    By default it is enough for any one image.
    """

    def __init__(self, size: int = 320 << 20) -> None:
        self._left = size
        self._lock = threading.Lock()

    def has(self, names: int) -> bool:
        """Return whether there is room for one more entry, with names of so many characters."""
        with self._lock:
            self._left -= _ENTRY + names
            return self._left >= 0


class SnapshotEntry(NamedTuple):
    """An internal snapshot, and where its L1 table is."""

    snapshot: InternalSnapshot
    l1_offset: int
    l1_size: int


class BitmapsHeader(NamedTuple):
    """The extension that names the bitmap directory, where it counts."""

    entries: int
    size: int  # bytes of the directory
    offset: int


def read_snapshots(
    pread: Pread, offset: int, count: int, file_size: int, room: Room | None = None
) -> tuple[list[SnapshotEntry], Message]:
    """Return the entries of a snapshot table as far as they can be read, and why there are not all of them.

    MemoryError where there is no room for them.
    """
    room = Room() if room is None else room
    if not count:
        return [], NOTHING  # QEMU leaves the place of an empty table behind the end of the file
    most = max(0, min(file_size - offset, f.MOST_SNAPSHOT_BYTES))
    table = pread(offset, min(most, _PIECE))
    found: list[SnapshotEntry] = []
    at = 0
    fixed = f.SNAPSHOT.size
    for _ in range(count):
        need = at + fixed
        if need > len(table):
            table = _longer(pread, table, offset, need, most)
        if need <= len(table):
            l1_offset, l1_size, id_size, name_size, seconds, nanoseconds, clock, state_size, extra_size = (
                f.SNAPSHOT.unpack_from(table, at)
            )
            extra = need
            need += extra_size + id_size + name_size
            if extra_size > f.MOST_SNAPSHOT_EXTRA:
                return found, t(
                    "entry {number} of its snapshot table has {size} extra bytes, which is too many",
                    number=len(found) + 1,
                    size=extra_size,
                )
            if need > len(table):
                table = _longer(pread, table, offset, need, most)
        if need > len(table):
            return found, t("its snapshot table ends after {read} of {total} entries", read=len(found), total=count)
        disk_size = None
        if extra_size >= 16:
            state_size, disk_size = f.SNAPSHOT_EXTRA.unpack_from(table, extra)
        elif extra_size >= 8:
            state_size = int.from_bytes(table[extra : extra + 8])
        names = extra + extra_size
        id, name = text(table[names : names + id_size]), text(table[names + id_size : need])
        if not room.has(len(id) + len(name)):
            raise MemoryError
        snapshot = InternalSnapshot.build(
            {
                "id": id,
                "name": name,
                "created": _EPOCH + timedelta(0, seconds, nanoseconds // 1000),
                "vm_state_size": state_size,
                "vm_clock": clock,
                "virtual_size": disk_size,
            }
        )
        found.append(SnapshotEntry(snapshot, l1_offset, l1_size))
        at = (need + 7) & ~7
    return found, NOTHING


def read_bitmaps(
    pread: Pread, header: BitmapsHeader, file_size: int, cluster: int, room: Room | None = None
) -> tuple[tuple[Bitmap, ...], Message]:
    """Return the entries of a bitmap directory as far as they can be read, and why there are not all of them.

    MemoryError where there is no room for them.
    """
    room = Room() if room is None else room
    if header.offset + header.size > file_size:
        end = header.offset + header.size
        return (), t("its bitmap directory ends at byte {end}, after the end of the file", end=end)
    directory = pread(header.offset, min(header.size, _PIECE))
    found: list[Bitmap] = []
    at = 0
    for number in range(1, header.entries + 1):
        need = at + f.BITMAP.size
        if need > len(directory):
            directory = _longer(pread, directory, header.offset, need, header.size)
        if need > len(directory):
            return tuple(found), _ended(number - 1, header.entries)
        _, entries, flags, kind, bits, name_size, extra_size = f.BITMAP.unpack_from(directory, at)
        name_at = need + extra_size
        need = name_at + name_size
        if need > len(directory):
            directory = _longer(pread, directory, header.offset, need, header.size)
        if need > len(directory):
            return tuple(found), _ended(number - 1, header.entries)
        if wrong := _wrong_bitmap(entries, flags, kind, bits, name_size, extra_size):
            return tuple(found), t("entry {number} of its bitmap directory is invalid: {why}", number=number, why=wrong)
        if not room.has(name_size):
            raise MemoryError
        found.append(
            Bitmap.build(
                {
                    "name": text(directory[name_at:need]),
                    "granularity": 1 << bits,
                    "flags": tuple(word for bit, word in f.BITMAP_FLAGS if flags & bit),
                    "size": entries * cluster + -(-entries * 8 // cluster) * cluster,
                }
            )
        )
        at = (need + 7) & ~7
    return tuple(found), NOTHING


def _ended(read: int, total: int) -> Message:
    return t("its bitmap directory ends after {read} of {total} entries", read=read, total=total)


def _wrong_bitmap(entries: int, flags: int, kind: int, bits: int, name_size: int, extra_size: int) -> Message:
    """Return why QEMU would refuse an entry of a bitmap directory, or an empty text."""
    if kind != f.BITMAP_TYPE:
        return t("its type {type} is unknown", type=kind)
    if bits not in f.BITMAP_GRANULARITY_BITS:
        return t("its granularity is 2^{bits} bytes", bits=bits)
    if name_size > f.MOST_BITMAP_NAME:
        return t("its name is {size} bytes long", size=name_size)
    if entries > f.MOST_BITMAP_TABLE_ENTRIES:
        return t("its table has {total} entries", total=entries)
    if extra_size:
        return t("it has {size} extra bytes, which QEMU does not support", size=extra_size)
    return t("it has unknown flags") if flags & ~f.BITMAP_FLAGS_KNOWN else NOTHING


def _longer(pread: Pread, table: bytes, offset: int, need: int, most: int) -> bytes:
    """Read more of a table than is there, and at least twice as much, so that a long one is read a few times only."""
    if need > most:
        return table
    return pread(offset, min(most, max(need, 2 * len(table))))


def text(name: bytes) -> str:
    """Return a name as it is shown: up to the first null byte, and with what is no UTF-8 escaped."""
    if b"\0" in name:
        name = name.partition(b"\0")[0]
    try:
        return name.decode()
    except UnicodeDecodeError:
        if len(name) > _LONGEST:  # QEMU shows no more of it, and only somebody who wants to keep us busy writes it
            return name.decode(errors="replace")
        # As `backslashreplace` does it, which takes two microseconds for each byte.
        return name.decode(errors="surrogateescape").translate(_ESCAPED)
