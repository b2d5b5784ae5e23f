"""Colours and line styles of pictures, the same for SVG and Graphviz."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from vmsnap_nb.views.figure import Box, Shape, Tone

__all__ = [
    "ACCENT",
    "BAD",
    "FONTS",
    "GOOD",
    "GREY",
    "INK",
    "LOOKS",
    "PAPER",
    "TONES",
    "WARN",
    "Look",
    "Theme",
    "look_of",
]

FONTS = (
    "system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,DejaVu Sans,Noto Sans CJK SC,Microsoft YaHei,"
    "PingFang SC,Noto Color Emoji,sans-serif"
)

# Okabe and Ito's hues, which colour-blind people tell apart (https://jfly.uni-koeln.de/color/), each so light that it
# has a contrast of 3:1 on white paper and on JupyterLab's and VS Code's dark one. A colour never stands alone: the line
# style or the shape differs as well, and the box says it in words.
ACCENT, GOOD, WARN, BAD, GREY = "#2b7fc4", "#009e73", "#d55e00", "#d9363e", "#7f8790"
_PINK, _AMBER = "#c2689b", "#c07f00"
TONES: Mapping[Tone, str] = {"plain": GREY, "accent": ACCENT, "good": GOOD, "warn": WARN, "bad": BAD}


class Theme(NamedTuple):
    """A colour on light and on dark paper."""

    light: str
    dark: str


INK, PAPER = Theme("#1c2430", "#e3e6ea"), Theme("#ffffff", "#15181c")


@dataclass(frozen=True, slots=True)
class Look:
    """How the outline of a box is drawn."""

    colour: str = GREY
    thick: float = 1.0
    dashes: tuple[float, ...] = ()
    radius: float = 10.0
    tinted: bool = False  # whether its colour shines through the paper
    extra: str = ""  # what is drawn beside the outline: "cross", "corner", "ring", "band", "stack" or "pins"


LOOKS: Mapping[Shape, Look] = {
    "image": Look(),
    "new": Look(GOOD, 2.0, (7, 4)),
    "gone": Look(WARN, 2.0, (2, 4), tinted=True),
    "fold": Look(dashes=(4, 3), extra="stack"),
    "broken": Look(BAD, 2.0, (6, 3), tinted=True, extra="cross"),
    "unopened": Look(thick=1.5, dashes=(4, 3), extra="corner"),
    "loop": Look(BAD, 2.0, extra="ring"),
    "in-use": Look(_AMBER, 2.0, extra="band"),
    "guest": Look(ACCENT, 1.5, radius=18.0),
    "snapshot": Look(),
    "memory": Look(_PINK, 1.5, radius=3.0, extra="pins"),
}
_ACTIVE = Look(ACCENT, 2.0)
_MEMORY = {  # what a plan does to saved memory, in the lines that images have for it
    "comes": Look(GOOD, 2.0, (7, 4), radius=3.0, extra="pins"),
    "goes": Look(WARN, 2.0, (2, 4), radius=3.0, tinted=True, extra="pins"),
}


def look_of(box: Box) -> Look:
    """Return how the outline of a box is drawn."""
    if box.shape == "memory" and box.fate in _MEMORY:
        return _MEMORY[box.fate]
    return _ACTIVE if box.active and box.shape in {"image", "snapshot"} else LOOKS[box.shape]
