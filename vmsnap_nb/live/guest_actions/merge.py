"""How merges in the chain of a guest are performed: by QEMU's block jobs while it runs, else in its definition too."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from typing import Any

from vmsnap_nb.errors import GuestError, NoSpaceError, StalePlanError, VmsnapError
from vmsnap_nb.live.guest_actions.flush import flush, sync
from vmsnap_nb.live.guest_actions.perform import guest_action
from vmsnap_nb.live.guest_actions.repair import put_back, standing
from vmsnap_nb.live.guest_actions.stale_chain import forget_old_chains
from vmsnap_nb.live.handle import GuestHandle
from vmsnap_nb.live.image_actions import commit, finish, point_back, pull
from vmsnap_nb.live.job import StepStopped, stop_asked, tell_fraction
from vmsnap_nb.live.journal import (
    begun,
    drop_entry,
    drop_unless_begun,
    is_untouched,
    read_entry,
    write_entry,
)
from vmsnap_nb.live.reading import read_maps
from vmsnap_nb.live.step_action import Action, Undo, no_way_back, undo_of
from vmsnap_nb.model.blockmap import BlockMap, share_before
from vmsnap_nb.model.disk_xml import name_image, named_image
from vmsnap_nb.model.libvirt_xml import disk_at, parse_xml
from vmsnap_nb.plans.checks.interrupted import finishing
from vmsnap_nb.plans.journal import MergeEntry, Phase
from vmsnap_nb.plans.merge.steps import (
    BlockJobStep,
    CommitLayers,
    EndPull,
    Finish,
    LiveCommit,
    LivePull,
    PullLayers,
    SetSource,
    WriteOut,
)
from vmsnap_nb.plans.step import Step
from vmsnap_nb.system.files.devices import is_device
from vmsnap_nb.system.files.identity import same_place
from vmsnap_nb.system.image_file import read_image
from vmsnap_nb.system.libvirt.block_jobs import (
    BlockJob,
    active_jobs,
    end_job,
    pivot,
    start_commit,
    start_pull,
    write_out,
)
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.volumes import with_volume_paths
from vmsnap_nb.system.survey import Survey
from vmsnap_nb.words.message import Message, clauses, t

__all__ = ["guest_merge_actions"]

_FULL = 1 << 20
"""With fewer bytes free than this a file system is full as far as QEMU is concerned."""
_CLOSES = 2.0
"""Seconds in which QEMU opens the base of a commit for reading only again; it does so before the job ends."""
_LOOK = 0.02
_FLUSHES = 3
"""How often QEMU is asked to write what it has copied: a disk that was full may have room again."""
_BUSY: dict[tuple[str, str], threading.Lock] = {}
"""By the guest's UUID and the disk: two plans of one process never merge the chain of one disk at once."""


def guest_merge_actions(guest: GuestHandle) -> Mapping[type[Step], Action]:
    """Return how each kind of step of a merge in a guest's chains is performed, beside those about images alone."""
    copied: set[str] = set()  # by their entries, the merges whose data was copied by the plan that runs here

    def copy_down(step: CommitLayers) -> Undo:
        undo = commit(step)
        copied.add(step.entry.path)
        return undo

    def set_source(guest: GuestHandle, step: SetSource) -> Undo:
        _check_copied(step, copied)
        return _set_source(guest, step)

    return {
        CommitLayers: copy_down,
        LiveCommit: guest_action(guest.link, _commit, alone=False),
        LivePull: guest_action(guest.link, _pull, alone=False),
        SetSource: guest_action(guest.link, set_source, alone=False),
        WriteOut: guest_action(guest.link, _write_out, alone=False),
        EndPull: _end_pull,
        PullLayers: _then_forget_old_chains(guest, pull),
        Finish: _then_forget_old_chains(guest, finish),
    }


def _then_forget_old_chains(guest: GuestHandle, action: Action) -> Action:
    """Perform a step that ends a merge; then whoever starts the guest, by virsh also, has the chain as it is."""

    def perform(step: Any) -> Undo:
        undo = action(step)
        with contextlib.suppress(VmsnapError):  # guest.start() does it again
            if not guest.running:
                forget_old_chains(guest)
        return undo

    return perform


