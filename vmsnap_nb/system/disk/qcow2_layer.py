"""A qcow2 image as a layer: its tables are read as they are needed, also while a guest writes to it."""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from vmsnap_nb.errors import ImageError, NotFoundError
from vmsnap_nb.system.disk.layer import Layer, Part, read_or_zeros
from vmsnap_nb.system.qcow2 import format as f
from vmsnap_nb.system.qcow2.compressed import decompress
from vmsnap_nb.system.qcow2.directories import SnapshotEntry, read_snapshots
from vmsnap_nb.system.qcow2.header import parse_header, read_qcow2
from vmsnap_nb.system.qcow2.tables import (
    COMPRESSED,
    DATA,
    NONE,
    Geometry,
    Runs,
    TableError,
    compressed_place,
    count_refcounts,
    parse_l1,
    parse_l2,
    parse_refcount_table,
)
from vmsnap_nb.system.qemu.qemu_img import unreadable
from vmsnap_nb.system.sources.source import Source
from vmsnap_nb.words.message import Message, t

__all__ = ["L1Table", "Qcow2Layer"]

_HEAD = 1024
_MOST_TABLES = 16 << 20
"""Bytes of tables that a layer remembers."""
_MOST_CLUSTERS = 4
"""Clusters that a layer remembers after it has decompressed them."""
_MOST_L1_ENTRIES = 32 << 20
"""Entries of the L1 tables of all internal snapshots that are read together."""


class _Table(NamedTuple):
    """An L2 table that was read."""

    runs: Runs
    offset: int | None
    checksum: int

    @property
    def weight(self) -> int:
        """Bytes of memory, about."""
        return 256 + 32 * len(self.runs.starts)


class L1Table(NamedTuple):
    """The whole L1 table of the disk, or of an internal snapshot: with the memory of the guest behind the disk."""

    id: str  # of the snapshot; empty for the disk
    size: int  # of the disk, in bytes
    offset: int
    entries: int
    # Of the L2 tables.
    numbers: array[int]
    offsets: array[int]


