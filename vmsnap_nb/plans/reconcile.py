"""The plan that puts libvirt's records of snapshots right; no image and no memory file is touched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.names import check_name
from vmsnap_nb.model.snapshot import Snapshot, SnapshotRecord
from vmsnap_nb.plans.plan import Concern, Plan
from vmsnap_nb.plans.snapshot import sorted_concerns
from vmsnap_nb.plans.snapshot_facts import SnapshotFacts
from vmsnap_nb.plans.snapshot_steps import DefineRecord, ForgetRecord, GuestStep

__all__ = ["moved_record", "plan_reconcile", "without_record"]


def plan_reconcile(forest: Forest, domain: Domain, facts: SnapshotFacts) -> Plan:
    """Plan to forget the records that no longer describe any files, and to write those that are missing.

    Parameters
    ----------
    forest : Forest
        The images, with the guest's snapshot records.
    domain : Domain
        The guest.
    facts : SnapshotFacts
        `SnapshotFacts.gone` above all.

    Returns
    -------
    Plan
        Without steps where records and files agree.
    """
    found = list_snapshots(domain, forest, gone=facts.gone)
    concerns: list[Concern] = []
    steps: list[GuestStep] = []
    records = forest.records
    left = {snapshot.name for snapshot in found if snapshot.status == "ok"}
    for snapshot in found:
        if snapshot.status in ("stale", "missing-file"):
            own = [record for record in records if record.guest == domain.name]
            parent = next(record.parent for record in own if record.name == snapshot.name)
            above = tuple(record for record in own if record.parent == snapshot.name)
            steps.append(ForgetRecord(domain.name, domain.uuid, facts.uri, snapshot.name, parent, above))
            records = without_record(records, domain.name, snapshot.name)
            if snapshot.status == "missing-file":
                concerns.append(_forgetting(domain, snapshot))
    for snapshot in found:
        if snapshot.status == "untracked":
            refused = _why_not_adopt(snapshot, left)
            if refused:
                concerns.append(Concern("not-supported", "note", refused, holders=(domain.name,)))
                continue
            left.add(snapshot.name)
            steps.append(DefineRecord(domain.name, domain.uuid, facts.uri, snapshot.record, domain.disks))
            records = (*records, snapshot.record)
    sources = [use.path for use in domain.uses if use.path in forest]
    return Plan(
        title=f"put the snapshot records of {domain.name} right",
        before=forest,
        steps=tuple(steps),
        after=forest.edited(records=records),
        concerns=sorted_concerns(concerns),
        way="only libvirt's records change: no image and no memory file is touched"
        if steps
        else "records and files agree: there is nothing to do",
        subjects=tuple(dict.fromkeys(sources)),
    )


def _forgetting(domain: Domain, snapshot: Snapshot) -> Concern:
    return Concern(
        "missing-base",
        "warn",
        f"the record of {snapshot.name} would be forgotten, because {snapshot.problem}",
        "if its files are only moved away or not mounted, bring them back instead",
        images=snapshot.record.files,
        holders=(domain.name,),
    )


def _why_not_adopt(snapshot: Snapshot, left: set[str]) -> str:
    """Give the reason why libvirt cannot have a record of a snapshot, or an empty text."""
    if snapshot.name in left:
        return f"the snapshot {snapshot.name} inside {', '.join(snapshot.record.files)} has the name of another one"
    try:
        check_name(snapshot.name, "snapshot")
    except InvalidRequestError as error:
        return f"the snapshot {snapshot.name!r} cannot have a record: {error.said}"
    return ""


def without_record(records: Iterable[SnapshotRecord], guest: str, name: str) -> tuple[SnapshotRecord, ...]:
    """Predict the records once libvirt has forgotten one: its children, and being current, go to its parent."""
    records = tuple(records)
    gone = next(record for record in records if (record.guest, record.name) == (guest, name))
    result = []
    for record in records:
        if record is gone:
            continue
        if record.guest == guest and record.parent == name:
            record = replace(record, parent=gone.parent)
        if record.guest == guest and gone.current and record.name == gone.parent:
            record = replace(record, current=True)
        result.append(record)
    return tuple(result)


def moved_record(record: SnapshotRecord, path: str, now: str) -> SnapshotRecord:
    """Give a record in which another image takes the place of one.

    Parameters
    ----------
    record : SnapshotRecord
        The record; its XML stays as it is: `vmsnap_nb.plans.record_xml.moved_xml` changes that when it is written.
    path : str
        The image that held the state of a disk, or to which everything was written afterwards.
    now : str
        The image that does.

    Returns
    -------
    SnapshotRecord
    """
    disks = (
        replace(disk, source=now if disk.source == path else disk.source, file=now if disk.file == path else disk.file)
        for disk in record.disks
    )
    return replace(record, disks=tuple(disks))
