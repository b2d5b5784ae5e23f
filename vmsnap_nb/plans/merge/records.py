"""What becomes of libvirt's records of a guest's snapshots in a merge of its chain."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import replace

from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.size import human_size
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans.concern import Concern, remark, sorted_concerns, warn
from vmsnap_nb.plans.facts import GuestFacts
from vmsnap_nb.plans.journal import MergeEntry
from vmsnap_nb.plans.merge.steps import Finish, RemoveFile
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.snapshot.backup_checkpoints import refused_while_off
from vmsnap_nb.plans.snapshot.records import disks_left, forgotten, moved_record
from vmsnap_nb.plans.snapshot.steps import MoveRecord
from vmsnap_nb.plans.step import Step
from vmsnap_nb.words.message import NOTHING, joined, listed, t

__all__ = ["with_records"]


def with_records(plan: Plan, guest: GuestFacts, gone: Collection[str] = (), *, resumed: bool = False) -> Plan:
    """Return the plan with steps that correct libvirt's records, as the last thing before the merge's entry goes.

    The state of a snapshot that was in the top of what was committed is in the base then, and its record says so.
    Those snapshots that the merge makes meaningless are forgotten; their files of memory, but for those that are `gone`
    already, are removed with the files of the layers, or named.

    What is `resumed` may be one disk's part of a deletion: the record stays while other disks have that snapshot, since
    nothing else says that it is half deleted, and the deletion can be repeated.
    """
    domain = guest.domain
    steps: list[Step] = []
    records = list(plan.after.records)
    entries = [step.entry for step in plan.steps if isinstance(step, Finish)]
    merged = {path for entry in entries for path in entry.merged}
    # Those of the merged layers may be out of order by this very merge, where it was interrupted.
    sound = {row.name for row in list_snapshots(domain, plan.before) if row.status == "ok"}
    own = (record for record in records if record.guest == domain.name)
    sound |= {record.name for record in own if _names(record, merged)}
    moved: set[str] = set()
    for place, record in enumerate(records):
        entry = next((entry for entry in entries if _is_on(record, domain, entry)), None)
        if entry is not None and record.name in sound:
            records[place] = moved_record(record, entry.top, entry.base)
            moved.add(record.name)
            steps.append(
                MoveRecord(
                    guest=guest.ref,
                    name=record.name,
                    path=entry.top,
                    now=entry.base,
                    format=plan.before[entry.base].format or "raw",
                    current=record.current,
                    devices=plan.before.known_devices(entry.top, entry.base),
                )
            )
    rows = list_snapshots(domain, plan.after.edited(records=records), gone=plan.unlinks)
    # What is still wrong with one that was moved is another disk's, as where its merge was interrupted as well.
    waiting = {row.name for row in rows if row.name in moved and not _names(row.record, merged)}
    bad = [row.name for row in rows if row.status in ("stale", "missing-file") and row.name in sound - waiting]
    left = {row.name: disks_left(plan.after, row.record, merged) for row in rows if row.name in bad and resumed}
    stale = [name for name in bad if not left.get(name)]
    ended = [row.record for row in rows if row.name in stale]
    staying = tuple(records)
    for name in stale:
        step, staying = forgotten(guest.ref, staying, name)
        steps.append(step)
    files = {record.memory_file for record in staying}
    memory = {r.memory_file: r for r in ended if r.memory_file and r.memory_file not in {*gone, *files}}
    removing = any(entry.remove for entry in entries) or any(isinstance(step, RemoveFile) for step in plan.steps)
    ends = [_forgotten(domain, name) for name in stale]
    ends += [_half_deleted(domain, name, targets) for name, targets in left.items() if targets]
    ends += [_about_memory(plan, path, record, removing=removing) for path, record in memory.items()]
    removed = [RemoveFile(path=path) for path in memory if removing]
    at = next((n for n, step in enumerate(plan.steps) if isinstance(step, RemoveFile | Finish)), len(plan.steps))
    return replace(
        plan,
        steps=(*plan.steps[:at], *steps, *removed, *plan.steps[at:]),
        after=plan.after.edited(records=staying),
        concerns=sorted_concerns((*plan.concerns, *ends, *refused_while_off(guest, steps))),
    )


def _forgotten(domain: Domain, name: str) -> Concern:
    return warn(
        "state-lost",
        t(
            "this merge removes the record of snapshot {name} of {guest}, because its layers will no longer "
            "match the record",
            name=name,
            guest=domain.name,
        ),
        t("merge other layers if you may want to revert to that snapshot"),
        holders=(domain.name,),
    )


def _half_deleted(domain: Domain, name: str, targets: Collection[str]) -> Concern:
    return warn(
        "state-lost",
        t(
            "snapshot {name} of {guest} remains only for these disks: {disks}. A revert to it is no longer possible",
            name=name,
            guest=domain.name,
            disks=joined(targets),
        ),
        t("to delete it completely, run {call}", call=f"guest.delete_snapshot({name!r})"),
        holders=(domain.name,),
    )


def _about_memory(plan: Plan, path: str, record: SnapshotRecord, *, removing: bool) -> Concern:
    size = None if record.memory_size is None else human_size(record.memory_size)
    fields = {"name": record.name, "file": path if size is None else t("{path} ({size})", path=path, size=size)}
    by_hand = shlex.join(("rm", "--", path))
    sources = tuple(disk.source for disk in record.held_disks if disk.source)
    if removing:
        what, remedy = (
            t("the memory of snapshot {name} in {file} is removed, because it can no longer be restored", **fields),
            NOTHING,
        )
    elif {*sources} & {*plan.writes, *plan.invalid, *plan.unlinks}:
        what = t("the memory of snapshot {name} in {file} is kept, but cannot be restored after this merge", **fields)
        remedy = t(
            "to remove the file, use report.cleanup(), run(remove=True), or: {command}",
            command=by_hand,
        )
    else:
        what = t(
            "the memory of snapshot {name} in {file} is kept without a snapshot record. It belongs to images that "
            "are also kept: {images}",
            images=listed(sources),
            **fields,
        )
        remedy = t("remove the file together with those images: {command}", command=by_hand)
        return remark("memory-lost", what, remedy, images=sources)
    return remark("memory-lost", what, remedy, images=(path,), holders=(record.guest,))


def _names(record: SnapshotRecord, images: Collection[str]) -> bool:
    """Return whether a record names one of some images."""
    return any({disk.source, disk.file}.intersection(images) for disk in record.held_disks)


def _is_on(record: SnapshotRecord, domain: Domain, entry: MergeEntry) -> bool:
    """Return whether a snapshot's state is in the top of the layers that are merged, and all that came after is not."""
    held = record.held_disks
    return (
        record.guest == domain.name
        and any(disk.source == entry.top for disk in held)
        and all(disk.held == "external" and disk.file not in entry.merged for disk in held)
    )
