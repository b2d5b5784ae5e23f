"""A picture as places: boxes with what is in them, arrows with their corners, lines of text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vmsnap_nb.views.content import Item
from vmsnap_nb.views.figure import Box, Fate

__all__ = ["Key", "Kind", "Picture", "Placed", "Point", "Route", "Words"]

Kind = Literal["", "changed", "move", "wrong"]
Point = tuple[float, float]
Key = tuple[int, int]  # the numbers of a block and of a box in it


@dataclass(frozen=True, slots=True)
class Placed:
    """A box with its place and what is in it."""

    box: Box
    key: Key
    left: float
    top: float
    wide: float
    high: float
    items: tuple[Item, ...] = field(default=(), repr=False)

    @property
    def right(self) -> float:
        """Return the right edge."""
        return self.left + self.wide

    @property
    def bottom(self) -> float:
        """Return the lower edge."""
        return self.top + self.high

    @property
    def across(self) -> float:
        """Return the middle between left and right."""
        return self.left + self.wide / 2

    @property
    def middle(self) -> float:
        """Return the middle between above and below, at which arrows along the row come and go."""
        return self.top + self.high / 2


@dataclass(frozen=True, slots=True)
class Route:
    """An arrow from box to box, straight from corner to corner, its head at the last."""

    tail: Key
    head: Key
    kind: Kind
    corners: tuple[Point, ...]
    label: str = ""
    label_at: Point = (0.0, 0.0)  # the middle of its text's base line
    fate: Fate = ""
    whole: str = ""  # what the label would be with more room


@dataclass(frozen=True, slots=True)
class Words:
    """Lines of text outside of boxes."""

    name: str
    lines: tuple[str, ...]
    left: float
    top: float


@dataclass(frozen=True, slots=True)
class Picture:
    """A whole figure with places."""

    boxes: tuple[Placed, ...]
    routes: tuple[Route, ...]
    words: tuple[Words, ...]
    left: float
    top: float
    wide: float
    high: float
