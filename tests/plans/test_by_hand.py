"""Lines for a shell, run by a real one: whatever is called how, the programs get just that, and nothing else is run."""

from __future__ import annotations

import atexit
import re
import shlex
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmsnap_nb.model.guest import Disk
from vmsnap_nb.model.reference import parse_reference
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.by_hand import as_libvirt_writes, domain_argument, with_input
from vmsnap_nb.plans.delete.steps import DeleteInternal, DropInside
from vmsnap_nb.plans.journal import MergeEntry, PullEntry
from vmsnap_nb.plans.merge.steps import (
    CheckContent,
    CommitLayers,
    LiveCommit,
    LivePull,
    MarkInvalid,
    PullLayers,
    RemoveFile,
    Repoint,
    SetSource,
    TakeContent,
    Unprotect,
)
from vmsnap_nb.plans.revert.definition import NewSource
from vmsnap_nb.plans.revert.steps import Discard, DiscardOverlays, RestoreMemory, RevertInside, TakeDefinition
from vmsnap_nb.plans.snapshot.steps import (
    DefineRecord,
    ForgetRecord,
    MoveRecord,
    RestoreState,
    SaveState,
    TakeSnapshot,
)
from vmsnap_nb.plans.step import CreateOverlay, DefineDomain, GuestRef, Protect, Step

STUB = """#!/bin/sh
n=0
while [ -e {folder}/ran/$n ]; do n=$((n+1)); done
for word in "${{0##*/}}" "$@"; do printf '%s\\0' "$word"; done >{folder}/ran/$n
for word; do
	case $word in
	/dev/stdin) cat >{folder}/input.$n ;;
	dumpxml | snapshot-dumpxml) cat {folder}/xml ;;
	esac
done
if [ "${{0##*/}}" = dd ]; then cat >{folder}/input.$n; fi
"""
PROGRAMS = ("virsh", "qemu-img", "chmod", "rm", "dd", "touch", "id", "XML")


@dataclass(frozen=True)
class Ran:
    """What a shell has run: argument vectors, and what the last one was given as its input."""

    argvs: list[tuple[str, ...]]
    input: str


