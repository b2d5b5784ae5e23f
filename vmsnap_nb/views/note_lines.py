"""The sentences below a picture, in lines: what is not as it should be, or what was left out."""

from __future__ import annotations

from collections.abc import Sequence

from vmsnap_nb.views.shown_text import capital, wrap

__all__ = ["note_lines"]

_BULLET, _ROOM = "• ", "\u00a0\u00a0\u00a0"  # SVG drops plain spaces at the beginning of a line


def note_lines(notes: Sequence[str], columns: int) -> list[str]:
    """Return notes in lines of about equal length; several begin with a bullet each, one alone needs none.

    Examples
    --------
    >>> note_lines(["no images"], 40), note_lines(["Snap-1: missing", "Snap-2: missing"], 40)
    (['No images'], ['• Snap-1: missing', '• Snap-2: missing'])
    """
    first, other = (_BULLET, _ROOM) if len(notes) > 1 else ("", "")
    return [line for note in notes for line in _even(capital(note), columns, first, other)]


def _even(text: str, columns: int, first: str, other: str) -> list[str]:
    """Wrap a text without a last line of a single word: at the least width that takes as many lines."""
    lines = wrap(text, columns, first, other)
    for fewer in range(columns - 1, columns // 2, -1):
        closer = wrap(text, fewer, first, other)
        if len(closer) > len(lines):
            break
        lines = closer
    return lines