class Qcow2Layer(Layer):
    """An unencrypted qcow2 image, or one of its internal snapshots, by name or ID.

    `data` is the source of its external data file, if it has one; without it what is there can be seen, and not be
    read. What QEMU refuses to open or to read is an `ImageError`.
    """

    def __init__(self, source: Source, *, data: Source | None = None, snapshot: str | None = None) -> None:
        self.name = source.name
        self._tried = t("read {image}", image=source.name)
        self._source, self._data, self._snapshot = source, data, snapshot
        self._clusters: OrderedDict[int, bytes] = OrderedDict()
        self.reload()

    def shares_tables(self, other: Qcow2Layer) -> bool:
        """Return whether it is the disk and the other a snapshot of the same file, or the reverse, and nothing differs.

        QEMU writes to no table that both use: what is written to the disk gets tables of its own.
        """
        return (self.size, self._numbers, self._offsets) == (other.size, other._numbers, other._offsets)

    # -- header and L1 table ------------------------------------------------------------------------------

    def reload(self) -> None:
        """Read header and L1 table, and forget what was read before."""
        self._tables: OrderedDict[int, _Table] = OrderedDict()
        self._weight = 0
        self._used: set[int] = set()
        self._clusters.clear()
        self._stamp = self._source.stamp()
        self._head = self._source.pread(0, _HEAD)
        if self._head[:4] != f.MAGIC:
            raise unreadable(self._tried, t("it is not a qcow2 image"))
        file_size = self._source.size
        fields = read_qcow2(self._source.pread, self._head, file_size, "/")
        if fields.get("status", "ok") != "ok":
            raise unreadable(self._tried, fields["problem"])
        if "encryption" in fields:
            raise ImageError(
                self._tried,
                why=t("it is encrypted ({method}) and needs a key", method=fields["encryption"]),
                next_step=t("copy it to an unencrypted qcow2 image with qemu-img convert, and pass its key"),
            )
        self.geometry = Geometry.of(parse_header(self._head))
        self._l1_place = (self.geometry.l1_offset, self.geometry.l1_size)
        self.size = self.geometry.size
        if self._snapshot is not None:
            entry = self._entry(self._snapshot, file_size)
            self._l1_place = (entry.l1_offset, entry.l1_size)
            self.size = (
                self.geometry.size if entry.snapshot.virtual_size is None else entry.snapshot.virtual_size & ~511
            )
        self._l1 = self._read_l1()
        self._adopt(self._l1)

    def _adopt(self, l1: bytes) -> None:
        """Take over what an L1 table says."""
        try:
            self._numbers, self._offsets = parse_l1(l1, self.geometry, self.clusters)
        except TableError as error:
            raise unreadable(self._tried, error.why) from error
        self._l1 = l1

    def _entry(self, wanted: str, file_size: int) -> SnapshotEntry:
        """Return the entry of an internal snapshot: QEMU looks for the name after the ID."""
        found, problem = read_snapshots(
            self._source.pread, self.geometry.snapshots_offset, self.geometry.snapshot_count, file_size
        )
        for entry in (*(e for e in found if e.snapshot.id == wanted), *(e for e in found if e.snapshot.name == wanted)):
            reach = entry.l1_size * self.geometry.span
            if entry.l1_size > f.MOST_L1_ENTRIES or entry.l1_offset % self.geometry.cluster:
                why = t("the offset or size of the L1 table of its snapshot {name!r} is invalid", name=wanted)
                raise unreadable(self._tried, why)
            if (entry.snapshot.virtual_size or 0) > reach:
                why = t("the L1 table of its snapshot {name!r} does not match its virtual size", name=wanted)
                raise unreadable(self._tried, why)
            return entry
        raise NotFoundError(
            self._tried,
            why=problem or t("it has no internal snapshot {name!r}", name=wanted),
            next_step=t("see image.snapshots"),
        )

    def _read_l1(self) -> bytes:
        """Return the part of the L1 table that describes the disk; what follows is the saved state of a guest."""
        offset, entries = self._l1_place
        length = 8 * min(entries, -(-self.size // self.geometry.span))
        found = self._source.pread(offset, length)
        if len(found) < length:
            why = t(
                "its L1 table ends after {size} of {length} bytes: the file is truncated",
                size=len(found),
                length=length,
            )
            raise unreadable(self._tried, why)
        return found

    def still_holds(self) -> bool:
        """Return whether header and L1 table are what they were; L2 tables that are new since then do no harm."""
        stamp = self._source.stamp()
        if stamp is not None and stamp == self._stamp:
            return True
        if self._source.pread(0, _HEAD) != self._head:
            return False
        numbers, offsets, now = self._numbers, self._offsets, self._read_l1()
        if now == self._l1:
            return True
        self._adopt(now)
        return all(self._offset(number) == offset for number, offset in zip(numbers, offsets, strict=True))

    def l1_tables(self) -> Iterator[L1Table]:
        """Yield all L1 tables that there are: that of the disk, then those of the internal snapshots."""
        geometry, file_size = self.geometry, self._source.size
        yield self._whole_l1("", geometry.size, geometry.l1_offset, geometry.l1_size)
        found, problem = read_snapshots(
            self._source.pread, geometry.snapshots_offset, geometry.snapshot_count, file_size
        )
        if problem:
            raise unreadable(self._tried, problem)
        read = 0
        for entry in found:
            read += entry.l1_size
            if entry.l1_size > f.MOST_L1_ENTRIES or entry.l1_offset % geometry.cluster or read > _MOST_L1_ENTRIES:
                why = t("the L1 table of its snapshot {name!r} cannot be read", name=entry.snapshot.name)
                raise unreadable(self._tried, why)
            size = geometry.size if entry.snapshot.virtual_size is None else entry.snapshot.virtual_size & ~511
            yield self._whole_l1(entry.snapshot.id, size, entry.l1_offset, entry.l1_size)

    def _whole_l1(self, id: str, size: int, offset: int, entries: int) -> L1Table:
        table = self._source.pread(offset, 8 * entries)
        if len(table) < 8 * entries:
            why = t(
                "an L1 table ends after {size} of {length} bytes: the file is truncated",
                size=len(table),
                length=8 * entries,
            )
            raise unreadable(self._tried, why)
        try:
            numbers, offsets = parse_l1(table, self.geometry, self.clusters)
        except TableError as error:
            raise unreadable(self._tried, str(error)) from error
        return L1Table(id=id, size=size, offset=offset, entries=entries, numbers=numbers, offsets=offsets)

    # -- L2 tables ----------------------------------------------------------------------------------------

    @property
    def tables(self) -> list[int]:
        """The numbers of the L2 tables that there are."""
        return self._numbers.tolist()

    def read_table(self, number: int) -> Runs:
        """Return what an L2 table says, without remembering it."""
        return self._parse(number, self._read_table(number))

    def _read_table(self, number: int) -> bytes:
        offset = self._offset(number)
        assert offset is not None
        return self.read_cluster(offset, t("its L2 table {number}", number=number))

    def read_cluster(self, offset: int, what: Message | None = None) -> bytes:
        """Return the table that begins at an offset of the file."""
        table = self._source.pread(offset, self.geometry.cluster)
        if len(table) < self.geometry.cluster:
            # QEMU would read zeros there, so that the disk would seem to be empty.
            why = t(
                "{table} is at byte {offset}, but the file ends at {end}: the file is truncated, or was never "
                "completely written",
                table=what or t("an L2 table"),
                offset=offset,
                end=self._source.size,
            )
            raise unreadable(self._tried, why)
        return table

    def _parse(self, number: int, table: bytes) -> Runs:
        try:
            return parse_l2(table, self.geometry, number, self.size)
        except TableError as error:
            raise unreadable(self._tried, error.why) from error

    def _offset(self, number: int) -> int | None:
        """Return where an L2 table is, or None if there is none."""
        place = bisect_left(self._numbers, number)
        found = place < len(self._numbers) and self._numbers[place] == number
        return self._offsets[place] if found else None

    def _table(self, number: int) -> _Table:
        table = self._tables.get(number)
        if table is None:
            read, offset = self._read_table(number), self._offset(number)
            table = _Table(self._parse(number, read), offset, zlib.crc32(read))
            self._tables[number] = table
            self._weight += table.weight
            while self._weight > _MOST_TABLES and len(self._tables) > 1:
                _, old = self._tables.popitem(last=False)
                self._weight -= old.weight
        else:
            self._tables.move_to_end(number)
        self._used.add(number)
        return table

    # -- the file -----------------------------------------------------------------------------------------

    @property
    def clusters(self) -> int:
        """How many clusters the file has room for."""
        return -(-self._source.size // self.geometry.cluster)

    def stored(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Return the parts of a range of the file, or of the data file, that are not holes."""
        source = self._data if self.geometry.data_file else self._source
        return iter(()) if source is None else source.data(start, end)

    @property
    def preallocated(self) -> bool:
        """Whether clusters were allocated without being written, as QEMU's qcow2_detect_metadata_preallocation sees it.

        It is so if more clusters are in use than the file takes on its file system.
        """
        allocated = self._source.allocated
        if allocated is None:
            return False
        taken = allocated >> self.geometry.cluster_bits
        threshold = max(taken * 10 // 9, taken + 2)
        return threshold <= self.clusters and self._count_used(threshold) >= threshold

    def _count_used(self, most: int) -> int:
        """Return how many clusters of the file have a reference count, or `most` if there are more."""
        geometry = self.geometry
        per_block = geometry.cluster * 8 // geometry.refcount_bits
        end = self.clusters
        table = self._source.pread(geometry.refcount_offset, -(-end // per_block) * 8)
        blocks: dict[int, int] = {0: 0}
        used = 0
        for number, offset in enumerate(parse_refcount_table(table)):
            if offset not in blocks:
                blocks[offset] = count_refcounts(
                    self._source.pread(offset, geometry.cluster), geometry.refcount_bits, end - number * per_block
                )
            used += blocks[offset]
            if used >= most:
                return most
        return used

    # -- reading ------------------------------------------------------------------------------------------

    def parts(self, start: int, end: int) -> Iterator[Part]:
        """Return what there is in a range: neighbours that are nowhere are one part."""
        span = self.geometry.span
        first, last = bisect_left(self._numbers, start // span), bisect_left(self._numbers, -(-end // span))
        place = start
        for number in self._numbers[first:last]:
            for part in self._within(self._table(number).runs, start, end):
                if place < part.start:
                    yield Part(place, part.start - place, NONE, 0)
                yield part
                place = part.start + part.length
        if place < end:
            yield Part(place, end - place, NONE, 0)

    @staticmethod
    def _within(runs: Runs, start: int, end: int) -> Iterator[Part]:
        """Return the runs of a table in a range, the first and the last one cut."""
        first, last = max(0, bisect_right(runs.starts, start) - 1), bisect_left(runs.starts, end)
        for begin, length, kind, place in zip(*(column[first:last] for column in runs), strict=True):
            skip = max(0, start - begin)
            if skip < length:
                at = place + skip if kind == DATA else place
                yield Part(begin + skip, min(begin + length, end) - begin - skip, kind, at)

    def read_part(self, part: Part, buffer: memoryview) -> None:
        """Read a part into a buffer; of a compressed cluster any piece."""
        if part.kind == COMPRESSED:
            within = part.start % self.geometry.cluster
            buffer[:] = self._cluster(part.place, part.start)[within : within + len(buffer)]
        elif not self.geometry.data_file:
            read_or_zeros(self._source, part.place, buffer)
        elif self._data is None:
            raise ImageError(
                self._tried,
                why=t("its data is in another file, which was not opened"),
                next_step=t("check that its data file exists: qemu-img info shows the path"),
            )
        else:
            read_or_zeros(self._data, part.place, buffer)

    def _cluster(self, entry: int, start: int) -> bytes:
        cluster = self._clusters.get(entry)
        if cluster is None:
            offset, length = compressed_place(entry, self.geometry.cluster_bits)
            packed = self._source.pread(offset, length)
            cluster = decompress(packed, self.geometry.cluster, self.geometry.compression)
            if cluster is None:
                why = t(
                    "its compressed cluster for byte {start} of the disk, at byte {offset} of the file, is damaged",
                    start=start,
                    offset=offset,
                )
                raise unreadable(self._tried, why)
            self._clusters[entry] = cluster
            if len(self._clusters) > _MOST_CLUSTERS:
                self._clusters.popitem(last=False)
        return cluster

    def settle(self) -> bool:
        """Return whether the tables that were used are still the same; otherwise all are forgotten."""
        used, self._used = self._used, set()
        stamp = self._source.stamp()
        if stamp is not None and stamp == self._stamp:
            return True
        # A place that was decompressed may be used for something else by now, and what was not used was not compared.
        self._clusters.clear()
        self._tables = OrderedDict((number, self._tables[number]) for number in used if number in self._tables)
        self._weight = sum(table.weight for table in self._tables.values())
        if self.still_holds() and all(self._is_same(number, table) for number, table in self._tables.items()):
            self._stamp = stamp
            return True
        self.reload()
        return False

    def _is_same(self, number: int, table: _Table) -> bool:
        return self._offset(number) == table.offset and zlib.crc32(self._read_table(number)) == table.checksum

    def close(self) -> None:
        """Close its file, and its data file."""
        self._source.close()
        if self._data is not None:
            self._data.close()
