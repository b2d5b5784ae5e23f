"""The steps that change libvirt's records of snapshots, and no file."""

from __future__ import annotations

import contextlib
import os
import xml.etree.ElementTree as ET
from datetime import datetime
from typing import Any

from vmsnap_nb.errors import LibvirtError, NotFoundError, PermissionDeniedError, StalePlanError, VmsnapError
from vmsnap_nb.live.handle import GuestHandle
from vmsnap_nb.live.journal import drop_entry, write_entry
from vmsnap_nb.live.step_action import Undo
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.plans.compare import is_another
from vmsnap_nb.plans.journal import RecordEntry
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.snapshot.lost_record import RestoreRecordRequest
from vmsnap_nb.plans.snapshot.record_xml import moved_xml, record_xml
from vmsnap_nb.plans.snapshot.steps import DefineRecord, ForgetRecord, MoveRecord, RestoreRecord
from vmsnap_nb.system.files.devices import is_device
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.snapshots import find_snapshot, parse_record
from vmsnap_nb.system.libvirt.volumes import with_volume_paths
from vmsnap_nb.words.message import Message, t

__all__ = [
    "check_created",
    "define_record",
    "forget_record",
    "lost_records",
    "move_record",
    "planned_snapshot",
    "redefine",
    "restore_record",
    "whole_record",
]


def redefine(handle: GuestHandle, xml: str, *, current: bool, undoes: bool = False) -> None:
    """Write a record, in place of the one of the same name if there is one.

    libvirt drops from its list what it cannot write, as on a full disk. So a journal entry has the old record, which is
    written again then. Without that entry nothing is written, unless it `undoes` a change.
    """
    domain = handle.domain
    entry = _noted(handle, parse_xml(xml).findtext("name", ""), undoes=undoes)
    try:
        _write(domain, xml, current=current)
    except VmsnapError as error:
        if entry is not None:
            try:
                _write(domain, entry.xml, current=entry.current)
            except VmsnapError as failure:
                error.add_note(
                    t(
                        "could not restore the old record: {error}. libvirt reads the record when it restarts",
                        error=str(failure),
                    )
                )
                if os.path.lexists(entry.path):
                    error.add_note(t("guest.unfinished()[0].run() writes that record again"))
                raise error from failure
            _drop_if_written(entry)
        raise
    if entry is not None:
        _drop_if_written(entry)


def _drop_if_written(entry: RecordEntry) -> None:
    if os.path.lexists(entry.path):
        drop_entry(entry)


def _noted(handle: GuestHandle, name: str, *, undoes: bool) -> RecordEntry | None:
    """Write an entry with the record of this name, if there is one; it is returned, though it could not be written."""
    try:
        before, current = _read(handle.domain, name)
    except NotFoundError:
        return None
    domain = handle.read()
    folder = next((os.path.dirname(use.path) for use in domain.uses if use.path.startswith("/")), "/")
    entry = RecordEntry(folder=folder, guest=domain.name, uuid=domain.uuid, name=name, xml=before, current=current)
    if handle.link.files_are_here:
        try:
            write_entry(entry)
        except PermissionDeniedError:
            pass  # libvirt may write where this user may not
        except VmsnapError:
            if not undoes:
                raise
    return entry


def lost_records(handle: GuestHandle, now: Reading) -> list[RestoreRecordRequest]:
    """Return the requests that write records again which libvirt may have dropped.

    A guest that was undefined, and defined again, has another UUID: of the one before only the name tells.
    """
    requests = []
    before = [entry for entry in now.old_records if entry.guest == now.owner.domain.name]
    known = {guest.uuid for guest, _ in handle.link.roll().guests} if before else set()
    for entry in (*now.lost_records, *(entry for entry in before if entry.uuid not in known)):
        with contextlib.suppress(LibvirtError, KeyError):
            record = parse_record(now.owner.domain.name, entry.xml, entry.name if entry.current else None)
            if record.name == entry.name:
                requests.append(RestoreRecordRequest(guest=now.owner.ref, entry=entry, record=record))
    return requests


def restore_record(handle: GuestHandle, step: RestoreRecord) -> Undo:
    """Write a record again that libvirt does not list, and remove its entry."""
    entry = step.entry
    if entry.uuid == step.guest.uuid and all(record.name != entry.name for record in handle.records(xml=False)):
        _write(handle.domain, entry.xml, current=entry.current)
    drop_entry(entry)
    return lambda: write_entry(entry)


def _write(domain: Any, xml: str, *, current: bool) -> None:
    libvirt = library()
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
    if current:
        flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
    with libvirt_errors(t("write the record of a snapshot of {guest}", guest=domain.name())):
        domain.snapshotCreateXML(xml, flags)


