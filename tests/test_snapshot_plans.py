"""Plans of snapshots on made-up guests: what is chosen, named, predicted and refused. Needs no machine."""

from __future__ import annotations

import doctest
import shlex
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from forests import forest, image

from vmsnap_nb.errors import InvalidRequestError, NotFoundError
from vmsnap_nb.model import drift, snapshot
from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain, State, Use
from vmsnap_nb.model.image import InternalSnapshot
from vmsnap_nb.model.snapshot import MANAGED_SAVE, Kind, SnapshotDisk, SnapshotList, SnapshotLists, SnapshotRecord
from vmsnap_nb.plans import snapshot_draft
from vmsnap_nb.plans.compare import differences
from vmsnap_nb.plans.ground import Ground
from vmsnap_nb.plans.plan import CONCERNS, Plan
from vmsnap_nb.plans.reconcile import plan_reconcile
from vmsnap_nb.plans.record_xml import record_xml
from vmsnap_nb.plans.saved_state import SavedState, plan_restore, plan_save, saved_record
from vmsnap_nb.plans.snapshot import plan_snapshot
from vmsnap_nb.plans.snapshot_draft import SnapshotRequest, draft_snapshot
from vmsnap_nb.plans.snapshot_facts import SnapshotFacts
from vmsnap_nb.plans.snapshot_steps import ForgetRecord, TakeSnapshot

UUID = "0c0c0c0c-1111-2222-3333-444444444444"
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DEFINITION = """<domain type='qemu'><name>demo</name><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
<source file='/i/top.qcow2'/><target dev='vda'/></disk>
</devices></domain>"""


def domain(state: State = "shut off", *disks: Disk, name: str = "demo") -> Domain:
    return Domain(name, UUID, state, disks=disks or (Disk("vda", "/i/top.qcow2", "qcow2", "virtio"),))


def world(guest: Domain, *records: SnapshotRecord, tags: tuple[str, ...] = ()) -> Forest:
    """A base, and the guest's disks on it."""
    tops = [
        image(disk.source, "base.qcow2", format=disk.format, snapshots=tuple(InternalSnapshot(t, t) for t in tags))
        for disk in guest.disks
        if disk.source and disk.device == "disk"
    ]
    made = forest(image("base.qcow2", writable=False), *tops, uses=guest.uses)
    return made.edited(records=records)


def plan(guest: Domain, before: Forest | None = None, facts: SnapshotFacts | None = None, **request: object) -> Plan:
    before = world(guest) if before is None else before
    facts = facts or SnapshotFacts()
    draft = draft_snapshot(before, guest, SnapshotRequest(**request), pflash=facts.pflash)  # type: ignore[arg-type]
    return plan_snapshot(before, guest, draft, facts)


def step_of(made: Plan) -> TakeSnapshot:
    [step] = made.steps
    assert isinstance(step, TakeSnapshot)
    return step


def refusals(made: Plan) -> list[str]:
    return [concern.name for concern in made.concerns if concern.level == "refuse"]


def record(name: str, held: str = "internal", **fields: object) -> SnapshotRecord:
    disks = (SnapshotDisk("vda", held, "/i/top.qcow2", f"/i/top.{name}.qcow2" if held == "external" else None),)  # type: ignore[arg-type]
    return SnapshotRecord("demo", name, **{"disks": disks, "created": WHEN, **fields})  # type: ignore[arg-type]


def test_the_examples_of_snapshots_are_right() -> None:
    for module in (snapshot, drift, snapshot_draft):
        assert doctest.testmod(module).failed == 0


# -- what is chosen --------------------------------------------------------------------------------------

RAW = Disk("vdb", "/i/data.img", "raw")
CDROM = Disk("sda", "/i/tools.iso", "raw", device="cdrom", readonly=True)
VDA = Disk("vda", "/i/top.qcow2", "qcow2")


