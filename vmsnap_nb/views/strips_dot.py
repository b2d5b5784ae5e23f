"""Block maps for Graphviz: the strips of `vmsnap_nb.views.strips` as boxes at given places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.views.content import text_width
from vmsnap_nb.views.dot import graph_of, html, quote
from vmsnap_nb.views.looks import FONTS
from vmsnap_nb.views.shown_text import capital, clip, human_size
from vmsnap_nb.views.strips import KIND_WORDS, NEW, READS, Strips, colours_of, layer_names, part_title, said_of
from vmsnap_nb.views.strips_svg import LEGEND_KINDS
from vmsnap_nb.words.message import t

if TYPE_CHECKING:
    import graphviz

__all__ = ["strips_graph"]

_CELLS, _WIDE, _HIGH, _STEP, _GAP, _BREAK = 128, 4.0, 16.0, 24.0, 8.0, 12.0  # points, but for the number of cells
_GREY = "#767676"  # to be read on white and on black
_NEW = "new"  # as a kind of part


def strips_graph(blocks: BlockMap) -> graphviz.Digraph:
    """Return the strips for Graphviz: what the guest reads on top, then a strip for each layer."""
    return graph_of("blockmap", _lines(blocks))


def _lines(blocks: BlockMap) -> Iterator[str]:
    yield f"graph [layout=nop2 bgcolor=transparent pad=0.1 fontname={quote(FONTS)}]"
    yield f'node [shape=box margin=0 label="" fontsize=10 fontname={quote(FONTS)} color="{_GREY}" fontcolor="{_GREY}"]'
    if not blocks.size:
        yield _text("empty", capital(t("an empty disk")), 0, 0)
        return
    strips = Strips.of(blocks, _CELLS, cut=True)
    names = [clip(name, 24) for name in layer_names(blocks)]
    colours = colours_of(names)
    wide = _left(strips, strips.cells - 1) + _WIDE
    taken = -1.0
    for number, span in enumerate(strips.spans):
        start, x = human_size(span.start) if span.start else "0", _left(strips, span.first)
        if x > taken:
            yield _text(f"start {number}", start, x, _STEP)
            taken = x + text_width(start, 10.0) + 4.0
    end = human_size(blocks.size)
    yield _text("end", end, wide + _GAP, _STEP)
    rows: list[int | None] = [None, *reversed(range(len(names)))]
    for place, layer in enumerate(rows):
        y = -place * _STEP
        head = t(READS) if layer is None else f"{layer}  {names[layer]}"
        yield _text(f"head {place}", head, -_GAP - text_width(head, 10.0), y)
        for number, span in enumerate(strips.spans):
            more = f'style="" penwidth=0.5 tooltip={quote(html(head))}'
            yield _box(f"strip {place}-{number}", _left(strips, span.first), span.cells * _WIDE, y, _HIGH, more)
        for first, count, kind, owners in strips.read_cells() if layer is None else strips.layer_cells(layer):
            title = quote(html(part_title(strips, first, count, kind, owners, names)))
            look = f'class="{kind}" tooltip={title}'
            x, name = _left(strips, first), f"part {place}-{first}"
            yield _part(name, kind, colours[owners[-1]], x, count * _WIDE, y, look)
        if layer is not None:
            for first, count in strips.new_cells(layer):
                yield _new(f"new {place}-{first}", _left(strips, first), count * _WIDE, y)
            yield _text(f"said {place}", said_of(blocks, layer), wide + _GAP, y)
    yield from _legend(-len(rows) * _STEP, new=bool(blocks.new))


def _left(strips: Strips, cell: int) -> float:
    return cell * _WIDE + strips.span_of(cell) * _BREAK


def _part(name: str, kind: str, colour: str, x: float, wide: float, y: float, more: str) -> str:
    """Write a part: full height for what is read, low and outlined for what is hidden, a line for zeros."""
    look = f'color="{colour}" fillcolor="{colour}" style=filled penwidth=0'
    low, high = y, _HIGH - 2
    if kind == "hidden":
        look = f'color="{colour}" style=""'
        low, high = y - _HIGH / 4, _HIGH / 2 - 2
    elif kind == "zero":
        high = 2.0
    return _box(name, x, wide, low, high, f"{more} {look}")


def _new(name: str, x: float, wide: float, y: float) -> str:
    """Underline a part that is new."""
    look = f'class="new" tooltip={quote(html(t(NEW)))} color="{_GREY}" fillcolor="{_GREY}" style=filled penwidth=0'
    return _box(name, x, wide, y - _HIGH / 2 - 2.5, 2.5, look)


def _legend(y: float, *, new: bool) -> Iterator[str]:
    x = 0.0
    for kind in LEGEND_KINDS:
        yield _part(f"legend {kind}", kind, _GREY, x, 14.0, y, 'class="legend"')
        word = t(KIND_WORDS[kind])
        yield _text(f"word {kind}", word, x + 20.0, y)
        x += 20.0 + text_width(word, 10.0) + 14.0
    if new:
        yield _new(f"legend {_NEW}", x, 14.0, y)
        yield _text(f"word {_NEW}", t(NEW), x + 20.0, y)


def _box(name: str, left: float, wide: float, y: float, high: float, more: str) -> str:
    return f'"{name}" [pos="{left + wide / 2:.1f},{y:.1f}" width={wide / 72:.4f} height={high / 72:.4f} {more}]'


def _text(name: str, text: str, left: float, y: float) -> str:
    wide = text_width(text, 10.0)
    return (
        f'"{name}" [shape=plain pos="{left + wide / 2:.1f},{y:.1f}" width={wide / 72:.3f} height=0.18 '
        f"label={quote(html(text))}]"
    )
