"""Figures for Graphviz: the same boxes at the same places as in the text figure.

The places are given in points and kept by Graphviz (``layout=nop2``: "use the positions, change nothing",
https://graphviz.org/docs/layouts/nop2/), for two reasons. The picture then says the same as the text, and like
the handout puts the first overlay on the row of its base. And nothing has to be searched for, so that a thousand
images are drawn as fast as ten.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vmsnap_nb.errors import MissingPartError
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import NEW_EDGE, Arrow, Block, Box, Figure, Line, Move, Options, Shape
from vmsnap_nb.views.words import shown, wrap
from vmsnap_nb.words.message import t

if TYPE_CHECKING:
    import graphviz

__all__ = ["FONTS", "figure_graph", "graph_of", "html", "node_names", "points", "quote", "to_graphviz"]

FONTS = "Helvetica,Arial,DejaVu Sans,Noto Sans CJK SC,Microsoft YaHei,PingFang SC,Noto Color Emoji,sans-serif"

# Okabe and Ito's colours, which colour-blind people tell apart (https://jfly.uni-koeln.de/color/). A colour never
# stands alone: the line style or the shape differs as well, and a line in the box says it in words.
_LOOKS: Mapping[Shape, str] = {
    "image": 'style="filled" color="#4d4d4d"',
    "new": 'style="filled" color="#009e73" penwidth=1.5 peripheries=2',
    "gone": 'style="filled,dotted" color="#d55e00" penwidth=2.5',
    "fold": 'style="filled,rounded,dashed" color="#767676"',
    "broken": 'style="filled,dashed,diagonals" color="#d55e00" penwidth=2',
    "unopened": 'style="filled,dashed" shape=note color="#767676" penwidth=1.5',
    "loop": 'style="filled" shape=tab color="#cc79a7" penwidth=2.5',
    "in-use": 'style="filled" shape=component color="#e69f00" penwidth=2',
    "guest": 'style="filled,rounded" color="#0072b2"',
    "snapshot": 'style="filled" color="#4d4d4d"',
    "memory": 'style="filled" shape=box3d color="#56b4e9" penwidth=2',
}
_ACTIVE = 'style="filled" color="#0072b2" penwidth=2'

_NAME_SIZE, _LINE_SIZE, _NAME_LEAD, _LEAD = 12.0, 10.0, 15.0, 13.0  # points
_GAP, _ROW_GAP, _BLOCK_GAP = 44.0, 26.0, 34.0
_LANE = 20.0  # for each arrow between two blocks
_PAD, _HEAD = 10.0, 9.0  # beside the text; length of an arrow head


def to_graphviz(thing: Shown, **options: Any) -> graphviz.Digraph:
    """Return an object's figure for Graphviz; its source is the same whenever the figure is."""
    return figure_graph(figure_of(thing, Options.of(**options)))


def figure_graph(figure: Figure) -> graphviz.Digraph:
    """Return a figure for Graphviz; each node has an ``id`` of its block's and its box's number, as ``box-0-3``."""
    return graph_of("figure", _lines(figure))


def graph_of(name: str, lines: Iterable[str]) -> graphviz.Digraph:
    """Return a graph of lines of DOT."""
    try:
        import graphviz
    except ImportError as error:
        raise MissingPartError(
            t("draw a picture with the Python package graphviz"),
            said=str(error),
            next_step=t("pip install graphviz, or use .to_text()"),
        ) from error
    graph = graphviz.Digraph(name)
    graph.body += [f"\t{line}\n" for line in lines]
    return graph


def node_names(figure: Figure) -> dict[tuple[int, int], str]:
    """Return the name of each node, by the numbers of block and box: the path, and ``(after)`` where it comes twice."""
    names: dict[tuple[int, int], str] = {}
    used: set[str] = set()
    caption = ""
    for number, block in enumerate(figure.blocks):
        caption = block.caption or caption
        for place, box in enumerate(block.boxes):
            name = base = shown(box.key)
            if name in used and caption:
                name = base = f"{base} ({caption})"
            again = 2
            while name in used:
                name, again = f"{base} ({again})", again + 1
            used.add(name)
            names[number, place] = name
    return names


# -- where everything is ---------------------------------------------------------------------------------


@dataclass(slots=True)
class _Placed:
    """A box with the places of its edges, in points; y grows upwards, as in Graphviz."""

    box: Box
    left: float
    top: float
    wide: float
    high: float

    @property
    def right(self) -> float:
        return self.left + self.wide

    @property
    def bottom(self) -> float:
        return self.top - self.high

    @property
    def centre(self) -> tuple[float, float]:
        return self.left + self.wide / 2, self.top - self.high / 2

    @property
    def line(self) -> float:
        """The height at which arrows along the row come and go: that of the name."""
        return self.top - 20.0


