"""How snapshots are taken, and memory is saved and restored: the steps of those plans."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vmsnap_nb.errors import GuestError, StalePlanError, VmsnapError
from vmsnap_nb.live.domains import definition, explained, find_domain, guard, guest_of
from vmsnap_nb.live.plan import Action, Undo
from vmsnap_nb.live.snapshot_records import define_record, forget_record, move_record, redefine, whole_record
from vmsnap_nb.model.snapshot import SnapshotDisk
from vmsnap_nb.plans.snapshot_steps import DefineRecord, ForgetRecord, MoveRecord, RestoreState, SaveState, TakeSnapshot
from vmsnap_nb.plans.steps import Step
from vmsnap_nb.system import qemu_img
from vmsnap_nb.system.libvirt_domains import read_domain
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_library import library
from vmsnap_nb.system.libvirt_snapshots import find_snapshot, read_records

if TYPE_CHECKING:
    from vmsnap_nb.live.host import Host

__all__ = ["snapshot_actions"]


def snapshot_actions(host: Host) -> Mapping[type[Step], Action]:
    """Give how each kind of step about snapshots is performed on a host."""

    def take(step: TakeSnapshot) -> Undo:
        with guard(step.uuid):
            undo = _take(find_domain(host, step.uuid, step.guest), step)
        for path in step.creates:
            host._has_made(path, f"snapshot {step.name} of {step.guest}")
        return undo

    def forget(step: ForgetRecord) -> Undo:
        with guard(step.uuid):
            return forget_record(find_domain(host, step.uuid, step.guest), step)

    def define(step: DefineRecord) -> Undo:
        with guard(step.uuid):
            return define_record(find_domain(host, step.uuid, step.guest), step)

    def move(step: MoveRecord) -> Undo:
        with guard(step.uuid):
            return move_record(find_domain(host, step.uuid, step.guest), step)

    def save(step: SaveState) -> Undo:
        undo = _save(host, find_domain(host, step.uuid, step.guest), step)
        for path in step.creates:
            host._has_made(path, f"memory of {step.guest}")
        return undo

    def restore(step: RestoreState) -> Undo:
        return _restore(host, find_domain(host, step.uuid, step.guest), step)

    return {
        TakeSnapshot: take,
        ForgetRecord: forget,
        DefineRecord: define,
        MoveRecord: move,
        SaveState: save,
        RestoreState: restore,
    }


def _take(domain: Any, step: TakeSnapshot) -> Undo:
    libvirt = library()
    tried = f"take the snapshot {step.name} of {step.guest}"
    _check_unchanged(domain, step, tried)
    before = definition(domain)
    there = {path for path in step.creates if os.path.lexists(path)}
    flags = sum(getattr(libvirt, f"VIR_DOMAIN_SNAPSHOT_CREATE_{flag}") for flag in step.flags)
    try:
        with libvirt_errors(tried):
            domain.snapshotCreateXML(step.xml, flags)
    except VmsnapError as error:
        named = explained(error)
        _clean_up(domain, step, there, named)
        raise named from error
    return lambda: _take_back(domain, step, before)


def _check_unchanged(domain: Any, step: TakeSnapshot, tried: str) -> None:
    """Look once more, since another thread may have been first."""
    now = read_domain(domain)
    current = next((record.name for record in read_records(domain) if record.current), None)
    expected = {disk.target: disk.source for disk in step.disks}
    said = ""
    if {disk.target: disk.source for disk in now.disks} != expected:
        said = "its disks have other images now"
    elif now.state != step.state:
        said = f"it was {step.state}, and is {now.state} now"
    elif current != step.parent:
        said = f"its current snapshot was {step.parent}, and is {current} now"
    if said:
        raise StalePlanError(tried, said=said, next_step="make the plan again, look at it, and run that")


def _clean_up(domain: Any, step: TakeSnapshot, there: set[str], error: VmsnapError) -> None:
    """Remove what a failed snapshot has left, unless the guest has it."""
    try:
        used = _all_sources(domain)
        running = read_domain(domain).state not in {"shut off", "crashed", "no state"}
        for path in step.creates:
            if path not in there and path not in used and os.path.lexists(path):
                os.unlink(path)
        if step.kind == "internal-disk" and not running:
            for disk in step.disks:
                _drop_inside(disk, step.name)
    except (VmsnapError, OSError) as failure:
        error.add_note(f"could not clean up after it: {failure}")


def _all_sources(domain: Any) -> set[str]:
    """Give every file that the guest has or would have as a disk, with what libvirt knows to be below."""
    libvirt = library()
    found: set[str] = set()
    with libvirt_errors(f"read the XML of {domain.name()}"):
        texts = [domain.XMLDesc(), domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)]
    for text in texts:
        found |= {source.get("file", "") for source in ET.fromstring(text).iterfind("devices/disk//source")}
    return found


def _drop_inside(disk: SnapshotDisk, name: str) -> None:
    """Remove an internal snapshot from the image of a guest that is off, if it is there."""
    if disk.held != "internal" or disk.source is None:
        return
    inside = qemu_img.info(disk.source, "qcow2").get("snapshots", ())
    if any(snapshot["name"] == name for snapshot in inside):
        argv = ("qemu-img", "snapshot", "-d", name, disk.source)
        qemu_img.run(argv, tried=f"remove the snapshot {name} from {disk.source}")


def _take_back(domain: Any, step: TakeSnapshot, before: str) -> None:
    tried = f"take back the snapshot {step.name} of {step.guest}"
    running = read_domain(domain).state not in {"shut off", "crashed", "no state"}
    if step.kind.startswith("external") and running:
        raise GuestError(
            tried,
            said=f"{step.guest} writes to the new overlays already",
            next_step="keep the snapshot, or delete it: that merges the overlays",
        )
    libvirt = library()
    if step.kind.startswith("internal"):
        if step.metadata:
            with libvirt_errors(tried):
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
                redefine(domain, whole_record(domain, step.parent), current=True)
    for path in step.creates:
        os.unlink(path)


def _save(host: Host, domain: Any, step: SaveState) -> Undo:
    there = step.path is not None and os.path.lexists(step.path)
    try:
        with libvirt_errors(f"save the memory of {step.guest}"):
            if step.path is None:
                domain.managedSave()
            else:
                domain.save(step.path)
    except VmsnapError as error:
        if step.path is not None and not there and os.path.lexists(step.path):
            try:
                os.unlink(step.path)
            except OSError as failure:
                error.add_note(f"could not remove the unfinished {step.path}: {failure}")
        raise explained(error) from error

    def undo() -> None:
        _restore(host, domain, RestoreState(step.guest, step.uuid, step.uri, step.path))
        if step.path is not None:
            os.unlink(step.path)

    return undo


def _restore(host: Host, domain: Any, step: RestoreState) -> Undo:
    with libvirt_errors(f"restore {step.guest} from its saved memory"):
        if step.path is None:
            domain.create()
        else:
            host.connection.restore(step.path)
    host._has_started(guest_of(host, domain))

    def undo() -> None:
        with libvirt_errors(f"save the memory of {step.guest} again"):
            if step.path is None:
                domain.managedSave()
            else:
                domain.destroy()  # its file is still there

    return undo
