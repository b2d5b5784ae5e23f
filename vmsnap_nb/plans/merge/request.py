"""What can be asked of merges: of a chain of images, or of the chain of a guest's disk."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.model.aliases import is_among, names_of
from vmsnap_nb.model.find import find_disk
from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.model.number import check_bandwidth, check_seconds
from vmsnap_nb.plans.checks.interrupted import may_lack
from vmsnap_nb.plans.checks.notes import note_folders
from vmsnap_nb.plans.journal import MergeEntry, PullEntry
from vmsnap_nb.plans.merge.evidence import is_compared
from vmsnap_nb.plans.merge.plan import plan_cleanup, plan_commit, plan_pull, plan_remove
from vmsnap_nb.plans.merge.resume import plan_finish, plan_finish_pull
from vmsnap_nb.plans.merge.shorten import plan_shorten
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.repair.guestless import ForgetEntryRequest, guestless
from vmsnap_nb.plans.repair.internal_snapshots import FinishInsideRequest
from vmsnap_nb.plans.request import Needs, Reading

__all__ = [
    "CleanupRequest",
    "CommitRequest",
    "FinishPullRequest",
    "FinishRequest",
    "MergeRequest",
    "PullRequest",
    "RemoveRequest",
    "ShortenRequest",
    "commit_needs",
    "pull_needs",
    "unfinished",
    "unfinished_needs",
]

_NAMES = ("top", "base", "into")
"""Fields in which the user names an image."""


@dataclass(frozen=True, kw_only=True)
class MergeRequest:
    """Whose chain it is: of a disk of a guest (the first with an image if none is named), or of images alone."""

    guest: str = ""
    disk: str | None = None

    def find(self, forest: Forest, name: str) -> str:
        """Return the path of an image that the user names; of a guest, of a layer of its chain."""
        return Chain(forest, self.source(forest)).find(name) if self.guest else forest.find(name)

    def found(self, forest: Forest, name: str | None) -> str | None:
        """Return the path of an image, if one is named."""
        return None if name is None else self.find(forest, name)

    def image(self, forest: Forest, name: str | None) -> str:
        """Return the path of an image: the one that the guest writes to if none is named."""
        return self.source(forest) if name is None else self.find(forest, name)

    def source(self, forest: Forest) -> str:
        """Return the path of the image that the guest writes to."""
        return find_disk(forest, self.guest, self.disk).path

    @property
    def limits(self) -> dict[str, Any]:
        """What block jobs are told."""
        return {}

    def settled(self, plan: Plan) -> Self:
        """Return the request with the paths of the images that it names, and with the disk."""
        named = {field: self.find(plan.before, name) for field in _NAMES if (name := getattr(self, field, None))}
        if self.guest:
            named["disk"] = find_disk(plan.before, self.guest, self.disk).target
        return replace(self, **named)

    def needs(self, forest: Forest) -> Needs:
        """Return what must be read beside the forest."""
        try:
            return self._needs(forest)
        except NotFoundError:  # the plan says so
            return Needs(disk=self.disk)

    def _needs(self, forest: Forest) -> Needs:
        return self._needed(forest, (), ())

    def _target(self, forest: Forest) -> str | None:
        """Return the disk whose block jobs matter; None if there is none."""
        return find_disk(forest, self.guest, self.disk).target if self.guest else None

    def _needed(
        self,
        forest: Forest,
        paths: Iterable[str],
        maps: Iterable[str],
        *,
        compared: tuple[tuple[str, str], ...] = (),
        entries: tuple[MergeEntry, ...] = (),
    ) -> Needs:
        """Return what must be read for a merge that reads, writes or repoints images."""
        places = tuple(path for path in dict.fromkeys(paths) if path in forest.images and path.startswith("/"))
        maps = tuple(maps)
        # What a job copies into lets nobody look; the plan is refused.
        copied = names_of(forest, (need.path for need in forest.needs if need.kind == "block job"))
        return Needs(
            maps=tuple(path for path in maps if path not in copied),
            places=places,
            journal=tuple(sorted({os.path.dirname(path) for path in places})),
            compared=compared,
            entries=entries,
            disk=self._target(forest),
            permits=tuple(dict.fromkeys(name for path in places for name in forest.same_file(path))),
            space=tuple(path for path in maps if path not in copied and _has_snapshots(forest, path)),
        )


@dataclass(frozen=True, kw_only=True)
class _CopyRequest(MergeRequest):
    """A merge of given layers.

    `bandwidth` (bytes a second; 0 for no limit) and `timeout` (seconds; None for no limit) are about block jobs of a
    guest that runs; with `adopt` the job is there already, begun by a process that has ended since.
    """

    base: str | None = None
    remove: bool = False
    verify: bool = False
    bandwidth: int = 0
    timeout: float | None = None
    adopt: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", check_bandwidth(self.bandwidth))
        if self.timeout is not None:
            object.__setattr__(self, "timeout", check_seconds(self.timeout, above_zero=True))

    @property
    def limits(self) -> dict[str, Any]:
        """What block jobs are told."""
        return {"bandwidth": self.bandwidth, "timeout": self.timeout, "adopt": self.adopt}


@dataclass(frozen=True, kw_only=True)
class CommitRequest(_CopyRequest):
    """Copy `top`, and all between it and `base`, down into the base; with `keep_active` the guest keeps its image."""

    top: str | None = None
    keep_active: bool = False

    def _needs(self, forest: Forest) -> Needs:
        top, base = self.image(forest, self.top), self.found(forest, self.base)
        paths = (*forest.lineage(top), *forest.children(top))
        return self._needed(forest, paths, commit_needs(forest, top, base))

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        return plan_commit(reading, self)


@dataclass(frozen=True, kw_only=True)
class PullRequest(_CopyRequest):
    """Copy up into an image what it reads from above `base`, or all that it reads from below."""

    into: str | None = None

    def _needs(self, forest: Forest) -> Needs:
        image, base = self.image(forest, self.into), self.found(forest, self.base)
        return self._needed(forest, forest.lineage(image), pull_needs(forest, image, base))

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        return plan_pull(reading, self)


@dataclass(frozen=True, kw_only=True)
class RemoveRequest(MergeRequest):
    """Take a layer out of its chain, with its file.

    Method 1 copies its data down into the image below, 2 up into each overlay of it; if None, it is the one
    that copies fewer bytes among those that are not refused.
    """

    top: str
    method: Literal[1, 2] | None = None
    verify: bool = False

    def _needs(self, forest: Forest) -> Needs:
        image = self.find(forest, self.top)
        children = forest.children(image)
        return self._needed(forest, (*forest.lineage(image), *children), (*commit_needs(forest, image), *children))

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        return plan_remove(reading, self)


@dataclass(frozen=True, kw_only=True)
class ShortenRequest(MergeRequest):
    """Make a chain short, with the fewest bytes to copy; what its last image, `top`, reads stays the same.

    `keep` is how many images may remain at most, or those that must remain, with their content, beside the last. With
    `top_may_go` the content may end up in the file of a lower layer, so that the last image itself becomes invalid.
    """

    top: str | None = None
    keep: int | tuple[str, ...]
    top_may_go: bool = False
    remove: bool = False
    verify: bool = False

    def kept(self, forest: Forest) -> int | tuple[str, ...]:
        """Return how many images may remain, or the paths of those that must."""
        return self.keep if isinstance(self.keep, int) else tuple(self.find(forest, name) for name in self.keep)

    def settled(self, plan: Plan) -> Self:
        """Return the request with the paths of the images that it names."""
        return replace(super().settled(plan), keep=self.kept(plan.before))

    def _needs(self, forest: Forest) -> Needs:
        layers = forest.lineage(self.image(forest, self.top))
        return self._needed(forest, layers, layers)

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        return plan_shorten(reading, self)


@dataclass(frozen=True, kw_only=True)
class CleanupRequest(MergeRequest):
    """Remove what is invalid: `among` these, on layers of the guest's chains, or all.

    `uri` says which libvirt was asked for guests, if no guest is named.
    """

    among: tuple[str, ...] | None = None
    uri: str = ""

    def _needs(self, forest: Forest) -> Needs:
        if self.among is not None:
            return super()._needs(forest)
        paths = list(forest.images)
        if self.guest:
            paths = [path for use in forest.uses if use.guest == self.guest for path in forest.known_lineage(use.path)]
        folders = {os.path.dirname(path) for path in paths if path.startswith("/")}
        folders.update(() if self.guest else forest.folders)
        return replace(super()._needs(forest), leftovers=tuple(sorted(folders)))

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        return plan_cleanup(reading, self)


@dataclass(frozen=True, kw_only=True)
class FinishRequest(MergeRequest):
    """Finish a commit that was cut short.

    Where the disk was detached from the guest meanwhile (`detached`) nothing but its images, and records, is left.
    """

    entry: MergeEntry
    detached: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """Images that must be read, and that are perhaps in no chain any more."""
        return self.entry.merged

    @property
    def again(self) -> CommitRequest:
        """The same commit, if it is to be done again."""
        entry = self.entry
        return CommitRequest(guest=self.guest, disk=self.disk, top=entry.top, base=entry.base, remove=entry.remove)

    def settled(self, plan: Plan) -> Self:
        """Return the request with the disk, if there is one."""
        return self if self.detached else super().settled(plan)

    def _target(self, forest: Forest) -> str | None:
        return None if self.detached else super()._target(forest)

    def _needs(self, forest: Forest) -> Needs:
        entry = self.entry
        again = commit_needs(forest, entry.top, entry.base) if entry.top in forest.images else ()
        paths = (*entry.merged, *entry.children, entry.base, *again)
        guest = "" if self.detached else self.guest
        compared = ((entry.top, entry.base),) if is_compared(forest, entry, guest) else ()
        needed = self._needed(forest, paths, paths, compared=compared, entries=(entry,))
        return replace(needed, checked=(entry.base,), written=entry.active and entry.phase != "copying")

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        return plan_finish(reading, self)


@dataclass(frozen=True, kw_only=True)
class FinishPullRequest(MergeRequest):
    """Finish a pull into the image of a running guest whose process has ended, or whose QEMU has."""

    entry: PullEntry

    @property
    def files(self) -> tuple[str, ...]:
        """Images that must be read, and that are perhaps in no chain any more."""
        return (self.entry.before.key,)

    @property
    def again(self) -> PullRequest:
        """The same pull, if QEMU goes on with it."""
        return PullRequest(guest=self.guest, disk=self.disk, base=self.entry.base, adopt=True)

    def _needs(self, forest: Forest) -> Needs:
        runs = any(use.guest == self.guest and use.running for use in forest.uses)
        if not runs:
            return self._needed(forest, (self.entry.image,), ())
        needs = super()._needs(forest)  # and when the entry was written: before or after the QEMU was started
        return replace(needs, journal=tuple(dict.fromkeys((*needs.journal, os.path.dirname(self.entry.path)))))

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        return plan_finish_pull(reading, self)


def _has_snapshots(forest: Forest, path: str) -> bool:
    return path in forest.images and bool(forest.images[path].snapshots)


def commit_needs(forest: Forest, top: str, base: str | None = None) -> tuple[str, ...]:
    """Return the images whose maps the plan of a commit is made with: in most cases those that it copies between.

    Each map is a program that has to be run, so a long chain below the base is left alone.
    """
    lineage, children = forest.lineage(top), forest.children(top)
    size = forest[top].virtual_size or 0
    if any((forest[child].virtual_size or 0) > size for child in children):
        return (*lineage, *children)  # what is behind the end of the top might come to light
    if base is None:
        return lineage[:2]
    return lineage[: lineage.index(base) + 1] if base in lineage else lineage


def pull_needs(forest: Forest, image: str, base: str | None = None) -> tuple[str, ...]:
    """Return the images whose maps the plan of a pull is made with: those above the base."""
    lineage = forest.lineage(image)
    return lineage[: lineage.index(base)] if base in lineage else lineage


# -- what was cut short ----------------------------------------------------------------------------------


def unfinished_needs(forest: Forest, guest: str = "") -> Needs:
    """Return what must be read to find what was cut short: entries beside a guest's layers, or beside all images."""
    if guest:
        return Needs(journal=tuple(sorted(note_folders(forest, (top for _, top in _tops(forest, guest))))))
    # Not where only a header names an image: whoever can write one could have us act on entries of their own.
    named = [folder.rstrip("/") for folder in forest.folders]
    beside = {os.path.dirname(path) for path in forest.images if path.startswith("/")}
    inside = {folder for folder in beside if any(folder == one or folder.startswith(one + "/") for one in named)}
    held = (disk for record in forest.records for disk in record.held_disks)
    own = (*(use.path for use in forest.uses), *(path for disk in held for path in (disk.source, disk.file) if path))
    return Needs(journal=tuple(sorted(inside.union(note_folders(forest, own)))))


