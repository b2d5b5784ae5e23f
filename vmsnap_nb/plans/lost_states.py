"""The states of a guest's disks that can no longer be read after a plan has run, and what is nearest to each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.model.files import NOW
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans.delete.request import DeleteRequest
from vmsnap_nb.plans.disk_states import DiskPoint, snapshot_state
from vmsnap_nb.plans.merge.request import MergeRequest
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Request
from vmsnap_nb.plans.revert.request import RevertRequest

__all__ = ["LostState", "lost_states"]


_READABLE = ("ok", "in-use", "dirty")


@dataclass(frozen=True, kw_only=True)
class LostState:
    """A state that cannot be read any more, and those nearest to it that stay: they may have the same files."""

    state: DiskPoint
    target: str = ""
    kept: tuple[DiskPoint, ...] = ()


def lost_states(plan: Plan, request: Request) -> tuple[LostState, ...]:
    """Return what a plan makes unreadable: of each disk the states of a guest, or of a chain its layers."""
    if isinstance(request, RevertRequest):
        return tuple(_by_revert(plan, request))
    if isinstance(request, DeleteRequest):
        return () if request.metadata_only else tuple(_by_delete(plan, request.guest.name))
    if isinstance(request, MergeRequest):
        return tuple(_by_merge(plan))
    return ()


def _by_revert(plan: Plan, request: RevertRequest) -> Iterator[LostState]:
    """Yield the current state of each disk whose data is discarded."""
    forest, guest = plan.before, request.guest.name
    discarded = {path for concern in plan.concerns if concern.name == "state-lost" for path in concern.images}
    near = [one for one in _records(forest, guest) if one.current or one.name == request.name]
    for use in forest.uses:
        if use.guest == guest and use.path in discarded:
            kept = [state for record in near for state in _states(plan, record, use.target)]
            yield LostState(
                state=DiskPoint(image=use.path, name=NOW),
                target=use.target,
                kept=_once((*kept, *_below(plan, use.path))),
            )


def _by_delete(plan: Plan, guest: str) -> Iterator[LostState]:
    """Yield the states of the snapshots that go."""
    forest = plan.before
    stay = {record.name for record in plan.after.records if record.guest == guest}
    records = {record.name: record for record in _records(forest, guest)}
    now = {use.target: DiskPoint(image=use.path, name=NOW) for use in forest.uses if use.guest == guest}
    for record in records.values():
        for disk in record.held_disks if record.name not in stay else ():
            for state in _states(plan, record, disk.target):
                near = [*_before(records, record, stay), *_after(records, record, stay)]
                kept = [one for other in near for one in _states(plan, other, disk.target)]
                if disk.target in now and _leads_to_now(records, record, stay):
                    kept.append(now[disk.target])
                yield LostState(state=state, target=disk.target, kept=_once((*kept, *_below(plan, state.image))))


def _before(records: dict[str, SnapshotRecord], record: SnapshotRecord, stay: set[str]) -> Iterator[SnapshotRecord]:
    """Yield the nearest snapshot before one that stays."""
    seen, parent = {record.name}, record.parent
    while parent in records and parent not in seen:
        if parent in stay:
            yield records[parent]
            return
        seen.add(parent)
        parent = records[parent].parent


def _after(records: dict[str, SnapshotRecord], record: SnapshotRecord, stay: set[str]) -> Iterator[SnapshotRecord]:
    """Yield the nearest snapshots after one that stay, in each branch."""
    seen, waiting = {record.name}, [record.name]
    while waiting:
        name = waiting.pop()
        for other in records.values():
            if other.parent == name and other.name not in seen:
                seen.add(other.name)
                if other.name in stay:
                    yield other
                else:
                    waiting.append(other.name)


def _leads_to_now(records: dict[str, SnapshotRecord], record: SnapshotRecord, stay: set[str]) -> bool:
    """Return whether no snapshot that stays was taken between one and now."""
    current = next((one for one in records.values() if one.current), None)
    seen = set[str]()
    while current is not None and current.name not in stay | seen:
        if current.name == record.name:
            return True
        seen.add(current.name)
        current = records.get(current.parent or "")
    return False


def _by_merge(plan: Plan) -> Iterator[LostState]:
    """Yield the layers that go or are written into; the highest that is merged down lives on in its base."""
    forest = plan.before
    gone = {path for path in plan.changes if path in forest.images and forest.status(path) in _READABLE}
    tops: dict[str, str] = {}

    def depth(path: str) -> int:
        return len(forest.known_lineage(path))

    for move in plan.moves:
        if move.label == "commit data" and move.source in gone:
            tops[move.target] = max(tops.get(move.target, move.source), move.source, key=depth)
    gone -= set(tops.values())
    labels = {disk.source: one.name for one in forest.records for disk in one.held_disks if disk.held == "external"}
    for path in sorted(gone, key=depth):
        above = _above(forest, path, gone)
        kept = (*(DiskPoint(image=one, name=labels.get(one, "")) for one in above), *_below(plan, path))
        yield LostState(state=DiskPoint(image=path, name=labels.get(path, "")), kept=_once(kept))


def _above(forest: Forest, path: str, gone: set[str]) -> Iterator[str]:
    """Yield the nearest layers above one that stay, in each branch."""
    seen, waiting = {path}, [path]
    while waiting:
        for child in forest.known_children(waiting.pop()):
            if child not in seen and forest.status(child) in _READABLE:
                seen.add(child)
                if child in gone:
                    waiting.append(child)
                else:
                    yield child


def _below(plan: Plan, path: str) -> Iterator[DiskPoint]:
    """Yield the nearest layer below one that stays as it is."""
    for layer in plan.before.known_lineage(path)[1:]:
        if layer in plan.before.images and layer not in plan.changes:
            yield DiskPoint(image=layer)
            return


def _states(plan: Plan, record: SnapshotRecord, target: str) -> Iterator[DiskPoint]:
    """Yield the state of a disk in a snapshot, if it holds that disk."""
    with contextlib.suppress(VmsnapError):
        yield snapshot_state(plan.before, record, target, plan.title)


def _records(forest: Forest, guest: str) -> list[SnapshotRecord]:
    return [record for record in forest.records if record.guest == guest and not record.saved]


def _once(states: Iterable[DiskPoint]) -> tuple[DiskPoint, ...]:
    return tuple(dict.fromkeys(states))