@cache
def stubs() -> Path:
    """Return a folder with a stub for each program; all examples use it, one after the other."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    for name in ("bin", "ran", "cwd"):
        (folder / name).mkdir()
    for program in PROGRAMS:
        (folder / "bin" / program).write_text(STUB.format(folder=folder))
        (folder / "bin" / program).chmod(0o755)
    return folder


def run(lines: Sequence[str], xml: str = "", shell: str = "sh") -> Ran:
    folder = stubs()
    for left in (*(folder / "ran").iterdir(), *(folder / "cwd").iterdir(), *folder.glob("input.*")):
        left.unlink()
    (folder / "xml").write_text(xml, newline="")
    # Real programs only for what is between: stubs go before them.
    path = f"{folder}/bin:/usr/bin:/bin"
    script = "\n".join(lines)
    env = {"PATH": path, "LC_ALL": "C.UTF-8"}
    done = subprocess.run([shell, "-c", script], env=env, cwd=folder / "cwd", capture_output=True, check=False)
    assert done.stderr == b"", (lines, done.stderr)
    assert done.returncode == 0
    assert list((folder / "cwd").iterdir()) == []  # no file was made by a redirection
    calls = sorted((folder / "ran").iterdir(), key=lambda path: int(path.name))
    argvs = [tuple(call.read_bytes().decode().split("\0")[:-1]) for call in calls]
    inputs = sorted(folder.glob("input.*"), key=lambda path: int(path.suffix[1:]))
    return Ran(argvs, inputs[-1].read_bytes().decode(errors="surrogateescape") if inputs else "")


PARTS = (
    *("\n", "\nXML\n", "XML", "XML1", "\nXML1\n", "'", '"', "$(touch INJECTED)", "`touch INJECTED`", "\\", "\\n", "%s"),
    *(
        "-rf",
        "--",
        "$HOME",
        "; touch INJECTED;",
        "&",
        "|",
        "#",
        "~",
        "!",
        "@",
        "%",
        ",",
        ":",
        "*",
        "[a]",
        "^",
        "$",
        ".",
    ),
    *("<x>", "虚拟机", " ", "\t", "&amp;", "/", "e", "w", "}", "\\1", "EOF"),
)
hostile = st.lists(st.sampled_from(PARTS) | st.characters(exclude_categories=["Cs", "Cc"]), max_size=6).map("".join)
named = hostile.map(lambda text: text or "x")
path = hostile.map(lambda text: "/i/" + text)
# What can stand in XML as it is: libvirt takes no name with a line feed, and writes none into an attribute.
in_xml = hostile.map(lambda text: re.sub(r"[\t\n]", "", text) or "x")
xml_path = in_xml.map(lambda text: "/i/" + text)
FEW = settings(max_examples=40)
UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"


def guest(name: str, uri: str = "qemu:///system") -> GuestRef:
    return GuestRef(name, UUID, uri)


def plain_steps(one: str, name: str, other: str, text: str) -> list[Step]:
    """Steps that are argument vectors alone."""
    who = guest(name, text)
    backing = parse_reference(other, folder="/", format="qcow2")
    entry = MergeEntry(base=one, top=other, merged=(other,))
    return [
        CreateOverlay(path=one, backing=backing, virtual_size=1 << 20),
        Protect(path=one),
        Unprotect(path=one),
        RemoveFile(path=one),
        CommitLayers(entry=entry, top_format="qcow2", base_name=one),
        Repoint(path=one, backing=backing, before=None),
        PullLayers(path=one, backing=backing, before=backing),
        PullLayers(path=one, backing=None, before=backing),
        TakeContent(path=one, format="qcow2"),
        CheckContent(path=one, format="qcow2", was=other),
        DropInside(path=one, name=text),
        DeleteInternal(guest=who, name=text, paths=(one,)),
        SaveState(guest=who, path=one),
        RestoreState(guest=who, path=one),
        RevertInside(guest=who, name=text, state="running", sources=(one,), to="running"),
        LiveCommit(guest=who, target="vda", source=other, entry=entry),
        DiscardOverlays(guest=who, overlays=(Discard(one), Discard(other, backing))),
        TakeSnapshot(
            guest=who,
            name=text,
            kind="external-checkpoint",
            state="running",
            disks=(SnapshotDisk("vda", "external", one, other),),
            memory_file=one,
            description=text,
        ),
        ForgetRecord(guest=who, name=text),
    ]


@FEW
@given(one=path, name=named, other=path, text=named)
def test_argument_vectors_come_out_of_a_shell_as_they_went_in(one: str, name: str, other: str, text: str) -> None:
    steps = plain_steps(one, name, other, text)
    lines = [line for step in steps for line in step.commands]
    assert run(lines).argvs == [argv for step in steps for argv in step.argvs]


@FEW
@given(one=path)
def test_the_mark_is_written_to_just_that_file(one: str) -> None:
    ran = run(MarkInvalid(path=one, into="/i/base").commands)
    assert [argv[:2] for argv in ran.argvs] == [("dd", f"of={one}")]
    assert ran.input == "\udc80"


texts = st.lists(st.sampled_from([*PARTS, "XML", "XML1", "XML2", "\n", "\r", "\r\n"]), max_size=12).map("".join)


@FEW
@given(text=texts, name=named, one=path)
@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_xml_ends_where_it_ends_whatever_is_in_it(shell: str, text: str, name: str, one: str) -> None:
    xml = f"<domain><description>{text}</description></domain>"
    who, sources = guest(name), (NewSource("vda", one, "qcow2"),)
    steps = (
        DefineDomain(name=name, path=one, xml=xml, uri="qemu:///system"),
        TakeDefinition(guest=who, name=name, before=sources, sources=sources, xml=xml),
        RestoreMemory(guest=who, name=name, path=one, paused=False, sources=sources, xml=xml),
    )
    for step in steps:
        ran = run(step.commands, shell=shell)
        assert [argv[0] for argv in ran.argvs] == ["virsh"]
        assert ran.input == xml + "\n"


def test_the_word_is_the_usual_one_unless_it_is_a_line() -> None:
    assert with_input(["virsh", "define"], "<x/>\n") == "virsh define <<'XML'\n<x/>\nXML"
    assert with_input(["virsh", "define"], "<x>\nXML\nXML1\n</x>").endswith("<<'XML2'\n<x>\nXML\nXML1\n</x>\nXML2")


def disk(target: str, source: str, format: str = "qcow2") -> str:
    return (
        "    <disk type='file' device='disk'>\n"
        f"      <driver name='qemu' type='{format}'/>\n"
        f"      <source file='{as_libvirt_writes(source)}'/>\n"
        f"      <target dev='{target}' bus='virtio'/>\n"
        "    </disk>\n"
    )


def domain(*disks: str, text: str = "") -> str:
    return f"<domain>\n  <description>{as_libvirt_writes(text)}</description>\n{''.join(disks)}</domain>\n"


@FEW
@given(name=in_xml, old=xml_path, new=xml_path, text=hostile)
def test_records_and_definitions_get_another_image_and_keep_the_rest(name: str, old: str, new: str, text: str) -> None:
    read = domain(disk("vda", old), disk("vdb", old + "x"), text=text)
    wanted = domain(disk("vda", new, "raw"), disk("vdb", old + "x"), text=text)
    who = guest(name)
    for step in (
        MoveRecord(guest=who, name=name, path=old, now=new, format="raw"),
        SetSource(guest=who, target="vda", before=old, path=new, format="raw"),
    ):
        ran = run(step.commands, read)
        assert [argv[0] for argv in ran.argvs] == ["virsh", "virsh"]
        assert ran.input == wanted


@FEW
@given(name=in_xml, parent=in_xml, child=in_xml, text=hostile)
def test_a_record_gets_another_parent(name: str, parent: str, child: str, text: str) -> None:
    def record(above: str) -> str:
        return (
            f"<domainsnapshot>\n  <name>{as_libvirt_writes(name)}</name>\n"
            f"  <description>{as_libvirt_writes(text)}</description>\n"
            f"  <parent>\n    <name>{as_libvirt_writes(above)}</name>\n  </parent>\n</domainsnapshot>\n"
        )

    above = SnapshotRecord("g", child, "disk-snapshot", parent=name)
    step = ForgetRecord(guest=guest("g"), name=name, parent=parent, children=(above,))
    ran = run(step.commands, record(name))
    assert [argv[0] for argv in ran.argvs] == ["virsh"] * 3
    assert ran.argvs[-1] == step.argvs[0]
    assert ran.input == record(parent)


@FEW
@given(name=in_xml, text=in_xml, source=xml_path, now=xml_path)
def test_a_record_is_written_around_the_definition(name: str, text: str, source: str, now: str) -> None:
    disks = (SnapshotDisk("vda", "external", source, source + ".s"),)
    record = SnapshotRecord(
        "g", name, "shutoff", disks=disks, description=text, created=datetime(2026, 1, 1, tzinfo=UTC)
    )
    step = DefineRecord(guest=guest("g"), record=record, disks=(Disk("vda", now, "qcow2"),))
    ran = run(step.commands, domain(disk("vda", now), text=text))
    root = ET.fromstring(ran.input)
    assert (root.findtext("name"), root.findtext("description")) == (name, text)
    assert root.findtext("domain/description") == text
    element = root.find("domain/disk/source")
    assert element is not None
    assert element.get("file") == source


@FEW
@given(name=named, one=path)
def test_a_pull_of_a_running_guest(name: str, one: str) -> None:
    entry = PullEntry(image=one, written=one)
    step = LivePull(guest=guest(name), target="vda", source=one, base=one, entry=entry, paused=True)
    assert run(step.commands).argvs == list(step.argvs)


def test_a_name_that_virsh_takes_for_a_number_is_given_as_a_uuid() -> None:
    assert domain_argument("7", UUID) == UUID
    assert shlex.split(shlex.join([domain_argument("-7", UUID)])) == ["-7"]