def unfinished(
    reading: Reading, guest: str = ""
) -> tuple[FinishInsideRequest | FinishRequest | FinishPullRequest | ForgetEntryRequest, ...]:
    """Return the requests that finish what was cut short, in a guest's chains or of all images.

    What lies inside images comes first, since it may have left them damaged, then commits.
    """
    forest = reading.forest
    if not guest:
        inside = (FinishInsideRequest(entry=entry) for entry in reading.insides)
        merges = (FinishRequest(entry=entry) for entry in reading.merges)
        return (*inside, *merges, *(ForgetEntryRequest(entry=entry) for entry in guestless(reading)))
    layers = {layer for _, top in _tops(forest, guest) for layer in forest.known_lineage(top) or (top,)}
    inside = (FinishInsideRequest(entry=entry) for entry in reading.insides if is_among(forest, entry.image, layers))
    found = [
        FinishRequest(guest=guest, disk=disk, entry=entry, detached=disk is None)
        for disk, top in _tops(forest, guest)
        for entry in reading.merges
        if is_among(forest, entry.base, forest.known_lineage(top))
    ]
    attached = {request.entry for request in found if not request.detached}
    commits = (request for request in found if not (request.detached and request.entry in attached))
    pulls = (
        FinishPullRequest(guest=guest, disk=disk, entry=entry)
        for entry in reading.pulls
        for disk, top in _tops(forest, guest)
        if disk is not None and may_lack(forest, entry, top)
    )
    return tuple(dict.fromkeys((*inside, *commits, *pulls)))


def _tops(forest: Forest, guest: str) -> Iterator[tuple[str | None, str]]:
    """Yield the ends of a guest's chains by disk: what it writes to, and the branches that its snapshots hold.

    The disk of a snapshot may have been detached since: None is that, for nothing but its images is left.
    """
    disks = {use.target: use.path for use in forest.uses if use.guest == guest}
    yield from disks.items()
    for record in forest.records:
        for disk in record.held_disks:
            if record.guest == guest:
                target = disk.target if disk.target in disks else None
                yield from ((target, path) for path in (disk.source, disk.file) if path is not None)
