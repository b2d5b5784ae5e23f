"""The single actions of deleting snapshots, beside those of merges and of records."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from vmsnap_nb.plans.journal import MergeEntry
from vmsnap_nb.plans.step import GuestStep, PathsOf, Step
from vmsnap_nb.words.message import N_, Message, t

__all__ = ["DeleteExternal", "DeleteInternal", "DropInside"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DropInside(Step):
    """Remove a snapshot from inside an image that no QEMU has open; what the image holds now stays."""

    path: str
    name: str
    created: datetime | None = field(default=None, repr=False)  # another one may have its name by then

    action = N_("drop snapshot")
    performer = "qemu-img"
    writes = PathsOf("path")
    changes = ()

    @property
    def what(self) -> Message:
        return t(
            "remove the internal snapshot {name} from this image; the current content does not change", name=self.name
        )

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (("qemu-img", "snapshot", "-q", "-d", self.name, self.path),)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteInternal(GuestStep):
    """Let libvirt delete an internal snapshot: it goes from all images of the guest, then its record."""

    name: str
    paths: tuple[str, ...]  # the images that it is inside of
    created: datetime | None = field(default=None, repr=False)  # another one may have its name by then

    action = N_("delete snapshot")
    writes = PathsOf("paths")
    changes = ()

    @property
    def what(self) -> Message:
        return t(
            "libvirt removes the internal snapshot {name} of {guest} and its record",
            name=self.name,
            guest=self.guest.name,
        )

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (self.virsh("snapshot-delete", "--snapshotname", self.name),)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteExternal(GuestStep):
    """Let libvirt delete an external snapshot of a guest that runs.

    QEMU commits each overlay into the image below; then libvirt removes the overlays and corrects the records.
    """

    name: str
    targets: tuple[str, ...]  # its disks
    bases: tuple[str, ...]  # by disk the image that takes the data
    tops: tuple[str, ...]  # by disk the overlay that goes
    entries: tuple[MergeEntry, ...] = ()  # lie beside the images meanwhile
    created: datetime | None = field(default=None, repr=False)  # another one may have its name by then
    size: int | None = field(default=None, compare=False)  # changes while the guest writes

    action = N_("delete snapshot")
    writes = PathsOf("bases")
    unlinks = PathsOf("tops")
    based_again = PathsOf("tops")

    @property
    def entry_path(self) -> str:
        return next((entry.path for entry in self.entries), "")

    def unnoted(self) -> Self:
        return replace(self, entries=())

    @property
    def what(self) -> Message:
        return t(
            "libvirt commits the overlays of snapshot {name} of {guest} into their backing files",
            name=self.name,
            guest=self.guest.name,
        )

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (self.virsh("snapshot-delete", "--snapshotname", self.name),)
