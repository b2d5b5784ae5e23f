"""Requests about a guest's snapshots and libvirt's records of them."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from dataclasses import dataclass

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.snapshot import Kind
from vmsnap_nb.plans.checks.notes import note_folders
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.plans.snapshot.choice import choose
from vmsnap_nb.plans.snapshot.plan import plan_snapshot
from vmsnap_nb.plans.snapshot.records import plan_reconcile
from vmsnap_nb.plans.step import GuestRef

__all__ = ["ReconcileRequest", "SnapshotRequest"]


@dataclass(frozen=True, kw_only=True)
class SnapshotRequest:
    """A new snapshot of a guest, as its user asks for it; `choose` chooses what is left open.

    `kind` is one of `KINDS`. `disks` says by target ``internal``, ``external``, ``no``, or the new overlay: its
    absolute path, or a name beside the disk's image; a tuple has the targets of those that are taken. Of `reuse` the
    overlays are there already, made by the user. `stem` is what names begin with that are chosen: ``snap1``, ``snap2``.
    """

    guest: GuestRef
    name: str | None = None
    kind: Kind | None = None
    description: str = ""
    disks: Mapping[str, str] | tuple[str, ...] | None = None
    quiesce: bool = False
    memory_file: str | None = None
    atomic: bool = True
    reuse: bool = False
    metadata: bool = True
    stem: str = "snap"

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are named by their paths."""
        disks = self.disks.values() if isinstance(self.disks, Mapping) else ()
        return tuple(path for path in (*disks, self.memory_file) if path is not None and path.startswith("/"))

    def needs(self, forest: Forest) -> Needs:
        """Return what must be read: the folders where files may be made, since their names are chosen by the plan."""
        sources = [use.path for use in forest.uses if use.guest == self.guest.name]
        folders = (os.path.dirname(path) for path in (*sources, *self.files) if path.startswith("/"))
        return Needs(
            places=self.files,
            listed=tuple(dict.fromkeys(folders)),
            journal=note_folders(forest, sources),
            agent=self.quiesce,
        )

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        return plan_snapshot(reading, choose(reading.forest, reading.owner, self))


@dataclass(frozen=True, kw_only=True)
class ReconcileRequest:
    """That libvirt's records of a guest's snapshots describe what is there."""

    def needs(self, forest: Forest) -> Needs:
        """Return what must be read: which files of records are gone, and interrupted merges of their images."""
        named = (path for record in forest.records for disk in record.disks for path in (disk.source, disk.file))
        folders = (os.path.dirname(path) for path in named if path is not None and path.startswith("/"))
        return Needs(journal=tuple(sorted(set(folders))))

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        return plan_reconcile(reading)
