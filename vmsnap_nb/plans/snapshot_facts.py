"""What a plan about snapshots must know beyond the forest and the guest's record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vmsnap_nb.plans.ground import Ground

__all__ = ["SnapshotFacts"]

_WITH_NVRAM = (10, 10, 0)
"""Since this version internal snapshots hold the variables of UEFI firmware, and are taken of running guests too."""
_OFF_WITH_UEFI = (9, 3, 0)
"""Since this version it takes those of guests that are off; some before do not where the XML names the loader."""


@dataclass(frozen=True)
class SnapshotFacts:
    """Facts about a guest and the places where a plan would write.

    Attributes
    ----------
    ground : Ground
        Names that are taken, free space, permissions.
    uri : str
        libvirt's address; stands in the commands.
    agent : bool
        Whether a QEMU guest agent is connected, and answers where that matters.
    jobs : mapping of str to str
        By disk target the kind of the block job that is active; under the empty name the guest's own job.
    memory : int
        RAM in bytes.
    pflash : bool
        Whether its firmware keeps variables in a flash image (UEFI).
    nvram, nvram_format : str
        The file of these variables, and its format: libvirt before 10.10 takes no internal snapshot of such a guest
        while it runs, later ones hold the variables in it where they are in qcow2. No other snapshot holds them in a
        file.
    libvirt_version : tuple of int
        Of the libvirt that performs it, as ``(9, 0, 0)``.
    gone : frozenset of str
        Paths that snapshot records name and at which there is no file.
    """

    ground: Ground = field(default_factory=Ground)
    uri: str = ""
    agent: bool = False
    jobs: Mapping[str, str] = field(default_factory=dict)
    memory: int = 0
    pflash: bool = False
    nvram: str = ""
    nvram_format: str = "raw"
    libvirt_version: tuple[int, int, int] = (9, 0, 0)
    gone: frozenset[str] = frozenset()

    def takes_inside(self, *, running: bool) -> bool:
        """Tell whether this libvirt takes internal snapshots of this guest at all."""
        return not self.pflash or self.libvirt_version >= (_WITH_NVRAM if running else _OFF_WITH_UEFI)

    @property
    def holds_nvram(self) -> bool:
        """Whether an internal snapshot holds the variables of the firmware, too."""
        return self.pflash and self.nvram_format == "qcow2" and self.libvirt_version >= _WITH_NVRAM
