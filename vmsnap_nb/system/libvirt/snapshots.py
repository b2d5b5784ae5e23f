"""Reads libvirt's records of snapshots (https://libvirt.org/formatsnapshot.html), of one guest or of all at once."""

from __future__ import annotations

import gc
import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from functools import partial
from html import unescape
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple

from vmsnap_nb.errors import ImageError, LibvirtError, NotFoundError
from vmsnap_nb.model.guest import Disk
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.model.moment import moment
from vmsnap_nb.model.names import there_are
from vmsnap_nb.model.snapshot import MANAGED_SAVE, Held, SnapshotDisk, SnapshotRecord
from vmsnap_nb.system.libvirt.domains import Roll, read_disks, unless_gone
from vmsnap_nb.system.libvirt.each import ask_each
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.recorded import files_recorded
from vmsnap_nb.system.libvirt.security import qemu_users
from vmsnap_nb.system.libvirt.volumes import with_volume_paths
from vmsnap_nb.system.saved_memory import why_not_to_restore
from vmsnap_nb.words.message import t

__all__ = [
    "find_snapshot",
    "parse_record",
    "read_all_records",
    "read_records",
    "read_saved_state",
]

_READ: dict[tuple[str, str | None, int, int], SnapshotRecord] = {}
"""Records that were read, without their XML: most surveys of a host find the same ones again."""
_MOST_READ = 20_000


def read_records(domain: Any, *, xml: bool = True, far: bool = False) -> tuple[SnapshotRecord, ...]:
    """Read all records of one guest by name, with or without their XML, which is some kilobytes each.

    That of its managed save is the last, if it has one. A snapshot that goes away meanwhile is left out.
    """
    listed = _list(domain)
    guest = str(domain.name())
    with libvirt_errors(t("list the snapshots of {guest}", guest=guest)):
        saved = bool(domain.hasManagedSaveImage())
    wanted = [(domain, guest, snapshot, listed.current, xml) for snapshot in listed.snapshots]
    found = ask_each(_record, wanted, far=far)
    return _in_order(domain, found, saved=saved)


def read_all_records(roll: Roll, whole: str = "") -> dict[str, tuple[SnapshotRecord, ...]]:
    """Read the records of all guests that have any: by the guest's UUID what `read_records` gives.

    Only those of the guest `whole` come with their XML. For a guest that goes away meanwhile nothing is given.
    """
    with_save = {str(domain.UUIDString()): domain for domain in roll.saved}
    domains = {str(domain.UUIDString()): domain for domain in roll.recorded} | with_save
    # All that is made here is kept: the collector would only look at it again and again.
    collecting = gc.isenabled()
    gc.disable()
    try:
        listed = ask_each(partial(unless_gone, _list), list(domains.values()), far=roll.far)
        every = {uuid: one for uuid, one in zip(domains, listed, strict=True) if one is not None}
        names = {uuid: str(domains[uuid].name()) for uuid in every}
        wanted = [
            (domains[uuid], names[uuid], snapshot, one.current, uuid == whole)
            for uuid, one in every.items()
            for snapshot in one.snapshots
        ]
        found = iter(ask_each(partial(unless_gone, _record), wanted, far=roll.far))
        return {
            uuid: _in_order(domains[uuid], islice(found, len(one.snapshots)), saved=uuid in with_save)
            for uuid, one in every.items()
        }
    finally:
        if collecting:
            gc.enable()


class _Listed(NamedTuple):
    """libvirt's handles of a guest's snapshots, and the name of the current one."""

    snapshots: list[Any]
    current: str | None


def _list(domain: Any) -> _Listed:
    with libvirt_errors(t("list the snapshots of {guest}", guest=domain.name())):
        snapshots = domain.listAllSnapshots()
        return _Listed(snapshots, _current_name(domain) if snapshots else None)


def _record(wanted: tuple[Any, str, Any, str | None, bool]) -> SnapshotRecord | None:
    """Return a record, with its XML if that is wanted; None if it is gone."""
    domain, guest, snapshot, current, keep = wanted
    try:
        text = with_volume_paths(domain.connect, str(snapshot.getXMLDesc()))
    except (library().libvirtError, SystemError) as error:
        _check_gone(error, guest)
        return None
    return parse_record(guest, text, current, keep=keep)


def _check_gone(error: Exception, guest: str) -> None:
    """Raise an error of libvirt as ours, unless it says that the snapshot is gone."""
    libvirt = library()
    with libvirt_errors(t("list the snapshots of {guest}", guest=guest)):
        if isinstance(error, SystemError) or error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT:  # type: ignore[attr-defined]
            raise error


