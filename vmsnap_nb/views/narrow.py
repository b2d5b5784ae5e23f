"""A figure for a narrow column: boxes become narrower, then the middle of chains is folded, until it fits."""

from __future__ import annotations

from collections.abc import Callable

from vmsnap_nb.views.figure import Figure
from vmsnap_nb.views.positions import Room
from vmsnap_nb.views.svg import MOST_NARROW, figure_svg, least_width

__all__ = ["narrowed"]

_STEPS: tuple[tuple[int, Room], ...] = ((4, "narrow"), (4, "tight"), (3, "narrow"), (3, "tight"))
"""`Options.columns`, and the widths of boxes, from the most readable to what takes the least room."""


def narrowed(figure: Figure, again: Callable[[int], Figure]) -> tuple[Figure, str]:
    """Return a figure that takes at most `MOST_NARROW`, if it can, and its picture.

    `again` draws the same with at most so many boxes side by side.
    """
    svg = figure_svg(figure, "narrow")
    folded: dict[int, Figure] = {}
    for columns, room in _STEPS:
        if least_width(svg) <= MOST_NARROW:
            break
        if columns not in folded:
            folded[columns] = again(columns)
        figure = folded[columns]
        svg = figure_svg(figure, room)
    return figure, svg
