"""Request that finishes an external snapshot that was interrupted: its plan, and what it refuses."""

from __future__ import annotations

import os.path
import shlex
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from vmsnap_nb.model.aliases import is_among
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.moment import time_text
from vmsnap_nb.model.size import human_size
from vmsnap_nb.plans.checks.open_images import missed_switches, set_aside, unrecorded_switches
from vmsnap_nb.plans.concern import Concern, either, refuse, remark, sorted_concerns
from vmsnap_nb.plans.journal import SnapshotEntry, Switch, written_before_clock
from vmsnap_nb.plans.merge.request import MergeRequest
from vmsnap_nb.plans.merge.steps import RemoveFile, SetSource
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.plans.snapshot.steps import EndSnapshot
from vmsnap_nb.words.message import listed, t

__all__ = ["FinishSnapshotRequest"]


@dataclass(frozen=True, kw_only=True)
class FinishSnapshotRequest(MergeRequest):
    """Finish an external snapshot that was interrupted: the guest gets what QEMU has written, and leftovers go."""

    entry: SnapshotEntry

    @property
    def files(self) -> tuple[str, ...]:
        """Images that must be read, and that are perhaps in no chain."""
        return tuple(one.file for one in self.entry.disks)

    def needs(self, forest: Forest) -> Needs:
        """Return what must be read: whether anything is in the overlays, and which files there are."""
        folder = (os.path.dirname(self.entry.path),)
        maps = tuple(path for path in self.files if path in forest.images)
        times = (self.entry.path,)
        return Needs(maps=maps, journal=folder, begun=self.entry.made, places=self.entry.made, times=times)

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        forest, guest, entry = reading.forest, reading.owner, self.entry
        missed, behind = missed_switches(reading, entry), unrecorded_switches(reading, entry)
        named = {use.target: use.path for use in guest.domain.uses} | behind
        steps = (
            SetSource(
                guest=guest.ref,
                target=one.target,
                before=named[one.target],
                path=one.file,
                format="qcow2",
                devices=forest.known_devices(named[one.target], one.file),
            )
            for one in entry.disks
            if one in missed or one.target in behind
        )
        now = {one.target: one.file for one in missed}
        uses = (
            replace(use, path=now[use.target]) if use.guest == guest.domain.name and use.target in now else use
            for use in forest.uses
        )
        left = _leftovers(reading, entry, set(now.values()))
        way = t("only the journal entry still has to be removed")
        if left:
            way = t("the files that the operation left behind are removed: they contain no guest data")
        if behind:
            way = t(
                "only the definition for the next start changes, because it still names {files}",
                files=listed(behind.values()),
            )
        if now:
            way = t(
                "only the definition changes, because QEMU was apparently writing to {files} when it exited",
                files=listed(now.values()),
            )
        doubts = (
            *_both_newest(reading, entry, missed),
            *_started_without(reading, entry),
            *_open(forest, guest.domain, left),
            *_kept_memory(reading, entry),
        )
        if missed or behind or left:
            doubts = (*doubts, *_redefined(guest.domain, entry))
        return Plan(
            title=t("finish the interrupted snapshot {name} of {guest}", name=entry.name, guest=guest.domain.name),
            before=forest,
            steps=(*steps, *left, EndSnapshot(guest=guest.ref, entry=entry)),
            after=forest.edited(uses=uses, drop=tuple(step.path for step in left if step.path in forest.images)),
            concerns=sorted_concerns(doubts),
            way=way,
            subjects=tuple(path for one in entry.disks for path in (one.source, one.file) if path in forest.images),
        )


def _leftovers(reading: Reading, entry: SnapshotEntry, missed: Collection[str]) -> tuple[RemoveFile, ...]:
    """Return the steps that remove what a snapshot has created and what neither the guest nor a record has.

    An overlay with anything in it stays, and so does memory that is complete while the guest does not run.
    """
    forest = reading.forest
    used = {path for use in forest.uses for path in forest.known_lineage(use.path)}
    for record in forest.records:
        used |= {path for disk in record.disks for path in (disk.source, disk.file) if path}
        used |= {record.memory_file or ""}
    sources = {one.file: one.source for one in entry.disks}
    steps = []
    for path in entry.made:
        image, identity = forest.images.get(path), reading.incomplete.get(path)
        if is_among(forest, path, used) or path in missed:
            continue
        if identity is None and image is not None and image.format == "qcow2" and path in sources:
            is_empty = path in reading.maps and not reading.maps[path].extents and not image.snapshots
            is_new = forest.parent(path) in (None, *forest.same_file(sources[path]))
            if is_empty and is_new and not forest.known_children(path):
                identity = image.identity
        if identity is not None:
            steps.append(RemoveFile(path=path, identity=identity))
    return tuple(steps)


