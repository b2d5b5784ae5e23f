"""Disks that name a volume of a storage pool (https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms)."""

from __future__ import annotations

import contextlib
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from typing import Any

from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.system.libvirt.library import library

__all__ = ["idle_pools", "with_volume_paths"]

_UNIT = re.compile(r"unit:\d+:\d+:(\d+)")
"""How libvirt calls the logical units of an iSCSI target."""


def with_volume_paths(connection: Callable[[], Any], xml: str) -> str:
    """Return a domain's or record's XML in which disks of volumes name their files; any other XML as it is.

    So do layers that are listed below a disk, and what a block job copies into. A volume stays where libvirt does not
    say which file it is. The connection is asked for only where the XML names one.
    """
    if " pool=" not in xml:
        return xml
    root = parse_xml(xml)
    for disk in (element for top in root.iter("disk") for element in top.iter()):
        source = disk.find("source")
        if source is None or not (source.get("pool") and source.get("volume")):
            continue
        named = source.get("pool", ""), source.get("volume", "")
        path, is_device = _volume(connection(), *named)
        network = _network(connection(), *named) if path is None else None
        if path is None and network is None:
            continue
        for attribute in ("pool", "volume", "mode"):
            source.attrib.pop(attribute, None)
        if network is not None:
            source.attrib.update(network.attrib)
            source.extend(network)
            disk.set("type", "network")
        else:
            source.set("dev" if is_device else "file", path or "")
            disk.set("type", "block" if is_device else "file")
    return ET.tostring(root, encoding="unicode")


def idle_pools(domain: Any, inactive: Iterable[str]) -> tuple[str, ...]:
    """Return those of the inactive storage pools that a guest's definition names: libvirt opens none of these disks."""
    names = frozenset(inactive)
    if not names:
        return ()
    sources = parse_xml(domain.XMLDesc(library().VIR_DOMAIN_XML_INACTIVE)).iterfind("devices/disk/source[@pool]")
    return tuple(dict.fromkeys(name for source in sources if (name := source.get("pool", "")) in names))


def _volume(connection: Any, pool: str, volume: str) -> tuple[str | None, bool]:
    """Return the path of a volume, and whether that is a device.

    libvirt looks into a pool again for a volume that it does not find. A pool that is not active tells of none, but the
    file may be there; so its folder is asked instead.
    """
    libvirt = library()
    try:
        found = connection.storagePoolLookupByName(pool)
        with contextlib.suppress(libvirt.libvirtError):
            return _found(found, volume)
        with contextlib.suppress(libvirt.libvirtError):  # not through a read-only connection
            found.refresh()
            return _found(found, volume)
        root = parse_xml(found.XMLDesc())
    except libvirt.libvirtError:
        return None, False
    folder = root.findtext("target/path")
    is_folder = folder is not None and root.get("type") in {"dir", "fs", "netfs"}
    return (os.path.join(folder or "", volume), False) if is_folder else (None, False)


def _found(pool: Any, volume: str) -> tuple[str | None, bool]:
    handle = pool.storageVolLookupByName(volume)
    path = str(handle.path())  # of a volume on the network it is a name
    return path if path.startswith("/") else None, handle.info()[0] == library().VIR_STORAGE_VOL_BLOCK


def _network(connection: Any, pool: str, volume: str) -> ET.Element | None:
    """Return the source of a disk that is a volume of a pool on the network, as libvirt translates it for QEMU.

    Of such pools libvirt gives QEMU only logical units of iSCSI, which it opens itself ("iscsi-direct").
    """
    with contextlib.suppress(library().libvirtError):
        root = parse_xml(connection.storagePoolLookupByName(pool).XMLDesc())
        target = root.find("source/device")
        unit = _UNIT.fullmatch(volume)
        if root.get("type") == "iscsi-direct" and target is not None and unit is not None:
            source = ET.Element("source", protocol="iscsi", name=f"{target.get('path')}/{unit[1]}")
            source.extend(root.iterfind("source/host"))
            source.extend(root.iterfind("source/initiator"))
            return source
    return None
