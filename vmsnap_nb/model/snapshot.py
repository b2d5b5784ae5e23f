"""Snapshots: libvirt's own records, what the images say of them, and both as one list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.model.fast_build import FastBuild
from vmsnap_nb.model.guest import State
from vmsnap_nb.model.names import there_are
from vmsnap_nb.model.shown import Carded, Shown
from vmsnap_nb.words.message import NOTHING, Message, t

__all__ = [
    "MANAGED_SAVE",
    "Drift",
    "Held",
    "Kind",
    "Snapshot",
    "SnapshotCost",
    "SnapshotDisk",
    "SnapshotList",
    "SnapshotLists",
    "SnapshotRecord",
]

if TYPE_CHECKING:
    Kind = Literal["internal-disk", "internal-checkpoint", "external-disk", "external-checkpoint", "vm-state", "mixed"]
else:
    Kind = str  # where a property's annotation is a Literal, jedi completes nothing of the whole object
"""The five kinds; ``mixed`` is a record of internal and external parts, which libvirt itself never makes."""

Held = Literal["internal", "external", "no"]
"""Where a snapshot holds a disk (or the memory): in the same image, in files of its own, or not at all."""

Drift = Literal["ok", "stale", "untracked", "missing-file", "unknown"]
"""Whether record and files agree: ``stale`` is a record that no longer describes the files, ``untracked`` an internal
snapshot without a record, ``missing-file`` a record whose files are gone, ``unknown`` one whose files cannot be read,
so that nobody here knows."""

MANAGED_SAVE = "managed save"
"""Name of the record of a managed save, which libvirt keeps apart from snapshots."""


@dataclass(frozen=True)
class SnapshotDisk(FastBuild, Carded):
    """One disk in a snapshot.

    Attributes
    ----------
    target : str
        The disk, such as ``vda``.
    held : str
        ``internal``, ``external`` or ``no``.
    source : str or None
        The image that was the disk's source at that time, which holds the state of the snapshot. After an external
        snapshot, nothing writes to this image.
    file : str or None
        For an external snapshot, the overlay that was created, which received all later writes.
    """

    target: str
    held: Held = "no"
    source: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class SnapshotRecord(FastBuild, Carded):
    """libvirt's record of one snapshot (https://libvirt.org/formatsnapshot.html).

    Two records are equal if they describe the same snapshot; times and sizes, which no plan can predict, are ignored.

    Attributes
    ----------
    guest : str
        The name of the guest.
    name : str
        The name of the snapshot.
    state : str
        The state of the guest at that time: ``shutoff``, ``running`` or ``paused``; ``disk-snapshot`` if the guest was
        running and the snapshot does not include its memory.
    parent : str or None
        The name of the parent snapshot.
    current : bool
        Whether the current state of the guest is based on this snapshot.
    memory : str
        Where the memory and device state are: ``internal``, ``external`` or ``no``.
    memory_file : str or None
        The file with the memory, if it is external.
    disks : tuple of SnapshotDisk
        The disks, in the order of the domain XML.
    description : str
        The description that the user entered.
    created : datetime.datetime or None
        The time of the snapshot, in UTC, in whole seconds.
    memory_size : int or None
        The size of the memory file, in bytes; None if not known.
    also : tuple of str
        Other files that the definitions in the record name, such as disks of the next start; a revert restores them.
    xml : str
        libvirt's complete record, including the guest's definition at that time; empty if many records were read
        together.
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
    also: tuple[str, ...] = field(default=(), compare=False, repr=False)
    xml: str = field(default="", compare=False, repr=False)

    @property
    def kind(self) -> Kind:
        """A value of `Kind`, determined from the location of the memory and disks.

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
        """Whether this is memory that was saved without a snapshot; libvirt has no snapshot record of it."""
        return self.kind == "vm-state" and not self.state

    @cached_property
    def held_disks(self) -> tuple[SnapshotDisk, ...]:
        """The disks that the snapshot includes."""
        return tuple(disk for disk in self.disks if disk.held != "no")

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the snapshot, without the memory: its overlays, or the images that contain it."""
        return tuple(
            path for disk in self.held_disks if (path := disk.file if disk.held == "external" else disk.source)
        )


@dataclass(frozen=True, slots=True, repr=False)
class Snapshot(Carded):
    """A row of a `SnapshotList`: a record or an untracked internal snapshot, and whether it matches the files.

    Attributes
    ----------
    record : SnapshotRecord
        libvirt's record. For an untracked snapshot, an equivalent record with the information from the images.
    status : str
        A value of `Drift`.
    problem : str
        A description of the mismatch; empty if there is none.
    """

    record: SnapshotRecord
    status: Drift = "ok"
    problem: Message = NOTHING

    @property
    def name(self) -> str:
        """The name of the snapshot."""
        return self.record.name

    @property
    def kind(self) -> Kind:
        """A value of `Kind`."""
        return self.record.kind

    def __repr__(self) -> str:
        current = ", current" if self.record.current else ""
        status = "" if self.status == "ok" else f", {self.status}"
        return f"<Snapshot {self.name} of {self.record.guest}: {self.kind}{current}{status}>"


@dataclass(frozen=True, slots=True)
class SnapshotCost(Carded):
    """What a snapshot takes on disk, in bytes; None where that is not known."""

    exclusive: int | None = None  # what it alone holds, its memory included
    freed: int | None = None  # what its deletion frees; None where the plan of it is refused, too


