"""Where everything of a picture is: boxes, what is in them, the corners of arrows, captions. In pixels, y downwards.

A base is at the left, and the first overlay is on its row, as in the handout and in the text figure. Nothing has to be
searched for, so that a thousand images are placed as fast as ten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from vmsnap_nb.views.content import (
    LINE_SIZE,
    NARROW_PAD,
    NARROW_WIDE,
    PAD,
    TIGHT_WIDE,
    arrange,
    narrow_width,
    natural_width,
    text_width,
    tight_width,
)
from vmsnap_nb.views.figure import NEW_EDGE, Arrow, Block, Box, Figure, Move
from vmsnap_nb.views.lanes import LANE, Strand, lane_heights, rows_top, strand_corners
from vmsnap_nb.views.note_lines import note_lines
from vmsnap_nb.views.placed import Key, Kind, Picture, Placed, Point, Route, Words
from vmsnap_nb.views.shown_text import wrap
from vmsnap_nb.words.message import t

__all__ = ["LEAD", "Room", "place_figure"]

Room = Literal["wide", "narrow", "tight"]
"""How much room there is in a line: in a narrow column boxes are narrower, and higher."""

LEAD = 16.0
"""From line to line of a caption."""
_GAPS = {"wide": 30.0, "narrow": 14.0, "tight": 12.0}
_ROW_GAP, _BLOCK_GAP = 24.0, 30.0
_MARGIN = 8.0
_MOST_NARROW = 415 / 0.7  # pixels of a figure whose boxes become as narrow as this takes; see `svg.MOST_NARROW`
_SLIM = 125.0  # a box with less is narrow
_BESIDE = 8.0  # from an arrow to the caption beside it
_LEAST_COLUMNS, _MOST_COLUMNS = 60, 110  # of sentences above and below the boxes


def place_figure(figure: Figure, room: Room = "wide") -> Picture:
    """Place all that a figure shows."""
    placer = _Placer(figure, room)
    placer.place()
    return placer.picture()


@dataclass(slots=True)
class _Placer:
    figure: Figure
    room: Room
    placed: dict[Key, Placed] = field(default_factory=dict)
    floors: dict[int, float] = field(default_factory=dict)  # where each block ends
    routes: list[Route] = field(default_factory=list)
    words: list[Words] = field(default_factory=list)

    def place(self) -> None:
        """Place blocks from above to below, then what is between, above and below them."""
        figure = self.figure
        shared = self._column_widths(figure.blocks) if figure.aligned else None
        y = 0.0
        for number, block in enumerate(figure.blocks):
            y += LANE * sum(move.target[0] == number != move.source[0] for move in figure.moves)
            if block.caption:
                self.words.append(Words(f"caption {number}", (block.caption,), 0.0, y))
                y += 24.0
            self._block(number, block, shared or self._column_widths([block]), y)
            y = self.floors[number] + _BLOCK_GAP
        moves = _between(figure.moves, self.placed, self.floors)
        self.routes += moves
        self.words = [_beside(words, moves) for words in self.words]
        right = max((at.right for at in self.placed.values()), default=0.0)
        columns = round(min(max(right / 7.0, _LEAST_COLUMNS), _MOST_COLUMNS))
        if figure.heading:
            lines = wrap(figure.heading, columns)
            self.words.append(Words("heading", tuple(lines), 0.0, -LEAD * len(lines) - 12.0))
        if figure.notes:
            self.words.append(Words("notes", tuple(note_lines(figure.notes, columns)), 0.0, y))

    def _block(self, number: int, block: Block, widths: Mapping[int, float], y: float) -> None:
        beside = [arrow for arrow in block.arrows if arrow.beside]
        inside = [move for move in self.figure.moves if move.source[0] == move.target[0] == number]
        strands = [Strand(arrow.tail, arrow.head, below=False) for arrow in beside]
        strands += [Strand(move.source[1], move.target[1], below=True) for move in inside]
        boxes, self.floors[number] = _place(block, number, widths, strands=strands, y=y, room=self.room)
        self.placed.update({at.key: at for at in boxes})
        for arrow in block.arrows:
            if not arrow.beside:
                label, at = _edge_label(arrow, boxes)
                self._arrow(number, arrow, _route(arrow, boxes), label, at)
        corners = strand_corners(strands, boxes)
        for arrow, route in zip(beside, corners, strict=False):
            label = t(NEW_EDGE) if arrow.changed else t("loop") if arrow.wrong else ""
            self._arrow(number, arrow, route, label, _above_lane(route))
        for move, route in zip(inside, corners[len(beside) :], strict=True):
            label = _fitting(move, route)
            at = _clear_of_heads(route, label)
            self.routes.append(
                Route(move.source, move.target, "move", route, label=label, label_at=at, whole=move.label)
            )

    def _column_widths(self, blocks: Sequence[Block]) -> dict[int, float]:
        if self.room == "wide":
            return _widest(blocks, natural_width)
        # As wide as fits into a narrow page: so no word is broken that need not be.
        gap, least = _GAPS[self.room], NARROW_WIDE if self.room == "narrow" else TIGHT_WIDE
        widths = _widest(blocks, narrow_width)
        most = max(widths.values(), default=least)
        edges = (2 * NARROW_PAD + gap) * len(widths) - gap + 2 * _MARGIN
        while most > least and sum(widths.values()) + edges > _MOST_NARROW:
            most = max(most - 2.0, least)
            widths = _widest(blocks, partial(tight_width, most=most))
        return widths

    def _arrow(self, number: int, arrow: Arrow, corners: tuple[Point, ...], label: str, at: Point) -> None:
        kind: Kind = "wrong" if arrow.wrong else "changed" if arrow.changed else ""
        tail, head = (number, arrow.tail), (number, arrow.head)
        self.routes.append(Route(tail, head, kind, corners, label=label, label_at=at, fate=arrow.fate))

    def picture(self) -> Picture:
        """Return it all, with the least rectangle around it."""
        xs, ys = [0.0], [0.0]
        for at in self.placed.values():
            xs += [at.left, at.right]
            ys += [at.top, at.bottom + 5.0]  # a fold has another sheet below it
        for route in self.routes:
            xs += [x for x, _ in route.corners]
            ys += [y for _, y in route.corners]
            if route.label:
                half = text_width(route.label) / 2
                xs += [route.label_at[0] - half, route.label_at[0] + half]
        for words in self.words:
            xs.append(words.left + max(map(text_width, words.lines)))
            ys += [words.top, words.top + LEAD * len(words.lines)]
        left, top = min(xs) - _MARGIN, min(ys) - _MARGIN
        wide, high = max(xs) + _MARGIN - left, max(ys) + _MARGIN - top
        return Picture(
            tuple(self.placed.values()),
            tuple(self.routes),
            tuple(self.words),
            left=left,
            top=top,
            wide=wide,
            high=high,
        )


def _widest(blocks: Sequence[Block], wanted: Callable[[Box], float]) -> dict[int, float]:
    """Return for each column the width of its widest box."""
    widths: dict[int, float] = {}
    for block in blocks:
        for box in block.boxes:
            widths[box.column] = max(widths.get(box.column, 0.0), wanted(box))
    return widths


def _place(
    block: Block, number: int, widths: Mapping[int, float], *, strands: Sequence[Strand], y: float, room: Room
) -> tuple[list[Placed], float]:
    """Return the boxes of a block with their places, and where the block ends."""
    pad = PAD if room == "wide" else NARROW_PAD
    left: dict[int, float] = {}
    x = 0.0
    for column in range(max((box.column for box in block.boxes), default=-1) + 1):
        left[column] = x
        x += widths[column] + 2 * pad + _GAPS[room] if column in widths else 0.0
    contents = [arrange(box, widths[box.column], pad) for box in block.boxes]
    heights: dict[int, float] = {}
    for box, (_, high) in zip(block.boxes, contents, strict=True):
        heights[box.row] = max(heights.get(box.row, 0.0), high)
    top, floor = rows_top(heights, lane_heights(strands, block.boxes), y, _ROW_GAP)
    placed = [
        Placed(
            box,
            (number, place),
            left=left[box.column],
            top=top[box.row],
            wide=widths[box.column] + 2 * pad,
            high=heights[box.row],
            items=items,
        )
        for place, (box, (items, _)) in enumerate(zip(block.boxes, contents, strict=True))
    ]
    return placed, floor if placed else y


def _route(arrow: Arrow, boxes: Sequence[Placed]) -> tuple[Point, ...]:
    """Return the corners of an arrow, from the overlay to its backing file."""
    tail, head = boxes[arrow.tail], boxes[arrow.head]
    if arrow.trunk is None:
        return (tail.left, tail.middle), (head.right, head.middle)
    slim = head.wide < _SLIM  # then the arrows of data need its other half
    step = min(20.0 if slim else 26.0, (head.wide - 40.0) / max(head.box.trunks - 1, 1))
    middle = head.left + head.wide / 3 if slim else head.across
    x = middle + step * (arrow.trunk - (head.box.trunks - 1) / 2)
    x = max(x, head.left + 8.0)
    return (tail.left, tail.middle), (x, tail.middle), (x, head.bottom)


def _edge_label(arrow: Arrow, boxes: Sequence[Placed]) -> tuple[str, Point]:
    """Return the words below a changed arrow along its row, or none where they do not fit."""
    tail, head = boxes[arrow.tail], boxes[arrow.head]
    text = t(NEW_EDGE)
    if not arrow.changed or arrow.trunk is not None or tail.left - head.right < text_width(text) + 10:
        return "", (0.0, 0.0)
    return text, ((tail.left + head.right) / 2, tail.middle + LINE_SIZE + 4.0)


def _beside(words: Words, moves: Sequence[Route]) -> Words:
    """Return a caption with its place to the right of the arrows that come down through it."""
    wide = max(map(text_width, words.lines)) + 3.0
    left = words.left
    for x, bottom, top in sorted((*route.corners[-1], route.corners[-2][1]) for route in moves):
        if top <= words.top + LEAD and words.top <= bottom and left <= x <= left + wide:
            left = x + _BESIDE
    return replace(words, left=left)


def _above_lane(corners: Sequence[Point]) -> Point:
    (ax, lane), (bx, _) = corners[1:3]
    return (ax + bx) / 2, lane - 5.0


def _fitting(move: Move, corners: Sequence[Point]) -> str:
    """Return what stands above the lane of an arrow: the bytes alone where all would cross its ends."""
    (ax, _), (bx, _) = corners[1:3]
    fits = text_width(move.label) + _BESIDE <= abs(ax - bx)
    return move.label if fits or not move.brief else move.brief


def _clear_of_heads(corners: Sequence[Point], label: str) -> Point:
    """Return where the label of an arrow is that may be shorter: it begins beside the heads."""
    (ax, lane), (bx, _) = corners[1:3]
    half = text_width(label) / 2 + _BESIDE
    if abs(ax - bx) / 2 >= half or ax == bx:
        return _above_lane(corners)
    return (bx + half if bx < ax else bx - half), lane - 5.0


def _between(moves: Sequence[Move], placed: Mapping[Key, Placed], floors: Mapping[int, float]) -> list[Route]:
    """Return the arrows between blocks: each has a lane of its own, and those into one box do not cross.

    That is so when of the arrows to the left the leftmost has the highest lane, and of those to the right the last.
    """

    def order(move: Move) -> tuple[bool, float]:
        source, target = placed[move.source], placed[move.target]
        leftwards = target.left < source.left
        return (not leftwards, source.left if leftwards else -source.left)

    routes: list[Route] = []
    lanes: Counter[int] = Counter()
    for move in sorted((move for move in moves if move.source[0] != move.target[0]), key=order):
        source, target = placed[move.source], placed[move.target]
        into = [placed[other.source].left for other in moves if other.target == move.target]
        step = min(16.0, (target.wide - 60.0) / max(len(into) - 1, 1))
        place = sorted(into).index(source.left)
        lanes[move.target[0]] += 1
        lane = floors[move.source[0]] + LANE * lanes[move.target[0]]
        if target.left < source.left:
            start, end = source.right - 30.0, target.left + 36.0 + step * place
        elif target.left > source.left:
            start, end = source.left + 30.0, target.right - 30.0 - step * (len(into) - 1 - place)
        else:
            start = end = source.across
        corners = ((start, source.bottom), (start, lane), (end, lane), (end, target.top))
        at = _above_lane(corners)
        label = _fitting(move, corners)
        routes.append(Route(move.source, move.target, "move", corners, label=label, label_at=at, whole=move.label))
    return routes
