"""To which images the QEMU of a guest writes, if to any: asked of QEMU itself (``query-block``, qapi/block.json)."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from vmsnap_nb.model.disk_xml import layers_below, named_image
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.model.reference import parse_reference
from vmsnap_nb.system.libvirt.domains import is_starting
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.volumes import with_volume_paths

__all__ = ["Written", "has_given_up_images", "named_below", "next_sources", "written_images", "written_paths"]


class Written(NamedTuple):
    """The image that QEMU writes to, and its virtual size in bytes."""

    path: str
    size: int | None = None


def written_images(domain: Any, xml: str) -> Mapping[str, Written]:
    """Return by target what QEMU has as the disks of a guest that runs; empty where it does not say.

    libvirt counts the guest as one with which somebody else deals, too ("tainted"), so this is asked only where
    something else speaks against what libvirt names.
    """
    try:
        devices = {_alias(device["qdev"]): device["inserted"] for device in _query(domain) if device.get("qdev")}
    except (library().libvirtError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # it ends at this moment, or is no QEMU
    aliases = {alias: target for alias, target in _aliases(xml).items() if alias in devices}
    found = {target: _written(devices[alias]) for alias, target in aliases.items()}
    return {target: image for target, image in found.items() if image is not None}


def written_paths(domain: Any) -> frozenset[str]:
    """Return the images that QEMU itself has as the disks of a guest that runs; none where it does not say.

    Of an image that is no disk any more it keeps the locks, until libvirt has it closed.
    """
    try:
        disks = [device["inserted"] for device in _query(domain)]
        images = [_written(disk) for disk in disks if not disk.get("ro")]
        return frozenset(image.path for image in images if image is not None)
    except (ImportError, library().libvirtError, ValueError, KeyError, TypeError, AttributeError):
        return frozenset()


def has_given_up_images(domain: Any) -> bool:
    """Return whether QEMU has written the memory of a guest that is paused, and has not run it since.

    libvirt has no such state: for it the guest is paused by its user. QEMU keeps the images as it would for another
    QEMU, to which the guest migrates (its run state ``postmigrate``, qapi/run-state.json). False where it does not say.
    """
    try:
        return bool(_ask(domain, "query-status")["status"] == "postmigrate")
    except (ImportError, library().libvirtError, ValueError, KeyError, TypeError):
        return False


def _query(domain: Any) -> list[Any]:
    """Return what QEMU says of its block devices that have a medium."""
    return [device for device in _ask(domain, "query-block") if device.get("inserted")]


def _ask(domain: Any, command: str) -> Any:
    """Return the answer of QEMU itself to a command that only asks."""
    import libvirt_qemu

    if is_starting(domain):
        raise ValueError("it cannot say anything yet")
    return json.loads(libvirt_qemu.qemuMonitorCommand(domain, json.dumps({"execute": command}), 0))["return"]


def _alias(qdev: str) -> str:
    """Return the name that libvirt has given a device, out of QEMU's path of it."""
    return qdev.removeprefix("/machine/peripheral/").partition("/")[0]


def _aliases(xml: str) -> dict[str, str]:
    disks = ((disk.find("alias"), disk.find("target")) for disk in parse_xml(xml).iterfind("devices/disk"))
    return {a.get("name", ""): t.get("dev", "") for a, t in disks if a is not None and t is not None}


def _written(inserted: Any) -> Written | None:
    image = inserted.get("image") or {}
    path = parse_reference(image.get("filename") or inserted.get("file") or "", folder="/").path
    return None if path is None else Written(path, image.get("virtual-size"))


def next_sources(domain: Any) -> Mapping[str, str]:
    """Return by target the files that a guest has as its disks from its next start on; of a transient one none."""
    libvirt = library()
    try:
        if not domain.isPersistent():
            return {}
        xml = with_volume_paths(domain.connect, str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)))
        root = parse_xml(xml)
    except libvirt.libvirtError:
        return {}
    disks = ((disk.find("target"), disk.find("source")) for disk in root.iterfind("devices/disk"))
    return {t.get("dev", ""): named_image(s) or "" for t, s in disks if t is not None and s is not None}


def named_below(xml: str) -> Mapping[str, tuple[tuple[str, str], ...]]:
    """Return the images, with their formats, that libvirt names below those of disks, the highest first, by target."""
    disks = ((disk.find("target"), disk) for disk in reversed(parse_xml(xml).findall("devices/disk")))
    return {target.get("dev", ""): tuple(_named_below(disk)) for target, disk in disks if target is not None}


def _named_below(disk: ET.Element) -> Iterator[tuple[str, str]]:
    for below in layers_below(disk):
        path, format = named_image(below.find("source")), below.find("format")
        if not path:
            break
        yield path, "raw" if format is None else format.get("type", "raw")
