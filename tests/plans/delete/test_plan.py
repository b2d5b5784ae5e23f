"""Which way a deletion takes, by the pure plans: no file is there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.readings import reading
from support.refusals import refused

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain, State, Use
from vmsnap_nb.model.image import Image, InternalSnapshot
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.model.snapshot import MANAGED_SAVE, SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.delete.edges import maybe_committed
from vmsnap_nb.plans.delete.request import DeleteRequest
from vmsnap_nb.plans.delete.steps import DeleteInternal
from vmsnap_nb.plans.journal import MergeEntry
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.snapshot.steps import ForgetRecord, MoveRecord
from vmsnap_nb.plans.step import GuestRef

GIB = 1 << 30


def image(name: str, on: str | None = None, **more: object) -> Image:
    backing = None if on is None else Reference(f"/i/{on}", "absolute", f"/i/{on}", "qcow2")
    return Image(f"/i/{name}", "qcow2", virtual_size=GIB, backing=backing, compat="1.1", **more)  # type: ignore[arg-type]


def taken(name: str, source: str, file: str, parent: str | None = None, **more: object) -> SnapshotRecord:
    disk = SnapshotDisk("vda", "external", f"/i/{source}", f"/i/{file}")
    return SnapshotRecord("demo", name, parent=parent, disks=(disk,), **more)  # type: ignore[arg-type]


def guest(top: str, state: State = "shut off") -> Domain:
    return Domain("demo", "0" * 8, state, disks=(Disk("vda", f"/i/{top}", "qcow2"),))


def forest(domain: Domain, images: list[Image], *records: SnapshotRecord) -> Forest:
    return Forest({one.path: one for one in images}, domain.uses, ("/i",), records=records)


CHAIN = [image("base"), image("own", "base"), image("a", "own"), image("b", "a"), image("c", "b")]
RECORDS = (
    taken("a", "own", "a"),
    taken("b", "a", "b", "a"),
    taken("c", "b", "c", "b", current=True),
)


def plan(name: str, *, state: State = "shut off", images: list[Image] | None = None, **options: object) -> Plan:
    domain = guest("c", state)
    facts = options.pop("facts", {})
    records = options.pop("records", RECORDS)
    request = DeleteRequest(guest=GuestRef("demo", "0" * 8, ""), name=name, **options)  # type: ignore[arg-type]
    return request.plan(reading(forest(domain, images or CHAIN, *records), domain, **facts))  # type: ignore[arg-type, misc]


def directions(made: Plan) -> dict[str, bool]:
    return {way.what.partition(" ")[0]: way.chosen for way in made.alternatives}


def test_down_by_default_and_what_was_chosen_before_stays() -> None:
    first = plan("b")
    assert directions(first) == {"commit": True, "pull": False}
    other = next(way.what for way in first.alternatives if not way.chosen)
    again = plan("b", prefer=(other,))
    assert directions(again) == {"commit": False, "pull": True}
    assert again.after.parent("/i/b") == "/i/own"
    assert again.unlinks == ("/i/a",)


def test_the_records_that_stay_are_put_right() -> None:
    down = plan("b")
    assert [(step.name, step.path, step.now) for step in down.steps if isinstance(step, MoveRecord)] == [
        ("c", "/i/b", "/i/a")
    ]
    [forgotten] = [step for step in down.steps if isinstance(step, ForgetRecord)]
    assert (forgotten.name, forgotten.parent, [one.name for one in forgotten.children]) == ("b", "a", ["c"])
    assert {record.name: record.parent for record in down.after.records} == {"a": None, "c": "a"}
    up = plan("b", prefer=("pull a into b (disk vda)",))
    assert [(step.name, step.path, step.now) for step in up.steps if isinstance(step, MoveRecord)] == [
        ("a", "/i/a", "/i/b")
    ]


def test_the_current_one_hands_over_to_its_parent() -> None:
    made = plan("c")
    assert [record.name for record in made.after.records if record.current] == ["b"]
    [use] = made.after.uses
    assert use.path == "/i/b"


def test_a_guest_that_runs_goes_down_below_its_own_image() -> None:
    made = plan("b", state="running")
    assert directions(made) == {"commit": True, "pull": False}
    assert any("of a running guest" in way.refused for way in made.alternatives)


def test_the_state_of_one_that_stays_is_never_written() -> None:
    """Two records name the same image: nothing is committed into it, and it stays."""
    images = [*CHAIN, image("x", "a")]
    made = plan("b", images=images, records=(*RECORDS, taken("x", "a", "x", "a")))
    assert directions(made) == {"commit": False, "pull": True}
    assert made.unlinks == ()
    assert made.writes == ("/i/b",)
    # And where the other one's overlay is not there any more.
    alone = plan("b", records=(*RECORDS, taken("x", "a", "x", "a")), facts={"gone": {"/i/x"}})
    assert directions(alone) == {"commit": False, "pull": True}


def test_what_another_guest_stands_on_is_not_written_though_it_would_read_the_same() -> None:
    def with_other(backing: str, name: str) -> Plan:
        domain = guest("c")
        images = [*CHAIN, image("theirs", backing)]
        made = forest(domain, images, *RECORDS).edited(uses=(*domain.uses, Use("other", "vda", "/i/theirs")))
        return DeleteRequest(guest=GuestRef("demo", "0" * 8, ""), name=name).plan(reading(made, domain))

    both = with_other("a", "a")  # down it would write own and theirs, up a
    assert refused(both) == {"shared-base"}
    assert all("other depends on" in way.refused for way in both.alternatives)
    both.check(waive="shared-base")
    up = with_other("a", "b")  # down it would change what they read, up only b is written
    assert (directions(up), refused(up), up.writes) == ({"commit": False, "pull": True}, set(), ("/i/b",))
    assert refused(with_other("a", "c")) == set()


def test_a_protected_image_is_not_removed() -> None:
    images = [replace(one, writable=False) if one.path == "/i/a" else one for one in CHAIN]
    made = plan("b", images=images, prefer=("pull a into b (disk vda)",))
    assert made.unlinks == ()
    assert any("it is write-protected" in concern.what for concern in made.concerns)


def test_saved_memory_keeps_its_disk() -> None:
    records = (*RECORDS, SnapshotRecord("demo", MANAGED_SAVE, "", memory="external"))
    for name, way in (("b", "pull a into b (disk vda)"), ("c", "pull b into c (disk vda)")):
        made = plan(name, records=records)
        assert refused(made) == set()
        assert [one.what for one in made.alternatives if one.chosen] == [way], "the other way breaks the chain"
        assert made.unlinks == (), "the memory goes on with all layers that it names"
        down = next(one for one in made.alternatives if one.what.startswith("commit"))
        assert "the managed save of demo needs" in down.refused


def test_a_memory_file_goes_unless_another_record_names_it() -> None:
    with_memory = replace(RECORDS[1], memory="external", memory_file="/i/m")
    assert "/i/m" in plan("b", records=(RECORDS[0], with_memory, RECORDS[2])).unlinks
    shared = replace(RECORDS[0], memory="external", memory_file="/i/m")
    assert "/i/m" not in plan("b", records=(shared, with_memory, RECORDS[2])).unlinks


def test_internal_ones_by_the_state_of_the_guest() -> None:
    inside = InternalSnapshot("1", "i", virtual_size=GIB)
    record = SnapshotRecord("demo", "i", disks=(SnapshotDisk("vda", "internal", "/i/c"),), current=True)
    images = [*CHAIN[:-1], image("c", "b", snapshots=(inside,))]
    off = plan("i", images=images, records=(record,))
    assert [step.action for step in off.steps] == ["drop snapshot", "remove record"]
    assert off.after["/i/c"].snapshots == ()
    live = plan("i", state="running", images=images, records=(record,))
    assert [step.action for step in live.steps] == ["delete snapshot"]
    below = replace(record, disks=(SnapshotDisk("vda", "internal", "/i/b"),))
    images = [*CHAIN[:3], image("b", "a", snapshots=(inside,)), CHAIN[4]]
    assert refused(plan("i", state="running", images=images, records=(below,))) == {"in-use"}
    assert refused(plan("i", images=images, records=(below,))) == set()
    busy = {"jobs": {"vda": "pull"}}
    images = [*CHAIN[:-1], image("c", "b", snapshots=(inside,))]
    assert refused(plan("i", state="running", images=images, records=(record,), facts=busy)) == {"active-job"}


def test_all_that_follow_each_other_are_one_merge() -> None:
    made = plan("a", children="also")
    assert len(made.alternatives) == 2
    assert made.after.parent("/i/own") == "/i/base"
    assert [record.name for record in made.after.records] == []
    with pytest.raises(InvalidRequestError):
        plan("c", children="only")


def test_metadata_alone_leaves_every_image() -> None:
    made = plan("a", children="also", metadata_only=True)
    assert [step.name for step in made.steps if isinstance(step, ForgetRecord)] == ["c", "b", "a"]
    assert len(made.steps) == 3
    assert made.after.images == made.before.images


def test_libvirt_does_it_itself_where_that_is_safe() -> None:
    new = {"libvirt_version": (11, 3, 0)}
    native = plan("b", state="running", facts=new)
    assert [step.action for step in native.steps] == ["delete snapshot"]
    ours = plan("b", state="running", facts={"libvirt_version": (10, 10, 0)})
    assert "commit live" in [step.action for step in ours.steps]
    assert [("11.0 and later do not" in c.what) for c in ours.concerns if c.name == "not-supported"] == [True]
    assert not [c for c in native.concerns if c.name == "not-supported"]
    assert (native.after.images, native.after.records) == (ours.after.images, ours.after.records)
    assert (native.writes, native.unlinks) == (ours.writes, ours.unlinks)
    # Otherwise by our own steps: off, with its children, where another overlay stands on it, below an internal one.
    inside = SnapshotRecord("demo", "i", disks=(SnapshotDisk("vda", "internal", "/i/own"),))
    for made in (
        plan("b", facts=new),
        plan("a", state="running", children="also", facts=new),
        plan("b", state="running", images=[*CHAIN, image("x", "b")], facts=new),
        plan("a", state="running", records=(inside, replace(RECORDS[0], parent="i"), *RECORDS[1:]), facts=new),
    ):
        assert made.steps
        assert not {"delete snapshot"} & {step.action for step in made.steps}


def test_what_libvirt_has_committed_is_only_tidied_up() -> None:
    """libvirt's own deletion was cut short: c stands on a now, and the records do not say so yet."""
    images = [*CHAIN[:4], image("c", "a")]
    domain = guest("c", "running")
    assert list(maybe_committed(forest(domain, images, *RECORDS))) == [("/i/b", "/i/a")]
    alike = {"alike": {("/i/b", "/i/a")}}
    made = plan("b", state="running", images=images, facts=alike)
    assert not made.refused
    assert [step.action for step in made.steps] == ["write record", "remove", "remove record"]
    assert made.unlinks == ("/i/b",)
    [c] = [record for record in made.after.records if record.name == "c"]
    assert [(disk.source, disk.file) for disk in c.disks] == [("/i/a", "/i/c")]
    # What was cut short before all of it was written waits: its entry tells.
    torn = MergeEntry(base="/i/a", top="/i/b", merged=("/i/b",), children=("/i/c",), remove=True)
    unsure = {"entries": (torn,), **alike}
    assert refused(plan("b", state="running", images=images, facts=unsure)) == {"active-job"}
    # The same after a rebase by hand, with another content: then it is the state of a snapshot that stays.
    assert "/i/b" not in plan("b", state="running", images=images).unlinks


