"""Figures as ASCII art, in the manner of the handout: base at the left, each overlay's arrow on its backing file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from vmsnap_nb.model.shown import Shown
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.report import Report
from vmsnap_nb.plans.step import Step
from vmsnap_nb.views.channel import draw_channel, least_width, sides
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import NEW_EDGE, Block, Box, Figure, Move, Options, Shape
from vmsnap_nb.views.labels import state_text
from vmsnap_nb.views.shown_text import LONG_COMMAND, capital, human_size, shown, width, wrap
from vmsnap_nb.words.message import Message, counted, t

__all__ = ["figure_text", "steps_of", "text_options", "to_text"]

# Corners above and below, horizontal, vertical: the shape says at a glance what a line of the box says in words.
_BORDERS: Mapping[Shape, tuple[str, str, str, str]] = {
    "image": (".", "'", "-", "|"),
    "new": ("+", "+", "=", "|"),
    "gone": ("x", "x", "x", "x"),
    "fold": (".", ":", ".", ":"),
    "broken": ("!", "!", "!", "!"),
    "unopened": ("?", "?", "?", "?"),
    "loop": ("@", "@", "@", "@"),
    "in-use": ("#", "#", "#", "#"),
    "guest": ("o", "o", "-", "|"),
    "snapshot": (".", "'", "-", "|"),
    "memory": ("(", "(", "~", "|"),
}
_WIDE = 100  # columns of sentences below a figure
_GAP = 4  # columns between two boxes, filled by "<---"
_ROW_GAP = 2  # lines between two rows, where arrows from below arrive
_NAME = 2  # the line of a box, from its top, on which its name and its arrow stand
_LEAST = 3  # lines inside a box
_MOST_STEPS = 24  # more steps than this are too many to read
_KEPT_STEPS = 5  # of those, at the beginning and at the end


def to_text(thing: Shown, **options: Any) -> str:
    """Return an object's figure, and what is to be read below it, as text; no line ends in white space."""
    return figure_text(figure_of(thing, text_options(**options)), steps_of(thing))


def text_options(**options: Any) -> Options:
    """Return the options of a text figure, which draws a plan in two rows."""
    given = Options.of(**options)
    return replace(given, style="rows") if given.style == "change" else given


def figure_text(figure: Figure, steps: Sequence[str] = (), *, columns: int = _WIDE) -> str:
    """Draw a figure as text, with lines on the steps of a plan; no line ends in white space.

    `columns` is how wide the sentences are.
    """
    parts: list[list[str]] = [[figure.heading]] if figure.heading else []
    if figure.refusals:
        parts.append(_items(figure.refusals, "! ", columns))
    shared = _column_widths(figure.blocks) if figure.aligned else None
    drawn = _drawn_moves(figure)
    if shared and drawn:
        least = least_width([move.label for move in drawn])
        shared = {column: max(wide, least) for column, wide in shared.items()}
    between = drawn[0].target[0] if drawn else None
    for number, block in enumerate(figure.blocks):
        lines = _block(block, shared or _column_widths([block]))
        if number == between and shared:
            parts[-1] += [*_channel(figure, drawn, shared), *lines]
            continue
        parts.append([block.caption, *lines] if block.caption else lines)
    names = {(b, n): box.lines[0].text for b, block in enumerate(figure.blocks) for n, box in enumerate(block.boxes)}
    if listed := [move for move in figure.moves if move not in drawn]:
        arrows = [(move.label, f"{names[move.source]} ---> {names[move.target]}") for move in listed]
        parts.append([t("{label}: {arrow}", label=label, arrow=arrow) for label, arrow in arrows])
    if figure.notes:
        sign, room = ("* ", "  ") if figure.blocks else ("", "")  # where nothing is drawn, it says why
        notes = figure.notes if figure.blocks else map(capital, figure.notes)
        parts.append([line for note in notes for line in wrap(note, columns, sign, room)])
    parts += ([section.heading, *_items(section.items, "  * ", columns)] for section in figure.sections)
    if steps:
        parts.append([t("Steps"), *steps])
    return "\n\n".join("\n".join(line.rstrip() for line in part) for part in parts)


