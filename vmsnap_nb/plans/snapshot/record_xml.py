"""libvirt's records of snapshots, as XML."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Collection

from vmsnap_nb.model.disk_xml import name_image, named_image
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.model.snapshot import SnapshotRecord

__all__ = ["moved_xml", "record_xml"]


def moved_xml(xml: str, path: str, now: str, *, format: str, device: bool = False) -> str:
    """Return libvirt's record of a snapshot in which another image takes the place of one, as in `moved_record`.

    `format` is that of the new one. The backing file of the image is left out where a definition of the guest names it:
    libvirt finds that out anew.
    """
    root = parse_xml(xml)
    for disk in root.iter("disk"):
        if named_image(disk.find("source")) == path:
            name_image(disk, now, format=format, device=device)
    return ET.tostring(root, encoding="unicode")


def record_xml(record: SnapshotRecord, definition: str, devices: Collection[str] = ()) -> str:
    """Return a record as libvirt wants it for a redefinition (https://libvirt.org/formatsnapshot.html).

    In the guest's definition, if there is one, the disks get the sources that the record names: qcow2, since only what
    is inside of images gets a record that libvirt did not write. `devices` are those of them that are block devices.
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
    domain = parse_xml(definition)
    sources = {disk.target: disk.source for disk in record.disks}
    for element in domain.iterfind("devices/disk"):
        target, source = element.find("target"), element.find("source")
        wanted = None if target is None else sources.get(target.get("dev", ""))
        if wanted is not None and named_image(source) not in (None, wanted):
            name_image(element, wanted, format="qcow2", device=wanted in devices)
    root.append(domain)
    return ET.tostring(root, encoding="unicode")
