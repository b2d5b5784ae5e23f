"""What a verb is: a request that says what must be read, and makes its plan of what was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, Self

from vmsnap_nb.model.blockmap import BlockMap, LayerMap
from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.model.file_space import FileSpace
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.model.permit import Permit
from vmsnap_nb.model.snapshot import SnapshotList
from vmsnap_nb.plans.facts import FolderFacts, GuestFacts, SavedState
from vmsnap_nb.plans.journal import (
    Entry,
    InsideEntry,
    MergeEntry,
    PullEntry,
    RecordEntry,
    RevertEntry,
    Stranger,
    UnknownEntry,
    UnreadEntry,
)

if TYPE_CHECKING:
    from vmsnap_nb.plans.plan import Plan
    from vmsnap_nb.words.message import Message

__all__ = ["Needs", "Reading", "Request", "Settled"]


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a plan must know beyond the forest; what is left out is not looked at.

    `maps` are images whose block map is wanted. `places` are files that a plan may create or write: whether something
    is there already, and what their folders have free and permit. In `listed` folders every name that is taken counts.
    `journal` are folders whose entries are read, `compared` pairs of images whose content is compared, `checked` images
    whose tables QEMU checks, `entries` those of which it is asked whether their layers were written to since. Of
    `times` the last change is wanted, in the folders of `leftovers` files of ours that were never completed, and of
    `begun` whether libvirt or QEMU has completed these files. `saved` is a file of saved memory, `agent` says whether
    it matters that the guest's agent answers, `written` whether QEMU is asked which images it has as the guest's disks,
    and `disk` is the one disk of a guest whose layers are looked at: only its jobs keep others from looking. Of `space`
    it is wanted what they take in their files, internal snapshots included, of `modes` the bits of permission, and of
    `permits` who may read them. `restored` are files of saved memory that libvirt would be given, and `as_taken`
    images and internal snapshots in them, of which it is asked whether anything was written since.
    """

    maps: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()
    journal: tuple[str, ...] = ()
    compared: tuple[tuple[str, str], ...] = ()
    checked: tuple[str, ...] = ()
    entries: tuple[MergeEntry, ...] = ()
    times: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    saved: str | None = None
    agent: bool = False
    written: bool = False
    disk: str | None = None
    space: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    permits: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    as_taken: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was read at one moment: the forest, what libvirt says of the guest, and the facts that a request needs.

    `strangers` are files named like entries on whose strength nothing is done. `alike` are those of the compared pairs
    that have the same content, `unlike` those that have not; what could not be compared is in neither. `damaged` has
    what QEMU has found in those of the checked images that are damaged. `untouched` are the entries (by path) whose
    layers nobody has written to since, `times` nanoseconds since 1970 UTC, `gone` files that records name and that are
    not there, `unknown` those of which that is not known, with the reason, `leftovers` files of ours that were never
    completed, `incomplete` such of libvirt and QEMU, `processes` those that hold an image, as ``qemu-img (123)``, and
    `space` what images take in their files. `modes` has the bits of permission of files, `permits` who may read
    them, `distrusted` which saved memory libvirt should not be given, each with the reason, and `as_taken` the images
    that have just what an internal snapshot in them has. Of `listed` folders all files are known, on another machine as
    volumes.
    """

    forest: Forest
    guest: GuestFacts | None = None
    maps: Mapping[str, LayerMap] = field(default_factory=dict)
    folders: FolderFacts = field(default_factory=FolderFacts)
    entries: tuple[Entry, ...] = ()
    strangers: tuple[Stranger | UnknownEntry | UnreadEntry, ...] = ()
    alike: frozenset[tuple[str, str]] = frozenset()
    unlike: frozenset[tuple[str, str]] = frozenset()
    damaged: Mapping[str, str] = field(default_factory=dict)
    untouched: frozenset[str] = frozenset()
    times: Mapping[str, int] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    unknown: Mapping[str, str] = field(default_factory=dict)
    leftovers: Mapping[str, Identity] = field(default_factory=dict)
    incomplete: Mapping[str, Identity] = field(default_factory=dict)
    saved: SavedState | None = None
    processes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    space: Mapping[str, FileSpace] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    permits: Mapping[str, Permit] = field(default_factory=dict)
    distrusted: Mapping[str, Message] = field(default_factory=dict)
    listed: tuple[str, ...] = ()
    as_taken: frozenset[tuple[str, str]] = frozenset()

    def block_map(self, layers: Sequence[str]) -> BlockMap | None:
        """Return the maps of some layers laid over each other, base first; None where one of them is not known."""
        if not all(path in self.maps for path in layers):
            return None
        return BlockMap(tuple(self.maps[path] for path in layers))

    @cached_property
    def snapshots(self) -> SnapshotList:
        """The snapshots of the guest, and whether they agree with the files."""
        return list_snapshots(self.owner.domain, self.forest, gone=self.gone, unknown=self.unknown)

    @cached_property
    def in_order(self) -> frozenset[str]:
        """The snapshots of the guest of which the images say nothing else."""
        return frozenset(row.name for row in list_snapshots(self.owner.domain, self.forest) if row.status == "ok")

    @property
    def merges(self) -> tuple[MergeEntry, ...]:
        """Commits that were interrupted."""
        return tuple(entry for entry in self.entries if isinstance(entry, MergeEntry))

    @property
    def pulls(self) -> tuple[PullEntry, ...]:
        """Pulls into images of running guests that were interrupted."""
        return tuple(entry for entry in self.entries if isinstance(entry, PullEntry))

    @property
    def reverts(self) -> tuple[RevertEntry, ...]:
        """Reverts of guests that were interrupted."""
        return tuple(entry for entry in self.entries if isinstance(entry, RevertEntry))

    @property
    def insides(self) -> tuple[InsideEntry, ...]:
        """Changes of internal snapshots that were interrupted."""
        return tuple(entry for entry in self.entries if isinstance(entry, InsideEntry))

    @property
    def lost_records(self) -> tuple[RecordEntry, ...]:
        """Records of the guest's snapshots that libvirt was writing anew, and may have dropped."""
        uuid = self.owner.domain.uuid
        return tuple(entry for entry in self.entries if isinstance(entry, RecordEntry) and entry.uuid == uuid)

    @property
    def old_records(self) -> tuple[RecordEntry, ...]:
        """Records of other guests' snapshots: of this one before it was defined anew, perhaps."""
        uuid = self.owner.domain.uuid
        return tuple(entry for entry in self.entries if isinstance(entry, RecordEntry) and entry.uuid != uuid)

    @property
    def owner(self) -> GuestFacts:
        """The guest that the request is about."""
        assert self.guest is not None, "the request is about a guest, and none was read"
        return self.guest


class Request(Protocol):
    """What somebody wants, as a frozen value: two pure functions of what was read."""

    def needs(self, forest: Forest, /) -> Needs:
        """Return what must be read beside the forest."""
        ...

    def plan(self, reading: Reading, /) -> Plan:
        """Return the plan."""
        ...


class Settled(Request, Protocol):
    """A request in which something was left open that its first plan decides, as a direction."""

    def settled(self, plan: Plan, /) -> Self:
        """Return the request with that decision in it."""
        ...
