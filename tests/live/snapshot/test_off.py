"""Snapshots of real guests that are off: taken, listed, put right."""

from __future__ import annotations

import json
import os
import stat
import struct
import subprocess
import threading
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support.faulty import perform
from support.guests import attach, files
from support.images import MIB, write
from support.kinds import record
from support.labs import start_paused

from vmsnap_nb.errors import ImageError, LibvirtError, NotFoundError, PlanRefusedError, StalePlanError, VmsnapError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.snapshot import Kind
from vmsnap_nb.plans.journal import SnapshotEntry
from vmsnap_nb.system.libvirt import snapshots as libvirt_snapshots
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.system


@pytest.fixture
def guest(lab: Lab, base: Image, request: pytest.FixtureRequest) -> Guest:
    """A guest that is off, with an overlay of its own."""
    number = abs(hash(request.node.nodeid)) % 10**9
    return lab.guest(f"off{number}", backing=base)


def tags(path: str) -> list[str]:
    """The names inside an image, by qemu-img."""
    done = subprocess.run(["qemu-img", "info", "-U", "--output=json", path], capture_output=True, text=True, check=True)
    return [one["name"] for one in json.loads(done.stdout).get("snapshots", ())]


def test_an_internal_disk_snapshot(guest: Guest) -> None:
    plan = guest.snapshot(description="the first")
    assert plan.way.startswith("internal-disk, because the guest is off")
    assert len(guest.snapshots()) == 0  # nothing has happened yet
    assert plan.run(progress=False).as_predicted
    assert tags(guest.chain().top) == ["snap1"]
    [one] = guest.snapshots()
    assert (one.name, one.kind, one.status, one.record.state) == ("snap1", "internal-disk", "ok", "shutoff")
    assert (one.record.description, one.record.current) == ("the first", True)
    assert guest.snapshot().run(progress=False).as_predicted
    assert guest.snapshots()["snap2"].record.parent == "snap1"
    record("internal-disk", "off", "create")
    record("internal-disk", "off", "list")


def test_an_external_disk_snapshot_of_a_guest_that_is_off(guest: Guest) -> None:
    old = guest.chain().top
    report = guest.snapshot("a", kind="external-disk").run(progress=False)
    assert report.as_predicted
    chain = guest.chain()
    assert [layer.name for layer in chain] == ["RootBase", guest.name, f"{guest.name}.a"]
    assert [chain.active(layer) for layer in chain] == [False, False, True]
    [use] = [use for use in chain.forest.users(old) if use.guest == guest.name]
    assert use.path == chain.top
    frame = guest.snapshots().to_frame()
    assert frame.loc["a", "files"] == chain.top
    assert frame.loc["a", "kind"] == "external-disk"
    record("external-disk", "off", "create")
    record("external-disk", "off", "list")


def test_an_entry_has_the_times_of_the_images_that_are_written_to_no_more(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[SnapshotEntry] = []
    monkeypatch.setattr("vmsnap_nb.live.guest_actions.snapshot.write_entry", written.append)
    source = guest.chain()[-1]
    guest.snapshot("a", kind="external-disk").run(progress=False)
    assert [(fact.path, fact.mtime_ns) for fact in written[0].files] == [(source.path, source.mtime_ns)]


def test_an_overlay_that_libvirt_makes_is_no_more_open_than_the_image_below(guest: Guest) -> None:
    os.chmod(guest.chain().top, 0o600)
    assert guest.snapshot("a", kind="external-disk").run(progress=False).as_predicted
    assert stat.S_IMODE(os.stat(guest.chain().top).st_mode) == 0o600


def test_without_a_record_and_with_a_file_of_ones_own(guest: Guest) -> None:
    old = guest.chain().top
    mine = f"{Path(old).parent}/{guest.name} mine <x>&.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", old, mine], check=True)
    identity = os.stat(mine).st_ino
    plan = guest.snapshot(reuse=True, disks={"vda": mine}, metadata=False)
    assert plan.run(progress=False).as_predicted
    assert guest.chain().top == mine
    assert os.stat(mine).st_ino == identity
    assert len(guest.snapshots()) == 0
    os.chmod(mine, 0o600)
    guest.host._has_made(mine, "a test")  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ['<x>&"', "快照 1", "-dash", "it's"])
def test_a_hostile_name_is_taken_listed_and_forgotten(guest: Guest, name: str) -> None:
    for kind in ("internal-disk", "external-disk"):
        full = f"{name} {kind[:3]}"
        assert guest.snapshot(full, kind=kind, description=name).run(progress=False).as_predicted  # type: ignore[arg-type]
        assert guest.snapshots()[full].record.description == name
        assert guest.snapshots()[full].status == "ok"


