"""What QEMU holds otherwise than libvirt says: which concerns there are, and which plans help."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import forest, image
from support.readings import reading

from vmsnap_nb.model.blockmap import Extent, LayerMap
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain, State, Use
from vmsnap_nb.model.image import Image, InternalSnapshot
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.checks.open_images import held_concerns, interrupted_snapshots
from vmsnap_nb.plans.facts import FolderFacts
from vmsnap_nb.plans.journal import FileFact, SnapshotEntry, Switch
from vmsnap_nb.plans.merge.finish_snapshot import FinishSnapshotRequest
from vmsnap_nb.plans.merge.held_layers import CorrectRequest, SaveDeletedRequest, held_requests
from vmsnap_nb.plans.merge.steps import RemoveFile, SetSource
from vmsnap_nb.plans.request import Reading

SWITCH = Switch(target="vda", source="/i/old.qcow2", file="/i/new.qcow2")
ENTRY = SnapshotEntry(guest="demo", uuid="u", name="s", disks=(SWITCH,))
DATA = {"/i/new.qcow2": LayerMap("/i/new.qcow2", 1 << 20, (Extent(0, 65536),))}


def images(use: Use) -> Forest:
    return forest(image("base.qcow2"), image("old.qcow2", "base.qcow2"), image("new.qcow2", "old.qcow2"), uses=(use,))


def now(state: State, use: Use, **facts: object) -> Reading:
    domain = Domain("demo", "u", state, disks=(Disk("vda", "/i/old.qcow2", "qcow2"),))
    return reading(images(use), domain, **facts)


OTHER = Use("demo", "vda", "/i/new.qcow2", "running", named="/i/old.qcow2", next="/i/old.qcow2")
DELETED = Use("demo", "vda", "/i/new.qcow2", "running", deleted=("/i/new.qcow2",))
OFF = Use("demo", "vda", "/i/old.qcow2")


def test_the_definition_of_another_image_is_corrected() -> None:
    [concern] = held_concerns(images(OTHER), "demo")
    assert (concern.name, concern.level) == ("other-image", "refuse")
    assert "After a shutdown" in concern.what
    [request] = held_requests(now("running", OTHER))
    assert isinstance(request, CorrectRequest)
    plan = request.plan(now("running", OTHER))
    [step] = plan.steps
    assert isinstance(step, SetSource)
    assert (step.before, step.path) == ("/i/old.qcow2", "/i/new.qcow2")
    [use] = plan.after.uses
    assert list(held_requests(now("running", use))) == []
    assert "a shutdown loses no data" in next(held_concerns(plan.after, "demo")).what
    assert not list(held_concerns(images(OTHER), "another"))


def test_what_is_deleted_is_saved() -> None:
    [concern] = held_concerns(images(DELETED), "demo")
    assert concern.name == "deleted-image"
    assert [type(request) for request in held_requests(now("running", DELETED))] == [SaveDeletedRequest]
    all_of_it = replace(DELETED, deleted=("/i/new.qcow2", "/i/old.qcow2", "/i/base.qcow2"))
    assert list(held_requests(now("running", all_of_it))) == []


def test_an_interrupted_snapshot_keeps_a_guest_from_its_start() -> None:
    at = now("shut off", OFF, entries=(ENTRY,), maps=DATA)
    assert [concern.name for concern in interrupted_snapshots(at)] == ["other-image"]
    [request] = held_requests(at)
    assert isinstance(request, FinishSnapshotRequest)
    assert [step.action for step in request.plan(at).steps] == ["set disk", "finish"]


@pytest.mark.parametrize(
    "at",
    [
        now("shut off", OFF, entries=(ENTRY,), maps={"/i/new.qcow2": LayerMap("/i/new.qcow2", 1 << 20)}),
        now("shut off", OFF, entries=(replace(ENTRY, disks=(replace(SWITCH, file="/i/base.qcow2"),)),), maps=DATA),
        now("shut off", OFF, entries=(replace(ENTRY, disks=(replace(SWITCH, file="/i/other"),)),), maps=DATA),
    ],
    ids=["nothing is written", "not an overlay of it", "not there"],
)
def test_an_entry_of_which_only_the_note_is_left(at: Reading) -> None:
    assert list(interrupted_snapshots(at)) == []
    [request] = held_requests(at)
    assert [step.action for step in request.plan(at).steps] == ["finish"]


@pytest.mark.parametrize("state", ["running", "shut off"])
def test_a_guest_was_started_without_what_an_interrupted_snapshot_has_left(state: State) -> None:
    """By virsh, on the old image; or with another image, or without that disk."""
    disk = SWITCH if state == "running" else replace(SWITCH, target="vdb")
    at = now(state, replace(OFF, state=state), entries=(replace(ENTRY, disks=(disk,)),), maps=DATA)
    [request] = held_requests(at)
    plan = request.plan(at)
    [concern] = plan.concerns
    assert (concern.name, concern.level, concern.waivable) == ("disk-changed", "refuse", True)
    assert "/i/new.qcow2 holds 64 KiB" in concern.what
    assert ("used /i/old.qcow2 without that overlay" in concern.what) == (state == "running")
    assert [step.action for step in plan.steps] == ["finish"]
    [unread] = request.plan(replace(at, maps={})).concerns
    assert "could not be read" in unread.what
    empty = {"/i/new.qcow2": LayerMap("/i/new.qcow2", 1 << 20)}
    assert request.plan(replace(at, maps=empty)).concerns == ()


def test_an_entry_of_another_guest() -> None:
    assert (
        list(held_requests(now("shut off", OFF, entries=(replace(ENTRY, guest="web", uuid="other"),), maps=DATA))) == []
    )


@pytest.mark.parametrize(("below", "above", "refused"), [(2, 1, True), (1, 2, False), (None, 2, True)])
def test_both_may_be_the_newest(below: int | None, above: int, refused: bool) -> None:
    at = now("shut off", OFF, entries=(ENTRY,), maps=DATA)
    put = [replace(at.forest["/i/old.qcow2"], mtime_ns=below), replace(at.forest["/i/new.qcow2"], mtime_ns=above)]
    at = replace(at, forest=at.forest.edited(put=put))
    concerns = FinishSnapshotRequest(guest="demo", entry=ENTRY).plan(at).concerns
    assert [concern.name for concern in concerns] == (["disk-changed"] if refused else [])


@pytest.mark.parametrize(("written", "refused"), [(5, False), (95, False), (50, True)])
def test_a_clock_that_was_set_back_hides_no_start_on_the_image_below(written: int, *, refused: bool) -> None:
    """The snapshot began at 100, and the image was last written at 5 then."""
    fact = FileFact(path="/i/old.qcow2", device=1, inode=2, size=3, mtime_ns=5 * 10**9)
    entry = replace(ENTRY, files=(fact,))
    at = now("shut off", OFF, entries=(entry,), maps=DATA, times={entry.path: 100 * 10**9})
    times = {"/i/old.qcow2": written * 10**9, "/i/new.qcow2": 200 * 10**9}
    put = [replace(at.forest[path], mtime_ns=time) for path, time in times.items()]
    request = FinishSnapshotRequest(guest="demo", entry=entry)
    assert entry.path in request.needs(at.forest).times
    concerns = request.plan(replace(at, forest=at.forest.edited(put=put))).concerns
    assert [concern.name for concern in concerns] == ["disk-changed"] * refused


@pytest.mark.parametrize(("later", "corrected"), [("/i/old.qcow2", True), ("/i/new.qcow2", False), ("/i/other", False)])
def test_the_next_start_is_from_the_overlay_of_an_interrupted_snapshot(later: str, corrected: bool) -> None:
    use = Use("demo", "vda", "/i/new.qcow2", "running")
    domain = Domain("demo", "u", "running", disks=(Disk("vda", "/i/new.qcow2", "qcow2"),))
    disk = f"<domain><devices><disk><source file='{later}'/><target dev='vda'/></disk></devices></domain>"
    at = reading(images(use), domain, entries=(ENTRY,), definition=disk)
    [request] = held_requests(at)
    steps = [step for step in request.plan(at).steps if isinstance(step, SetSource)]
    assert [(step.before, step.path) for step in steps] == [("/i/old.qcow2", "/i/new.qcow2")] * corrected


def left(put: Image | None = None, state: State = "shut off", **facts: object) -> list[tuple[str, object]]:
    """What is removed of an overlay that was made, and of memory, before the snapshot was interrupted."""
    entry = replace(ENTRY, made=("/i/new.qcow2", "/i/s.mem"))
    empty = {"/i/new.qcow2": LayerMap("/i/new.qcow2", 1 << 20)}
    use = facts.pop("use", OFF)
    records = facts.pop("records", ())
    assert isinstance(use, Use)
    at = now(state, OFF, **{"entries": (entry,), "maps": empty, **facts})
    new = image("new.qcow2", "old.qcow2", identity=(1, 3))
    tree = at.forest.edited(put=[new] if put is None else [new, put], uses=(OFF, use), records=records)  # type: ignore[arg-type]
    plan = FinishSnapshotRequest(guest="demo", entry=entry).plan(replace(at, forest=tree))
    return [(step.path, step.identity) for step in plan.steps if isinstance(step, RemoveFile)]


def test_an_overlay_goes_with_its_entry_only_where_nothing_is_in_it_and_nobody_has_it() -> None:
    new = image("new.qcow2", "old.qcow2", identity=(1, 3))
    assert left() == [("/i/new.qcow2", (1, 3))]
    assert left(replace(new, backing=None)) == [("/i/new.qcow2", (1, 3))]
    for other in (
        image("new.qcow2", "base.qcow2", identity=(1, 3)),
        replace(new, format="raw"),
        replace(new, snapshots=(InternalSnapshot("1", "s"),)),
        image("above", "new.qcow2"),
    ):
        assert left(other) == []
    for state in ("shut off", "running"):
        assert left(maps={}, state=state) == left(maps=DATA, state=state) == []  # type: ignore[arg-type]
    mine = Use("other", "vda", "/i/new.qcow2")
    assert left(use=mine) == left(image("above", "new.qcow2"), use=replace(mine, path="/i/above")) == []
    linked = replace(new, path="/i/link")
    assert left(linked, use=replace(mine, path="/i/link")) == [], "a guest has it by another name"
    for disk in (
        SnapshotDisk("vda", "external", "/i/new.qcow2"),
        SnapshotDisk("vda", "external", "/x", "/i/new.qcow2"),
    ):
        assert left(records=[SnapshotRecord("demo", "t", disks=(disk,))]) == []


def test_memory_goes_with_its_entry_only_where_it_is_not_complete() -> None:
    incomplete = {"/i/s.mem": (1, 9)}
    assert left(incomplete=incomplete, maps={}) == [("/i/s.mem", (1, 9))]
    saved = SnapshotRecord("demo", "t", memory="external", memory_file="/i/s.mem")
    assert left(incomplete=incomplete, maps={}, records=[saved]) == []


@pytest.mark.parametrize(("state", "said"), [("running", "shut demo down"), ("shut off", "end that process")])
def test_an_overlay_that_is_open_stays_until_it_is_closed(state: State, said: str) -> None:
    """QEMU opens all overlays of a snapshot before it switches to any."""
    entry = replace(ENTRY, made=("/i/new.qcow2", "/i/s.mem"))
    at = now(
        state, replace(OFF, state=state), entries=(entry,), maps={"/i/new.qcow2": LayerMap("/i/new.qcow2", 1 << 20)}
    )
    new = image("new.qcow2", "old.qcow2", identity=(1, 3), held="write")
    at = replace(at, forest=at.forest.edited(put=[new]))
    [concern] = FinishSnapshotRequest(guest="demo", entry=entry).plan(at).concerns
    assert (concern.name, concern.level, concern.waivable) == ("in-use", "refuse", False)
    assert said in concern.remedy


def test_memory_that_stays_is_named() -> None:
    entry = replace(ENTRY, made=("/i/new.qcow2", "/i/s.mem"))
    there = FolderFacts(frozenset(entry.made))
    empty = {"/i/new.qcow2": LayerMap("/i/new.qcow2", 1 << 20)}
    at = now("shut off", OFF, entries=(entry,), maps=empty, folders=there)
    request = FinishSnapshotRequest(guest="demo", entry=entry)
    [concern] = request.plan(at).concerns
    assert (concern.name, concern.level) == ("memory-lost", "note")
    assert "/i/s.mem" in concern.what
    assert "rm -- /i/s.mem" in concern.remedy
    saved = SnapshotRecord("demo", "t", memory="external", memory_file="/i/s.mem")
    assert request.plan(replace(at, forest=at.forest.edited(records=[saved]))).concerns == ()
    assert request.plan(replace(at, incomplete={"/i/s.mem": (1, 9)})).concerns == ()


def test_what_a_snapshot_of_a_guest_with_another_uuid_has_left_is_asked_about() -> None:
    at = now("shut off", OFF, entries=(ENTRY,), maps=DATA)
    for uuid, names in (("u", set()), ("other", {"other-image"})):
        plan = FinishSnapshotRequest(guest="demo", entry=replace(ENTRY, uuid=uuid)).plan(at)
        assert {one.name for one in plan.concerns if one.level == "refuse"} - {"disk-changed"} == names
        assert all(one.waivable for one in plan.concerns)


def test_the_disk_of_the_guest_and_of_no_other_is_the_overlay_then_or_what_is_left_is_gone() -> None:
    at = now("shut off", OFF, entries=(ENTRY,), maps=DATA)
    others = replace(OFF, guest="other"), replace(OFF, target="vdb", path="/i/base.qcow2")
    plan = FinishSnapshotRequest(guest="demo", entry=ENTRY).plan(
        replace(at, forest=at.forest.edited(uses=(OFF, *others)))
    )
    assert plan.after.uses == (replace(OFF, path="/i/new.qcow2"), *others)
    assert plan.subjects == ("/i/old.qcow2", "/i/new.qcow2")
    assert "QEMU was apparently writing to /i/new.qcow2" in plan.way
    entry = replace(ENTRY, made=("/i/new.qcow2",), uuid="other")
    tree = at.forest.edited(put=[image("new.qcow2", "old.qcow2", identity=(1, 3))])
    empty = {"/i/new.qcow2": LayerMap("/i/new.qcow2", 1 << 20)}
    plan = FinishSnapshotRequest(guest="demo", entry=entry).plan(replace(at, forest=tree, maps=empty))
    assert "/i/new.qcow2" not in plan.after.images
    assert "contain no guest data" in plan.way
    assert [one.name for one in plan.concerns] == ["other-image"]
