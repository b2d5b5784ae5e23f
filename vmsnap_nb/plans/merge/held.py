"""Plans for what QEMU holds, or held: to correct a definition, save a deleted file, finish an external snapshot."""

from __future__ import annotations

import os.path
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from shlex import quote

from vmsnap_nb.model.find import find_disk
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.size import human_size
from vmsnap_nb.plans.checks.held import held_concerns, missed_switches, set_aside, switched, unrecorded_switches
from vmsnap_nb.plans.concern import Concern, either, refuse, sorted_concerns
from vmsnap_nb.plans.journal import SnapshotEntry, Switch
from vmsnap_nb.plans.merge.builder import MergeBuilder
from vmsnap_nb.plans.merge.engines import BlockJobs, engine_of
from vmsnap_nb.plans.merge.request import MergeRequest
from vmsnap_nb.plans.merge.steps import MarkInvalid, RemoveFile, SetSource
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.plans.snapshot.steps import EndSnapshot
from vmsnap_nb.plans.step import Step
from vmsnap_nb.words.message import clauses, joined, t

__all__ = ["CorrectRequest", "FinishSnapshotRequest", "SaveDeletedRequest", "held_requests"]


@dataclass(frozen=True, kw_only=True)
class CorrectRequest(MergeRequest):
    """That the definition for a guest's next start names the image to which QEMU writes a disk."""

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        forest, guest = reading.forest, reading.owner
        use = next(use for use in forest.uses if (use.guest, use.target) == (self.guest, self.disk))
        name = forest[use.path].name if use.path in forest.images else use.path
        step = SetSource(
            guest=guest.ref,
            target=use.target,
            before=use.next or use.path,
            path=use.path,
            format=(forest[use.path].format if use.path in forest.images else None) or "qcow2",
            devices=forest.known_devices(use.next or use.path, use.path),
        )
        uses = (replace(one, next=None) if one == use else one for one in forest.uses)
        return Plan(
            title=t("correct the definition of {guest} to {image}", guest=self.guest, image=name),
            before=forest,
            steps=(step,),
            after=forest.edited(uses=uses),
            concerns=sorted_concerns(_against(reading)),
            way=t(
                "only the definition for the next start changes: QEMU writes to {path}, but libvirt has {named} in "
                "the definition. Afterwards, shut {guest} down and start it again",
                path=use.path,
                named=use.named,
                guest=self.guest,
            ),
            subjects=(use.path, *((use.named,) if use.named in forest.images else ())),
        )


def _against(reading: Reading) -> Iterator[Concern]:
    domain = reading.owner.domain
    if not domain.persistent:
        yield refuse(
            "not-supported",
            t("{guest} is transient: libvirt has no definition for its next start", guest=domain.name),
            t(
                "make it persistent first: {command}",
                command=f"virsh dumpxml {quote(domain.name)} | virsh define /dev/stdin",
            ),
            holders=(domain.name,),
        )


@dataclass(frozen=True, kw_only=True)
class SaveDeletedRequest(MergeRequest):
    """Copy what QEMU holds of deleted files into an image that stays.

    Down into the image below, to which the guest then writes, where its own image is deleted; else up into that.
    """

    def _needs(self, forest: Forest) -> Needs:
        # Of what is deleted there is no file of which a map could be made.
        own = self._own(forest)
        return self._needed(forest, (path for path in forest.known_lineage(own.path) if path not in own.deleted), ())

    def _own(self, forest: Forest) -> Use:
        return find_disk(forest, self.guest, self.disk)

    def plan(self, reading: Reading) -> Plan:
        """Return the plan."""
        forest, engine, own = reading.forest, engine_of(reading, self), self._own(reading.forest)
        lineage = forest.known_lineage(own.path)
        last = max((lineage.index(path) for path in own.deleted if path in lineage), default=0)
        base = next(iter(lineage[last + 1 :]), None)
        down = own.path in own.deleted or not own.deleted
        kind = "active commit" if down else "pull"
        if isinstance(engine, BlockJobs) and reading.owner.jobs.get(engine.own.target) == kind:
            engine = replace(engine, adopt=True)  # begun by a process that has ended since
        builder = MergeBuilder(reading, engine)
        merged = tuple(reversed(lineage[: last + 1]))
        if down and base is not None:
            builder.commit(base, merged, remove=True)
            way = t(
                "live: a QEMU block job copies from the deleted files, which only QEMU still has open; the guest "
                "then writes to the base (pivot)"
            )
        else:
            builder.pull(own.path, base)
            way = t(
                "live: a QEMU block job copies from the deleted files, which only QEMU still has open; the guest "
                "keeps its image"
            )
        plan = builder.plan(
            t(
                "save the deleted images of {guest} in {image}",
                guest=self.guest,
                image=forest[base if down and base else own.path].name,
            ),
            way,
            resumed=next((one for one in reading.merges if (one.base, one.merged) == (base, merged)), None),
        )
        known = {concern for concern in held_concerns(forest, self.guest) if concern.name == "deleted-image"}
        concerns = [one for one in plan.concerns if one not in known and not _is_missing(one, own.deleted)]
        steps = (step for step in plan.steps if not _is_of_gone(step, own.deleted))
        gone = () if down else own.deleted
        if down and base is not None and forest.status(own.path) != "missing":
            concerns.append(_in_its_place(own.path, forest[base].name))
        return replace(plan, steps=tuple(steps), concerns=sorted_concerns(concerns), after=plan.after.edited(drop=gone))


