"""Reads libvirt's records of snapshots (https://libvirt.org/formatsnapshot.html), of one guest or of all at once."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from datetime import UTC, datetime
from html import unescape
from typing import Any

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.model.guest import Disk
from vmsnap_nb.model.snapshot import MANAGED_SAVE, Held, SnapshotDisk, SnapshotRecord
from vmsnap_nb.system.libvirt_domains import read_disks
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_library import library

__all__ = ["find_snapshot", "parse_record", "read_records", "read_saved_state"]

_END = "</domainsnapshot>"


def read_records(domain: Any) -> tuple[SnapshotRecord, ...]:
    """Read all records of one guest, and that of its managed save if it has one.

    A snapshot that goes away meanwhile is left out.

    Parameters
    ----------
    domain : libvirt.virDomain
        The guest.

    Returns
    -------
    tuple of SnapshotRecord
        By name.
    """
    libvirt = library()
    guest = str(domain.name())
    records = []
    with libvirt_errors(f"list the snapshots of {guest}"):
        snapshots = domain.listAllSnapshots()
        current = _current_name(domain) if snapshots else None
        for snapshot in snapshots:
            try:
                xml = snapshot.getXMLDesc()
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT:
                    continue
                raise
            records.append(parse_record(guest, xml, current))
        saved = domain.hasManagedSaveImage()
    records.sort(key=lambda record: record.name)
    if saved:
        records.append(SnapshotRecord(guest, MANAGED_SAVE, "", memory="external"))
    return tuple(records)


def _current_name(domain: Any) -> str | None:
    libvirt = library()
    try:
        return str(domain.snapshotCurrent().getName())
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT:
            return None
        raise


def find_snapshot(domain: Any, name: str) -> Any:
    """Look a snapshot up by its name.

    Returns
    -------
    libvirt.virDomainSnapshot

    Raises
    ------
    NotFoundError
        There is none; the error lists those that there are.
    """
    with libvirt_errors(f"find the snapshot {name} of {domain.name()}"):
        snapshots = {snapshot.getName(): snapshot for snapshot in domain.listAllSnapshots()}
    if name in snapshots:
        return snapshots[name]
    raise NotFoundError(
        f"find the snapshot {name} of {domain.name()}",
        said="no snapshot has that name",
        next_step="there are: " + ", ".join(sorted(snapshots)) if snapshots else "there is none yet",
    )


def parse_record(guest: str, xml: str, current: str | None = None) -> SnapshotRecord:
    """Give what a record says.

    Parameters
    ----------
    guest : str
        Name of the guest.
    xml : str
        The record.
    current : str, optional
        Name of the guest's current snapshot.

    Returns
    -------
    SnapshotRecord

    Notes
    -----
    Most of a record is the guest's definition, of which only the disks' sources are wanted here. Parsing all of it
    takes longer than libvirt takes to write it, so it is cut out as libvirt sets it; in any other form, all is parsed.
    """
    sources = _sources_as_set(xml)
    if sources is None:
        root = ET.fromstring(xml)
        sources = _sources(root.find("domain"))
    else:
        root = ET.fromstring(xml[: xml.index("\n  <domain ")] + _END)
    return _record(guest, root, sources, xml, current)


def _record(
    guest: str, root: ET.Element, sources: Mapping[str, str | None], xml: str, current: str | None
) -> SnapshotRecord:
    name = root.findtext("name", "")
    created = root.findtext("creationTime", "")
    memory = root.find("memory")
    held: dict[str, SnapshotDisk] = {}
    for element in root.iterfind("disks/disk"):
        disk = _disk(element, sources)
        held[disk.target] = disk
    disks = [
        held.pop(target) if target in held else SnapshotDisk(target, "no", source) for target, source in sources.items()
    ]
    return SnapshotRecord(
        guest,
        name,
        root.findtext("state", ""),
        root.findtext("parent/name"),
        name == current,
        "no" if memory is None else _held(memory),
        None if memory is None else memory.get("file"),
        (*disks, *held.values()),
        root.findtext("description", ""),
        datetime.fromtimestamp(int(created), UTC) if created.isdigit() else None,
        xml=xml,
    )


def _disk(element: ET.Element, sources: Mapping[str, str | None]) -> SnapshotDisk:
    target = element.get("name", "")
    held = _held(element)
    file = None
    source = element.find("source")
    if held == "external" and source is not None:
        file = source.get("file") or source.get("dev") or source.get("name")
    return SnapshotDisk(target, held, sources.get(target), file)


def _held(element: ET.Element) -> Held:
    word = element.get("snapshot")
    return "internal" if word == "internal" else "external" if word == "external" else "no"


def _sources(domain: ET.Element | None) -> dict[str, str | None]:
    if domain is None:
        return {}
    disks: tuple[Disk, ...] = read_disks(ET.tostring(domain, encoding="unicode"))
    return {disk.target: disk.source for disk in disks}


def _sources_as_set(xml: str) -> dict[str, str | None] | None:
    """Give the disks' sources of a record that libvirt has set, line by line; None where it is not such a one."""
    top = xml.find("\n  <domain ")
    # The user's own metadata, in which anything may stand, comes before the devices.
    end = xml.find("\n  </domain>\n", top)
    first = xml.rfind("\n    <devices>\n", top, end)
    last = xml.rfind("\n    </devices>\n", first, end + 1)
    if min(top, end, first, last) < 0 or "<!--" in xml:
        return None
    sources: dict[str, str | None] = {}
    at = xml.find("\n      <disk ", first, last)
    while at >= 0:
        stop = xml.find("\n      </disk>", at, last)
        target = _attribute(xml, "\n        <target dev='", at, stop)
        source = _attribute(xml, "\n        <source file='", at, stop)
        if stop < 0 or target is None or (source is None and "\n        <source " in xml[at:stop]):
            return None
        sources[target] = source
        at = xml.find("\n      <disk ", stop, last)
    return sources


def _attribute(xml: str, before: str, start: int, stop: int) -> str | None:
    at = xml.find(before, start, stop)
    if at < 0:
        return None
    at += len(before)
    value = xml[at : xml.index("'", at)]
    return unescape(value) if "&" in value else value


def read_saved_state(connection: Any, path: str) -> tuple[str, str, dict[str, str | None]]:
    """Read whose memory a file of `virsh save` holds.

    Parameters
    ----------
    connection : libvirt.virConnect
        Where the guest is.
    path : str
        The file.

    Returns
    -------
    str, str, dict of str to (str or None)
        Name and UUID of the guest, and its disks' sources by target.

    Raises
    ------
    VmsnapError
        There is no such file, or it is no saved state.
    """
    with libvirt_errors(f"read the saved state {path}"):
        root = ET.fromstring(connection.saveImageGetXMLDesc(path))
    return root.findtext("name", ""), root.findtext("uuid", ""), _sources(root)
