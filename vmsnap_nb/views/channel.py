"""Arrows of text figures between the row before and the row after: which data goes from which image into which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vmsnap_nb.views.shown_text import width

__all__ = ["Wire", "draw_channel", "least_width", "sides"]

_STEP = 3  # columns between two arrows that arrive at one box


@dataclass(frozen=True, slots=True)
class Wire:
    """One arrow: leaves its box at column `start` of the upper row, arrives at column `end` of the lower one."""

    start: int
    end: int
    label: str


def least_width(labels: Sequence[str]) -> int:
    """Return the least width of a box so that these labels fit on the arrows between neighbouring columns."""
    return max((width(label) for label in labels), default=0) + 4 + _STEP * (len(labels) > 1)


def sides(pairs: Sequence[tuple[tuple[int, int], tuple[int, int], str]]) -> list[Wire]:
    """Choose where arrows leave and arrive, so that no two of one box share a place.

    A pair has the first column and the width of the source and of the target, and the label.
    """
    wires: list[Wire] = []
    for (source, wide), (target, room), label in pairs:
        rivals = [other for other in pairs if other[1] == (target, room)]
        places = sorted({other[0][0] for other in rivals})
        number, right = places.index(source), len(places) - 1 - places.index(source)
        if source > target:
            wires.append(Wire(source + wide - 4, min(target + 3 + _STEP * number, target + room - 2), label))
        elif source < target:
            wires.append(Wire(source + 3, max(target + room - 4 - _STEP * right, target + 1), label))
        else:
            wires.append(Wire(target + room // 2, target + room // 2, label))
    return wires


def draw_channel(wires: Sequence[Wire]) -> list[str]:
    """Draw arrows in the room between two rows of boxes.

    An arrow goes down, along a lane of its own that has its label, and down to its head. The lanes are in such an order
    that arrows into one box do not cross. The box above ends before the first line, the box below begins after the
    last.
    """
    if not wires:
        return []
    commits = sorted((wire for wire in wires if wire.end < wire.start), key=lambda wire: wire.start)
    pulls = sorted((wire for wire in wires if wire.end > wire.start), key=lambda wire: -wire.start)
    lanes = [*commits, *pulls]
    height = 2 * max(len(lanes), 1) + 1
    grid = [[" "] * (max(max(wire.start, wire.end) for wire in wires) + 1) for _ in range(height)]

    def put(x: int, y: int, char: str) -> None:
        grid[y][x] = char if grid[y][x] == " " else "+"

    for number, wire in enumerate(lanes):
        lane = 2 * number + 1
        low, high = sorted((wire.start, wire.end))
        for y in range(lane):
            put(wire.start, y, "|")
        for x in range(low + 1, high):
            put(x, lane, "-")
        put(wire.start, lane, "'")
        put(wire.end, lane, ".")
        for y in range(lane + 1, height - 1):
            put(wire.end, y, "|")
        put(wire.end, height - 1, "v")
    for wire in wires:
        if wire.start == wire.end:
            for y in range(height - 1):
                put(wire.start, y, "|")
            put(wire.start, height - 1, "v")
    for number, wire in enumerate(lanes):
        _write(grid[2 * number + 1], min(wire.start, wire.end) + 1, max(wire.start, wire.end), wire.label)
    return ["".join(line).rstrip() for line in grid]


def _write(line: list[str], first: int, end: int, label: str) -> None:
    """Write a label into a lane where nothing crosses it, in the middle if it fits there."""
    text = f" {label} "
    wide = width(text)
    middle = first + (end - first - wide) // 2
    for place in sorted(range(first + 1, end - wide), key=lambda x: abs(x - middle)):
        if set(line[place : place + wide]) == {"-"}:
            line[place : place + wide] = [text, *[""] * (wide - 1)]  # a place for each column
            return