def _in_its_place(path: str, base: str) -> Concern:
    """Return that another file has the name of the image that QEMU writes to, and would not read what it does."""
    return refuse(
        "shared-base",
        t(
            "the file that replaced {path} depends on {base}, and would be corrupted",
            path=path,
            base=base,
        ),
        t("rename that file, then pull {base} into it", base=base),
        images=(path,),
        waivable=True,
    )


def _is_of_gone(step: Step, deleted: Collection[str]) -> bool:
    return isinstance(step, MarkInvalid | RemoveFile) and step.path in deleted


@dataclass(frozen=True, kw_only=True)
class FinishSnapshotRequest(MergeRequest):
    """Finish an external snapshot that was interrupted: the guest gets what QEMU has written, and leftovers go."""

    entry: SnapshotEntry

    @property
    def files(self) -> tuple[str, ...]:
        """Images that must be read, and that are perhaps in no chain."""
        return tuple(one.file for one in self.entry.disks)

    def needs(self, forest: Forest) -> Needs:
        """Return what must be read: whether anything is in the overlays."""
        folder = (os.path.dirname(self.entry.path),)
        maps = tuple(path for path in self.files if path in forest.images)
        return Needs(maps=maps, journal=folder, begun=self.entry.made)

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
        way = t("only the journal entry remains to be removed")
        if left:
            way = t("the files that the operation left behind are removed: they contain no guest data")
        if behind:
            way = t(
                "only the definition for the next start changes, because it still names {files}",
                files=joined(behind.values()),
            )
        if now:
            way = t(
                "only the definition changes, because QEMU was apparently writing to {files} when it exited",
                files=joined(now.values()),
            )
        return Plan(
            title=t("finish the interrupted snapshot {name} of {guest}", name=entry.name, guest=guest.domain.name),
            before=forest,
            steps=(*steps, *left, EndSnapshot(guest=guest.ref, entry=entry)),
            after=forest.edited(uses=uses, drop=tuple(step.path for step in left if step.path in forest.images)),
            concerns=sorted_concerns((*_both_newest(forest, missed), *_started_without(reading, entry))),
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
        if path in used or path in missed:
            continue
        if identity is None and image is not None and image.format == "qcow2" and path in sources:
            is_empty = path in reading.maps and not reading.maps[path].extents and not image.snapshots
            is_new = forest.parent(path) in (None, *forest.same_file(sources[path]))
            if is_empty and is_new and not forest.known_children(path):
                identity = image.identity
        if identity is not None:
            steps.append(RemoveFile(path=path, identity=identity))
    return tuple(steps)


def _both_newest(forest: Forest, missed: tuple[Switch, ...]) -> Iterator[Concern]:
    """Check that nobody has written to an image after QEMU had gone over to the overlay on it."""
    for one in missed:
        below, above = forest[one.source].mtime_ns, forest[one.file].mtime_ns
        if below is None or above is None or below > above:
            yield refuse(
                "disk-changed",
                t(
                    "{base} was written to at {base_time}, and its overlay {overlay} at {overlay_time}. Either of "
                    "them may hold the current content of disk {disk}",
                    base=one.source,
                    base_time=_time(below),
                    overlay=one.file,
                    overlay_time=_time(above),
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
            "time": _time(forest[one.file].mtime_ns),
            "name": entry.name,
            "guest": guest.name,
            "disk": one.target,
            "source": one.source,
            "now": _time(source.mtime_ns) if source is not None else t("an unknown time"),
        }
        if known is None:
            what = t(
                "{overlay} could not be read, and may hold data that {guest} wrote to disk {disk} after snapshot "
                "{name} was started",
                **fields,
            )
        else:
            what = t(
                "{overlay} holds {size} that {guest} wrote to disk {disk} after snapshot {name} was started. The "
                "last write was at {time}",
                **fields,
            )
        if disk in forest.same_file(one.source):
            so = t(
                "since then, {guest} has used {source} without that overlay. The last write to {source} was at {now}",
                **fields,
            )
        else:
            so = t("no guest or snapshot uses that image", **fields)
        yield refuse(
            "disk-changed",
            clauses([what, so]),
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


def _time(mtime_ns: int | None) -> str:
    if mtime_ns is None:
        return t("an unknown time")
    return datetime.fromtimestamp(mtime_ns / 1e9, UTC).isoformat(sep=" ", timespec="seconds")


def _is_missing(concern: Concern, deleted: Collection[str]) -> bool:
    return concern.name == "missing-base" and set(concern.images) <= set(deleted)


def held_requests(reading: Reading) -> Iterator[CorrectRequest | SaveDeletedRequest | FinishSnapshotRequest]:
    """Yield the requests that correct what QEMU holds, or held, otherwise than libvirt or the file system know."""
    forest, guest = reading.forest, reading.owner.domain.name
    if not any(use.guest == guest and use.named is not None for use in forest.uses):
        yield from (FinishSnapshotRequest(guest=guest, entry=entry) for entry in switched(reading))
    for use in forest.uses:
        if use.guest != guest:
            continue
        if use.named is not None and use.next is not None:
            yield CorrectRequest(guest=guest, disk=use.target)
        elif use.deleted and (use.path not in use.deleted or forest.known_lineage(use.path)[-1] not in use.deleted):
            yield SaveDeletedRequest(guest=guest, disk=use.target)
