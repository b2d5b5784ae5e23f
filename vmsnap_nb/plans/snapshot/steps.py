"""The single actions of plans about snapshots; libvirt performs all of them."""

from __future__ import annotations

import shlex
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from vmsnap_nb.model.guest import OFF, Disk, State
from vmsnap_nb.model.snapshot import Kind, SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.by_hand import as_libvirt_writes, edited, other_image, substitute
from vmsnap_nb.plans.journal import RecordEntry, SnapshotEntry, Switch
from vmsnap_nb.plans.snapshot.record_xml import record_xml
from vmsnap_nb.plans.step import GuestStep, PathOf, PathsOf
from vmsnap_nb.words.message import N_, Message, listed, t

__all__ = [
    "DefineRecord",
    "EndSnapshot",
    "ForgetRecord",
    "MoveRecord",
    "RestoreRecord",
    "RestoreState",
    "SaveState",
    "TakeSnapshot",
]


_TAKES: Mapping[Kind, str] = {
    "internal-disk": N_("internal disk snapshot"),
    "internal-checkpoint": N_("internal checkpoint snapshot"),
    "external-disk": N_("external disk snapshot"),
    "external-checkpoint": N_("external checkpoint snapshot"),
    "vm-state": N_("vm state snapshot"),
    "mixed": N_("mixed snapshot"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeSnapshot(GuestStep):
    """Take one snapshot."""

    name: str
    kind: Kind
    state: State  # the same call means something else in another state
    disks: tuple[SnapshotDisk, ...]  # all disks of the guest
    memory_file: str | None = None  # for an external checkpoint
    description: str = ""
    parent: str | None = None  # the current snapshot when it is planned
    quiesce: bool = False  # this and the next three are as in SnapshotRequest
    atomic: bool = True
    reuse: bool = False
    metadata: bool = True

    @property
    def action(self) -> str:
        return _TAKES[self.kind]

    @property
    def what(self) -> Message:
        disks = [disk.target for disk in self.disks if disk.held != "no"] or [t("no disk")]
        held = listed([t("memory"), *disks] if self.kind.endswith("checkpoint") else disks)
        return t("snapshot {name} of {guest}: {held}", name=self.name, guest=self.guest.name, held=held)

    @property
    def overlays(self) -> tuple[str, ...]:
        """The files that become the disks' sources."""
        return tuple(disk.file for disk in self.disks if disk.held == "external" and disk.file)

    @property
    def creates(self) -> tuple[str, ...]:
        made = () if self.reuse else self.overlays
        return (*made, *((self.memory_file,) if self.memory_file else ()))

    @property
    def writes(self) -> tuple[str, ...]:
        inside = (disk.source for disk in self.disks if disk.held == "internal" and disk.source)
        return (*inside, *(self.overlays if self.reuse else ()))

    @property
    def changes(self) -> tuple[str, ...]:
        return self.overlays if self.reuse else ()

    @property
    def entry(self) -> SnapshotEntry | None:
        """What is written down before it, where there are overlays: libvirt names them only afterwards."""
        switches = tuple(
            Switch(target=disk.target, source=disk.source, file=disk.file)
            for disk in self.disks
            if disk.held == "external" and disk.file and disk.source and disk.source.startswith("/")
        )
        if not switches:
            return None
        return SnapshotEntry(
            guest=self.guest.name, uuid=self.guest.uuid, name=self.name, disks=switches, made=self.creates
        )

    @property
    def open_overlays(self) -> tuple[tuple[str, str], ...]:
        if self.reuse or self.state not in OFF:  # while a guest runs they are QEMU's alone
            return ()
        return tuple((d.file, d.source) for d in self.disks if d.held == "external" and d.file and d.source)

    def reusing(self) -> Self:
        return replace(self, reuse=True)

    @property
    def flags(self) -> tuple[str, ...]:
        """What follows ``VIR_DOMAIN_SNAPSHOT_CREATE_`` in the names of libvirt's flags."""
        chosen = {
            "DISK_ONLY": self.kind == "external-disk",
            "REUSE_EXT": self.reuse,
            "QUIESCE": self.quiesce,
            "ATOMIC": self.atomic,
            "NO_METADATA": not self.metadata,
        }
        return tuple(name for name, wanted in chosen.items() if wanted)

    @property
    def xml(self) -> str:
        """What libvirt is told (https://libvirt.org/formatsnapshot.html)."""
        root = ET.Element("domainsnapshot")
        ET.SubElement(root, "name").text = self.name
        if self.description:
            ET.SubElement(root, "description").text = self.description
        if self.memory_file:
            ET.SubElement(root, "memory", snapshot="external", file=self.memory_file)
        disks = ET.SubElement(root, "disks")
        for disk in self.disks:
            element = ET.SubElement(disks, "disk", name=disk.target, snapshot=disk.held)
            if disk.held == "external" and disk.file:
                ET.SubElement(element, "driver", type="qcow2")
                ET.SubElement(element, "source", file=disk.file)
        return ET.tostring(root, encoding="unicode")

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        words = ["--name", self.name]
        if self.description:
            words += ["--description", self.description]
        options = {
            "DISK_ONLY": "--disk-only",
            "REUSE_EXT": "--reuse-external",
            "QUIESCE": "--quiesce",
            "ATOMIC": "--atomic",
            "NO_METADATA": "--no-metadata",
        }
        words += [options[flag] for flag in self.flags]
        if self.memory_file:
            words += ["--memspec", f"file={_in_spec(self.memory_file)},snapshot=external"]
        for disk in self.disks:
            spec = f"{disk.target},snapshot={disk.held}"
            if disk.held == "external" and disk.file:
                spec += f",file={_in_spec(disk.file)},driver=qcow2"
            words += ["--diskspec", spec]
        return (self.virsh("snapshot-create-as", *words),)


def _in_spec(text: str) -> str:
    """Write a value of ``--diskspec`` or ``--memspec``, in which a comma is doubled."""
    return text.replace(",", ",,")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndSnapshot(GuestStep):
    """Remove the journal entry of a snapshot."""

    entry: SnapshotEntry

    action = N_("finish")
    performer = "this process"
    entry_path = PathOf("entry.path")
    is_note = True

    @property
    def what(self) -> Message:
        return t("remove the journal entry of snapshot {name} of {guest}", name=self.entry.name, guest=self.guest.name)

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (("rm", "-f", "--", self.entry.path),)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRecord(GuestStep):
    """Write a record again that libvirt has dropped, unless it lists it, and remove its journal entry."""

    entry: RecordEntry
    is_there: bool = False

    action = N_("write record")
    entry_path = PathOf("entry.path")

    @property
    def what(self) -> Message:
        fields = {"name": self.entry.name, "guest": self.guest.name}
        if self.is_there:
            return t("remove the journal entry of the record of snapshot {name} of {guest}", **fields)
        return t("restore the record of snapshot {name} of {guest}", **fields)

    @property
    def commands(self) -> tuple[str, ...]:
        end = shlex.join(("rm", "-f", "--", self.entry.path))
        if self.is_there:
            return (end,)
        current = ("--current",) if self.entry.current else ()
        write = self.virsh("snapshot-create", "--xmlfile", "/dev/stdin", "--redefine", *current)
        read = ("python3", "-c", "import json, sys; print(json.load(open(sys.argv[1]))['xml'])", self.entry.path)
        return (f"{shlex.join(read)} | {shlex.join(write)}", end)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetRecord(GuestStep):
    """Make libvirt forget a snapshot; no file is touched, and its children move to its parent."""

    name: str
    parent: str | None = None
    children: tuple[SnapshotRecord, ...] = ()
    """Those whose parent it is.

    By hand their records are moved first, since libvirt takes it that an external snapshot was merged down, and changes
    the images that the records above name.
    """

    action = N_("remove record")

    @property
    def what(self) -> Message:
        return t(
            "remove libvirt's record of snapshot {name} of {guest}; no file is modified",
            name=self.name,
            guest=self.guest.name,
        )

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (self.virsh("snapshot-delete", "--snapshotname", self.name, "--metadata"),)

    @property
    def commands(self) -> tuple[str, ...]:
        if self.parent is None:
            script = ("/<parent>/,/<.parent>/d",)
        else:
            old, new = (f"<name>{as_libvirt_writes(name)}</name>" for name in (self.name, self.parent))
            script = (f"/<parent>/,/<.parent>/{substitute(old, new)}",)
        moved = (self.rewrite(child.name, script, current=child.current) for child in self.children)
        return (*moved, *(shlex.join(argv) for argv in self.argvs))


@dataclass(frozen=True, slots=True, kw_only=True)
class DefineRecord(GuestStep):
    """Write a record of a snapshot that is there; no file is touched.

    The guest's definition is read when that is done: it may have passwords in it.
    """

    record: SnapshotRecord
    disks: tuple[Disk, ...] = ()  # the current ones: the definition in the record names the images at that time

    action = N_("write record")

    @property
    def name(self) -> str:
        """Of the snapshot."""
        return self.record.name

    @property
    def what(self) -> Message:
        return t(
            "create a record of snapshot {name} of {guest}; no file is modified",
            name=self.name,
            guest=self.guest.name,
        )

    @property
    def commands(self) -> tuple[str, ...]:
        head, end = record_xml(self.record, "").rsplit("</", 1)
        now = {disk.target: disk.source for disk in self.disks}
        moved = [(now.get(disk.target), disk.source) for disk in self.record.disks]
        script = [line for old, new in moved if old and new and old != new for line in other_image(old, new, "qcow2")]
        read = self.virsh("dumpxml", "--inactive", "--security-info")
        write = self.virsh("snapshot-create", "--xmlfile", "/dev/stdin", "--redefine")
        return (edited(read, script, write, around=(head, f"</{end}")),)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRecord(GuestStep):
    """Let a record name another image in place of one; no file is touched.

    The record is read when that is done: it has the guest's definition in it, and passwords in that.
    """

    name: str
    path: str  # that it names
    now: str  # that it will name
    format: str  # of that
    current: bool = False  # it is the guest's current snapshot
    devices: tuple[str, ...] = ()  # those of the two that are block devices

    action = N_("write record")
    image = PathOf("now")

    @property
    def what(self) -> Message:
        return t(
            "this image replaces {path} in the record of snapshot {name} of {guest}",
            path=self.path,
            name=self.name,
            guest=self.guest.name,
        )

    @property
    def commands(self) -> tuple[str, ...]:
        script = other_image(self.path, self.now, self.format, self.devices)
        return (self.rewrite(self.name, script, current=self.current),)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveState(GuestStep):
    """Write the memory of a running guest to a file; its QEMU ends."""

    path: str | None = None  # None for a managed save, whose file libvirt keeps itself

    creates = PathsOf("path")

    @property
    def action(self) -> str:
        return N_("managed save") if self.path is None else N_("save state")

    @property
    def what(self) -> Message:
        return t("save the memory and device state of {guest}, which is then off", guest=self.guest.name)

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        if self.path is None:
            return (self.virsh("managedsave"),)
        return (self.virsh("save", "--file", self.path),)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreState(GuestStep):
    """Let a guest resume from its saved memory."""

    path: str | None = None  # None for a managed save

    action = N_("restore state")
    image = PathOf("path")

    @property
    def what(self) -> Message:
        return t("{guest} resumes from its saved memory", guest=self.guest.name)

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        if self.path is None:
            return (self.virsh("start"),)
        return (self.virsh("restore", "--file", self.path, domain=False),)
