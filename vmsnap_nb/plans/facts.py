"""What a plan must know of the machine beyond the images: folders, the guest, saved memory."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from dataclasses import dataclass, field

from vmsnap_nb.model.guest import Domain
from vmsnap_nb.plans.step import GuestRef

__all__ = ["LOST_JOB", "STARTING", "FolderFacts", "GuestFacts", "SavedState"]

LOST_JOB = "active commit that libvirt has lost"
"""The kind of a block job of whose second image libvirt does not know, since it was killed as the job began."""
STARTING = "start"
"""What goes on with a guest while libvirt starts its QEMU, and until then answers no question about it."""

_WITH_NVRAM = (10, 10, 0)
"""Since this version internal snapshots hold the variables of UEFI firmware, and are taken of running guests too."""
_OFF_WITH_UEFI = (9, 3, 0)
"""Since this version it takes those of guests that are off; some before do not where the XML names the loader."""


@dataclass(frozen=True)
class FolderFacts:
    """Which names are taken, and for each folder the bytes free there, or why nothing can be made in it.

    `shared` says, of a folder in which other users can replace files, which folder or link they can change.
    """

    taken: frozenset[str] = frozenset()
    free: Mapping[str, int] = field(default_factory=dict)
    closed: Mapping[str, str] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)

    def of(self, path: str) -> str:
        """Return why nothing can be made where this file would be, or an empty text."""
        return self.closed.get(os.path.dirname(path), "")


@dataclass(frozen=True, kw_only=True)
class GuestFacts:
    """What libvirt says of a guest at one moment.

    `xml` is its domain XML, the live one while it runs; `definition` that for the next start, without passwords.
    `jobs` has by disk target the kind of the block job that is active, and under the empty name the guest's own job.
    `written` are the images that QEMU itself has as its disks, where that was asked. `given_up` says that QEMU has
    written the memory while the guest was paused: until it runs again, QEMU neither writes the memory a second time nor
    writes to the images that were open at that moment.
    `memory` is its RAM in bytes. `pflash` says whether its firmware keeps variables in a flash image (UEFI), `nvram`
    where: libvirt before 10.10 takes no internal snapshot of such a guest while it runs, later ones hold the variables
    in it where they are in qcow2. To the layers in `denied` AppArmor denies its QEMU writing; `denied_unknown` says why
    that is not known. The security drivers in `not_relabelled` give QEMU no access to files by themselves. `agent` says
    whether a QEMU guest agent is connected, and answers where that matters, `is_system` whether its libvirt is that of
    the system, which may do what this user may not. `restarted` are the entries of pulls, by their paths, after which
    another QEMU of the guest was started, as far as is known.
    """

    domain: Domain
    uri: str = ""
    xml: str = field(default="", repr=False)
    definition: str = field(default="", repr=False)
    agent: bool = False
    jobs: Mapping[str, str] = field(default_factory=dict)
    written: frozenset[str] = frozenset()
    given_up: bool = False
    memory: int = 0
    pflash: bool = False
    nvram: str = ""
    nvram_format: str = "raw"
    libvirt_version: tuple[int, int, int] = (9, 0, 0)
    denied: frozenset[str] = frozenset()
    denied_unknown: str = ""
    not_relabelled: tuple[str, ...] = ()
    is_system: bool = False
    restarted: frozenset[str] = frozenset()
    idle_pools: tuple[str, ...] = ()

    @property
    def ref(self) -> GuestRef:
        """Who it is, for a step."""
        return GuestRef(self.domain.name, self.domain.uuid, self.uri)

    @property
    def running(self) -> bool:
        """Whether QEMU has its images open."""
        return self.domain.running

    def takes_inside(self, *, running: bool) -> bool:
        """Return whether this libvirt takes internal snapshots of this guest at all."""
        return not self.pflash or self.libvirt_version >= (_WITH_NVRAM if running else _OFF_WITH_UEFI)

    @property
    def holds_nvram(self) -> bool:
        """Whether an internal snapshot holds the variables of the firmware, too."""
        return self.pflash and self.nvram_format == "qcow2" and self.libvirt_version >= _WITH_NVRAM


@dataclass(frozen=True)
class SavedState:
    """What a file of saved memory says: whose it is, the image of each disk then, and when it was completed (ns)."""

    guest: str
    uuid: str
    sources: Mapping[str, str | None] = field(default_factory=dict)
    mtime_ns: int | None = None
