"""Going back to snapshots of guests that are off: what their disks hold then, and what stands in the way."""

from __future__ import annotations

import os
import re
import shlex
import threading
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from support import kinds
from support.commands import qemu_img, run
from support.content import region
from support.faulty import faulty, perform
from support.guests import attach, files
from support.images import write
from support.labs import start_paused

from vmsnap_nb.errors import NotFoundError, PlanRefusedError, StalePlanError, VmsnapError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.live.step_action import Action
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.revert.steps import RevertInside, TakeDefinition
from vmsnap_nb.plans.step import Step

pytestmark = pytest.mark.system


@pytest.fixture
def guest(lab: Lab, base: Image, request: pytest.FixtureRequest) -> Guest:
    """A guest that is off, with an overlay of its own."""
    number = abs(hash(request.node.nodeid)) % 10**9
    return lab.guest(f"rev{number}", backing=base)


def put(guest: Guest, pattern: int) -> None:
    """Write to every disk."""
    for disk in guest.domain().disks:
        write(Path(disk.source or ""), f"write -q -P {pattern} 128k 64k", format=disk.format or "raw")


def held(guest: Guest) -> dict[str, str]:
    """What each disk reads."""
    return {disk.target: region(disk.source or "", disk.format or "raw") for disk in guest.domain().disks}


def test_a_snapshot_with_the_name_of_the_id_of_another_is_not_mistaken_for_it(guest: Guest) -> None:
    image = Path(guest.chain().top)
    for pattern, name in ((1, "2"), (2, "1")):
        put(guest, pattern)
        qemu_img("snapshot", "-c", name, image)  # by hand: the IDs are 1 and 2
    guest.reconcile().run(progress=False)
    put(guest, 3)
    now = held(guest)
    for name, other in (("1", "2"), ("2", "1")):
        for keep in (True, False):
            plan = guest.revert(name, keep_current=keep)
            [concern] = [one for one in plan.concerns if one.name == "name-taken"]
            assert concern.what == (
                f"in {image}, snapshot {other} has the ID {name}: if asked for snapshot {name}, "
                f"QEMU would restore {other}"
            )
            with pytest.raises(PlanRefusedError):
                plan.run(progress=False)
    assert held(guest) == now
    # The remedies: what a copy holds, and what is there once the other is deleted.
    copy = image.with_name("copied.qcow2")
    [remedy] = [one.remedy for one in guest.revert("1").concerns if one.name == "name-taken"]
    command = shlex.split(str(remedy).rpartition(": ")[2].replace("NEW.qcow2", str(copy)))
    assert run(*command).returncode == 0
    guest.delete_snapshot("2").run(progress=False)
    guest.revert("1", keep_current=False).run(progress=False)
    assert region(copy) == held(guest)["vda"]
    copy.unlink()


def test_no_snapshot_is_taken_with_which_another_would_be_mistaken(guest: Guest) -> None:
    assert guest.snapshot("2", kind="internal-disk").run(progress=False).as_predicted
    put(guest, 1)
    for plan in (
        guest.snapshot("next", kind="internal-disk"),  # it gets the ID 2
        guest.snapshot("1", kind="internal-disk"),  # the ID of "2"
        guest.revert("2"),  # what is kept gets it as well
    ):
        concerns = [one for one in plan.concerns if one.name == "name-taken"]
        assert concerns
        assert all(one.level == "refuse" and one.remedy for one in concerns)
    assert not guest.snapshot("out", kind="external-disk").refused
    assert guest.revert("2", keep_current=False).run(progress=False).as_predicted
    assert guest.delete_snapshot("2").run(progress=False).as_predicted
    assert guest.snapshot("1", kind="internal-disk").run(progress=False).as_predicted  # that is its own ID