@contextmanager
def _job(guest: GuestHandle, step: BlockJobStep, tried: Message) -> Iterator[BlockJob]:
    """Have the disk for one job, which is listened to; look once more, since another thread may have been first."""
    with _BUSY.setdefault((step.guest.uuid, step.target), threading.Lock()):
        has = _source(guest, step.target)
        if not same_place(has, step.source):
            raise StalePlanError(
                tried,
                why=t(
                    "its disk {target} was {before}, but is now {now}", target=step.target, before=step.source, now=has
                ),
                next_step=t("create the plan again, review it and run it"),
            )
        with BlockJob(guest.domain, step.target, tried).listening() as job:
            yield job


def _source(guest: GuestHandle, target: str) -> str | None:
    return next((disk.source for disk in guest.read().disks if disk.target == target), None)


def _tell(step: BlockJobStep) -> Callable[[float], None]:
    """Return what tells how much of the data is copied, where QEMU tells at which place of the disk it is."""
    share = share_before(step.extents or ())
    active = isinstance(step, LiveCommit) and step.active  # a mirror counts the data alone
    if share is None or active:
        return tell_fraction
    return lambda fraction: tell_fraction(share(fraction * step.length))


# -- down ------------------------------------------------------------------------------------------------


def _commit(guest: GuestHandle, step: LiveCommit) -> Undo:
    entry = step.entry
    tried = t(
        "commit {top} into {base} while {guest} is running", top=entry.top, base=entry.base, guest=step.guest.name
    )
    noted = step.noted and not step.keep
    known = noted and read_entry(entry.path, MergeEntry) is not None
    with _job(guest, step, tried) as job:
        before = standing(guest, [step.target], [entry.top])
        if noted:
            write_entry(begun(entry))
        if not step.adopt:
            _start_commit(guest, job, step, tried, known=known)
        try:
            ended = job.follow(to_ready=step.active, tell=_tell(step), stop=stop_asked, timeout=step.timeout)
            if ended == "ready":
                known = True  # from now on the entry says more than that nothing has happened
                _end_active(guest, job, step, tried)
        except VmsnapError as error:
            named = _explained(error, entry.base)
            put_back(guest, [step.target], before, named)
            _drop_unless_begun(step, known=known or job.was_cut_off(error))
            raise named from error
    if ended == "stopped":
        _drop_unless_begun(step, known=known)
        raise StepStopped
    if step.keep:
        return lambda: None
    if not step.active:
        _check_written(entry, tried)
    flush(guest, {entry.base, *entry.children, *before}, tried, written=step.active)
    if noted:
        write_entry(begun(replace(entry, phase="copied")))
    return no_way_back(
        tried,
        t("the data is in {base}, and the guest reads it from there", base=entry.base),
        t("{call} returns the plan that finishes the commit", call=finishing(entry)),
    )


def _check_written(entry: MergeEntry, tried: Message) -> None:
    """Check that QEMU has written all of the base, which it opens for reading only after that.

    If a flush fails, the job ends well all the same: what says where the copied data is stays in QEMU's memory.
    """
    deadline = time.monotonic() + _CLOSES
    while (image := read_image(entry.base, os.path.dirname(entry.base))[0]).held == "write":
        if time.monotonic() > deadline:
            raise GuestError(
                tried,
                why=t("QEMU could not write all data to {image}: some of it is only in memory", image=image.path),
                next_step=t(
                    "do not change any files. Shut the guest down, then undo the merge with guest.unfinished()"
                ),
            )
        time.sleep(_LOOK)


def _start_commit(guest: GuestHandle, job: BlockJob, step: LiveCommit, tried: Message, *, known: bool) -> None:
    """Begin a commit; its entry goes if libvirt refuses, and stays if libvirt ends before it has answered."""
    try:
        start_commit(
            guest.domain,
            step.target,
            step.entry.base,
            step.entry.top,
            active=step.active,
            relative=step.relative,
            bandwidth=step.bandwidth,
            tried=tried,
        )
    except VmsnapError as error:
        if step.noted and not step.keep and not known and not job.was_cut_off(error):
            drop_entry(step.entry)
        raise


