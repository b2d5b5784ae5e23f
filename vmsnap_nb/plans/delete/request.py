"""To delete snapshots of a guest: what is asked for, and what must be read to plan it."""

from __future__ import annotations

import os.path
from dataclasses import dataclass, replace
from typing import Literal, Self

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans.checks import layers
from vmsnap_nb.plans.delete.edges import Run, below, edges_of, maybe_committed
from vmsnap_nb.plans.delete.plan import plan_delete
from vmsnap_nb.plans.merge.request import commit_needs
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.plans.step import GuestRef
from vmsnap_nb.words.message import Message, joined, t

__all__ = ["Children", "DeleteRequest"]

Children = Literal[False, "also", "only"]
"""Whether the snapshots that are based on one stay, go with it, or go without it."""


@dataclass(frozen=True, kw_only=True)
class DeleteRequest:
    """Delete a snapshot, or those that are based on it, or both; with `metadata_only` only libvirt's records go.

    `prefer` are directions that were chosen before (`Alternative.what`, in English): they are kept as long as they are
    not refused, since the bytes of a guest that runs change all the time.
    """

    guest: GuestRef
    name: str
    children: Children = False
    metadata_only: bool = False
    prefer: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.children not in (False, "also", "only"):
            raise InvalidRequestError(
                self.tried,
                why=t(
                    "{value} is not a valid value of the option {option}", value=repr(self.children), option="children"
                ),
                next_step=t("choose from: {choices}", choices=joined(map(repr, (False, "also", "only")))),
            )

    @property
    def tried(self) -> Message:
        """What is tried, for errors."""
        return t("delete snapshot {name} of {guest}", name=self.name, guest=self.guest.name)

    def needs(self, forest: Forest) -> Needs:
        """Return what must be read: maps of what may be merged, and merges that were interrupted around it."""
        if self.metadata_only:
            return Needs()
        edges = edges_of(self._going(forest))
        own = self._own(forest)
        tops = [use.path for use in forest.uses if use.guest == self.guest.name]
        tops += [path for record in own for path in record.files]
        layers = tuple(dict.fromkeys(layer for top in tops for layer in forest.known_lineage(top)))
        going = {edge.top for edge in edges}
        inside = (layer for layer in (*layers, *self._held(forest)) if layer in forest.images)
        return Needs(
            space=tuple(dict.fromkeys(layer for layer in inside if forest[layer].snapshots)),
            maps=tuple(dict.fromkeys(path for edge in edges for path in _mapped(forest, edge))),
            places=layers,
            permits=layers,
            journal=tuple(dict.fromkeys(os.path.dirname(path) for path in layers if path.startswith("/"))),
            compared=tuple(pair for pair in maybe_committed(forest) if pair[0] in going),
        )

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        return plan_delete(reading, self)

    def settled(self, plan: Plan) -> Self:
        """Return the request with the directions that the plan takes."""
        return replace(self, prefer=tuple(way.what.in_language("en") for way in plan.alternatives if way.chosen))

    def _going(self, forest: Forest) -> list[SnapshotRecord]:
        """Return the records that may go."""
        names, more = set[str](), {self.name}
        while more:
            names |= more
            more = {record.name for record in self._own(forest) if self.children and record.parent in names} - names
        return [record for record in self._own(forest) if record.name in names]

    def _held(self, forest: Forest) -> list[str]:
        """Return the images that internal snapshots of the guest are inside of, by its records."""
        disks = (disk for record in self._own(forest) for disk in record.held_disks)
        return [disk.source for disk in disks if disk.held == "internal" and disk.source]

    def _own(self, forest: Forest) -> list[SnapshotRecord]:
        """Return the records of the guest itself."""
        return [record for record in forest.records if record.guest == self.guest.name]


def _mapped(forest: Forest, edge: Run) -> tuple[str, ...]:
    """Return the images whose maps tell what a merge copies, in either direction."""
    base = below(forest, edge)
    if base is None:
        return ()
    lineage = forest.known_lineage(edge.top)
    return (
        *commit_needs(forest, edge.top, base),
        *lineage[: lineage.index(layers.named_in(forest, lineage, base)) + 1],
    )
