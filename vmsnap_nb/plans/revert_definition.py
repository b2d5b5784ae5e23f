"""The definition of a guest that a snapshot's record keeps: with other images as its disks, and compared."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["NewSource", "changed_hardware", "definition_of"]

_HARDWARE = ("memory", "vcpu", "os", "features")


@dataclass(frozen=True, slots=True)
class NewSource:
    """Which image a disk gets.

    Attributes
    ----------
    target : str
        The disk, as ``vda``.
    path : str
        The image.
    format : str
        Of the image.
    """

    target: str
    path: str
    format: str


def definition_of(record: str, sources: Iterable[NewSource] = (), *, which: Literal["next", "live"] = "next") -> str:
    """Give the definition of the guest that a snapshot's record keeps, with other images as its disks.

    Parameters
    ----------
    record : str
        The record's XML (https://libvirt.org/formatsnapshot.html).
    sources : iterable of NewSource
        Disks that are not named here keep what they have.
    which : str
        ``next``: as it would be at the next start; ``live``: as it ran at that moment, which its memory fits.

    Returns
    -------
    str
        Empty where the record keeps none.

    Examples
    --------
    >>> record = (
    ...     "<domainsnapshot><domain><devices><disk type='file'><driver type='raw'/><source file='/a'/>"
    ...     "<target dev='vda'/></disk></devices></domain></domainsnapshot>"
    ... )
    >>> 'file="/b"' in definition_of(record, [NewSource("vda", "/b", "qcow2")])
    True
    """
    if not record:
        return ""
    root = ET.fromstring(record)
    live, later = root.find("domain"), root.find("inactiveDomain")
    found = later if which == "next" and later is not None else live
    if found is None:
        return ""
    found.tag, found.tail = "domain", None
    wanted = {source.target: source for source in sources}
    for disk in found.iterfind("devices/disk"):
        target = disk.find("target")
        new = None if target is None else wanted.get(target.get("dev", ""))
        if new is not None:
            _point(disk, new)
    return ET.tostring(found, encoding="unicode")


def _point(disk: ET.Element, new: NewSource) -> None:
    source = disk.find("source")
    if source is not None and new.path in (source.get("file"), source.get("dev")):
        return
    if source is None:
        source = ET.SubElement(disk, "source")
    source.attrib.clear()
    source.set("file", new.path)
    disk.set("type", "file")
    driver = disk.find("driver")
    if driver is not None:
        driver.set("type", new.format)
    for below in disk.findall("backingStore"):
        disk.remove(below)  # libvirt finds out anew what the image stands on


def changed_hardware(then: str, now: str) -> tuple[str, ...]:
    """Tell what differs between two definitions of a guest: memory, processors, firmware, and which devices it has.

    Parameters
    ----------
    then, now : str
        Domain XML.

    Returns
    -------
    tuple of str
        In words, as ``memory`` or ``disk vdb``; images of disks do not count.

    Examples
    --------
    >>> changed_hardware("<domain><vcpu>1</vcpu></domain>", "<domain><vcpu>2</vcpu><devices><tpm/></devices></domain>")
    ('vcpu', 'tpm')
    """
    had, has = _hardware(then), _hardware(now)
    return tuple(part for part in dict.fromkeys((*had, *has)) if had.get(part) != has.get(part))


def _hardware(xml: str) -> dict[str, object]:
    root = ET.fromstring(xml)
    parts: dict[str, object] = {}
    for tag in _HARDWARE:
        element = root.find(tag)
        if element is not None:
            element.tail = None
            parts[tag] = ET.canonicalize(ET.tostring(element, encoding="unicode"), strip_text=True)
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
