"""Snapshots of guests that are off, deleted: what stays reads the same, with qemu-img's own eyes."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from support.commands import run
from support.content import content
from support.faulty import perform
from support.guests import discard
from support.images import MIB, create, write
from support.kinds import record

from vmsnap_nb.errors import InvalidRequestError, NotFoundError, PlanRefusedError, StalePlanError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.plans.delete.steps import DeleteInternal, DropInside
from vmsnap_nb.plans.revert.steps import RevertInside
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.system

_NUMBER = itertools.count()


class Off:
    """A guest that is off, on a small disk of its own on a base; each snapshot is followed by a write of its own."""

    def __init__(self, lab: Lab, folder: Path, name: str) -> None:
        self.folder = folder
        self.base = create(folder / "Base.qcow2", size=64 * MIB)
        write(self.base, "write -q -P 100 0 8M")
        self.guest = lab.guest(name, backing=self.base, boot="disk", protect=False)
        self.images = Path(self.guest.chain().top).parent
        self.own = self.top
        self.write(9)

    @property
    def top(self) -> str:
        return self.guest.chain().top

    @property
    def names(self) -> list[str]:
        return [image.name.removeprefix(f"{self.guest.name}.") for image in self.guest.chain()]

    @property
    def statuses(self) -> dict[str, str]:
        return {row.name: row.status for row in self.guest.snapshots()}

    def write(self, number: int, size: str = "512k") -> None:
        """Write where no other does, and over a part of what the one before wrote."""
        write(Path(self.top), f"write -q -P {number} {number}M {size}", f"write -q -P {number} {number * 64}k 100k")

    def take(self, *names: str, kind: str = "external-disk", size: str = "512k") -> None:
        for name in names:
            assert self.guest.snapshot(name, kind=kind).run(progress=False).as_predicted  # type: ignore[arg-type]
            self.write(10 + ord(name[0]) % 32, size)

    def states(self) -> dict[str, str]:
        """What each snapshot's disk holds, and the guest's own."""
        found = {"now": content(self.top)}
        for row in self.guest.snapshots():
            if row.status == "ok":
                [disk] = row.record.held_disks
                inside = row.name if disk.held == "internal" else None
                found[row.name] = content(disk.source or "", snapshot=inside)
        return found

    def delete(self, name: str, **options: object) -> LivePlan:
        """Delete it; what the others hold must be what it was."""
        plan = self.guest.delete_snapshot(name, **options)  # type: ignore[arg-type]
        before = self.states()
        report = plan.run(progress=False)
        assert report.as_predicted, report.differences
        after = self.states()
        assert after == {key: state for key, state in before.items() if key in after}
        assert set(self.statuses.values()) <= {"ok"}
        assert not any(os.path.lexists(path) for path in plan.unlinks)
        assert [*self.folder.glob(".vmsnap*"), *self.images.glob(".vmsnap*")] == []
        return plan


@pytest.fixture
def off(lab: Lab, short: Path) -> Iterator[Off]:
    one = Off(lab, short, f"gone{next(_NUMBER)}")
    yield one
    discard(one.guest)


def test_an_internal_one_goes_and_its_child_gets_its_parent(off: Off) -> None:
    off.take("a", "b", "c", kind="internal-disk")
    size = os.stat(off.top).st_size
    plan = off.delete("b")
    assert plan.writes == (off.top,)
    assert plan.unlinks == ()
    assert off.statuses == {"a": "ok", "c": "ok"}
    assert off.guest.snapshots()["c"].record.parent == "a"
    off.delete("c")
    assert off.guest.snapshots().current is not None
    assert off.guest.snapshots().current.name == "a"  # type: ignore[union-attr]
    off.delete("a")
    assert len(off.guest.snapshots()) == 0
    assert [inside.name for inside in off.guest.chain()[-1].snapshots] == []
    assert os.stat(off.top).st_size >= size > 0  # qcow2 keeps its length, and uses the room again
    record("internal-disk", "off", "delete", "works, in single steps")


def test_another_one_of_the_same_name_is_neither_deleted_nor_reverted_to(off: Off) -> None:
    """Another client can have replaced it, before the run or while it goes on."""
    off.take("a", kind="internal-disk")
    plans = off.guest.delete_snapshot("a"), off.guest.revert("a")
    off.guest.handle.domain.snapshotLookupByName("a").delete()
    off.write(30)
    off.guest.handle.domain.snapshotCreateXML("<domainsnapshot><name>a</name></domainsnapshot>", 0)
    for plan in plans:
        with pytest.raises(StalePlanError, match="was deleted and created again"):
            plan.run(progress=False)
    run("qemu-img", "snapshot", "-c", "u", off.top)
    guest = off.guest
    for plan in (guest.delete_snapshot("a"), guest.revert("a", keep_current=False), guest.delete_snapshot("u")):
        (step,) = (one for one in plan.steps if isinstance(one, DeleteInternal | RevertInside | DropInside))
        assert step.created is not None
        with pytest.raises(StalePlanError, match="was deleted and created again"):
            plan.place.actions[type(step)](replace(step, created=step.created - timedelta(seconds=1)))
    assert {row.name for row in off.guest.snapshots()} == {"a", "u"}


def test_an_internal_one_that_libvirt_does_not_know(off: Off) -> None:
    off.take("a", kind="internal-disk")
    run("qemu-img", "snapshot", "-c", "wild", off.top)
    assert off.statuses == {"a": "ok", "wild": "untracked"}
    with pytest.raises(InvalidRequestError, match="no record"):
        off.guest.delete_snapshot("wild", metadata_only=True)
    off.delete("wild")
    assert off.statuses == {"a": "ok"}
    # And one whose part inside the image is gone: only the record is left to forget.
    run("qemu-img", "snapshot", "-d", "a", off.top)
    plan = off.guest.delete_snapshot("a")
    assert [step.action for step in plan.steps] == ["remove record"]
    assert plan.run(progress=False).as_predicted


def test_an_external_one_in_the_middle_goes_down(off: Off) -> None:
    off.take("a")
    off.take("b", size="64k")
    off.take("c")
    assert off.names == ["Base", off.guest.name, "a", "b", "c"]
    before = off.guest.snapshots()
    a, b = (before[name].record.disks[0].file for name in "ab")
    plan = off.delete("b")
    chosen = [(way.what.partition(" ")[0], way.chosen) for way in plan.alternatives]
    assert chosen == [("commit", True), ("pull", False)]
    assert plan.alternatives[0].size < plan.alternatives[1].size  # type: ignore[operator]
    assert (plan.writes[0], plan.unlinks) == (a, (b,))
    assert off.names == ["Base", off.guest.name, "a", "c"]
    after = off.guest.snapshots()
    assert (after["c"].record.parent, after["c"].record.disks[0].source) == ("a", a)
    record("external-disk", "off", "delete", "works, in single steps")


def test_an_external_one_in_the_middle_goes_up(off: Off) -> None:
    off.take("a", size="64k")
    off.take("b", "c")
    before = off.guest.snapshots()
    a, b = (before[name].record.disks[0].file for name in "ab")
    plan = off.delete("b")
    chosen = [(way.what.partition(" ")[0], way.chosen) for way in plan.alternatives]
    assert chosen == [("pull", True), ("commit", False)]
    assert (plan.writes, plan.unlinks) == ((b,), (a,))
    assert off.names == ["Base", off.guest.name, "b", "c"]
    assert off.guest.snapshots()["a"].record.disks[0].file == b  # where everything goes since then


def test_the_first_and_the_current_one_are_merged_down(off: Off) -> None:
    off.take("a", "b")
    off.take("c", size="64k")
    plan = off.delete("c")  # its overlay is the guest's disk
    assert any("dumpxml" in line and "define" in line for line in plan.commands)
    assert off.names == ["Base", off.guest.name, "a", "b"]
    assert off.guest.snapshots().current.name == "b"  # type: ignore[union-attr]
    off.delete("a")
    assert off.guest.snapshots()["b"].record.parent is None
    off.delete("b")
    assert len(off.guest.snapshots()) == 0
    assert off.names == ["Base", off.guest.name]


@pytest.mark.parametrize("children", ["also", "only"])
def test_with_children_all_are_merged_at_once(off: Off, children: str) -> None:
    off.take("a", "b", "c", "d", size="128k")
    plan = off.delete("b", children=children)
    assert sum(step.action in ("commit", "pull") for step in plan.steps) == 1
    assert set(off.statuses) == ({"a"} if children == "also" else {"a", "b"})
    assert len(off.names) == (3 if children == "also" else 4)


def test_internal_ones_in_an_overlay_stand_in_the_way_of_its_merge(off: Off) -> None:
    off.take("a", kind="internal-disk")
    off.take("b", size="64k")
    off.take("c", kind="internal-disk")
    off.take("d", size="64k")
    refused = off.guest.delete_snapshot("b")
    with pytest.raises(PlanRefusedError, match=r"the internal snapshot c of .* would"):
        refused.run(progress=False)
    off.delete("d")
    off.delete("a")  # inside the image below
    off.take("e", kind="internal-disk")
    off.delete("b", children="also")  # c and e are inside the overlay that is merged away
    assert off.statuses == {}
    assert len(off.names) == 2
    assert [inside.name for layer in off.guest.chain() for inside in layer.snapshots] == []


def test_an_internal_one_below_keeps_its_image(off: Off) -> None:
    """Up would copy less, but the guest could not go back to what lies inside the image then."""
    off.take("a", kind="internal-disk")
    off.take("b", size="4M")
    plan = off.delete("b")
    assert [way.refused != "" for way in plan.alternatives if not way.chosen] == [True]
    assert off.names == ["Base", off.guest.name]
    assert off.statuses == {"a": "ok"}


def branch(off: Off, name: str, suffix: str) -> str:
    """Go back to a snapshot by hand, as the handout says: a new overlay on its image, and the guest pointed at it."""
    [disk] = off.guest.snapshots()[name].record.disks
    path = create(off.images / f"{off.guest.name}.{suffix}.qcow2", disk.source)
    off.guest.host.connection.defineXML(off.guest.xml().replace(off.top, str(path)))
    off.write(40 + ord(suffix[0]) % 16)
    return str(path)


def test_what_two_branches_stand_on_is_not_written_to(off: Off) -> None:
    off.take("a", "b")
    left = off.top
    branch(off, "a", "x")
    off.take("y")
    assert off.guest.snapshots()["y"].record.parent == "b"  # libvirt was told nothing of going back
    # Two overlays stand on the image of a: nothing may be written to it, and it must stay.
    [a] = off.guest.snapshots()["a"].record.disks
    with_content = content(a.file or ""), content(left)
    plan = off.delete("a")
    assert [way.what.partition(" ")[0] for way in plan.alternatives if way.chosen] == ["pull"]
    assert any(c.name == "shared-base" and "is kept" in c.what for c in plan.concerns)
    assert plan.writes == (a.file,)
    assert plan.unlinks == ()
    assert (content(a.file or ""), content(left)) == with_content
    assert off.names == ["Base", off.guest.name, "x", "y"]
    # Nobody reads the overlay of b any more: it goes, and says so.
    plan = off.delete("b")
    assert [c.level for c in plan.concerns if c.name == "state-lost"] == ["warn"]
    assert plan.unlinks == (left,)
    off.delete("y")
    assert off.names[:3] == ["Base", off.guest.name, "x"]


def test_what_others_stand_on_is_never_written(off: Off, lab: Lab) -> None:
    off.take("a", size="64k")
    state = off.guest.chain()[-2].path
    clone = create(off.folder / "clone.qcow2", state)
    before = content(clone), Path(state).read_bytes()
    plan = off.delete("a")
    refused = next(way for way in plan.alternatives if not way.chosen)
    assert (refused.what[:6], "also depends on" in refused.refused) == ("commit", True)
    assert (content(clone), Path(state).read_bytes()) == before
    assert off.names == ["Base", "a"]
    # An overlay that stands on the overlay goes with it.
    off.take("b", size="64k")
    other = create(off.folder / "other.qcow2", off.top)
    was = content(other)
    off.delete("b")
    assert content(other) == was


def test_metadata_alone_is_deleted_without_a_touch_of_a_file(off: Off) -> None:
    off.take("a", kind="internal-disk")
    off.take("b", "c")
    files = {path: path.read_bytes() for path in off.images.glob(f"{off.guest.name}*")}
    plan = off.delete("b", metadata_only=True)
    assert "No file is modified" in plan.way
    assert off.statuses == {"a": "ok", "c": "ok"}
    plan = off.guest.delete_snapshot("a", metadata_only=True, children="only")
    assert plan.run(progress=False).as_predicted
    assert off.statuses == {"a": "ok"}
    assert {path: path.read_bytes() for path in off.images.glob(f"{off.guest.name}*")} == files


def test_each_of_several_disks_is_merged(off: Off, short: Path) -> None:
    second = create(short / "second.qcow2", size=16 * MIB)
    xml = off.guest.xml().replace(
        "</disk>",
        f"</disk><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{second}'/>"
        "<target dev='vdb' bus='virtio'/></disk>",
        1,
    )
    off.guest.host.connection.defineXML(xml)
    for name in "ab":
        off.guest.snapshot(name, kind="external-disk").run(progress=False)
        off.write(20 + ord(name) % 8, "64k")
        write(Path(off.guest.chain("vdb").top), f"write -q -P {ord(name)} {ord(name) % 8}M 64k")
    before = content(off.top), content(off.guest.chain("vdb").top)
    report = off.guest.delete_snapshot("a").run(progress=False)
    assert report.as_predicted, report.differences
    assert (content(off.top), content(off.guest.chain("vdb").top)) == before
    assert (len(off.guest.chain("vda")), len(off.guest.chain("vdb"))) == (3, 2)
    assert off.statuses == {"b": "ok"}
    plan = off.guest.delete_snapshot("b")
    actions = [step.action for step in plan.steps]
    assert actions.index("remove record") > max(n for n, a in enumerate(actions) if a in ("commit", "pull"))
    assert plan.run(progress=False).as_predicted
    assert (content(off.top), content(off.guest.chain("vdb").top)) == before


def test_passwords_stay_in_records_and_are_not_shown(off: Off) -> None:
    graphics = "<graphics type='vnc' port='-1' autoport='yes' passwd='s3cret'/></devices>"
    off.guest.host.connection.defineXML(off.guest.xml().replace("</devices>", graphics))
    off.take("a", "b", "c", size="64k")
    plan = off.guest.delete_snapshot("b")
    assert any(step.action == "write record" for step in plan.steps)
    assert "s3cret" not in "".join(plan.commands)
    assert plan.run(progress=False).as_predicted
    secure = library().VIR_DOMAIN_SNAPSHOT_XML_SECURE
    for name in ("a", "c"):
        assert "passwd='s3cret'" in off.guest.handle.domain.snapshotLookupByName(name).getXMLDesc(secure)


# -- what goes wrong ---------------------------------------------------------------------------------------


def test_what_cannot_be_meant(off: Off) -> None:
    off.take("a", size="64k")
    with pytest.raises(NotFoundError, match="available: a"):
        off.guest.delete_snapshot("b")
    with pytest.raises(InvalidRequestError, match="snapshot a has no children"):
        off.guest.delete_snapshot("a", children="only")
    with pytest.raises(InvalidRequestError, match="children must be False, 'also' or 'only'"):
        off.guest.delete_snapshot("a", children=True)  # type: ignore[arg-type]


def test_a_plan_is_stale_once_a_snapshot_came(off: Off) -> None:
    off.take("a", size="64k")
    plan = off.guest.delete_snapshot("a")
    off.take("b", size="64k")
    with pytest.raises(StalePlanError, match="now has a snapshot named b"):
        plan.run(progress=False)
    assert off.statuses == {"a": "ok", "b": "ok"}


def test_a_file_that_was_removed_by_hand(off: Off) -> None:
    off.take("a", size="64k")
    old, overlay = off.guest.chain()[-2].path, off.top
    off.guest.host.connection.defineXML(off.guest.xml().replace(overlay, old))
    os.unlink(overlay)
    assert off.statuses == {"a": "missing-file"}
    plan = off.guest.delete_snapshot("a")
    assert [step.action for step in plan.steps] == ["remove record"]
    assert "does not exist" in plan.way
    assert plan.run(progress=False).as_predicted
    # And in the middle of a chain: there is nothing to merge, and somebody stands on it.
    off.take("b", "c", size="64k")
    middle = off.guest.chain()[-2].path
    os.rename(middle, f"{middle}.away")
    refused = off.guest.delete_snapshot("b")
    with pytest.raises(PlanRefusedError, match="missing-base"):
        refused.run(progress=False)
    os.rename(f"{middle}.away", middle)
    off.delete("b")


def test_a_pull_that_was_cut_short_is_ended_by_the_same_deletion(off: Off) -> None:
    off.take("a", size="64k")
    off.take("b", "c")
    plan = off.guest.delete_snapshot("b")
    pull = next(step for step in plan.steps if step.action == "pull")
    perform(plan, pull)
    assert off.statuses["b"] == "stale"
    again = off.delete("b")
    assert again.unlinks == plan.unlinks
    assert [step.action for step in again.steps] == ["write record", "remove", "remove record"]
    assert off.guest.snapshots()["a"].record.disks[0].file == plan.writes[0]


def test_a_merge_in_another_branch_that_was_cut_short_is_known_to_the_guest(off: Off) -> None:
    off.take("a")
    off.take("b", "c", size="64k")
    left = content(off.top)
    branch(off, "a", "x")
    plan = off.guest.delete_snapshot("b")
    commit = next(step for step in plan.steps if step.action == "commit")
    perform(plan, commit)
    [rest] = off.guest.unfinished()
    assert rest.run(progress=False).as_predicted
    assert off.guest.unfinished() == ()
    assert off.statuses == {"a": "ok", "c": "ok"}
    [c] = off.guest.snapshots()["c"].record.disks
    assert content(c.file or "") == left


def test_an_image_that_a_process_holds(off: Off) -> None:
    off.take("a", kind="internal-disk")
    off.take("b", size="64k")
    with subprocess.Popen(["qemu-io", "-f", "qcow2", off.top], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.read(1)  # its prompt: the image is open
        for name in "ab":
            with pytest.raises(PlanRefusedError, match="in-use"):
                off.guest.delete_snapshot(name).run(progress=False)
        other.kill()
    off.delete("b")
