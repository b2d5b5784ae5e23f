"""Reverts of a live guest: what is read, which plan is made of it, and how its steps are performed."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vmsnap_nb.errors import GuestError, InUseError, StalePlanError, VmsnapError
from vmsnap_nb.live.domains import definition, ended_at_once, explained, find_domain, guard, guest_of
from vmsnap_nb.live.files import ground_of
from vmsnap_nb.live.merge_live import notes_below
from vmsnap_nb.live.notes import drop_note, write_note
from vmsnap_nb.live.plan import Action, LivePlan, Undo
from vmsnap_nb.live.revert_notes import read_revert_note, revert_notes
from vmsnap_nb.live.snapshot_records import redefine, whole_record
from vmsnap_nb.live.snapshots import facts_of, guest_world
from vmsnap_nb.live.written_chain import forget_old_chains
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.ground import Ground
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.revert import plan_revert
from vmsnap_nb.plans.revert_definition import NewSource, definition_of
from vmsnap_nb.plans.revert_draft import RevertRequest, To, draft_revert
from vmsnap_nb.plans.revert_facts import RevertFacts
from vmsnap_nb.plans.revert_steps import (
    BeginRevert,
    DiscardOverlays,
    EndGuest,
    EndRevert,
    MakeCurrent,
    RestoreMemory,
    RevertInside,
    StartGuest,
    TakeDefinition,
)
from vmsnap_nb.plans.steps import Step, create_overlay_argv
from vmsnap_nb.system import qemu_img
from vmsnap_nb.system.libvirt_domains import read_domain
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_library import library
from vmsnap_nb.system.libvirt_snapshots import find_snapshot, parse_record, read_records

if TYPE_CHECKING:
    from vmsnap_nb.live.guest import Guest
    from vmsnap_nb.live.host import Host

__all__ = ["revert_actions", "revert_plan", "unfinished_reverts"]

_OFF = {"shut off", "crashed", "no state"}
_SETTLES = 0.5
"""Seconds in which libvirt takes note of the end of a QEMU."""


# -- plans -----------------------------------------------------------------------------------------------


def revert_plan(guest: Guest, request: RevertRequest) -> LivePlan:
    """Plan to take a guest back to a snapshot; nothing happens until its `run`."""
    more = () if request.cut_short is None else request.cut_short.discards
    world = guest_world(guest, more)
    world = replace(world, actions={**world.actions, **revert_actions(guest.host)}, guest=guest.uuid)

    def make(forest: Forest) -> Plan:
        domain = guest.domain()
        facts = facts_of(guest, Ground(), forest)
        draft = draft_revert(forest, domain, request, gone=facts.gone, pflash=facts.pflash)
        here = guest.host.files_are_here
        images = [disk.path for disk in draft.disks]
        discards = [one.path for one in draft.discards]
        ground = ground_of((*draft.paths, *images, *discards)) if here else Ground()
        memory = draft.record.memory_file
        mtime = _mtime(memory) if here and memory is not None else None
        then = [disk.path if disk.then is None else disk.then for disk in draft.disks]
        merges = tuple(note for image in then for note in notes_below(forest, image)) if here else ()
        facts = replace(facts, ground=ground)
        return plan_revert(forest, domain, draft, RevertFacts(facts, _open_definition(guest), mtime, merges))

    return LivePlan.bind(make, world)


def unfinished_reverts(guest: Guest) -> tuple[LivePlan, ...]:
    """Give the plan that finishes a revert which was cut short, if there is one."""
    if not guest.host.files_are_here:
        return ()
    records = read_records(guest._domain, xml=False)
    note = next(revert_notes(guest, records), None)
    if note is None:
        return ()
    # What was there before is kept already, or was not to be.
    done = note.kept is None or note.kept in {record.name for record in records}
    to: To = note.to  # type: ignore[assignment]  # RevertNote.from_json has looked at it
    return (revert_plan(guest, RevertRequest(note.name, to, not done, note)),)


def _mtime(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def _open_definition(guest: Guest) -> str:
    """Give the domain XML for the next start, without passwords."""
    with libvirt_errors(f"read the XML of {guest.name}"):
        return str(guest._domain.XMLDesc(library().VIR_DOMAIN_XML_INACTIVE))


# -- what the steps do -----------------------------------------------------------------------------------


def revert_actions(host: Host) -> Mapping[type[Step], Action]:
    """Give how each kind of step of a revert is performed on a host."""

    def begin(step: BeginRevert) -> Undo:
        with guard(step.uuid):
            before = read_revert_note(step.note.folder, step.uuid)
            write_note(step.note)

        def undo() -> None:
            if before is None:
                drop_note(step.note)
            else:
                write_note(before)

        return undo

    def end(step: EndRevert) -> Undo:
        domain = find_domain(host, step.uuid, step.guest)
        notes = list(revert_notes(guest_of(host, domain), read_records(domain, xml=False)))
        for note in notes:
            drop_note(note)

        def undo() -> None:
            for note in notes:
                write_note(note)

        return undo

    def end_guest(step: EndGuest) -> Undo:
        with guard(step.uuid):
            return _end_guest(host, find_domain(host, step.uuid, step.guest), step)

    def define(step: TakeDefinition) -> Undo:
        with guard(step.uuid):
            return _define(host, find_domain(host, step.uuid, step.guest), step)

    def restore(step: RestoreMemory) -> Undo:
        domain = find_domain(host, step.uuid, step.guest)
        whole = definition_of(whole_record(domain, step.name), step.sources, which="live")
        _restore(host, domain, step.path, whole, paused=step.paused)
        return lambda: _destroy(domain, step.guest)

    def start(step: StartGuest) -> Undo:
        domain = find_domain(host, step.uuid, step.guest)
        _start(host, domain, paused=step.paused)
        return lambda: _destroy(domain, step.guest)

    def inside(step: RevertInside) -> Undo:
        with guard(step.uuid):
            return _inside(host, find_domain(host, step.uuid, step.guest), step)

    def current(step: MakeCurrent) -> Undo:
        with guard(step.uuid):
            return _make_current(find_domain(host, step.uuid, step.guest), step)

    def discard(step: DiscardOverlays) -> Undo:
        return _discard(step)

    return {
        BeginRevert: begin,
        EndRevert: end,
        EndGuest: end_guest,
        TakeDefinition: define,
        RestoreMemory: restore,
        StartGuest: start,
        RevertInside: inside,
        MakeCurrent: current,
        DiscardOverlays: discard,
    }


def _stale(tried: str, said: str) -> StalePlanError:
    return StalePlanError(tried, said=said, next_step="make the plan again, look at it, and run that")


def _end_guest(host: Host, domain: Any, step: EndGuest) -> Undo:
    now = read_domain(domain)
    if now.state != step.state:
        raise _stale(f"end {step.guest}", f"it was {step.state}, and is {now.state} now")
    sources = [NewSource(disk.target, disk.source, disk.format or "raw") for disk in now.disks if disk.source]
    _destroy(domain, step.guest)

    def undo() -> None:
        paused = step.state == "paused"
        if step.kept is None:
            _twice(lambda: _start(host, domain, paused=paused))
            raise GuestError(
                f"take back the end of {step.guest}",
                said="its memory was not kept: it has been started again from its disks",
            )
        record = whole_record(domain, step.kept)
        path = parse_record(step.guest, record).memory_file or ""
        xml = definition_of(record, sources, which="live")
        _twice(lambda: _restore(host, domain, path, xml, paused=paused))

    return undo


def _twice(begin: Callable[[], None]) -> None:
    """Do it, and once more if it fails.

    Where a QEMU was killed, libvirt can take note of its end so late that it ends the next one, just started, as well.
    """
    try:
        begin()
    except VmsnapError:
        time.sleep(_SETTLES)
        begin()


def _destroy(domain: Any, guest: str) -> None:
    if read_domain(domain).state not in _OFF:
        with libvirt_errors(f"end {guest}"):
            domain.destroy()


def _start(host: Host, domain: Any, *, paused: bool) -> None:
    libvirt = library()
    _started(
        host,
        domain,
        f"start {domain.name()}",
        lambda: domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED if paused else 0),
    )


def _restore(host: Host, domain: Any, path: str, xml: str, *, paused: bool) -> None:
    libvirt = library()
    flags = libvirt.VIR_DOMAIN_SAVE_PAUSED if paused else libvirt.VIR_DOMAIN_SAVE_RUNNING
    _started(
        host,
        domain,
        f"restore {domain.name()} from the memory in {path}",
        lambda: host.connection.restoreFlags(path, xml, flags),
    )


def _started(host: Host, domain: Any, tried: str, begin: Any) -> None:
    """Start a guest whose QEMU may just have ended: for a moment the kernel can still hold its locks."""
    deadline = time.monotonic() + 5
    while True:
        try:
            with libvirt_errors(tried):
                begin()
        except InUseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        except VmsnapError as error:
            raise _explained(error) from error
        else:
            break
    host._has_started(guest_of(host, domain))


def _explained(error: VmsnapError) -> VmsnapError:
    """Say what is known of libvirt's words, also where QEMU has ended before it could say anything."""
    named = explained(error)
    if ended_at_once(named):
        return GuestError(
            named.tried,
            said=f"its QEMU has ended at once: {named.said}",
            next_step="see whether its disks are in order with chain(); revert to the snapshot again",
        )
    return named