def _lines(figure: Figure) -> Iterator[str]:
    yield f"graph [layout=nop2 rankdir=RL bgcolor=transparent pad=0.1 fontname={quote(FONTS)}]"
    yield f"node [shape=box margin=0 fillcolor=white fontcolor=black fontsize={_LINE_SIZE:g} fontname={quote(FONTS)}]"
    yield 'edge [color="#767676" penwidth=1.2 arrowsize=0.8]'
    names = node_names(figure)
    shared = _column_widths(figure.blocks) if figure.aligned else None
    placed: dict[tuple[int, int], _Placed] = {}
    floors: dict[int, float] = {}  # where each block ends
    y = 0.0
    if figure.heading:
        yield _caption("heading", [figure.heading], y)
        y -= 26.0
    for number, block in enumerate(figure.blocks):
        y -= _LANE * sum(move.target[0] == number for move in figure.moves)
        if block.caption:
            yield _caption(f"caption {number}", [block.caption], y)
            y -= 22.0
        boxes = _place(block, shared or _column_widths([block]), y)
        placed.update({(number, place): at for place, at in enumerate(boxes)})
        for place, at in enumerate(boxes):
            yield _node(names[number, place], f"box-{number}-{place}", at)
        for arrow in block.arrows:
            tail, head = names[number, arrow.tail], names[number, arrow.head]
            yield _edge(tail, head, _route(arrow, boxes), "arrow changed" if arrow.changed else "arrow")
            if arrow.changed and (corner := _label_place(arrow, boxes)):
                yield _caption(f"edge {number}-{arrow.tail}", [t(NEW_EDGE)], *corner)
        floors[number] = min((at.bottom for at in boxes), default=y)
        y = floors[number] - _BLOCK_GAP
    for move, path in _move_routes(figure.moves, placed, floors):
        yield _edge(names[move.source], names[move.target], path, "arrow move", move.label)
    if figure.notes:
        yield _caption("notes", [part for note in figure.notes for part in wrap(note, 90, "* ", "  ")], y)


def _column_widths(blocks: Sequence[Block]) -> dict[int, float]:
    widths: dict[int, float] = {}
    for block in blocks:
        for box in block.boxes:
            wide = max(points(line) for line in box.lines) + 2 * _PAD
            widths[box.column] = max(widths.get(box.column, 60.0), wide)
    return widths


def _place(block: Block, widths: Mapping[int, float], y: float) -> list[_Placed]:
    left: dict[int, float] = {}
    x = 0.0
    for column in range(max((box.column for box in block.boxes), default=-1) + 1):
        left[column] = x
        x += widths.get(column, 0.0) + _GAP
    heights: dict[int, float] = {}
    for box in block.boxes:
        heights[box.row] = max(heights.get(box.row, 46.0), _NAME_LEAD + _LEAD * (len(box.lines) - 1) + 16.0)
    top: dict[int, float] = {}
    for row in sorted(heights):
        top[row] = y
        y -= heights[row] + _ROW_GAP
    return [
        _Placed(box, left=left[box.column], top=top[box.row], wide=widths[box.column], high=heights[box.row])
        for box in block.boxes
    ]


def _route(arrow: Arrow, boxes: Sequence[_Placed]) -> list[tuple[float, float]]:
    """Return the corners of an arrow, from the overlay to its backing file."""
    tail, head = boxes[arrow.tail], boxes[arrow.head]
    if arrow.trunk is None:
        return [(tail.left, tail.line), (head.right, head.line)]
    step = min(26.0, (head.wide - 36.0) / max(head.box.trunks - 1, 1))
    x = head.left + 18.0 + step * arrow.trunk
    return [(tail.left, tail.line), (x, tail.line), (x, head.bottom)]


def _move_routes(
    moves: Sequence[Move], placed: Mapping[tuple[int, int], _Placed], floors: Mapping[int, float]
) -> Iterator[tuple[Move, list[tuple[float, float]]]]:
    """Return the corners of the arrows between blocks: each has a lane of its own, and those into one box do not cross.

    That is so when of the arrows to the left the leftmost has the highest lane, and of those to the right the last.
    """

    def order(move: Move) -> tuple[bool, float]:
        source, target = placed[move.source], placed[move.target]
        leftwards = target.left < source.left
        return (not leftwards, source.left if leftwards else -source.left)

    lanes: Counter[int] = Counter()
    for move in sorted(moves, key=order):
        source, target = placed[move.source], placed[move.target]
        into = [placed[other.source].left for other in moves if other.target == move.target]
        step = min(16.0, (target.wide - 60.0) / max(len(into) - 1, 1))
        place = sorted(into).index(source.left)
        lane = floors[move.source[0]] - _LANE * (lanes[move.target[0]] + 1)
        lanes[move.target[0]] += 1
        if target.left < source.left:
            start, end = source.right - 30.0, target.left + 36.0 + step * place
        elif target.left > source.left:
            start, end = source.left + 30.0, target.right - 30.0 - step * (len(into) - 1 - place)
        else:
            start = end = source.centre[0]
        yield move, [(start, source.bottom), (start, lane), (end, lane), (end, target.top)]


def _label_place(arrow: Arrow, boxes: Sequence[_Placed]) -> tuple[float, float] | None:
    """Return top and left of the words below an arrow along its row, or None where they do not fit."""
    tail, head = boxes[arrow.tail], boxes[arrow.head]
    wide = points(Line(t(NEW_EDGE)))
    if arrow.trunk is not None or tail.left - head.right < wide + 10:
        return None
    return tail.line - 3.0, (tail.left + head.right - wide) / 2


