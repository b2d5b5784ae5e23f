"""How the steps that take a guest back to a snapshot are performed."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from vmsnap_nb.errors import GuestError, InUseError, StalePlanError, VmsnapError
from vmsnap_nb.live.connection import Connection
from vmsnap_nb.live.guest_actions.perform import guest_action, once_free
from vmsnap_nb.live.guest_actions.records import planned_snapshot, redefine, whole_record
from vmsnap_nb.live.guest_actions.stale_chain import forget_old_chains
from vmsnap_nb.live.handle import GuestHandle, ended_at_once, explained
from vmsnap_nb.live.image_actions import write_overlay
from vmsnap_nb.live.internal_snapshots import changing_inside
from vmsnap_nb.live.journal import drop_entry, facts_of, read_entry, revert_entries, write_entry
from vmsnap_nb.live.step_action import Action, HalfDoneError, StaysError, Undo, no_way_back, undo_of
from vmsnap_nb.model.guest import OFF
from vmsnap_nb.plans.journal import RevertEntry
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.revert.definition import NewSource, definition_of
from vmsnap_nb.plans.revert.request import RevertRequest
from vmsnap_nb.plans.revert.steps import (
    BeginRevert,
    Discard,
    DiscardOverlays,
    EndGuest,
    EndRevert,
    MakeCurrent,
    RestoreMemory,
    RevertInside,
    StartGuest,
    TakeDefinition,
)
from vmsnap_nb.plans.step import CreateOverlay, Step
from vmsnap_nb.system.files.devices import is_device
from vmsnap_nb.system.files.errors import os_errors
from vmsnap_nb.system.files.identity import check_same, replace_same, unlink_same
from vmsnap_nb.system.files.permission import permission_below, permission_of
from vmsnap_nb.system.files.temporary import temporary
from vmsnap_nb.system.libvirt.errors import has_own_step, libvirt_errors
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.snapshots import find_snapshot, parse_record
from vmsnap_nb.system.libvirt.written import written_paths
from vmsnap_nb.words.message import Message, clauses, lines, listed, t
from vmsnap_nb.words.states import state_words

__all__ = ["revert_actions", "unfinished_reverts"]

_SETTLES = 0.5
"""Seconds in which libvirt takes note of the end of a QEMU."""
_ENDS = 5.0
"""Seconds in which the locks of a QEMU that has ended are gone."""


def unfinished_reverts(guest: GuestHandle, now: Reading) -> list[RevertRequest]:
    """Return the requests that finish reverts which were cut short: the guest's, and of one that had its name before.

    A guest that was undefined, and defined again, has another UUID, by which its own entry is found.
    """
    if not guest.link.files_are_here:
        return []
    domain = now.owner.domain
    entries = [*itertools.islice(revert_entries(domain, now.forest.records), 1)]
    before = [entry for entry in now.reverts if entry.guest == domain.name and entry.uuid != domain.uuid]
    known = {other.uuid for other, _ in guest.link.roll().guests} if before else set()
    entries += [entry for entry in before if entry.uuid not in known]
    return [RevertRequest.finishing(now.owner.ref, entry) for entry in entries]


def revert_actions(link: Connection) -> Mapping[type[Step], Action]:
    """Return how each kind of step of a revert is performed."""
    return {
        BeginRevert: guest_action(link, _begin),
        EndRevert: guest_action(link, _end, alone=False),
        EndGuest: guest_action(link, _end_guest),
        TakeDefinition: guest_action(link, _define),
        RestoreMemory: guest_action(link, _restore_memory, alone=False),
        StartGuest: guest_action(link, _start_guest, alone=False),
        RevertInside: guest_action(link, _inside),
        MakeCurrent: guest_action(link, _make_current),
        DiscardOverlays: _discard,
    }


# -- the journal -----------------------------------------------------------------------------------------


def _begin(guest: GuestHandle, step: BeginRevert) -> Undo:
    before = read_entry(step.entry.path, RevertEntry)
    paths = dict.fromkeys((*step.entry.discards, *(use.path for use in guest.read().uses)))
    write_entry(replace(step.entry, files=facts_of(paths)))
    return lambda: drop_entry(step.entry) if before is None else write_entry(before)


def _end(guest: GuestHandle, step: EndRevert) -> Undo:
    begun = read_entry(step.entry.path, RevertEntry)  # of a guest that was defined anew it has the UUID of before
    entries = dict.fromkeys((*revert_entries(guest.read(), guest.records(xml=False)), *([begun] if begun else ())))
    for entry in entries:
        drop_entry(entry)

    def undo() -> None:
        for entry in entries:
            write_entry(entry)

    return undo


# -- end and start ---------------------------------------------------------------------------------------


def _stale(tried: Message, why: Message) -> StalePlanError:
    return StalePlanError(tried, why=why, next_step=t("create the plan again, review it and run it"))


def _end_guest(guest: GuestHandle, step: EndGuest) -> Undo:
    now = guest.read()
    if now.state != step.state:
        why = t("it was {before}, but is now {now}", before=step.state, now=now.state)
        raise _stale(t("stop {guest}", guest=step.guest.name), why)
    sources = [
        NewSource(disk.target, disk.source, disk.format or "raw", is_device(disk.source))
        for disk in now.disks
        if disk.source
    ]
    _destroy(guest)

    def undo() -> None:
        paused = step.state == "paused"
        if step.kept is None:
            _twice(lambda: _start(guest, paused=paused))
            raise StaysError(
                undo_of(t("stop {guest}", guest=step.guest.name)),
                why=t("its memory was not kept, so the guest was started again from its disks"),
            )
        record = whole_record(guest.domain, step.kept)
        path = parse_record(step.guest.name, record).memory_file or ""
        xml = definition_of(record, sources, which="live")
        try:
            _twice(lambda: _restore(guest, path, xml, paused=paused))
        except VmsnapError as failure:
            tried = undo_of(t("stop {guest}", guest=step.guest.name))
            raise GuestError(tried, why=lines([str(failure)]), next_step=_way_to(step.kept, path)) from failure

    return undo


def _way_to(kept: str, memory: str) -> Message:
    """Return how a state is restored that could not be restored immediately."""
    if memory:
        return t(
            "the previous state is in the snapshot {name}, with its memory in {path}: guest.revert({name!r}) "
            "restores it as soon as the guest can start",
            name=kept,
            path=memory,
        )
    return t(
        "the previous state is in the snapshot {name}: guest.revert({name!r}) restores it as soon as the guest can "
        "start",
        name=kept,
    )


def _restore_memory(guest: GuestHandle, step: RestoreMemory) -> Undo:
    whole = definition_of(whole_record(guest.domain, step.name), step.sources, which="live", name=guest.name)
    _restore(guest, step.path, whole, paused=step.paused)
    return lambda: _destroy(guest)


def _start_guest(guest: GuestHandle, step: StartGuest) -> Undo:
    _start(guest, paused=step.paused)
    return lambda: _destroy(guest)


def _twice(begin: Callable[[], None]) -> None:
    """Do it, and once more if it fails.

    Where a QEMU was killed, libvirt can take note of its end so late that it ends the next one, just started, as well.
    """
    try:
        begin()
    except VmsnapError:
        time.sleep(_SETTLES)
        begin()


def _destroy(guest: GuestHandle) -> None:
    if guest.running:
        with libvirt_errors(t("stop {guest}", guest=guest.name)):
            guest.domain.destroy()


def _start(guest: GuestHandle, *, paused: bool) -> None:
    flags = library().VIR_DOMAIN_START_PAUSED if paused else 0
    _begun(guest, t("start {guest}", guest=guest.name), lambda: guest.domain.createWithFlags(flags))


def _restore(guest: GuestHandle, path: str, xml: str, *, paused: bool) -> None:
    libvirt = library()
    flags = libvirt.VIR_DOMAIN_SAVE_PAUSED if paused else libvirt.VIR_DOMAIN_SAVE_RUNNING
    tried = t("restore {guest} from the memory in {path}", guest=guest.name, path=path)
    guest.check_saved(path, tried)
    _begun(guest, tried, lambda: guest.link.handle.restoreFlags(path, xml, flags))


def _begun(guest: GuestHandle, tried: Message, begin: Callable[[], object]) -> None:
    """Start a guest whose QEMU may just have ended."""

    def once() -> None:
        with libvirt_errors(tried):
            begin()

    try:
        once_free(once, until=time.monotonic() + _ENDS)
    except InUseError:
        raise
    except VmsnapError as error:
        raise _explained(error) from error
    guest.has_started()


def _check_again() -> Message:
    return t("check its disks with chain(), then revert to the snapshot again")


def _explained(error: VmsnapError) -> VmsnapError:
    """Say what is known of libvirt's words, also where QEMU has ended before it could say anything."""
    named = explained(error)
    if ended_at_once(named):
        return GuestError(
            named.tried,
            why=clauses(filter(None, (t("its QEMU process exited immediately"), named.why))),
            said=named.quoted,
            next_step=_check_again(),
        )
    if not has_own_step(named):
        named.next_step = _check_again()
    return named


