"""How the steps that delete snapshots are performed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from vmsnap_nb.errors import PermissionDeniedError, VmsnapError
from vmsnap_nb.live.connection import Connection
from vmsnap_nb.live.guest_actions.flush import flush
from vmsnap_nb.live.guest_actions.perform import guest_action
from vmsnap_nb.live.guest_actions.records import check_created, planned_snapshot
from vmsnap_nb.live.guest_actions.repair import put_back, standing
from vmsnap_nb.live.handle import GuestHandle, explained
from vmsnap_nb.live.internal_snapshots import changing_inside
from vmsnap_nb.live.job import tell_fraction
from vmsnap_nb.live.journal import begun, drop_entry, drop_unless_begun, read_entry, write_entry
from vmsnap_nb.live.step_action import Action, Undo, no_way_back
from vmsnap_nb.plans.delete.steps import DeleteExternal, DeleteInternal, DropInside
from vmsnap_nb.plans.journal import MergeEntry
from vmsnap_nb.plans.step import Step
from vmsnap_nb.system.image_file import read_image
from vmsnap_nb.system.libvirt.connection import was_cut_off
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.written import written_paths
from vmsnap_nb.system.qemu import qemu_img
from vmsnap_nb.words.message import N_, Message, t

__all__ = ["delete_actions"]


_LOOK = 0.02
"""Seconds between two looks at how far libvirt is."""
_GONE = N_("the state in the snapshot is lost; the current content of the disk is unchanged")


def delete_actions(link: Connection) -> Mapping[type[Step], Action]:
    """Return how each kind of step about the deletion of snapshots is performed."""
    return {
        DeleteInternal: guest_action(link, _delete_internal),
        DeleteExternal: guest_action(link, _delete_external),
        DropInside: drop,
    }


def _delete_internal(guest: GuestHandle, step: DeleteInternal) -> Undo:
    tried = t("delete the snapshot {name} of {guest}", name=step.name, guest=step.guest.name)
    snapshot = planned_snapshot(guest.domain, step.name, step.created, tried)
    paths = step.paths if guest.link.files_are_here else ()
    try:
        with (
            changing_inside(paths, step.name, "delete", running=lambda: bool(written_paths(guest.domain))),
            libvirt_errors(tried),
        ):
            snapshot.delete()
    except VmsnapError as error:
        raise explained(error) from error
    return no_way_back(tried, t(_GONE))


def _delete_external(guest: GuestHandle, step: DeleteExternal) -> Undo:
    tried = t("delete the snapshot {name} of {guest}", name=step.name, guest=step.guest.name)
    before = standing(guest, step.targets, step.tops)
    connection = guest.domain.connect()
    known = [entry for entry in step.entries if read_entry(entry.path, MergeEntry) is not None]
    written: list[MergeEntry] = []
    try:
        for entry in step.entries:
            with contextlib.suppress(PermissionDeniedError):  # libvirt may do what this user may not
                write_entry(begun(entry))
                written.append(entry)
        _watched(guest.domain, step, tried)
    except VmsnapError as error:
        named = explained(error)
        put_back(guest, step.targets, before, named)
        _keep(written, written if was_cut_off(connection, error) else known, named)  # QEMU may go on without libvirt
        raise named from error
    # The guest may write to a base now. Until all of that is on the disk, the entries stay.
    flush(guest, {*step.bases, *before}, tried, written=guest.running)
    for entry in written:
        drop_entry(entry)
    return no_way_back(tried, t(_GONE))


def _keep(entries: Iterable[MergeEntry], known: Collection[MergeEntry], error: VmsnapError) -> None:
    """Drop the entries of a deletion that failed before it wrote; the others tell of what it has left behind."""
    for entry in entries:
        if not os.path.exists(entry.path):
            continue
        with contextlib.suppress(VmsnapError):
            if drop_unless_begun(entry, known=entry in known):
                error.add_note(
                    t(
                        "part of the data may already be in {base}: guest.unfinished() returns the plan "
                        "that continues the deletion",
                        base=entry.base,
                    )
                )


def _watched(domain: Any, step: DeleteExternal, tried: Message) -> None:
    """Let libvirt do it in a thread, and say meanwhile how far its block jobs are."""
    snapshot = planned_snapshot(domain, step.name, step.created, tried)
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
    tried = t("remove the snapshot {name} from {image}", name=step.name, image=step.path)
    image, _ = read_image(step.path, os.path.dirname(step.path), os.path.realpath(step.path))
    now = next((inside.created for inside in image.snapshots if inside.name == step.name), None)
    check_created(step.name, step.created, now, tried)
    with changing_inside((step.path,), step.name, "delete"):
        for argv in step.argvs:
            qemu_img.run(argv, tried=tried)
    return no_way_back(tried, t(_GONE))
