"""Do the records of snapshots and the files agree? Both are laid side by side into one list."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.image import InternalSnapshot
from vmsnap_nb.model.snapshot import MANAGED_SAVE, Drift, Snapshot, SnapshotDisk, SnapshotList, SnapshotRecord

__all__ = ["list_snapshots"]

_GONE = {"missing", "not-a-file"}
_NOT_READ = {"outside", "remote", "unreadable"}


def list_snapshots(domain: Domain, forest: Forest, *, gone: Collection[str] = ()) -> SnapshotList:
    """Give the snapshots of a guest: libvirt's records, and the internal ones in its images that have none.

    Parameters
    ----------
    domain : Domain
        The guest.
    forest : Forest
        Its images, with the records.
    gone : collection of str
        Paths that records name and at which there is no file: a forest holds images only, and no memory files.

    Returns
    -------
    SnapshotList
    """
    own = [record for record in forest.records if record.guest == domain.name]
    records = [record for record in own if not record.saved]
    rows = [_row(record, forest, gone) for record in records]
    rows += _untracked(domain, records, forest)
    return SnapshotList(
        domain.name,
        tuple(_parents_first(rows)),
        domain.state,
        managed_save=any(record.name == MANAGED_SAVE for record in own),
        read_at=forest.read_at,
    )


def _row(record: SnapshotRecord, forest: Forest, gone: Collection[str]) -> Snapshot:
    problems: list[tuple[Drift, str]] = []
    if record.memory_file is not None and record.memory_file in gone:
        problems.append(("missing-file", f"its memory file {record.memory_file} is gone"))
    for disk in record.held_disks:
        problems += _of_disk(record, disk, forest, gone)
    if not problems:
        return Snapshot(record)
    worst: Drift = "missing-file" if any(drift == "missing-file" for drift, _ in problems) else "stale"
    return Snapshot(record, worst, "; ".join(dict.fromkeys(text for _, text in problems)))


def _of_disk(
    record: SnapshotRecord, disk: SnapshotDisk, forest: Forest, gone: Collection[str]
) -> Iterator[tuple[Drift, str]]:
    source = disk.source
    if source is not None:
        image = forest.images.get(source)
        if source in gone or (image is not None and image.status in _GONE):
            yield "missing-file", f"the image {source} that holds {disk.target} is gone"
        elif image is not None and image.status == "invalid":
            yield "stale", f"{source} no longer holds {disk.target} as it was: {image.problem}"
        elif (
            disk.held == "internal"
            and image is not None
            and image.status not in _NOT_READ
            and record.name not in (inside.name for inside in image.snapshots)
        ):
            yield "stale", f"there is no snapshot {record.name} inside {source}"
    if disk.held == "external" and disk.file is not None:
        image = forest.images.get(disk.file)
        if disk.file in gone or (image is not None and image.status in _GONE):
            yield "missing-file", f"its overlay {disk.file} is gone"
        elif image is not None and image.status == "invalid":
            yield "stale", f"what was written to its overlay {disk.file} was merged down, below what it was to keep"
        elif image is not None and image.status not in _NOT_READ and source is not None:
            below = {name for path in forest.lineage(disk.file)[1:] for name in forest.same_file(path)}
            if source not in below:
                yield "stale", f"its overlay {disk.file} does not stand on {source} any more"


def _untracked(domain: Domain, records: Iterable[SnapshotRecord], forest: Forest) -> Iterator[Snapshot]:
    """Find the internal snapshots without a record, in those images that no other guest stands on."""
    known = {
        (name, record.name)
        for record in records
        for disk in record.disks
        if disk.held == "internal" and disk.source is not None
        for name in forest.same_file(disk.source)
    }
    found: dict[str, dict[str, tuple[str, InternalSnapshot]]] = {}
    for use in domain.uses:
        for path in forest.lineage(use.path):
            if any(other.guest != domain.name for other in forest.users(path)):
                break
            for inside in forest[path].snapshots:
                if (path, inside.name) not in known:
                    found.setdefault(inside.name, {}).setdefault(use.target, (path, inside))
    for name, by_target in found.items():
        yield _from_images(domain, name, by_target)


def _from_images(domain: Domain, name: str, by_target: dict[str, tuple[str, InternalSnapshot]]) -> Snapshot:
    """Write what the images say in the form of a record."""
    inside = [snapshot for _, snapshot in by_target.values()]
    with_memory = any(snapshot.vm_state_size for snapshot in inside)
    times = [snapshot.created for snapshot in inside if snapshot.created is not None]
    record = SnapshotRecord(
        domain.name,
        name,
        state="running" if with_memory else "shutoff",
        memory="internal" if with_memory else "no",
        disks=tuple(
            SnapshotDisk(disk.target, "internal", by_target[disk.target][0])
            if disk.target in by_target
            else SnapshotDisk(disk.target, "no", disk.source)
            for disk in domain.disks
        ),
        created=min(times) if times else None,
    )
    where = ", ".join(dict.fromkeys(path for path, _ in by_target.values()))
    return Snapshot(record, "untracked", f"it is inside {where}, and libvirt has no record of it")


def _parents_first(rows: Iterable[Snapshot]) -> list[Snapshot]:
    """Sort by time and name, but never a snapshot before its parent; parents that are not there count as none."""
    latest = datetime.max.replace(tzinfo=UTC)
    waiting = sorted(rows, key=lambda row: (row.record.created or latest, row.name))
    names = {row.name for row in waiting if row.status != "untracked"}
    rows_by_parent: dict[str | None, list[Snapshot]] = {}
    for row in waiting:
        parent = row.record.parent if row.record.parent in names else None
        rows_by_parent.setdefault(parent, []).append(row)
    if len(rows_by_parent) == 1 and None in rows_by_parent:
        return waiting
    place = {id(row): number for number, row in enumerate(waiting)}
    done: list[Snapshot] = []
    ready = rows_by_parent.pop(None, [])
    while ready:
        row = min(ready, key=lambda one: place[id(one)])
        ready.remove(row)
        done.append(row)
        if row.status != "untracked":
            ready += rows_by_parent.pop(row.name, [])
    # What is left are parents in a circle, which libvirt does not make: shown without their parents.
    return done + [
        replace(row, record=replace(row.record, parent=None)) for left in rows_by_parent.values() for row in left
    ]
