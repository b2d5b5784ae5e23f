"""What a picture shows within a box, and how much room it takes: name, status, one line of sizes with a bar, chips."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from vmsnap_nb.views.figure import Box, Fate, Line, Tone
from vmsnap_nb.views.looks import look_of
from vmsnap_nb.views.shown_text import NOT_FIRST, NOT_LAST

__all__ = [
    "CHIP_SIZE",
    "LINE_SIZE",
    "MOST_WIDE",
    "NAME_SIZE",
    "NARROW_PAD",
    "NARROW_WIDE",
    "PAD",
    "TIGHT_WIDE",
    "Item",
    "arrange",
    "narrow_width",
    "natural_width",
    "picture_text",
    "text_width",
    "tight_width",
]

Kind = Literal["name", "status", "size", "bar", "line", "chip"]

NAME_SIZE, LINE_SIZE, CHIP_SIZE = 14.0, 12.0, 11.0  # pixels
PAD, NARROW_PAD = 12.0, 8.0
"""Pixels between the edge of a box and what is in it, and the same in a narrow column."""
MOST_WIDE, _FOLD_WIDE, _LEAST_WIDE = 136.0, 100.0, 84.0
"""Pixels inside a box. Five of the widest boxes fit, at 70 %, into a cell of JupyterLab on a page of 800 px."""
NARROW_WIDE = 84.0
"""The same in a narrow column: five of the widest fit, at 70 %, into a tab of a page of 600 px."""
_WORD_WIDE = 112.0
"""Pixels inside a box of a narrow column of which a name has a long word: then four fit."""
TIGHT_WIDE, _TIGHT_FOLD = 70.0, 52.0
"""The same where a plan needs six boxes side by side, of which two are folds."""
_LEADS = {"name": 18.0, "status": 15.0, "size": 16.0, "line": 15.0}
_BAR, _CHIP, _CHIP_GAP, _CHIP_PAD = 6.0, 18.0, 4.0, 6.0
_SHORT = 2  # characters after a sign that stay with what is before it
_BREAKS = set("-._/:, ，、：；")
_BRACKETS = {"(": ")", "（": "）"}


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in a box, with its place relative to the box's upper left corner."""

    kind: Kind
    texts: tuple[str, ...]  # one for each line; together the whole text
    left: float
    top: float
    wide: float
    high: float
    tone: Tone = "plain"
    fill: float = 0.0  # of a bar
    grown: float = 0.0  # to where a plan fills it
    role: str = "detail"
    fate: Fate = ""


def picture_text(line: Line) -> str:
    """Return what a picture says for a line; a chip needs no brackets."""
    if line.picture is not None:
        return line.picture
    text = line.text
    if line.role != "name" and text and _BRACKETS.get(text[0]) == text[-1]:
        return text[1:-1]
    return text


def natural_width(box: Box) -> float:
    """Return how wide the inside of a box would like to be."""
    wide = _LEAST_WIDE
    sign = _sign(box)
    for line in box.lines:
        text = picture_text(line)
        if text:
            size, bold, more = _face(_kind(line))
            wide = max(wide, text_width(text, size, bold=bold) + more + sign)
    return min(wide, MOST_WIDE if box.shape != "fold" else _FOLD_WIDE)


def tight_width(box: Box, most: float) -> float:
    """Return how wide the inside of a box is in a narrow column in which no box has more than this."""
    return min(narrow_width(box), most if most > TIGHT_WIDE or box.shape != "fold" else _TIGHT_FOLD)


def narrow_width(box: Box) -> float:
    """Return how wide the inside of a box is in a narrow column: longer words of its name are not broken there."""
    names = (picture_text(line) for line in box.lines if line.role == "name")
    words = (text_width(word, NAME_SIZE, bold=True) for name in names for word in _words(name))
    least = max(words, default=0.0) + _sign(box)
    return min(natural_width(box), max(NARROW_WIDE, min(least, _WORD_WIDE)))


def _words(text: str) -> Iterator[str]:
    """Yield the parts of a text between which a line may end."""
    word = ""
    for place, char in enumerate(text):
        word += char
        if _may_end(text, place) and not _is_short(text[place + 1 :]):
            yield word
            word = ""
    yield word


def _sign(box: Box) -> float:
    """Return the room that a sign in the corner takes beside the name."""
    return 10.0 if look_of(box).extra in {"cross", "corner"} else 0.0


def arrange(box: Box, wide: float, pad: float = PAD) -> tuple[tuple[Item, ...], float]:
    """Return what is in a box whose inside is so wide, and the height of the box; `pad` is between edge and content."""
    items: list[Item] = []
    y = PAD - 2.0
    for line in sorted(box.lines, key=_order):
        text, kind = picture_text(line), _kind(line)
        if not text or kind == "chip":
            continue
        size, bold, _ = _face(kind)
        texts = tuple(_wrapped(text, wide - (_sign(box) if kind == "name" else 0.0), size, bold))
        high = _LEADS[kind] * len(texts)
        items.append(
            Item(kind, texts, left=pad, top=y, wide=wide, high=high, tone=line.tone, role=line.role, fate=line.fate)
        )
        y += high
        if kind == "size" and box.fill is not None:
            bar = Item("bar", (), left=pad, top=y + 3.0, wide=wide, high=_BAR, fill=box.fill, grown=box.grown)
            items.append(bar)
            y += _BAR + 5.0
    chips, y = _chips(box, wide, y, pad)
    return (*items, *chips), y + PAD - 2.0


