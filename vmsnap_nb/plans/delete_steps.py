"""The single actions of deleting snapshots, beside those of merges and of records."""
# ruff: noqa: D102 - Step documents its properties once for all kinds

from __future__ import annotations

from dataclasses import dataclass, field

from vmsnap_nb.plans.merge_note import MergeNote
from vmsnap_nb.plans.snapshot_steps import GuestStep
from vmsnap_nb.plans.steps import Step

__all__ = ["DeleteExternal", "DeleteInternal", "DropInside"]


@dataclass(frozen=True, slots=True)
class DropInside(Step):
    """Remove a snapshot from inside an image that no QEMU has open; what the image holds now stays."""

    path: str
    name: str

    @property
    def action(self) -> str:
        return "drop snapshot"

    @property
    def image(self) -> str:
        return self.path

    @property
    def what(self) -> str:
        return f"remove the internal snapshot {self.name} from it; what is read from it stays the same"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (("qemu-img", "snapshot", "-q", "-d", self.name, self.path),)

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.path,)


@dataclass(frozen=True, slots=True)
class DeleteInternal(GuestStep):
    """Let libvirt delete an internal snapshot: it goes from all images of the guest, then its record.

    Attributes
    ----------
    name : str
        Of the snapshot.
    paths : tuple of str
        The images that it is inside of.
    """

    name: str
    paths: tuple[str, ...]

    @property
    def action(self) -> str:
        return "delete snapshot"

    @property
    def image(self) -> str:
        return next(iter(self.paths), "")

    @property
    def what(self) -> str:
        return f"libvirt removes the internal snapshot {self.name} of guest {self.guest}, and its record"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (self.virsh("snapshot-delete", "--snapshotname", self.name),)

    @property
    def writes(self) -> tuple[str, ...]:
        return self.paths


@dataclass(frozen=True, slots=True)
class DeleteExternal(GuestStep):
    """Let libvirt delete an external snapshot of a guest that runs.

    QEMU commits each overlay into the image below; then libvirt removes the overlays and puts the records right.

    Attributes
    ----------
    name : str
        Of the snapshot.
    targets : tuple of str
        Its disks.
    bases, tops : tuple of str
        By disk the image that takes the data, and the overlay that goes.
    notes : tuple of MergeNote
        That lie beside the images meanwhile.
    bytes : int or None
        To copy.
    """

    name: str
    targets: tuple[str, ...]
    bases: tuple[str, ...]
    tops: tuple[str, ...]
    notes: tuple[MergeNote, ...] = ()
    bytes: int | None = field(default=None, compare=False)  # changes while the guest writes

    @property
    def action(self) -> str:
        return "delete snapshot"

    @property
    def image(self) -> str:
        return next(iter(self.bases), "")

    @property
    def what(self) -> str:
        return f"libvirt commits what came after the snapshot {self.name} of guest {self.guest} down into it"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (self.virsh("snapshot-delete", "--snapshotname", self.name),)

    @property
    def writes(self) -> tuple[str, ...]:
        return self.bases

    @property
    def unlinks(self) -> tuple[str, ...]:
        return self.tops

    @property
    def size(self) -> int | None:
        return self.bytes
