"""A figure as plain data: boxes on a grid and arrows between them. Text and picture are both made from it.

What a figure says is decided once, here and in `vmsnap_nb.views.draw`; `vmsnap_nb.views.text` and
`vmsnap_nb.views.dot` only decide how it looks, so that the two cannot differ in what they say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from vmsnap_nb.errors import InvalidRequestError

__all__ = [
    "DETAILS",
    "NEW_EDGE",
    "Arrow",
    "Block",
    "Box",
    "Figure",
    "Line",
    "Move",
    "Options",
    "Role",
    "Section",
    "Shape",
]

DETAILS = ("active", "format", "sizes", "users", "snapshots", "links", "others", "protected")
"""What `Options.details` may name."""

NEW_EDGE = "Backing File"
"""What stands at an arrow that a plan changes, where it fits."""

Role = Literal["name", "status", "mark", "format", "active", "detail"]
"""What a line of a box is for; a picture may set it in another face, never leave it out."""

Shape = Literal["image", "new", "gone", "fold", "broken", "unopened", "loop", "in-use", "guest", "snapshot", "memory"]
"""How a box is drawn. Whatever a shape tells, a line of the box tells as well."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much a figure shows.

    Attributes
    ----------
    details : str or collection of str
        What the boxes show beside name, status and what a plan does: some of `DETAILS`, or ``"all"``, or ``"none"``:
        only the name and ``(Active)``, as in the handout's Figure 2. ``active`` is the mark ``(Active)``, ``format``
        as ``(qcow2)``, ``sizes`` the virtual size and what the file takes on disk, ``users`` the guests' disks that
        have the image as their source, ``snapshots`` the number of internal ones, ``links`` other names of the same
        file, ``others`` (in a chain) the overlays that are not of this chain, ``protected`` that no one may write.
    labels : mapping of str to str
        A line of your own for some images, in the place of the format; by path or by name, as
        ``{"RootBase": "(raw/qcow2)"}``.
    fold : int or None
        A stretch of more than so many layers, or more than so many overlays side by side, has its middle folded into
        one box that says how many they are and what they take on disk. None folds nothing.
    keep : int
        How many of a folded row stay visible, at its two ends.
    """

    details: str | Collection[str] = "all"
    labels: Mapping[str, str] = field(default_factory=dict)
    fold: int | None = 8
    keep: int = 5

    def __post_init__(self) -> None:
        unknown = set() if self.details in ("all", "none") else set(self._words()) - set(DETAILS)
        if unknown:
            raise InvalidRequestError(
                f"draw a figure with details={self.details!r}",
                said="there is no such detail: " + ", ".join(sorted(map(str, unknown))),
                next_step='give "all", "none" or some of: ' + ", ".join(DETAILS),
            )
        if self.keep < 2 or (self.fold is not None and self.fold < 2):
            raise InvalidRequestError(
                f"draw a figure with fold={self.fold!r}, keep={self.keep!r}",
                said="both ends of a folded row stay visible",
                next_step="give 2 or more, or fold=None",
            )

    @classmethod
    def of(cls, **options: Any) -> Options:
        """Make options from keywords; an unknown one is an error that names those that there are."""
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(options) - set(known)):
            raise InvalidRequestError(
                f"draw a figure with {', '.join(unknown)}",
                said="there is no such option",
                next_step="the options are: " + ", ".join(known),
            )
        return cls(**options)

    def _words(self) -> Collection[str]:
        return [self.details] if isinstance(self.details, str) else self.details

    def shows(self, detail: str) -> bool:
        """Tell whether the boxes show this detail."""
        if self.details == "all":
            return True
        if self.details == "none":
            return detail == "active"
        return detail in self._words()


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a box, ready to show (nothing in it needs escaping but for the medium's own signs)."""

    text: str
    role: Role = "detail"


@dataclass(frozen=True, slots=True)
class Box:
    """One image, or a fold of several.

    Attributes
    ----------
    key : str
        Unique in its block: the path for an image.
    lines : tuple of Line
        What stands in it, the name first.
    title : str
        What a pointer over it shows: the full path, then what is wrong, if anything.
    shape : str
        One of `Shape`.
    row, column : int
        Its place; the base of a chain has column 0.
    active : bool
        Whether it is marked as one that writes go to.
    path : str or None
        The image's path; None for a fold or a guest.
    trunks : int
        How many arrows arrive at it from below.
    snapshot : str or None
        The snapshot's name; None for anything else.
    """

    key: str
    lines: tuple[Line, ...]
    title: str
    shape: Shape = "image"
    row: int = 0
    column: int = 0
    active: bool = False
    path: str | None = None
    trunks: int = 0
    snapshot: str | None = None


@dataclass(frozen=True, slots=True)
class Arrow:
    """From an overlay to its backing file.

    Attributes
    ----------
    tail, head : int
        Places of the overlay and of the backing file in `Block.boxes`.
    trunk : int or None
        None for an overlay on the row of its backing file. Otherwise the arrow comes from below, and this counts
        the places at which arrows arrive under the backing file, from 0 (the outermost, left). Several arrows at one
        place share a trunk.
    changed : bool
        Whether a plan gives an image that exists already another backing file.
    """

    tail: int
    head: int
    trunk: int | None = None
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """One connected tree, with what is written above it.

    Attributes
    ----------
    boxes : tuple of Box
        Parents before children.
    arrows : tuple of Arrow
        One for each box with a parent.
    caption : str
        ``before``, ``after``, or empty.
    """

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """Data that goes from a box of one block to a box of another: ``(block, box)`` each."""

    source: tuple[int, int]
    target: tuple[int, int]
    label: str


@dataclass(frozen=True, slots=True)
class Section:
    """Something to read below a figure: a heading and its items, each with lines that belong to it."""

    heading: str
    items: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """All that a figure says.

    Attributes
    ----------
    summary : str
        What it shows, in one sentence: for those who do not see it.
    blocks : tuple of Block
        From top to bottom.
    heading : str
        A title above it, or empty.
    moves : tuple of Move
        Arrows between blocks.
    notes : tuple of str
        Sentences below it, on what is not as it should be.
    sections : tuple of Section
        Concerns, steps and the like: below the figure in text and HTML, not in the picture.
    aligned : bool
        Whether all blocks have the same columns, so that an image stands below itself.
    """

    summary: str
    blocks: tuple[Block, ...]
    heading: str = ""
    moves: tuple[Move, ...] = ()
    notes: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    aligned: bool = False
