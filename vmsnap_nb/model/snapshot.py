"""Snapshots: libvirt's own records, what the images say of them, and both as one list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.model.built import Built
from vmsnap_nb.model.guest import State
from vmsnap_nb.model.shown import Shown

__all__ = [
    "MANAGED_SAVE",
    "Drift",
    "Held",
    "Kind",
    "Snapshot",
    "SnapshotDisk",
    "SnapshotList",
    "SnapshotLists",
    "SnapshotRecord",
]

Kind = Literal["internal-disk", "internal-checkpoint", "external-disk", "external-checkpoint", "vm-state", "mixed"]
"""The five kinds; ``mixed`` is a record of internal and external parts, which libvirt itself never makes."""

Held = Literal["internal", "external", "no"]
"""Where a snapshot holds a disk (or the memory): in the same image, in files of its own, or not at all."""

Drift = Literal["ok", "stale", "untracked", "missing-file"]
"""Whether record and files agree: ``stale`` is a record that no longer describes the files, ``untracked`` an internal
snapshot without a record, ``missing-file`` a record whose files are gone."""

MANAGED_SAVE = "managed save"
"""Name of the record of a managed save, which libvirt keeps apart from snapshots."""


@dataclass(frozen=True)
class SnapshotDisk(Built):
    """What a snapshot holds of one disk.

    Attributes
    ----------
    target : str
        The disk, as ``vda``.
    held : str
        One of `Held`.
    source : str or None
        The image that was the disk's source when the snapshot was taken: the state of that moment is in it. Under an
        external snapshot nothing writes to it any more.
    file : str or None
        External: the overlay that was new then, to which everything was written afterwards.
    """

    target: str
    held: Held = "no"
    source: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class SnapshotRecord(Built):
    """What libvirt records of one snapshot.

    Two records are equal if they describe the same snapshot; times and sizes, which no plan can predict, do not count.

    Attributes
    ----------
    guest, name : str
        Of the guest and of the snapshot.
    state : str
        What the guest did: ``shutoff``, ``running``, ``paused``; ``disk-snapshot`` where it ran and its memory is
        not held.
    parent : str or None
        Name of the snapshot on which it stands.
    current : bool
        Whether what the guest does now goes on from this one.
    memory : str
        One of `Held`: where RAM and device state are.
    memory_file : str or None
        Their file, if external.
    disks : tuple of SnapshotDisk
        In the order of the domain XML.
    description : str
        The user's words.
    created : datetime.datetime or None
        UTC, in whole seconds.
    memory_size : int or None
        Bytes of the memory file, where that is known.
    xml : str
        libvirt's whole record, with the guest's definition of that moment; empty where many are read at once.

    Notes
    -----
    Source: https://libvirt.org/formatsnapshot.html.
    """

    guest: str
    name: str
    state: str = "shutoff"
    parent: str | None = None
    current: bool = False
    memory: Held = "no"
    memory_file: str | None = None
    disks: tuple[SnapshotDisk, ...] = ()
    description: str = ""
    created: datetime | None = field(default=None, compare=False)
    memory_size: int | None = field(default=None, compare=False, repr=False)
    xml: str = field(default="", compare=False, repr=False)

    @property
    def kind(self) -> Kind:
        """One of `Kind`, from where its parts are.

        Examples
        --------
        >>> SnapshotRecord("demo", "a", disks=(SnapshotDisk("vda", "external"),)).kind
        'external-disk'
        """
        held = {disk.held for disk in self.disks} - {"no"}
        if len(held) > 1:
            return "mixed"
        if "external" in held:
            return "external-disk" if self.memory == "no" else "external-checkpoint"
        if self.memory == "external":
            return "mixed" if held else "vm-state"
        return "internal-checkpoint" if self.memory == "internal" else "internal-disk"

    @property
    def saved(self) -> bool:
        """Whether it is memory that was saved apart from snapshots: libvirt has no record of it."""
        return self.kind == "vm-state" and not self.state

    @property
    def held_disks(self) -> tuple[SnapshotDisk, ...]:
        """Those disks that it holds."""
        return tuple(disk for disk in self.disks if disk.held != "no")

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it names, but for the memory: its overlays, or the images that it is inside of."""
        return tuple(
            path for disk in self.held_disks if (path := disk.file if disk.held == "external" else disk.source)
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One row of a list: a record, or an internal snapshot without one, and whether it agrees with the files.

    Attributes
    ----------
    record : SnapshotRecord
        libvirt's; for an untracked snapshot what the images say, in the same form.
    status : str
        One of `Drift`.
    problem : str
        A sentence on what does not agree, or empty.
    """

    record: SnapshotRecord
    status: Drift = "ok"
    problem: str = ""

    @property
    def name(self) -> str:
        """Its name."""
        return self.record.name

    @property
    def kind(self) -> Kind:
        """One of `Kind`."""
        return self.record.kind


@dataclass(frozen=True)
class SnapshotList(Shown):
    """The snapshots of one guest, oldest first; a parent always comes before what stands on it.

    `to_frame` gives: index ``name``, columns ``kind state created parent current disks files memory_file description
    status``. ``created`` is a time in UTC; ``disks`` are the targets that it holds; ``files`` the overlays of an
    external snapshot, or the images that an internal one is inside of; both separated by a comma.

    Attributes
    ----------
    guest : str
        Name of the guest.
    snapshots : tuple of Snapshot
        The rows.
    state : str
        What the guest does now.
    managed_save : bool
        Whether libvirt keeps its memory, so that the next start goes on from there.
    going_back_to : str or None
        The snapshot to which a revert goes on, or was cut short.
    read_at : datetime.datetime or None
        When, UTC.
    """

    guest: str
    snapshots: tuple[Snapshot, ...] = ()
    state: State = "shut off"
    managed_save: bool = False
    read_at: datetime | None = None
    going_back_to: str | None = None

    def __len__(self) -> int:
        return len(self.snapshots)

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self.snapshots)

    def __contains__(self, name: object) -> bool:
        return any(snapshot.name == name for snapshot in self.snapshots)

    def __getitem__(self, name: str | int) -> Snapshot:
        """Give a snapshot by name or place.

        Raises
        ------
        NotFoundError
            None has that name; the error lists those that there are.
        """
        if isinstance(name, int):
            return self.snapshots[name]
        for snapshot in self.snapshots:
            if snapshot.name == name:
                return snapshot
        raise NotFoundError(
            f"find the snapshot {name} of {self.guest}",
            said="no snapshot has that name",
            next_step="there are: " + ", ".join(self.names) if self.snapshots else "there is none yet",
        )

    def __repr__(self) -> str:
        current = "" if self.current is None else f", current {self.current.name}"
        drift = sum(snapshot.status != "ok" for snapshot in self.snapshots)
        return f"<SnapshotList of {self.guest}: {len(self)}{current}{f', {drift} not in order' if drift else ''}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The names."""
        return tuple(snapshot.name for snapshot in self.snapshots)

    @property
    def records(self) -> tuple[SnapshotRecord, ...]:
        """The records of libvirt."""
        return tuple(s.record for s in self.snapshots if s.status != "untracked")

    @property
    def current(self) -> Snapshot | None:
        """The one from which the guest goes on now."""
        return next((snapshot for snapshot in self.snapshots if snapshot.record.current), None)

    def children(self, name: str) -> tuple[Snapshot, ...]:
        """Give the snapshots that stand directly on one."""
        return tuple(s for s in self.snapshots if s.record.parent == name and s.status != "untracked")

    def descendants(self, name: str) -> tuple[Snapshot, ...]:
        """Give all snapshots that stand on one, directly or not, parents first."""
        found: dict[str, Snapshot] = {}
        queue = list(self.children(name))
        for snapshot in queue:
            if snapshot.name not in found and snapshot.name != name:
                found[snapshot.name] = snapshot
                queue.extend(self.children(snapshot.name))
        return tuple(found.values())


@dataclass(frozen=True)
class SnapshotLists(Shown):
    """The snapshots of many guests, read at once.

    `to_frame` gives: index ``guest``, columns ``name kind state created parent current disks files memory_file
    description status``, as a `SnapshotList` does for one.

    Attributes
    ----------
    lists : tuple of SnapshotList
        One for each guest, by name, also where it has no snapshots.
    """

    lists: tuple[SnapshotList, ...] = ()

    def __len__(self) -> int:
        return len(self.lists)

    def __iter__(self) -> Iterator[SnapshotList]:
        return iter(self.lists)

    def __getitem__(self, guest: str) -> SnapshotList:
        for one in self.lists:
            if one.guest == guest:
                return one
        raise NotFoundError(
            f"find the snapshots of {guest}",
            said="no guest has that name",
            next_step="there are: " + ", ".join(one.guest for one in self.lists),
        )

    def __repr__(self) -> str:
        return f"<SnapshotLists of {len(self)} guests, {sum(map(len, self.lists))} snapshots>"
