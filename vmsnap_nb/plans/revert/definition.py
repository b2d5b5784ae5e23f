"""The definition of a guest that a snapshot's record keeps: with other images as its disks, and compared."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from vmsnap_nb.model.disk_xml import defined_source, name_image, named_image
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.plans.facts import GuestFacts

__all__ = [
    "NewSource",
    "changed_parts",
    "definition_of",
    "is_for_next_start",
    "pending_sources",
    "recorded_format",
    "recorded_name",
]

_HARDWARE = ("memory", "vcpu", "os", "features")
_NOT_COMPARED = frozenset({"name", "uuid", "devices"})


@dataclass(frozen=True, slots=True)
class NewSource:
    """Which image, of which format, a disk gets; `target` is the disk, as ``vda``."""

    target: str
    path: str
    format: str
    device: bool = False  # a block device


def definition_of(
    record: str, sources: Iterable[NewSource] = (), *, which: Literal["next", "live"] = "next", name: str = ""
) -> str:
    """Return the definition that a record's XML keeps, with other images as disks; empty where it keeps none.

    It is that of the next start, or the live one: as the guest ran at that moment, which its memory matches. Disks that
    `sources` leaves out keep what they have. `name` is that of the guest, which may have been renamed since. See
    https://libvirt.org/formatsnapshot.html.

    >>> record = (
    ...     "<domainsnapshot><domain><devices><disk type='file'><driver type='raw'/><source file='/a'/>"
    ...     "<target dev='vda'/></disk></devices></domain></domainsnapshot>"
    ... )
    >>> 'file="/b"' in definition_of(record, [NewSource("vda", "/b", "qcow2")])
    True
    """
    if not record:
        return ""
    root = parse_xml(record)
    live, later = root.find("domain"), root.find("inactiveDomain")
    found = later if which == "next" and later is not None else live
    if found is None:
        return ""
    found.tag, found.tail = "domain", None
    named = found.find("name")
    if name and named is not None:
        named.text = name
    wanted = {source.target: source for source in sources}
    for disk in found.iterfind("devices/disk"):
        target = disk.find("target")
        new = None if target is None else wanted.get(target.get("dev", ""))
        if new is not None:
            _point(disk, new)
    return ET.tostring(found, encoding="unicode")


def recorded_name(record: str) -> str:
    """Return the name that the guest had as a snapshot was taken; empty if the record does not tell it."""
    return (parse_xml(record).findtext("domain/name") or "") if record else ""


def recorded_format(record: str, target: str) -> str | None:
    """Return the format that a disk had as a snapshot was taken; None if the record does not tell it.

    >>> disk = "<disk><driver type='qcow2'/><target dev='vda'/></disk>"
    >>> recorded_format(f"<domainsnapshot><domain><devices>{disk}</devices></domain></domainsnapshot>", "vda")
    'qcow2'
    """
    for disk in parse_xml(record).iterfind("domain/devices/disk") if record else ():
        driver, named = disk.find("driver"), disk.find("target")
        if driver is not None and named is not None and named.get("dev") == target:
            return driver.get("type")
    return None


def _point(disk: ET.Element, new: NewSource) -> None:
    source = disk.find("source")
    if named_image(source) == new.path:
        return
    if source is None:
        source = ET.SubElement(disk, "source")
    source.attrib.clear()
    name_image(disk, new.path, format=new.format, device=new.device)


def is_for_next_start(record: str) -> bool:
    """Return whether the definition that `definition_of` finds in a record is one for a start, not the live one."""
    root = parse_xml(record)
    return root.find("inactiveDomain") is not None or root.findtext("state") == "shutoff"


def changed_parts(then: str, now: str, *, exact: bool = True) -> tuple[str, ...]:
    """Return what differs between two definitions: hardware, clock, texts and all else, but not images of disks.

    Without `exact` one of them is the live one, to which libvirt has added much: then only the main hardware counts.

    >>> changed_parts("<domain><vcpu>1</vcpu></domain>", "<domain><vcpu>2</vcpu><devices><tpm/></devices></domain>")
    ('vcpu', 'tpm')
    >>> changed_parts("<domain><clock offset='utc'/></domain>", "<domain><clock offset='localtime'/></domain>")
    ('clock',)
    """
    had, has = _parts(then, exact=exact), _parts(now, exact=exact)
    return tuple(part for part in dict.fromkeys((*had, *has)) if had.get(part) != has.get(part))


def _parts(xml: str, *, exact: bool) -> dict[str, object]:
    root = parse_xml(xml)
    parts: dict[str, object] = {}
    for element in root:
        name = element.tag.rpartition("}")[2]
        if name == "cpu" and not exact:
            features = sorted((one.get("name", ""), one.get("policy", "")) for one in element.iterfind("feature"))
            parts["cpu"] = (element.get("mode"), (element.findtext("model") or "").strip(), features)
        elif name in _HARDWARE or (exact and name not in _NOT_COMPARED):
            parts[name] = _text(element)
    devices: dict[str, list[object]] = {}
    for device in root.iterfind("devices/*"):
        target = device.find("target")
        if device.tag == "disk" and target is not None:
            about: object = (device.get("device"), target.get("bus"))
            part = f"disk {target.get('dev')}"
        else:
            model = device.find("model")
            kind = device.get("model") or (model.get("type") if model is not None else None)
            about, part = "", f"{device.tag} {kind or ''}".rstrip()
        if device.tag not in ("emulator", "alias"):
            devices.setdefault(part, []).append(_text(_own(device)) if exact else about)
    return parts | {part: sorted(devices[part], key=str) for part in sorted(devices)}


def _own(device: ET.Element) -> ET.Element:
    """Return a device without what is not the user's, and without the image of a disk: snapshots change that."""
    device = copy.deepcopy(device)
    device.attrib.pop("passwd", None)  # libvirt tells it of records alone
    if device.tag == "disk":
        device.attrib.pop("type", None)  # of the image: file, block, network
    left_out = {"alias", *(("source", "backingStore", "mirror") if device.tag == "disk" else ())}
    for child in list(device):
        if child.tag in left_out:
            device.remove(child)
        elif child.tag == "driver" and device.tag == "disk":
            child.attrib.pop("type", None)
    return device


def _text(element: ET.Element) -> str:
    element.tail = None
    return ET.canonicalize(ET.tostring(element, encoding="unicode"), strip_text=True)


def pending_sources(guest: GuestFacts) -> dict[str, str]:
    """Return by disk the images that a running guest has from its next start on, where its definition was changed."""
    if not guest.domain.running:
        return {}
    targets = [disk.target for disk in guest.domain.disks if disk.source]
    defined = {target: defined_source(guest.definition, target) for target in targets}
    return {
        target: path
        for target, path in defined.items()
        if path is not None and path != defined_source(guest.xml, target)
    }
