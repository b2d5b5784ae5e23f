"""Do the records of snapshots and the files agree? Both are laid side by side into one list."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.image import NOT_READ, InternalSnapshot, reason
from vmsnap_nb.model.snapshot import MANAGED_SAVE, Drift, Snapshot, SnapshotDisk, SnapshotList, SnapshotRecord
from vmsnap_nb.words.message import Message, clauses, listed, t

__all__ = ["corrected", "list_snapshots"]

_NOTHING: Mapping[str, str] = MappingProxyType({})
_WORST_FIRST: tuple[Drift, ...] = ("missing-file", "stale", "unknown")

_GONE = {"missing", "not-a-file"}


def list_snapshots(
    domain: Domain, forest: Forest, *, gone: Collection[str] = (), unknown: Mapping[str, str] = _NOTHING
) -> SnapshotList:
    """Return the snapshots of a guest: libvirt's records, and the internal ones in its images that have none.

    In `gone` are paths that records name and at which there is no file: a forest holds images only, and no memory
    files. Of those in `unknown` that is not known, for the reason that is said.
    """
    own = [record for record in forest.records if record.guest == domain.name]
    records = [record for record in own if not record.saved]
    later, inside = _last_taken(records, forest), _Inside(forest)
    rows = [_row(record, forest, gone, unknown, later, inside) for record in records]
    rows += _untracked(domain, records, forest)
    return SnapshotList(
        domain.name,
        tuple(_parents_first(rows)),
        domain.state,
        managed_save=any(record.name == MANAGED_SAVE for record in own),
        read_at=forest.read_at,
        problems=tuple(use.problem for use in forest.uses if use.guest == domain.name and use.problem),
    )


class _Inside(dict[str, frozenset[str]]):
    """The names of the internal snapshots of each image, by path: for each record of them it is asked again."""

    def __init__(self, forest: Forest) -> None:
        super().__init__()
        self._forest = forest

    def __missing__(self, path: str) -> frozenset[str]:
        names = self[path] = frozenset(one.name for one in self._forest.images[path].snapshots)
        return names


def _last_taken(records: Iterable[SnapshotRecord], forest: Forest) -> dict[tuple[str, str], SnapshotRecord]:
    """Return by disk and image the external snapshot that was taken last while this image was the disk."""
    found: dict[tuple[str, str], SnapshotRecord] = {}
    for record in records:
        for disk in record.held_disks:
            if disk.held == "external" and disk.source is not None and record.created is not None:
                key = (disk.target, forest.known(disk.source) or disk.source)
                known = found.get(key)
                if known is None or known.created is None or known.created < record.created:
                    found[key] = record
    return found


def _row(
    record: SnapshotRecord,
    forest: Forest,
    gone: Collection[str],
    unknown: Mapping[str, str],
    later: Mapping[tuple[str, str], SnapshotRecord],
    inside: _Inside,
) -> Snapshot:
    problems: list[tuple[Drift, Message]] = []
    if record.memory_file is not None and record.memory_file in gone:
        problems.append(
            (
                "missing-file",
                t("its memory file {path} is missing or does not contain saved memory", path=record.memory_file),
            )
        )
    for disk in record.held_disks:
        problems += _of_disk(record, disk, forest, gone, inside)
        last = later.get((disk.target, forest.known(disk.source) or disk.source or ""))
        if last is not None and disk.held == "external" and _is_before(record, last):
            text = t(
                "the guest wrote to {path} again before snapshot {later} was taken, so the image no longer holds "
                "the state of disk {target}",
                path=disk.source,
                target=disk.target,
                later=last.name,
            )
            problems.append(("stale", text))
    problems += _unknown(record, forest, unknown)
    if not problems:
        return Snapshot(record)
    worst = next(drift for drift in _WORST_FIRST if any(drift == one for one, _ in problems))
    return Snapshot(record, worst, clauses(dict.fromkeys(text for _, text in problems)))


def _is_before(record: SnapshotRecord, other: SnapshotRecord) -> bool:
    return record.created is not None and other.created is not None and record.created < other.created


def _unknown(record: SnapshotRecord, forest: Forest, unknown: Mapping[str, str]) -> Iterator[tuple[Drift, Message]]:
    """Say what nobody here knows of the files of a record."""
    memory = (record.memory_file,) if record.memory_file else ()
    for path in (*memory, *(path for disk in record.held_disks for path in (disk.source, disk.file) if path)):
        image = forest.images.get(path)
        if path in unknown and (image is None or image.status in NOT_READ):
            yield "unknown", t("cannot tell whether {path} exists: {why}", path=path, why=unknown[path])
        elif image is not None and image.status in NOT_READ - {"remote"}:  # what a network image holds is not asked
            yield "unknown", t("the content of {path} is unknown: {why}", path=path, why=reason(image))
    for disk in record.held_disks:
        image = forest.images.get(disk.source or "")
        if disk.held == "internal" and image is not None and image.status in {"ok", "remote"} and not image.is_seen:
            text = t(
                "cannot tell whether {path} contains the internal snapshot {name}: {why}",
                path=image.path,
                name=record.name,
                why=reason(image),
            )
            yield "unknown", text


def _of_disk(
    record: SnapshotRecord, disk: SnapshotDisk, forest: Forest, gone: Collection[str], inside: _Inside
) -> Iterator[tuple[Drift, Message]]:
    source = disk.source
    if source is not None:
        image = forest.images.get(source)
        if source in gone or (image is not None and image.status in _GONE):
            text = t("the image {path}, which holds the state of disk {target}, is missing", **_named(source, disk))
            yield "missing-file", text
        elif image is not None and image.status == "invalid":
            text = t("{path} no longer holds the state of disk {target}: {why}", **_named(source, disk, image.problem))
            yield "stale", text
        elif disk.held == "internal" and image is not None and image.is_seen and record.name not in inside[source]:
            yield "stale", t("{path} does not contain the internal snapshot {name}", path=source, name=record.name)
    if disk.held == "external" and disk.file is not None:
        image = forest.images.get(disk.file)
        if disk.file in forest.deleted:
            text = t("its overlay {path} was deleted, but a running QEMU process still has it open", path=disk.file)
            yield "missing-file", text
        elif disk.file in gone or (image is not None and image.status in _GONE):
            yield "missing-file", t("its overlay {path} is missing", path=disk.file)
        elif image is not None and image.status == "invalid":
            text = t(
                "its overlay {path} was committed into an image below, which no longer holds the state of the snapshot",
                path=disk.file,
            )
            yield "stale", text
        elif image is not None and image.status not in NOT_READ and source is not None:
            below = forest.known_lineage(disk.file)[1:]
            if _is_known(forest, source) and not any(forest.same(source, path) for path in below):
                yield "stale", t("its overlay {path} is no longer based on {source}", path=disk.file, source=source)
            elif below and not forest.same(source, below[0]):
                text = t(
                    "its overlay {path} is based on {base}, but its record names {source}. This happens, for "
                    "example, after virsh snapshot-delete --metadata of the snapshot before it. To correct it, use "
                    "reconcile()",
                    path=disk.file,
                    base=below[0],
                    source=source,
                )
                yield "stale", text


def corrected(record: SnapshotRecord, forest: Forest) -> SnapshotRecord:
    """Return a record that names the images on which its overlays are based, where it names others below these.

    libvirt 9.0 takes it that a deleted external snapshot was merged down, even where only its record is removed, and
    lets the records after it name the image below.
    """

    def right(disk: SnapshotDisk) -> SnapshotDisk:
        below = forest.known_lineage(disk.file)[1:] if disk.file is not None and disk.file in forest.images else ()
        if disk.held != "external" or not any(forest.same(disk.source, path) for path in below[1:]):
            return disk
        return disk if forest.same(disk.source, below[0]) else replace(disk, source=below[0])

    return replace(record, disks=tuple(map(right, record.disks)))


def _named(path: str, disk: SnapshotDisk, why: str = "") -> dict[str, str]:
    return {"path": path, "target": disk.target, "why": why}


def _is_known(forest: Forest, path: str) -> bool:
    """Return whether it is known where a name leads: a file's own name tells that, an address may leave it open."""
    return path.startswith("/") or forest.identity(path) is not None


def _untracked(domain: Domain, records: Iterable[SnapshotRecord], forest: Forest) -> Iterator[Snapshot]:
    """Find the internal snapshots without a record, in those images that no other guest is based on."""
    known = {
        (name, record.name)
        for record in records
        for disk in record.disks
        if disk.held == "internal" and disk.source is not None
        for name in forest.same_file(disk.source)
    }
    found: dict[str, dict[str, tuple[str, InternalSnapshot]]] = {}
    for use in domain.uses:
        for path in forest.known_lineage(use.path):
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
    where = listed(dict.fromkeys(path for path, _ in by_target.values()))
    return Snapshot(
        record, "untracked", t("the snapshot is in {images}, but libvirt has no record of it", images=where)
    )


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