@pytest.mark.parametrize(
    ("state", "disks", "request_", "kind", "why"),
    [
        ("shut off", (VDA,), {}, "internal-disk", "off"),
        ("shut off", (VDA, CDROM), {}, "internal-disk", "off"),
        ("running", (VDA,), {}, "internal-checkpoint", "running"),
        ("paused", (VDA,), {}, "internal-checkpoint", "paused"),
        ("running", (VDA, RAW), {}, "external-disk", "vdb is raw"),
        ("shut off", (VDA, RAW), {}, "external-disk", "vdb is raw"),
        ("shut off", (VDA, RAW), {"disks": {"vdb": "no"}}, "external-disk", "vdb is left out"),
        ("running", (VDA,), {"memory_file": "/i/m"}, "external-checkpoint", "memory file"),
        ("running", (VDA,), {"quiesce": True}, "external-disk", "quiesce"),
        ("running", (VDA,), {"disks": {"vda": "external"}}, "external-disk", "external"),
        ("running", (VDA,), {"disks": {"vda": "/i/x.qcow2"}}, "external-disk", "external"),
        ("running", (VDA,), {"reuse": True}, "external-disk", "reused"),
    ],
)
def test_the_kind_follows_from_state_and_disks_and_is_explained(
    state: State, disks: tuple[Disk, ...], request_: dict[str, object], kind: Kind, why: str
) -> None:
    made = plan(domain(state, *disks), facts=SnapshotFacts(agent=True), **request_)
    assert step_of(made).kind == kind
    assert made.way.startswith(f"{kind}, because ")
    assert why in made.way


def test_uefi_firmware_is_a_reason_for_an_external_one() -> None:
    made = plan(domain("running"), facts=SnapshotFacts(pflash=True))
    assert step_of(made).kind == "external-disk"
    assert "UEFI" in made.way
    asked = plan(domain("running"), facts=SnapshotFacts(pflash=True), kind="internal-checkpoint")
    assert refusals(asked) == ["not-supported"]


def test_names_are_the_first_free_ones() -> None:
    guest = domain()
    assert step_of(plan(guest)).name == "snap1"
    assert step_of(plan(guest, world(guest, record("snap1"), tags=("snap1", "snap2")))).name == "snap3"
    before = world(guest).edited(put=[image("top.snap1.qcow2", "top.qcow2")])
    assert step_of(plan(guest, before, kind="external-disk")).name == "snap2"
    named = plan(guest, before, kind="external-disk", disks={"vda": "/i/top.snap1.qcow2"})
    assert (step_of(named).name, refusals(named)) == ("snap1", ["file-exists"])


def test_overlays_are_called_after_image_and_snapshot_and_do_not_grow() -> None:
    guest = domain("shut off", Disk("vda", "/i/top.snap1.qcow2", "qcow2"), Disk("vdb", "/j/data.img", "raw"))
    before = world(guest, record("snap1", "external"))
    assert step_of(plan(guest, before)).overlays == ("/i/top.snap2.qcow2", "/j/data.snap2.qcow2")
    same = domain("shut off", Disk("vda", "/i/d.qcow2", "qcow2"), Disk("vdb", "/i/d.img", "raw"))
    assert step_of(plan(same, name="a")).overlays == ("/i/d.a.vda.qcow2", "/i/d.a.vdb.qcow2")
    checkpoint = plan(domain("running"), kind="external-checkpoint", name="a")
    assert checkpoint.creates == ("/i/top.a.qcow2", "/i/top.a.mem")


def overlay_named(before: Forest, guest: Domain, name: str) -> str:
    [path] = step_of(plan(guest, before, name=name, kind="external-disk")).overlays
    return path


def test_names_of_overlays_do_not_grow_once_the_records_are_gone() -> None:
    """As after a revert to a snapshot that was deleted then: the guest goes on with top.a-2."""
    guest = domain("shut off", Disk("vda", "/i/top.a-2.qcow2", "qcow2"))
    layers = image("top.qcow2"), image("top.a.qcow2", "top.qcow2"), image("top.a-2.qcow2", "top.a.qcow2")
    alone = forest(*layers, uses=guest.uses)
    assert overlay_named(alone, guest, "b") == "/i/top.b.qcow2"
    assert overlay_named(alone, guest, "a") == "/i/top.a-2.a.qcow2"  # and not that of a layer below
    # What others stand on, or what is protected, is no layer of this guest alone.
    shared = forest(*layers, uses=(*guest.uses, Use("other", "vda", "/i/top.qcow2", "shut off")))
    assert overlay_named(shared, guest, "b") == "/i/top.a-2.b.qcow2"
    template = forest(image("top.qcow2", writable=False), *layers[1:], uses=guest.uses)
    assert overlay_named(template, guest, "b") == "/i/top.a-2.b.qcow2"


