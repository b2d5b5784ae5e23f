"""How snapshots are taken, and memory is saved and restored: the steps of those plans."""

from __future__ import annotations

import contextlib
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from typing import Literal

from vmsnap_nb.errors import PermissionDeniedError, StalePlanError, VmsnapError
from vmsnap_nb.live.connection import Connection
from vmsnap_nb.live.guest_actions.perform import guest_action
from vmsnap_nb.live.guest_actions.records import (
    define_record,
    forget_record,
    move_record,
    redefine,
    restore_record,
    whole_record,
)
from vmsnap_nb.live.handle import GuestHandle, explained
from vmsnap_nb.live.internal_snapshots import changing_inside
from vmsnap_nb.live.journal import drop_entry, facts_of, read_entry, write_entry
from vmsnap_nb.live.step_action import Action, StaysError, Undo, undo_of
from vmsnap_nb.model.disk_xml import named_image
from vmsnap_nb.model.guest import OFF
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.model.snapshot import SnapshotDisk
from vmsnap_nb.plans.journal import SnapshotEntry
from vmsnap_nb.plans.snapshot.steps import (
    DefineRecord,
    EndSnapshot,
    ForgetRecord,
    MoveRecord,
    RestoreRecord,
    RestoreState,
    SaveState,
    TakeSnapshot,
)
from vmsnap_nb.plans.step import Step
from vmsnap_nb.system.files.errors import os_errors
from vmsnap_nb.system.files.identity import check_same, identity_at, unlink_same
from vmsnap_nb.system.files.paths import absolute
from vmsnap_nb.system.files.permission import restrict
from vmsnap_nb.system.libvirt.connection import was_cut_off
from vmsnap_nb.system.libvirt.errors import has_own_step, libvirt_errors
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.snapshots import find_snapshot
from vmsnap_nb.system.libvirt.written import written_paths
from vmsnap_nb.system.qemu import qemu_img
from vmsnap_nb.system.survey import Survey
from vmsnap_nb.words.message import Message, clauses, listed, t

__all__ = ["asked_of_disks", "snapshot_actions"]


def asked_of_disks(
    disks: Mapping[str, str | os.PathLike[str] | None] | Iterable[str] | None,
) -> Mapping[str, str] | tuple[str, ...] | None:
    """Return what a user asks for the disks as a request has it: with absolute paths."""
    if isinstance(disks, Mapping):
        return {target: "no" if choice is None else _word_or_path(choice) for target, choice in disks.items()}
    if disks is None:
        return None
    return (disks,) if isinstance(disks, str) else tuple(disks)


def _word_or_path(choice: str | os.PathLike[str]) -> str:
    """Return a path absolute; what has no folder is a word, or goes beside the disk's image."""
    text = os.fspath(choice)
    path = absolute(text)
    return path if "/" in text else text


# -- what the steps do -----------------------------------------------------------------------------------


def snapshot_actions(link: Connection) -> Mapping[type[Step], Action]:
    """Return how each kind of step about snapshots is performed."""
    return {
        TakeSnapshot: guest_action(link, _take),
        EndSnapshot: guest_action(link, _end, alone=False),
        ForgetRecord: guest_action(link, forget_record),
        DefineRecord: guest_action(link, define_record),
        MoveRecord: guest_action(link, move_record),
        RestoreRecord: guest_action(link, restore_record),
        SaveState: guest_action(link, _save, alone=False),
        RestoreState: guest_action(link, _restore, alone=False),
    }