def _drop_unless_begun(step: LiveCommit, *, known: bool) -> None:
    if step.noted and not step.keep:
        drop_unless_begun(step.entry, known=known)


def _end_active(guest: GuestHandle, job: BlockJob, step: LiveCommit, tried: Message) -> None:
    """End a job that is ready: the guest writes to the base from now on, or keeps its own image.

    Who finds the entry later must know whether QEMU may have been told so: libvirt learns of it only afterwards.
    """
    if stop_asked():
        end_job(guest.domain, step.target, tried=tried)
        raise StepStopped
    if step.keep:
        end_job(guest.domain, step.target, tried=tried)
    else:
        _note_phase(step, "ready")
        if stop_asked():
            end_job(guest.domain, step.target, tried=tried)
            _note_phase(step, "copying")
            raise StepStopped
        _note_phase(step, "pivoting")
        pivot(guest.domain, step.target, tried=tried)
    job.wait_end()
    if not step.keep:
        _write_definition(guest, tried)
    has, wanted = _source(guest, step.target), step.source if step.keep else step.entry.base
    if has is None:
        why = t("disk {target} was detached from the guest during the merge", target=step.target)
        raise GuestError(tried, why=why, next_step=t("shut the guest down, then finish the merge: guest.unfinished()"))
    if not same_place(has, wanted):
        why = t("the guest writes to {image} instead of {expected}", image=has, expected=wanted)
        raise GuestError(tried, why=why, next_step=t("check the disks of the guest with chain()"))


def _write_definition(guest: GuestHandle, tried: Message) -> None:
    """Have libvirt write the definition for the next start again: after a pivot it does not say if it could not."""
    with libvirt_errors(tried):
        if guest.domain.isPersistent():
            guest.define(guest.definition(), tried)


def _note_phase(step: LiveCommit, phase: Phase) -> None:
    if step.noted:
        write_entry(begun(replace(step.entry, phase=phase)))


# -- up --------------------------------------------------------------------------------------------------


def _pull(guest: GuestHandle, step: LivePull) -> Undo:
    tried = t("pull into {image} while {guest} is running", image=step.source, guest=step.guest.name)
    with _job(guest, step, tried) as job:
        if step.noted:
            write_entry(begun(step.entry))
        try:
            _copy_up(guest, job, step, tried)
            # The data first, while the guest runs: what is left for the moment of its suspension is little.
            sync(guest, step.source, tried)
            write_out(guest.domain, tried=tried)
            _check_pulled(guest, step, tried)
        except VmsnapError as error:
            if not job.was_cut_off(error):
                _settle_pull(guest, step)
            raise _explained(error, step.source) from error
    if step.noted:
        drop_entry(step.entry)
    why = t(
        "{image} now holds the data, and its content has not changed; the layers below are unchanged", image=step.source
    )
    return no_way_back(tried, why)


def _copy_up(guest: GuestHandle, job: BlockJob, step: LivePull, tried: Message) -> None:
    if not step.adopt:
        base = step.below or step.base
        start_pull(guest.domain, step.target, base, relative=step.relative, bandwidth=step.bandwidth, tried=tried)
    elif not active_jobs(guest.domain, [step.target]):
        return
    if job.follow(to_ready=False, tell=_tell(step), stop=stop_asked, timeout=step.timeout) == "stopped":
        _settle_pull(guest, step)
        raise StepStopped


def _check_pulled(guest: GuestHandle, step: LivePull, tried: Message) -> None:
    """Check that the image on the disk has what was copied into it: QEMU does not say if it could not write that."""
    for _ in range(_FLUSHES):
        if not _lacks(guest, step):
            return
        write_out(guest.domain, tried=tried)
    raise GuestError(
        tried,
        why=t("QEMU could not write all data to {image}: some of it is only in memory", image=step.source),
        next_step=t("do not change any files. Shut the guest down, then undo the merge with guest.unfinished()"),
    )


