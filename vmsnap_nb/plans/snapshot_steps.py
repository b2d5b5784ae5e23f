"""The single actions of plans about snapshots; libvirt performs all of them."""
# ruff: noqa: D102 - Step documents its properties once for all kinds

from __future__ import annotations

import re
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from vmsnap_nb.model.guest import Disk, State
from vmsnap_nb.model.snapshot import Kind, SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.record_xml import record_xml
from vmsnap_nb.plans.steps import Step

__all__ = [
    "DefineRecord",
    "ForgetRecord",
    "GuestStep",
    "MoveRecord",
    "RestoreState",
    "SaveState",
    "TakeSnapshot",
    "edited",
    "other_image",
]

_ALSO_AN_ID = re.compile(r"\d+|[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class GuestStep(Step):
    """A step that libvirt performs on one guest.

    Attributes
    ----------
    guest, uuid : str
        The guest.
    uri : str
        libvirt's address; stands in the commands.
    """

    guest: str
    uuid: str
    uri: str

    def virsh(self, command: str, *arguments: str, domain: bool = True) -> tuple[str, ...]:
        """Give a command line of virsh about the guest.

        virsh takes a name that is a number, or looks like a UUID, for that of another guest: then the UUID stands
        there.
        """
        connect = ("-c", self.uri) if self.uri else ()
        who = self.uuid if _ALSO_AN_ID.fullmatch(self.guest) else self.guest
        return ("virsh", *connect, command, *(("--domain", who) if domain else ()), *arguments)

    def rewrite(self, name: str, script: Iterable[str], *, current: bool) -> str:
        """Give a line that lets sed change the record of a snapshot, with the passwords in it."""
        read = self.virsh("snapshot-dumpxml", "--snapshotname", name, "--security-info")
        marked = ("--current",) if current else ()
        return edited(read, script, self.virsh("snapshot-create", "--xmlfile", "/dev/stdin", "--redefine", *marked))


def edited(
    read: Sequence[str], script: Iterable[str], write: Sequence[str], *, around: tuple[str, str] = ("", "")
) -> str:
    """Give a line that reads XML, puts something before and after it, lets sed change it, and writes it.

    It is read to its end before it is written: an embedded libvirt serves one process at a time.
    """
    words = [word for line in script for word in ("-e", line)]
    sed = shlex.join(["sed", *words]) + " | " if words else ""
    before, after = (f" {shlex.quote(text)}" * bool(text) for text in around)
    return f"xml=$({shlex.join(read)}) && printf '%s\\n'{before} \"$xml\"{after} | {sed}{shlex.join(write)}"


@dataclass(frozen=True, slots=True)
class TakeSnapshot(GuestStep):
    """Take one snapshot.

    Attributes
    ----------
    name : str
        Of the snapshot.
    kind : str
        One of the four kinds that libvirt takes.
    state : str
        What the guest does when it is planned: the same call means something else in another state.
    disks : tuple of SnapshotDisk
        All disks of the guest.
    memory_file : str or None
        For an external checkpoint.
    description : str
        The user's words.
    parent : str or None
        The current snapshot when it is planned.
    quiesce, atomic, reuse, metadata : bool
        As in `vmsnap_nb.plans.snapshot.SnapshotRequest`.
    """

    name: str
    kind: Kind
    state: State
    disks: tuple[SnapshotDisk, ...]
    memory_file: str | None = None
    description: str = ""
    parent: str | None = None
    quiesce: bool = False
    atomic: bool = True
    reuse: bool = False
    metadata: bool = True

    @property
    def action(self) -> str:
        return f"{self.kind.replace('-', ' ')} snapshot"

    @property
    def image(self) -> str:
        return next(iter(self.creates or self.writes), "")

    @property
    def what(self) -> str:
        held = ", ".join(disk.target for disk in self.disks if disk.held != "no")
        memory = {"internal-checkpoint": "memory and ", "external-checkpoint": "memory and "}.get(self.kind, "")
        return f"snapshot {self.name} of guest {self.guest}: {memory}{held}"

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


@dataclass(frozen=True, slots=True)
class ForgetRecord(GuestStep):
    """Make libvirt forget a snapshot; no file is touched, and its children move to its parent.

    Attributes
    ----------
    name : str
        Of the snapshot.
    parent : str or None
        The snapshot on which it stands.
    children : tuple of SnapshotRecord
        Those that stand on it: by hand their records are moved first, since libvirt takes it that an external snapshot
        was merged down, and changes the images that the records above name.
    """

    name: str
    parent: str | None = None
    children: tuple[SnapshotRecord, ...] = ()

    @property
    def action(self) -> str:
        return "forget record"

    @property
    def image(self) -> str:
        return ""

    @property
    def what(self) -> str:
        return f"libvirt's record of the snapshot {self.name} of guest {self.guest}; no file is touched"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (self.virsh("snapshot-delete", "--snapshotname", self.name, "--metadata"),)

    @property
    def commands(self) -> tuple[str, ...]:
        if self.parent is None:
            script = ("/<parent>/,/<.parent>/d",)
        else:
            old, new = (f"<name>{escape(name)}</name>" for name in (self.name, self.parent))
            script = (f"/<parent>/,/<.parent>/{_substitute(old, new)}",)
        moved = (self.rewrite(child.name, script, current=child.current) for child in self.children)
        return (*moved, *(shlex.join(argv) for argv in self.argvs))


@dataclass(frozen=True, slots=True)
class DefineRecord(GuestStep):
    """Write a record of a snapshot that is there; no file is touched.

    The guest's definition is read when that is done: it may have passwords in it.

    Attributes
    ----------
    record : SnapshotRecord
        What it says.
    disks : tuple of Disk
        Those that the guest has now: the definition in the record names the images of then.
    """

    record: SnapshotRecord
    disks: tuple[Disk, ...] = ()

    @property
    def name(self) -> str:
        """Of the snapshot."""
        return self.record.name

    @property
    def action(self) -> str:
        return "write record"

    @property
    def image(self) -> str:
        return ""

    @property
    def what(self) -> str:
        return f"a record of the snapshot {self.name} of guest {self.guest}; no file is touched"

    @property
    def commands(self) -> tuple[str, ...]:
        head, end = record_xml(self.record, "").rsplit("</", 1)
        now = {disk.target: disk.source for disk in self.disks}
        moved = [(now.get(disk.target), disk.source) for disk in self.record.disks]
        script = [line for old, new in moved if old and new and old != new for line in other_image(old, new)]
        read = self.virsh("dumpxml", "--inactive", "--security-info")
        write = self.virsh("snapshot-create", "--xmlfile", "/dev/stdin", "--redefine")
        return (edited(read, script, write, around=(head, f"</{end}")),)


@dataclass(frozen=True, slots=True)
class MoveRecord(GuestStep):
    """Let a record name another image in place of one; no file is touched.

    The record is read when that is done: it has the guest's definition in it, and passwords in that.

    Attributes
    ----------
    name : str
        Of the snapshot.
    path, now : str
        The image that it names, and the one that it will name.
    current : bool
        Whether it is the guest's current snapshot.
    """

    name: str
    path: str
    now: str
    current: bool = False

    @property
    def action(self) -> str:
        return "write record"

    @property
    def image(self) -> str:
        return self.now

    @property
    def what(self) -> str:
        return f"the record of the snapshot {self.name} of guest {self.guest} names it, no longer {self.path}"

    @property
    def commands(self) -> tuple[str, ...]:
        return (self.rewrite(self.name, other_image(self.path, self.now), current=self.current),)


def other_image(path: str, now: str, format: str | None = None) -> tuple[str, ...]:
    """Give a script for sed that lets a disk in libvirt's XML have another image, of that format if it is given."""
    old, new = (f"<source file='{_as_libvirt_writes(one)}'" for one in (path, now))
    driver = () if format is None else (f"s|\\(<driver [^>]*type=\\)'[^']*'|\\1'{format}'|",)
    # A disk is one text. What its image stands on lies between its own element and the target.
    whole = ("/<disk [^>]*[^/>]>/{", ":a", "/<.disk>/!{", "N", "ba", "}")
    change = (f"\\|{_pattern(old)}|{{", _substitute(old, new), *driver, "s|<backingStore.*<target|<target|", "}")
    return (*whole, *change, "}")


def _pattern(text: str) -> str:
    """Write a text so that sed finds just that, between two signs ``|``."""
    return re.sub(r"[][\\|.*^$]", r"\\\g<0>", text)


def _substitute(old: str, new: str) -> str:
    inserted = re.sub(r"[\\|&]", r"\\\g<0>", new)
    return f"s|{_pattern(old)}|{inserted}|"


def _as_libvirt_writes(text: str) -> str:
    """Write a text as libvirt writes it into an attribute."""
    return escape(text, {"'": "&apos;", '"': "&quot;"})


@dataclass(frozen=True, slots=True)
class SaveState(GuestStep):
    """Write the memory of a running guest to a file; its QEMU ends.

    Attributes
    ----------
    path : str or None
        The file; None for a managed save, whose file libvirt keeps itself.
    """

    path: str | None = None

    @property
    def action(self) -> str:
        return "managed save" if self.path is None else "save state"

    @property
    def image(self) -> str:
        return self.path or ""

    @property
    def what(self) -> str:
        return f"memory and devices of guest {self.guest}; it is shut off then"

    @property
    def creates(self) -> tuple[str, ...]:
        return () if self.path is None else (self.path,)

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        if self.path is None:
            return (self.virsh("managedsave"),)
        return (self.virsh("save", "--file", self.path),)


@dataclass(frozen=True, slots=True)
class RestoreState(GuestStep):
    """Let a guest go on from its saved memory.

    Attributes
    ----------
    path : str or None
        The file; None for a managed save.
    """

    path: str | None = None

    @property
    def action(self) -> str:
        return "restore state"

    @property
    def image(self) -> str:
        return self.path or ""

    @property
    def what(self) -> str:
        return f"guest {self.guest} goes on from where it was saved"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        if self.path is None:
            return (self.virsh("start"),)
        return (self.virsh("restore", "--file", self.path, domain=False),)