@pytest.mark.parametrize("reader", [image("x", "b"), image("c", "b")], ids=["another", "its own"])
def test_what_somebody_reads_is_not_taken_for_committed(reader: Image) -> None:
    images = [*CHAIN[:4], image("c", "a"), reader]
    assert list(maybe_committed(forest(guest("c"), images, *RECORDS))) == []


def test_the_image_of_a_detached_disk_stays() -> None:
    disks = (SnapshotDisk("vda", "external", "/i/own", "/i/a"), SnapshotDisk("sda", "external", "/i/hot", "/i/hot.s"))
    record = SnapshotRecord("demo", "a", disks=disks, current=True)
    images = [*CHAIN, image("hot"), image("hot.s", "hot")]
    made = plan("a", images=images, records=(record,))
    assert "/i/hot.s" not in made.unlinks
    assert "/i/hot.s" in made.after.images
    assert [one.level for one in made.concerns if "/i/hot.s" in one.images] == ["note"]


@pytest.mark.parametrize("unseen", [{"status": "unreadable"}, {"known_from": "volume"}])
def test_what_may_be_inside_an_image_that_was_not_read(unseen: dict[str, object]) -> None:
    """libvirt looks into the disks of the guest itself; into another image nobody does."""
    records = (SnapshotRecord("demo", "s", disks=(SnapshotDisk("vda", "internal", "/i/c"),)),)
    own = plan("s", images=[*CHAIN[:-1], image("c", "b", **unseen)], records=records)
    assert (refused(own), [type(step) for step in own.steps]) == (set(), [DeleteInternal])
    records = (SnapshotRecord("demo", "s", disks=(SnapshotDisk("vda", "internal", "/i/x"),)),)
    elsewhere = plan("s", images=[*CHAIN, image("x", **unseen)], records=records)
    assert refused(elsewhere) == {"unknown-image"}


