"""Going back to snapshots of guests that are off: what their disks hold then; and what happens when it is cut short."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import kinds
import pytest
from labs import run_python
from merging import region, write
from small_disk import small_disk

from vmsnap_nb.errors import NotFoundError, PlanRefusedError, StalePlanError, VmsnapError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.revert_steps import RevertInside, TakeDefinition

pytestmark = pytest.mark.system


@pytest.fixture
def guest(lab: Lab, base: Image, request: pytest.FixtureRequest) -> Guest:
    """A guest that is off, with an overlay of its own."""
    number = abs(hash(request.node.nodeid)) % 10**9
    return lab.guest(f"rev{number}", backing=base)


def attach(guest: Guest, target: str, path: Path, format: str) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", format, str(path), "1M"], check=True)
    root = ET.fromstring(guest.xml())
    disk = ET.SubElement(root.find("devices"), "disk", type="file", device="disk")  # type: ignore[arg-type]
    ET.SubElement(disk, "driver", name="qemu", type=format)
    ET.SubElement(disk, "source", file=str(path))
    ET.SubElement(disk, "target", dev=target, bus="virtio")
    guest.host.connection.defineXML(ET.tostring(root, encoding="unicode"))


def put(guest: Guest, pattern: int) -> None:
    """Write to every disk."""
    for disk in guest.domain().disks:
        write(Path(disk.source or ""), f"write -q -P {pattern} 128k 64k", format=disk.format or "raw")


def held(guest: Guest) -> dict[str, str]:
    """What each disk reads."""
    return {disk.target: region(disk.source or "", disk.format or "raw") for disk in guest.domain().disks}


def files(guest: Guest) -> dict[str, bytes]:
    """All of the guest's own files, and its definition."""
    folder = Path(guest.chain().top).parent
    names = (*folder.glob(f"{guest.name}*"), *folder.glob(".vmsnap*"), *folder.glob(".*partial"))
    return {str(path): path.read_bytes() for path in sorted(names)} | {"xml": guest.xml().encode()}


@pytest.mark.parametrize("kind", ["internal-disk", "external-disk"])
def test_all_disks_go_back_and_forth(guest: Guest, short: Path, kind: str) -> None:
    attach(guest, "vdb", short / "more.qcow2", "qcow2")
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
    kinds.record(kind, "off", "revert", "works, by our steps" if kind[0] == "e" else "works")  # type: ignore[arg-type]


KEPT = ("kept1", "kept2", "kept3")


def test_a_disk_that_was_left_out_stays_as_it_is(guest: Guest, short: Path) -> None:
    attach(guest, "vdb", short / "data.img", "raw")
    guest.snapshot("a", disks={"vda": "external", "vdb": "no"}).run(progress=False)
    put(guest, 2)
    now = held(guest)
    plan = guest.revert("a")
    assert plan.run(progress=False).differences == ()
    assert held(guest)["vdb"] == now["vdb"]
    assert held(guest)["vda"] != now["vda"]
    assert guest.chain("vdb").top == str(short / "data.kept1.qcow2")


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
    guest.host.connection.defineXML(guest.xml().replace(">262144<", ">524288<"))
    plan = guest.revert("a")
    [warned] = [c for c in plan.concerns if c.level == "warn"]
    assert (warned.name, "memory" in warned.what) == ("hardware-changed", True)
    assert plan.run(progress=False).differences == ()
    assert ">262144<" in guest.xml()