# -- the definition and the images ------------------------------------------------------------------------


def _define(guest: GuestHandle, step: TakeDefinition) -> Undo:
    tried = t("restore the definition of {guest} from the snapshot {name}", guest=step.guest.name, name=step.name)
    now = guest.read()
    had = {(source.target, source.path) for source in step.before}
    if now.running:
        raise _stale(tried, t("it is {state}", state=state_words(now.state)))
    if {(use.target, use.path) for use in now.uses} != had:
        raise _stale(tried, t("its disks now use different images"))
    before = guest.definition()
    xml = definition_of(whole_record(guest.domain, step.name), step.sources, name=guest.name)
    guest.define(xml, tried)
    return lambda: guest.define(before, undo_of(tried))


def _inside(guest: GuestHandle, step: RevertInside) -> Undo:
    tried = t("revert {guest} to {name}", guest=step.guest.name, name=step.name)
    state = guest.state
    if state != step.state:
        raise _stale(tried, t("it was {before}, but is now {now}", before=step.state, now=state))
    planned_snapshot(guest.domain, step.name, step.created, tried)
    forget_old_chains(guest, step.name)
    try:
        _revert(guest, step, step.name, step.flags, tried)
    except VmsnapError as error:
        named = _explained(error)
        try:
            _go_back(guest, step)
        except VmsnapError as failure:
            named.add_note(t("could not undo the step: {error}", error=str(failure)))
            raise HalfDoneError(named) from error
        raise named from error
    if step.to != "off":
        guest.has_started()
    return lambda: _go_back(guest, step)