# -- Graphviz's words ------------------------------------------------------------------------------------


def _node(name: str, number: str, at: _Placed) -> str:
    box = at.box
    x, y = at.centre
    look = _ACTIVE if box.active and box.shape in {"image", "snapshot"} else _LOOKS[box.shape]
    return (
        f'{_identifier(name)} [id="{number}" class="box {box.shape}{" active" if box.active else ""}" {look} '
        f'pos="{x:.1f},{y:.1f}" width={at.wide / 72:.3f} height={at.high / 72:.3f} '
        f"tooltip={quote(html(box.title))} label=<{_label(box.lines, at.high)}>]"
    )


def _label(lines: Sequence[Line], high: float) -> str:
    parts = []
    for line in lines:
        text = html(line.text)
        if line.role == "name":
            parts.append(f'<FONT POINT-SIZE="{_NAME_SIZE:g}"><B>{text}</B></FONT>')
        elif line.role in {"status", "mark", "active"}:
            parts.append(f"<B>{text}</B>")
        else:
            parts.append(text)
    rows = "".join(f'<TR><TD ALIGN="LEFT">{part}</TD></TR>' for part in parts)
    return (
        f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0" HEIGHT="{high - 16:.0f}">{rows}'
        f'<TR><TD FIXEDSIZE="FALSE"></TD></TR></TABLE>'
    )


def _edge(tail: str, head: str, corners: Sequence[tuple[float, float]], kind: str, label: str = "") -> str:
    """Write an edge that goes straight from corner to corner, its head at the last."""
    (x0, y0), (x1, y1) = corners[-2:]
    length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-6)
    stop = (x1 - (x1 - x0) / length * _HEAD, y1 - (y1 - y0) / length * _HEAD)
    points = [*corners[:-1], stop]
    spline = [points[0]]
    for (ax, ay), (bx, by) in itertools.pairwise(points):
        spline += [(ax + (bx - ax) / 3, ay + (by - ay) / 3), (ax + (bx - ax) / 1.5, ay + (by - ay) / 1.5), (bx, by)]
    route = f"e,{x1:.1f},{y1:.1f} " + " ".join(f"{x:.1f},{y:.1f}" for x, y in spline)
    more = ' style=bold color="#d55e00"' if "changed" in kind else ' style=dashed color="#0072b2"' if label else ""
    if label:  # above the longest part, which is the one before the last
        (ax, ay), (bx, by) = corners[-3:-1]
        more += f' fontsize={_LINE_SIZE:g} label={quote(html(label))} lp="{(ax + bx) / 2:.1f},{(ay + by) / 2 + 8:.1f}"'
    return f'{_identifier(tail)} -> {_identifier(head)} [class="{kind}" pos="{route}"{more}]'


def _caption(name: str, lines: Sequence[str], top: float, left: float = 0.0) -> str:
    wide = max(points(Line(line)) for line in lines)
    high = _LEAD * len(lines)
    rows = "".join(f'<TR><TD ALIGN="LEFT">{html(line)}</TD></TR>' for line in lines)
    table = f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0" WIDTH="{wide:.0f}">{rows}</TABLE>'
    return (
        f'{_identifier(name)} [class="caption" shape=plain style="" fontcolor="#767676" '
        f'pos="{left + wide / 2:.1f},{top - high / 2:.1f}" width={wide / 72:.3f} height={high / 72:.3f} '
        f"label=<{table}>]"
    )


def quote(text: str) -> str:
    """Write a text between quotation marks."""
    return '"' + text.replace("\n", "\\n").replace('"', '\\"') + '"'


def _identifier(name: str) -> str:
    r"""Write a node's name; DOT knows no escape but ``\"``, and Graphviz writes ``&`` into SVG as it stands."""
    text = name.replace("&", "&amp;")
    return '"' + re.sub(r'(\\*)("|\Z)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), text) + '"'


def html(text: str) -> str:
    r"""Escape for a label of Graphviz; a backslash too, for ``\N`` and ``\G`` stand for names in labels of any kind."""
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("\\", "\\\\")):
        text = text.replace(char, entity)
    return text


def points(line: Line) -> float:
    """Estimate the width of a line in points, for the widest of the fonts that may be there."""
    size = _NAME_SIZE if line.role == "name" else _LINE_SIZE
    bold = 1.17 if line.role in {"name", "status", "mark", "active"} else 1.0
    return size * bold * sum(_em(char) for char in line.text)


def _em(char: str) -> float:
    if char in "iIjl.,:;'|! ":
        return 0.36
    if char in "ft-()[]{}/r":
        return 0.44
    if char in "mwMW@%…":
        return 0.98
    if char.isascii():
        return 0.70 if char.isupper() else 0.62
    if unicodedata.category(char) in {"Mn", "Cf"}:
        return 0.0
    return 1.25 if unicodedata.east_asian_width(char) in "WF" else 0.75