@pytest.mark.parametrize("kind", ["internal-disk", "external-disk"])
def test_all_disks_go_back_and_forth(guest: Guest, short: Path, kind: str) -> None:
    attach(guest, ("vdb", short / "more.qcow2", "qcow2", "disk"))
    put(guest, 1)
    then = held(guest)
    assert guest.snapshot("a", kind=kind).run(progress=False).as_predicted  # type: ignore[arg-type]
    put(guest, 2)
    later = held(guest)
    assert later != then
    report = guest.revert("a").run(progress=False)
    assert report.differences == ()
    assert held(guest) == then
    put(guest, 3)
    second = held(guest)
    assert guest.revert("kept1").run(progress=False).differences == ()
    assert held(guest) == later
    assert guest.revert("kept2").run(progress=False).differences == ()
    assert held(guest) == second
    assert {row.name: row.status for row in guest.snapshots()} == dict.fromkeys(["a", *KEPT], "ok")
    assert not list(Path(guest.chain().top).parent.glob(".vmsnap-revert*"))
    kinds.record(kind, "off", "revert", "works, in single steps" if kind[0] == "e" else "works")  # type: ignore[arg-type]


KEPT = ("kept1", "kept2", "kept3")


def test_a_disk_that_was_left_out_stays_as_it_is(guest: Guest, short: Path) -> None:
    attach(guest, ("vdb", short / "data.img", "raw", "disk"))
    guest.snapshot("a", disks={"vda": "external", "vdb": "no"}).run(progress=False)
    put(guest, 2)
    now = held(guest)
    plan = guest.revert("a")
    assert plan.run(progress=False).differences == ()
    assert held(guest)["vdb"] == now["vdb"]
    assert held(guest)["vda"] != now["vda"]
    assert guest.chain("vdb").top == str(short / "data.kept1.qcow2")


def test_the_image_of_a_disk_that_was_detached_is_not_overwritten(guest: Guest, short: Path) -> None:
    attach(guest, ("vdb", short / "more.qcow2", "qcow2", "disk"))
    with_both = guest.xml()
    put(guest, 1)
    guest.snapshot("a", kind="internal-disk").run(progress=False)
    put(guest, 2)
    now = held(guest)
    root = ET.fromstring(with_both)
    devices, [disk] = root.find("devices"), root.findall("devices/disk/target[@dev='vdb']/..")
    assert devices is not None
    devices.remove(disk)
    guest.host.connection.defineXML(ET.tostring(root, encoding="unicode"))
    plan = guest.revert("a")
    [concern] = [one for one in plan.concerns if one.level == "refuse"]
    assert concern.what == (
        f"the current content of {short}/more.qcow2 will be overwritten and lost, because the image is "
        f"not currently a disk of {guest.name}"
    )
    with pytest.raises(PlanRefusedError, match="state-lost"):
        plan.run(progress=False)
    guest.host.connection.defineXML(with_both)
    report = guest.revert("a").run(progress=False)
    assert report.as_predicted
    [kept] = [name for name in guest.snapshots().names if name != "a"]
    assert guest.revert(kept, keep_current=False).run(progress=False).as_predicted
    assert held(guest) == now


def test_a_guest_that_was_renamed(guest: Guest, short: Path) -> None:
    put(guest, 1)
    then = held(guest)
    guest.snapshot("disks", kind="external-disk").run(progress=False)
    start_paused(guest)
    guest.snapshot("memory", kind="external-checkpoint").run(progress=False)
    guest.destroy()
    put(guest, 2)
    old, new = guest.name, f"{guest.name}x"
    guest.handle.domain.rename(new)
    guest = guest.host.guest(new)
    for name in ("disks", "memory"):
        assert guest.revert(name, to="off").run(progress=False).as_predicted
        assert held(guest) == then
        assert guest.name == new
    plan = guest.revert("memory")
    [concern] = [one for one in plan.concerns if one.level == "refuse"]
    assert f"when {new} was named {old}" in concern.what
    assert f"virsh domrename {new} {old}" in str(concern.remedy)
    guest.handle.domain.rename(old)  # as the remedy says
    guest = guest.host.guest(old)
    assert guest.revert("memory").run(progress=False).as_predicted
    assert guest.state == "paused"
    # The same for memory alone.
    file = short / "memory"
    guest.save(file).run(progress=False)
    guest.handle.domain.rename(new)
    [concern] = [one for one in guest.host.guest(new).restore(file).concerns if one.level == "refuse"]
    assert f"virsh domrename {new} {old}" in str(concern.remedy)
    guest.handle.domain.rename(old)
    assert guest.restore(file).run(progress=False).as_predicted
    guest.destroy()


