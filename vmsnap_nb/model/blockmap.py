"""Which layer of a chain owns which part of what the guest reads, and what lies hidden below."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, NamedTuple

from vmsnap_nb.model.number import whole_number
from vmsnap_nb.model.shown import Listed
from vmsnap_nb.model.size import human_size
from vmsnap_nb.model.text import plural
from vmsnap_nb.words.message import t

if TYPE_CHECKING:
    import graphviz
    import pandas as pd

__all__ = ["BlockMap", "Extent", "LayerMap", "Run", "share_before"]

_RAW_UNIT = 512
"""The unit of images without clusters, and so without tables that say where these are."""


class Extent(NamedTuple):
    """A part of one image that is allocated in this very image: a tuple, since there can be millions."""

    # Both in bytes, as the guest counts them.
    start: int
    length: int
    zero: bool = False  # whether the image says that it reads as zeros, so that no data is stored for it

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class LayerMap:
    """The parts of the disk that one image holds itself, without its backing file."""

    path: str
    size: int  # virtual size in bytes
    # In order, without overlap. What lies between them is read from the backing file, or is zero without one.
    extents: tuple[Extent, ...] = ()
    cluster_size: int = 65536  # bytes that are allocated at once; 512 for a raw image

    @property
    def data(self) -> int:
        """Bytes of data in it, hidden or not."""
        return sum(extent.length for extent in self.extents if not extent.zero)


@dataclass(frozen=True, slots=True)
class Run:
    """A part of the disk that is of one kind in one layer."""

    # Both in bytes, as the guest counts them.
    start: int
    length: int
    layer: int  # 0 is the base
    path: str
    kind: Literal["data", "zero"]  # ``data``, or ``zero`` where the layer says that it reads as zeros
    # The nearest layer above that has something at the same place, so that the guest does not see this; None where it
    # does.
    covered_by: int | None = None

    @property
    def hidden(self) -> bool:
        """Whether a layer above covers it, so that this chain does not read it; others may, see `Space`."""
        return self.covered_by is not None


@dataclass(frozen=True)
class BlockMap(Listed):
    """The layers of one chain, and the parts of the disk that each layer holds.

    Attributes
    ----------
    layers : tuple of LayerMap
        Base first.
    new : tuple of tuple of Extent
        For each layer, the data that is new since an earlier map; empty unless `since` returned this map.

    Examples
    --------
    >>> base = LayerMap("/i/base", 3 * 65536, (Extent(0, 131072),))
    >>> top = LayerMap("/i/top", 3 * 65536, (Extent(65536, 131072),))
    >>> for run in BlockMap((base, top)).runs:
    ...     print(run.path, run.start, run.length, "hidden" if run.hidden else "seen")
    /i/base 0 65536 seen
    /i/base 65536 65536 hidden
    /i/top 65536 131072 seen
    """

    layers: tuple[LayerMap, ...]
    new: tuple[tuple[Extent, ...], ...] = ()

    def since(self, before: BlockMap) -> BlockMap:
        """Mark the data that is new since an earlier map of the disk; pictures and text figures show these marks.

        Parameters
        ----------
        before : BlockMap
            The earlier map. If this map does not contain a layer, all of the layer's data is new. Data that was
            overwritten in place is not new: a map records where data is, but not its content.

        Returns
        -------
        BlockMap
            The same map, with the new data in `new`.

        Examples
        --------
        >>> before = BlockMap((LayerMap("/i/base", 3 * 65536, (Extent(0, 65536),)),))
        >>> now = BlockMap((LayerMap("/i/base", 3 * 65536, (Extent(0, 131072),)),))
        >>> now.since(before).new
        ((Extent(start=65536, length=65536, zero=False),),)
        """
        known = {layer.path: layer.extents for layer in before.layers}
        found = (tuple(_new_data(layer.extents, known.get(layer.path, ()))) for layer in self.layers)
        return replace(self, new=tuple(found))

    def __repr__(self) -> str:
        size = human_size(max((layer.size for layer in self.layers), default=0))
        return f"<BlockMap of {size} in {plural(len(self.layers), 'layer')}>"

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per run, index ``run`` and columns ``start length layer image path kind hidden
        covered_by``.

        Returns
        -------
        pandas.DataFrame
            Offsets and lengths are in bytes (``Int64``); layers are counted from 0, the base.
        """
        from vmsnap_nb.views.strips import strips_frame

        return strips_frame(self)

    def to_text(self, *, cells: int = 64) -> str:
        """Draw the disk from left to right, `cells` characters wide: the data that the guest reads, then each layer."""
        from vmsnap_nb.views.strips import strips_text

        return strips_text(self, cells=whole_number(cells, "cells", t("characters"), least=1))

    def to_graphviz(self) -> graphviz.Digraph:
        """Return the map as a Graphviz graph.

        Returns
        -------
        graphviz.Digraph
            A box for each part of a layer, at the same position as in `to_svg`.

        Raises
        ------
        MissingPartError
            The Python package graphviz is not installed.
        """
        from vmsnap_nb.views.strips_dot import strips_graph

        return strips_graph(self)

    def to_svg(self) -> str:
        """Return the map as a picture, an ``<svg>`` element."""
        from vmsnap_nb.views.strips_svg import strips_svg

        return strips_svg(self)

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        from vmsnap_nb.views.strips_svg import strips_bundle

        return strips_bundle(self, include, exclude)

    @property
    def size(self) -> int:
        """The size of the disk that the guest sees, which is the virtual size of the last layer."""
        return self.layers[-1].size if self.layers else 0

    @cached_property
    def _stacks(self) -> tuple[tuple[int, int, tuple[int, ...], frozenset[int]], ...]:
        """Parts of the disk with the layers that own them, lowest first, and those of them that say zero there."""
        edges: dict[int, list[tuple[int, bool, int]]] = defaultdict(list)
        most = max((layer.size for layer in self.layers), default=0)
        for number, layer in enumerate(self.layers):
            extents = list(layer.extents)
            if layer.size < most:
                # The layers above read zeros where this one has ended, whatever lies below it.
                extents.append(Extent(layer.size, most - layer.size, zero=True))
            for extent in extents:
                edges[extent.start].append((1, extent.zero, number))
                edges[extent.end].append((-1, extent.zero, number))
        stacks: list[tuple[int, int, tuple[int, ...], frozenset[int]]] = []
        owners: dict[int, bool] = {}
        before = 0
        for place in sorted(edges):
            if owners:
                stacks.append((before, place, tuple(sorted(owners)), frozenset(n for n in owners if owners[n])))
            # Ends come before beginnings, since a layer's next extent may begin where its last one ends.
            for change, zero, number in sorted(edges[place]):
                if change < 0:
                    del owners[number]
                else:
                    owners[number] = zero
            before = place
        return tuple(stacks)

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """The data of all layers, sorted by offset and layer; adjacent parts of one kind form a run."""
        return tuple(sorted(self._joined(), key=lambda run: (run.start, run.layer)))

    def _joined(self) -> Iterator[Run]:
        last: dict[int, Run] = {}
        for start, end, owners, zeros in self._stacks:
            for position, number in enumerate(owners):
                layer = self.layers[number]
                if start >= layer.size:
                    continue
                above = owners[position + 1] if position + 1 < len(owners) else None
                kind: Literal["data", "zero"] = "zero" if number in zeros else "data"
                run = Run(start, end - start, number, layer.path, kind=kind, covered_by=above)
                known = last.get(number)
                if known is not None:
                    if (known.start + known.length, known.kind, known.covered_by) == (start, kind, above):
                        length = known.length + run.length
                        run = Run(known.start, length, number, layer.path, kind=kind, covered_by=above)
                    else:
                        yield known
                last[number] = run
        yield from last.values()

    @property
    def visible(self) -> tuple[Run, ...]:
        """The runs that the guest reads, without overlap; the guest reads zeros where no layer holds data."""
        return tuple(run for run in self.runs if not run.hidden and run.start < self.size)

    def owner(self, place: int) -> int | None:
        """Return the layer from which the guest reads this byte, or None if no layer holds it."""
        for start, end, owners, _ in self._stacks:
            if start <= place < end:
                return owners[-1]
        return None

    @cached_property
    def totals(self) -> tuple[tuple[int, int], ...]:
        """For each layer, the number of data bytes that the guest sees, and the number of bytes that are hidden."""
        seen = [0] * len(self.layers)
        hidden = [0] * len(self.layers)
        for run in self.runs:
            if run.kind == "data":
                (hidden if run.hidden else seen)[run.layer] += run.length
        return tuple(zip(seen, hidden, strict=True))

    @cached_property
    def covers(self) -> Mapping[int, Mapping[int, int]]:
        """For each layer, the number of bytes of its data, grouped by the nearest layer that covers the data.

        Data that no layer covers is counted under a key equal to the number of layers. If layer j is the top, the
        visible data of layer k is the sum of the values whose keys are greater than j. A planner needs no other data to
        predict a merge.
        """
        covers: dict[int, dict[int, int]] = {number: {} for number in range(len(self.layers))}
        for start, end, owners, zeros in self._stacks:
            for position, number in enumerate(owners):
                if number not in zeros:
                    above = owners[position + 1] if position + 1 < len(owners) else len(self.layers)
                    covers[number][above] = covers[number].get(above, 0) + end - start
        return covers

    def seen_up_to(self, layer: int, last: int) -> int:
        """Return how many bytes of a layer's data are visible if `last` is the top of the chain."""
        return sum(size for above, size in self.covers[layer].items() if above > last)

    def to_copy(self, first: int, last: int, into: int) -> Mapping[int, int]:
        """Return how much data must be copied to merge several layers into one layer; overlapping data counts once.

        Parameters
        ----------
        first : int
            The lowest layer that is merged.
        last : int
            The highest layer that is merged; the result has the content that this layer had.
        into : int
            The merged layer whose file receives the data.

        Returns
        -------
        mapping of int to int
            For each layer from which data is copied, the number of bytes; zeros are not counted.
        """
        sizes = {layer: self.seen_up_to(layer, last) for layer in range(first, last + 1) if layer != into}
        return {layer: size for layer, size in sizes.items() if size}

    def extents_to_copy(self, first: int, last: int, into: int) -> tuple[Extent, ...]:
        """Return the parts of the disk that must be copied into the file `into`, including zeros."""
        end_of_disk = self.layers[last].size
        found: list[Extent] = []
        for start, end, owners, zeros in self._stacks:
            among = [number for number in owners if first <= number <= last]
            end = min(end, end_of_disk)
            if not among or among[-1] == into or start >= end:
                continue
            zero = among[-1] in zeros
            if found and found[-1].end == start and found[-1].zero == zero:
                found[-1] = Extent(found[-1].start, found[-1].length + end - start, zero)
            else:
                found.append(Extent(start, end - start, zero))
        return tuple(found)

    def clusters_to_fill(self, first: int, last: int, into: int) -> tuple[Extent, ...]:
        """Return `extents_to_copy` with data rounded out to whole clusters, which `into` may already hold in part."""
        extents = self.extents_to_copy(first, last, into)
        unit, size = self.layers[into].cluster_size, self.layers[into].size
        data = (
            Extent(start * unit, min(end * unit, size) - start * unit)
            for start, end in _clusters((extent for extent in extents if not extent.zero), unit)
        )
        return (*data, *(extent for extent in extents if extent.zero))

    def merged(self, into: int) -> LayerMap:
        """Return the map of the file `into` after all layers have been merged into this file."""
        target = self.layers[into]
        found: list[Extent] = []
        for start, end, owners, zeros in self._stacks:
            end = min(end, self.size)
            zero = owners[-1] in zeros
            if start < end:
                if found and found[-1].end == start and found[-1].zero == zero:
                    start = found.pop().start
                found.append(Extent(start, end - start, zero))
        return LayerMap(target.path, max(target.size, self.size), tuple(found), target.cluster_size)

    def growth(self, first: int, last: int, into: int, *, own: Iterable[Extent] | None = None) -> int:
        """Estimate the number of bytes by which the file `into` grows when the data of `to_copy` is copied into it.

        Parameters
        ----------
        first, last, into : int
            As in `to_copy`.
        own : iterable of Extent, optional
            The parts that the file holds and that can be overwritten in place. Default: all parts that the file holds.
            Pass fewer parts if internal snapshots keep the old content.
        """
        target = self.layers[into]
        unit = target.cluster_size
        clusters, new = self._new_clusters(first, last, into, target.extents if own is None else own)
        if unit <= _RAW_UNIT:
            return new * unit
        span = unit // 8  # clusters that an L2 table describes
        there = {table for start, end in _clusters(iter(target.extents), unit * span) for table in range(start, end)}
        tables = {
            table for start, end in clusters for table in range(start // span, -(-end // span)) if table not in there
        }
        return (new + len(tables)) * unit

    def _new_clusters(
        self, first: int, last: int, into: int, own: Iterable[Extent]
    ) -> tuple[list[tuple[int, int]], int]:
        """Return the clusters of the file `into` to which something is copied, and how many of them are new."""
        unit = self.layers[into].cluster_size
        clusters = _clusters((e for e in self.extents_to_copy(first, last, into) if not e.zero), unit)
        held = _clusters((e for e in own if not e.zero), unit)
        return clusters, sum(end - start for start, end in clusters) - _overlap(clusters, held)

    def room_to_copy(self, first: int, last: int, into: int, *, fresh: bool = False) -> int:
        """Return the number of bytes by which `into` may grow when the data of `to_copy` is copied, with qcow2 tables.

        Parameters
        ----------
        first, last, into : int
            As in `to_copy`.
        fresh : bool
            Whether data that the file already holds is also written to new clusters, because internal snapshots keep
            the old clusters.
        """
        unit = self.layers[into].cluster_size
        _, new = self._new_clusters(first, last, into, () if fresh else self.layers[into].extents)
        if not new:
            return 0
        tables = -(-new * 8 // (unit * unit)) + 2  # an L2 table of one cluster describes unit / 8 clusters
        return (new + 2 * tables) * unit


def share_before(extents: Iterable[Extent]) -> Callable[[float], float] | None:
    """Return a function from a place on the disk to the share of the data, from 0 to 1, that lies before it.

    None where there is no data.

    Examples
    --------
    >>> share = share_before([Extent(0, 10), Extent(100, 30), Extent(500, 50, zero=True)])
    >>> [share(place) for place in (0, 5, 50, 115, 900)]
    [0.0, 0.125, 0.25, 0.625, 1.0]
    """
    data = sorted((extent.start, extent.length) for extent in extents if not extent.zero)
    starts = [start for start, _ in data]
    sums = [0, *accumulate(length for _, length in data)]
    if not sums[-1]:
        return None

    def share(place: float) -> float:
        number = bisect_right(starts, place)
        if not number:
            return 0.0
        start, length = data[number - 1]
        return (sums[number - 1] + min(place - start, length)) / sums[-1]

    return share


def _new_data(now: Sequence[Extent], before: Sequence[Extent]) -> Iterator[Extent]:
    """Return the parts of `now` with data where `before` has none; both are in order."""
    held, first = [extent for extent in before if not extent.zero], 0
    for extent in now:
        if extent.zero:
            continue
        start = extent.start
        while first < len(held) and held[first].start < extent.end:
            if held[first].start > start:
                yield Extent(start, held[first].start - start)
            start = max(start, held[first].end)
            if held[first].end > extent.end:
                break  # it reaches into the next one
            first += 1
        if start < extent.end:
            yield Extent(start, extent.end - start)


def _clusters(extents: Iterator[Extent], unit: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for extent in extents:
        start, end = extent.start // unit, -(-extent.end // unit)
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _overlap(ones: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]) -> int:
    total = i = j = 0
    while i < len(ones) and j < len(others):
        total += max(0, min(ones[i][1], others[j][1]) - max(ones[i][0], others[j][0]))
        if ones[i][1] < others[j][1]:
            i += 1
        else:
            j += 1
    return total