def _take(handle: GuestHandle, step: TakeSnapshot) -> Undo:
    libvirt = library()
    tried = t("create the snapshot {name} of {guest}", name=step.name, guest=step.guest.name)
    _check_unchanged(handle, step, tried)
    before, connection = handle.definition(), handle.domain.connect()
    there = {path for path in step.creates if os.path.lexists(path)}
    flags = sum(getattr(libvirt, f"VIR_DOMAIN_SNAPSHOT_CREATE_{flag}") for flag in step.flags)
    entry, earlier = step.entry if handle.link.files_are_here else None, None
    if entry is not None:
        new = tuple(path for path in entry.made if path not in there)
        entry = replace(entry, made=new, files=facts_of(one.source for one in entry.disks))
        earlier = _earlier(entry)
        try:
            write_entry(entry if earlier is None else _joined(entry, earlier))
        except PermissionDeniedError:  # libvirt may do what this user may not
            entry = None
    try:
        with _inside(handle, step, "create"), libvirt_errors(tried):
            handle.domain.snapshotCreateXML(step.xml, flags)
    except VmsnapError as error:
        named = explained(error)
        if was_cut_off(connection, error):
            raise _unknown(named) from error
        _clean_up(handle, step, there, named)
        if entry is not None and not any(map(os.path.lexists, (*(one.file for one in entry.disks), *entry.made))):
            _end_entry(entry, earlier)
        raise named from error

    made = _made(handle, step.creates, there)

    def finish() -> None:
        _check_made(handle, step.creates, there, tried)
        if step.state in OFF and handle.link.files_are_here:
            _restrict_overlays(step, there)
        for path in step.creates:
            handle.link.customs.made(path, f"snapshot {step.name} of {step.guest}")
        if entry is not None:
            _end_entry(entry, earlier)

    def undo() -> None:
        _take_back(handle, step, before, made)
        if entry is not None:
            _end_entry(entry, earlier)

    _finish(finish, undo)
    return lambda: _take_back(handle, step, before, made)


def _unknown(error: VmsnapError, memory: str | None = None) -> VmsnapError:
    """Return an error of a libvirt that has ended: it may have done all of it before, so nothing is removed."""
    error.why = clauses(filter(None, (error.why, t("it is unknown whether libvirt completed the step"))))
    connect = t("connect again, and call unfinished() and snapshots()")
    if memory is not None:
        connect = t("connect again. If the guest is off, {path} may contain its memory: do not remove it", path=memory)
    error.next_step = clauses((error.next_step, connect)) if error.next_step and has_own_step(error) else connect
    return error


def _earlier(entry: SnapshotEntry) -> SnapshotEntry | None:
    """Return the entry of an earlier snapshot if overlays are left of it, which may hold what the guest has written."""
    earlier = read_entry(entry.path, SnapshotEntry)
    if earlier is None or not any(os.path.lexists(one.file) for one in earlier.disks if one not in entry.disks):
        return None
    return earlier


def _joined(entry: SnapshotEntry, earlier: SnapshotEntry) -> SnapshotEntry:
    """Return an entry that also says what an earlier one does: a guest has one."""
    disks, made = (*entry.disks, *earlier.disks), (*entry.made, *earlier.made)
    files = {fact.path: fact for fact in (*earlier.files, *entry.files)}
    return replace(
        entry, disks=tuple(dict.fromkeys(disks)), made=tuple(dict.fromkeys(made)), files=tuple(files.values())
    )


def _end_entry(entry: SnapshotEntry, earlier: SnapshotEntry | None) -> None:
    """Let the journal say nothing more of a snapshot, and what it said before of an earlier one."""
    if earlier is None:
        drop_entry(entry)
    else:
        write_entry(earlier)


def _finish(finish: Callable[[], None], undo: Undo) -> None:
    """Do the rest of a step; where that fails, all of it is taken back."""
    try:
        finish()
    except VmsnapError as error:
        try:
            undo()
        except VmsnapError as failure:
            error.add_note(t("could not undo the step: {error}", error=str(failure)))
        raise


def _made(handle: GuestHandle, paths: Iterable[str], there: Container[str]) -> dict[str, Identity]:
    """Return which files libvirt has just made on this machine, so that only these are removed again."""
    if not handle.link.files_are_here:
        return {}
    found = {path: identity_at(path) for path in paths if path not in there}
    return {path: identity for path, identity in found.items() if identity is not None}