def _define(host: Host, domain: Any, step: TakeDefinition) -> Undo:
    tried = f"define {step.guest} as it was at {step.name}"
    now = read_domain(domain)
    had = {(source.target, source.path) for source in step.before}
    if now.state not in _OFF:
        raise _stale(tried, f"it is {now.state}")
    if {(use.target, use.path) for use in now.uses} != had:
        raise _stale(tried, "its disks have other images now")
    before = definition(domain)
    xml = definition_of(whole_record(domain, step.name), step.sources)
    with libvirt_errors(tried):
        host.connection.defineXML(xml)

    def undo() -> None:
        with libvirt_errors(f"take back: {tried}"):
            host.connection.defineXML(before)

    return undo


def _inside(host: Host, domain: Any, step: RevertInside) -> Undo:
    tried = f"revert {step.guest} to {step.name}"
    now = read_domain(domain)
    if now.state != step.state:
        raise _stale(tried, f"it was {step.state}, and is {now.state} now")
    forget_old_chains(guest_of(host, domain), step.name)
    try:
        _revert(domain, step.name, step.flags, tried)
    except VmsnapError as error:
        named = _explained(error)
        try:
            _go_back(host, domain, step)
        except VmsnapError as failure:
            named.add_note(f"could not take back: {failure}")
        raise named from error
    if step.to != "off":
        host._has_started(guest_of(host, domain))
    return lambda: _go_back(host, domain, step)