def _in_order(domain: Any, found: Iterable[SnapshotRecord | None], *, saved: bool) -> tuple[SnapshotRecord, ...]:
    records = sorted((record for record in found if record is not None), key=attrgetter("name"))
    if saved:
        records.append(SnapshotRecord(str(domain.name()), MANAGED_SAVE, "", memory="external"))
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
    """Return the snapshot of that name; the error lists those that there are."""
    tried = t("find the snapshot {name} of {guest}", name=name, guest=domain.name())
    with libvirt_errors(tried):
        snapshots = {snapshot.getName(): snapshot for snapshot in domain.listAllSnapshots()}
    if name in snapshots:
        return snapshots[name]
    raise NotFoundError(tried, why=t("no snapshot has that name"), next_step=there_are(name, sorted(snapshots)))


def parse_record(guest: str, xml: str, current: str | None = None, *, keep: bool = True) -> SnapshotRecord:
    """Return what a record says; `current` is the name of the guest's current snapshot.

    Most of a record is the guest's definition, of which only the disks' sources are wanted here. Parsing all of it
    takes three times as long as libvirt takes to write it. So a record that is set as libvirt sets it is read by
    patterns; in any other form all is parsed. Without `keep`, what was read before is not read again.
    """
    key = guest, current, len(xml), hash(xml)
    if not keep and key in _READ:
        return _READ[key]
    record = _parsed(guest, xml, current, keep=keep)
    if not keep:
        while len(_READ) >= _MOST_READ:
            _READ.pop(next(iter(_READ)), None)
        _READ[key] = record
    return record


def _parsed(guest: str, xml: str, current: str | None, *, keep: bool) -> SnapshotRecord:
    fields = _fields_as_set(xml) or _fields(parse_xml(xml))
    fields["guest"] = guest
    fields["current"] = fields["name"] == current
    known = {disk.source for disk in fields["disks"]}
    if also := tuple(path for path in files_recorded(xml) if path not in known):
        fields["also"] = also
    if keep:
        fields["xml"] = xml
    return SnapshotRecord.build(fields)


_HELD: Mapping[str | None, Held] = {"internal": "internal", "external": "external"}
"""What libvirt calls otherwise, as ``manual``, is not held."""


def _time(text: str | None) -> datetime | None:
    return moment(int(text) * 10**9) if text and text.isascii() and text.isdigit() else None


def _disk(target: str, word: str | None, source: str | None, file: str | None) -> SnapshotDisk:
    held = _HELD.get(word, "no")
    if held != "external":
        file = None
    return SnapshotDisk.build({"target": target, "held": held, "source": source, "file": file})


# -- all of it parsed ------------------------------------------------------------------------------------


def _fields(root: ET.Element) -> dict[str, Any]:
    domain, memory = root.find("domain"), root.find("memory")
    return {
        "name": root.findtext("name", ""),
        "description": root.findtext("description", ""),
        "state": root.findtext("state", ""),
        "parent": root.findtext("parent/name"),
        "created": _time(root.findtext("creationTime")),
        "memory": "no" if memory is None else _HELD.get(memory.get("snapshot"), "no"),
        "memory_file": None if memory is None else memory.get("file"),
        "disks": _disks(root, _sources(domain)),
    }


def _disks(root: ET.Element, sources: Mapping[str, str | None]) -> tuple[SnapshotDisk, ...]:
    """Lay what the record says of its disks over the disks of the guest, in the guest's order."""
    disks = {target: SnapshotDisk(target, "no", source) for target, source in sources.items()}
    for element in root.iterfind("disks/disk"):
        target, source = element.get("name", ""), element.find("source")
        file = None if source is None else source.get("file") or source.get("dev") or source.get("name")
        disks[target] = _disk(target, element.get("snapshot"), sources.get(target), file)
    return tuple(disks.values())


def _sources(domain: ET.Element | None) -> dict[str, str | None]:
    if domain is None:
        return {}
    disks: tuple[Disk, ...] = read_disks(ET.tostring(domain, encoding="unicode"))
    return {disk.target: disk.source for disk in disks}


# -- read as libvirt sets it -----------------------------------------------------------------------------

