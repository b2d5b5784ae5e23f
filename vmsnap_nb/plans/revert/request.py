"""To revert a guest to a snapshot: what is asked for, and what must be read to plan it."""

from __future__ import annotations

import os.path
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.journal import RevertEntry
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.plans.revert.plan import plan_revert
from vmsnap_nb.plans.step import GuestRef
from vmsnap_nb.words.message import joined, t

__all__ = ["TO", "RevertRequest", "To"]

To = Literal["as-taken", "running", "paused", "off"]
TO: tuple[To, ...] = ("as-taken", "running", "paused", "off")
"""What the guest can do after a revert."""


@dataclass(frozen=True, kw_only=True)
class RevertRequest:
    """Revert a guest to a snapshot, and keep its current state in another one first if `keep_current`.

    `interrupted` is the entry of a revert that was interrupted, where this one finishes it.
    """

    guest: GuestRef
    name: str
    to: To = "as-taken"
    keep_current: bool = True
    interrupted: RevertEntry | None = None

    def __post_init__(self) -> None:
        if self.to not in TO:
            raise InvalidRequestError(
                t("revert {guest} to {name}", guest=self.guest.name, name=self.name),
                why=t("{value} is not a valid value of the option {option}", value=repr(self.to), option="to"),
                next_step=t("choose from: {choices}", choices=joined(map(repr, TO))),
            )

    @classmethod
    def finishing(cls, guest: GuestRef, entry: RevertEntry) -> Self:
        """Return the request that finishes a revert which was interrupted."""
        return cls(guest=guest, name=entry.name, to=entry.to, keep_current=entry.kept is not None, interrupted=entry)

    @property
    def files(self) -> tuple[str, ...]:
        """The files beyond those of the guest and its records."""
        return () if self.interrupted is None else (self.interrupted.path, *self.interrupted.discards)

    def needs(self, forest: Forest) -> Needs:
        """Return what must be read: the folders of all images that it is about, and interrupted merges below them."""
        own = (record for record in forest.records if record.guest == self.guest.name)
        record = next((record for record in own if record.name == self.name), None)
        disks = () if record is None else record.disks
        tops = [use.path for use in forest.uses if use.guest == self.guest.name]
        tops += [disk.source for disk in disks if disk.source]
        layers = [layer for top in tops for layer in forest.known_lineage(top)]
        files = (*tops, *(disk.file for disk in disks if disk.file), *self.files)
        memory = () if record is None or record.memory_file is None else (record.memory_file,)
        own_layers = () if self.interrupted is None else tuple(path for path in tops if path in forest.images)
        return Needs(
            listed=_folders(files),
            journal=_folders(layers),
            times=(*memory, *(() if self.interrupted is None else (self.interrupted.path,))),
            restored=memory,
            maps=own_layers,
            as_taken=tuple((path, self.name) for path in dict.fromkeys(own_layers)),
        )

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        return plan_revert(reading, self)


def _folders(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(os.path.dirname(path) for path in paths if path.startswith("/")))