def test_passwords_of_the_definition_stay_and_are_not_shown(guest: Guest) -> None:
    root = ET.fromstring(guest.xml())
    ET.SubElement(root.find("devices"), "graphics", type="vnc", port="-1", passwd="geheim12")  # type: ignore[arg-type]
    guest.host.connection.defineXML(ET.tostring(root, encoding="unicode"))
    guest.snapshot("a", kind="external-disk").run(progress=False)
    plan = guest.revert("a")
    assert not any("geheim12" in line for line in plan.commands)
    assert plan.run(progress=False).differences == ()
    assert 'passwd="geheim12"' in guest._domain.XMLDesc(1).replace("'", '"')
    record = guest._domain.snapshotLookupByName("a").getXMLDesc(1)
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
    with pytest.raises(NotFoundError, match="there is none yet"):
        guest.revert("a")
    guest.snapshot("inside").run(progress=False)
    guest.snapshot("a", kind="external-disk").run(progress=False)
    below = guest.snapshots()["a"].record.held_disks[0].source or ""
    before = files(guest)
    with pytest.raises(NotFoundError, match="there are: inside, a"):
        guest.revert("b")
    with pytest.raises(PlanRefusedError, match="shared-base") as refused:
        guest.revert("inside").run(progress=False)
    assert "qemu-img convert" in (refused.value.next_step or "")
    os.rename(below, f"{below}.away")
    with pytest.raises(PlanRefusedError, match="missing-base"):
        guest.revert("a").run(progress=False)
    os.rename(f"{below}.away", below)
    assert files(guest) == before
    # An overlay that was removed by hand says nothing about the state below it.
    overlay = guest.chain().top
    guest.snapshot("b", kind="external-disk").run(progress=False)
    os.rename(overlay, f"{overlay}.away")
    assert guest.snapshots()["a"].status == "missing-file"
    plan = guest.revert("a", keep_current=False)
    assert not plan.refused
    assert plan.run(progress=False).as_predicted
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
    guest._domain.revertToSnapshot(guest._domain.snapshotLookupByName("inside"))
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
        outside.world.actions[TakeDefinition](step)
    [wrote] = [step for step in inside.steps if isinstance(step, RevertInside)]
    with pytest.raises(StalePlanError):
        inside.world.actions[RevertInside](replace(wrote, state="running"))
    assert files(guest) == before


def test_a_step_that_fails_leaves_what_was_there(guest: Guest) -> None:
    """An internal one as well: what was kept a moment before is what it goes back to."""
    attach_to = Path(guest.chain().top).parent
    put(guest, 1)
    guest.snapshot("a").run(progress=False)
    put(guest, 2)
    later, names = held(guest), [row.name for row in guest.snapshots()]
    plan = guest.revert("a")

    def fail(step: object) -> None:
        raise OSError("no more")

    last = type(plan.steps[-1])
    actions = {**plan.world.actions, last: fail}
    broken = replace(plan, world=replace(plan.world, actions=actions))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="no more"):
        broken.run(progress=False)
    assert held(guest) == later
    assert [row.name for row in guest.snapshots()] == names
    assert guest.unfinished() == ()
    assert not list(attach_to.glob(".vmsnap-revert*"))


def test_a_disk_that_fills_up_in_the_middle(short: Path) -> None:
    with small_disk(short / "small", "1m"):
        done = run_python(
            """
            import shutil
            from vmsnap_nb.plans.snapshot_steps import TakeSnapshot
            small = Path(sys.argv[1]) / "small"
            with vs.Lab(Path(sys.argv[1]) / "l") as lab:
                guest = lab.guest("demo", backing=lab.base("RootBase"))
                guest.snapshot("a", kind="external-disk", disks={"vda": small / "x.qcow2"}).run(progress=False)
                before, names = guest.xml(), sorted(os.listdir(small))
                plan = guest.revert("a")
                filler = small / "filler"
                take = plan.world.actions[TakeSnapshot]

                def take_and_fill(step):
                    undo = take(step)
                    filler.write_bytes(b"x" * shutil.disk_usage(small).free)
                    return undo

                plan.world.actions[TakeSnapshot] = take_and_fill
                try:
                    plan.run(progress=False)
                except errors.NoSpaceError as error:
                    print("NoSpaceError", bool(error.said), bool(error.next_step))
                print(sorted(set(os.listdir(small)) - set(names)), guest.xml() == before, guest.snapshots().names)
                plan.world.actions[TakeSnapshot] = take
                try:
                    plan.run(progress=False)
                except errors.PlanRefusedError as error:
                    print([c.name for c in error.concerns])
                filler.unlink()
                print(plan.run(progress=False).as_predicted, guest.unfinished())
                lab.destroy()
            """,
            short,
        )
    assert done.stdout.splitlines() == [
        "NoSpaceError True True",
        "['filler'] True ('a',)",
        "['no-space']",
        "True ()",
    ], done.stderr