def _check_made(handle: GuestHandle, paths: Iterable[str], there: Container[str], tried: Message) -> None:
    """Check that libvirt has made the files themselves: it follows a link that somebody puts there at that moment."""
    for path in paths:
        if handle.link.files_are_here and path not in there and os.path.islink(path):
            raise StalePlanError(
                tried,
                why=t(
                    "someone created a symbolic link at {path} in the meantime, so libvirt wrote to {target}",
                    path=path,
                    target=os.path.realpath(path),
                ),
                next_step=t("find out who created the link, and choose a folder that only you can change"),
            )


def _remove(made: Mapping[str, Identity], tried: Message) -> None:
    for path, identity in made.items():
        with os_errors(tried), contextlib.suppress(FileNotFoundError):
            unlink_same(path, identity, tried)


def _restrict_overlays(step: TakeSnapshot, there: set[str]) -> None:
    """Give overlays that libvirt has let qemu-img make, for everybody to read, the mode of the images below.

    While a guest runs libvirt does it itself. An overlay of another user stays as it is.
    """
    for disk in step.disks:
        if disk.held == "external" and disk.file and disk.source and disk.file not in there:
            with contextlib.suppress(OSError):
                restrict(disk.file, disk.source)


def _check_unchanged(handle: GuestHandle, step: TakeSnapshot, tried: Message) -> None:
    """Check once more, since another thread may have been first."""
    now = handle.read()
    current = next((record.name for record in handle.records(xml=False) if record.current), None)
    expected = {disk.target: disk.source for disk in step.disks}
    why: Message | None = None
    if {disk.target: disk.source for disk in now.disks} != expected:
        why = t("its disks now use different images")
    elif now.state != step.state:
        why = t("it was {before}, but is now {now}", before=step.state, now=now.state)
    elif current != step.parent:
        none = t("no snapshot")
        why = t("its current snapshot was {before}, but is now {now}", before=step.parent or none, now=current or none)
    if why is not None:
        raise StalePlanError(tried, why=why, next_step=t("create the plan again, review it and run it"))


def _clean_up(handle: GuestHandle, step: TakeSnapshot, there: set[str], error: VmsnapError) -> None:
    """Remove what a failed snapshot has left, unless the guest has it."""
    try:
        made = _made(handle, step.creates, there)
        used = _all_sources(handle) | _held(handle, named=error)
        running = handle.running
        _remove({path: identity for path, identity in made.items() if path not in used}, t("remove incomplete files"))
        if kept := [path for path in made if path in used]:
            _say_kept(handle, kept, error)
        if step.kind == "internal-disk" and not running:
            for disk in step.disks:
                _drop_inside(disk, step.name)
    except VmsnapError as failure:
        error.add_note(t("could not clean up after the snapshot: {error}", error=str(failure)))
    else:
        if not has_own_step(error):
            error.next_step = t("call the guest's snapshots() again: this snapshot was removed completely")


def _say_kept(handle: GuestHandle, kept: Iterable[str], error: VmsnapError) -> None:
    """Say that a snapshot which failed was taken all the same: QEMU was done when the guest's agent did not thaw."""
    fields = {"guest": handle.name, "files": listed(kept)}
    why = t("{guest} already uses {files}, but libvirt has no record of the snapshot", **fields)
    step = t("merge {files} with commit(), or keep it: guest.unfinished()[0].run() removes the journal entry", **fields)
    error.why = clauses(filter(None, (error.why, why)))
    error.next_step = clauses(filter(None, (error.next_step if has_own_step(error) else None, step)))


def _all_sources(handle: GuestHandle) -> set[str]:
    """Return every file that the guest has or would have as a disk, with what libvirt knows to be below."""
    roots = map(ET.fromstring, (handle.xml(), handle.definition()))
    return {named_image(source) or "" for root in roots for source in root.iterfind("devices/disk//source")}


def _held(handle: GuestHandle, *, named: VmsnapError) -> set[str]:
    """Return what QEMU writes to, whatever libvirt says of it: it may have switched before libvirt failed."""
    uses = [use for use in handle.survey(Survey(follow=True)).forest.uses if use.guest == handle.name]
    for use in uses:
        if use.named is not None:
            named.next_step = t("{problem}. To correct that, run guest.unfinished()[0].run()", problem=use.problem)
    return {use.path for use in uses}