# -- external snapshots whose images are not all as they were --------------------------------------------------------


def at(top: str, name: str, images: list[Image], *records: SnapshotRecord, **facts: object) -> Plan:
    """Delete a snapshot of a guest that goes on in `top`."""
    domain = guest(top)
    request = DeleteRequest(guest=GuestRef("demo", "0" * 8, ""), name=name)
    return request.plan(reading(forest(domain, images, *(records or RECORDS)), domain, **facts))


REVERTED = [*CHAIN, image("d", "b", writable=True)]
"""The guest has gone back to the snapshot c, and left its overlay behind."""


def levels(made: Plan, name: str) -> list[str]:
    return [concern.level for concern in made.concerns if concern.name == name]


def test_an_overlay_that_nobody_reads_goes_without_a_merge_and_its_data_is_named() -> None:
    made = at("d", "c", REVERTED)
    assert (made.unlinks, made.writes, refused(made)) == (("/i/c",), (), set())
    assert levels(made, "state-lost") == ["warn"]
    inside = [replace(one, snapshots=(InternalSnapshot("1", "in"),)) if one.name == "c" else one for one in REVERTED]
    assert any("or its internal snapshots (in)" in one.what for one in at("d", "c", inside).concerns)
    marked = [replace(one, status="invalid") if one.name == "c" else one for one in REVERTED]
    made = at("d", "c", marked)
    assert made.unlinks == ("/i/c",)
    assert levels(made, "state-lost") == [], "what it held is elsewhere"
    protected = [replace(one, writable=False) if one.name == "c" else one for one in REVERTED]
    made = at("d", "c", protected)
    assert (made.unlinks, levels(made, "read-only")) == ((), ["note"])
    other = replace(RECORDS[2], disks=(replace(RECORDS[2].disks[0], target="vdb"),))
    made = at("d", "c", REVERTED, *RECORDS[:2], other)
    assert made.unlinks == ()
    assert "no longer has disk vdb" in made.way
    assert [step.name for step in made.steps if isinstance(step, ForgetRecord)] == ["c"]