# -- cut short -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "after", "keep"),
    [
        ("external-disk", "CreateOverlay", True),
        ("external-disk", "TakeDefinition", True),
        ("external-disk", "DiscardOverlays", False),
        ("internal-disk", "TakeSnapshot", True),
        ("internal-disk", "RevertInside", True),
    ],
)
def test_killed_in_the_middle_and_the_next_read_finishes_it(short: Path, kind: str, after: str, keep: bool) -> None:
    killed = run_python(
        """
        from merging import region, write
        lab = vs.Lab(sys.argv[1])
        guest = lab.guest("demo", backing=lab.base("RootBase"))
        kind, after, keep = sys.argv[2:]
        write(Path(guest.chain().top), "write -q -P 1 128k 64k")
        print(region(guest.chain().top), flush=True)
        guest.snapshot("a", kind=kind).run(progress=False)
        write(Path(guest.chain().top), "write -q -P 2 128k 64k")
        print(region(guest.chain().top), flush=True)
        plan = guest.revert("a", keep_current=keep == "True")
        [which] = {type(step) for step in plan.steps if type(step).__name__ == after}
        act = plan.world.actions[which]

        def act_and_die(step):
            act(step)
            os.kill(os.getpid(), signal.SIGKILL)

        plan.world.actions[which] = act_and_die
        plan.run(progress=False)
        """,
        short / "l",
        kind,
        after,
        keep,
        env={"VMSNAP_ACCEL": "tcg"},
        path=(str(Path(__file__).parent), str(Path(__file__).parent.parent)),
    )
    assert killed.returncode == -9, killed.stderr
    then, later = killed.stdout.splitlines()
    finished = run_python(
        """
        from merging import region
        with vs.Lab(sys.argv[1]) as lab:
            guest = lab.guest("demo")
            [plan] = guest.unfinished()
            print("it goes back to a, or that was cut short" in guest.snapshots().to_text())
            print(plan.title, plan.refused)
            print(plan.run(progress=False).differences)
            print(region(guest.chain().top))
            print(guest.unfinished(), {row.status for row in guest.snapshots()}, guest.snapshots().current.name)
            if "kept1" in guest.snapshots():
                print(guest.revert("kept1", keep_current=False).run(progress=False).differences)
                print(region(guest.chain().top))
            print(lab.destroy())
        """,
        short / "l",
        env={"VMSNAP_ACCEL": "tcg"},
        path=(str(Path(__file__).parent), str(Path(__file__).parent.parent)),
    )
    kept = ["()", later] if keep else []
    assert finished.stdout.splitlines() == [
        "True",
        "revert demo to a False",
        "()",
        then,
        "() {'ok'} a",
        *kept,
        "()",
    ], finished.stderr


def test_the_commands_do_the_same_by_hand(short: Path) -> None:
    """The lines of a plan, pasted into a shell, leave what the plan has predicted."""
    look = """
        import json
        root, what = sys.argv[1:]
        lab = vs.Lab(root, keep=True)
        guest = lab.guest("demo", backing=lab.base("RootBase"))

        def told(forest):
            images = sorted(
                (i.path, i.format, i.backing and i.backing.key, [s.name for s in i.snapshots]) for i in forest
            )
            uses = sorted((u.guest, u.target, u.path) for u in forest.uses)
            records = sorted((r.name, r.parent, r.current, r.kind, r.files) for r in forest.records)
            return json.loads(json.dumps([images, uses, records]))

        if what == "snapshots":
            for name, kind in (("a", "external-disk"), ("b", "external-disk"), ("c", "internal-disk")):
                guest.snapshot(name, kind=kind).run(progress=False)
        elif what == "end":
            lab.destroy()
        else:
            name, keep = what.split()
            plan = guest.revert(name, keep_current=keep == "keep")
            print(json.dumps([plan.commands, told(plan.after), told(plan.before)]))
    """
    fast = {"VMSNAP_ACCEL": "tcg"}

    def ask(what: str) -> list[object]:
        done = run_python(look, short / "l", what, env=fast)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else []

    ask("snapshots")
    for what in ("c keep", "a keep", "b lose", "kept2 lose"):
        lines, predicted, _ = ask(what)
        assert isinstance(lines, list)
        by_hand = subprocess.run(
            ["sh", "-e"], input="\n".join(lines), capture_output=True, text=True, timeout=60, check=False
        )
        assert by_hand.returncode == 0, by_hand.stderr
        _, _, found = ask("a keep")
        assert found == predicted, what
    ask("end")
