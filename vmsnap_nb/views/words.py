"""Names and sizes as people read them: safe to show, short enough, and told apart."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from wcwidth import wcswidth

from vmsnap_nb.model.size import human_size

__all__ = ["LONG_COMMAND", "MOST", "clip", "distinct_names", "human_size", "isolate", "shown", "width"]

MOST = 32
"""Columns that a name may take in a figure."""

LONG_COMMAND = 4
"""From how many further lines on a command is folded: a domain's XML would bury the figure."""

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_JOINERS = {"\u200c", "\u200d"}  # they shape emoji and Indic or Arabic letters


def shown(text: str) -> str:
    r"""Make a text safe to show: what is invisible, or would disturb what stands around it, is written as an escape.

    These are control characters, line ends, direction marks (a file may be called so that it reads backwards),
    bytes that are no UTF-8 (Python's surrogate escapes) and code points that no XML may hold.

    Examples
    --------
    >>> print(shown("a\nb"), shown("\udcff"), shown("evil\u202egpj"))
    a\nb \xff evil\u202egpj
    """
    if text.isascii() and text.isprintable():
        return text
    parts: list[str] = []
    for char in text:
        code = ord(char)
        category = unicodedata.category(char)
        after_letter = bool(parts) and not parts[-1].isascii()
        if char in _JOINERS and after_letter:
            parts.append(char)
        elif 0xDC80 <= code <= 0xDCFF:
            parts.append(f"\\x{code - 0xDC00:02x}")
        elif category in {"Cc", "Cf", "Cs", "Zl", "Zp"} or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
            short = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
            parts.append(_SHORT.get(char, short))
        elif category[0] == "M" and not parts:
            parts.append("\u25cc" + char)  # Unicode's own way to show a mark that has no letter to stand on
        else:
            parts.append(char)
    return "".join(parts)


def width(text: str) -> int:
    """Give the number of columns that a text takes in a terminal; a Chinese character or an emoji takes two."""
    columns = wcswidth(text)
    return columns if columns >= 0 else len(text)


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
    while tail and (unicodedata.category(tail[0])[0] == "M" or tail[0] in _JOINERS):
        del tail[0]
    while head and head[-1] in _JOINERS:
        del head[-1]
    return "".join(head) + "…" + "".join(tail)


def isolate(text: str) -> str:
    """Enclose a text that has right-to-left letters in U+2068 and U+2069, so that it leaves its neighbours in order."""
    if not text.isascii() and any(unicodedata.bidirectional(char) in {"R", "AL", "AN"} for char in text):
        return f"\u2068{text}\u2069"
    return text


def distinct_names(paths: Iterable[tuple[str, str]], most: int = MOST) -> dict[str, str]:
    """Give each image a name to show that no other has.

    Parameters
    ----------
    paths : iterable of (str, str)
        Path or address, and short name.
    most : int
        Columns that a name may take.

    Returns
    -------
    dict of str to str
        By path. Where two images have one short name, the file name with its suffix tells them apart, or else the
        shortest sufficient part of the folder.

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
