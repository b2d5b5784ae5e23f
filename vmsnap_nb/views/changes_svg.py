"""What changed in files as a picture: a tree of folders with a sign, a size and a bar for each file.

Of a folder with many changes the first ones are drawn, and the others are counted.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from vmsnap_nb.model.files import Change, FileChange, FileChanges
from vmsnap_nb.views.content import CHIP_SIZE, LINE_SIZE, NAME_SIZE, text_width
from vmsnap_nb.views.figure import Tone
from vmsnap_nb.views.file_rows import Row, change_mark, changes_heading, row_of, tree_rows
from vmsnap_nb.views.looks import GREY, INK, PAPER, TONES
from vmsnap_nb.views.svg import classes, root_of, safe, scope_of, tag, theme_style
from vmsnap_nb.views.words import isolate, shown
from vmsnap_nb.words.message import counted, t

__all__ = ["changes_svg"]

_WIDE, _NARROW_WIDE = 680.0, 440.0
_ROW, _INDENT, _MOST_INDENT, _SIGN, _BAR = 21.0, 18.0, 126.0, 15.0, 60.0
_MARGIN, _GAP = 12.0, 10.0
_IN_FOLDER, _IN_ALL = 6, 40
"""Rows of changed files that are drawn of one folder, and of all."""
_TONES: dict[Change, Tone] = {
    "added": "good",
    "changed": "warn",
    "removed": "bad",
    "renamed": "accent",
    "metadata": "plain",
}
_RULES = """
{0} text {{ fill: {ink}; }}
{0} .faint {{ fill-opacity: .75; }}
{0} .paper {{ fill: {paper}; }}
"""


@dataclass(frozen=True, slots=True)
class _More:
    """Changes that are not drawn one by one."""

    folder: str
    changes: tuple[FileChange, ...]


def changes_svg(changes: FileChanges, *, narrow: bool = False) -> str:
    """Draw them as an ``<svg>`` element, which may be for a narrow column."""
    wide = _NARROW_WIDE if narrow else _WIDE
    parts: list[str] = []
    y = _MARGIN
    for line in _lines(changes_heading(changes), wide - 2 * _MARGIN):
        y += 18.0
        face = {"x": _MARGIN, "y": y - 4.0, "font-size": NAME_SIZE, "font-weight": 600, "fill": INK.light}
        parts.append(tag("text", face, safe(line)))
    chips, y = _legend(changes, wide, y + 6.0)
    parts += chips
    largest = max((_moved(change) for change in changes), default=0)
    for item in _drawn(changes):
        parts.append(_row(item, wide, y, largest))
        y += _ROW
    y += _MARGIN - 4.0
    frame = {"x": 0.5, "y": 0.5, "width": wide - 1, "height": y - 1, "rx": 10.0, "class": "paper"}
    edge = tag("rect", {**frame, "fill": PAPER.light, "stroke": GREY, "stroke-opacity": 0.6})
    drawn = "\n".join([edge, *parts])
    scope = scope_of(drawn)
    root = root_of(scope, changes_heading(changes), wide, y)
    return tag("svg", root, tag("style", {}, theme_style(scope, _RULES)), "\n", drawn, "\n")


def _legend(changes: Iterable[FileChange], wide: float, y: float) -> tuple[list[str], float]:
    """Return a chip for each kind of change with their number, and where the rows begin."""
    counts = Counter(change.change for change in changes)
    parts, x = [], _MARGIN
    for change, tone in _TONES.items():
        if not counts[change]:
            continue
        sign, meaning = _sign(change)
        text = f"{sign} {counts[change]} {meaning}"
        room = text_width(text, CHIP_SIZE) + 14.0
        if x > _MARGIN and x + room > wide - _MARGIN:
            x, y = _MARGIN, y + 22.0
        look = {"fill": TONES[tone], "fill-opacity": 0.18, "stroke": TONES[tone], "stroke-opacity": 0.6}
        box = tag("rect", {"x": x, "y": y, "width": room, "height": 18.0, "rx": 5.0, **look})
        words = tag("text", {"x": x + 7.0, "y": y + 12.8, "font-size": CHIP_SIZE, "fill": INK.light}, safe(text))
        parts.append(tag("g", {"class": classes("chip", change)}, box, words))
        x += room + 6.0
    return parts, y + (26.0 if parts else 0.0)


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


def _row(row: Row[FileChange | _More], wide: float, y: float, largest: int) -> str:
    item, x = row.item, _MARGIN + min(_INDENT * row.depth, _MOST_INDENT)
    right, base, parts = wide - _MARGIN, y + 14.5, []
    face = {"y": base, "font-size": LINE_SIZE, "fill": INK.light}
    if isinstance(item, FileChange):
        sign, meaning = _sign(item.change)
        colour = TONES[_TONES[item.change]]
        parts.append(tag("title", {}, safe(t("{name}: {value}", name=shown(item.path), value=meaning))))
        parts.append(
            tag("rect", {"x": x, "y": y + 3, "width": 15, "height": 15, "rx": 4, "fill": colour, "fill-opacity": 0.22})
        )
        mark = {**face, "x": x + 7.5, "text-anchor": "middle", "font-weight": 700}
        parts.append(tag("text", mark, safe(sign)))
        part = max(_BAR * _moved(item) / largest, 2.0) if largest and _moved(item) else 0.0
        bar = {"x": right - part, "y": y + 8, "width": part, "height": 6, "rx": min(3.0, part / 2), "fill": colour}
        parts += [tag("rect", bar)] if part else []
        x += _SIGN + 7.0
    faint = None if isinstance(item, FileChange) else "faint"
    said = row.said if text_width(row.said) < wide / 2 else ""
    room = right - _BAR - _GAP - x - (text_width(said) + _GAP if said else 0.0)
    parts.append(tag("text", {**face, "x": x, "class": faint}, safe(_clipped(row.name, room))))
    if said:
        end = {**face, "x": right - _BAR - _GAP, "text-anchor": "end", "class": "faint"}
        parts.append(tag("text", end, safe(said)))
    kind = "more" if isinstance(item, _More) else item.change if isinstance(item, FileChange) else "folder"
    return tag("g", {"class": classes("row", kind)}, *parts)


def _sign(change: Change) -> tuple[str, str]:
    """Return the sign of a change, and what it means; a picture can show a real minus."""
    sign, meaning = change_mark(change)
    return {"-": "−"}.get(sign, sign), meaning


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