def _revert(guest: GuestHandle, step: RevertInside, name: str, flags: Iterable[str], tried: Message) -> None:
    libvirt = library()
    number = sum(getattr(libvirt, f"VIR_DOMAIN_SNAPSHOT_REVERT_{flag}") for flag in flags)
    paths = step.sources if guest.link.files_are_here else ()
    with (
        changing_inside(paths, name, "revert", running=lambda: bool(written_paths(guest.domain))),
        libvirt_errors(tried),
    ):
        guest.domain.revertToSnapshot(find_snapshot(guest.domain, name), number)


def _go_back(guest: GuestHandle, step: RevertInside) -> None:
    """Revert to the snapshot that was created just before."""
    tried = undo_of(t("revert {guest} to {name}", guest=step.guest.name, name=step.name))
    if step.kept is None:
        raise GuestError(
            tried,
            why=t("the previous state was not kept, and the current state may be a mixture of both"),
            next_step=t("revert to snapshot {name} again, or to another snapshot", name=step.name),
        )
    running = () if step.state in OFF else ("PAUSED",) if step.state == "paused" else ("RUNNING",)
    kept, flags = step.kept, (*running, "FORCE")
    try:
        _twice(lambda: _revert(guest, step, kept, flags, tried))
    except VmsnapError as failure:
        raise GuestError(tried, why=lines([str(failure)]), next_step=_way_to(kept, "")) from failure
    if running:
        guest.has_started()


def _make_current(guest: GuestHandle, step: MakeCurrent) -> Undo:
    domain = guest.domain
    before = next((record.name for record in guest.records(xml=False) if record.current), None)
    redefine(guest, whole_record(domain, step.name), current=True)

    def undo() -> None:
        if before is not None:
            redefine(guest, whole_record(domain, before), current=True, undoes=True)

    return undo


def _discard(step: DiscardOverlays) -> Undo:
    """Make everything ready first, since from the first file on nothing can be taken back."""
    tried = t("discard {images}", images=listed(one.path for one in step.overlays))
    with os_errors(tried), contextlib.ExitStack() as making:
        for one in step.overlays:
            check_same(one.path, one.identity, tried)
        ready = {one.path: making.enter_context(_emptied(one, tried)) for one in step.overlays if one.backing}
        for one in step.overlays:
            # What cannot be removed stays, and the report says that it is there.
            with contextlib.suppress(OSError, StalePlanError):
                if one.path in ready:
                    replace_same(ready[one.path], one.path, one.identity, tried)
                else:
                    unlink_same(one.path, one.identity, tried)
    return no_way_back(tried, t("their content is lost"), needed=True)


@contextlib.contextmanager
def _emptied(one: Discard, tried: Message) -> Iterator[str]:
    """Make an overlay without content that has owner and mode of the one it replaces, as far as those below have."""
    assert one.backing is not None
    with temporary(os.path.dirname(one.path)) as new:
        write_overlay(new, CreateOverlay(path=one.path, backing=one.backing), tried)
        permission_of(one.path).within(permission_below(one.backing.path)).give(new.fd)
        os.fsync(new.fd)
        yield new.path