def _items(items: Sequence[Sequence[str]], sign: str, columns: int) -> list[str]:
    """Return the lines of some items, each after a sign."""
    room = " " * len(sign)
    lines: list[str] = []
    for first, *rest in items:
        lines += wrap(first, columns, sign, room)
        lines += [line for text in rest for line in wrap(text, columns, room, room)]
    return lines


def _drawn_moves(figure: Figure) -> list[Move]:
    """Return the moves that can be drawn: from the lowest box of a column to the highest of one in the next block."""
    drawn: list[Move] = []
    for move in figure.moves:
        (above, source), (below, target) = move.source, move.target
        if not figure.aligned or below != above + 1:
            return []
        leaves, arrives = figure.blocks[above].boxes, figure.blocks[below].boxes
        low = all(box.row <= leaves[source].row for box in leaves)
        top = arrives[target].row == 0
        if low and top:
            drawn.append(move)
    return drawn if len({move.target[0] for move in drawn}) == 1 else []


def _channel(figure: Figure, moves: Sequence[Move], widths: Mapping[int, int]) -> list[str]:
    """Draw the moves between two blocks, with the caption of the lower one."""
    left = _left_edges(widths)

    def span(place: tuple[int, int]) -> tuple[int, int]:
        column = figure.blocks[place[0]].boxes[place[1]].column
        return left[column], widths[column]

    lines = draw_channel(sides([(span(move.source), span(move.target), move.label) for move in moves]))
    caption = figure.blocks[moves[0].target[0]].caption
    for number in (-2, -1):
        if not lines[number][: width(caption) + 1].strip():
            lines[number] = caption + lines[number][width(caption) :]
            return lines
    return [*lines[:-1], f"{lines[-1]}  {caption}".rstrip()]


# -- boxes and arrows ------------------------------------------------------------------------------------


class _Canvas:
    """Lines of text that are written piece by piece at a column; the pieces of a line must not overlap."""

    def __init__(self) -> None:
        self._lines: dict[int, list[tuple[int, str]]] = {}

    def put(self, x: int, y: int, text: str) -> None:
        self._lines.setdefault(y, []).append((x, text))

    def lines(self) -> list[str]:
        return [self._line(y) for y in range(max(self._lines, default=-1) + 1)]

    def _line(self, y: int) -> str:
        parts: list[str] = []
        end = 0
        for x, text in sorted(self._lines.get(y, ())):
            parts += [" " * (x - end), text]
            end = x + width(text)
        return "".join(parts)


def _column_widths(blocks: Sequence[Block]) -> dict[int, int]:
    widths: dict[int, int] = {}
    for block in blocks:
        for box in block.boxes:
            inner = max(width(line.text) for line in box.lines)
            least = 6 + 2 * max(box.trunks - 1, 0)  # so that all trunks fit under it
            widths[box.column] = max(widths.get(box.column, 0), inner + 4, least)
    return widths


def _left_edges(widths: Mapping[int, int]) -> dict[int, int]:
    left: dict[int, int] = {}
    x = 0
    for column in range(max(widths, default=-1) + 1):
        left[column] = x
        x += widths.get(column, 0) + _GAP
    return left


