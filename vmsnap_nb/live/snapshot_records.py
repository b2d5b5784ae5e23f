"""The steps that change libvirt's records of snapshots, and no file."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

from vmsnap_nb.live.domains import definition
from vmsnap_nb.live.plan import Undo
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans.record_xml import moved_xml, record_xml
from vmsnap_nb.plans.snapshot_steps import DefineRecord, ForgetRecord, MoveRecord
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_library import library
from vmsnap_nb.system.libvirt_snapshots import find_snapshot, read_records

__all__ = ["define_record", "forget_record", "move_record", "redefine", "whole_record"]


def redefine(domain: Any, xml: str, *, current: bool) -> None:
    """Write a record, in place of the one of the same name if there is one."""
    libvirt = library()
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
    if current:
        flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
    with libvirt_errors(f"write a record of a snapshot of {domain.name()}"):
        domain.snapshotCreateXML(xml, flags)


def whole_record(domain: Any, name: str) -> str:
    """Read a record with the passwords in it, which libvirt leaves out otherwise."""
    snapshot = find_snapshot(domain, name)
    with libvirt_errors(f"read the record of the snapshot {name} of {domain.name()}"):
        return str(snapshot.getXMLDesc(library().VIR_DOMAIN_SNAPSHOT_XML_SECURE))


def forget_record(domain: Any, step: ForgetRecord) -> Undo:
    """Forget one record, and leave those that stand on it as they are but for their parent.

    libvirt takes it that the overlay was merged down, and changes the images that they name.
    """
    libvirt = library()
    secure = libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE
    records = {record.name: record for record in read_records(domain)}
    snapshot = find_snapshot(domain, step.name)
    with libvirt_errors(f"forget the snapshot {step.name} of {step.guest}"):
        whole = snapshot.getXMLDesc(secure)
        above = snapshot.listAllChildren(libvirt.VIR_DOMAIN_SNAPSHOT_LIST_DESCENDANTS)
        # Parents first: a record can only be written when its parent is there.
        above.sort(key=lambda one: _depth(one.getName(), records))
        standing = [one.getXMLDesc(secure) for one in above]
        snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
    parent = records[step.name].parent
    for xml in standing:
        _redefine_above(domain, _with_parent(xml, step.name, parent), records)

    def undo() -> None:
        redefine(domain, whole, current=records[step.name].current)
        for xml in standing:
            _redefine_above(domain, xml, records)

    return undo


def _depth(name: str, records: Mapping[str, SnapshotRecord]) -> int:
    depth, parent = 0, records[name].parent
    while parent is not None and parent in records and depth < len(records):
        depth, parent = depth + 1, records[parent].parent
    return depth


def _with_parent(xml: str, gone: str, parent: str | None) -> str:
    root = ET.fromstring(xml)
    above = root.find("parent")
    if above is not None and above.findtext("name") == gone:
        if parent is None:
            root.remove(above)
        else:
            name = above.find("name")
            assert name is not None
            name.text = parent
    return ET.tostring(root, encoding="unicode")


def _redefine_above(domain: Any, xml: str, records: Mapping[str, SnapshotRecord]) -> None:
    name = ET.fromstring(xml).findtext("name", "")
    redefine(domain, xml, current=records[name].current)


def move_record(domain: Any, step: MoveRecord) -> Undo:
    """Let a record name another image."""
    before = whole_record(domain, step.name)
    redefine(domain, moved_xml(before, step.path, step.now), current=step.current)
    return lambda: redefine(domain, before, current=step.current)


def define_record(domain: Any, step: DefineRecord) -> Undo:
    """Write a record of what is in the images."""
    libvirt = library()
    old = {record.name: record for record in read_records(domain)}
    before = whole_record(domain, step.name) if step.name in old else None
    redefine(domain, record_xml(step.record, definition(domain)), current=False)

    def undo() -> None:
        if before is not None:
            redefine(domain, before, current=old[step.name].current)
            return
        with libvirt_errors(f"forget the snapshot {step.name} of {step.guest}"):
            find_snapshot(domain, step.name).delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)

    return undo