def _chips(box: Box, wide: float, y: float, pad: float) -> tuple[list[Item], float]:
    """Return the chips in rows from a height on, and where they end; what is too long for a chip becomes a line."""
    items: list[Item] = []
    x, row = 0.0, 0.0
    y += 4.0
    for line in sorted(box.lines, key=_order):
        text = picture_text(line)
        if not text or _kind(line) != "chip":
            continue
        room = min(text_width(text, CHIP_SIZE) + 2 * _CHIP_PAD, wide)
        texts = tuple(_wrapped(text, wide - 2 * _CHIP_PAD, CHIP_SIZE, bold=False))
        high = _CHIP + 13.0 * (len(texts) - 1)
        if x and x + room > wide:
            x, y, row = 0.0, y + row + _CHIP_GAP, 0.0
        items.append(
            Item(
                "chip", texts, left=pad + x, top=y, wide=room, high=high, tone=line.tone, role=line.role, fate=line.fate
            )
        )
        x, row = x + room + _CHIP_GAP, max(row, high)
    return items, y + row if items else y - 4.0


def _kind(line: Line) -> Kind:
    if line.role == "name":
        return "name"
    if line.role == "status":
        return "status"
    return "size" if line.role == "size" else "chip"


def _order(line: Line) -> int:
    """What a plan does comes first, then what a guest does; otherwise as given."""
    return {"name": 0, "status": 1, "size": 2, "mark": 3, "active": 4}.get(line.role, 5)


def _face(kind: Kind) -> tuple[float, bool, float]:
    """Return size, weight and what is beside the text."""
    if kind == "name":
        return NAME_SIZE, True, 0.0
    if kind == "chip":
        return CHIP_SIZE, False, 2 * _CHIP_PAD
    return LINE_SIZE, kind == "status", 0.0


def _wrapped(text: str, wide: float, size: float, bold: bool) -> Iterator[str]:
    """Break a text into lines after signs that separate, or anywhere; together they are the text."""
    line = ""
    for place, char in enumerate(text):
        if line and text_width(line + char, size, bold=bold) > wide and not _joined(line[-1], char):
            cut = _best_end(line, text[place:])
            if cut <= len(line) // 3:  # a short line is better than a broken word, if that fits into the next one
                word = line[cut:] + char
                for more in text[place + 1 :]:
                    if word[-1] in _BREAKS or text_width(word, size, bold=bold) > wide:
                        break
                    word += more
                cut = cut if cut and text_width(word, size, bold=bold) <= wide else len(line)
            cut = _beside_signs(line, char, cut)
            yield line[:cut]
            line = line[cut:]
        line += char
    yield line


def _beside_signs(line: str, char: str, cut: int) -> int:
    """Return where a line ends instead: a closing sign stays with what is before it, an opening one with what follows.

    Where that would leave nothing, it ends as it was.
    """
    end = cut
    while end > 1 and ((line + char)[end] in NOT_FIRST or line[end - 1] in NOT_LAST):
        end -= 1
    return cut if (line + char)[end] in NOT_FIRST else end


def _best_end(line: str, rest: str) -> int:
    """Return where a line ends best that is too long: after a sign, but not before a short end as of Overlay-2."""
    ends = [n + 1 for n in range(len(line)) if _may_end(line + rest[:1], n)]
    after_sign = [end for end in ends if line[end - 1] in _BREAKS or (line + rest)[end] == "（"]
    best = [end for end in after_sign if not _is_short((line + rest)[end:])]
    return max(best or after_sign or ends, default=0)


def _is_short(text: str) -> bool:
    """Return whether a text begins with a word of one or two characters."""
    return any(char in _BREAKS for char in text[1 : _SHORT + 1]) or len(text) <= _SHORT


def _may_end(text: str, place: int) -> bool:
    """Return whether a line may end after the character at a place: not within a number, nor before its unit.

    In a word it may end before a capital letter.
    """
    char, after = text[place], text[place + 1 : place + 2]
    if char not in _BREAKS:
        return (char.islower() and after.isupper()) or after == "（"
    if char == "/" and text[max(place - 1, 0) : place] in {"", " "}:  # a path begins
        return False
    if not text[place - 1 : place].isdigit():
        return True
    return not (after.isalpha() if char == " " else after.isdigit() and char in ".,:")


def _joined(before: str, char: str) -> bool:
    """Return whether a line may not end between two characters: within an emoji or a letter with its marks."""
    return before == "\u200d" or char in "\u200d\u2069" or unicodedata.category(char)[0] == "M" or before == "\u2068"


def text_width(text: str, size: float = LINE_SIZE, *, bold: bool = False) -> float:
    """Estimate the width of a text for the widest of the fonts that may be there."""
    return size * (1.14 if bold else 1.0) * sum(map(_em, text))


@lru_cache(4096)
def _em(char: str) -> float:
    if char in "iIjl.,:;'|! ":
        return 0.34
    if char in "ft-()[]{}/r":
        return 0.42
    if char in "mwMW@%…":
        return 0.95
    if char.isascii():
        return 0.70 if char.isupper() else 0.62
    if unicodedata.category(char) in {"Mn", "Cf"}:
        return 0.0
    return 1.1 if unicodedata.east_asian_width(char) in "WF" else 0.75
