"""Deleting snapshots of a live guest: the plan, and how its steps are performed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vmsnap_nb.errors import PermissionDeniedError, VmsnapError
from vmsnap_nb.live.domains import explained, find_domain, guard, guest_of
from vmsnap_nb.live.job import tell_fraction
from vmsnap_nb.live.merge_files import merge_facts, reads_alike
from vmsnap_nb.live.merge_live import merge_world
from vmsnap_nb.live.merge_notes import drop_unless_begun, read_notes
from vmsnap_nb.live.notes import drop_note, write_note
from vmsnap_nb.live.plan import Action, LivePlan, Undo
from vmsnap_nb.live.put_back import put_back, standing
from vmsnap_nb.live.snapshots import facts_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.delete import Children, plan_delete
from vmsnap_nb.plans.delete_cut_short import maybe_committed
from vmsnap_nb.plans.delete_draft import DeleteFacts
from vmsnap_nb.plans.delete_steps import DeleteExternal, DeleteInternal, DropInside
from vmsnap_nb.plans.ground import Ground
from vmsnap_nb.plans.merge_facts import MergeFacts
from vmsnap_nb.plans.merge_note import MergeNote
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.steps import Step
from vmsnap_nb.system import qemu_img
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_library import library
from vmsnap_nb.system.libvirt_snapshots import find_snapshot

if TYPE_CHECKING:
    from vmsnap_nb.live.guest import Guest
    from vmsnap_nb.live.host import Host

__all__ = ["delete_actions", "delete_plan"]


_LOOK = 0.02
"""Seconds between two looks at how far libvirt is."""


def delete_plan(guest: Guest, name: str, *, children: Children, metadata_only: bool) -> LivePlan:
    """Plan what `Guest.delete_snapshot` was called with; nothing happens until its `run`."""
    world = merge_world(guest)
    world = replace(world, actions={**world.actions, **delete_actions(guest.host)}, guest=guest.uuid)
    chosen: tuple[str, ...] = ()

    def make(forest: Forest) -> Plan:
        nonlocal chosen
        snapshot = facts_of(guest, Ground(), forest)
        busy = bool(snapshot.jobs)
        committed = frozenset() if busy else _committed(forest)
        facts = DeleteFacts(snapshot, _merge_facts(guest, forest, busy), committed)
        plan = plan_delete(
            forest,
            guest.domain(),
            name,
            children=children,
            metadata_only=metadata_only,
            facts=facts,
            prefer=chosen,
        )
        chosen = tuple(way.what for way in plan.alternatives if way.chosen)
        return plan

    return LivePlan.bind(make, world)


def _merge_facts(guest: Guest, forest: Forest, busy: bool) -> MergeFacts:
    """Look at the images of all snapshots; while a block job goes on QEMU lets nobody look into them."""
    tops = {path for record in forest.records for path in record.files} | {use.path for use in guest.domain().uses}
    paths = [layer for top in sorted(tops) if top in forest for layer in forest.lineage(top)]
    if busy:
        return MergeFacts(notes=read_notes({os.path.dirname(path) for path in paths if path.startswith("/")}))
    return merge_facts(forest, paths)


def _committed(forest: Forest) -> frozenset[str]:
    """Find the overlays that libvirt has committed, and then was cut short: they read just as the image below them."""
    return frozenset(top for top, below in maybe_committed(forest) if reads_alike(forest, top, below))


def delete_actions(host: Host) -> Mapping[type[Step], Action]:
    """Give how each kind of step about the deletion of snapshots is performed on a host."""

    def delete(step: DeleteInternal) -> Undo:
        tried = f"delete the snapshot {step.name} of {step.guest}"
        with guard(step.uuid):
            snapshot = find_snapshot(find_domain(host, step.uuid, step.guest), step.name)
            try:
                with libvirt_errors(tried):
                    snapshot.delete()
            except VmsnapError as error:
                raise explained(error) from error
        return _no_way_back(tried)

    def merge(step: DeleteExternal) -> Undo:
        tried = f"delete the snapshot {step.name} of {step.guest}"
        with guard(step.uuid):
            domain = find_domain(host, step.uuid, step.guest)
            guest = guest_of(host, domain)
            before = standing(guest, step.targets, step.tops)
            known = [note for note in step.notes if os.path.exists(note.path)]
            try:
                for note in step.notes:
                    with contextlib.suppress(PermissionDeniedError):  # libvirt may do what this user may not
                        write_note(note)
                _watched(domain, step, tried)
            except VmsnapError as error:
                named = explained(error)
                put_back(guest, step.targets, before, named)
                _keep(step.notes, known, named)
                raise named from error
            for note in step.notes:
                drop_note(note)
        return _no_way_back(tried)

    return {DeleteInternal: delete, DeleteExternal: merge, DropInside: drop}


def _keep(notes: Iterable[MergeNote], known: Collection[MergeNote], error: VmsnapError) -> None:
    """Drop the notes of a deletion that failed before it wrote anything; the others tell of what it has left behind."""
    for note in notes:
        if not os.path.exists(note.path):
            continue
        with contextlib.suppress(VmsnapError):
            if drop_unless_begun(note, known=note in known):
                error.add_note(f"a part may be in {note.base} already: guest.unfinished() gives the plan that goes on")


def _watched(domain: Any, step: DeleteExternal, tried: str) -> None:
    """Let libvirt do it in a thread, and say meanwhile how far its block jobs are."""
    snapshot = find_snapshot(domain, step.name)
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(snapshot.delete)
        while not work.done():
            wait([work], timeout=_LOOK)
            infos = [info for target in step.targets if (info := _job(domain, target))]
            if total := sum(info["end"] for info in infos):
                tell_fraction(sum(info["cur"] for info in infos) / total)
        with libvirt_errors(tried):
            work.result()


def _job(domain: Any, target: str) -> dict[str, int]:
    try:
        return dict(domain.blockJobInfo(target) or {})
    except library().libvirtError:  # the guest has ended; the deletion itself says so
        return {}


def drop(step: DropInside) -> Undo:
    """Remove a snapshot from inside an image; there is no way back."""
    tried = f"remove the snapshot {step.name} from {step.path}"
    for argv in step.argvs:
        qemu_img.run(argv, tried=tried)
    return _no_way_back(tried)


def _no_way_back(tried: str) -> Undo:
    def undo() -> None:
        raise VmsnapError(f"take back: {tried}", said="what it held is gone; what the disk holds now is as it was")

    return undo