def _revert(domain: Any, name: str, flags: Iterable[str], tried: str) -> None:
    libvirt = library()
    number = sum(getattr(libvirt, f"VIR_DOMAIN_SNAPSHOT_REVERT_{flag}") for flag in flags)
    with libvirt_errors(tried):
        domain.revertToSnapshot(find_snapshot(domain, name), number)


def _go_back(host: Host, domain: Any, step: RevertInside) -> None:
    """Go back to the snapshot that was taken just before."""
    tried = f"take back: revert {step.guest} to {step.name}"
    if step.kept is None:
        raise GuestError(
            tried,
            said="what was there before was not kept, and what is there now may be partly the one and partly the other",
            next_step=f"revert to {step.name} again, or to another snapshot",
        )
    running = () if step.state in _OFF else ("PAUSED",) if step.state == "paused" else ("RUNNING",)
    kept, flags = step.kept, (*running, "FORCE")
    _twice(lambda: _revert(domain, kept, flags, tried))
    if running:
        host._has_started(guest_of(host, domain))


def _make_current(domain: Any, step: MakeCurrent) -> Undo:
    before = next((record.name for record in read_records(domain, xml=False) if record.current), None)
    redefine(domain, whole_record(domain, step.name), current=True)

    def undo() -> None:
        if before is not None:
            redefine(domain, whole_record(domain, before), current=True)

    return undo


def _discard(step: DiscardOverlays) -> Undo:
    """Make everything ready first, since from the first file on nothing can be taken back."""
    tried = f"throw away {', '.join(one.path for one in step.overlays)}"
    partials: dict[str, str] = {}
    try:
        for one in step.overlays:
            if one.backing is not None:
                partial = partials[one.path] = os.path.join(os.path.dirname(one.path), f".{uuid.uuid4().hex}.partial")
                qemu_img.run(create_overlay_argv(partial, one.backing), tried=tried)
        for one in step.overlays:
            # What cannot be removed stays, and the report says that it is there.
            with contextlib.suppress(OSError):
                if one.backing is None:
                    os.unlink(one.path)
                else:
                    os.replace(partials[one.path], one.path)
    finally:
        for partial in partials.values():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)

    def undo() -> None:
        raise VmsnapError(f"take back: {tried}", said="the content is gone")

    return undo