def test_disks_are_left_out_with_the_reason() -> None:
    guest = domain("shut off", VDA, RAW, CDROM, Disk("sdb", None, device="cdrom"), Disk("vdc", "nbd://h/x", "raw"))
    made = plan(guest, kind="internal-disk")
    assert {d.target: d.held for d in step_of(made).disks} == {
        "vda": "internal",
        "vdb": "no",
        "sda": "no",
        "sdb": "no",
        "vdc": "no",
    }
    assert {(c.level, c.what.partition(" ")[0]) for c in made.concerns} == {
        ("refuse", "vdb"),  # libvirt takes internal snapshots of all disks or none
        ("note", "sda"),
        ("note", "sdb"),
    }
    external = plan(guest, kind="external-disk")
    said = {(c.level, c.what.split(" is left out: ")[0]) for c in external.concerns}
    assert said == {("warn", "vdc"), ("note", "sda"), ("note", "sdb")}
    assert [d.target for d in step_of(external).disks if d.held == "external"] == ["vda", "vdb"]
    assert "name one in disks" in next(c.what for c in external.concerns if c.what.startswith("vdc"))
    asked = plan(guest, disks={"vdb": "no", "vdc": "no"})
    assert {c.level for c in asked.concerns} == {"note"}
    assert not plan(domain("shut off", VDA, CDROM), kind="internal-disk").refused


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", " ", "a/b", ".x", "x" * 300, "虚" * 67, "a\nb", "a\x00", "\ud800"])
def test_names_that_libvirt_or_files_cannot_have(name: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        plan(domain(), name=name)
    assert refused.value.said
    assert refused.value.next_step == "give it another name"


@pytest.mark.parametrize(
    "request_",
    [
        {"kind": "internal"},
        {"kind": "vm-state"},
        {"disks": {"vdq": "external"}},
        {"disks": {"vda": "maybe"}},
        {"description": "bell \x07"},
        {"kind": "external-disk", "memory_file": "/i/m"},
        {"kind": "internal-checkpoint", "quiesce": True},
        {"kind": "internal-disk", "quiesce": True},
        {"kind": "external-disk", "name": "x" * 190, "disks": {"vda": "/i/" + "y" * 256}},
    ],
)
def test_what_cannot_be_meant_says_what_can(request_: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        plan(domain("running"), **request_)
    assert refused.value.next_step


@pytest.mark.parametrize(
    ("state", "request_", "refused"),
    [
        ("running", {"kind": "internal-disk"}, "not-supported"),
        ("shut off", {"kind": "internal-checkpoint"}, "not-supported"),
        ("shut off", {"kind": "external-checkpoint"}, "not-supported"),
        ("shut off", {"disks": {"vda": "no", "vdb": "no"}}, "not-supported"),
        ("shut off", {"kind": "internal-disk", "disks": {"vdb": "internal"}}, "not-supported"),
        ("shut off", {"disks": {"vda": "internal", "vdb": "external"}}, "mixed-kinds"),
        ("shut off", {"kind": "internal-disk", "disks": {"vda": "/i/x.qcow2"}}, "mixed-kinds"),
        ("shut off", {"kind": "external-disk", "quiesce": True}, "no-agent"),
        ("running", {"kind": "external-disk", "quiesce": True}, "no-agent"),
        ("shut off", {"kind": "external-disk", "name": "a,b"}, "not-supported"),
        ("shut off", {"kind": "external-disk", "reuse": True}, "missing-base"),
    ],
)
def test_what_libvirt_would_refuse_is_refused_before(state: State, request_: dict[str, object], refused: str) -> None:
    made = plan(domain(state, VDA, RAW), **request_)
    assert refused in refusals(made)
    for concern in made.concerns:
        assert concern.name in CONCERNS
        assert concern.remedy or concern.level == "note"


def test_a_taken_name_a_taken_file_and_a_file_left_by_a_snapshot_cut_short() -> None:
    guest = domain()
    assert refusals(plan(guest, world(guest, record("a"), tags=("a",)), name="a")) == ["name-taken"]
    untracked = plan(guest, world(guest, tags=("a",)), name="a")
    assert refusals(untracked) == ["name-taken"]
    assert "reconcile()" in untracked.concerns[0].remedy
    facts = SnapshotFacts(Ground(frozenset({"/i/top.a.qcow2"})))
    taken = plan(guest, facts=facts, name="a", kind="external-disk")
    assert refusals(taken) == ["file-exists"]
    assert "cut short" not in taken.concerns[0].remedy
    left = world(guest).edited(put=[image("top.a.qcow2", "top.qcow2")])
    assert "cut short" in plan(guest, left, facts, name="a", kind="external-disk").concerns[0].remedy
    memory = SnapshotFacts(Ground(frozenset({"/i/m"})))
    assert refusals(plan(domain("running"), facts=memory, memory_file="/i/m")) == ["file-exists"]


def test_places_without_room_or_permission() -> None:
    small = SnapshotFacts(Ground(free={"/i": 1000}), memory=1 << 28)
    assert refusals(plan(domain(), facts=small)) == []
    assert refusals(plan(domain(), facts=small, kind="external-disk")) == ["no-space"]
    checkpoint = plan(domain("running"), facts=small)
    assert refusals(checkpoint) == ["no-space"]
    assert checkpoint.concerns[0].waivable  # memory that was never written takes no room
    closed = SnapshotFacts(Ground(closed={"/i": "Read-only file system"}))
    assert refusals(plan(domain(), facts=closed, kind="external-disk")) == ["no-permission"]


def test_an_active_job_stands_in_the_way_of_its_disk() -> None:
    guest = domain("running", VDA, RAW)
    busy = SnapshotFacts(jobs={"vdb": "pull"})
    assert refusals(plan(guest, facts=busy)) == ["active-job"]
    assert refusals(plan(guest, facts=busy, disks={"vda": "external", "vdb": "no"})) == []
    assert refusals(plan(guest, facts=SnapshotFacts(jobs={"": "saving"}))) == ["active-job"]


def test_saved_memory_and_overlays_do_not_go_together() -> None:
    guest = domain()
    saved = world(guest, saved_record("demo", None))
    assert refusals(plan(guest, saved, kind="external-disk")) == ["managed-save"]
    inside = plan(guest, saved)
    assert [(c.name, c.level) for c in inside.concerns] == [("managed-save", "warn")]


def test_images_that_are_not_in_order() -> None:
    guest = domain()
    before = world(guest)
    gone = before.edited(put=[replace(before["/i/base.qcow2"], status="missing", problem="there is no such file")])
    assert refusals(plan(guest, gone)) == ["missing-base"]
    protected = before.edited(put=[replace(before["/i/top.qcow2"], writable=False)])
    assert refusals(plan(guest, protected)) == ["read-only"]
    assert refusals(plan(guest, protected, kind="external-disk")) == []
    held = before.edited(put=[replace(before["/i/top.qcow2"], held="write")])
    assert refusals(plan(guest, held)) == ["in-use"]
    other = before.edited(uses=(*before.uses, Use("other", "vda", "/i/top.qcow2", "running")))
    made = plan(guest, other)
    assert refusals(made) == ["in-use"]
    assert made.concerns[0].holders == ("other",)


def test_a_chain_of_200_layers_is_deep_enough() -> None:
    layers = [image("l0"), *(image(f"l{n}", f"l{n - 1}") for n in range(1, 200))]
    for depth, refused in ((199, []), (200, ["not-supported"])):
        guest = domain("running", Disk("vda", f"/i/l{depth - 1}", "qcow2"))
        made = plan(guest, forest(*layers[:depth], uses=guest.uses), kind="external-disk")
        assert refusals(made) == refused


def test_a_file_to_be_reused_must_stand_on_the_disks_image() -> None:
    guest = domain("running")
    for backing, refused in (("top.qcow2", []), ("base.qcow2", ["backing-format-wrong"])):
        before = world(guest).edited(put=[image("mine.qcow2", backing)])
        made = plan(guest, before, reuse=True, disks={"vda": "/i/mine.qcow2"})
        assert refusals(made) == refused
        assert made.creates == ()
        assert made.writes == ("/i/mine.qcow2",)
        assert made.after.writers("/i/mine.qcow2")


# -- what is predicted and shown -------------------------------------------------------------------------


def test_an_external_snapshot_moves_the_guest_and_keeps_the_old_image() -> None:
    guest = domain("running")
    made = plan(guest, world(guest, record("old", current=True)), name="a", kind="external-disk", description="d")
    assert made.after.lineage("/i/top.a.qcow2") == ("/i/top.a.qcow2", "/i/top.qcow2", "/i/base.qcow2")
    assert [use.path for use in made.after.uses] == ["/i/top.a.qcow2"]
    assert not made.after.active("/i/top.qcow2")
    old, new = made.after.records
    assert (old.current, new.current, new.parent, new.state, new.kind) == (
        False,
        True,
        "old",
        "disk-snapshot",
        "external-disk",
    )
    assert new.disks == (SnapshotDisk("vda", "external", "/i/top.qcow2", "/i/top.a.qcow2"),)
    unrecorded = plan(guest, name="a", kind="external-disk", metadata=False)
    assert unrecorded.after.records == ()


def test_an_internal_snapshot_is_a_mark_inside_the_box() -> None:
    made = plan(domain(), name="a")
    assert [one.name for one in made.after["/i/top.qcow2"].snapshots] == ["a"]
    assert made.writes == ("/i/top.qcow2",)
    before, after = made.to_text().split("after\n", 1)
    assert "(snapshot inside: + a)" in after
    assert "snapshot inside" not in before


def test_the_figures_of_the_external_kinds() -> None:
    text = plan(domain("running"), name="a", kind="external-checkpoint").to_text()
    before, after = text.split("after\n", 1)
    assert "read-only" not in before
    assert "(read-only from now on)" in after
    assert "+=" in after  # the new overlay
    assert "(~" in after  # the memory file, in its own shape
    assert "(memory of demo)" in after
    assert "top.a.mem" in after
    saved = plan_save(world(domain("running")), domain("running"), "/i/demo.sav", SnapshotFacts()).to_text()
    assert "demo.sav" in saved.split("after\n", 1)[1]


def test_a_snapshot_that_came_or_went_makes_a_plan_stale() -> None:
    guest = domain()
    before = world(guest, record("a"), record("b", parent="a", current=True), tags=("a", "b"))
    assert differences(before, before) == ()
    assert differences(before, before.edited(records=before.records[:1])) == (
        "guest demo has no record of a snapshot b any more",
    )
    assert differences(before.edited(records=()), before) == (
        "guest demo has a snapshot a now",
        "guest demo has a snapshot b now",
    )
    moved = (before.records[0], replace(before.records[1], parent=None))
    assert differences(before, before.edited(records=moved)) == ("snapshot b of demo: parent is None, not a",)
    later = tuple(replace(one, created=None, memory_size=1) for one in before.records)
    assert differences(before, before.edited(records=later)) == ()


def test_what_is_missing_before_and_after_is_no_difference() -> None:
    tree = world(domain()).edited(put=[image("gone", status="missing")])
    assert differences(tree, tree) == ()
    assert differences(tree, tree.edited(put=[image("gone")])) == ("/i/gone was missing and is there now",)


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
    step = step_of(plan(domain(state), facts=SnapshotFacts(uri="qemu:///system", agent=True), name="n", **request_))
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


# -- lists and drift -------------------------------------------------------------------------------------


def drifted() -> tuple[Domain, Forest]:
    guest = domain("shut off", Disk("vda", "/i/top.c.qcow2", "qcow2"))
    tree = forest(
        image("base.qcow2", snapshots=(InternalSnapshot("1", "theirs"),)),
        image("top.qcow2", "base.qcow2", snapshots=(InternalSnapshot("1", "a"),)),
        image(
            "top.c.qcow2",
            "top.qcow2",
            snapshots=(InternalSnapshot("1", "wild", WHEN), InternalSnapshot("2", "ram", WHEN, vm_state_size=5)),
        ),
        uses=(*guest.uses, Use("other", "vda", "/i/base.qcow2")),
    )
    records = (
        record("a"),
        record("b", parent="a"),
        record("c", "external", parent="b"),
        record("d", "external", parent="c", memory="external", memory_file="/i/d.mem", current=True),
        saved_record("demo", None),
        SnapshotRecord("other", "x"),
    )
    return guest, tree.edited(records=records)


def test_records_and_files_are_compared() -> None:
    guest, tree = drifted()
    found = list_snapshots(guest, tree, gone={"/i/top.d.qcow2", "/i/d.mem"})
    assert {s.name: s.status for s in found} == {
        "a": "ok",
        "b": "stale",
        "c": "ok",
        "d": "missing-file",
        "wild": "untracked",
        "ram": "untracked",
    }
    assert "/i/d.mem is gone" in found["d"].problem
    assert "no snapshot b inside /i/top.qcow2" in found["b"].problem
    assert found["ram"].kind == "internal-checkpoint"
    assert found.managed_save
    assert found.current is not None
    assert found.current.name == "d"
    assert [s.name for s in found.descendants("a")] == ["b", "c", "d"]
    with pytest.raises(NotFoundError, match="there are: a, b, c, d"):
        found["theirs"]
    # Pulled up to the base: the overlay of c does not stand on the snapshot any more.
    pulled = tree.edited(put=[image("top.c.qcow2", "base.qcow2")])
    assert list_snapshots(guest, pulled)["c"].status == "stale"
    # Merged down: the image says so itself.
    merged = tree.edited(put=[replace(tree["/i/top.qcow2"], status="invalid", problem="merged into base")])
    assert list_snapshots(guest, merged)["a"].status == "stale"
    assert (
        list_snapshots(guest, tree.edited(drop=["/i/top.qcow2"]), gone={"/i/top.qcow2"})["a"].status == "missing-file"
    )


def test_a_parent_comes_before_its_children_whatever_their_times() -> None:
    early, late = WHEN, WHEN.replace(year=2027)
    records = (
        record("child", parent="root", created=early),
        record("root", created=late),
        record("lone", created=early),
        record("ring1", parent="ring2"),
        record("ring2", parent="ring1"),
    )
    guest = domain()
    found = list_snapshots(guest, world(guest, *records, tags=("child", "root", "lone", "ring1", "ring2")))
    names = list(found.names)
    assert names.index("root") < names.index("child")
    assert set(names) == {one.name for one in records}
    assert found["ring1"].record.parent is None


def test_reconcile_forgets_and_adopts_and_touches_no_file() -> None:
    guest, tree = drifted()
    gone = frozenset({"/i/top.d.qcow2", "/i/d.mem"})
    made = plan_reconcile(tree, guest, SnapshotFacts(gone=gone))
    assert [(step.action, step.name) for step in made.steps] == [  # type: ignore[attr-defined]
        ("forget record", "b"),
        ("forget record", "d"),
        ("write record", "ram"),
        ("write record", "wild"),
    ]
    assert made.creates == made.writes == made.unlinks == ()
    after = list_snapshots(guest, made.after, gone=gone)
    assert {s.status for s in after} == {"ok"}
    assert after["c"].record.parent == "a"
    assert after.current is not None
    assert after.current.name == "c"
    assert [c.level for c in made.concerns] == ["warn"]
    again = plan_reconcile(made.after, guest, SnapshotFacts(gone=gone))
    assert again.steps == ()
    adopted = ET.fromstring(record_xml(next(one for one in made.after.records if one.name == "wild"), DEFINITION))
    assert adopted.findtext("creationTime") == str(int(WHEN.timestamp()))
    # The record names the image that the snapshot is inside of.
    source = adopted.find("domain/devices/disk/source")
    assert source is not None
    assert source.get("file") == "/i/top.c.qcow2"


def test_a_name_that_libvirt_cannot_have_is_not_adopted() -> None:
    guest = domain()
    made = plan_reconcile(world(guest, tags=("a/b",)), guest, SnapshotFacts())
    assert made.steps == ()
    assert [(c.name, c.level) for c in made.concerns] == [("not-supported", "note")]


def test_the_table_of_snapshots() -> None:
    guest, tree = drifted()
    frame = list_snapshots(guest, tree).to_frame()
    columns = [
        "kind",
        "state",
        "created",
        "parent",
        "current",
        "disks",
        "files",
        "memory_file",
        "description",
        "status",
    ]
    assert list(frame.columns) == columns
    assert frame.index.name == "name"
    assert str(frame.dtypes["created"]) == "datetime64[us, UTC]"
    assert str(frame.dtypes["current"]) == "boolean"
    assert frame.loc["a", "created"] == WHEN
    assert frame.loc["c", "files"] == "/i/top.c.qcow2"
    empty = SnapshotList("demo").to_frame()
    assert list(empty.columns) == columns
    assert list(map(str, empty.dtypes)) == list(map(str, frame.dtypes))
    many = SnapshotLists((list_snapshots(guest, tree), SnapshotList("none"))).to_frame()
    assert (many.index.name, list(many.columns)) == ("guest", ["name", *columns])
    assert set(many.index) == {"demo"}


def test_the_tree_of_snapshots_says_where_you_are() -> None:
    guest, tree = drifted()
    found = list_snapshots(guest, tree, gone={"/i/d.mem"})
    text = found.to_text()
    for words in ("(current)", "you are here", "demo: shut off", "STALE", "FILE MISSING", "UNTRACKED", "managed save"):
        assert words in text
    assert text.index("d   ") < text.index("you are here")
    assert "has no snapshots" in SnapshotList("demo").to_text()
    hostile = list_snapshots(guest, tree.edited(records=(record('<x>&"\\N 快照', current=True),)))
    assert '<x>&"\\N 快照' in hostile.to_text()


def test_a_long_line_of_snapshots_folds_its_middle() -> None:
    guest = domain()
    names = [f"s{n:03}" for n in range(300)]
    records = [record(name, parent=names[n - 1] if n else None, current=n == 299) for n, name in enumerate(names)]
    text = list_snapshots(guest, world(guest, *records, tags=tuple(names))).to_text()
    assert "more in between" in text
    assert "you are here" in text
    assert len(text.splitlines()[1]) < 250


# -- memory alone ----------------------------------------------------------------------------------------


def test_saving_and_restoring_memory() -> None:
    guest = domain("running")
    made = plan_save(world(guest), guest, None, SnapshotFacts(uri="qemu:///system"))
    assert made.commands == ("virsh -c qemu:///system managedsave --domain demo",)
    assert [one.name for one in made.after.records] == [MANAGED_SAVE]
    assert [use.state for use in made.after.uses] == ["shut off"]
    off = domain()
    assert refusals(plan_save(world(off), off, None, SnapshotFacts())) == ["not-supported"]
    back = plan_restore(made.after, off, None, None, SnapshotFacts())
    assert (back.refused, back.after.records) == (False, ())
    assert refusals(plan_restore(world(off), off, None, None, SnapshotFacts())) == ["not-supported"]
    assert "in-use" in refusals(plan_restore(world(guest), guest, None, None, SnapshotFacts()))


def test_a_disk_that_changed_since_does_not_go_with_the_memory() -> None:
    off = domain()
    before = world(off)
    tree = before.edited(put=[replace(before["/i/top.qcow2"], mtime_ns=100)])

    def restore(now: Forest, **fields: object) -> list[str]:
        given = {"guest": "demo", "uuid": UUID, "sources": {"vda": "/i/top.qcow2"}, "mtime_ns": 100, **fields}
        return refusals(plan_restore(now, off, "/i/f", SavedState(**given), SnapshotFacts()))  # type: ignore[arg-type]

    assert restore(tree) == []
    assert restore(tree, mtime_ns=99) == ["disk-changed"]
    assert restore(tree, uuid="another") == ["not-supported"]
    assert restore(tree, sources={"vda": "/i/gone"}) == ["missing-base"]
    moved = domain("shut off", Disk("vda", "/i/over.qcow2", "qcow2"))
    over = tree.edited(put=[image("over.qcow2", "top.qcow2")], uses=moved.uses)
    saved = SavedState("demo", UUID, {"vda": "/i/top.qcow2"}, 100)
    assert refusals(plan_restore(over, moved, "/i/f", saved, SnapshotFacts())) == ["disk-changed"]


def test_forgetting_names_the_record_and_nothing_else() -> None:
    step = ForgetRecord("demo", UUID, "", "a b")
    assert step.commands == ("virsh snapshot-delete --domain demo --snapshotname 'a b' --metadata",)
    assert (step.creates, step.writes, step.unlinks) == ((), (), ())


@pytest.mark.parametrize(
    ("version", "state", "nvram", "level"),
    [
        ((9, 0, 0), "shut off", "raw", "refuse"),
        ((9, 3, 0), "shut off", "raw", "note"),
        ((10, 9, 0), "shut off", "qcow2", "note"),
        ((10, 9, 0), "running", "qcow2", "refuse"),
        ((10, 10, 0), "running", "raw", "refuse"),
        ((10, 10, 0), "running", "qcow2", None),
        ((10, 10, 0), "shut off", "qcow2", None),
    ],
)
def test_inside_with_uefi_as_each_libvirt_takes_it(
    version: tuple[int, int, int], state: State, nvram: str, level: str | None
) -> None:
    facts = SnapshotFacts(pflash=True, nvram="/i/nvram", nvram_format=nvram, libvirt_version=version)
    kind = "internal-checkpoint" if state == "running" else "internal-disk"
    made = plan(domain(state), facts=facts, kind=kind)
    assert [c.level for c in made.concerns if "UEFI" in c.what] == ([] if level is None else [level])
