"""Plans that go back to a snapshot, on made-up guests: what is done, kept, thrown away, refused. Needs no machine."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Literal

import pytest
from support.forests import forest, image
from support.readings import reading

from vmsnap_nb.errors import InvalidRequestError, NotFoundError
from vmsnap_nb.model.blockmap import Extent, LayerMap
from vmsnap_nb.model.disk_xml import name_image
from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain, State, Use
from vmsnap_nb.model.image import InternalSnapshot
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.facts import FolderFacts
from vmsnap_nb.plans.journal import FileFact, InsideEntry, MergeEntry, RevertEntry
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.revert.definition import changed_parts
from vmsnap_nb.plans.revert.request import RevertRequest
from vmsnap_nb.plans.revert.steps import BeginRevert, TakeDefinition
from vmsnap_nb.plans.save.request import saved_record
from vmsnap_nb.plans.step import CreateOverlay, GuestRef

UUID = "0c0c0c0c-1111-2222-3333-444444444444"


def definition(*sources: str, memory: int = 256) -> str:
    disks = "".join(
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{source}'/>"
        f"<backingStore type='file'><source file='/i/old'/></backingStore>"
        f"<target dev='vd{letter}' bus='virtio'/></disk>"
        for source, letter in zip(sources, "abc", strict=False)
    )
    return f"<domain type='qemu'><name>demo</name><memory>{memory}</memory><devices>{disks}</devices></domain>"


def record(name: str, held: str, source: str, file: str | None = None, **fields: object) -> SnapshotRecord:
    xml = f"<domainsnapshot><name>{name}</name>{definition(source)}</domainsnapshot>"
    disks = (SnapshotDisk("vda", held, source, file),)  # type: ignore[arg-type]
    return SnapshotRecord("demo", name, **{"disks": disks, "xml": xml, **fields})  # type: ignore[arg-type]


def external(*more: SnapshotRecord, state: State = "shut off", **fields: object) -> tuple[Forest, Domain]:
    """A guest on one <- two <- three; snapshot a holds one, b holds two."""
    domain = Domain("demo", UUID, state, disks=(Disk("vda", "/i/three.qcow2", "qcow2", "virtio"),))
    records = (
        record("a", "external", "/i/one.qcow2", "/i/two.qcow2", **fields),
        record("b", "external", "/i/two.qcow2", "/i/three.qcow2", parent="a", current=True),
        *more,
    )
    images = (
        image("one.qcow2"),
        image("two.qcow2", "one.qcow2"),
        image("three.qcow2", "two.qcow2", allocated=777_216),
    )
    return forest(*images, uses=domain.uses).edited(records=records), domain


def internal(state: State = "shut off", **fields: object) -> tuple[Forest, Domain]:
    domain = Domain("demo", UUID, state, disks=(Disk("vda", "/i/top.qcow2", "qcow2", "virtio"),))
    made = forest(
        image("base.qcow2", writable=False),
        image("top.qcow2", "base.qcow2", snapshots=(InternalSnapshot("1", "a"),), allocated=555_008),
        uses=domain.uses,
    )
    return made.edited(records=(record("a", "internal", "/i/top.qcow2", **fields),)), domain


def plan(world: tuple[Forest, Domain], facts: dict[str, object] | None = None, **request: object) -> Plan:
    guest = GuestRef("demo", UUID, "")
    return RevertRequest(guest=guest, **request).plan(reading(*world, **(facts or {})))  # type: ignore[arg-type]


def actions(made: Plan) -> list[str]:
    return [step.action for step in made.steps][1:-1]  # without the entry of the journal


def named(made: Plan, *levels: str) -> list[str]:
    return [concern.name for concern in made.concerns if concern.level in levels]


# -- what is done ----------------------------------------------------------------------------------------


def test_an_external_one_gets_a_new_overlay_and_the_old_one_stays() -> None:
    made = plan(external(), name="a")
    assert actions(made) == ["external disk snapshot", "create overlay", "redefine guest", "make current"]
    assert made.creates == ("/i/three.kept1.qcow2", "/i/two-2.qcow2")
    assert made.unlinks == made.writes == ()
    assert made.after["/i/two-2.qcow2"].backing.path == "/i/one.qcow2"  # type: ignore[union-attr]
    assert [use.path for use in made.after.uses] == ["/i/two-2.qcow2"]
    current = {one.name: one.current for one in made.after.records}
    assert current == {"a": True, "b": False, "kept1": False}
    assert next(one for one in made.after.records if one.name == "kept1").parent == "b"
    assert 'file="/i/two-2.qcow2"' in made.commands[2]
    assert "backingStore" not in made.commands[2]
    assert "libvirt itself would remove" in made.way


def test_without_keeping_the_overlay_of_now_is_emptied_or_removed() -> None:
    named_by_b = plan(external(), name="a", keep_current=False)
    assert actions(named_by_b)[-1] == "discard"
    assert (named_by_b.writes, named_by_b.unlinks) == (("/i/three.qcow2",), ())
    lost = next(c for c in named_by_b.concerns if c.name == "state-lost")
    assert (lost.level, lost.images) == ("warn", ("/i/three.qcow2",))
    assert "(759 KiB on disk)" in lost.what

    before, domain = external()
    alone = before.edited(put=[image("x.qcow2", "one.qcow2")], uses=[Use("demo", "vda", "/i/x.qcow2")])
    domain = replace(domain, disks=(Disk("vda", "/i/x.qcow2", "qcow2"),))
    nobodys = plan((alone, domain), name="a", keep_current=False)
    assert nobodys.unlinks == ("/i/x.qcow2",)
    assert "/i/x.qcow2" not in nobodys.after


def test_what_is_thrown_away_is_named_by_size() -> None:
    before, domain = external()
    two = replace(domain, disks=(*domain.disks, Disk("vdb", "/i/large.qcow2", "qcow2")))
    disks = (
        SnapshotDisk("vda", "external", "/i/one.qcow2", "/i/two.qcow2"),
        SnapshotDisk("vdb", "external", "/i/low.qcow2"),
    )
    records = (replace(before.records[0], disks=disks), before.records[1])
    put = image("low.qcow2"), image("large.qcow2", "low.qcow2", allocated=5 << 30)
    made = plan((before.edited(put=put, uses=two.uses, records=records), two), name="a", keep_current=False)
    lost = [(c.images, c.what[c.what.index("(") :].partition(")")[0]) for c in made.concerns if c.name == "state-lost"]
    assert lost == [(("/i/large.qcow2",), "(5 GiB on disk"), (("/i/three.qcow2",), "(759 KiB on disk")]


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        ({"snapshots": (InternalSnapshot("1", "inside"),)}, "an internal snapshot is in it"),
        ({}, "an image stands on it"),
    ],
)
def test_what_carries_something_else_is_not_thrown_away(edit: dict[str, object], why: str) -> None:
    before, domain = external()
    put = [replace(before["/i/three.qcow2"], **edit)]  # type: ignore[arg-type]
    if not edit:
        put.append(image("other.qcow2", "three.qcow2"))
    made = plan((before.edited(put=put), domain), name="a", keep_current=False)
    assert (made.writes, made.unlinks) == ((), ()), why


def test_memory_is_restored_and_the_guest_ended_before() -> None:
    before, domain = external(state="running")
    with_memory = replace(before.records[0], memory="external", memory_file="/i/a.mem", state="running")
    before = before.edited(records=(with_memory, before.records[1]))
    made = plan((before, domain), name="a")
    assert actions(made) == [
        "external checkpoint snapshot",
        "create overlay",
        "stop guest",
        "redefine guest",
        "restore state",
        "make current",
    ]
    assert "--running" in made.commands[4]
    assert {use.state for use in made.after.uses} == {"running"}
    paused = plan((before, domain), name="a", to="paused", keep_current=False)
    assert [step.action for step in paused.steps if step.action == "restore state"]
    assert named(paused, "warn") == ["memory-lost", "state-lost"]
    off = plan((before, domain), name="a", to="off")
    assert actions(off)[-2:] == ["redefine guest", "make current"]
    gone = {"gone": frozenset({"/i/a.mem"})}
    assert named(plan((before, domain), gone, name="a"), "refuse") == ["missing-base"]
    assert named(plan((before, domain), gone, name="a", to="off"), "refuse") == []
    distrusted = {"distrusted": {"/i/a.mem": "other users can write to it"}}
    refused = plan((before, domain), distrusted, name="a")
    assert "other users can write to it" in next(one.what for one in refused.concerns if one.level == "refuse")
    assert named(plan((before, domain), distrusted, name="a", to="off"), "refuse") == []


@pytest.mark.parametrize(
    ("state", "memory", "to", "expected", "flags"),
    [
        ("shut off", "no", "as-taken", ["internal disk snapshot", "revert in place"], "--force"),
        ("running", "no", "as-taken", ["internal checkpoint snapshot", "revert in place"], "--force"),
        ("running", "no", "running", ["internal checkpoint snapshot", "revert in place"], "--running --force"),
        ("shut off", "internal", "as-taken", ["internal disk snapshot", "revert in place"], "--running --force"),
        ("paused", "internal", "paused", ["internal checkpoint snapshot", "revert in place"], "--paused --force"),
        (
            "shut off",
            "internal",
            "off",
            ["internal disk snapshot", "revert in place", "stop guest"],
            "--paused --force",
        ),
    ],
)
def test_an_internal_one_is_libvirts_own(state: State, memory: str, to: str, expected: list[str], flags: str) -> None:
    before, domain = internal(state)
    before = before.edited(
        records=[replace(before.records[0], memory=memory, state="running" if memory != "no" else "shutoff")]  # type: ignore[arg-type]
    )
    made = plan((before, domain), name="a", to=to)
    assert actions(made) == expected
    assert made.commands[1].endswith(f"--snapshotname a {flags}")
    assert named(made, "refuse") == []
    assert made.writes == ("/i/top.qcow2",)
    lossy = plan((before, domain), name="a", to=to, keep_current=False)
    lost = next(c for c in lossy.concerns if c.name == "state-lost")
    assert "542 KiB on disk" in lost.what


# -- what is refused -------------------------------------------------------------------------------------


def test_names_and_states_that_there_are_not() -> None:
    with pytest.raises(NotFoundError, match="available: a, b"):
        plan(external(), name="c")
    with pytest.raises(InvalidRequestError, match="'as-taken', 'running', 'paused', 'off'"):
        plan(external(), name="a", to="up")


def test_an_internal_one_below_an_overlay_is_not_written() -> None:
    before, domain = internal()
    above = before.edited(put=[image("above.qcow2", "top.qcow2")])
    refused = [c for c in plan((above, domain), name="a").concerns if c.level == "refuse"]
    assert [c.name for c in refused] == ["shared-base"]
    assert "/i/above.qcow2" in refused[0].what
    other = before.edited(uses=(*before.uses, Use("other", "vda", "/i/top.qcow2")))
    assert "shared-base" in named(plan((other, domain), name="a"), "refuse")


def test_an_image_that_is_gone_or_changed_or_shared_is_refused() -> None:
    before, domain = external()
    gone = before.edited(put=[replace(before["/i/one.qcow2"], status="missing", problem="no such file")])
    assert "missing-base" in named(plan((gone, domain), name="a"), "refuse")
    writes = before.edited(uses=[Use("demo", "vda", "/i/one.qcow2")])
    itself = replace(domain, disks=(Disk("vda", "/i/one.qcow2", "qcow2"),))
    [changed] = [c for c in plan((writes, itself), name="a").concerns if c.level == "refuse"]
    assert (changed.name, changed.waivable) == ("disk-changed", True)
    other = before.edited(uses=(*before.uses, Use("other", "vda", "/i/one.qcow2")))
    assert "shared-base" in named(plan((other, domain), name="a"), "refuse")

    inside, domain = internal()
    without = inside.edited(put=[replace(inside["/i/top.qcow2"], snapshots=())])
    assert "missing-base" in named(plan((without, domain), name="a"), "refuse")
    untracked = inside.edited(records=())
    [said] = [c for c in plan((untracked, domain), name="a").concerns if c.level == "refuse"]
    assert (said.name, "reconcile()" in said.remedy) == ("not-supported", True)


def test_a_cd_that_is_gone_is_needed_only_at_the_start() -> None:
    before, domain = external()
    gone = replace(image("cd.iso"), status="missing")
    two = replace(domain, disks=(*domain.disks, Disk("sda", "/i/cd.iso", "raw", device="cdrom", readonly=True)))
    records = [replace(one, disks=(*one.disks, SnapshotDisk("sda", "no", "/i/cd.iso"))) for one in before.records]
    world = before.edited(put=[gone], uses=two.uses, records=records), two
    assert "missing-base" not in named(plan(world, name="a", to="off"), "refuse")
    assert "missing-base" in named(plan(world, name="a", to="running"), "refuse")


def test_jobs_saved_memory_other_hardware_and_a_full_disk() -> None:
    world = external()
    jobs = {"jobs": {"vda": "pull"}}
    assert named(plan(world, jobs, name="a"), "refuse") == ["active-job"]
    before, domain = world
    saved = before.edited(records=(*before.records, saved_record("demo", None)))
    assert named(plan((saved, domain), name="a"), "refuse") == ["managed-save"]
    other = {"definition": definition("/i/three.qcow2", "/i/more.qcow2", memory=512)}
    [warned] = [c for c in plan(world, other, name="a").concerns if c.level == "warn"]
    assert warned.name == "hardware-changed"
    assert warned.what.endswith("memory and disk vdb")
    assert warned.what.in_language("zh").endswith("内存和磁盘 vdb")
    full = {"folders": FolderFacts(free={"/i": 1000})}
    assert set(named(plan(world, full, name="a"), "refuse")) == {"no-space"}
    closed = {"folders": FolderFacts(closed={"/i": "no permission to write there"})}
    assert set(named(plan(world, closed, name="a"), "refuse")) == {"no-permission"}
    transient = plan((before, replace(domain, persistent=False)), name="a")
    assert named(transient, "refuse") == ["not-supported"]
    new = {"libvirt_version": (11, 3, 0)}
    assert named(plan(world, new, name="a"), "note") == []


def test_a_definition_that_was_changed_while_the_guest_runs_is_expected_and_named() -> None:
    world = external(state="running")
    facts = {"definition": definition("/i/one.qcow2"), "xml": definition("/i/three.qcow2")}
    made = plan(world, facts, name="a", to="off")
    [step] = [step for step in made.steps if isinstance(step, TakeDefinition)]
    assert [(one.target, one.path) for one in step.before] == [("vda", "/i/one.qcow2")]
    assert [one.images for one in made.concerns if "the next start of demo" in one.what] == [("/i/one.qcow2",)]
    facts["definition"] = facts["xml"]
    [step] = [step for step in plan(world, facts, name="a", to="off").steps if isinstance(step, TakeDefinition)]
    assert [one.path for one in step.before] == ["/i/three.kept1.qcow2"]


def test_hardware_is_what_a_guest_sees() -> None:
    same = definition("/i/a"), definition("/i/b")
    assert changed_parts(*same) == ()


# -- memory alone ----------------------------------------------------------------------------------------


def test_memory_alone_is_a_snapshot_where_libvirt_has_a_record() -> None:
    before, domain = internal()
    only = replace(record("m", "no", "/i/top.qcow2"), memory="external", memory_file="/i/m.mem", state="running")
    before = before.edited(records=(only, saved_record("demo", "/i/saved")))
    found = list_snapshots(domain, before)
    assert [row.name for row in found if row.status == "ok"] == ["m"]
    assert not found.managed_save
    made = plan((before, domain), name="m")
    assert actions(made) == ["restore state", "make current"]
    put = [replace(before["/i/top.qcow2"], mtime_ns=20)]
    later = plan((before.edited(put=put), domain), {"times": {"/i/m.mem": 10}}, name="m")
    assert named(later, "refuse") == ["disk-changed"]


def test_what_is_neither_internal_nor_external_is_not_reverted_to() -> None:
    before, domain = internal()
    [one] = before.records
    more = SnapshotDisk("vdb", "external", "/i/base.qcow2", "/i/gone.qcow2")
    mixed = before.edited(records=(replace(one, disks=(*one.disks, more)),))
    assert "mixed-kinds" in named(plan((mixed, domain), name="a"), "refuse")


def test_a_record_without_a_definition_says_nothing_of_the_guest_then() -> None:
    for before, domain in (external(), internal()):
        bare = before.edited(records=[replace(one, xml="<domainsnapshot/>") for one in before.records])
        assert "not-supported" in named(plan((bare, domain), name="a"), "refuse")


def test_an_image_that_is_being_written_is_no_state_to_go_back_to() -> None:
    before, domain = external()
    written = before.edited(put=[replace(before["/i/one.qcow2"], held="write")])
    for to in ("off", "running"):
        assert named(plan((written, domain), name="a", to=to), "refuse") == ["in-use"]
    # Of what its own QEMU holds nothing can be told of other processes.
    running, domain = external(state="running")
    written = running.edited(put=[replace(running["/i/three.qcow2"], held="write")])
    assert named(plan((written, domain), name="a"), "refuse") == []


@pytest.mark.parametrize(
    ("state", "written", "kept"),
    [
        ("shut off", False, ()),
        ("shut off", True, ("kept2",)),
        ("running", False, ("kept2",)),
        ("shut off", None, ("kept2",)),
    ],
)
def test_what_was_written_since_an_interruption_is_kept_too(
    state: State, written: bool | None, kept: tuple[str, ...]
) -> None:
    """The guest may go on after the snapshot that keeps its state, and nobody notices that a revert was cut short."""
    before, domain = external(record("kept1", "external", "/i/two.qcow2", "/i/three.qcow2"), state=state)
    entry = RevertEntry(folder="/i", guest="demo", uuid=UUID, name="a", to="as-taken", kept="kept1")
    extents = (Extent(0, 65536),) if written else ()
    maps = {} if written is None else {"/i/three.qcow2": LayerMap("/i/three.qcow2", 1 << 20, extents)}
    made = RevertRequest.finishing(GuestRef("demo", UUID, ""), entry).plan(reading(before, domain, maps=maps))
    assert {one.name for one in made.after.records} == {"a", "b", "kept1", *kept}
    assert [step.entry.kept for step in made.steps if isinstance(step, BeginRevert)] == [*kept] or ["kept1"]
    assert ("state-lost" in named(made, "warn")) != bool(kept)


@pytest.mark.parametrize(("written", "extents", "refused"), [(99, True, True), (10, True, False), (99, False, False)])
def test_what_was_written_since_a_revert_began_is_not_discarded_by_finishing_it(
    *, written: int, extents: bool, refused: bool
) -> None:
    """The entry may be of a revert that has ended long ago, as after a restore from a backup."""
    before, domain = external()
    tree = before.edited(put=[replace(before["/i/three.qcow2"], mtime_ns=written * 10**9)])
    entry = RevertEntry(folder="/i", guest="demo", uuid=UUID, name="a", to="off")
    request = RevertRequest.finishing(GuestRef("demo", UUID, ""), entry)
    assert entry.path in request.needs(tree).times
    maps = {"/i/three.qcow2": LayerMap("/i/three.qcow2", 1 << 20, (Extent(0, 65536),) if extents else ())}
    made = request.plan(reading(tree, domain, maps=maps, times={entry.path: 9 * 10**9}))
    assert named(made, "refuse") == ["disk-changed"] * refused
    assert all(one.waivable for one in made.concerns if one.level == "refuse")


@pytest.mark.parametrize(("written", "refused"), [(5, False), (95, False), (50, True)])
def test_nor_with_a_clock_that_was_set_back(written: int, *, refused: bool) -> None:
    """The revert began at 100, and the overlay was last written at 5 then."""
    before, domain = external()
    tree = before.edited(put=[replace(before["/i/three.qcow2"], mtime_ns=written * 10**9)])
    fact = FileFact(path="/i/three.qcow2", device=1, inode=2, size=3, mtime_ns=5 * 10**9)
    entry = RevertEntry(folder="/i", guest="demo", uuid=UUID, name="a", to="off", files=(fact,))
    request = RevertRequest.finishing(GuestRef("demo", UUID, ""), entry)
    made = request.plan(reading(tree, domain, times={entry.path: 100 * 10**9}))
    assert named(made, "refuse") == ["disk-changed"] * refused
    assert any("clock was set back" in one.what for one in made.concerns) is refused


@pytest.mark.parametrize(("written", "same", "refused"), [(99, False, True), (99, True, False), (10, False, False)])
def test_nor_what_was_written_inside_an_image(*, written: int, same: bool, refused: bool) -> None:
    before, domain = internal()
    tree = before.edited(put=[replace(before["/i/top.qcow2"], mtime_ns=written * 10**9)])
    entry = RevertEntry(folder="/i", guest="demo", uuid=UUID, name="a", to="off")
    taken = frozenset({("/i/top.qcow2", "a")} if same else ())
    facts = {"times": {entry.path: 9 * 10**9}, "as_taken": taken}
    request = RevertRequest.finishing(GuestRef("demo", UUID, ""), entry)
    assert named(request.plan(reading(tree, domain, **facts)), "refuse") == ["disk-changed"] * refused
    change = InsideEntry(image="/i/top.qcow2", name="a", change="revert", table=0)
    mixed = request.plan(reading(tree, domain, entries=(change,), **facts))
    assert "disk-changed" not in named(mixed, "refuse")


@pytest.mark.parametrize(("change", "kept"), [("revert", False), ("create", True)])
def test_a_mixture_inside_an_image_is_not_kept(change: Literal["revert", "create"], kept: bool) -> None:
    before, domain = internal()
    world = before.edited(records=(*before.records, record("kept1", "internal", "/i/top.qcow2"))), domain
    entry = RevertEntry(folder="/i", guest="demo", uuid=UUID, name="a", to="as-taken", kept="kept1")
    inside = InsideEntry(image="/i/top.qcow2", name="a", change=change, table=0, names=("a",))
    made = RevertRequest.finishing(GuestRef("demo", UUID, ""), entry).plan(reading(*world, entries=(inside,)))
    assert ("kept2" in {one.name for one in made.after.records}) == kept


@pytest.mark.parametrize(
    ("there", "state", "kept"), [(True, "shut off", False), (False, "shut off", True), (True, "running", True)]
)
def test_a_state_inside_an_image_that_the_revert_has_restored_is_not_kept_again(
    state: State, *, there: bool, kept: bool
) -> None:
    before, domain = internal(state=state)
    world = before.edited(records=(*before.records, record("kept1", "internal", "/i/top.qcow2"))), domain
    entry = RevertEntry(folder="/i", guest="demo", uuid=UUID, name="a", to="as-taken", kept="kept1")
    request = RevertRequest.finishing(GuestRef("demo", UUID, ""), entry)
    assert request.needs(world[0]).as_taken == (("/i/top.qcow2", "a"),)
    same = frozenset({("/i/top.qcow2", "a")} if there else ())
    made = request.plan(reading(*world, as_taken=same))
    assert ("kept2" in {one.name for one in made.after.records}) == kept


def test_a_merge_into_the_image_that_was_interrupted_comes_first() -> None:
    before, domain = external()
    tree = before.edited(put=[image("mid.qcow2", "base.qcow2"), image("base.qcow2"), image("one.qcow2", "base.qcow2")])
    entry = MergeEntry(base="/i/base.qcow2", top="/i/mid.qcow2", merged=("/i/mid.qcow2",), children=("/i/one.qcow2",))
    assert named(plan((tree, domain), {"entries": (entry,)}, name="a"), "refuse") == ["active-job"]
    assert named(plan((tree, domain), {"entries": (replace(entry, phase="copied"),)}, name="a"), "refuse") == []


def test_memory_of_now_is_kept_or_named() -> None:
    kept = plan(external(state="running"), name="a", keep_current=True)
    lost = plan(external(state="running"), name="a", keep_current=False)
    assert "memory-lost" not in named(kept, "refuse", "warn")
    assert "memory-lost" in named(lost, "warn")


def test_an_image_that_cannot_be_read_is_not_gone_back_to() -> None:
    before, domain = external()
    closed = before.edited(put=[replace(before["/i/one.qcow2"], status="unreadable", problem="no permission")])
    assert named(plan((closed, domain), name="a"), "refuse")


@pytest.mark.parametrize(("memory", "restored"), [("internal", True), ("no", False)])
def test_the_state_of_a_tpm_goes_back_with_the_memory_alone(memory: str, restored: bool) -> None:
    xml = "<domain><devices><tpm><backend type='emulator'/></tpm></devices></domain>"
    made = plan(internal(memory=memory), {"xml": xml}, name="a")
    [said] = [concern.what for concern in made.concerns if "TPM" in concern.what]
    assert said.endswith("is restored with the memory" if restored else "is not reverted")
    assert (f"/swtpm/{UUID}" in said) is not restored


def test_an_overlay_on_an_image_that_was_not_read_takes_its_format_from_the_record() -> None:
    """Taken for raw, a qcow2 image would show its own header as the disk."""
    world, domain = external()
    unread = replace(world["/i/one.qcow2"], format=None, status="unreadable")
    made = plan((world.edited(put=[unread]), domain), name="a", keep_current=False)
    [overlay] = [step for step in made.steps if isinstance(step, CreateOverlay)]
    assert (overlay.backing.path, overlay.backing.format) == ("/i/one.qcow2", "qcow2")
    [new] = [image for image in made.after if image.path == overlay.path]
    assert new.backing == overlay.backing


def test_a_network_disk_leaves_nothing_of_its_address_to_a_file() -> None:
    disk = ET.fromstring(
        "<disk type='network'><driver type='qcow2'/><source protocol='nbd' name='x' tls='yes'>"
        "<host name='far' port='10809'/></source><target dev='vda'/></disk>"
    )
    name_image(disk, "/i/new.qcow2", format="qcow2", device=False)
    source = disk.find("source")
    assert source is not None
    assert (disk.get("type"), source.attrib, list(source)) == ("file", {"file": "/i/new.qcow2"}, [])
