"""libvirt's records of snapshots, as XML."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from vmsnap_nb.model.snapshot import SnapshotRecord

__all__ = ["moved_xml", "record_xml"]


def moved_xml(xml: str, path: str, now: str) -> str:
    """Give libvirt's record of a snapshot in which another image takes the place of one.

    Parameters
    ----------
    xml : str
        The record, with the definitions of the guest in it.
    path, now : str
        As in `vmsnap_nb.plans.reconcile.moved_record`.

    Returns
    -------
    str
        What the image stands on is left out where a definition names it: libvirt finds that out anew.
    """
    root = ET.fromstring(xml)
    for disk in root.iter("disk"):
        element, backing = disk.find("source"), disk.find("backingStore")
        if element is not None and element.get("file") == path:
            element.set("file", now)
            if backing is not None:
                disk.remove(backing)
    return ET.tostring(root, encoding="unicode")


def record_xml(record: SnapshotRecord, definition: str) -> str:
    """Write a record as libvirt wants it for a redefinition (https://libvirt.org/formatsnapshot.html).

    Parameters
    ----------
    record : SnapshotRecord
        What it says.
    definition : str
        The guest's domain XML; the disks in it get the sources that the record names. Left out if it is empty.

    Returns
    -------
    str
    """
    root = ET.Element("domainsnapshot")
    ET.SubElement(root, "name").text = record.name
    if record.description:
        ET.SubElement(root, "description").text = record.description
    ET.SubElement(root, "state").text = record.state
    if record.parent is not None:
        ET.SubElement(ET.SubElement(root, "parent"), "name").text = record.parent
    if record.created is not None:
        ET.SubElement(root, "creationTime").text = str(int(record.created.timestamp()))
    memory = ET.SubElement(root, "memory", snapshot=record.memory)
    if record.memory_file is not None:
        memory.set("file", record.memory_file)
    disks = ET.SubElement(root, "disks")
    for disk in record.disks:
        element = ET.SubElement(disks, "disk", name=disk.target, snapshot=disk.held)
        if disk.held == "external" and disk.file is not None:
            ET.SubElement(element, "driver", type="qcow2")
            ET.SubElement(element, "source", file=disk.file)
    if not definition:
        return ET.tostring(root, encoding="unicode")
    domain = ET.fromstring(definition)
    sources = {disk.target: disk.source for disk in record.disks}
    for element in domain.iterfind("devices/disk"):
        target, source = element.find("target"), element.find("source")
        wanted = None if target is None else sources.get(target.get("dev", ""))
        if source is not None and wanted is not None and source.get("file") not in (None, wanted):
            source.set("file", wanted)
            backing = element.find("backingStore")
            if backing is not None:
                element.remove(backing)
    root.append(domain)
    return ET.tostring(root, encoding="unicode")