def _block(block: Block, widths: Mapping[int, int]) -> list[str]:
    if not block.boxes:
        return []
    left = _left_edges(widths)
    heights: dict[int, int] = {}
    for box in block.boxes:
        heights[box.row] = max(heights.get(box.row, _LEAST), 1 + len(box.lines))
    top: dict[int, int] = {}
    y = 0
    for row in sorted(heights):
        top[row] = y
        y += heights[row] + 2 + _ROW_GAP
    canvas = _Canvas()
    for box in block.boxes:
        _draw_box(canvas, box, left[box.column], top[box.row], widths[box.column], heights[box.row])
    edge = t(NEW_EDGE)
    reach: dict[tuple[int, int], int] = {}  # (x, first line) of a trunk -> the last line that it reaches
    for arrow in block.arrows:
        if arrow.beside:
            continue
        tail, head = block.boxes[arrow.tail], block.boxes[arrow.head]
        dash = "=" if arrow.changed else "-"
        end = left[tail.column]
        line = top[tail.row] + _NAME
        if arrow.trunk is None:
            start = left[head.column] + widths[head.column]
            canvas.put(start, line, "<" + dash * (end - start - 1))
            if arrow.changed and end - start >= width(edge) + 2:
                canvas.put(start + (end - start - width(edge)) // 2, line + 1, edge)
            continue
        room = widths[head.column] - 6
        step = min(5, room // max(head.trunks - 1, 1))
        x = left[head.column] + 3 + step * arrow.trunk
        first = top[head.row] + heights[head.row] + 2
        canvas.put(x + 1, line, dash * (end - x - 1))
        reach[x, first] = max(reach.get((x, first), 0), line)
    for (x, first), last in reach.items():
        canvas.put(x, first, "^")
        for y in range(first + 1, last):
            canvas.put(x, y, "|")
        canvas.put(x, last, "'")
    return canvas.lines()


def _draw_box(canvas: _Canvas, box: Box, x: int, y: int, wide: int, high: int) -> None:
    above, below, across, side = _BORDERS[box.shape]
    canvas.put(x, y, above + across * (wide - 2) + above)
    texts = ["", *(line.text for line in box.lines)]
    for number in range(high):
        text = texts[number] if number < len(texts) else ""
        canvas.put(x, y + 1 + number, f"{side} {text}{' ' * (wide - 3 - width(text))}{side}")
    canvas.put(x, y + high + 1, below + across * (wide - 2) + below)


# -- steps -----------------------------------------------------------------------------------------------


def steps_of(thing: Shown) -> list[str]:
    """Return the lines on the steps of a plan or of a report; none of anything else."""
    if isinstance(thing, Plan):
        return _folded(_planned(thing), frozenset())
    if isinstance(thing, Report):
        return _folded(_performed(thing), {place for place, done in enumerate(thing.steps) if done.state == "failed"})
    return []


def _planned(plan: Plan) -> list[list[str]]:
    parts: list[list[str]] = []
    place = 0
    for number, step in enumerate(plan.steps, 1):
        lines = [f"  {number}. {_said_of(step)}"]
        for command in plan.lines_of(step):
            lines += _command(command, place)
            place += 1
        parts.append(lines)
    return parts


def _said_of(step: Step) -> Message:
    if step.image:
        return t("{action}: {image}, {what}", action=t(step.action), image=shown(step.image), what=shown(step.what))
    return t("{action}: {what}", action=t(step.action), what=shown(step.what))


def _performed(report: Report) -> list[list[str]]:
    parts: list[list[str]] = []
    for number, done in enumerate(report.steps, 1):
        state, action = state_text(done.state), t(done.step.action)
        if done.step.image:
            said = t("{state}: {action} {image}", state=state, action=action, image=shown(done.step.image))
        else:
            said = t("{state}: {action}: {what}", state=state, action=action, what=shown(done.step.what))
        if done.seconds is not None:
            said = t("{done}, {seconds:.1f} s", done=said, seconds=done.seconds)
        if done.size:
            said = t("{done}, {size} copied", done=said, size=human_size(done.size))
        parts.append([f"  {number}. {said}"])
    return parts


def _folded(parts: Sequence[Sequence[str]], important: AbstractSet[int]) -> list[str]:
    """Return the lines of all steps; of more than can be read those of the first, the last and the important ones."""
    last = len(parts) - _KEPT_STEPS
    lines: list[str] = []
    hidden = 0
    for place, part in enumerate(parts):
        if len(parts) > _MOST_STEPS and _KEPT_STEPS <= place < last and place not in important:
            hidden += 1
            continue
        if hidden:
            lines.append(_hidden(hidden))
            hidden = 0
        lines += part
    return lines


def _hidden(count: int) -> str:
    said = counted("… {count} more step; to_frame() lists all", "… {count} more steps; to_frame() lists all", count)
    return f"  {said}"


def _command(command: str, place: int) -> list[str]:
    first, *rest = command.split("\n")
    if len(rest) >= LONG_COMMAND:
        more = t("… {count} more lines, all in commands[{place}]", count=len(rest), place=place)
        return [f"     $ {shown(first)}", f"       {more}"]
    return [f"     $ {shown(first)}", *(f"       {shown(line)}" for line in rest)]
