"""What libvirt says of a guest and its disks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from vmsnap_nb.model.shown import Shown

__all__ = ["Disk", "Disks", "Domain", "State", "Use"]

State = Literal["running", "idle", "paused", "in shutdown", "shut off", "crashed", "pmsuspended", "no state"]
"""virsh's words for virDomainState (https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainState)."""


@dataclass(frozen=True, slots=True)
class Use:
    """One disk of one guest that has an image as its source.

    Attributes
    ----------
    guest : str
        Name of the guest.
    target : str
        The disk's target, as ``vda``.
    path : str
        Absolute path of the image that is the disk's source.
    state : str
        The guest's state, one of `State`.
    readonly : bool
        Whether the guest may only read the disk.
    """

    guest: str
    target: str
    path: str
    state: State = "shut off"
    readonly: bool = False

    @property
    def running(self) -> bool:
        """Whether QEMU has the image open now."""
        return self.state not in {"shut off", "crashed", "no state"}


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk of a guest.

    Attributes
    ----------
    target : str
        As ``vda``.
    source : str or None
        Absolute path or address of the image; None for an empty drive.
    format, bus, device : str or None
        As in the domain XML: ``qcow2``, ``virtio``, ``disk``.
    readonly : bool
        Whether the guest may only read it.
    capacity, allocated : int or None
        Virtual size and what the image takes on disk, in bytes.
    """

    target: str
    source: str | None
    format: str | None = None
    bus: str | None = None
    device: str = "disk"
    readonly: bool = False
    capacity: int | None = None
    allocated: int | None = None


@dataclass(frozen=True)
class Disks(Shown):
    """The disks of one guest, as `virsh domblklist` lists them.

    `to_frame` gives: index ``target``, columns ``source format bus device depth capacity allocated``.

    Attributes
    ----------
    guest : str
        Name of the guest.
    disks : tuple of Disk
        In the order of the domain XML.
    depths : tuple of (int or None)
        For each disk the number of images in its chain.
    """

    guest: str
    disks: tuple[Disk, ...] = ()
    depths: tuple[int | None, ...] = ()

    def __iter__(self) -> Iterator[Disk]:
        return iter(self.disks)

    def __len__(self) -> int:
        return len(self.disks)


@dataclass(frozen=True, slots=True)
class Domain:
    """One guest as libvirt records it.

    Attributes
    ----------
    name, uuid : str
        As libvirt gives them.
    state : str
        One of `State`.
    persistent : bool
        Whether it stays defined when it is shut off.
    disks : tuple of Disk
        In the order of the domain XML.
    """

    name: str
    uuid: str
    state: State = "shut off"
    persistent: bool = True
    disks: tuple[Disk, ...] = ()

    @property
    def uses(self) -> tuple[Use, ...]:
        """Which images the disks have as their source."""
        return tuple(Use(self.name, d.target, d.source, self.state, d.readonly) for d in self.disks if d.source)