def test_what_an_overlay_that_is_gone_had_needs_no_merge_but_what_is_based_on_it_is_not_left() -> None:
    gone = [replace(one, status="missing", backing=None) if one.name == "c" else one for one in REVERTED]
    made = at("d", "c", gone)
    assert (made.unlinks, made.writes, refused(made)) == ((), (), set())
    assert "there is nothing to merge for disk vda" in made.way
    assert [step.name for step in made.steps if isinstance(step, ForgetRecord)] == ["c"]
    assert refused(at("e", "c", [*gone, image("e", "c")])) == {"missing-base"}
    away = [one for one in REVERTED if one.name != "c"]
    assert refused(at("d", "c", away)) == {"unknown-image"}
    assert refused(at("d", "c", away, gone=frozenset({"/i/c"}))) == set()
    (concern,) = (one for one in at("d", "c", away, unknown={"/i/c": "no"}).concerns if one.name == "unknown-image")
    assert concern.what == "cannot tell whether /i/c exists: no"


def test_a_layer_that_was_marked_or_whose_base_is_gone_is_not_merged() -> None:
    marked = [replace(one, status="invalid") if one.name == "b" else one for one in CHAIN]
    assert at("c", "b", marked).writes == ()
    base = [replace(one, status="missing", backing=None) if one.name == "own" else one for one in CHAIN]
    made = at("c", "a", base)
    assert made.writes == made.unlinks == ()
    assert "warn" in levels(made, "missing-base")


def test_the_layer_that_an_interrupted_pull_left_behind_is_removed_unless_it_is_needed() -> None:
    pulled = [replace(one, backing=CHAIN[2].backing) if one.name == "b" else one for one in CHAIN]
    made = at("c", "b", pulled)
    assert made.unlinks == ("/i/a",)
    assert levels(made, "state-lost") == ["warn"]
    assert [(step.name, step.path, step.now) for step in made.steps if isinstance(step, MoveRecord)] == [
        ("a", "/i/a", "/i/b")
    ]
    assert at("c", "b", [*pulled, image("x", "a")]).unlinks == ()
    elsewhere = [replace(one, backing=CHAIN[1].backing) if one.name == "b" else one for one in CHAIN]
    assert at("c", "b", elsewhere).unlinks == ()


def test_memory_goes_with_the_last_snapshot_that_has_it() -> None:
    own = replace(RECORDS[1], memory="external", memory_file="/i/m")
    assert "/i/m" in at("c", "b", CHAIN, RECORDS[0], own, RECORDS[2]).unlinks
    both = replace(RECORDS[2], memory="external", memory_file="/i/m")
    assert "/i/m" not in at("c", "b", CHAIN, RECORDS[0], own, both).unlinks
    assert "/i/m" not in at("c", "b", CHAIN, RECORDS[0], own, RECORDS[2], gone=frozenset({"/i/m"})).unlinks
    assert "unknown-image" in refused(at("c", "b", CHAIN, RECORDS[0], own, RECORDS[2], unknown={"/i/m": "no"}))
