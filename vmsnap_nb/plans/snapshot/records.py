"""libvirt's records of snapshots: how they will be, and the plan that corrects them; no file is touched."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.drift import corrected, list_snapshots
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.names import check_name
from vmsnap_nb.model.snapshot import Snapshot, SnapshotRecord
from vmsnap_nb.plans.checks.interrupted import finishing
from vmsnap_nb.plans.concern import Concern, remark, sorted_concerns, warn
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.snapshot.backup_checkpoints import refused_while_off
from vmsnap_nb.plans.snapshot.steps import DefineRecord, ForgetRecord, MoveRecord
from vmsnap_nb.plans.step import GuestRef, GuestStep
from vmsnap_nb.words.message import Message, joined, listed, t

__all__ = ["disks_left", "forgotten", "moved_record", "plan_reconcile"]


def plan_reconcile(reading: Reading) -> Plan:
    """Plan to forget the records that no longer describe any files, and to write those that are missing.

    The plan has no steps where records and files agree.
    """
    forest, domain = reading.forest, reading.owner.domain
    guest = reading.owner.ref
    found = reading.snapshots
    concerns: list[Concern] = [_not_known(domain, row) for row in found if row.status == "unknown"]
    steps: list[GuestStep] = []
    records = forest.records
    left = {snapshot.name for snapshot in found if snapshot.status in ("ok", "unknown")}
    for snapshot in found:
        if snapshot.status in ("stale", "missing-file"):
            if needed := _why_not_forget(reading, snapshot):
                concerns.append(needed)
                continue
            if moves := tuple(_moves(reading, snapshot.record)):
                steps += moves
                right = corrected(snapshot.record, forest)
                records = tuple(right if record == snapshot.record else record for record in records)
                concerns += (_moving(domain, move) for move in moves)
                left.add(snapshot.name)
                continue
            step, records = forgotten(guest, records, snapshot.name)
            steps.append(step)
            if snapshot.status == "missing-file":
                concerns.append(_forgetting(domain, snapshot))
    for snapshot in found:
        if snapshot.status == "untracked":
            refused = _why_not_adopt(domain, snapshot, left)
            if refused:
                concerns.append(remark("not-supported", refused, holders=(domain.name,)))
                continue
            left.add(snapshot.name)
            steps.append(DefineRecord(guest=guest, record=snapshot.record, disks=domain.disks))
            records = (*records, snapshot.record)
    sources = [use.path for use in domain.uses if use.path in forest.images]
    return Plan(
        title=t("correct the snapshot records of {guest}", guest=domain.name),
        before=forest,
        steps=tuple(steps),
        after=forest.edited(records=records),
        concerns=sorted_concerns((*concerns, *refused_while_off(reading.owner, steps))),
        way=t("only libvirt's records change. No image or memory file is modified")
        if steps
        else t("the records match the files: no action is needed"),
        subjects=tuple(dict.fromkeys(sources)),
    )


def _moves(reading: Reading, record: SnapshotRecord) -> Iterator[MoveRecord]:
    """Yield the steps that let a record name the images on which its overlays are based, if nothing else is wrong."""
    forest, domain = reading.forest, reading.owner.domain
    right = corrected(record, forest)
    records = (right if one == record else one for one in forest.records)
    rows = list_snapshots(domain, forest.edited(records=records), gone=reading.gone, unknown=reading.unknown)
    if right == record or rows[record.name].status != "ok":
        return
    for before, now in zip(record.disks, right.disks, strict=True):
        if before.source and now.source and before.source != now.source:
            yield MoveRecord(
                guest=reading.owner.ref,
                name=record.name,
                path=before.source,
                now=now.source,
                format=forest[now.source].format or "raw",
                current=record.current,
                devices=forest.known_devices(before.source, now.source),
            )


def _moving(domain: Domain, move: MoveRecord) -> Concern:
    return warn(
        "other-image",
        t(
            "the record of snapshot {name} would name {now} instead of {path}, because its overlay is based on {now}",
            name=move.name,
            now=move.now,
            path=move.path,
        ),
        t(
            "if {now} was later inserted between the two, use qemu-img rebase to base the overlay on {path} again",
            now=move.now,
            path=move.path,
        ),
        images=(move.path, move.now),
        holders=(domain.name,),
    )


def _not_known(domain: Domain, snapshot: Snapshot) -> Concern:
    return remark(
        "unknown-image",
        t("the record of snapshot {name} is kept: {why}", name=snapshot.name, why=snapshot.problem),
        t("use an account that can read its files, on the machine where they are stored"),
        images=snapshot.record.files,
        holders=(domain.name,),
    )


def _forgetting(domain: Domain, snapshot: Snapshot) -> Concern:
    return warn(
        "missing-base",
        t("the record of snapshot {name} would be removed, because {why}", name=snapshot.name, why=snapshot.problem),
        t("if its files were only moved, or their file system is not mounted, restore them to their old paths instead"),
        images=snapshot.record.files,
        holders=(domain.name,),
    )


def _why_not_forget(reading: Reading, snapshot: Snapshot) -> Concern | None:
    """Return why a record must stay though it does not describe what is there: it may do so again."""
    named = {path for disk in snapshot.record.held_disks for path in (disk.source, disk.file) if path}
    nameless = tuple(sorted(named & reading.forest.deleted))
    if nameless:
        return remark(
            "deleted-image",
            t(
                "the record of snapshot {name} is kept: a running QEMU process still has {images} open after deletion",
                name=snapshot.name,
                images=listed(nameless),
            ),
            t("call guest.unfinished(), which returns the plan that saves the content"),
            images=nameless,
        )
    for entry in reading.merges:
        if named & {entry.base, *entry.merged, *entry.children}:
            return remark(
                "active-job",
                t(
                    "the record of snapshot {name} is kept: a merge of {top} into {base} is running or was interrupted",
                    name=snapshot.name,
                    top=entry.top,
                    base=entry.base,
                ),
                t(
                    "finish it first with {call}[0].run(), or repeat the deletion",
                    call=finishing(entry, reading.owner.domain),
                ),
                images=(entry.base, entry.top),
            )
    if left := disks_left(reading.forest, snapshot.record):
        return remark(
            "state-lost",
            t(
                "the record of snapshot {name} is kept, because the snapshot remains for these disks: {disks}. Its "
                "deletion may have been interrupted",
                name=snapshot.name,
                disks=joined(left),
            ),
            t("to delete it completely, run {call}", call=f"guest.delete_snapshot({snapshot.name!r})"),
            holders=(snapshot.record.guest,),
        )
    return None


def disks_left(forest: Forest, record: SnapshotRecord, merged: Collection[str] = ()) -> tuple[str, ...]:
    """Return the disks that were not merged and still have a snapshot: its overlay is based on what holds its state."""
    return tuple(
        disk.target
        for disk in record.held_disks
        if disk.held == "external"
        and disk.source is not None
        and disk.file is not None
        and disk.file in forest.images
        and not {disk.source, disk.file}.intersection(merged)
        and forest.status(disk.file) != "invalid"
        and forest.parent(disk.file) in forest.same_file(disk.source)
    )


def _why_not_adopt(domain: Domain, snapshot: Snapshot, left: set[str]) -> Message | None:
    """Return the reason why libvirt cannot have a record of a snapshot, if there is one."""
    without = {disk.target for disk in snapshot.record.disks if disk.held == "no"}
    disks = (disk for disk in domain.disks if disk.device == "disk" and disk.source and not disk.readonly)
    lacking = [disk.target for disk in disks if disk.target in without]
    if lacking:
        return t(
            "libvirt cannot have a record of snapshot {name}, because the snapshot is missing from {disks}. The "
            "snapshot may have been interrupted; {call} removes it",
            name=snapshot.name,
            disks=listed(lacking),
            call=f"guest.delete_snapshot({snapshot.name!r})",
        )
    if snapshot.name in left:
        return t(
            "a snapshot named {name} is in {images}, but another snapshot has the same name",
            name=snapshot.name,
            images=listed(snapshot.record.files),
        )
    try:
        check_name(snapshot.name, "snapshot")
    except InvalidRequestError as error:
        return t("libvirt cannot have a record of snapshot {name}: {why}", name=repr(snapshot.name), why=error.reason)
    return None


def forgotten(
    guest: GuestRef, records: Iterable[SnapshotRecord], name: str
) -> tuple[ForgetRecord, tuple[SnapshotRecord, ...]]:
    """Return the step that forgets a record, and the records then: children, and being current, go to its parent."""
    records = tuple(records)
    gone = next(record for record in records if (record.guest, record.name) == (guest.name, name))
    above = tuple(record for record in records if (record.guest, record.parent) == (guest.name, name))
    left = []
    for record in records:
        if record in above:
            record = replace(record, parent=gone.parent)
        if record.guest == guest.name and gone.current and record.name == gone.parent:
            record = replace(record, current=True)
        if record is not gone:
            left.append(record)
    return ForgetRecord(guest=guest, name=name, parent=gone.parent, children=above), tuple(left)


def moved_record(record: SnapshotRecord, path: str, now: str) -> SnapshotRecord:
    """Return a record in which another image takes the place of one, whatever that is to the record.

    Its XML stays as it is: `moved_xml` changes that when it is written.
    """
    disks = (
        replace(disk, source=now if disk.source == path else disk.source, file=now if disk.file == path else disk.file)
        for disk in record.disks
    )
    return replace(record, disks=tuple(disks))