def _lacks(guest: GuestHandle, step: LivePull) -> bool:
    """Return whether the tables of an image on the disk lack a part that it read from the layers left out."""
    if not (step.noted and guest.link.files_are_here) or (step.extents is None and not step.adopt):
        return False  # what QEMU has open is not what the layers are by now
    before = step.entry.before.key
    forest = guest.survey(Survey(follow=True), (before,)).forest
    end = set() if step.base is None else {step.base, *forest.same_file(step.base)}
    left = list(takewhile(lambda path: path not in end, forest.known_lineage(before)))
    layers = [*reversed(left), step.source]
    maps = read_maps(forest, layers)
    if len(maps) < len(layers):
        return False  # where they cannot be read, it is not known
    missing = BlockMap(tuple(maps[path] for path in layers)).extents_to_copy(0, len(left), len(left))
    return any(step.base is not None or not part.zero for part in missing)


def _settle_pull(guest: GuestHandle, step: LivePull) -> None:
    """Check, after a pull that did not end, that the image reads what it did; the entry stays if it may not."""
    entry = step.entry
    if not step.noted:
        return
    try:
        running = bool(guest.domain.isActive())
    except library().libvirtError:
        running = True  # nobody knows
    backing = read_image(entry.image, os.path.dirname(entry.image))[0].backing
    old = backing is not None and backing.key == entry.before.key
    try:
        if running and (not old or active_jobs(guest.domain, [step.target])):
            return
        if not old:
            point_back(entry.image, entry.before)
        drop_entry(entry)
    except VmsnapError:
        return  # the entry stays, and with it the plan that finishes it


def _end_pull(step: EndPull) -> Undo:
    drop_entry(step.entry)
    return lambda: write_entry(step.entry)


def _explained(error: VmsnapError, written: str) -> VmsnapError:
    """Return an error that says so where the disk is full: libvirt says only that the job has failed."""
    try:
        free = shutil.disk_usage(os.path.dirname(written)).free
    except OSError:
        return error
    if free >= _FULL or isinstance(error, GuestError):
        return error
    full = t("{folder} has {free} bytes free", folder=os.path.dirname(written), free=free)
    return NoSpaceError(
        error.tried,
        why=clauses(filter(None, (error.why, full))),
        said=error.quoted,
        next_step=t("free space on that file system and try again"),
    )


def _check_copied(step: SetSource, copied: Collection[str]) -> None:
    """Raise if the guest was started since its image was copied down, and may have written to that."""
    for entry in (read_entry(path, MergeEntry) for path in copied):
        if entry is None or (entry.top, entry.base) != (step.before, step.path):
            continue
        if all(map(os.path.isfile, entry.merged)) and not is_untouched(entry):
            raise StalePlanError(
                t(
                    "use {image} as disk {target} of {guest}",
                    image=step.path,
                    target=step.target,
                    guest=step.guest.name,
                ),
                why=t("{image} was written to after its data was copied", image=entry.top),
                next_step=t("the merge must be repeated: {call} returns the plan", call=finishing(entry)),
            )


def _write_out(guest: GuestHandle, step: WriteOut) -> Undo:
    tried = t("write the tables of {image} to the disk", image=step.image)
    flush(guest, step.paths, tried, written=guest.running)
    return lambda: None


# -- in the definition -----------------------------------------------------------------------------------


def _set_source(guest: GuestHandle, step: SetSource) -> Undo:
    tried = t("use {image} as disk {target} of {guest}", image=step.path, target=step.target, guest=step.guest.name)
    before = guest.definition()
    root = parse_xml(with_volume_paths(guest.domain.connect, before))
    disk = disk_at(root, step.target)
    if disk is None or not same_place(named_image(disk.find("source")), step.before):
        why = t("its disk is not {image}", image=step.before)
        raise StalePlanError(tried, why=why, next_step=t("create the plan again, review it and run it"))
    name_image(disk, step.path, format=step.format, device=is_device(step.path))
    guest.define(ET.tostring(root, encoding="unicode"), tried)
    return lambda: guest.define(before, undo_of(tried))
