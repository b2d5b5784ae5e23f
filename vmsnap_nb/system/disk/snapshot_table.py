"""The table of an image's internal snapshots, and where all data of the disk and of each snapshot lies."""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

from vmsnap_nb.system.disk.qcow2_layer import Qcow2Layer
from vmsnap_nb.system.files.writing import write_all
from vmsnap_nb.system.qcow2.directories import read_snapshots
from vmsnap_nb.system.qcow2.format import HEADER
from vmsnap_nb.system.qcow2.header import parse_header
from vmsnap_nb.system.sources.file import FileSource

__all__ = ["SnapshotTable", "data_places", "is_as_taken", "point_to_table", "read_table"]

_AT = 60
"""Bytes before the number of snapshots and the offset of their table in the header."""


class SnapshotTable(NamedTuple):
    """Where the table is, and what is in it, in its order."""

    offset: int
    ids: tuple[str, ...]
    names: tuple[str, ...]
    problem: str  # why there are not all of them, or empty


def read_table(path: str) -> SnapshotTable:
    """Return the table of the snapshots inside a qcow2 image; nothing is asked of QEMU."""
    source = FileSource(path)
    try:
        header = parse_header(source.pread(0, HEADER.size + 4))
        found, problem = read_snapshots(source.pread, header.snapshots_offset, header.snapshot_count, source.size)
    finally:
        source.close()
    ids, names = (tuple(getattr(entry.snapshot, what) for entry in found) for what in ("id", "name"))
    return SnapshotTable(header.snapshots_offset, ids, names, problem)


def point_to_table(fd: int, offset: int, count: int) -> None:
    """Let a header name the table at an offset; no other part of it is changed."""
    write_all(fd, struct.pack(">IQ", count, offset), _AT)


def is_as_taken(path: str, name: str) -> bool:
    """Return whether a qcow2 image has what an internal snapshot in it has: nothing was written to it since."""
    with Qcow2Layer(FileSource(path)) as now, Qcow2Layer(FileSource(path), snapshot=name) as then:
        return now.shares_tables(then)


def data_places(path: str) -> str:
    """Return the checksum of where an image has the data of its disk and of each snapshot, by its own tables.

    Counts of clusters do not matter for that: a repair of the counts leaves it as it was.
    """
    digest = hashlib.sha256()
    for id in (None, *read_table(path).ids):
        with Qcow2Layer(FileSource(path), snapshot=id) as layer:
            digest.update(repr((id, layer.size)).encode())
            for number in layer.tables:
                digest.update(number.to_bytes(8))
                for column in layer.read_table(number):
                    digest.update(column.tobytes())
    return digest.hexdigest()