def _end(_: GuestHandle, step: EndSnapshot) -> Undo:
    drop_entry(step.entry)
    return lambda: write_entry(step.entry)


def _drop_inside(disk: SnapshotDisk, name: str) -> None:
    """Remove an internal snapshot from the image of a guest that is off, if it is there."""
    if disk.held != "internal" or disk.source is None:
        return
    inside = qemu_img.info(disk.source, "qcow2").get("snapshots", ())
    if any(snapshot["name"] == name for snapshot in inside):
        argv = ("qemu-img", "snapshot", "-d", name, disk.source)
        with changing_inside((disk.source,), name, "delete"):
            qemu_img.run(argv, tried=t("remove the snapshot {name} from {image}", name=name, image=disk.source))


def _inside(
    handle: GuestHandle, step: TakeSnapshot, change: Literal["create", "delete"]
) -> contextlib.AbstractContextManager[None]:
    """Return what has entries beside the images in which a snapshot lies, while that is made or removed."""
    here = handle.link.files_are_here
    paths = (disk.source for disk in step.disks if here and disk.held == "internal" and disk.source is not None)
    return changing_inside(paths, step.name, change, running=lambda: bool(written_paths(handle.domain)))


def _take_back(handle: GuestHandle, step: TakeSnapshot, before: str, made: Mapping[str, Identity]) -> None:
    tried = undo_of(t("create the snapshot {name} of {guest}", name=step.name, guest=step.guest.name))
    domain = handle.domain
    if step.kind.startswith("external") and handle.running:
        raise StaysError(
            tried,
            why=t("{guest} already writes to the new overlays", guest=step.guest.name),
            next_step=t("keep the snapshot, or delete it to merge the overlays"),
        )
    libvirt = library()
    if step.kind.startswith("internal"):
        if step.metadata:
            with _inside(handle, step, "delete"), libvirt_errors(tried):
                find_snapshot(domain, step.name).delete()
        else:
            for disk in step.disks:
                _drop_inside(disk, step.name)
        return
    with libvirt_errors(tried):
        domain.connect().defineXML(before)
        if step.metadata:
            find_snapshot(domain, step.name).delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
            if step.parent is not None:
                redefine(handle, whole_record(domain, step.parent), current=True, undoes=True)
    _remove(made, tried)


def _save(handle: GuestHandle, step: SaveState) -> Undo:
    domain, connection = handle.domain, handle.domain.connect()
    tried = t("save the memory of {guest}", guest=step.guest.name)
    there = {path for path in step.creates if os.path.lexists(path)}
    try:
        with libvirt_errors(tried):
            if step.path is None:
                domain.managedSave()
            else:
                domain.save(step.path)
    except VmsnapError as error:
        if was_cut_off(connection, error):
            raise _unknown(error, step.path) from error
        try:
            _remove(_made(handle, step.creates, there), tried)
        except VmsnapError as failure:
            error.add_note(t("could not remove the incomplete {path}: {error}", path=step.path, error=str(failure)))
        raise explained(error) from error
    made = _made(handle, step.creates, there)

    def undo() -> None:
        for path, identity in made.items():
            with os_errors(tried):
                check_same(path, identity, undo_of(tried))
        _restore(handle, RestoreState(guest=step.guest, path=step.path))
        _remove(made, undo_of(tried))

    def finish() -> None:
        for path in step.creates:
            handle.link.customs.made(path, f"memory of {step.guest}")

    _finish(finish, undo)
    return undo


def _restore(handle: GuestHandle, step: RestoreState) -> Undo:
    domain = handle.domain
    tried = t("restore {guest} from its saved memory", guest=step.guest.name)
    if step.path is not None:
        handle.check_saved(step.path, tried)
    with libvirt_errors(tried):
        if step.path is None:
            domain.create()
        else:
            handle.link.handle.restore(step.path)
    handle.has_started()

    def undo() -> None:
        with libvirt_errors(t("save the memory of {guest} again", guest=step.guest.name)):
            if step.path is None:
                domain.managedSave()
            else:
                domain.destroy()  # its file is still there

    return undo
