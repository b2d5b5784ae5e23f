"""Arrows within a block that are no edges of its tree: they run around the boxes, each in a lane of its own.

A lane is in the gap above a row (the gap after the last row has the next number). Of arrows along one row those of data
run below it, all others above it. Of those in one gap the shortest is nearest to the boxes, so that none cross.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vmsnap_nb.views.figure import Box
from vmsnap_nb.views.placed import Placed, Point

__all__ = ["LANE", "Strand", "lane_heights", "rows_top", "strand_corners"]

LANE = 22.0
"""Pixels for each arrow that runs between two rows or two blocks: a line, and its label above it."""
_EDGE, _STEP = 20.0, 10.0  # from a box's side to its first arrow, and from arrow to arrow


@dataclass(frozen=True, slots=True)
class Strand:
    """An arrow from one box of a block to another, by their places in it."""

    tail: int
    head: int
    below: bool  # whether it runs below its row, not above it


def _gap_of(strand: Strand, boxes: Sequence[Box]) -> int:
    """Return the number of the gap in which an arrow has its lane."""
    tail, head = boxes[strand.tail], boxes[strand.head]
    if tail.row == head.row:
        return tail.row + strand.below
    return max(tail.row, head.row)


def lane_heights(strands: Sequence[Strand], boxes: Sequence[Box]) -> dict[int, float]:
    """Return how much higher each gap has to be."""
    return {gap: LANE * count + 10.0 for gap, count in Counter(_gap_of(strand, boxes) for strand in strands).items()}


def strand_corners(strands: Sequence[Strand], placed: Sequence[Placed]) -> list[tuple[Point, ...]]:
    """Return the corners of each arrow, from its tail to its head."""
    boxes = [at.box for at in placed]
    gaps: dict[int, list[int]] = {}
    for number in sorted(range(len(strands)), key=lambda number: _long(strands[number], boxes)):
        gaps.setdefault(_gap_of(strands[number], boxes), []).append(number)
    corners: dict[int, tuple[Point, ...]] = {}
    for gap, numbers in gaps.items():
        from_above = [number for number in numbers if strands[number].below]
        from_below = [number for number in numbers if not strands[number].below]
        floor = max((at.bottom for at in placed if at.box.row < gap), default=None)
        top = min((at.top for at in placed if at.box.row == gap), default=None)
        # From the row above downwards, and from the row below upwards.
        heights = {number: (floor or 0.0) + LANE * (n + 0.8) for n, number in enumerate(from_above)}
        heights |= {number: (top or 0.0) - LANE * (n + 0.8) + 4.0 for n, number in enumerate(from_below)}
        corners |= {
            number: _corners(strands[number], placed, heights[number], _rank(number, numbers, strands))
            for number in numbers
        }
    return [corners[number] for number in range(len(strands))]


def _long(strand: Strand, boxes: Sequence[Box]) -> int:
    return abs(boxes[strand.tail].column - boxes[strand.head].column)


def _rank(number: int, numbers: Sequence[int], strands: Sequence[Strand]) -> tuple[int, int]:
    """Return how many shorter arrows leave the same box, and how many arrive at the same."""
    shorter = [strands[other] for other in numbers[: numbers.index(number)]]
    this = strands[number]
    return sum(other.tail == this.tail for other in shorter), sum(other.head == this.head for other in shorter)


def _corners(strand: Strand, placed: Sequence[Placed], lane: float, rank: tuple[int, int]) -> tuple[Point, ...]:
    tail, head = placed[strand.tail], placed[strand.head]
    leftwards = head.left <= tail.left
    leaves, arrives = (_EDGE + _STEP * number for number in rank)
    start = tail.right - leaves if leftwards else tail.left + leaves
    end = head.right - arrives if leftwards else head.left + arrives
    if strand.tail == strand.head:
        start, end = tail.right - leaves, tail.left + leaves
    return (start, _side(tail, lane)), (start, lane), (end, lane), (end, _side(head, lane))


def _side(at: Placed, lane: float) -> float:
    return at.bottom if lane > at.bottom else at.top


def rows_top(
    rows: Mapping[int, float], extra: Mapping[int, float], y: float, gap: float
) -> tuple[dict[int, float], float]:
    """Return where each row begins, from a height on, and where all of them end, with the lanes below the last."""
    top: dict[int, float] = {}
    for row in sorted(rows):
        y += extra.get(row, 0.0)
        top[row] = y
        y += rows[row] + gap
    return top, y - gap + extra.get(max(rows, default=-1) + 1, 0.0)