def test_two_branches_are_drawn_and_going_on_does_not_touch_the_other(guest: Guest) -> None:
    for name in ("a", "b"):
        guest.snapshot(name, kind="external-disk").run(progress=False)
        put(guest, ord(name))
    first = held(guest)
    plan = guest.revert("a")
    figure = plan.to_text()
    assert "before\n" in figure
    assert f"{guest.name}.a-2" in figure.split("after\n")[1]
    plan.run(progress=False)
    guest.snapshot("c", kind="external-disk").run(progress=False)
    put(guest, 9)
    tree = guest.snapshots()
    assert [tree[name].record.parent for name in ("b", "c", "kept1")] == ["a", "a", "b"]
    drawn = tree.to_text()
    assert drawn.count("<---") >= 2
    assert "you are here" in drawn
    assert len(guest.host.survey().children(tree["a"].record.held_disks[0].source or "")) == 2
    guest.revert("kept1").run(progress=False)
    assert held(guest) == first


def test_resetting_again_and_again_leaves_no_files(guest: Guest) -> None:
    put(guest, 1)
    then = held(guest)
    guest.snapshot("a", kind="external-disk").run(progress=False)
    seen = set()
    for number in range(2, 7):
        put(guest, number)
        plan = guest.revert("a", keep_current=False)
        assert [c.name for c in plan.concerns if c.level == "warn"] == ["state-lost"]
        assert plan.run(progress=False).differences == ()
        assert held(guest) == then
        seen.add(len(files(guest)))
    assert seen == {4}  # the image, the snapshot's overlay, one of a revert, the definition
    assert len(guest.snapshots()) == 1


def test_the_definition_of_then_comes_back(guest: Guest) -> None:
    guest.snapshot("a", kind="external-disk").run(progress=False)
    assert [c.level for c in guest.revert("a").concerns if c.name == "hardware-changed"] == []
    then, changed = guest.xml(), guest.xml().replace(">262144<", ">524288<")
    changed = re.sub("<clock offset='utc'(/>|>)", r"<clock offset='localtime'\1", changed)
    changed = changed.replace("</uuid>", "</uuid><description>mine</description>")
    guest.host.connection.defineXML(changed)
    plan = guest.revert("a")
    [warned] = [c for c in plan.concerns if c.level == "warn"]
    assert warned.name == "hardware-changed"
    assert warned.what.endswith(": memory, current memory, clock and description")
    assert plan.run(progress=False).differences == ()
    assert ">262144<" in guest.xml()
    assert ("<clock offset='utc'" in then, "<clock offset='utc'" in guest.xml()) == (True, True)


def test_passwords_of_the_definition_stay_and_are_not_shown(guest: Guest) -> None:
    root = ET.fromstring(guest.xml())
    ET.SubElement(root.find("devices"), "graphics", type="vnc", port="-1", passwd="geheim12")  # type: ignore[arg-type]
    guest.host.connection.defineXML(ET.tostring(root, encoding="unicode"))
    guest.snapshot("a", kind="external-disk").run(progress=False)
    plan = guest.revert("a")
    assert not any("geheim12" in line for line in plan.commands)
    assert plan.run(progress=False).differences == ()
    assert 'passwd="geheim12"' in guest.handle.domain.XMLDesc(1).replace("'", '"')
    record = guest.handle.domain.snapshotLookupByName("a").getXMLDesc(1)
    assert record.count("geheim12") >= 1


@pytest.mark.parametrize("to", ["paused", "running"])
def test_it_is_started_from_its_disks_where_that_is_asked_for(guest: Guest, to: str) -> None:
    guest.snapshot("a", kind="external-disk").run(progress=False)
    try:
        assert guest.revert("a", to=to).run(progress=False).differences == ()  # type: ignore[arg-type]
        assert guest.state == to
    finally:
        guest.destroy()


def test_two_at_once_from_two_threads(guest: Guest) -> None:
    guest.snapshot("a", kind="external-disk").run(progress=False)
    put(guest, 2)
    ends: list[object] = []

    def go(plan: LivePlan) -> None:
        try:
            ends.append(plan.run(progress=False).differences)
        except VmsnapError as error:
            ends.append(type(error))

    threads = [threading.Thread(target=go, args=[guest.revert("a")]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, ends)) == ["()", str(StalePlanError)]
    assert guest.unfinished() == ()
    assert {row.name: row.status for row in guest.snapshots()} == {"a": "ok", "kept1": "ok"}


