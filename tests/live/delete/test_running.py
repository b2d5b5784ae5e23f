"""Snapshots of guests that run, deleted: what stays reads the same."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET

import pytest
from support.content import content
from support.images import create
from support.kinds import record
from support.paused import Paused

from vmsnap_nb.errors import PlanRefusedError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.guest


def test_the_middle_the_first_and_the_current(paused: Paused) -> None:
    paused.take("a", "b")
    paused.take("c", size="64k")
    before = paused.reads()
    paused.start()
    plan = paused.delete("b")
    assert [way.what[:6] for way in plan.alternatives if way.chosen] == ["commit"]
    by_libvirt = [step.action for step in plan.steps] == ["delete snapshot"]
    assert by_libvirt == (library().getVersion() >= 11_000_000)
    assert by_libvirt or any("blockcommit" in line for line in plan.commands)
    assert "of a running guest" in next(way for way in plan.alternatives if not way.chosen).refused
    assert paused.names == ["RootBase", paused.guest.name, "a", "c"]
    current = paused.delete("c")
    assert by_libvirt or "pivot" in current.way
    assert paused.names == ["RootBase", paused.guest.name, "a"]
    assert paused.guest.snapshots().current.name == "a"  # type: ignore[union-attr]
    assert paused.reads() == before
    paused.start()  # the stored record has the right disk, too
    paused.delete("a")
    assert len(paused.guest.snapshots()) == 0
    assert paused.reads() == before
    record("external-disk", "running", "delete", "works" if by_libvirt else "works, in single steps")


def test_up_into_the_image_that_it_writes_to(paused: Paused) -> None:
    paused.take("a", size="64k")
    paused.take("b", size="4M")
    before = paused.reads()
    paused.start()
    plan = paused.delete("b")
    assert [way.what[:4] for way in plan.alternatives if way.chosen] == ["pull"]
    assert any("blockpull" in line for line in plan.commands)
    assert paused.names == ["RootBase", paused.guest.name, "b"]
    assert paused.reads() == before


def test_with_children_by_one_job(paused: Paused) -> None:
    paused.take("a", "b", "c", "d", size="256k")
    before = paused.reads()
    paused.start()
    plan = paused.delete("b", children="only")
    assert sum(step.action.endswith("live") for step in plan.steps) == 1
    assert paused.statuses == {"a": "ok", "b": "ok"}
    assert len(paused.names) == 4
    paused.delete("a", children="also")
    assert paused.statuses == {}
    assert paused.reads() == before


def test_the_memory_file_goes_with_its_snapshot(paused: Paused) -> None:
    paused.guest.snapshot("a", kind="external-checkpoint").run(progress=False)
    memory = paused.guest.snapshots()["a"].record.memory_file
    assert memory is not None
    # After its memory was written QEMU lets nothing be written until it goes on.
    with pytest.raises(PlanRefusedError, match=f"resume {paused.guest.name} for a moment"):
        paused.guest.snapshot("again", kind="external-checkpoint").run(progress=False)
    assert paused.statuses == {"a": "ok"}
    paused.guest.handle.domain.resume()
    plan = paused.delete("a")
    assert memory in plan.unlinks
    by_libvirt = "delete snapshot" in [step.action for step in plan.steps]
    record("external-checkpoint", "running", "delete", "works" if by_libvirt else "works, in single steps")
    paused.guest.snapshot("b", kind="external-checkpoint").run(progress=False)
    paused.guest.destroy()
    assert paused.statuses == {"b": "ok"}
    record("external-checkpoint", "off", "list")
    paused.delete("b")
    record("external-checkpoint", "off", "delete", "works, in single steps")
    paused.start()
    for name in "cde":
        paused.guest.snapshot(name, kind="internal-checkpoint").run(progress=False)
    plan = paused.delete("d")
    assert plan.commands == (
        f"virsh -c '{paused.guest.host.uri}' snapshot-delete --domain {paused.guest.name} --snapshotname d",
    )
    assert paused.guest.snapshots()["e"].record.parent == "c"
    record("internal-checkpoint", "running", "delete")
    paused.guest.destroy()
    assert paused.statuses == {"c": "ok", "e": "ok"}
    record("internal-checkpoint", "off", "list")
    paused.delete("e")
    record("internal-checkpoint", "off", "delete", "works, in single steps")
    paused.guest.snapshot("f", kind="internal-disk").run(progress=False)
    paused.start()
    assert paused.statuses["f"] == "ok"
    record("internal-disk", "running", "list")
    paused.delete("f")
    record("internal-disk", "running", "delete")
    assert [inside.name for inside in paused.guest.chain()[-1].snapshots] == ["c"]


def test_an_internal_one_below_waits_until_it_is_off(paused: Paused) -> None:
    """libvirt 9.0 would only forget the record: QEMU looks into the images that it writes to, and into no other."""
    paused.guest.snapshot("a", kind="internal-checkpoint").run(progress=False)
    paused.take("b", size="64k")
    with pytest.raises(PlanRefusedError, match=r"shut \w+ down first"):
        paused.guest.delete_snapshot("a").run(progress=False)
    assert paused.statuses == {"a": "ok", "b": "ok"}
    paused.guest.destroy()
    paused.delete("a")
    paused.start()
    paused.delete("b")


def test_a_branch_that_it_does_not_have_open(paused: Paused) -> None:
    paused.take("a", "b", size="256k")
    paused.guest.destroy()
    left = paused.guest.chain().top
    [a] = paused.guest.snapshots()["a"].record.disks
    other = create(paused.images / f"{paused.guest.name}.x.qcow2", a.source)
    root = ET.fromstring(paused.guest.xml().replace(left, str(other)))
    for disk in root.iterfind("devices/disk"):
        for below in disk.findall("backingStore"):  # what libvirt has found out below the old one
            disk.remove(below)
    paused.guest.host.connection.defineXML(ET.tostring(root, encoding="unicode"))
    paused.write()
    before, beside = content(other), content(left)
    paused.start()
    plan = paused.delete("a")  # its image is below both
    assert plan.writes == (a.file,)
    assert any("qemu-img rebase" in line for line in plan.commands)
    assert content(left) == beside
    paused.delete("b")
    assert not os.path.lexists(left)
    assert paused.reads() == before


def test_an_active_job_stands_in_the_way(paused: Paused) -> None:
    paused.take("a", size="64k")
    plan = paused.guest.delete_snapshot("a")
    paused.guest.handle.domain.blockPull("vda", 1)  # 1 MiB/s
    try:
        for late in (plan, paused.guest.delete_snapshot("a")):
            with pytest.raises(PlanRefusedError, match="active-job"):
                late.run(progress=False)
        paused.guest.delete_snapshot("a", metadata_only=True)
    finally:
        paused.guest.handle.domain.blockJobAbort("vda")
    paused.delete("a")


def test_the_guest_itself_sees_its_files_all_the_time(lab: Lab, base: Image) -> None:
    guest = lab.guest("eyes", backing=base).start()
    guest.execute(
        "(while :; do n=$((n+1)); echo $n > /run/new; mv /run/new /run/beats; sleep 0.1; done) & echo $! > /run/heart"
    ).check()
    depth = len(guest.chain())
    for name in ("one", "two", "three"):
        guest.execute(f"echo {name} > /deleted-{name}; head -c 400000 /dev/urandom > /blob-{name}").check()
        guest.snapshot(f"eyes-{name}", kind="external-disk").run(progress=False)
    sums = guest.execute("cat /deleted-*; sha1sum /blob-*").stdout
    beats = int(guest.execute("cat /run/beats").stdout)
    assert guest.delete_snapshot("eyes-two").run(progress=False).as_predicted
    assert guest.delete_snapshot("eyes-three").run(progress=False).as_predicted
    assert guest.delete_snapshot("eyes-one").run(progress=False).as_predicted
    assert len(guest.chain()) == depth
    assert guest.execute("cat /deleted-*; sha1sum /blob-*").stdout == sums
    assert int(guest.execute("cat /run/beats; kill $(cat /run/heart)").stdout) > beats
    assert guest.snapshots().names == ()
    guest.destroy()
    guest.undefine()
