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
    """One disk of one guest, whose source is an image.

    Attributes
    ----------
    guest : str
        The name of the guest.
    target : str
        The disk, such as ``vda``.
    path : str
        The absolute path of the image. If QEMU writes to an image other than the image that libvirt lists, this is the
        image that QEMU writes to.
    state : str
        The state of the guest.
    readonly : bool
        Whether the guest can only read the disk.
    named : str or None
        The image that libvirt lists for the running guest, if QEMU writes to another image.
    next : str or None
        The image that the definition for the next start names, if that is a third image.
    deleted : tuple of str
        Layers that QEMU has open, although their files were deleted or moved.
    volume : str
        The volume and its storage pool, as a text, if libvirt does not report the volume's file.
    """

    guest: str
    target: str
    path: str
    state: State = "shut off"
    readonly: bool = False
    named: str | None = None
    next: str | None = None
    deleted: tuple[str, ...] = ()
    volume: str = ""

    @property
    def running(self) -> bool:
        """Whether QEMU has the image open now."""
        return self.state not in OFF

    @property
    def problem(self) -> Message:
        """How the file that QEMU has open differs from the file that libvirt lists; empty if both are the same."""
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
    """One disk of a guest.

    Attributes
    ----------
    target : str
        The name of the disk in the guest's definition, such as ``vda``.
    source : str or None
        The absolute path or the address of the image; None for an empty drive.
    format : str or None
        The format in the domain XML, such as ``qcow2``.
    bus : str or None
        The bus in the domain XML, such as ``virtio``.
    device : str
        The kind of device in the domain XML, such as ``disk`` or ``cdrom``.
    readonly : bool
        Whether the guest can only read the disk.
    capacity : int or None
        The size of the disk that the guest sees, in bytes.
    allocated : int or None
        The disk space that the image takes, in bytes.
    volume : str
        The volume and its storage pool, as a text, if libvirt does not report the volume's file.
    """

    target: str
    source: str | None
    format: str | None = None
    bus: str | None = None
    device: str = "disk"
    readonly: bool = False
    capacity: int | None = None
    allocated: int | None = None
    volume: str = ""

    @property
    def is_image(self) -> bool:
        """Whether the disk has an image; an empty drive, or a folder that QEMU presents as a disk, has none."""
        return bool(self.source) and self.format != "fat"


@dataclass(frozen=True)
class Disks(Shown):
    """The disks of one guest, as `virsh domblklist` lists them.

    `to_frame` returns a table with index ``target`` and columns ``source format bus device depth capacity allocated``.
    ``depth`` is the number of images in the chain; ``capacity`` and ``allocated`` are in bytes.

    Attributes
    ----------
    guest : str
        The name of the guest.
    disks : tuple of Disk
        The disks, in the order of the domain XML.
    depths : tuple of int or None
        The number of images in the chain of each disk; None if not known.
    """

    guest: str
    disks: tuple[Disk, ...] = ()
    depths: tuple[int | None, ...] = ()

    def __iter__(self) -> Iterator[Disk]:
        return iter(self.disks)

    def __len__(self) -> int:
        return len(self.disks)


@dataclass(frozen=True, slots=True)
class Domain(Carded):
    """One guest, as libvirt describes it.

    Attributes
    ----------
    name : str
        The name of the guest.
    uuid : str
        The UUID of the guest.
    state : str
        The state, such as ``running`` or ``shut off``.
    persistent : bool
        Whether the definition remains when the guest is shut off.
    disks : tuple of Disk
        The disks, in the order of the domain XML.
    needs : tuple of Need
        Other images that the guest needs: disks of its next start, the target of a block job, and firmware.
    checkpoints : tuple of str
        The names of libvirt's checkpoints; each is a dirty bitmap of that name in the images of the disks.
    definition : str
        The XML for the next start, without passwords; empty unless the guest is running and persistent.
    """

    name: str
    uuid: str
    state: State = "shut off"
    persistent: bool = True
    disks: tuple[Disk, ...] = ()
    needs: tuple[Need, ...] = field(default=(), repr=False)
    checkpoints: tuple[str, ...] = ()
    definition: str = field(default="", repr=False, compare=False)

    @property
    def running(self) -> bool:
        """Whether QEMU has the images of the guest open now."""
        return self.state not in OFF

    @property
    def uses(self) -> tuple[Use, ...]:
        """The disks that have an image, each with that image."""
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
