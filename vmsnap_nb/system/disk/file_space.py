"""What an image takes in its file, from its own tables: by cluster, since internal snapshots share clusters."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from vmsnap_nb.model.blockmap import Extent, LayerMap
from vmsnap_nb.model.file_space import FileSpace, Stored
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.disk.disk import changing
from vmsnap_nb.system.disk.open import open_layer
from vmsnap_nb.system.disk.qcow2_layer import Qcow2Layer
from vmsnap_nb.system.qcow2.tables import COMPRESSED, ZERO, Runs, TableError, compressed_place, host_clusters, parse_l2
from vmsnap_nb.system.qemu.qemu_img import unreadable
from vmsnap_nb.words.message import Message, t

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]

__all__ = ["qcow2_space", "space_of_map"]

_TRIES = 8
_SECONDS = 300
_MOST_CLUSTERS = 32 << 20
"""Entries of all tables of an image with internal snapshots: each takes 24 bytes of memory while they are counted."""
_MOST_PARTS = 4_000_000

_DISK = 0
"""The number of the disk itself among those that have clusters; internal snapshots follow."""


class _Table(NamedTuple):
    """An L2 table: which part of the disk it describes, and who has it."""

    number: int
    holders: frozenset[int]


def space_of_map(layer: LayerMap) -> FileSpace:
    """Return the space of an image without internal snapshots or compression, by its map alone."""
    return FileSpace(layer, tuple(Stored(e.start, e.length, e.length) for e in layer.extents if not e.zero))


def qcow2_space(image: Image) -> FileSpace:
    """Return the space of a qcow2 image; a guest may be writing to it."""
    with open_layer(image) as layer:
        assert isinstance(layer, Qcow2Layer)
        for _ in range(_TRIES):
            found = _Counting(image, layer).space()
            if layer.still_holds():
                return found
            layer.reload()
        raise changing(image.path)


class _Counting:
    """One pass over all tables of an image."""

    def __init__(self, image: Image, layer: Qcow2Layer) -> None:
        self._image, self._layer = image, layer
        self._geometry = layer.geometry
        self._deadline = time.monotonic() + _SECONDS
        self._l1 = list(layer.l1_tables())
        self._tables = self._collect()

    def _collect(self) -> dict[int, _Table]:
        """Return all L2 tables by their offset: those of several snapshots are one where none has changed it since."""
        holders: dict[int, tuple[int, set[int]]] = {}
        for holder, table in enumerate(self._l1):
            for number, offset in zip(table.numbers, table.offsets, strict=True):
                holders.setdefault(offset, (number, set()))[1].add(holder)
        same: dict[frozenset[int], frozenset[int]] = {}
        return {
            offset: _Table(number, same.setdefault(frozenset(some), frozenset(some)))
            for offset, (number, some) in holders.items()
        }

    def space(self) -> FileSpace:
        held, shared = self._count() if len(self._l1) > 1 else ({}, None)
        extents: list[Extent] = []
        stored: list[Stored] = []
        for number, offset in zip(self._l1[_DISK].numbers, self._l1[_DISK].offsets, strict=True):
            runs = self._runs(number, offset, self._layer.size)
            for start, length, kind, place in zip(*runs, strict=True):
                zero = kind == ZERO
                if extents and extents[-1].end == start and extents[-1].zero == zero:
                    extents[-1] = Extent(extents[-1].start, extents[-1].length + length, zero)
                else:
                    extents.append(Extent(start, length, zero))
                if not zero:
                    stored += self._stored(start, length, kind, place, shared)
            if len(extents) + len(stored) > _MOST_PARTS:
                raise self._unreadable(t("it has more than {most} parts, which is the limit", most=_MOST_PARTS))
        layer = LayerMap(self._image.path, self._layer.size, tuple(extents), self._geometry.cluster)
        return FileSpace(layer, tuple(stored), held, tuple(self._below()) if len(self._l1) > 1 else ())

    def _runs(self, number: int, offset: int, size: int) -> Runs:
        self._check_time()
        try:
            return parse_l2(self._layer.read_cluster(offset), self._geometry, number, size)
        except TableError as error:
            raise self._unreadable(error.why) from error

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise self._unreadable(t("it did not finish within {seconds} s", seconds=_SECONDS))

    def _unreadable(self, why: Message) -> Exception:
        return unreadable(t("compute the space that {image} uses", image=self._image.path), why)

    def _stored(self, start: int, length: int, kind: int, place: int, shared: Numbers | None) -> Iterator[Stored]:
        """Yield the parts of a run of data that no internal snapshot has, with what they take."""
        bits, cluster = self._geometry.cluster_bits, self._geometry.cluster
        if kind == COMPRESSED:
            place, size = compressed_place(place, bits)
            if shared is None or not _any_within(shared, place >> bits, (place + size - 1) >> bits):
                yield Stored(start, length, size)
            return
        if shared is None:
            yield Stored(start, length, self._on_disk(place, place + length))
            return
        for at, end in _without(shared, place >> bits, (place + length - 1 >> bits) + 1):
            begin, stop = max(at * cluster, place), min(end * cluster, place + length)
            yield Stored(start + begin - place, stop - begin, self._on_disk(begin, stop))

    def _on_disk(self, start: int, end: int) -> int:
        return sum(stop - begin for begin, stop in self._layer.stored(start, end))

    def _below(self) -> Iterator[Extent]:
        """Yield the parts of the backing file that internal snapshots read."""
        if self._image.backing is None:
            return
        covered: list[list[tuple[int, int]]] = []
        for table in self._l1[1:]:
            parts: list[tuple[int, int]] = []
            for number, offset in zip(table.numbers, table.offsets, strict=True):
                runs = self._runs(number, offset, table.size)
                parts += [(start, start + length) for start, length in zip(runs.starts, runs.lengths, strict=True)]
            covered.append(parts)
        for table, parts in zip(self._l1[1:], covered, strict=True):
            place = 0
            for start, end in (*parts, (table.size, table.size)):
                if place < start:
                    yield Extent(place, start - place)
                place = max(place, end)

    # -- clusters of the file -----------------------------------------------------------------------------------

    def _count(self) -> tuple[Mapping[frozenset[str], int], Numbers]:
        """Return what internal snapshots alone hold, and the clusters of the disk that they have as well."""
        import numpy as np

        kinds = list(dict.fromkeys([*(frozenset({n}) for n in range(len(self._l1))), *self._holders()]))
        clusters, classes = self._pairs({holders: number for number, holders in enumerate(kinds)})
        order = np.lexsort((classes, clusters))
        clusters, classes = clusters[order], classes[order]
        new = np.ones(len(clusters), bool)
        new[1:] = (clusters[1:] != clusters[:-1]) | (classes[1:] != classes[:-1])
        clusters, classes = clusters[new], classes[new]
        first = np.ones(len(clusters), bool)
        first[1:] = clusters[1:] != clusters[:-1]
        begins = first.nonzero()[0]
        # Clusters with the same holders have the same sum of random numbers.
        marks = np.random.default_rng().integers(1, 1 << 62, len(kinds))
        sums = np.add.reduceat(marks[classes], begins)
        ends = np.append(begins[1:], len(clusters))
        _, example, which = np.unique(sums, return_index=True, return_inverse=True)
        held: dict[frozenset[str], int] = {}
        shared = []
        alike = np.split(np.argsort(which, kind="stable"), np.cumsum(np.bincount(which))[:-1])
        for at, some in zip(example, alike, strict=True):
            self._check_time()
            holders = frozenset().union(*(kinds[kind] for kind in classes[begins[at] : ends[at]]))
            if holders == {_DISK}:
                continue
            mine = clusters[begins[some]]
            if _DISK in holders:
                shared.append(mine)
                continue
            names = frozenset(self._l1[holder].id for holder in holders)
            held[names] = held.get(names, 0) + self._bytes_of(mine)
        return held, np.sort(np.concatenate(shared)) if shared else np.empty(0, np.int64)

    def _holders(self) -> Iterator[frozenset[int]]:
        return (table.holders for table in self._tables.values())

    def _pairs(self, numbers: Mapping[frozenset[int], int]) -> tuple[Numbers, Numbers]:
        """Return all clusters that tables name, and those that they are in, each with the number of its holders."""
        import numpy as np

        geometry, bits = self._geometry, self._geometry.cluster_bits
        found: list[tuple[Numbers, int]] = []
        total = 0
        for holder, l1 in enumerate(self._l1[1:], 1):
            own = np.arange(l1.offset >> bits, (l1.offset + 8 * l1.entries + geometry.cluster - 1) >> bits)
            found.append((own, numbers[frozenset({holder})]))
        for offset, table in self._tables.items():
            self._check_time()
            kind = numbers[table.holders]
            data = host_clusters(self._layer.read_cluster(offset), geometry)
            found.append((np.append(data, offset >> bits), kind))
            total += len(data) + 1
            if total > _MOST_CLUSTERS:
                why = t("its tables have more than {most} entries, which is the limit", most=_MOST_CLUSTERS)
                raise self._unreadable(why)
        clusters = np.concatenate([some for some, _ in found])
        classes = np.repeat(np.array([kind for _, kind in found]), [len(some) for some, _ in found])
        return clusters.astype(np.int64), classes

    def _bytes_of(self, clusters: Numbers) -> int:
        """Return what some clusters, in order, take on the file system."""
        return sum(
            self._on_disk(int(start) << self._geometry.cluster_bits, int(end) << self._geometry.cluster_bits)
            for start, end in _ranges(clusters)
        )


def _ranges(numbers: Numbers) -> Iterator[tuple[int, int]]:
    """Yield the ranges of numbers that follow each other."""
    import numpy as np

    if len(numbers):
        breaks = (np.diff(numbers) != 1).nonzero()[0] + 1
        for part in (numbers[a:b] for a, b in zip([0, *breaks], [*breaks, len(numbers)], strict=True)):
            yield int(part[0]), int(part[-1]) + 1


def _any_within(numbers: Numbers, first: int, last: int) -> bool:
    import numpy as np

    at = int(np.searchsorted(numbers, first))
    return at < len(numbers) and int(numbers[at]) <= last


def _without(numbers: Numbers, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a range without some numbers, which are in order."""
    import numpy as np

    first, last = np.searchsorted(numbers, (start, end))
    place = start
    for begin, stop in _ranges(numbers[first:last]):
        if place < begin:
            yield place, begin
        place = stop
    if place < end:
        yield place, end
