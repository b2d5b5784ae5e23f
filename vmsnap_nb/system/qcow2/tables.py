"""What the tables of a qcow2 image say of the disk, as pure functions of their bytes.

Source: QEMU, docs/interop/qcow2.rst ("Cluster mapping"). What a table must not contain is what QEMU's block/qcow2.c and
block/qcow2-cluster.c refuse to read. numpy is loaded by the first large table, not with this module. Tables can be
parsed without it, too, only more slowly.
"""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib.util import find_spec
from struct import Struct, iter_unpack
from typing import TYPE_CHECKING, NamedTuple

from vmsnap_nb.system.qcow2 import format as f
from vmsnap_nb.system.qcow2.header import Header

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]
    Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]

from vmsnap_nb.words.message import N_, Message, t

__all__ = [
    "COMPRESSED",
    "DATA",
    "NONE",
    "ZERO",
    "Geometry",
    "Runs",
    "TableError",
    "compressed_place",
    "count_refcounts",
    "host_clusters",
    "parse_l1",
    "parse_l2",
    "parse_refcount_table",
]

NONE, ZERO, DATA, COMPRESSED = range(4)
"""What an image has at a place: nothing, so that the backing file is read; zeros; data; a compressed cluster."""

_OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
_COMPRESSED_BIT = 1 << 62
_ZERO_BIT = 1
_COPIED = -1 << 63
_SUBCLUSTERS = 32
_ALL = (1 << _SUBCLUSTERS) - 1
_ZEROS = bytes(4096)
_BLOCK = 512
_NO_ENTRIES = bytes(_BLOCK)
_FEW_BLOCKS = 4
_FEW = 256
_ENTRY = Struct(">q")
_SECTOR = 512