def test_several_disks_and_those_left_out(guest: Guest, short: Path) -> None:
    raw, more, tools = short / "raw.img", short / "more.qcow2", short / "tools.iso"
    attach(guest, ("vdc", more, "qcow2", "disk"), ("sda", tools, "raw", "cdrom"))
    inside = guest.snapshot("both")
    assert inside.way.startswith("internal-disk")
    assert [(c.level, c.what.fields["disk"]) for c in inside.concerns] == [("note", "sda")]
    assert inside.run(progress=False).as_predicted
    assert tags(str(more)) == tags(guest.chain("vda").top) == ["both"]

    attach(guest, ("vdb", raw, "raw", "disk"))
    internal = guest.snapshot("no", kind="internal-disk")
    with pytest.raises(PlanRefusedError, match="must include all disks"):
        internal.run(progress=False)
    with pytest.raises(VmsnapError, match="vdb"):  # as libvirt says itself
        perform(internal, internal.steps[0])
    assert tags(str(more)) == tags(guest.chain("vda").top) == ["both"]

    chosen = guest.snapshot()  # a raw disk is a reason for external
    assert "vdb is raw" in chosen.way
    assert set(chosen.creates[1:]) == {str(short / "raw.snap1.qcow2"), str(short / "more.snap1.qcow2")}
    assert chosen.run(progress=False).as_predicted
    assert guest.chain("vdb")[0].format == "raw"
    assert [len(guest.chain(target)) for target in ("vda", "vdb", "vdc")] == [3, 2, 2]
    assert {disk.target for disk in guest.snapshots()["snap1"].record.held_disks} == {"vda", "vdb", "vdc"}
    only = guest.snapshot("only", disks=["vdc"])
    assert "vda is left out" in only.way
    assert only.run(progress=False).as_predicted
    assert [len(guest.chain(target)) for target in ("vda", "vdb", "vdc")] == [3, 2, 3]
    with pytest.raises(PlanRefusedError, match="mixed-kinds"):
        guest.snapshot(disks={"vda": "internal", "vdb": "external"}).run(progress=False)


def test_what_is_refused_changes_nothing(guest: Guest) -> None:
    guest.snapshot("a").run(progress=False)
    before = files(guest)
    taken = f"{Path(guest.chain().top).parent}/{guest.name}.b.qcow2"
    refused = {
        "name-taken": guest.snapshot("a"),
        "not-supported": guest.snapshot(kind="internal-checkpoint"),
        "no-agent": guest.snapshot(kind="external-disk", quiesce=True),
    }
    Path(taken).write_bytes(b"mine")
    refused["file-exists"] = guest.snapshot("b", kind="external-disk")
    for name, plan in refused.items():
        with pytest.raises(PlanRefusedError, match=name) as said:
            plan.run(progress=False)
        assert said.value.next_step
    assert Path(taken).read_bytes() == b"mine"
    os.unlink(taken)
    assert files(guest) == before


def test_there_is_no_memory_to_hold(guest: Guest) -> None:
    for kind in ("internal-checkpoint", "external-checkpoint"):
        with pytest.raises(PlanRefusedError, match="has no memory to save"):
            guest.snapshot(kind=kind).run(progress=False)  # type: ignore[arg-type]
        record(kind, "off", "create", "refused: not-supported, as there is no memory to hold")  # type: ignore[arg-type]
    with pytest.raises(PlanRefusedError, match="no memory to save"):
        guest.save().run(progress=False)
    record("vm-state", "off", "create", "refused: not-supported, as there is no memory to save")


def test_a_plan_is_stale_once_a_snapshot_came_or_went(guest: Guest) -> None:
    plan = guest.snapshot("a")
    guest.handle.domain.snapshotCreateXML("<domainsnapshot><name>other</name></domainsnapshot>", 0)
    with pytest.raises(LibvirtError, match=r"delete .* first with delete_snapshot\(\)"):
        guest.undefine()
    with pytest.raises(StalePlanError, match=f"{guest.name} now has a snapshot named other"):
        plan.run(progress=False)
    assert guest.snapshots().names == ("other",)


