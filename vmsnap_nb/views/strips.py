"""Block maps as strips: the disk from left to right, what the guest reads on top, then one strip for each layer.

A strip is cut into cells of equal size, so that a disk of any size with any number of extents can be looked at. What a
cell shows is the most telling thing in it, however small: data that is seen, then hidden data, then zeros.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal, TypeVar

from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.views.frames import frame_of_table
from vmsnap_nb.views.shown_text import capital, clip, distinct_names, human_size, isolate, shown, width
from vmsnap_nb.views.tables import Column, Table
from vmsnap_nb.words.message import N_, Message, counted, joined, t

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "KIND_WORDS",
    "NEW",
    "READS",
    "Kind",
    "Strips",
    "colours_of",
    "layer_names",
    "part_title",
    "said_of",
    "strips_frame",
    "strips_text",
    "summary_of",
]

T = TypeVar("T")
Kind = Literal["nothing", "zero", "hidden", "both", "seen"]

_SIGNS: dict[Kind, str] = {"nothing": ".", "zero": "0", "hidden": "x", "both": "%", "seen": "#"}
KIND_WORDS: dict[Kind, str] = {
    "nothing": N_("no data: read from the layer below"),
    "zero": N_("zeros"),
    "hidden": N_("hidden data: a layer above covers it"),
    "both": N_("data, some of it hidden"),
    "seen": N_("data that the guest reads"),
}
NEW = N_("new data")
"""What the legend says of data that is new since an earlier map."""
_NEW_SIGN = "+"
READS = N_("guest reads")
"""The label of the top strip."""
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_COLUMNS = (
    Column("run", "count"),
    Column("start", "bytes"),
    Column("length", "bytes"),
    Column("layer", "count"),
    Column("image"),
    Column("path", "path"),
    Column("kind"),
    Column("hidden", "yes or no"),
    Column("covered_by", "count"),
)
_SECTOR = 512
_LEAST_CUT = 12  # a stretch without data is left out if it is longer than this part of the disk
# Okabe and Ito's hues, and some between them, all to be seen on white and on black; what a part is tell its height, its
# outline and its title, too.
_COLOURS = (
    "#2b7fc4", "#e69f00", "#009e73", "#c2689b", "#56b4e9", "#d55e00", "#8f6fc1", "#a39a1f", "#6f9440", "#a8674a",
)  # fmt: skip


def strips_frame(blocks: BlockMap) -> pd.DataFrame:
    """Return one row for each run, by place and then by layer; sizes and places in bytes."""
    names = layer_names(blocks)
    rows = tuple(
        (n, r.start, r.length, r.layer, names[r.layer], r.path, r.kind, r.hidden, r.covered_by)
        for n, r in enumerate(blocks.runs)
    )
    return frame_of_table(Table(_COLUMNS, rows))


def strips_text(blocks: BlockMap, *, cells: int = 64) -> str:
    """Draw the strips in ASCII, with `cells` characters for the whole disk."""
    if not blocks.size:
        return capital(t("an empty disk"))
    strips = Strips.of(blocks, cells)
    names = [clip(name, 24) for name in layer_names(blocks)]
    reads = t(READS)
    wide = max(width(name) for name in (reads, *names)) + 3
    end = human_size(blocks.size)
    lines = [" " * (wide + 1) + "0" + end.rjust(strips.cells)]
    lines.append(_padded(reads, wide) + f"|{''.join(_digit(owners) for owners in strips.owners)}|")
    for number in reversed(range(len(names))):
        cells_of = zip(strips.kinds[number], strips.new[number], strict=True)
        strip = "".join(_NEW_SIGN if new else _SIGNS[kind] for kind, new in cells_of)
        lines.append(_padded(f"{_digit((number,))} {names[number]}", wide) + f"|{strip}|  {said_of(blocks, number)}")
    lines += [
        "",
        t(
            "one character = {size}; a digit is the number of the layer that the guest reads; * stands for "
            "several layers",
            size=human_size(strips.unit),
        ),
    ]
    signs = [f"{sign} {t(KIND_WORDS[kind])}" for kind, sign in _SIGNS.items()]
    signs += [f"{_NEW_SIGN} {t(NEW)}"] if blocks.new else []
    lines.append("   ".join(signs))
    return "\n".join(line.rstrip() for line in lines)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the disk that is shown without a break."""

    start: int  # in bytes, as its end
    end: int
    first: int  # its first cell
    cells: int