def _open(forest: Forest, guest: Domain, left: Iterable[RemoveFile]) -> Iterator[Concern]:
    """Check that nobody has an overlay open that is to be removed: QEMU opens it before it switches to it."""
    for path in (step.path for step in left if step.path in forest.images and forest[step.path].held):
        fields = {"path": path, "guest": guest.name}
        what = t("a process has {path} open, which was left behind", **fields)
        remedy = t("end that process, then call unfinished() again")
        if guest.running:
            what = t(
                "QEMU opened {path} for the interrupted snapshot and still has it open, although it is not a disk of "
                "{guest}",
                **fields,
            )
            remedy = t(
                "shut {guest} down, then call unfinished() again. Until then, {guest} can keep running: its disks are "
                "the same as before the snapshot",
                **fields,
            )
        yield refuse("in-use", what, remedy, images=(path,), holders=(guest.name,))


def _kept_memory(reading: Reading, entry: SnapshotEntry) -> Iterator[Concern]:
    """Remark which memory stays though no snapshot has it: it is complete, and nobody else names it."""
    overlays = {one.file for one in entry.disks}
    recorded = {record.memory_file for record in reading.forest.records}
    for path in entry.made:
        if path in overlays or path in recorded or path in reading.incomplete or path not in reading.folders.taken:
            continue
        yield remark(
            "memory-lost",
            t(
                "{path} holds the memory of {guest} that was saved for snapshot {name}. No snapshot refers to the "
                "file, and this plan keeps it",
                path=path,
                guest=entry.guest,
                name=entry.name,
            ),
            t("if you do not need it, remove it: {command}", command=shlex.join(("rm", "--", path))),
        )


def _redefined(guest: Domain, entry: SnapshotEntry) -> Iterator[Concern]:
    """Check that it was this guest whose snapshot it is: another one may have its name and its disks by now."""
    if entry.uuid != guest.uuid:
        yield refuse(
            "other-image",
            t(
                "snapshot {name} was started for guest {guest} with the UUID {uuid}, but {guest} now has another UUID",
                name=entry.name,
                guest=entry.guest,
                uuid=entry.uuid,
            ),
            t(
                "waive this if {guest} was only redefined, and now has the UUID {uuid}",
                guest=guest.name,
                uuid=guest.uuid,
            ),
            images=tuple(disk.file for disk in entry.disks),
            holders=(guest.name,),
            waivable=True,
        )


def _both_newest(reading: Reading, entry: SnapshotEntry, missed: tuple[Switch, ...]) -> Iterator[Concern]:
    """Check that nobody has written to an image after QEMU had gone over to the overlay on it."""
    forest, began = reading.forest, reading.times.get(entry.path)
    for one in missed:
        below, above = forest[one.source].mtime_ns, forest[one.file].mtime_ns
        unknown = below is None or above is None or below > above
        if unknown or (began is not None and written_before_clock(entry.files, one.source, below or 0, began)):
            yield refuse(
                "disk-changed",
                t(
                    "either {base} or its overlay {overlay} may hold the current content of disk {disk}. Last write to "
                    "{base}: {base_time}. Last write to {overlay}: {overlay_time}",
                    base=one.source,
                    base_time=time_text(below),
                    overlay=one.file,
                    overlay_time=time_text(above),
                    disk=one.target,
                ),
                t("compare both images in separate guests. If the overlay holds the current content, waive this"),
                images=(one.source, one.file),
                waivable=True,
            )


def _started_without(reading: Reading, entry: SnapshotEntry) -> Iterator[Concern]:
    """Check that nothing is in an overlay that the guest does not have: it may have been started on the old image."""
    forest, guest = reading.forest, reading.owner.domain
    now = {use.target: use.path for use in guest.uses}
    for one in set_aside(reading, entry):
        known = reading.maps.get(one.file)
        disk, source = now.get(one.target), forest.images.get(one.source)
        fields = {
            "overlay": one.file,
            "size": human_size(known.data) if known is not None else "",
            "time": time_text(forest[one.file].mtime_ns),
            "name": entry.name,
            "guest": guest.name,
            "disk": one.target,
            "source": one.source,
            "now": time_text(None if source is None else source.mtime_ns),
        }
        if known is None:
            what = t(
                "{overlay} could not be read, and may hold data that {guest} wrote to disk {disk} after snapshot "
                "{name} was started",
                **fields,
            )
        else:
            what = t(
                "{overlay} holds {size} of data that {guest} wrote to disk {disk} after snapshot {name} "
                "was started. Last write: {time}",
                **fields,
            )
        if disk in forest.same_file(one.source):
            what = t(
                "{what}. Since then, {guest} has used {source} without that overlay. Last write to {source}: {now}",
                what=what,
                **fields,
            )
        else:
            what = t("{what}. No guest or snapshot uses that image", what=what)
        yield refuse(
            "disk-changed",
            what,
            either(
                t(
                    "restore {source} from a copy made before those writes, then copy the data that you need from "
                    "{overlay}",
                    **fields,
                ),
                t(
                    "waive this if you do not need that data: only the journal entry is removed, and {overlay} is kept",
                    **fields,
                ),
            ),
            images=tuple(path for path in (one.file, one.source) if path in forest.images),
            holders=(guest.name,),
            waivable=True,
        )