class TableError(ValueError):
    """A table has an entry that QEMU would refuse."""

    def __init__(self, why: Message) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class Geometry:
    """What a header says of the tables of an image."""

    version: int
    cluster_bits: int
    size: int  # of the disk, in bytes
    l1_offset: int
    l1_size: int  # entries
    extended: bool  # whether each entry of an L2 table tells of 32 subclusters
    data_file: bool
    refcount_offset: int
    refcount_clusters: int
    refcount_bits: int
    snapshots_offset: int
    snapshot_count: int
    compression: str

    @classmethod
    @lru_cache(maxsize=256)
    def of(cls, header: Header) -> Geometry:
        """Return that of a header which nothing is wrong with."""
        return cls(
            version=header.version,
            cluster_bits=header.cluster_bits,
            size=header.size & ~(_SECTOR - 1),
            l1_offset=header.l1_offset,
            l1_size=header.l1_size,
            extended=bool(header.incompatible & f.EXTENDED_L2),
            data_file=bool(header.incompatible & f.DATA_FILE),
            refcount_offset=header.refcount_offset,
            refcount_clusters=header.refcount_clusters,
            refcount_bits=1 << header.refcount_order,
            snapshots_offset=header.snapshots_offset,
            snapshot_count=header.snapshot_count,
            compression=f.COMPRESSION_TYPES[header.compression],
        )

    @cached_property
    def cluster(self) -> int:
        """Bytes of a cluster."""
        return 1 << self.cluster_bits

    @cached_property
    def entry(self) -> int:
        """Bytes of an entry of an L2 table."""
        return 16 if self.extended else 8

    @cached_property
    def span(self) -> int:
        """Bytes of the disk that one L2 table describes."""
        return (self.cluster // self.entry) << self.cluster_bits


class Runs(NamedTuple):
    """Parts of the disk in order, each of one kind: what is not in them is nowhere in this image.

    `places` has an offset in the file for data, which goes on there for the whole run; for a compressed cluster, which
    is a run of its own, its entry in the table; and 0 for zeros.
    """

    starts: array[int]
    lengths: array[int]
    kinds: array[int]
    places: array[int]


def parse_l1(table: bytes, geometry: Geometry, room: int) -> tuple[array[int], array[int]]:
    """Return the numbers of the L2 tables that there are, and their offsets; the file has room for so many clusters."""
    numbers, offsets = array("Q"), array("Q")
    for at in range(0, len(table), len(_ZEROS)):
        piece = table[at : at + len(_ZEROS)]
        if piece == _ZEROS[: len(piece)]:
            continue
        entries = array("Q", piece)
        if sys.byteorder == "little":
            entries.byteswap()
        for number, entry in enumerate(entries, at // 8):
            if offset := entry & _OFFSET_MASK:
                if offset & (geometry.cluster - 1):
                    raise TableError(
                        t(
                            "its L2 table {number} is at byte {offset}, which is not a cluster boundary",
                            number=number,
                            offset=offset,
                        )
                    )
                numbers.append(number)
                offsets.append(offset)
        if len(numbers) > room:
            raise TableError(
                t(
                    "its L1 table refers to at least {tables} L2 tables, but the file has only {room} clusters. "
                    "Several entries must therefore point to the same cluster",
                    tables=len(numbers),
                    room=room,
                )
            )
    return numbers, offsets


def parse_l2(table: bytes, geometry: Geometry, number: int, size: int | None = None, *, few: int = _FEW) -> Runs:
    """Return what L2 table `number` says, up to the end of the disk, or up to another size.

    Up to so many entries as `few` are parsed one by one: of a table that is nearly empty, as most are, that is faster.
    """
    begin = number * geometry.span
    end = min(begin + geometry.span, geometry.size if size is None else size)
    table = table[: -(-(end - begin) >> geometry.cluster_bits) * geometry.entry]
    used = _used(table, geometry.entry)
    if len(used) > few and _has_numpy():
        return _many(table, used, geometry, begin, end)
    runs = Runs(array("q"), array("q"), array("q"), array("q"))
    plain, cluster = not (geometry.extended or geometry.data_file), geometry.cluster
    for place in used:
        (entry,) = _ENTRY.unpack_from(table, place * geometry.entry)
        start, offset = begin + place * cluster, entry & _OFFSET_MASK
        if plain and offset and (offset | _COPIED) == entry and not offset & (cluster - 1):
            _add(runs, start, min(cluster, end - start), DATA, offset)
        else:
            _add_entry(runs, geometry, table, place, start, end)
    return runs


@cache
def _has_numpy() -> bool:
    """Return whether numpy is installed."""
    return find_spec("numpy") is not None


def _used(table: bytes, size: int) -> list[int]:
    """Return the numbers of the entries that are not zero."""
    if sys.modules.get("numpy") is None:  # to load it takes longer than the maps of most chains
        blocks = [
            at
            for large in range(0, len(table), len(_ZEROS))
            if table[large : large + len(_ZEROS)] != _ZEROS
            for at in range(large, min(large + len(_ZEROS), len(table)), _BLOCK)
            if table[at : at + _BLOCK] != _NO_ENTRIES
        ]
        if len(blocks) <= _FEW_BLOCKS or not _has_numpy():
            words = ((at // 8, memoryview(table)[at : at + _BLOCK].cast("q")) for at in blocks)
            places = [place for first, block in words for place, word in enumerate(block, first) if word]
            return places if size == 8 else list(dict.fromkeys(place // 2 for place in places))
    import numpy as np

    words = np.frombuffer(table, np.int64) != 0
    found: list[int] = (words.reshape(-1, 2).any(axis=1) if size == 16 else words).nonzero()[0].tolist()
    return found


def _add_entry(runs: Runs, geometry: Geometry, table: bytes, number: int, start: int, end: int) -> None:
    """Add what one entry says."""
    (entry,) = _ENTRY.unpack_from(table, number * geometry.entry)
    offset, zero = entry & _OFFSET_MASK, not geometry.extended and entry & _ZERO_BIT
    if entry & _COMPRESSED_BIT:
        if geometry.data_file:
            raise TableError(t(_COMPRESSED, start=start))
        _add(runs, start, min(geometry.cluster, end - start), COMPRESSED, entry)
        return
    if offset & (geometry.cluster - 1):
        raise TableError(t(_NO_CLUSTER, start=start, offset=offset))
    # In another file a cluster can be at 0, and bit 63 says whether there is one.
    held = offset or (geometry.data_file and entry < 0 and not zero)
    if held and geometry.data_file and offset != start:
        raise TableError(t(_ELSEWHERE, start=start))
    if geometry.extended:
        (bitmap,) = _ENTRY.unpack_from(table, number * geometry.entry + 8)
        _add_subclusters(runs, geometry, bitmap, start, end, offset if held else None)
    elif zero:
        if geometry.version < 3:
            raise TableError(t(_ZEROS_IN_2, start=start))
        _add(runs, start, min(geometry.cluster, end - start), ZERO, 0)
    elif held:
        _add(runs, start, min(geometry.cluster, end - start), DATA, offset)


def _add_subclusters(runs: Runs, geometry: Geometry, bitmap: int, start: int, end: int, offset: int | None) -> None:
    """Add those of one entry: each has a bit of "allocated" and one of "zeros"."""
    if bitmap & bitmap >> _SUBCLUSTERS & _ALL if offset is not None else bitmap & _ALL:
        raise TableError(t(_SUBCLUSTERS_WRONG, start=start))
    unit = geometry.cluster // _SUBCLUSTERS
    for number in range(_SUBCLUSTERS):
        place, zero = number * unit, bitmap >> (number + _SUBCLUSTERS) & 1
        if start + place < end and (zero or bitmap >> number & 1):
            kind, at = (ZERO, 0) if zero else (DATA, (offset or 0) + place)
            _add(runs, start + place, min(unit, end - start - place), kind, at)


def _add(runs: Runs, start: int, length: int, kind: int, place: int) -> None:
    """Add a part, or lengthen the last run by it."""
    starts, lengths, kinds, places = runs
    if (
        starts
        and kinds[-1] == kind != COMPRESSED
        and starts[-1] + lengths[-1] == start
        and (kind == ZERO or places[-1] + lengths[-1] == place)
    ):
        lengths[-1] += length
    else:
        starts.append(start)
        lengths.append(length)
        kinds.append(kind)
        places.append(place)


def _many(table: bytes, used: list[int], geometry: Geometry, begin: int, end: int) -> Runs:
    """Return the same for any number of entries."""
    import numpy as np

    words = np.frombuffer(table, ">i8").reshape(-1, geometry.entry // 8)
    at = np.array(used, np.int64)
    words = words[at].astype(np.int64)
    entries, clusters = words[:, 0], begin + (at << geometry.cluster_bits)
    offsets = entries & _OFFSET_MASK
    compressed = (entries & _COMPRESSED_BIT) != 0
    held = offsets != 0
    zero = np.zeros(len(entries), bool)
    if not geometry.extended:
        zero = ((entries & _ZERO_BIT) != 0) & ~compressed
    if geometry.data_file:
        held |= (entries < 0) & ~zero
    held &= ~compressed
    _check_entries(geometry, clusters, offsets, held=held, zero=zero, compressed=compressed)
    kinds = np.zeros(len(entries), np.int64)
    kinds[held], kinds[zero], kinds[compressed] = DATA, ZERO, COMPRESSED
    # A run begins where nothing is right before it, where data goes on elsewhere, and at each compressed cluster.
    begins = compressed.copy()
    begins[:1] = True
    begins[1:] |= at[1:] - at[:-1] != 1
    data = kinds == DATA
    unit = geometry.cluster
    if geometry.extended:
        unit //= _SUBCLUSTERS
        kinds = _subclusters(clusters, words[:, 1], held, compressed)
        data = kinds[::_SUBCLUSTERS] == DATA
    begins[1:] |= data[1:] & (offsets[1:] - offsets[:-1] != geometry.cluster)
    each = geometry.cluster // unit
    changes = np.empty(len(kinds), bool)
    changes[1:] = kinds[1:] != kinds[:-1]
    changes[::each] |= begins
    changes[:1] = True
    first = changes.nonzero()[0]
    cluster, within = first // each, first % each * unit
    starts, kinds = clusters[cluster] + within, kinds[first]
    lengths = np.empty_like(starts)
    lengths[:-1] = (first[1:] - first[:-1]) * unit
    lengths[-1:] = (len(changes) - first[-1:]) * unit
    lengths = np.minimum(lengths, end - starts)
    places = np.where(kinds == DATA, offsets[cluster] + within, np.where(kinds == COMPRESSED, entries[cluster], 0))
    there = (kinds != NONE) & (lengths > 0)
    return Runs(*(array("q", column[there].tobytes()) for column in (starts, lengths, kinds, places)))


def _subclusters(clusters: Numbers, bitmaps: Numbers, held: Flags, compressed: Flags) -> Numbers:
    """Return the kinds of all subclusters of some clusters."""
    import numpy as np

    bits = np.unpackbits(bitmaps.astype("<i8").view(np.uint8), bitorder="little").reshape(-1, 2, _SUBCLUSTERS) != 0
    allocated, zero = bits[:, 0], bits[:, 1]
    wrong = ((allocated & zero).any(axis=1) & held) | (allocated.any(axis=1) & ~held & ~compressed)
    if wrong.any():
        raise TableError(t(_SUBCLUSTERS_WRONG, start=clusters[wrong][0]))
    kinds = np.where(zero, ZERO, np.where(allocated, DATA, NONE))
    kinds[compressed] = COMPRESSED
    return kinds.reshape(-1)


def _check_entries(
    geometry: Geometry, clusters: Numbers, offsets: Numbers, *, held: Flags, zero: Flags, compressed: Flags
) -> None:
    wrong = held & ((offsets & (geometry.cluster - 1)) != 0)
    if wrong.any():
        raise TableError(t(_NO_CLUSTER, start=clusters[wrong][0], offset=offsets[wrong][0]))
    if geometry.version < 3 and zero.any():
        raise TableError(t(_ZEROS_IN_2, start=clusters[zero][0]))
    if geometry.data_file:
        if compressed.any():
            raise TableError(t(_COMPRESSED, start=clusters[compressed][0]))
        wrong = held & (offsets != clusters)
        if wrong.any():
            raise TableError(t(_ELSEWHERE, start=clusters[wrong][0]))


_COMPRESSED = N_("its cluster for byte {start} of the disk is compressed, which is not allowed in a data file")
_NO_CLUSTER = N_("its cluster for byte {start} of the disk is at byte {offset}, which is not a cluster boundary")
_ELSEWHERE = N_("its cluster for byte {start} of the disk is not at the same offset in its data file")
_ZEROS_IN_2 = N_("its cluster for byte {start} of the disk is marked as zeros, which qcow2 version 2 does not support")
_SUBCLUSTERS_WRONG = N_("its cluster for byte {start} of the disk has invalid subclusters")


def compressed_place(entry: int, cluster_bits: int) -> tuple[int, int]:
    """Return at which offset of the file a compressed cluster begins, and how many bytes it can take."""
    shift = 62 - (cluster_bits - 8)
    offset = entry & ((1 << shift) - 1)
    sectors = (entry >> shift) & ((1 << (cluster_bits - 8)) - 1)
    return offset, (sectors + 1) * _SECTOR - offset % _SECTOR


def host_clusters(table: bytes, geometry: Geometry) -> Numbers:
    """Return the numbers of all clusters of the file that an L2 table names, those that read as zeros included."""
    import numpy as np

    entries = np.frombuffer(table, ">i8").astype(np.int64)[:: geometry.entry // 8]
    packed = entries[(entries & _COMPRESSED_BIT) != 0]
    offsets = entries[(entries & _COMPRESSED_BIT) == 0] & _OFFSET_MASK
    plain: Numbers = offsets[offsets != 0] >> geometry.cluster_bits
    if geometry.data_file:
        return np.empty(0, np.int64)
    if not len(packed):
        return plain
    shift = 62 - (geometry.cluster_bits - 8)
    starts = packed & ((1 << shift) - 1)
    sectors = (packed >> shift) & ((1 << (geometry.cluster_bits - 8)) - 1)
    lasts = starts // _SECTOR * _SECTOR + (sectors + 1) * _SECTOR - 1
    # One takes no more than a cluster, so it lies in two of them at most.
    return np.concatenate((plain, starts >> geometry.cluster_bits, lasts >> geometry.cluster_bits))


def parse_refcount_table(table: bytes) -> list[int]:
    """Return the offsets of the refcount blocks; 0 for none."""
    return [entry & _OFFSET_MASK for (entry,) in iter_unpack(">Q", table[: len(table) & ~7])]


def count_refcounts(block: bytes, bits: int, most: int) -> int:
    """Return how many of the first `most` clusters that a refcount block is about are in use."""
    import numpy as np

    if bits >= 8:
        return int(np.count_nonzero(np.frombuffer(block, f">u{bits // 8}", min(len(block) * 8 // bits, most))))
    packed = np.frombuffer(block, np.uint8)
    # The first of them is in the lowest bits of a byte.
    counts = np.stack([packed & ((1 << bits) - 1) << shift for shift in range(0, 8, bits)], axis=1).reshape(-1)
    return int(np.count_nonzero(counts[:most]))