# -- what stands in the way ------------------------------------------------------------------------------


def test_what_is_refused_changes_nothing(guest: Guest) -> None:
    with pytest.raises(NotFoundError, match="create one first"):
        guest.revert("a")
    guest.snapshot("inside").run(progress=False)
    guest.snapshot("a", kind="external-disk").run(progress=False)
    below = guest.snapshots()["a"].record.held_disks[0].source or ""
    before = files(guest)
    with pytest.raises(NotFoundError, match="available: inside, a"):
        guest.revert("b")
    with pytest.raises(PlanRefusedError, match="shared-base") as refused:
        guest.revert("inside").run(progress=False)
    assert "qemu-img convert" in (refused.value.next_step or "")
    os.rename(below, f"{below}.away")
    with pytest.raises(PlanRefusedError, match="missing-base"):
        guest.revert("a").run(progress=False)
    os.rename(f"{below}.away", below)
    assert files(guest) == before
    # Who removed an overlay by hand may have merged it into the image that holds the state.
    overlay = guest.chain().top
    guest.snapshot("b", kind="external-disk").run(progress=False)
    os.rename(overlay, f"{overlay}.away")
    assert guest.snapshots()["a"].status == "missing-file"
    plan = guest.revert("a", keep_current=False)
    [refusal] = [concern for concern in plan.concerns if concern.level == "refuse"]
    assert (refusal.name, refusal.waivable) == ("state-lost", True)
    assert plan.run(waive="state-lost", progress=False).as_predicted
    os.rename(f"{overlay}.away", overlay)


def test_why_an_internal_one_below_overlays_is_refused(guest: Guest) -> None:
    put(guest, 1)
    guest.snapshot("inside").run(progress=False)
    put(guest, 2)
    guest.snapshot("a", kind="external-disk").run(progress=False)
    overlay = guest.chain().top
    was = region(overlay)
    assert [c.name for c in guest.revert("inside").concerns if c.level == "refuse"] == ["shared-base"]
    # libvirt itself does it: what the overlay reads is another disk then, although nobody has written to it.
    guest.handle.domain.revertToSnapshot(guest.handle.domain.snapshotLookupByName("inside"))
    assert region(overlay) != was


def test_what_has_changed_since_makes_a_plan_stale(guest: Guest) -> None:
    for name, kind in (("a", "external-disk"), ("inside", "internal-disk")):
        guest.snapshot(name, kind=kind).run(progress=False)  # type: ignore[arg-type]
    outside, inside = guest.revert("a"), guest.revert("inside")
    guest.snapshot("b", kind="external-disk").run(progress=False)
    before = files(guest)
    for plan in (outside, inside):
        with pytest.raises(StalePlanError):
            plan.run(progress=False)
    [step] = [step for step in outside.steps if isinstance(step, TakeDefinition)]
    with pytest.raises(StalePlanError):
        perform(outside, step)
    [wrote] = [step for step in inside.steps if isinstance(step, RevertInside)]
    with pytest.raises(StalePlanError):
        perform(inside, replace(wrote, state="running"))
    assert files(guest) == before


def test_a_step_that_fails_leaves_what_was_there(guest: Guest) -> None:
    """An internal one as well: what was kept a moment before is what it goes back to."""
    attach_to = Path(guest.chain().top).parent
    put(guest, 1)
    guest.snapshot("a").run(progress=False)
    put(guest, 2)
    later, names = held(guest), [row.name for row in guest.snapshots()]
    plan = guest.revert("a")

    def fail(step: Step, perform: Action) -> NoReturn:
        raise OSError("no more")

    with pytest.raises(VmsnapError, match="no more"):
        faulty(plan, type(plan.steps[-1]), fail).run(progress=False)
    assert held(guest) == later
    assert [row.name for row in guest.snapshots()] == names
    assert guest.unfinished() == ()
    assert not list(attach_to.glob(".vmsnap-revert*"))
