"""What a plan is: the forest before, the steps, the forest after, the bytes that move, and what speaks against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from vmsnap_nb.errors import InvalidRequestError, PlanRefusedError
from vmsnap_nb.model.arguments import checked_methods
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.shown import Carded, Shown
from vmsnap_nb.plans.concern import CONCERNS, Concern, ConcernName, Concerns
from vmsnap_nb.plans.freed import Freed
from vmsnap_nb.plans.machine import Machine
from vmsnap_nb.plans.script import ansible_tasks, shell_script
from vmsnap_nb.plans.step import Step
from vmsnap_nb.words.message import NOTHING, Message, counted, joined, t

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CONCERNS", "Alternative", "Concern", "ConcernName", "Move", "Plan"]


@dataclass(frozen=True, slots=True)
class Move(Carded):
    """Data that is copied from one image into another.

    Attributes
    ----------
    source : str
        The path of the image from which the data is copied.
    target : str
        The path of the image into which the data is copied.
    size : int or None
        The number of bytes; None if not known in advance.
    label : str
        The label of the arrow in the figure: ``commit data`` or ``stream data``.
    """

    source: str
    target: str
    size: int | None
    label: Literal["commit data", "stream data"]


@dataclass(frozen=True, slots=True)
class Alternative(Carded):
    """A possible way to reach the result of a plan, and its cost.

    Attributes
    ----------
    what : Message
        A sentence that describes the way.
    size : int or None
        The number of bytes that would be copied; None if not known.
    chosen : bool
        Whether the plan uses this way.
    refused : Message
        The reason to refuse this way; empty if there is none. If the chosen way has one, the plan is refused.
    """

    what: Message
    size: int | None
    chosen: bool = False
    refused: Message = NOTHING


@checked_methods
@dataclass(frozen=True)
class Plan(Shown):
    """A planned change that has not been made yet.

    `to_frame` returns a table with one row for each step, with index ``step`` and columns ``action image what bytes
    command``.

    Attributes
    ----------
    title : Message
        A short description of the change, such as ``create Overlay-1 on RootBase``.
    before : Forest
        The forest that was read when the plan was created.
    steps : tuple of Step
        The steps of the plan, in the order in which they run.
    after : Forest
        The predicted forest after the plan has run.
    moves : tuple of Move
        The data that is copied, with its source and target.
    concerns : tuple of Concern
        The objections and warnings, with the most serious first, as a `Concerns` object.
    way : Message
        A sentence that describes how the plan will be performed, and the reason for this choice.
    space_needed : int
        The number of bytes of disk space that the plan may need.
    subjects : tuple of str
        Paths of the images that the plan affects; the figure shows these images and their surroundings.
    alternatives : tuple of Alternative
        If there was a choice, the ways that were compared, with the cheapest way first; `alternatives_frame` returns
        them as a table.
    growth : mapping of str to int or None
        The approximate growth of each remaining file, in bytes; negative if the file shrinks, None if not known.
    shared : mapping of str to int
        For each image that is removed, the number of bytes that other files share with it (reflinks); these bytes are
        not freed.
    machine : Machine or None
        The machine on which the images are stored; None if the plan was computed from a forest alone.
    """

    title: Message
    before: Forest
    steps: tuple[Step, ...]
    after: Forest
    moves: tuple[Move, ...] = ()
    concerns: tuple[Concern, ...] = ()
    way: Message = NOTHING
    space_needed: int = 0
    subjects: tuple[str, ...] = field(default=())
    alternatives: tuple[Alternative, ...] = ()
    growth: Mapping[str, int | None] = field(default_factory=dict, compare=False)
    shared: Mapping[str, int] = field(default_factory=dict, compare=False)
    machine: Machine | None = field(default=None, compare=False)

    _unlisted = frozenset({"lines_of"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "concerns", Concerns(self.concerns))

    @property
    def creates(self) -> tuple[str, ...]:
        """Files that the plan will create."""
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
        """Images that remain on disk but must no longer be used."""
        return tuple(dict.fromkeys(path for step in self.steps for path in step.invalidates))

    @property
    def changes(self) -> tuple[str, ...]:
        """Images whose content changes or that become invalid; an overlay created on such an image would be lost."""
        paths = (path for step in self.steps for path in (*step.changes, *step.unlinks, *step.invalidates))
        return tuple(dict.fromkeys(paths))

    @property
    def about(self) -> tuple[str, ...]:
        """All images that the plan affects; they and their backing files must not change before the plan runs."""
        steps = (path for step in self.steps for path in (step.image, *step.creates))
        moved = (path for move in self.moves for path in (move.source, move.target))
        return tuple(dict.fromkeys((*self.subjects, *steps, *self.writes, *self.changes, *moved)))

    @property
    def bytes_to_copy(self) -> int | None:
        """The total size of all moves, in bytes; None if the size of a move is not known."""
        sizes = [move.size for move in self.moves]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def frees(self) -> Freed:
        """The disk space that becomes free, by file; `Freed.total` is the sum over all files."""
        going = set(self.unlinks)
        sizes: dict[str, int | None] = {path: self._taken(path, going) for path in self.unlinks}
        sizes |= {path: None if size is None else -size for path, size in self.growth.items() if path not in sizes}
        return Freed(sizes)

    def _taken(self, path: str, going: set[str]) -> int | None:
        """Return what a file takes that is removed: nothing is freed while another hard link of it stays."""
        if path not in self.before.images:
            size = self.growth.get(path)
            return None if size is None else -size
        names = [name for name in self.before.same_file(path) if name in self.before.images]
        if not going.issuperset(names) or path != names[-1]:
            return 0
        size = self.before.images[path].allocated
        return None if size is None else max(0, size - self.shared.get(path, 0))

    @property
    def commands(self) -> tuple[str, ...]:
        """Command lines that make the same change by hand, ready to paste into a shell on this machine."""
        return tuple(line for step in self.steps for line in self.lines_of(step))

    def lines_of(self, step: Step) -> tuple[str, ...]:
        """Return the command lines of one step; if libvirt is on another machine, `virsh` commands contain its URI."""
        if self.machine is None or step.performer == "libvirt":
            return step.commands
        return tuple(map(self.machine.line, step.commands))

    def script(self, *, waive: str | Iterable[str] = ()) -> str:
        """Return the commands as a script for ``/bin/sh``, to be run on the machine on which the images are stored.

        The script first checks the host name, that new files do not exist yet, and that images have not been modified
        since the plan was created. It stops at the first error, and does not undo the commands before it.

        Parameters
        ----------
        waive : str or iterable of str
            Names of concerns that you waive.

        Returns
        -------
        str

        Raises
        ------
        PlanRefusedError
            The plan has a concern of level "refuse" that was not waived.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> plan = vs.Lab().scenario("template").overlay("fourth", backing="FedoraBase")
        >>> print(*(line for line in plan.script().splitlines() if line.startswith("qemu-img")))
        qemu-img create -q -f qcow2 -F raw -b ...FedoraBase.img -- ...fourth.qcow2
        """
        self.check(waive)
        return shell_script(self)

    def to_ansible(self, *, waive: str | Iterable[str] = ()) -> str:
        """Return the commands as a YAML list of Ansible tasks, with the same checks as `script`.

        Parameters
        ----------
        waive : str or iterable of str
            Names of concerns that you waive.

        Returns
        -------
        str

        Raises
        ------
        PlanRefusedError
            The plan has a concern of level "refuse" that was not waived.
        """
        self.check(waive)
        return ansible_tasks(self)

    @property
    def refused(self) -> bool:
        """Whether the plan has a concern of level "refuse"."""
        return any(concern.level == "refuse" for concern in self.concerns)

    def alternatives_frame(self) -> pd.DataFrame:
        """Return the ways that were compared, as a table with index ``way`` and columns ``bytes chosen refused``.

        Returns
        -------
        pandas.DataFrame
            The table, with the cheapest way first; it has no rows if there was no choice.
        """
        from vmsnap_nb.views.frames import alternatives_frame

        return alternatives_frame(self)

    def check(self, waive: str | Iterable[str] = ()) -> None:
        """Raise an error if a concern of level "refuse" is not waived.

        Parameters
        ----------
        waive : str or iterable of str
            Names of concerns whose consequences the user accepts.

        Raises
        ------
        InvalidRequestError
            No concern has this name, or the concern cannot be waived.
        PlanRefusedError
            A concern prevents the plan from running.
        """
        waived = {waive} if isinstance(waive, str) else set(waive)
        if unknown := waived - CONCERNS:
            raise InvalidRequestError(
                t("waive {names}", names=joined(sorted(unknown))),
                why=counted("no concern has that name", "no concerns have these names", len(unknown)),
                next_step=t("choose from: {choices}", choices=joined(sorted(CONCERNS))),
            )
        standing = [c for c in self.concerns if c.level == "refuse" and not (c.name in waived and c.waivable)]
        if standing:
            raise PlanRefusedError(self.title, standing)

    def __repr__(self) -> str:
        refused = ", refused" if self.refused else ""
        number = "1 step" if len(self.steps) == 1 else f"{len(self.steps)} steps"
        return f"<Plan: {self.title}, {number}{refused}>"
