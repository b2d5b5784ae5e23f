"""Steps of snapshots: flags, XML and command lines say the same."""

from __future__ import annotations

import shlex
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from support.snapshots import UUID, VDA, domain, plan, step_of

from vmsnap_nb.model.guest import State
from vmsnap_nb.plans.snapshot.steps import ForgetRecord
from vmsnap_nb.plans.step import GuestRef


@pytest.mark.parametrize(
    ("state", "request_", "flags", "words"),
    [
        ("shut off", {}, ["ATOMIC"], "--atomic --diskspec vda,snapshot=internal"),
        ("shut off", {"atomic": False, "metadata": False}, ["NO_METADATA"], "--no-metadata"),
        (
            "running",
            {"kind": "external-disk", "quiesce": True},
            ["DISK_ONLY", "QUIESCE", "ATOMIC"],
            "--disk-only --quiesce --atomic --diskspec vda,snapshot=external,file=/i/top.n.qcow2,driver=qcow2",
        ),
        (
            "running",
            {"kind": "external-checkpoint", "memory_file": "/i/m,1"},
            ["ATOMIC"],
            "--memspec file=/i/m,,1,snapshot=external --diskspec",
        ),
        ("running", {"reuse": True}, ["DISK_ONLY", "REUSE_EXT", "ATOMIC"], "--reuse-external"),
    ],
)
def test_flags_and_commands_say_the_same(
    state: State, request_: dict[str, object], flags: list[str], words: str
) -> None:
    step = step_of(plan(domain(state), facts={"uri": "qemu:///system", "agent": True}, name="n", **request_))
    assert list(step.flags) == flags
    [command] = step.commands
    assert command.startswith("virsh -c qemu:///system snapshot-create-as --domain demo --name n ")
    assert words in command


@pytest.mark.parametrize("name", ["7", UUID, UUID.replace("-", "")])
def test_a_guest_called_like_a_number_is_named_by_its_uuid(name: str) -> None:
    [command] = plan(domain("shut off", VDA, name=name)).commands
    assert shlex.split(command)[3] == UUID


def test_hostile_words_arrive_as_they_are() -> None:
    step = step_of(plan(domain(), name='<x>&" 快照', description="it's <b>\n2"))
    root = ET.fromstring(step.xml)
    assert root.findtext("name") == '<x>&" 快照'
    assert root.findtext("description") == "it's <b>\n2"
    assert shlex.split(step.commands[0])[4:8] == ["--name", '<x>&" 快照', "--description", "it's <b>\n2"]


def test_forgetting_names_the_record_and_nothing_else() -> None:
    step = ForgetRecord(guest=GuestRef("demo", UUID, ""), name="a b")
    assert step.commands == ("virsh snapshot-delete --domain demo --snapshotname 'a b' --metadata",)
    assert (step.creates, step.writes, step.unlinks) == ((), (), ())


def test_a_snapshot_of_no_disk_says_so() -> None:
    step = step_of(plan(domain("shut off"), facts={"uri": "qemu:///system"}, name="n"))
    assert replace(step, disks=()).what == "snapshot n of demo: no disk"
