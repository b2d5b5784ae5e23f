"""A figure as plain data: boxes on a grid and arrows between them. Text and picture are both made from it.

What a figure says is decided once, here and in `vmsnap_nb.views.draw`; `vmsnap_nb.views.text` and
`vmsnap_nb.views.dot` only decide how it looks, so that the two cannot differ in what they say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.words.message import N_, Message, counted, joined, listed, t

__all__ = [
    "DETAILS",
    "NEW_EDGE",
    "Arrow",
    "Block",
    "Box",
    "Fate",
    "Figure",
    "Line",
    "Move",
    "Options",
    "Role",
    "Section",
    "Shape",
    "Tone",
    "fold_name",
]

DETAILS = ("active", "format", "sizes", "users", "snapshots", "bitmaps", "links", "others", "protected")
"""What `Options.details` may name."""

STYLES = ("change", "rows", "handout")
"""What `Options.style` may be."""

NEW_EDGE = N_("Backing File")
"""The label of an arrow that a plan changes, where it fits."""

Role = Literal["name", "status", "mark", "format", "active", "size", "detail"]
"""What a line of a box is for; pictures set name, status and size as lines, everything else as a chip."""

Tone = Literal["plain", "accent", "good", "warn", "bad"]
"""The colour of a chip; its text says the same."""

Fate = Literal["", "comes", "goes", "turns"]
"""What a plan does to a part of a figure: it is there only afterwards, or only before, or it looks different then."""

Shape = Literal["image", "new", "gone", "fold", "broken", "unopened", "loop", "in-use", "guest", "snapshot", "memory"]
"""How a box is drawn. Whatever a shape tells, a line of the box tells as well."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options that control how much a figure shows.

    Attributes
    ----------
    details : str or collection of str
        The details that the boxes show in addition to the name, the status and the action of a plan: some of the
        following, or ``"all"``. With ``"none"``, the boxes show only the name and ``(Active)``, as in Figure 2 of the
        handout.

        - ``active``: the mark ``(Active)``
        - ``format``: the format of the image, for example ``(qcow2)``
        - ``sizes``: the virtual size, and the disk space that the file takes
        - ``users``: the guests' disks that have the image as their source
        - ``snapshots``: the number of internal snapshots
        - ``bitmaps``: the number of dirty bitmaps
        - ``links``: other names of the same file
        - ``others``: in a chain, the overlays outside this chain
        - ``protected``: the write protection of the image
    labels : mapping of str to str
        Lines that replace the format of some images, by path or by name of the image, such as ``{"RootBase":
        "(raw/qcow2)"}``.
    fold : int or None
        If an image has more overlays than this number, the middle overlays are folded into one box with their number
        and size on disk. If None, nothing is folded, not even layers.
    keep : int
        The number of overlays that remain visible at each end of a folded row.
    columns : int
        The maximum number of boxes side by side. The middle of a longer chain is folded, so that the figure fits into a
        cell.
    first : collection of str
        Paths of the overlays that, with their branches, are drawn before the other overlays of the same image.
    only : collection of str
        Paths of images. If given, the other overlays of each image are folded into one box, unless such an image is
        among their branches.
    style : str
        ``change`` draws a plan as one picture that contains the change. ``rows`` draws the state after the plan below
        the state before the plan, as text figures always do. ``handout`` does the same, and marks each image that would
        be written to next as ``(Active)``, even if no guest writes to the image.
    """

    details: str | Collection[str] = "all"
    labels: Mapping[str, str] = field(default_factory=dict)
    fold: int | None = 8
    keep: int = 5
    columns: int = 5
    first: Collection[str] = ()
    only: Collection[str] = ()
    style: Literal["change", "rows", "handout"] = "change"

    def __post_init__(self) -> None:
        unknown = set() if self.details in ("all", "none") else set(self._words()) - set(DETAILS)
        if unknown:
            raise InvalidRequestError(
                t("draw a figure with details={details!r}", details=self.details),
                why=t("unknown details: {names}", names=joined(sorted(map(str, unknown)))),
                next_step=t('use "all", "none" or some of: {names}', names=joined(DETAILS)),
            )
        if self.keep < 2 or (self.fold is not None and self.fold < 2) or self.columns < 3:
            given = {"fold": self.fold, "keep": self.keep, "columns": self.columns}
            raise InvalidRequestError(
                t("draw a figure with fold={fold!r}, keep={keep!r}, columns={columns!r}", **given),
                why=t("both ends of a folded row stay visible: fold and keep must be at least 2, columns at least 3"),
                next_step=t("use a larger number, or fold=None to disable folding"),
            )
        if self.style not in STYLES:
            raise InvalidRequestError(
                t("draw a figure with style={style!r}", style=self.style),
                why=t("there is no such style"),
                next_step=t("use one of: {names}", names=joined(STYLES)),
            )

    @classmethod
    def of(cls, **options: Any) -> Options:
        """Make options from keywords; for an unknown one, the error names the valid ones."""
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(options) - set(known)):
            raise InvalidRequestError(
                counted(
                    "draw a figure with the option {options}",
                    "draw a figure with the options {options}",
                    len(unknown),
                    options=listed(unknown),
                ),
                why=counted("unknown option: {names}", "unknown options: {names}", len(unknown), names=joined(unknown)),
                next_step=t("the options are: {names}", names=joined(known)),
            )
        return cls(**options)

    def _words(self) -> Collection[str]:
        return [self.details] if isinstance(self.details, str) else self.details

    def shows(self, detail: str) -> bool:
        """Return whether the boxes show this detail."""
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
    tone: Tone = "plain"
    picture: str | None = None  # what a picture says in its place; empty if the picture leaves it out as usual
    fate: Fate = ""


def fold_name(said: Message) -> Line:
    """Return the name of a fold: its outline shows in a picture that something is left out, so dots need not."""
    return Line(said, "name", picture=said.strip("… "))


@dataclass(frozen=True, slots=True)
class Box:
    """One image, or a fold of several."""

    key: str  # unique in its block: the path for an image
    lines: tuple[Line, ...]  # what stands in it, the name first
    title: str  # what a pointer over it shows: the full path, then what is wrong, if anything
    shape: Shape = "image"
    # Its place; the base of a chain has column 0.
    row: int = 0
    column: int = 0
    active: bool = False  # whether it is marked as one that writes go to
    path: str | None = None  # the image's path; None for a fold or a guest
    trunks: int = 0  # how many arrows arrive at it from below
    snapshot: str | None = None  # the snapshot's name; None for anything else
    fate: Fate = ""
    members: tuple[str, ...] = ()  # the images of a fold
    fill: float | None = None  # the part of the virtual size that the file takes on disk, from 0 to 1
    grown: float = 0.0  # the same after a plan, if it is more


@dataclass(frozen=True, slots=True)
class Arrow:
    """From an overlay to its backing file."""

    # Places of the overlay and of the backing file in `Block.boxes`.
    tail: int
    head: int
    # None for an overlay on the row of its backing file. Otherwise the arrow comes from below, and this counts the
    # places at which arrows arrive under the backing file, from 0 (the outermost, left). Several arrows at one place
    # share a trunk.
    trunk: int | None = None
    changed: bool = False  # whether a plan gives an image that exists already another backing file
    wrong: bool = False  # whether it closes a loop
    beside: bool = False  # whether it is no edge of the tree: pictures draw it around the boxes, text does not
    fate: Fate = ""


@dataclass(frozen=True, slots=True)
class Block:
    """One connected tree, with what is written above it."""

    boxes: tuple[Box, ...]  # parents before children
    arrows: tuple[Arrow, ...]  # one for each box with a parent, then those beside the tree
    caption: str = ""  # ``before``, ``after``, or empty


@dataclass(frozen=True, slots=True)
class Move:
    """Data that goes from a box of one block to a box of another: ``(block, box)`` each."""

    source: tuple[int, int]
    target: tuple[int, int]
    label: str
    brief: str = ""  # how much alone: for a short arrow


@dataclass(frozen=True, slots=True)
class Section:
    """Something to read below a figure: a heading and its items, each with lines that belong to it."""

    heading: str
    items: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """All that a figure says."""

    summary: str  # what it shows, in one sentence: for those who do not see it
    blocks: tuple[Block, ...]  # from top to bottom
    heading: str = ""  # a title above it, or empty
    moves: tuple[Move, ...] = ()  # arrows between blocks
    notes: tuple[str, ...] = ()  # sentences below it, on what is not as it should be
    # Concerns, steps and the like: below the figure in text and HTML, not in the picture.
    sections: tuple[Section, ...] = ()
    refusals: tuple[tuple[str, ...], ...] = ()  # why a plan is refused: above the figure, each with lines that follow
    aligned: bool = False  # whether all blocks have the same columns, so that an image stands below itself
