"""Which layer of a chain owns which part of what the guest reads, and what lies hidden below."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import graphviz
    import pandas as pd

__all__ = ["BlockMap", "Extent", "LayerMap", "Run", "share_before"]


@dataclass(frozen=True, slots=True)
class Extent:
    """A part of one image that is allocated in this very image.

    Attributes
    ----------
    start, length : int
        Bytes, as the guest counts them.
    zero : bool
        Whether the image says that it reads as zeros, so that no data is stored for it.
    """

    start: int
    length: int
    zero: bool = False

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class LayerMap:
    """What one image holds itself, whatever it stands on.

    Attributes
    ----------
    path : str
        The image.
    size : int
        Virtual size in bytes.
    extents : tuple of Extent
        In order, without overlap. What lies between them is read from the backing file, or is zero without one.
    cluster_size : int
        Bytes that are allocated at once; 512 for a raw image.
    """

    path: str
    size: int
    extents: tuple[Extent, ...] = ()
    cluster_size: int = 65536

    @property
    def data(self) -> int:
        """Bytes of data in it, hidden or not."""
        return sum(extent.length for extent in self.extents if not extent.zero)


@dataclass(frozen=True, slots=True)
class Run:
    """A part of the disk that is of one kind in one layer.

    Attributes
    ----------
    start, length : int
        Bytes, as the guest counts them.
    layer : int
        Which layer; 0 is the base.
    path : str
        The layer's image.
    kind : str
        ``data``, or ``zero`` where the layer says that it reads as zeros.
    covered_by : int or None
        The nearest layer above that has something at the same place, so that the guest does not see this; None where
        it does.
    """

    start: int
    length: int
    layer: int
    path: str
    kind: Literal["data", "zero"]
    covered_by: int | None = None

    @property
    def hidden(self) -> bool:
        """Whether a layer above covers it."""
        return self.covered_by is not None


@dataclass(frozen=True)
class BlockMap:
    """The layers of one chain, laid over each other.

    Attributes
    ----------
    layers : tuple of LayerMap
        Base first.

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

    def to_frame(self) -> pd.DataFrame:
        """Give one row a run: index ``run``, columns ``start length layer image path kind hidden covered_by``.

        Returns
        -------
        pandas.DataFrame
            Places and lengths in bytes, ``Int64``; layers are counted from 0, the base.
        """
        from vmsnap_nb.views.strips import strips_frame

        return strips_frame(self)

    def to_text(self, *, cells: int = 64) -> str:
        """Draw the disk from left to right in so many signs: what the guest reads, then a strip for each layer."""
        from vmsnap_nb.views.strips import strips_text

        return strips_text(self, cells=cells)

    def to_graphviz(self) -> graphviz.Digraph:
        """Give the strips for Graphviz.

        Returns
        -------
        graphviz.Digraph
            A box for each part of a strip, at the same places as in `to_svg`.

        Raises
        ------
        MissingPartError
            The Python package graphviz is not installed.
        """
        from vmsnap_nb.views.strips_dot import strips_graph

        return strips_graph(self)

    def to_svg(self) -> str:
        """Give the same as a picture, an ``<svg>`` element."""
        from vmsnap_nb.views.strips import strips_svg

        return strips_svg(self)

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        from vmsnap_nb.views.strips import strips_bundle

        return strips_bundle(self, include, exclude)

    @property
    def size(self) -> int:
        """Bytes that the guest sees: the virtual size of the last layer."""
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
        """All that any layer holds, by place and then by layer; neighbours of one kind are one run."""
        return tuple(sorted(self._joined(), key=lambda run: (run.start, run.layer)))

    def _joined(self) -> Iterator[Run]:
        last: dict[int, Run] = {}
        for start, end, owners, zeros in self._stacks:
            for position, number in enumerate(owners):
                layer = self.layers[number]
                if start >= layer.size:
                    continue
                above = owners[position + 1] if position + 1 < len(owners) else None
                run = Run(start, end - start, number, layer.path, "zero" if number in zeros else "data", above)
                known = last.get(number)
                if known is not None:
                    if (known.start + known.length, known.kind, known.covered_by) == (start, run.kind, above):
                        run = Run(known.start, known.length + run.length, number, layer.path, run.kind, above)
                    else:
                        yield known
                last[number] = run
        yield from last.values()

    @property
    def visible(self) -> tuple[Run, ...]:
        """What the guest reads: runs without overlap. Between them nobody holds anything, and it reads as zeros."""
        return tuple(run for run in self.runs if not run.hidden and run.start < self.size)

    def owner(self, place: int) -> int | None:
        """Give the layer from which the guest reads this byte, or None where no layer holds anything."""
        for start, end, owners, _ in self._stacks:
            if start <= place < end:
                return owners[-1]
        return None

    @cached_property
    def totals(self) -> tuple[tuple[int, int], ...]:
        """For each layer the bytes of data that the guest sees of it, and those that are hidden."""
        seen = [0] * len(self.layers)
        hidden = [0] * len(self.layers)
        for run in self.runs:
            if run.kind == "data":
                (hidden if run.hidden else seen)[run.layer] += run.length
        return tuple(zip(seen, hidden, strict=True))

    @cached_property
    def covers(self) -> Mapping[int, Mapping[int, int]]:
        """For each layer its bytes of data by the nearest layer that covers them.

        What nothing covers stands under the number of layers. So the data of layer k that is still seen when layer j is
        the last one is the sum over all numbers above j: this is all that a planner needs to know of any merge.
        """
        covers: dict[int, dict[int, int]] = {number: {} for number in range(len(self.layers))}
        for start, end, owners, zeros in self._stacks:
            for position, number in enumerate(owners):
                if number not in zeros:
                    above = owners[position + 1] if position + 1 < len(owners) else len(self.layers)
                    covers[number][above] = covers[number].get(above, 0) + end - start
        return covers

    def seen_up_to(self, layer: int, last: int) -> int:
        """Give the bytes of data of a layer that are seen when `last` is the last layer of the chain."""
        return sum(size for above, size in self.covers[layer].items() if above > last)

    def to_copy(self, first: int, last: int, into: int) -> Mapping[int, int]:
        """Give what has to be copied to make one image of several layers; what overlaps counts once.

        Parameters
        ----------
        first, last : int
            The layers that become one, which then reads as `last` did.
        into : int
            The layer among them whose file will hold it.

        Returns
        -------
        mapping of int to int
            For each layer that something is copied from, bytes of data; zeros cost none.
        """
        sizes = {layer: self.seen_up_to(layer, last) for layer in range(first, last + 1) if layer != into}
        return {layer: size for layer, size in sizes.items() if size}

    def extents_to_copy(self, first: int, last: int, into: int) -> tuple[Extent, ...]:
        """Give where that is, zeros included: parts of the disk that the file `into` does not hold rightly yet."""
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
        """Give the same, with data in whole clusters of the file `into`: parts of one may be its own already."""
        extents = self.extents_to_copy(first, last, into)
        unit, size = self.layers[into].cluster_size, self.layers[into].size
        data = (
            Extent(start * unit, min(end * unit, size) - start * unit)
            for start, end in _clusters((extent for extent in extents if not extent.zero), unit)
        )
        return (*data, *(extent for extent in extents if extent.zero))

    def merged(self, into: int) -> LayerMap:
        """Give the map of the file `into` after all layers have become one in it."""
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

    def room_to_copy(self, first: int, last: int, into: int, *, fresh: bool = False) -> int:
        """Give the bytes that the file `into` may grow by when that is copied into it, qcow2's own tables included.

        Parameters
        ----------
        first, last, into : int
            As in `to_copy`.
        fresh : bool
            Whether even what the file holds already is written to a new place: so it is where internal snapshots keep
            the old one.
        """
        target = self.layers[into]
        unit = target.cluster_size
        clusters = _clusters((e for e in self.extents_to_copy(first, last, into) if not e.zero), unit)
        held = [] if fresh else _clusters((e for e in target.extents if not e.zero), unit)
        new = sum(end - start for start, end in clusters) - _overlap(clusters, held)
        if not new:
            return 0
        tables = -(-new * 8 // (unit * unit)) + 2  # an L2 table of one cluster describes unit / 8 clusters
        return (new + 2 * tables) * unit


def share_before(extents: Iterable[Extent]) -> Callable[[float], float] | None:
    """Give a function from a place on the disk to the share of the data, from 0 to 1, that lies before it.

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
