"""What a plan is: the forest before, the steps, the forest after, the bytes that move, and what speaks against it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from vmsnap_nb.errors import InvalidRequestError, PlanRefusedError
from vmsnap_nb.model.counting import plural
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.plans.steps import Step

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CONCERNS", "Alternative", "Concern", "ConcernName", "Move", "Plan"]

ConcernName = Literal[
    "file-exists",
    "missing-base",
    "loop",
    "smaller-size",
    "shared-base",
    "in-use",
    "backing-format-missing",
    "backing-format-wrong",
    "no-space",
    "grows-base",
    "mixed-kinds",
    "active-job",
    "managed-save",
    "memory-lost",
    "state-lost",
    "not-supported",
    "untrusted-backing",
    "no-permission",
    "read-only",
    "name-taken",
    "no-agent",
    "disk-changed",
    "hardware-changed",
]
CONCERNS: frozenset[str] = frozenset(ConcernName.__args__)  # type: ignore[attr-defined]
"""All names that a concern can have."""


@dataclass(frozen=True, slots=True)
class Concern:
    """Why a plan is refused, or wants a warning.

    Attributes
    ----------
    name : str
        One of `CONCERNS`; `Plan.run` takes it in ``waive``.
    level : str
        ``refuse``, ``warn`` or ``note``.
    what : str
        A sentence that names the images and guests.
    remedy : str
        What to do about it, or empty.
    images : tuple of str
        Paths that it is about.
    holders : tuple of str
        Guests (or processes) that it is about.
    waivable : bool
        Whether a user may waive it by name; not so where the system would refuse anyway.
    """

    name: ConcernName
    level: Literal["refuse", "warn", "note"]
    what: str
    remedy: str = ""
    images: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    waivable: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """Data that is copied from one image into another.

    Attributes
    ----------
    source, target : str
        Paths.
    size : int or None
        Bytes, or None where it is not known beforehand.
    label : str
        What the figure writes at its arrow: ``commit data`` or ``stream data``.
    """

    source: str
    target: str
    size: int | None
    label: Literal["commit data", "stream data"]


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another way to the same end, and what it would cost.

    Attributes
    ----------
    what : str
        The way, in a sentence.
    size : int or None
        Bytes that would be copied; None where that is not known.
    chosen : bool
        Whether the plan goes this way.
    refused : str
        Why it cannot be chosen, or empty.
    """

    what: str
    size: int | None
    chosen: bool = False
    refused: str = ""


@dataclass(frozen=True)
class Plan(Shown):
    """A decided change, not yet done.

    `to_frame` gives one row a step: index ``step``, columns ``action image what bytes command``.

    Attributes
    ----------
    title : str
        What it does, in a few words, as ``create Overlay-1 on RootBase``.
    before : Forest
        What was read when it was made.
    steps : tuple of Step
        What will be done, in this order.
    after : Forest
        What will be read when it has been done.
    moves : tuple of Move
        Which bytes go where.
    concerns : tuple of Concern
        What speaks against it, the gravest first.
    way : str
        How it will be done and why so, in a sentence.
    space_needed : int
        Bytes of disk that it may need.
    subjects : tuple of str
        Paths of the images that it is about; the figure is drawn around them.
    alternatives : tuple of Alternative
        The ways that were compared, where there was a choice, the cheapest first; `alternatives_frame` gives a table.
    """

    title: str
    before: Forest
    steps: tuple[Step, ...]
    after: Forest
    moves: tuple[Move, ...] = ()
    concerns: tuple[Concern, ...] = ()
    way: str = ""
    space_needed: int = 0
    subjects: tuple[str, ...] = field(default=())
    alternatives: tuple[Alternative, ...] = ()

    @property
    def creates(self) -> tuple[str, ...]:
        """Files that will be new."""
        return tuple(dict.fromkeys(path for step in self.steps for path in step.creates))

    @property
    def writes(self) -> tuple[str, ...]:
        """Existing images whose content will change."""
        return tuple(dict.fromkeys(path for step in self.steps for path in step.writes))

    @property
    def unlinks(self) -> tuple[str, ...]:
        """Files that will be removed."""
        return tuple(dict.fromkeys(path for step in self.steps for path in step.unlinks))

    @property
    def invalid(self) -> tuple[str, ...]:
        """Images that stay on disk and must not be used any more."""
        return tuple(dict.fromkeys(path for step in self.steps for path in step.invalidates))

    @property
    def bytes_to_copy(self) -> int | None:
        """Sum of all moves in bytes; None where one of them is not known."""
        sizes = [move.size for move in self.moves]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def commands(self) -> tuple[str, ...]:
        """The command lines that do the same by hand, ready to paste into a shell."""
        return tuple(line for step in self.steps for line in step.commands)

    @property
    def refused(self) -> bool:
        """Whether a concern of level "refuse" stands."""
        return any(concern.level == "refuse" for concern in self.concerns)

    def alternatives_frame(self) -> pd.DataFrame:
        """Give the ways that were compared: index ``way``, columns ``bytes chosen refused``.

        Returns
        -------
        pandas.DataFrame
            The cheapest first; no rows where there was no choice.
        """
        from vmsnap_nb.views.frames import alternatives_frame

        return alternatives_frame(self)

    def check(self, waive: Iterable[str] = ()) -> None:
        """Raise if a concern of level "refuse" stands that is not waived.

        Parameters
        ----------
        waive : iterable of str
            Names of concerns that the user takes upon themselves.

        Raises
        ------
        InvalidRequestError
            A name that no concern has, or a concern that cannot be waived.
        PlanRefusedError
            What stands in the way.
        """
        waived = {waive} if isinstance(waive, str) else set(waive)
        if unknown := waived - CONCERNS:
            raise InvalidRequestError(
                f"waive {', '.join(sorted(unknown))}",
                said="no concern has that name",
                next_step="the names are: " + ", ".join(sorted(CONCERNS)),
            )
        standing = [c for c in self.concerns if c.level == "refuse" and not (c.name in waived and c.waivable)]
        if standing:
            raise PlanRefusedError(self.title, standing)

    def __repr__(self) -> str:
        refused = ", refused" if self.refused else ""
        return f"<Plan: {self.title}, {plural(len(self.steps), 'step')}{refused}>"
