"""What a plan that goes back to a snapshot must know beyond the forest and the guest's records."""

from __future__ import annotations

from dataclasses import dataclass, field

from vmsnap_nb.plans.merge_note import MergeNote
from vmsnap_nb.plans.snapshot_facts import SnapshotFacts

__all__ = ["RevertFacts"]


@dataclass(frozen=True)
class RevertFacts:
    """Facts about a guest, its files, and the places where a plan would write.

    Attributes
    ----------
    snapshot : SnapshotFacts
        What plans about snapshots must know.
    definition : str
        The guest's domain XML as it is stored for the next start.
    memory_mtime_ns : int or None
        When the snapshot's memory file was completed, nanoseconds since 1970 UTC.
    merges : tuple of MergeNote
        Commits that were cut short, into layers of the images that the guest would get.
    """

    snapshot: SnapshotFacts = field(default_factory=SnapshotFacts)
    definition: str = ""
    memory_mtime_ns: int | None = None
    merges: tuple[MergeNote, ...] = ()