_HEAD = re.compile(
    r"<domainsnapshot>\n"
    r"  <name>([^<]*)</name>\n"
    r"(?:  <description>([^<]*)</description>\n)?"
    r"  <state>([^<]*)</state>\n"
    r"(?:  <parent>\n    <name>([^<]*)</name>\n  </parent>\n)?"
    r"  <creationTime>(\d{1,18})</creationTime>\n"
    r"  <memory snapshot='(\w+)'(?: file='([^']*)')?/>\n"
    r"(?:  <disks>\n((?:    .*\n)*)  </disks>\n)?"
    r"  <domain "
)
_HELD_DISK = re.compile(
    r"    <disk name='([^']*)' snapshot='(\w+)'(?:/>\n| type='file'>\n"
    r"(?:      <driver type='[^']*'/>\n)?"
    r"(?:      <source file='([^']*)'/>\n)?"
    r"    </disk>\n)"
)
_DISK, _END = "\n      <disk ", "\n  </domain>\n"
_DISK_OF_GUEST = re.compile(
    r"\n      <disk [^\n]*"
    r"(?:\n        <driver [^\n]*)?"
    r"(?:\n        <source file='([^']*)'[^\n]*)?"
    r"(?:\n         [^\n]*|\n        <(?!source|target)[^\n]*)*"
    r"\n        <target dev='([^']*)'[^\n]*"
    r"(?:\n        [^\n]*)*"
    r"\n      </disk>"
)


def _fields_as_set(xml: str) -> dict[str, Any] | None:
    """Return what a record says that libvirt has set, line by line; None where it is not such a one."""
    head = _HEAD.match(xml)
    if head is None:
        return None
    name, description, state, parent, created, memory, memory_file, held = head.groups()
    sources = _sources_as_set(xml, head.end())
    if sources is None:
        return None
    disks: dict[str, SnapshotDisk] = {}
    at = 0
    while held and at < len(held):
        match = _HELD_DISK.match(held, at)
        if match is None:
            return None
        at = match.end()
        target, word, file = match.groups()
        disks[target] = _disk(target, word, sources.get(target), _text(file))
    if disks.keys() != sources.keys():
        named = disks
        disks = {target: named.pop(target, SnapshotDisk(target, "no", path)) for target, path in sources.items()}
        disks |= named
    elif len(disks) > 1:
        disks = {target: disks[target] for target in sources}
    return {
        "name": _text(name),
        "description": _text(description) or "",
        "state": state,
        "parent": _text(parent),
        "created": _time(created),
        "memory": _HELD.get(memory, "no"),
        "memory_file": _text(memory_file),
        "disks": tuple(disks.values()),
    }


def _text(text: str | None) -> str | None:
    return unescape(text) if text and "&" in text else text


def _sources_as_set(xml: str, start: int) -> dict[str, str | None] | None:
    end = xml.find(_END, start)
    at = xml.find(_DISK, start, end)  # behind it can be the definition of the guest's next start
    if xml.find("\n    <metadata", start, at if at >= 0 else end) >= 0:
        # In the user's own metadata anything may stand, also what looks like an end; the devices come after it.
        if xml.count(_END) != 1:
            return None
        at = xml.find(_DISK, xml.rfind("\n    <devices>\n", start, end), end)
    sources: dict[str, str | None] = {}
    # Disks follow each other; a second definition, of the guest's next start, may come later.
    while at >= 0 and xml.startswith(_DISK, at):
        match = _DISK_OF_GUEST.match(xml, at)
        if match is None:
            return None
        path, target = match.groups()
        sources[target] = _text(path)
        at = match.end()
    return sources


def read_saved_state(
    connection: Any, path: str, *, here: bool, emulators: Collection[str] = ()
) -> tuple[str, str, dict[str, str | None]]:
    """Read whose memory a file of `virsh save` holds: name and UUID of the guest, and its disks' sources by target.

    One that is `here` is looked at first: libvirt would wait for a FIFO, and run whatever is named as the emulator.
    `emulators` are those that it runs anyway.
    """
    tried = t("read the saved memory {path}", path=path)
    if here and (why := why_not_to_restore(path, qemu_users(connection), emulators)):
        raise ImageError(tried, why=why, next_step=t("find out who created it, or restore from a different file"))
    with libvirt_errors(tried):
        try:
            root = parse_xml(connection.saveImageGetXMLDesc(path))
        except (SystemError, TypeError, LibvirtError) as error:  # what libvirt gives is no text, or no XML
            raise ImageError(
                tried,
                why=t("the definition in it cannot be read: {error}", error=str(getattr(error, "why", None) or error)),
                next_step=t(
                    "the file is damaged or does not contain saved memory. Restore it from a backup, or revert only "
                    "the disks"
                ),
            ) from error
    return root.findtext("name", ""), root.findtext("uuid", ""), _sources(root)
