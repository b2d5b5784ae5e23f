"""What libvirt says of a guest and its disks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from vmsnap_nb.model.need import Need
from vmsnap_nb.model.shown import Carded, Shown, Tabled
from vmsnap_nb.words.message import NOTHING, Message, counted, listed, t

__all__ = ["OFF", "Disk", "Disks", "Domain", "Domains", "State", "Use"]

if TYPE_CHECKING:
    State = Literal[
        "running", "idle", "paused", "in shutdown", "shut off", "saved", "crashed", "pmsuspended", "no state"
    ]
else:
    State = str  # where a property's annotation is a Literal, jedi completes nothing of the whole object
"""virsh's words for virDomainState (https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainState).

``saved`` is off, with a managed save from which the next start resumes: virsh lists it so with ``--managed-save``.
"""
OFF: frozenset[State] = frozenset({"shut off", "saved", "crashed", "no state"})
"""States in which no QEMU has the images of a guest open."""


@dataclass(frozen=True, slots=True)
class Use(Carded):
    """One disk of one guest that has an image as its source."""

    guest: str
    target: str  # as ``vda``
    path: str  # absolute path of the image that is the disk's source
    state: State = "shut off"
    readonly: bool = False  # the guest may only read the disk
    # Where QEMU writes to another image than libvirt names, `path` is that of QEMU, and these are libvirt's: of the
    # guest that runs, and of its definition for the next start if that names another one, too.
    named: str | None = None
    next: str | None = None
    # Layers that QEMU has open, the image itself or what is below, of which there is no file any more.
    deleted: tuple[str, ...] = ()
    # Of a volume of which libvirt does not say which file it is: that volume, and its pool, in words.
    volume: str = ""

    @property
    def running(self) -> bool:
        """Whether QEMU has the image open now."""
        return self.state not in OFF

    @property
    def problem(self) -> Message:
        """How the file that QEMU has open differs from what libvirt and the file system know, or empty."""
        fields = {"target": self.target, "guest": self.guest}
        if self.named is not None:
            return t(
                "QEMU writes disk {target} of {guest} to {path}, but the image in libvirt's definition is {named}",
                path=self.path,
                named=self.named,
                **fields,
            )
        if self.deleted == (self.path,):
            return t(
                "QEMU writes disk {target} of {guest} to {path}, which was deleted or moved. QEMU still has the file "
                "open, but its data will be lost when {guest} stops",
                path=self.path,
                **fields,
            )
        if self.deleted:
            return counted(
                "QEMU reads disk {target} of {guest} from {paths}, which was deleted or moved. QEMU still has the "
                "file open, but its data will be lost when {guest} stops",
                "QEMU reads disk {target} of {guest} from {paths}, which were deleted or moved. QEMU still has the "
                "files open, but their data will be lost when {guest} stops",
                len(self.deleted),
                paths=listed(self.deleted),
                **fields,
            )
        return NOTHING


@dataclass(frozen=True, slots=True)
class Disk(Carded):
    """One disk of a guest."""

    target: str  # as ``vda``
    source: str | None  # absolute path or address of the image; None for an empty drive
    # As in the domain XML: ``qcow2``, ``virtio``, ``disk``.
    format: str | None = None
    bus: str | None = None
    device: str = "disk"
    readonly: bool = False
    # Virtual size, and what the image takes on disk, in bytes.
    capacity: int | None = None
    allocated: int | None = None
    volume: str = ""  # of which libvirt does not say which file it is, in words

    @property
    def is_image(self) -> bool:
        """Whether it has an image: no empty drive has one, and none that QEMU makes up of the files in a folder."""
        return bool(self.source) and self.format != "fat"


@dataclass(frozen=True)
class Disks(Shown):
    """The disks of one guest, as `virsh domblklist` lists them.

    `to_frame` returns a table with index ``target`` and columns ``source format bus device depth capacity allocated``.
    """

    guest: str
    disks: tuple[Disk, ...] = ()  # in the order of the domain XML
    depths: tuple[int | None, ...] = ()  # for each disk the number of images in its chain

    def __iter__(self) -> Iterator[Disk]:
        return iter(self.disks)

    def __len__(self) -> int:
        return len(self.disks)


@dataclass(frozen=True, slots=True)
class Domain(Carded):
    """One guest as libvirt records it."""

    name: str
    uuid: str
    state: State = "shut off"
    persistent: bool = True  # whether it stays defined when it is shut off
    disks: tuple[Disk, ...] = ()  # in the order of the domain XML
    # What it needs beside its disks: those of its next start that differ, the target of a block job, its firmware.
    needs: tuple[Need, ...] = field(default=(), repr=False)
    # libvirt's checkpoints, by name: each is a dirty bitmap of that name in the images of its disks.
    checkpoints: tuple[str, ...] = ()
    # The XML of its definition for the next start, while it runs and has one; without passwords.
    definition: str = field(default="", repr=False, compare=False)

    @property
    def running(self) -> bool:
        """Whether QEMU has its images open now."""
        return self.state not in OFF

    @property
    def uses(self) -> tuple[Use, ...]:
        """Which images the disks have as their source."""
        return tuple(
            Use(self.name, d.target, d.source, self.state, readonly=d.readonly, volume=d.volume)
            for d in self.disks
            if d.source is not None and d.is_image
        )


@dataclass(frozen=True)
class Domains(Tabled):
    """Guests as libvirt records them.

    `to_frame` returns a table with index ``guest`` and columns ``state persistent disks sources``.
    """

    domains: tuple[Domain, ...] = ()

    def __iter__(self) -> Iterator[Domain]:
        return iter(self.domains)

    def __len__(self) -> int:
        return len(self.domains)
