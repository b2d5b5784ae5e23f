"""The switch of a plan's picture between before, change and after: style sheets alone, so that it works in saved HTML.

Its words are in the style sheet, too: a viewer that strips style sheets, and the picture with them, shows none of it.
"""

from __future__ import annotations

from html import escape

from vmsnap_nb.views.figure import Block, Figure
from vmsnap_nb.words.message import t

__all__ = ["has_change", "switch", "switch_style"]

_STYLE = """
.{0} .vmsnap-states {{ display: inline-flex; margin: 4px 0 8px; border: 1px solid #7f8790; border-radius: 7px; }}
.{0} .vmsnap-states label {{ position: relative; cursor: pointer; padding: 2px 12px; border-radius: 6px; }}
.{0} .vmsnap-states label:has(:checked) {{ background: rgba(43, 127, 196, .25); }}
.{0} .vmsnap-states label:has(:focus-visible) {{ outline: 2px solid #2b7fc4; }}
.{0} .vmsnap-states input {{
  position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: pointer; }}
.{0}:has(.before > :checked) :is(.comes, .move), .{0}:has(.after > :checked) :is(.goes, .move) {{ visibility: hidden; }}
.{0}:has(.before > :checked) :is(.goes, .turns) > .outline, .{0}:has(.before > :checked) .goes > path {{
  stroke: #7f8790; stroke-width: 1; stroke-dasharray: none; }}
.{0}:has(.before > :checked) .goes > polygon {{ fill: #7f8790; }}
.{0}:has(.before > :checked) :is(.goes, .turns) > .sign {{ visibility: hidden; }}
.{0}:has(.before > :checked) .chip.goes > rect {{ stroke: none; }}
.{0}:has(.before > :checked) .goes text {{ text-decoration: none; }}
"""


def has_change(figure: Figure) -> bool:
    """Return whether a figure shows a change within one block."""
    if any(move.source[0] == move.target[0] for move in figure.moves):
        return True
    return any(map(_has_fate, figure.blocks))


def _has_fate(block: Block) -> bool:
    boxes = any(box.fate or any(line.fate for line in box.lines) for box in block.boxes)
    return boxes or any(arrow.fate for arrow in block.arrows)


def _words() -> tuple[tuple[str, str], ...]:
    return ("before", t("before")), ("change", t("change")), ("after", t("after"))


def switch_style(scope: str) -> str:
    """Return its rules, for a figure within an element of a class."""
    words = (f'.{scope} .vmsnap-states .{name}::after {{ content: "{_quoted(word)}"; }}\n' for name, word in _words())
    return _STYLE.format(scope) + "".join(words)


def switch(scope: str) -> str:
    """Return the switch itself.

    Without a form, two equal figures on a page would share it; a form with the method "dialog" leads nowhere.
    """
    labels = [
        f'<label class="{name}"><input type="radio" name="{scope}" value="{name}"'
        f'{" checked" if name == "change" else ""} aria-label="{escape(word)}"></label>'
        for name, word in _words()
    ]
    return f'<form class="vmsnap-states" method="dialog">{"".join(labels)}</form>'


def _quoted(word: str) -> str:
    return "".join(char if char.isalnum() or char == " " else f"\\{ord(char):x} " for char in word)
