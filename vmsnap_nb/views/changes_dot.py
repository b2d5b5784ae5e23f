"""What changed in files for Graphviz: the picture of `vmsnap_nb.views.changes_figure`, with all at the same places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vmsnap_nb.model.files import FileChanges
from vmsnap_nb.views.changes_figure import ChangesPicture, Rung, place_changes
from vmsnap_nb.views.content import CHIP_SIZE, LINE_SIZE, NAME_SIZE, text_width
from vmsnap_nb.views.dot import arrow_edge, box_node, graph_of, html, mixed, points, quote
from vmsnap_nb.views.looks import FONTS, GREY, INK, PAPER, TONES

if TYPE_CHECKING:
    import graphviz

__all__ = ["changes_graph"]


def changes_graph(changes: FileChanges) -> graphviz.Digraph:
    """Return the picture for Graphviz."""
    return graph_of("changes", _lines(place_changes(changes)))


def _lines(picture: ChangesPicture) -> Iterator[str]:
    yield f"graph [layout=nop2 bgcolor=transparent pad=0.1 fontname={quote(FONTS)}]"
    yield (
        f'node [shape=box margin=0 label="" fillcolor="{PAPER.light}" fontcolor="{INK.light}" '
        f"fontsize={points(LINE_SIZE):g} fontname={quote(FONTS)}]"
    )
    yield f'edge [color="{GREY}" penwidth=1.2 arrowsize=0.7]'
    place = 0.0, 0.0, picture.wide, picture.high
    yield _node("paper", *place, f'class="paper" style="filled,rounded" color="{GREY}"')
    for number, (line, base) in enumerate(picture.heading):
        yield _text(f"heading {number}", line, picture.left, base, NAME_SIZE, bold=True)
    for chip in picture.chips:
        colour = TONES[chip.tone]
        look = f'style="filled,rounded" color="{colour}" fillcolor="{mixed(colour, PAPER.light, 0.18)}"'
        said = f"fontsize={points(CHIP_SIZE):g} label={quote(html(chip.text))}"
        yield _node(
            f"chip {chip.change}", chip.left, chip.top, chip.wide, 18.0, f'class="chip {chip.change}" {look} {said}'
        )
    names = {at.key: f"layer {number}" for number, at in enumerate(picture.boxes)}
    for at in picture.boxes:
        yield box_node(names[at.key], at)
    for route in picture.routes:
        yield arrow_edge(names, route)
    for number, rung in enumerate(picture.rungs):
        yield from _rung(f"row {number}", rung, picture)
    for number, (line, base) in enumerate(picture.notes):
        yield _text(f"note {number}", line, picture.left, base)


def _rung(name: str, rung: Rung, picture: ChangesPicture) -> Iterator[str]:
    base = rung.top + 14.5
    if rung.sign:
        colour, tip = TONES[rung.tone], f"tooltip={quote(html(rung.title))}"
        look = f'style="filled,rounded" penwidth=0 fillcolor="{mixed(colour, PAPER.light, 0.22)}"'
        look += f" label=<<B>{html(rung.sign)}</B>>"
        yield _node(f"{name} sign", rung.left, rung.top + 3.0, 15.0, 15.0, f'class="row {rung.kind}" {look} {tip}')
        if rung.bar:
            look = f'class="bar" style=filled penwidth=0 fillcolor="{colour}" {tip}'
            yield _node(f"{name} bar", picture.bar_end - rung.bar, rung.top + 8.0, rung.bar, 6.0, look)
    yield _text(name, rung.name, rung.name_at, base)
    if rung.said:
        yield _text(f"{name} said", rung.said, picture.said_end - text_width(rung.said), base)


def _text(name: str, text: str, left: float, base: float, size: float = LINE_SIZE, *, bold: bool = False) -> str:
    label = f"<<B>{html(text)}</B>>" if bold else quote(html(text))
    more = f"shape=plain fontsize={points(size):g} label={label}"
    return _node(name, left, base - size, text_width(text, size, bold=bold), size * 1.3, more)


def _node(name: str, left: float, top: float, wide: float, high: float, more: str) -> str:
    x, y = points(left + wide / 2), -points(top + high / 2)
    return f'"{name}" [pos="{x:.1f},{y:.1f}" width={points(wide) / 72:.4f} height={points(high) / 72:.4f} {more}]'