@dataclass(frozen=True)
class SnapshotList(Shown):
    """The snapshots of one guest, oldest first; a parent always precedes its children.

    `to_frame` returns a table with index ``name`` and columns ``kind state created parent current disks files
    memory_file exclusive freed_if_deleted description status``. ``created`` is a time in UTC; ``disks`` are the targets
    of the included disks. "files" are the overlays of an external snapshot, or the images that contain an internal
    snapshot. Both columns are comma-separated lists. ``exclusive`` is the number of bytes that only this snapshot
    holds. ``freed_if_deleted`` is the number of bytes that `delete_snapshot` would free: ``<NA>`` if the deletion is
    refused or the number is not known. Both numbers are measured when the table is first requested.

    Attributes
    ----------
    guest : str
        The name of the guest.
    snapshots : tuple of Snapshot
        The rows.
    state : str
        The current state of the guest.
    managed_save : bool
        Whether libvirt has a managed save of the guest, from which the next start resumes.
    going_back_to : str or None
        The target of a revert that is running or was interrupted.
    problems : tuple of str
        Descriptions of disks for which QEMU has an image open other than the image that libvirt and the file system
        indicate.
    read_at : datetime.datetime or None
        The time of reading, in UTC.
    """

    guest: str
    snapshots: tuple[Snapshot, ...] = ()
    state: State = "shut off"
    managed_save: bool = False
    read_at: datetime | None = None
    going_back_to: str | None = None
    problems: tuple[Message, ...] = ()
    measure: Callable[[], Mapping[str, SnapshotCost]] = field(default=dict, compare=False, repr=False)

    _unlisted = frozenset({"costs", "measure"})

    @cached_property
    def costs(self) -> Mapping[str, SnapshotCost]:
        """The known disk space that each snapshot takes, by snapshot name; computing it reads the images."""
        return self.measure()

    def __getstate__(self) -> dict[str, object]:
        """Return what pickle stores: another process cannot measure it."""
        return {**super().__getstate__(), "measure": dict}

    def __len__(self) -> int:
        return len(self.snapshots)

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self.snapshots)

    def __contains__(self, name: object) -> bool:
        return any(snapshot.name == name for snapshot in self.snapshots)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.names)

    def __getitem__(self, name: str | int) -> Snapshot:
        """Return a snapshot by name or index.

        Raises
        ------
        NotFoundError
            No snapshot has that name; the error lists the existing ones.
        """
        if isinstance(name, int):
            return self.snapshots[name]
        for snapshot in self.snapshots:
            if snapshot.name == name:
                return snapshot
        raise NotFoundError(
            t("find the snapshot {name} of {guest}", name=name, guest=self.guest),
            why=t("no snapshot has that name"),
            next_step=there_are(name, self.names),
        )

    def __repr__(self) -> str:
        current = "" if self.current is None else f", current {self.current.name}"
        drift = sum(snapshot.status != "ok" for snapshot in self.snapshots)
        parts = (f"{len(self)}{current}{f', {drift} with problems' if drift else ''}", *self.problems)
        return f"<SnapshotList of {self.guest}: {'; '.join(parts)}>"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the snapshots."""
        return tuple(snapshot.name for snapshot in self.snapshots)

    @property
    def records(self) -> tuple[SnapshotRecord, ...]:
        """libvirt's records of the snapshots."""
        return tuple(s.record for s in self.snapshots if s.status != "untracked")

    @property
    def current(self) -> Snapshot | None:
        """The snapshot that the guest's current state is based on."""
        return next((snapshot for snapshot in self.snapshots if snapshot.record.current), None)

    def children(self, name: str) -> tuple[Snapshot, ...]:
        """Return the children of a snapshot."""
        return tuple(s for s in self.snapshots if s.record.parent == name and s.status != "untracked")

    def descendants(self, name: str) -> tuple[Snapshot, ...]:
        """Return all descendants of a snapshot, parents first."""
        children: dict[str | None, list[Snapshot]] = {}
        for snapshot in self.snapshots:
            if snapshot.status != "untracked":
                children.setdefault(snapshot.record.parent, []).append(snapshot)
        found: dict[str, Snapshot] = {}
        queue = list(children.get(name, ()))
        for snapshot in queue:
            if snapshot.name not in found and snapshot.name != name:
                found[snapshot.name] = snapshot
                queue.extend(children.get(snapshot.name, ()))
        return tuple(found.values())


@dataclass(frozen=True)
class SnapshotLists(Shown):
    """The snapshots of several guests, read together.

    `to_frame` returns a table with index ``guest`` and columns ``name kind state created parent current disks files
    memory_file exclusive freed_if_deleted description status``, with the same meaning as in `SnapshotList`. The images
    are read when the table is first requested.
    """

    lists: tuple[SnapshotList, ...] = ()  # one for each guest, by name, also where it has no snapshots

    def __len__(self) -> int:
        return len(self.lists)

    def __iter__(self) -> Iterator[SnapshotList]:
        return iter(self.lists)

    def _ipython_key_completions_(self) -> list[str]:
        return [one.guest for one in self.lists]

    def __getitem__(self, guest: str) -> SnapshotList:
        for snapshots in self.lists:
            if snapshots.guest == guest:
                return snapshots
        raise NotFoundError(
            t("find the snapshots of {guest}", guest=guest),
            why=t("no guest has that name"),
            next_step=there_are(guest, (snapshots.guest for snapshots in self.lists), none=t("create a guest first")),
        )

    def __repr__(self) -> str:
        return f"<SnapshotLists of {len(self)} guests, {sum(map(len, self.lists))} snapshots>"