def test_two_threads_at_once(guest: Guest) -> None:
    """Both plans were good when they were checked; only one is performed, and the other says so."""
    plans = [guest.snapshot(name, kind="external-disk") for name in ("one", "two")]
    gate = threading.Barrier(2)
    ends: list[str] = []

    def go(number: int) -> None:
        [step] = plans[number].steps
        gate.wait(10)
        try:
            perform(plans[number], step)
            ends.append("done")
        except StalePlanError:
            ends.append("stale")

    threads = [threading.Thread(target=go, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(ends) == ["done", "stale"]
    assert len(guest.snapshots()) == 1
    assert len(guest.chain()) == 3


def test_each_kind_can_be_taken_back(guest: Guest) -> None:
    """As a later step of a greater plan would want it when it fails."""
    guest.snapshot("before", kind="internal-disk").run(progress=False)
    xml, names = guest.xml(), guest.snapshots().names
    for kind in ("internal-disk", "external-disk"):
        for metadata in (True, False):
            plan = guest.snapshot("x", kind=kind, metadata=metadata)  # type: ignore[arg-type]
            [step] = plan.steps
            undo = perform(plan, step)
            undo()
            assert guest.xml() == xml
            assert guest.snapshots().names == names
            assert guest.snapshots().current is not None
            assert tags(guest.chain().top) == ["before"]
            assert not any(os.path.lexists(path) for path in plan.creates)


def test_what_somebody_put_in_place_of_an_overlay_stays(guest: Guest) -> None:
    plan = guest.snapshot("x", kind="external-disk")
    undo = perform(plan, plan.steps[0])
    [path] = plan.creates
    os.rename(path, f"{path}.moved")
    Path(path).write_text("somebody else's")
    with pytest.raises(StalePlanError, match="has been replaced by a different file"):
        undo()
    assert Path(path).read_text() == "somebody else's"
    os.unlink(path)
    os.unlink(f"{path}.moved")


def test_a_fifo_or_a_foreign_emulator_is_not_given_to_libvirt(guest: Guest, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ImageError, match="neither a file"):
        guest.restore(tmp_path / "fifo")
    program = tmp_path / "qemu-system-x86_64"
    program.write_text(f'#!/bin/sh\ntouch {tmp_path}/ran\nexec qemu-system-x86_64 "$@"\n')
    program.chmod(0o755)
    root = ET.fromstring(guest.xml())
    root.find("devices/emulator").text = str(program)  # type: ignore[union-attr]
    text = ET.tostring(root) + b"\0"
    (tmp_path / "saved").write_bytes(b"LibvirtQemudSave" + struct.pack("=5I56x", 2, len(text), 1, 0, 0) + text)
    with pytest.raises(ImageError, match="is not a QEMU"):
        guest.restore(tmp_path / "saved")
    assert not (tmp_path / "ran").exists()


def test_drift_is_seen_and_put_right(guest: Guest) -> None:
    for name in ("a", "b"):
        guest.snapshot(name).run(progress=False)
    below = guest.chain().top
    guest.snapshot("c", kind="external-disk").run(progress=False)
    guest.snapshot("d").run(progress=False)
    top = guest.chain().top
    subprocess.run(["qemu-img", "snapshot", "-d", "b", below], check=True)
    subprocess.run(["qemu-img", "snapshot", "-c", "wild", top], check=True)
    assert {s.name: s.status for s in guest.snapshots()} == {
        "a": "ok",
        "b": "stale",
        "c": "ok",
        "d": "ok",
        "wild": "untracked",
    }
    before = {path: Path(path).read_bytes() for path in (below, top)}
    plan = guest.reconcile()
    assert [step.action for step in plan.steps] == ["remove record", "write record"]
    assert plan.run(progress=False).differences == ()
    after = guest.snapshots()
    assert {s.name: s.status for s in after} == {"a": "ok", "c": "ok", "d": "ok", "wild": "ok"}
    assert after["c"].record.parent == "a"
    assert {path: Path(path).read_bytes() for path in before} == before
    # libvirt takes the record that was adopted for its own: it reverts to it.
    guest.handle.domain.revertToSnapshot(guest.handle.domain.snapshotLookupByName("wild"))
    assert guest.snapshots().current is not None
    assert guest.snapshots().current.name == "wild"  # type: ignore[union-attr]
    assert guest.reconcile().steps == ()


def test_a_file_removed_by_hand_is_missing_and_its_record_forgotten(guest: Guest) -> None:
    old = guest.chain().top
    guest.snapshot("a", kind="external-disk").run(progress=False)
    overlay = guest.chain().top
    guest.host.connection.defineXML(guest.xml().replace(overlay, old))
    os.unlink(overlay)
    assert guest.snapshots()["a"].status == "missing-file"
    plan = guest.reconcile()
    assert [c.level for c in plan.concerns] == ["warn"]
    assert plan.run(progress=False).differences == ()
    assert len(guest.snapshots()) == 0


def test_forgetting_can_be_taken_back(guest: Guest) -> None:
    for name in ("a", "b", "c"):
        guest.snapshot(name).run(progress=False)
    records = guest.snapshots().records
    subprocess.run(["qemu-img", "snapshot", "-d", "b", guest.chain().top], check=True)
    plan = guest.reconcile()
    [step] = plan.steps
    perform(plan, step)()
    assert guest.snapshots().records == records


def test_records_are_read_the_same_by_patterns_and_parsed_in_full(lab: Lab, guest: Guest, short: Path) -> None:
    """The reader's short way must see what a full parse sees, here and on everything that other tests have made."""
    attach(guest, ("vdb", short / "b <&'.img", "raw", "disk"), ("sda", short / "tools.iso", "raw", "cdrom"))
    guest.snapshot("a <x>&'", description="two\nlines & <more>").run(progress=False)
    guest.snapshot("b", disks=["vda"]).run(progress=False)
    guest.snapshot("c", kind="external-disk", disks={"vdb": "b <2>.qcow2"}).run(progress=False)
    seen = 0
    for domain in lab.connection.listAllDomains():
        for one in domain.listAllSnapshots():
            xml = one.getXMLDesc()
            assert libvirt_snapshots._fields_as_set(xml) == libvirt_snapshots._fields(ET.fromstring(xml))
            # Set in another way, it is parsed in full.
            other = xml.replace("\n  ", "\n    ")
            assert libvirt_snapshots._fields_as_set(other) is None
            assert libvirt_snapshots.parse_record("g", other) == libvirt_snapshots.parse_record("g", xml)
            seen += 1
    assert seen >= 3


def test_one_read_of_all_guests_gives_the_same_lists(lab: Lab, guest: Guest) -> None:
    for name in ("a", "b"):
        guest.snapshot(name).run(progress=False)
    every = lab.snapshots()
    assert [one.guest for one in every] == [guest.name for guest in lab.guests()]
    for one in every:
        alone = lab.guest(one.guest).snapshots()
        assert (alone.snapshots, alone.state) == (one.snapshots, one.state)
    frame = every.to_frame()
    assert len(frame) == sum(map(len, every))
    assert "you are here" in every.to_text()


def test_nothing_is_written_where_it_may_not_be(guest: Guest, short: Path) -> None:
    closed = short / "closed"
    closed.mkdir()
    before = files(guest)
    plan = guest.snapshot(kind="external-disk", disks={"vda": closed / "none" / "x.qcow2"})
    with pytest.raises(PlanRefusedError, match="no-permission"):
        plan.run(progress=False)
    [step] = plan.steps
    with pytest.raises(VmsnapError) as said:  # and by force: libvirt's own words, and nothing is left
        perform(plan, step)
    assert "No such file" in str(said.value)
    assert said.value.next_step
    assert files(guest) == before
    assert stat.S_ISDIR(closed.stat().st_mode)
    assert list(closed.iterdir()) == []


@pytest.mark.parametrize("kind", ["internal-disk", "external-disk"])
def test_the_chain_and_the_map_of_a_moment_are_those_of_that_moment(guest: Guest, kind: Kind) -> None:
    top, place = Path(guest.chain().top), 700 * MIB
    write(top, "write -q -P 1 0 64k")
    then = guest.blockmap()
    guest.snapshot("a", kind=kind).run(progress=False)
    write(Path(guest.chain().top), f"write -q -P 2 {place} 64k")
    now = guest.blockmap()
    guest.snapshot("b", kind=kind).run(progress=False)
    assert guest.chain(at="a").top == str(top)
    assert guest.blockmap(at="a").runs == then.runs
    assert guest.blockmap(at="b").runs == now.runs
    assert (then.owner(place), now.owner(place)) == (None, len(now.layers) - 1)
    with pytest.raises(NotFoundError, match="a, b"):
        guest.chain(at="c")


def test_a_file_that_a_record_takes_for_memory_is_not_removed(guest: Guest, short: Path) -> None:
    start_paused(guest)
    assert guest.snapshot("a", kind="external-checkpoint").run(progress=False).as_predicted
    guest.destroy()
    [memory] = [one.record.memory_file for one in guest.snapshots()]
    other = short / "other.txt"
    other.write_text("not memory")
    libvirt, snapshot = library(), guest.handle.domain.snapshotLookupByName("a")
    xml = snapshot.getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE).replace(str(memory), str(other))
    guest.handle.domain.snapshotCreateXML(xml, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE)
    assert guest.snapshots()["a"].status == "missing-file"
    assert guest.revert("a").refused
    Path(str(memory)).unlink()
    plan = guest.delete_snapshot("a")
    assert str(other) not in plan.unlinks
    plan.run(progress=False)
    assert other.read_text() == "not memory"
