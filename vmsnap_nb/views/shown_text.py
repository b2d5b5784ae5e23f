"""Names, sizes and sentences as people read them: safe to show, clipped, wrapped and made distinct."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from wcwidth import wcswidth

from vmsnap_nb.model.size import human_size
from vmsnap_nb.words.language import language
from vmsnap_nb.words.message import Message, t
from vmsnap_nb.words.printable import JOINERS, printable

__all__ = [
    "LONG_COMMAND",
    "MOST",
    "NOT_FIRST",
    "NOT_LAST",
    "capital",
    "clip",
    "distinct_names",
    "human_size",
    "isolate",
    "natural",
    "shown",
    "sizes_text",
    "width",
    "wrap",
]

MOST = 32
"""Columns that a name may take in a figure."""

LONG_COMMAND = 4
"""From how many further lines on a command is folded: a domain's XML would bury the figure."""


def shown(text: str) -> str:
    r"""Make a text safe to show on one line, in the current language; see `printable`.

    Examples
    --------
    >>> print(shown("a\nb"), shown("\udcff"), shown("evil\u202egpj"))
    a\nb \xff evil\u202egpj
    """
    if isinstance(text, Message):
        text = text.in_language(language())  # it may be older than the choice of the language
    return printable(text, keep="")


def capital(sentence: str) -> str:
    """Return a sentence, safe to show, with a capital letter at its beginning, unless it begins with a name.

    Examples
    --------
    >>> print(capital(t("{guest} is running", guest="demo")), capital(t("the guest is running")), sep="; ")
    demo is running; The guest is running
    """
    text = shown(sentence)
    return text if _begins_with_name(sentence) else text[:1].upper() + text[1:]


def _begins_with_name(sentence: str) -> bool:
    if not isinstance(sentence, Message) or not sentence.template.startswith("{"):
        return False
    field = sentence.fields.get(re.split(r"\W", sentence.template[1:], maxsplit=1)[0])
    return not isinstance(field, Message) or _begins_with_name(field)


def width(text: str) -> int:
    """Return the number of columns that a text takes in a terminal; a Chinese character or an emoji takes two."""
    columns = wcswidth(text)
    return columns if columns >= 0 else len(text)


def wrap(text: str, columns: int, first: str = "", other: str = "") -> list[str]:
    """Break a sentence into lines of at most so many columns, between words or between Chinese characters.

    `first` and `other` begin the first line and those after it. A word that is longer than a line is not broken.

    Examples
    --------
    >>> wrap("the image is read", 12, "* ", "  "), wrap("镜像：只读。", 8)
    (['* the image', '  is read'], ['镜像：只', '读。'])
    """
    lines, used, filled = [first], width(first), False
    for gap, piece in _pieces(text):
        wide = width(piece)
        if filled and used + len(gap) + wide > columns:
            lines.append(other + piece)
            used = width(other) + wide
        else:
            lines[-1] += (gap if filled else "") + piece
            used += (len(gap) if filled else 0) + wide
        filled = True
    return lines


NOT_FIRST, NOT_LAST = "，。：；！？、）」』》】…%", "（「『《【"
"""Signs that stay with what is before them, or after them."""


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Yield what stays on one line, each piece after its gap."""
    for number, word in enumerate(text.split(" ")):
        gap = " " if number else ""
        piece = ""
        for char in word:
            wide = piece and (_is_wide(piece[-1]) or _is_wide(char))
            if wide and char not in NOT_FIRST and piece[-1] not in NOT_LAST and unicodedata.category(char)[0] in "LNPS":
                yield gap, piece
                gap, piece = "", ""
            piece += char
        yield gap, piece


def _is_wide(char: str) -> bool:
    """Return whether a character is Chinese, or its punctuation; emoji are no letters."""
    return unicodedata.east_asian_width(char) in {"W", "F"} and unicodedata.category(char)[0] in "LP"


def sizes_text(virtual: int | None, allocated: int | None) -> str:
    """Return the virtual size of an image and what it takes on disk; empty if neither is known."""
    if allocated is None:
        return "" if virtual is None else human_size(virtual)
    if virtual is None:
        return t("{size} on disk", size=human_size(allocated))
    return t("{virtual}, {allocated} on disk", virtual=human_size(virtual), allocated=human_size(allocated))


def clip(text: str, most: int = MOST) -> str:
    """Shorten a text in its middle until it takes no more than `most` columns.

    Examples
    --------
    >>> clip("Overlay-with-a-very-long-name", 12)
    'Overla…-name'
    """
    if width(text) <= most:
        return text
    head: list[str] = []
    tail: list[str] = []
    room = most - 1
    for char in text:
        if width("".join(head) + char) > (room + 1) // 2:
            break
        head.append(char)
    for char in reversed(text):
        if width(char + "".join(tail)) > room // 2:
            break
        tail.insert(0, char)
    while tail and (unicodedata.category(tail[0])[0] == "M" or tail[0] in JOINERS):
        del tail[0]
    while head and head[-1] in JOINERS:
        del head[-1]
    return "".join(head) + "…" + "".join(tail)


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """Return by what names are sorted: numbers in them count as numbers, so that night-2 comes before night-10.

    Examples
    --------
    >>> sorted(["night-10", "night-2", "Night"], key=natural)
    ['Night', 'night-2', 'night-10']
    """
    parts = re.findall(r"\d{1,30}|\D+", text.casefold())
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts)


def isolate(text: str) -> str:
    """Enclose a text that has right-to-left letters in U+2068 and U+2069, so that it leaves its neighbours in order."""
    if not text.isascii() and any(unicodedata.bidirectional(char) in {"R", "AL", "AN"} for char in text):
        return f"\u2068{text}\u2069"
    return text


def distinct_names(paths: Iterable[tuple[str, str]], most: int = MOST) -> dict[str, str]:
    """Return for each image, by path, a name to show that no other has, of at most `most` columns.

    Where two images have one short name, the file name with its suffix tells them apart, or else the shortest
    sufficient part of the folder.

    Examples
    --------
    >>> distinct_names([("/a/x/Disk.qcow2", "Disk"), ("/a/y/Disk.qcow2", "Disk"), ("/a/Base.img", "Base")])
    {'/a/x/Disk.qcow2': 'x/Disk.qcow2', '/a/y/Disk.qcow2': 'y/Disk.qcow2', '/a/Base.img': 'Base'}
    """
    names = {path: name if path.startswith("/") else path for path, name in paths}
    for group in _clashes(names):
        names.update(_tell_apart(group))
    short = {path: isolate(clip(shown(name), most)) for path, name in names.items()}
    for group in _clashes(short):  # their middles differed; a number makes them wider than any name that is not cut
        for number, path in enumerate(group, 1):
            short[path] = f"{short[path]} #{number}"
    return short


def _clashes(names: dict[str, str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for path, name in names.items():
        groups.setdefault(name, []).append(path)
    return [group for group in groups.values() if len(group) > 1]


def _tell_apart(paths: Sequence[str]) -> dict[str, str]:
    parts = {path: path.split("/") for path in paths}
    for depth in range(1, max(map(len, parts.values()))):
        names = {path: "/".join(parts[path][-depth:]) for path in paths}
        if len(set(names.values())) == len(paths):
            return names
    return {path: path for path in paths}
