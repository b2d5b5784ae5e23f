"""What changed in files as a picture with places: the layers at the left, the tree with a sign for each file beside it.

Of a folder with many changes the first ones are drawn, and the others are counted. In a narrow column the layers are
above the tree.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vmsnap_nb.model.files import Change, FileChange, FileChanges
from vmsnap_nb.views.box_lines import fill_of, sizes_line
from vmsnap_nb.views.content import CHIP_SIZE, NAME_SIZE, PAD, arrange, text_width
from vmsnap_nb.views.disk_layers import LayerRow, fold_text, layer_rows
from vmsnap_nb.views.figure import Box, Line, Tone, fold_name
from vmsnap_nb.views.file_rows import Row, change_mark, changes_heading, row_of, tree_rows
from vmsnap_nb.views.note_lines import note_lines
from vmsnap_nb.views.placed import Placed, Point, Route
from vmsnap_nb.views.shown_text import clip, isolate, shown
from vmsnap_nb.words.message import counted, t

__all__ = ["ChangesPicture", "Chip", "Rung", "place_changes"]

_WIDE, _NARROW_WIDE = 680.0, 440.0
_ROW, _INDENT, _MOST_INDENT, _SIGN, _BAR = 21.0, 18.0, 126.0, 15.0, 60.0
_MARGIN, _GAP = 12.0, 10.0
_BOX, _BOX_GAP, _BESIDE = 132.0, 20.0, 24.0
"""Pixels inside the box of a layer, between two of them, and between the layers and the tree."""
_ACROSS = 3
"""Layers side by side in a narrow picture."""
_LANE = 9.0  # from the left edge of the boxes to an arrow that passes some
_LEAD, _COLUMN = 16.0, 6.9  # pixels from line to line of the notes, and of a character in them
_IN_FOLDER, _IN_ALL = 6, 40
"""Rows of changed files that are drawn of one folder, and of all."""
_TONES: dict[Change, Tone] = {
    "added": "good",
    "changed": "warn",
    "removed": "bad",
    "renamed": "accent",
    "metadata": "plain",
}


@dataclass(frozen=True, slots=True)
class Chip:
    """How many changes of one kind there are, with the upper left corner of its place."""

    change: Change
    text: str
    left: float
    top: float
    wide: float
    tone: Tone


@dataclass(frozen=True, slots=True)
class Rung:
    """One row of the tree: a folder, a change, or how many changes are not drawn."""

    kind: str
    name: str
    said: str  # at the right end
    left: float
    top: float
    sign: str = ""
    tone: Tone = "plain"
    title: str = ""
    bar: float = 0.0  # how long it is

    @property
    def name_at(self) -> float:
        """Where its name begins."""
        return self.left + (_SIGN + 7.0 if self.sign else 0.0)


@dataclass
class ChangesPicture:
    """The whole picture; in pixels, y downwards."""

    summary: str
    wide: float
    high: float = 0.0
    heading: list[tuple[str, float]] = field(default_factory=list)  # lines, each with its base
    chips: list[Chip] = field(default_factory=list)
    boxes: list[Placed] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    rungs: list[Rung] = field(default_factory=list)
    notes: list[tuple[str, float]] = field(default_factory=list)  # lines below it all

    left = _MARGIN

    @property
    def bar_end(self) -> float:
        """Where the bars end."""
        return self.wide - _MARGIN

    @property
    def said_end(self) -> float:
        """Where the texts at the right end."""
        return self.bar_end - _BAR - _GAP


@dataclass(frozen=True, slots=True)
class _More:
    """Changes that are not drawn one by one."""

    folder: str
    changes: tuple[FileChange, ...]


def place_changes(changes: FileChanges, *, narrow: bool = False) -> ChangesPicture:
    """Place all that the picture shows, which may be for a narrow column."""
    picture = ChangesPicture(changes_heading(changes), _NARROW_WIDE if narrow else _WIDE)
    y = _MARGIN
    for line in _lines(picture.summary, picture.wide - 2 * _MARGIN):
        y += 18.0
        picture.heading.append((line, y - 4.0))
    y = _place_legend(picture, changes, y + 6.0)
    left, floor = _MARGIN, y
    rows = layer_rows(changes)
    if rows and narrow:
        floor = y = _place_layers(picture, rows, y, across=True) + _GAP
    elif rows:
        floor = _place_layers(picture, rows, y, across=False)
        left = max(at.right for at in picture.boxes) + _BESIDE
    largest = max((_moved(change) for change in changes), default=0)
    for item in _drawn(changes):
        picture.rungs.append(_rung(item, picture, left, y, largest))
        y += _ROW
    y = _place_notes(picture, changes, max(y, floor))
    picture.high = y + _MARGIN - 4.0
    return picture


def _place_notes(picture: ChangesPicture, changes: FileChanges, y: float) -> float:
    """Place what is to be noted below it all; return where that ends."""
    columns = int((picture.wide - 2 * _MARGIN) / _COLUMN)
    for line in note_lines(changes.notes, columns):
        y += _LEAD if picture.notes else _LEAD + _GAP
        picture.notes.append((line, y))
    return y + (6.0 if picture.notes else 0.0)


# -- layers ------------------------------------------------------------------------------------------------------


def _place_layers(picture: ChangesPicture, rows: Sequence[LayerRow], y: float, *, across: bool) -> float:
    """Place the layers, the newest at the top, or from the base on from left to right; return where they end."""
    passes = any(row.below is not None and row.below != place + 1 for place, row in enumerate(rows))
    left = _MARGIN + (2 * _LANE if passes and not across else 0.0)
    if across:
        return _place_across(picture, rows, y)
    for place, row in enumerate(rows):
        box = _box(row)
        items, high = arrange(box, _BOX)
        picture.boxes.append(Placed(box, (0, place), left=left, top=y, wide=_BOX + 2 * PAD, high=high, items=items))
        y += high + _BOX_GAP
    for place, row in enumerate(rows):
        if row.below is not None:
            corners = _down(picture.boxes[place], picture.boxes[row.below], passes=row.below != place + 1)
            picture.routes.append(Route((0, place), (0, row.below), "", corners))
    return y - _BOX_GAP + (5.0 if rows[-1].folded else 0.0)


def _place_across(picture: ChangesPicture, rows: Sequence[LayerRow], y: float) -> float:
    """Place the layers in a narrow picture, as many side by side as have room."""
    wide = (picture.wide - 2 * _MARGIN - (_ACROSS - 1) * _BOX_GAP) / _ACROSS
    ordered = list(reversed(list(enumerate(rows))))
    above: dict[int, Placed] = {}
    for start in range(0, len(ordered), _ACROSS):
        line = ordered[start : start + _ACROSS]
        boxes = [_box(row) for _, row in line]
        arranged = [arrange(box, wide - 2 * PAD) for box in boxes]
        high, beside = max(high for _, high in arranged), dict[int, Placed]()
        for number, ((place, row), box, (items, _)) in enumerate(zip(line, boxes, arranged, strict=True)):
            x = _MARGIN + number * (wide + _BOX_GAP)
            beside[place] = at = Placed(box, (0, place), left=x, top=y, wide=wide, high=high, items=items)
            if row.below is None or (head := {**above, **beside}.get(row.below)) is None:
                continue
            if row.below == place + 1 and head.top == y:
                picture.routes.append(Route(at.key, head.key, "", ((at.left, at.middle), (head.right, head.middle))))
            else:
                picture.routes.append(Route(at.key, head.key, "", _over(at, head)))
        picture.boxes += beside.values()
        above, y = beside, y + high + _BOX_GAP
    return y - _BOX_GAP / 2


def _over(tail: Placed, head: Placed) -> tuple[Point, ...]:
    """Return the corners of an arrow above its layer, to one in the line above, or past others in its own line."""
    same = tail.top == head.top
    lane = tail.top - _BOX_GAP / (4 if same else 2)
    return (
        (tail.across, tail.top),
        (tail.across, lane),
        (head.across, lane),
        (head.across, head.top if same else head.bottom),
    )


def _down(tail: Placed, head: Placed, *, passes: bool) -> tuple[Point, ...]:
    """Return the corners of an arrow to the layer below: past others it goes at their left."""
    if not passes:
        return (tail.across, tail.bottom), (head.across, head.top)
    lane = tail.left - _LANE
    return (tail.left, tail.middle), (lane, tail.middle), (lane, head.middle), (head.left, head.middle)


def _box(row: LayerRow) -> Box:
    """Return the box of a layer, or of several."""
    layer, more = row.layers[-1], list[Line]()
    more += [Line(moment, "mark", tone="accent") for moment in row.moments]
    if row.changes:
        more.append(Line(counted("{count} change", "{count} changes", row.changes), tone="warn"))
    if row.folded:
        names = "\n".join(shown(one.path) for one in row.layers)
        return Box(fold_text(row), (fold_name(fold_text(row)), *more), names, "fold")
    size = sizes_line(layer.virtual_size, layer.allocated)
    lines = (Line(isolate(clip(shown(layer.name))), "name"), *([size] if size else []), *more)
    fill = fill_of(layer.virtual_size, layer.allocated)
    return Box(layer.path, lines, shown(layer.path), active=row.marked, path=layer.path, fill=fill)


# -- the tree ----------------------------------------------------------------------------------------------------


def _place_legend(picture: ChangesPicture, changes: FileChanges, y: float) -> float:
    """Place a chip for each kind of change with their number; return where the rows begin."""
    counts = Counter(change.change for change in changes)
    x = _MARGIN
    for change, tone in _TONES.items():
        if not counts[change]:
            continue
        sign, meaning = _sign(change)
        text = f"{sign} {counts[change]} {meaning}"
        room = text_width(text, CHIP_SIZE) + 14.0
        if x > _MARGIN and x + room > picture.wide - _MARGIN:
            x, y = _MARGIN, y + 22.0
        picture.chips.append(Chip(change=change, text=text, left=x, top=y, wide=room, tone=tone))
        x += room + 6.0
    return y + (26.0 if picture.chips else 0.0)


def _drawn(changes: FileChanges) -> Iterator[Row[FileChange | _More]]:
    """Yield the rows that are drawn; more than a folder or the picture has room for are counted in one."""
    sizes = Counter(posixpath.dirname(change.path) for change in changes)
    seen: Counter[str] = Counter()
    kept: list[FileChange | _More] = []
    places: dict[str, int] = {}
    rest: list[FileChange] = []
    for change in changes:
        folder = posixpath.dirname(change.path)
        seen[folder] += 1
        if len(kept) >= _IN_ALL and folder not in places:
            rest.append(change)
        elif sizes[folder] <= _IN_FOLDER + 1 or seen[folder] <= _IN_FOLDER:
            kept.append(change)
        elif folder in places:
            before = kept[places[folder]]
            assert isinstance(before, _More)
            kept[places[folder]] = _More(folder, (*before.changes, change))
        else:
            places[folder] = len(kept)
            kept.append(_More(folder, (change,)))
    yield from tree_rows(_row_of(item) for item in kept)
    if rest:
        yield from tree_rows([_row_of(_More("", tuple(rest)))])


def _row_of(item: FileChange | _More) -> Row[FileChange | _More]:
    if isinstance(item, FileChange):
        return row_of(item)
    counts = Counter(change.change for change in item.changes)
    said = ", ".join(f"{_sign(change)[0]} {counts[change]}" for change in _TONES if counts[change])
    name = counted("… {count} more change", "… {count} more changes", len(item.changes))
    return Row(posixpath.join(item.folder, name), False, item, said)


def _rung(row: Row[FileChange | _More], picture: ChangesPicture, left: float, y: float, largest: int) -> Rung:
    item, x = row.item, left + min(_INDENT * row.depth, _MOST_INDENT)
    said = row.said if text_width(row.said) < (picture.wide - left) / 2 else ""
    name_at = x + (_SIGN + 7.0 if isinstance(item, FileChange) else 0.0)
    room = picture.said_end - name_at - (text_width(said) + _GAP if said else 0.0)
    name = _clipped(row.name, room)
    if not isinstance(item, FileChange):
        return Rung("more" if isinstance(item, _More) else "folder", name, said, left=x, top=y)
    sign, meaning = _sign(item.change)
    title = t("{name}: {value}", name=shown(item.path), value=meaning)
    bar = max(_BAR * _moved(item) / largest, 2.0) if largest and _moved(item) else 0.0
    return Rung(
        item.change,
        name,
        said,
        left=x,
        top=y,
        sign=sign,
        tone=_TONES[item.change],
        title=title,
        bar=bar,
    )


def _sign(change: Change) -> tuple[str, str]:
    """Return the sign of a change, and what it means; a picture can show a real minus and a real arrow."""
    sign, meaning = change_mark(change)
    return {"-": "−", ">": "→"}.get(sign, sign), meaning


def _moved(change: FileChange) -> int:
    """Return how many bytes a file has more or fewer, or for the same size all of them."""
    before, after = (
        0 if entry is None or entry.kind != "file" else entry.size for entry in (change.before, change.after)
    )
    if change.change in {"renamed", "metadata"}:
        return 0
    return abs(after - before) or after


def _clipped(text: str, room: float) -> str:
    """Cut the middle out of a name that is too long; its end says what a file is."""
    if text_width(text) <= room:
        return text
    tail = max(len(text) // 3, 1)
    for head in range(len(text) - tail, 0, -1):
        cut = f"{text[:head]}…{text[-min(tail, head) :]}"
        if text_width(cut) <= room:
            return isolate(cut)
    return "…"


def _lines(text: str, room: float) -> Sequence[str]:
    """Break a heading between words."""
    lines = [""]
    for word in text.split(" "):
        more = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(more, NAME_SIZE, bold=True) > room:
            lines.append(word)
        else:
            lines[-1] = more
    return lines
