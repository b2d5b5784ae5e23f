"""The definition of a guest that a snapshot's record keeps: with other images as its disks, and compared."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from vmsnap_nb.model.disk_xml import defined_source, name_image, named_image
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.plans.facts import GuestFacts

__all__ = ["NewSource", "changed_hardware", "definition_of", "pending_sources", "recorded_format", "recorded_name"]

_HARDWARE = ("memory", "vcpu", "os", "features")


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


def changed_hardware(then: str, now: str) -> tuple[str, ...]:
    """Return what differs between two definitions: memory, processors, firmware, devices, but not images of disks.

    >>> changed_hardware("<domain><vcpu>1</vcpu></domain>", "<domain><vcpu>2</vcpu><devices><tpm/></devices></domain>")
    ('vcpu', 'tpm')
    """
    had, has = _hardware(then), _hardware(now)
    return tuple(part for part in dict.fromkeys((*had, *has)) if had.get(part) != has.get(part))


def _hardware(xml: str) -> dict[str, object]:
    root = parse_xml(xml)
    parts: dict[str, object] = {}
    for tag in _HARDWARE:
        element = root.find(tag)
        if element is not None:
            element.tail = None
            parts[tag] = ET.canonicalize(ET.tostring(element, encoding="unicode"), strip_text=True)
    cpu = root.find("cpu")
    if cpu is not None:
        features = sorted((one.get("name", ""), one.get("policy", "")) for one in cpu.iterfind("feature"))
        parts["cpu"] = (cpu.get("mode"), (cpu.findtext("model") or "").strip(), features)
    devices: Counter[tuple[str, str]] = Counter()
    for device in root.iterfind("devices/*"):
        target = device.find("target")
        if device.tag == "disk" and target is not None:
            parts[f"disk {target.get('dev')}"] = (device.get("device"), target.get("bus"))
        elif device.tag not in ("emulator", "alias"):
            model = device.find("model")
            kind = device.get("model") or (model.get("type") if model is not None else None)
            devices[device.tag, kind or ""] += 1
    for tag, model_name in sorted(devices):
        parts[f"{tag} {model_name}".rstrip()] = devices[tag, model_name]
    return parts


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
