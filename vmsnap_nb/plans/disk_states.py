"""States of a disk: the one that a snapshot holds, and the two between which the files differ that a plan is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vmsnap_nb.errors import ImageError, InvalidRequestError, NotFoundError
from vmsnap_nb.model.files import NOW
from vmsnap_nb.model.find import find_disk
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.names import there_are
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans.delete.request import DeleteRequest
from vmsnap_nb.plans.merge.request import CommitRequest, MergeRequest
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Request
from vmsnap_nb.plans.revert.request import RevertRequest
from vmsnap_nb.words.message import Message, joined, t

__all__ = ["DiskPoint", "compared_states", "snapshot_state"]


@dataclass(frozen=True, kw_only=True)
class DiskPoint:
    """What a disk reads: an image as it is (with no `name`), or as a snapshot holds it; `inside` is an internal one."""

    image: str
    name: str = ""
    inside: str | None = None


def compared_states(plan: Plan, request: Request, target: str | None = None) -> tuple[DiskPoint, DiskPoint]:
    """Return the earlier and the later of the two states that a plan tells apart.

    Of a merge they are the state that can no longer be read afterwards, and that of the layers above it; of a revert
    the current state and that of the snapshot; of a deletion the snapshot and what was taken after it.
    """
    forest = plan.before
    if isinstance(request, RevertRequest):
        return _now(forest, request.guest.name, target), _at(plan, request.guest.name, request.name, target)
    if isinstance(request, DeleteRequest) and not request.metadata_only:
        guest = request.guest.name
        earlier = _at(plan, guest, request.name, target)
        following = next((record for record in _records(forest, guest) if record.parent == request.name), None)
        return earlier, _now(forest, guest, target) if following is None else _at(plan, guest, following.name, target)
    if isinstance(request, MergeRequest) and (found := _merged(plan, request)):
        return found
    raise InvalidRequestError(
        t("compare files before and after the plan {plan}", plan=plan.title),
        why=t("the plan does not revert to a state or make one unreadable"),
        next_step=t("chain.changes(layer) and guest.diff(snapshot) compare any two states"),
    )


def snapshot_state(forest: Forest, record: SnapshotRecord, target: str, tried: Message) -> DiskPoint:
    """Return the state of a disk that a snapshot holds."""
    disk = next((disk for disk in record.disks if disk.target == target), None)
    if disk is None or disk.held == "no" or disk.source is None:
        held = joined(one.target for one in record.held_disks) or t("none")
        raise InvalidRequestError(
            tried,
            why=t("the snapshot does not include the disk {target}", target=target),
            next_step=t("pass a disk that it includes as target=…: {disks}", disks=held),
        )
    if disk.held == "external":
        return DiskPoint(image=disk.source, name=record.name)
    inside = next((one for one in forest[disk.source].snapshots if one.name == record.name), None)
    if inside is None:
        why = t("{path} does not contain the internal snapshot {name}", path=disk.source, name=record.name)
        raise ImageError(tried, why=why, next_step=t("guest.snapshots() shows which snapshots are complete"))
    return DiskPoint(image=disk.source, name=record.name, inside=inside.id)


def _now(forest: Forest, guest: str, target: str | None) -> DiskPoint:
    return DiskPoint(image=find_disk(forest, guest, target).path, name=NOW)


def _at(plan: Plan, guest: str, name: str, target: str | None) -> DiskPoint:
    records = _records(plan.before, guest)
    record = next((record for record in records if record.name == name), None)
    if record is None:
        raise NotFoundError(
            t("find the snapshot {name} of {guest}", name=name, guest=guest),
            next_step=there_are(name, (one.name for one in records)),
        )
    disk = target or next((one.target for one in record.held_disks), find_disk(plan.before, guest).target)
    return snapshot_state(
        plan.before, record, disk, t("compare files before and after the plan {plan}", plan=plan.title)
    )


def _records(forest: Forest, guest: str) -> list[SnapshotRecord]:
    return [record for record in forest.records if record.guest == guest and not record.saved]


def _merged(plan: Plan, request: MergeRequest) -> tuple[DiskPoint, DiskPoint] | None:
    """Return what the lowest of the layers reads that go or are overwritten, and what the highest does."""
    forest = plan.before
    gone = [path for path in (*plan.invalid, *plan.unlinks) if path in forest.images]
    if isinstance(request, CommitRequest):
        gone.append(request.image(forest, request.top))
    if not gone:
        return None
    chain = _longest(forest, gone)
    lowest, highest = next(path for path in reversed(chain) if path in gone), next(p for p in chain if p in gone)
    below = forest.parent(lowest)
    if below is None or below not in forest.images:
        below = lowest
    return (DiskPoint(image=below), DiskPoint(image=highest)) if below != highest else None


def _longest(forest: Forest, paths: Sequence[str]) -> tuple[str, ...]:
    """Return the longest of the chains of some images, the last layer first."""
    return max((forest.known_lineage(path) for path in paths), key=len)
