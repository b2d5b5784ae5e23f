"""Block maps as strips: the disk from left to right, what the guest reads on top, then one strip for each layer.

A strip is cut into cells of equal size, so that a disk of any size with any number of extents can be looked at. What a
cell shows is the most telling thing in it, however small: data that is seen, then hidden data, then zeros.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Literal, TypeVar

from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.views.frames import frame_of_table
from vmsnap_nb.views.tables import Column, Table
from vmsnap_nb.views.words import clip, distinct_names, human_size, isolate, shown, width
from vmsnap_nb.words.message import N_, Message, counted, joined, t

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "LEGEND",
    "READS",
    "Strips",
    "colour_of",
    "layer_names",
    "part_title",
    "said_of",
    "strips_bundle",
    "strips_frame",
    "strips_svg",
    "strips_text",
]

T = TypeVar("T")
Kind = Literal["nothing", "zero", "hidden", "both", "seen"]

_SIGNS: dict[Kind, str] = {"nothing": ".", "zero": "0", "hidden": "x", "both": "%", "seen": "#"}
_WORDS: dict[Kind, str] = {
    "nothing": N_("nothing: read from the layer below"),
    "zero": N_("zeros"),
    "hidden": N_("hidden data: a layer above covers it"),
    "both": N_("data, some of it hidden"),
    "seen": N_("data that the guest reads"),
}
LEGEND = N_("full: the guest reads it; low and outlined: hidden by a layer above; a thin line: zeros; empty: nothing")
"""How to read the parts of a picture."""
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
# Okabe and Ito's colours again; every cell also differs by its hatching and says in its title what it is.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")


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
        return t("* an empty disk")
    strips = Strips.of(blocks, cells)
    names = [clip(name, 24) for name in layer_names(blocks)]
    reads = t(READS)
    wide = max(width(name) for name in (reads, *names)) + 3
    end = human_size(blocks.size)
    lines = [" " * (wide + 1) + "0" + end.rjust(strips.cells)]
    lines.append(_padded(reads, wide) + f"|{''.join(_digit(owners) for owners in strips.owners)}|")
    for number in reversed(range(len(names))):
        strip = "".join(_SIGNS[kind] for kind in strips.kinds[number])
        lines.append(_padded(f"{_digit((number,))} {names[number]}", wide) + f"|{strip}|  {said_of(blocks, number)}")
    lines += [
        "",
        t(
            "one sign = {size}; the guest reads from the layer of that number, * from several",
            size=human_size(strips.unit),
        ),
    ]
    lines.append("   ".join(f"{sign} {t(_WORDS[kind])}" for kind, sign in _SIGNS.items()))
    return "\n".join(line.rstrip() for line in lines)


def strips_svg(blocks: BlockMap) -> str:
    """Draw the strips as an ``<svg>`` in the colours of the page; every part has a title that says what it is."""
    names = [clip(name, 24) for name in layer_names(blocks)]
    strips = Strips.of(blocks, 256)
    left, wide, high, gap = 190, 3 * strips.cells, 18, 8
    rows = [t(READS), *(f"{number}  {name}" for number, name in reversed(list(enumerate(names))))]
    total = 26 + len(rows) * (high + gap) + 34
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{left + wide + 210}" height="{total}" '
            f'viewBox="0 0 {left + wide + 210} {total}" aria-label="{escape(_summary(blocks))}" '
            'font-family="Helvetica,Arial,DejaVu Sans,Noto Sans CJK SC,sans-serif" font-size="12" '
            'style="color: var(--vscode-editor-foreground, var(--jp-ui-font-color1, #111111))">'
        ),
        f'<text x="{left}" y="16" fill="currentColor">0</text>',
        f'<text x="{left + wide}" y="16" text-anchor="end" fill="currentColor">{human_size(blocks.size)}</text>',
    ]
    for place, row in enumerate(rows):
        y = 26 + place * (high + gap)
        number = len(names) - place
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end" fill="currentColor">{escape(row)}</text>')
        parts.append(
            f'<rect x="{left}" y="{y}" width="{wide}" height="{high}" fill="none" stroke="currentColor" '
            'stroke-opacity="0.4"/>'
        )
        cells = strips.read_cells() if place == 0 else strips.layer_cells(number)
        parts += [
            _part(strips, first, count, kind, owners, left, y, high, names) for first, count, kind, owners in cells
        ]
        if place:
            said = said_of(blocks, number)
            parts.append(f'<text x="{left + wide + 8}" y="{y + 13}" fill="currentColor">{escape(said)}</text>')
    y = total - 14
    parts.append(f'<text x="{left}" y="{y}" fill="currentColor">{escape(t(LEGEND))}</text></svg>')
    return "\n".join(parts)


def strips_bundle(
    blocks: BlockMap, include: Container[str] | None = None, exclude: Container[str] | None = None
) -> dict[str, str]:
    """Return what a notebook may show: the picture as SVG and in HTML, and the text."""
    text, svg = strips_text(blocks), strips_svg(blocks)
    summary, shown_text = escape(t("As text")), escape(text)
    html = f'<div class="vmsnap">{svg}<details><summary>{summary}</summary><pre>{shown_text}</pre></details></div>'
    bundle = {"image/svg+xml": svg, "text/html": html, "text/plain": text}
    return {
        kind: value
        for kind, value in bundle.items()
        if (not include or kind in include) and (not exclude or kind not in exclude)
    }


@dataclass(frozen=True, slots=True)
class Strips:
    """What each cell shows: the layers that the guest reads there, and for each layer what it holds there."""

    cells: int
    unit: int
    owners: tuple[tuple[int, ...], ...]
    kinds: tuple[tuple[Kind, ...], ...]

    @classmethod
    def of(cls, blocks: BlockMap, cells: int) -> Strips:
        """Cut the disk into so many cells, or fewer."""
        unit = max(-(-blocks.size // cells), 1)
        cells = -(-blocks.size // unit)
        owners: list[set[int]] = [set() for _ in range(cells)]
        found: list[list[set[Kind]]] = [[set() for _ in range(cells)] for _ in blocks.layers]
        for run in blocks.runs:
            kind: Kind = "zero" if run.kind == "zero" else "hidden" if run.hidden else "seen"
            last = min((run.start + run.length - 1) // unit, cells - 1)
            for cell in range(run.start // unit, last + 1):
                found[run.layer][cell].add(kind)
                if kind == "seen":
                    owners[cell].add(run.layer)
        kinds = tuple(tuple(_most_telling(cell) for cell in layer) for layer in found)
        return cls(cells, unit, tuple(tuple(sorted(cell)) for cell in owners), kinds)

    def read_cells(self) -> Iterator[tuple[int, int, Kind, tuple[int, ...]]]:
        """Return stretches of the top strip that are read from the same layers."""
        for first, count, owners in _stretches(self.owners):
            if owners:
                yield first, count, "seen", owners

    def layer_cells(self, layer: int) -> Iterator[tuple[int, int, Kind, tuple[int, ...]]]:
        """Return stretches of one kind in a layer."""
        for first, count, kind in _stretches(self.kinds[layer]):
            if kind != "nothing":
                yield first, count, kind, (layer,)


def _stretches(cells: Sequence[T]) -> Iterator[tuple[int, int, T]]:
    first = 0
    for what, same in groupby(cells):
        count = len(list(same))
        yield first, count, what
        first += count


def _most_telling(kinds: set[Kind]) -> Kind:
    if {"seen", "hidden"} <= kinds:
        return "both"
    order: tuple[Kind, ...] = ("seen", "hidden", "zero")
    return next((kind for kind in order if kind in kinds), "nothing")


def _part(
    strips: Strips,
    first: int,
    count: int,
    kind: Kind,
    owners: tuple[int, ...],
    left: int,
    y: int,
    high: int,
    names: Sequence[str],
) -> str:
    x, wide = left + 3 * first, 3 * count
    colour = colour_of(owners)
    title = part_title(strips, first, count, kind, owners, names)
    if kind == "hidden":
        look, top, tall = f'fill="none" stroke="{colour}" stroke-dasharray="2 1"', y + high // 2, high // 2 - 1
    elif kind == "zero":
        look, top, tall = f'fill="{colour}"', y + high // 2, 2
    else:
        look, top, tall = f'fill="{colour}"', y + 1, high - 2
    return (
        f'<rect class="{kind}" x="{x}" y="{top}" width="{wide}" height="{tall}" {look}>'
        f"<title>{escape(title)}</title></rect>"
    )


def part_title(
    strips: Strips, first: int, count: int, kind: Kind, owners: tuple[int, ...], names: Sequence[str]
) -> Message:
    """Return what a stretch of cells is: the text of its tooltip."""
    return t(
        "{start} to {end}: {layers}, {kind}",
        start=human_size(first * strips.unit),
        end=human_size((first + count) * strips.unit),
        layers=joined(names[owner] for owner in owners),
        kind=t(_WORDS[kind]),
    )


def colour_of(owners: Sequence[int]) -> str:
    """Return the colour of the highest of some layers."""
    return _COLOURS[owners[-1] % len(_COLOURS)]


def said_of(blocks: BlockMap, layer: int) -> Message:
    """Return how much of a layer's data the guest sees."""
    seen, hidden = map(human_size, blocks.totals[layer])
    if blocks.totals[layer][1]:
        return t("{seen} seen, {hidden} hidden", seen=seen, hidden=hidden)
    return t("{seen} seen", seen=seen)


def layer_names(blocks: BlockMap) -> list[str]:
    """Return a name for each layer that no other has."""
    named = distinct_names((layer.path, _stem(layer.path)) for layer in blocks.layers)
    return [named[layer.path] for layer in blocks.layers]


def _stem(path: str) -> str:
    name = path.rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem and suffix in {"qcow2", "img", "raw"} else name


def _summary(blocks: BlockMap) -> Message:
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


def _digit(owners: tuple[int, ...]) -> str:
    if len(owners) == 1:
        return _DIGITS[owners[0]] if owners[0] < len(_DIGITS) else "+"
    return "*" if owners else "."


def _padded(text: str, wide: int) -> str:
    return text + " " * (wide - width(text))