@dataclass(frozen=True, slots=True)
class Strips:
    """What each cell shows: the layers that the guest reads there, what each layer holds there, and what is new."""

    cells: int
    unit: int
    owners: tuple[tuple[int, ...], ...]
    kinds: tuple[tuple[Kind, ...], ...]
    new: tuple[tuple[bool, ...], ...]
    spans: tuple[Span, ...]
    held: Mapping[tuple[int, int, Kind], tuple[int, int]]
    """Of a layer, a cell and a kind: from and up to which byte there is such data. A cell is often wider."""

    @classmethod
    def of(cls, blocks: BlockMap, cells: int, *, cut: bool = False) -> Strips:
        """Cut the disk into so many cells, or about so many; `cut` leaves out where there is no data for long."""
        ranges = _ranges(blocks) if cut else [(0, blocks.size)]
        unit = max(-(-sum(end - start for start, end in ranges) // cells), 1)
        unit = -(-unit // _SECTOR) * _SECTOR if cut else unit  # parts of an image begin at a sector
        spans: list[Span] = []
        for start, end in ranges:
            spans.append(Span(start, end, sum(span.cells for span in spans), -(-(end - start) // unit)))
        cells = sum(span.cells for span in spans)
        owners: list[set[int]] = [set() for _ in range(cells)]
        found: list[list[set[Kind]]] = [[set() for _ in range(cells)] for _ in blocks.layers]
        held: dict[tuple[int, int, Kind], tuple[int, int]] = {}
        for run in blocks.runs:
            kind: Kind = "zero" if run.kind == "zero" else "hidden" if run.hidden else "seen"
            for cell in _cells_of(run.start, run.start + run.length, spans, unit):
                found[run.layer][cell].add(kind)
                start, end = held.get((run.layer, cell, kind), (run.start, 0))
                held[run.layer, cell, kind] = min(start, run.start), max(end, run.start + run.length)
                if kind == "seen":
                    owners[cell].add(run.layer)
        new = [[False] * cells for _ in blocks.layers]
        for layer, extents in enumerate(blocks.new):
            for extent in extents:
                for cell in _cells_of(extent.start, extent.end, spans, unit):
                    new[layer][cell] = True
        return cls(
            cells,
            unit,
            owners=tuple(tuple(sorted(cell)) for cell in owners),
            kinds=tuple(tuple(_most_telling(cell) for cell in layer) for layer in found),
            new=tuple(map(tuple, new)),
            spans=tuple(spans),
            held=held,
        )

    def span_of(self, cell: int) -> int:
        """Return the number of the span that a cell is in."""
        return max(number for number, span in enumerate(self.spans) if span.first <= cell)

    def place(self, cell: int) -> int:
        """Return at which byte a cell begins."""
        span = self.spans[self.span_of(cell)]
        return span.start + (cell - span.first) * self.unit

    def end(self, cell: int) -> int:
        """Return at which byte a cell ends."""
        return min(self.place(cell) + self.unit, self.spans[self.span_of(cell)].end)

    def bounds(self, first: int, count: int, kind: Kind, layers: Sequence[int]) -> tuple[int, int]:
        """Return from and up to which byte a stretch of cells has data of a kind; ``both`` is seen and hidden data."""
        kinds: tuple[Kind, ...] = ("seen", "hidden") if kind == "both" else (kind,)
        cells = range(first, first + count)
        keys = [(layer, cell, kind) for layer in layers for cell in cells for kind in kinds]
        held = [self.held[key] for key in keys if key in self.held]
        start, end = min(start for start, _ in held), max(end for _, end in held)
        return max(start, self.place(first)), min(end, self.end(first + count - 1))

    def read_cells(self) -> Iterator[tuple[int, int, Kind, tuple[int, ...]]]:
        """Return stretches of the top strip that are read from the same layers."""
        for first, count, owners in self._stretches(self.owners):
            if owners:
                yield first, count, "seen", owners

    def layer_cells(self, layer: int) -> Iterator[tuple[int, int, Kind, tuple[int, ...]]]:
        """Return stretches of one kind in a layer; a stretch ends where the disk is cut."""
        for first, count, kind in self._stretches(self.kinds[layer]):
            if kind != "nothing":
                yield first, count, kind, (layer,)

    def new_cells(self, layer: int) -> Iterator[tuple[int, int]]:
        """Return the stretches of a layer that have new data."""
        for first, count, new in self._stretches(self.new[layer]):
            if new:
                yield first, count

    def _stretches(self, cells: Sequence[T]) -> Iterator[tuple[int, int, T]]:
        for span in self.spans:
            first = span.first
            for what, same in groupby(cells[first : first + span.cells]):
                count = len(list(same))
                yield first, count, what
                first += count


def _ranges(blocks: BlockMap) -> list[tuple[int, int]]:
    """Return the parts of the disk where data is; what is between them is longer than a part of the disk."""
    least = max(blocks.size // _LEAST_CUT, 1)
    ranges: list[tuple[int, int]] = []
    for run in sorted(blocks.runs, key=lambda run: run.start):
        end = min(run.start + run.length, blocks.size)
        if run.kind != "data" or end <= run.start:
            continue
        begin = ranges[-1][1] if ranges else 0
        if run.start - begin > least:
            ranges.append((run.start, end))
        elif ranges:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], end))
        else:
            ranges.append((0, end))
    if not ranges:
        return [(0, blocks.size)]
    if blocks.size - ranges[-1][1] <= least:
        ranges[-1] = (ranges[-1][0], blocks.size)
    return ranges


def _cells_of(start: int, end: int, spans: Sequence[Span], unit: int) -> Iterator[int]:
    for span in spans:
        low = max(start, span.start)
        high = min(end, span.start + span.cells * unit)
        if low < high:
            last = min((high - 1 - span.start) // unit, span.cells - 1)
            yield from range(span.first + (low - span.start) // unit, span.first + last + 1)


def _most_telling(kinds: set[Kind]) -> Kind:
    if {"seen", "hidden"} <= kinds:
        return "both"
    order: tuple[Kind, ...] = ("seen", "hidden", "zero")
    return next((kind for kind in order if kind in kinds), "nothing")


def part_title(
    strips: Strips, first: int, count: int, kind: Kind, owners: tuple[int, ...], names: Sequence[str]
) -> Message:
    """Return what a stretch of cells is: the text of its tooltip."""
    start, end = strips.bounds(first, count, kind, owners)
    layers, what = joined(names[owner] for owner in owners), t(KIND_WORDS[kind])
    low, high, size = human_size(start), human_size(end), human_size(end - start)
    if low == high:  # too small a part for its place
        return t("{size} at {start}: {layers}, {kind}", size=size, start=low, layers=layers, kind=what)
    return t("{start} to {end}: {layers}, {kind}", start=low, end=high, layers=layers, kind=what)


def colours_of(names: Sequence[str]) -> list[str]:
    """Return a colour for each layer, base first: the same for an image in every map, as far as they differ."""
    free: list[str] = []
    colours: list[str] = []
    for name in names:
        free = free or list(_COLOURS)
        start = zlib.crc32(name.encode(errors="surrogatepass")) % len(_COLOURS)
        colour = next(one for one in (*_COLOURS[start:], *_COLOURS[:start]) if one in free)
        free.remove(colour)
        colours.append(colour)
    return colours


def said_of(blocks: BlockMap, layer: int) -> Message:
    """Return how much of a layer's data the guest sees."""
    (read, covered), said = blocks.totals[layer], [t("no data")]
    seen, hidden = human_size(read), human_size(covered)
    if read and covered:
        said = [t("{seen} seen, {hidden} hidden", seen=seen, hidden=hidden)]
    elif read or covered:
        said = [t("{seen} seen", seen=seen) if read else t("{hidden} hidden", hidden=hidden)]
    if blocks.new and (new := sum(extent.length for extent in blocks.new[layer])):
        said.append(t("{size} new", size=human_size(new)))
    return joined(said)


def layer_names(blocks: BlockMap) -> list[str]:
    """Return a name for each layer that no other has."""
    named = distinct_names((layer.path, _stem(layer.path)) for layer in blocks.layers)
    return [named[layer.path] for layer in blocks.layers]


def _stem(path: str) -> str:
    name = path.rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem and suffix in {"qcow2", "img", "raw"} else name


def _digit(owners: tuple[int, ...]) -> str:
    if len(owners) == 1:
        return _DIGITS[owners[0]] if owners[0] < len(_DIGITS) else "+"
    return "*" if owners else "."


def _padded(text: str, wide: int) -> str:
    return text + " " * (wide - width(text))


def summary_of(blocks: BlockMap) -> Message:
    """Return what a map shows, for those who do not see it."""
    seen = [
        t("{size} from {image}", size=human_size(total), image=isolate(shown(name)))
        for name, (total, _) in zip(layer_names(blocks), blocks.totals, strict=True)
        if total
    ]
    return counted(
        "Block map of {count} layer; the guest reads {data}",
        "Block map of {count} layers; the guest reads {data}",
        len(blocks.layers),
        data=joined(seen) if seen else t("only zeros"),
    )