def planned_snapshot(domain: Any, name: str, created: datetime | None, tried: Message) -> Any:
    """Return libvirt's handle of a snapshot that was created then; another one that has its name by now stays."""
    snapshot = find_snapshot(domain, name)
    with libvirt_errors(tried):
        now = parse_record(str(domain.name()), str(snapshot.getXMLDesc())).created
    check_created(name, created, now, tried)
    return snapshot


def check_created(name: str, created: datetime | None, now: datetime | None, tried: Message) -> None:
    """Raise if a snapshot was created at another time than the one that was planned with."""
    if is_another(created, now):
        raise StalePlanError(
            tried,
            why=t("snapshot {name} was deleted and created again", name=name),
            next_step=t("create the plan again, review it and run it"),
        )


def whole_record(domain: Any, name: str) -> str:
    """Read a record with the passwords in it, which libvirt leaves out otherwise."""
    return _read(domain, name)[0]


def _read(domain: Any, name: str) -> tuple[str, bool]:
    """Read the whole record of a snapshot, and whether it is the current one."""
    snapshot = find_snapshot(domain, name)
    with libvirt_errors(t("read the record of the snapshot {name} of {guest}", name=name, guest=domain.name())):
        xml = str(snapshot.getXMLDesc(library().VIR_DOMAIN_SNAPSHOT_XML_SECURE))
        return xml, bool(snapshot.isCurrent())


def forget_record(handle: GuestHandle, step: ForgetRecord) -> Undo:
    """Forget one record, and change its children in nothing but their parent.

    These get their new parent first. libvirt assumes that the overlay of a record that goes was merged down, and would
    change the images that its children name; and an interruption in between leaves only whole records behind.
    """
    libvirt, domain = library(), handle.domain
    secure = libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE
    records = {record.name: record for record in handle.records(xml=False)}
    snapshot, parent = find_snapshot(domain, step.name), records[step.name].parent
    tried = t("remove the record of snapshot {name} of {guest}", name=step.name, guest=step.guest.name)
    with libvirt_errors(tried):
        whole = snapshot.getXMLDesc(secure)
        children = {child.getName(): child.getXMLDesc(secure) for child in snapshot.listAllChildren()}
    moved: list[str] = []

    def back() -> None:
        for name in moved:
            redefine(handle, children[name], current=records[name].current, undoes=True)

    try:
        for name, xml in children.items():
            redefine(handle, _with_parent(xml, step.name, parent), current=records[name].current)
            moved.append(name)
        with libvirt_errors(tried):
            snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
    except VmsnapError as error:
        try:
            back()
        except VmsnapError as failure:
            error.add_note(t("could not undo the step: {error}", error=str(failure)))
        raise

    def undo() -> None:
        redefine(handle, whole, current=records[step.name].current, undoes=True)
        back()

    return undo


def _with_parent(xml: str, gone: str, parent: str | None) -> str:
    root = parse_xml(xml)
    above = root.find("parent")
    if above is not None and above.findtext("name") == gone:
        if parent is None:
            root.remove(above)
        else:
            name = above.find("name")
            assert name is not None
            name.text = parent
    return ET.tostring(root, encoding="unicode")


def move_record(handle: GuestHandle, step: MoveRecord) -> Undo:
    """Let a record name another image."""
    domain = handle.domain
    before = whole_record(domain, step.name)
    text = with_volume_paths(domain.connect, before)
    moved = moved_xml(text, step.path, step.now, format=step.format, device=is_device(step.now))
    redefine(handle, moved, current=step.current)

    def undo() -> None:
        if handle.link.files_are_here and os.path.lexists(step.now) and not os.path.lexists(step.path):
            raise VmsnapError(
                t("make the record of snapshot {name} refer to {image} again", name=step.name, image=step.path),
                why=t("the image no longer exists, and {image} holds its content", image=step.now),
                next_step=t("check the records with snapshots(), and correct them with reconcile()"),
            )
        redefine(handle, before, current=step.current, undoes=True)

    return undo


def define_record(handle: GuestHandle, step: DefineRecord) -> Undo:
    """Write a record of what is in the images."""
    libvirt, domain = library(), handle.domain
    old = {record.name: record for record in handle.records(xml=False)}
    before = whole_record(domain, step.name) if step.name in old else None
    devices = {disk.source for disk in step.record.disks if disk.source and is_device(disk.source)}
    redefine(
        handle,
        record_xml(step.record, with_volume_paths(domain.connect, handle.definition()), devices),
        current=False,
    )

    def undo() -> None:
        if before is not None:
            redefine(handle, before, current=old[step.name].current, undoes=True)
            return
        with libvirt_errors(
            t("remove the record of snapshot {name} of {guest}", name=step.name, guest=step.guest.name)
        ):
            find_snapshot(domain, step.name).delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)

    return undo
