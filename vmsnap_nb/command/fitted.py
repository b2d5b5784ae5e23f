"""A figure as text that fits into the terminal: with fewer details and more folded, or as an outline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vmsnap_nb.model.shown import Shown
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Block, Figure
from vmsnap_nb.views.shown_text import width
from vmsnap_nb.views.text import figure_text, steps_of, text_options
from vmsnap_nb.words.message import joined, t

__all__ = ["fitted_figure"]

_TRIES: tuple[dict[str, Any], ...] = (
    {},
    {"details": ("active", "format", "sizes", "users")},
    {"details": ("active", "format", "sizes", "users"), "fold": 4, "keep": 3, "columns": 4},
    {"details": ("active", "users"), "fold": 3, "keep": 2, "columns": 3},
    {"details": "none", "fold": 2, "keep": 2, "columns": 3},
)


def fitted_figure(thing: Shown, columns: int) -> str:
    """Return the most detailed text figure whose boxes are at most so wide; if there is none, an outline of it."""
    figures = [figure_of(thing, text_options(**options)) for options in _TRIES]
    fitting = next((figure for figure in figures if _width(figure) <= columns), None)
    if fitting is not None:
        return figure_text(fitting, steps_of(thing), columns=columns)
    below = figure_text(replace(figures[0], heading="", blocks=(), moves=()), steps_of(thing), columns=columns)
    return "\n\n".join(filter(None, (_outline(figures[0]), below)))


def _width(figure: Figure) -> int:
    """Return how wide the boxes are; commands may be wider, and the terminal breaks them."""
    boxes = replace(figure, heading="", notes=(), sections=())
    return max(map(width, figure_text(boxes).split("\n")), default=0)


def _outline(figure: Figure) -> str:
    """Return a line for each box, below that of its backing file, and one for each move."""
    parts = [figure.heading]
    parts += ("\n".join(filter(None, (block.caption, *_lines(block)))) for block in figure.blocks)
    names = {(b, n): box.lines[0].text for b, block in enumerate(figure.blocks) for n, box in enumerate(block.boxes)}
    moves = [(move.label, f"{names[move.source]} ---> {names[move.target]}") for move in figure.moves]
    parts.append("\n".join(t("{label}: {arrow}", label=label, arrow=arrow) for label, arrow in moves))
    return "\n\n".join(filter(None, parts))


def _lines(block: Block) -> Iterator[str]:
    above = {arrow.tail: arrow.head for arrow in block.arrows if not arrow.beside}
    depth: dict[int, int] = {}
    below: dict[int | None, list[int]] = {}
    for place in range(len(block.boxes)):  # parents come before children
        depth[place] = depth[above[place]] + 1 if place in above else 0
        below.setdefault(above.get(place), []).append(place)
    stack = list(reversed(below.get(None, [])))
    while stack:
        place = stack.pop()
        name, *more = (line.text for line in block.boxes[place].lines)
        branch = "  " * (depth[place] - 1) + "`-" if depth[place] else ""
        yield f"{branch}{name}  {joined(filter(None, more))}".rstrip()
        stack.extend(reversed(below.get(place, [])))
