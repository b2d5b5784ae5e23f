"""Texts that can be printed: what would control a terminal, or reorder the text around it, is written as an escape."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["JOINERS", "coloured", "printable"]

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
JOINERS = {"\u200c", "\u200d"}  # they shape emoji and Indic or Arabic letters


_COLOURS = re.compile(r"(\x1b\[[0-9;:]{0,40}m)")
"""ECMA-48, select graphic rendition."""


def coloured(text: str) -> str:
    r"""Return the output of a program as `printable`, but with its colours and returns: these act on nothing else.

    Other sequences have terminals set their title, fill the clipboard, or answer as if somebody had typed.

    Examples
    --------
    >>> coloured("\x1b[31mred\x1b[0m\r\n \x1b]52;c;eA==\x07")
    '\x1b[31mred\x1b[0m\r\n \\x1b]52;c;eA==\\x07'
    """
    return "".join(
        part if number % 2 else printable(part, keep="\n\t\r") for number, part in enumerate(_COLOURS.split(text))
    )


def printable(text: str, *, keep: str = "\n\t") -> str:
    r"""Return a text in which nothing is invisible or acts on what shows it; the signs to `keep` stay as they are.

    These are control characters, line ends, direction marks (a file may be called so that it reads backwards), bytes
    that are no UTF-8 (Python's surrogate escapes) and code points that no XML may hold.

    Examples
    --------
    >>> print(printable("a\x1b[2J"), printable("a\nb", keep=""), printable("\udcff"), printable("evil\u202egpj"))
    a\x1b[2J a\nb \xff evil\u202egpj
    """
    if text.isascii() and text.isprintable():
        return text
    parts: list[str] = []
    for char in text:
        code = ord(char)
        category = unicodedata.category(char)
        after_letter = bool(parts) and not parts[-1].isascii()
        if char in keep or (char in JOINERS and after_letter):
            parts.append(char)
        elif 0xDC80 <= code <= 0xDCFF:
            parts.append(f"\\x{code - 0xDC00:02x}")
        elif category in {"Cc", "Cf", "Cs", "Zl", "Zp"} or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
            short = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
            parts.append(_SHORT.get(char, short))
        elif category[0] == "M" and not parts:
            parts.append("\u25cc" + char)  # Unicode's own way to show a mark that has no letter
        else:
            parts.append(char)
    return "".join(parts)
