"""Disks in libvirt's XML (https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from vmsnap_nb.errors import LibvirtError
from vmsnap_nb.model.libvirt_xml import parse_xml

__all__ = [
    "defined_source",
    "defined_sources",
    "forget_layers",
    "is_ended",
    "layers_below",
    "mirrored",
    "name_image",
    "named_image",
    "sliced_disks",
]


def forget_layers(disk: ET.Element) -> None:
    """Take out what the definition of a disk says of the layers below its image: libvirt then uses the headers."""
    for below in disk.findall("backingStore"):
        disk.remove(below)


def layers_below(disk: ET.Element) -> Iterator[ET.Element]:
    """Yield what is said of the layers below the image of a disk, the highest first, as far as their sources are."""
    below = disk.find("backingStore")
    while below is not None and below.find("source") is not None:
        yield below
        below = below.find("backingStore")


def is_ended(disk: ET.Element) -> bool:
    """Return whether a definition says that nothing is below the last layer of a disk that it names."""
    *_, last = disk, *layers_below(disk)
    below = last.find("backingStore")
    return below is not None and below.find("source") is None


def named_image(source: ET.Element | None) -> str | None:
    """Return the file or the block device that a ``<source>`` names, if it names one."""
    return None if source is None else source.get("file") or source.get("dev")


def name_image(disk: ET.Element, path: str, *, format: str, device: bool) -> None:
    """Give a disk, which has a ``<source>``, another file or block device of this format, without layers below."""
    source = disk.find("source")
    assert source is not None
    if disk.get("type") == "network":  # hosts, passwords and the like
        source.clear()
    for attribute in ("file", "dev", "pool", "volume", "mode"):
        source.attrib.pop(attribute, None)
    source.set("dev" if device else "file", path)
    disk.set("type", "block" if device else "file")
    driver = disk.find("driver")
    if driver is None:  # without one libvirt takes any image for raw
        driver = ET.SubElement(disk, "driver")
    driver.set("type", format)
    forget_layers(disk)


def sliced_disks(definition: str) -> tuple[str, ...]:
    """Return the targets of disks that are only a part of a file (``<slices>``), or based on a layer that is.

    Examples
    --------
    >>> sliced_disks(
    ...     "<domain><devices><disk><source file='/a'><slices><slice type='storage' offset='512' size='512'/></slices>"
    ...     "</source><target dev='vda'/></disk></devices></domain>"
    ... )
    ('vda',)
    """
    if "<slices" not in definition:
        return ()
    disks = parse_xml(definition).iterfind("devices/disk")
    found = (disk.find("target") for disk in disks if disk.find(".//source/slices") is not None)
    return tuple(target.get("dev", "") for target in found if target is not None)


def defined_source(definition: str, target: str) -> str | None:
    """Return the image that a domain XML gives a disk; None where there is no such disk, or it is not local."""
    return defined_sources(definition).get(target)


def defined_sources(definition: str) -> dict[str, str | None]:
    """Return the image of each disk of a domain XML; None where it is not local."""
    try:
        root = parse_xml(definition)
    except LibvirtError:
        return {}
    disks = [(disk.find("target"), disk.find("source")) for disk in root.iterfind("devices/disk")]
    return {target.get("dev", ""): named_image(source) for target, source in reversed(disks) if target is not None}


def mirrored(live: str) -> frozenset[str]:
    """Return the targets of the disks of which libvirt knows that QEMU writes to a second image as well."""
    disks = parse_xml(live).iterfind("devices/disk")
    targets = (disk.find("target") for disk in disks if disk.find("mirror") is not None)
    return frozenset(target.get("dev", "") for target in targets if target is not None)
