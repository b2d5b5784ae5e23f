"""What becomes of libvirt's records in a merge: which are put right, which go, and with which files of memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import MIB, handout, image
from support.merges import FACTS, finish
from support.readings import reading

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.facts import GuestFacts
from vmsnap_nb.plans.journal import MergeEntry
from vmsnap_nb.plans.merge.records import with_records
from vmsnap_nb.plans.merge.request import CommitRequest, PullRequest
from vmsnap_nb.plans.merge.steps import RemoveFile
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.snapshot.steps import ForgetRecord, MoveRecord

GUEST = Domain("g", "u", "shut off", True, (Disk("vda", "/i/Snap-4", "qcow2"),))


def record(name: str, source: str, file: str, **fields: object) -> SnapshotRecord:
    disk = SnapshotDisk("vda", "external", f"/i/{source}", f"/i/{file}")
    return SnapshotRecord("g", name, "disk-snapshot", disks=(disk,), xml="<domainsnapshot/>", **fields)  # type: ignore[arg-type]


def commit(base: str, *records: SnapshotRecord, remove: bool = False, guest: Domain = GUEST) -> Plan:
    tree = handout().edited(uses=GUEST.uses, records=records)
    return CommitRequest(guest="g", top="Snap-3", base=base, remove=remove).plan(reading(tree, guest))


def moved(plan: Plan) -> list[str]:
    return [step.name for step in plan.steps if isinstance(step, MoveRecord)]


def forgotten(plan: Plan) -> list[str]:
    return [step.name for step in plan.steps if isinstance(step, ForgetRecord)]


def removed(plan: Plan) -> set[str]:
    return {step.path for step in plan.steps if isinstance(step, RemoveFile)}


def test_a_record_of_another_guest_is_not_written() -> None:
    own = record("s", "Snap-3", "Snap-4")
    for name in ("theirs", "s"):
        plan = commit("Snap-2", own, replace(own, guest="other", name=name))
        assert (moved(plan), forgotten(plan)) == (["s"], [])


def test_a_record_that_was_wrong_before_is_neither_put_right_nor_forgotten() -> None:
    wrong = record("wrong", "Snap-1", "elsewhere")
    plan = commit("Snap-2", wrong, record("s", "Snap-3", "Snap-4"))
    assert (moved(plan), forgotten(plan)) == (["s"], [])
    assert wrong in plan.after.records
    # Nor because a snapshot of another guest has its name.
    assert forgotten(commit("Snap-2", wrong, replace(record("wrong", "Snap-3", "Snap-4"), guest="other"))) == []


@pytest.mark.parametrize("remove", [True, False])
def test_memory_goes_with_its_snapshot_and_the_layers(remove: bool) -> None:
    own = record("s", "Snap-2", "Snap-3", memory="external", memory_file="/i/s.mem")
    plan = commit("Snap-1", own, remove=remove)
    assert forgotten(plan) == ["s"]
    assert ("/i/s.mem" in removed(plan)) is remove
    assert [one.level for one in plan.concerns if one.name == "memory-lost"] == ["note"]
    shared = commit("Snap-1", own, record("t", "Snap-3", "Snap-4", memory_file="/i/s.mem"), remove=remove)
    assert "/i/s.mem" not in removed(shared), "another snapshot has it"
    assert forgotten(shared) == ["s"]
    other = commit("Snap-1", own, replace(own, guest="other"), remove=remove)
    assert "/i/s.mem" not in removed(other)


def memory_of(plan: Plan) -> list[str]:
    return [f"{one.what} | {one.remedy}" for one in plan.concerns if one.name == "memory-lost"]


def test_what_becomes_of_memory_is_said_with_its_size() -> None:
    own = record("s", "Snap-2", "Snap-3", memory="external", memory_file="/i/s.mem")
    (gone,) = memory_of(commit("Snap-1", own, remove=True))
    assert "/i/s.mem is removed" in gone
    (kept,) = memory_of(commit("Snap-1", replace(own, memory_size=MIB)))
    assert "/i/s.mem (1 MiB) is kept, but cannot be restored" in kept
    (written,) = memory_of(commit("Snap-1", replace(record("s", "Snap-1", "Snap-2"), memory_file="/i/s.mem")))
    assert "cannot be restored" in written
    assert "report.cleanup()" in kept
    # The state itself is in an image that stays as it is: only the overlay on it was merged away.
    away = record("s", "RootBase", "Snap-3", memory="external", memory_file="/i/s.mem")
    entry = MergeEntry(base="/i/Snap-2", top="/i/Snap-3", merged=("/i/Snap-3",), children=("/i/Snap-4",))
    plan = with_records(finish(disks(away), entry), GuestFacts(domain=TWO))
    (apart,) = memory_of(plan)
    assert "/i/s.mem is kept without a snapshot record" in apart
    assert apart.endswith("rm -- /i/s.mem")


def test_memory_that_is_gone_already_is_not_removed_again() -> None:
    own = record("s", "Snap-2", "Snap-3", memory="external", memory_file="/i/s.mem")
    tree = handout().edited(uses=GUEST.uses, records=[own])
    request = CommitRequest(guest="g", top="Snap-3", base="Snap-1", remove=True)
    assert "/i/s.mem" not in removed(request.plan(reading(tree, GUEST, gone=frozenset({"/i/s.mem"}))))


TWO = replace(GUEST, disks=(*GUEST.disks, Disk("vdb", "/i/B2", "qcow2")))
MERGED = MergeEntry(
    base="/i/Snap-2", top="/i/Snap-3", merged=("/i/Snap-3",), children=("/i/Snap-4",), phase="copied", guest="g"
)
ALIKE = replace(FACTS, alike=frozenset({("/i/Snap-3", "/i/Snap-2")}))


def disks(*records: SnapshotRecord, **top: object) -> Forest:
    """A guest with two disks; Snap-3 and `top` are what is left of a merge of the first."""
    tree = handout(image("B0"), image("B1", "B0"), image("B2", "B1"), uses=TWO.uses)
    return tree.edited(records=records, put=[replace(tree["/i/Snap-3"], **top)])  # type: ignore[arg-type]


def resumed(tree: Forest, *, again: bool = True) -> Plan:
    return with_records(finish(tree, MERGED, facts=ALIKE), GuestFacts(domain=TWO), resumed=again)


def both(name: str, first: tuple[str, str], second: tuple[str, str]) -> SnapshotRecord:
    one = record(name, *first)
    return replace(one, disks=(*one.disks, replace(record(name, *second).disks[0], target="vdb")))


def test_a_deletion_that_is_half_done_keeps_its_record_until_all_disks_are_done() -> None:
    own = both("s", ("Snap-2", "Snap-3"), ("B1", "B2"))

    def lost(plan: Plan) -> list[str]:
        return [str(one.what) for one in plan.concerns if one.name == "state-lost"]

    for status in ("ok", "invalid"):
        tree = disks(own, status=status)
        plan = resumed(tree)
        assert forgotten(plan) == moved(plan) == []
        assert own in plan.after.records
        (half,) = lost(plan)
        assert "remains only for these disks: vdb" in half
        rest = {
            "merged as well": tree.edited(put=[replace(tree["/i/B2"], status="invalid")]),
            "based elsewhere": tree.edited(put=[image("B2", "B0")]),
            "gone": tree.edited(drop=["/i/B2"]),
            "another disk": tree.edited(records=[record("s", "Snap-2", "Snap-3")]),
        }
        for why, done in rest.items():
            plan = resumed(done)
            assert forgotten(plan) == ["s"], why
            assert plan.after.records == ()
            (ended,) = lost(plan)
            assert "removes the record" in ended
        assert forgotten(resumed(tree.edited(records=[replace(own, guest="other")]))) == []
    assert forgotten(resumed(disks(own), again=False)) == ["s"], "a merge of its own ends the snapshot"


def test_a_record_that_is_put_right_stays_though_another_disk_of_it_is_wrong() -> None:
    """The merge of that disk may have been interrupted as well."""
    own = both("s", ("Snap-3", "Snap-4"), ("B1", "away"))
    tree = disks(own)
    for again in (True, False):
        plan = resumed(tree.edited(put=[image("away", status="missing", format=None)]), again=again)
        assert (moved(plan), forgotten(plan)) == (["s"], [])
        assert [disk.source for disk in plan.after.records[0].disks] == ["/i/Snap-2", "/i/B1"]
        assert "state-lost" not in {one.name for one in plan.concerns}
    wrong = record("t", "B1", "away")
    plan = resumed(tree.edited(put=[image("away", status="missing", format=None)], records=[wrong]))
    assert (moved(plan), forgotten(plan)) == ([], [])


def test_a_record_is_written_with_all_that_the_next_start_needs() -> None:
    own = record("s", "Snap-3", "Snap-4", current=True)
    for device, format in ((False, "qcow2"), (True, "raw")):
        tree = disks(own)
        base = replace(tree["/i/Snap-2"], device=device, format=format)
        (step,) = (one for one in resumed(tree.edited(put=[base])).steps if isinstance(one, MoveRecord))
        assert (step.path, step.now, step.format, step.current) == ("/i/Snap-3", "/i/Snap-2", format, True)
        assert ("/i/Snap-2" in step.devices) is device


def test_records_are_put_right_after_the_copying_and_before_anything_goes() -> None:
    own = record("s", "Snap-3", "Snap-4"), record("t", "Snap-2", "Snap-3", memory_file="/i/t.mem")
    actions = [step.action for step in commit("Snap-1", *own, remove=True).steps]
    assert actions == [
        "commit",
        "repoint",
        "mark invalid",
        "mark invalid",
        "write record",
        "remove record",
        "remove",
        "remove",
        "remove",
        "finish",
    ]


def test_a_pull_that_removes_layers_ends_the_snapshots_in_them() -> None:
    own = record("s", "Snap-3", "Snap-4", memory="external", memory_file="/i/s.mem")
    tree = handout().edited(uses=GUEST.uses, records=[own])
    request = PullRequest(guest="g", into="Snap-4", base="Snap-2", remove=True)
    plan = request.plan(reading(tree, GUEST))
    assert forgotten(plan) == ["s"]
    assert removed(plan) == {"/i/Snap-3", "/i/s.mem"}
    kept = replace(request, remove=False).plan(reading(tree, GUEST))
    assert "/i/s.mem" not in removed(kept)


def test_a_state_inside_a_layer_is_not_said_to_be_in_the_base() -> None:
    inside = replace(record("s", "Snap-3", "Snap-4"), disks=(SnapshotDisk("vda", "internal", "/i/Snap-3"),))
    assert moved(commit("Snap-2", inside)) == []
    mixed = both("s", ("Snap-3", "Snap-4"), ("B1", "B2"))
    mixed = replace(mixed, disks=(mixed.disks[0], SnapshotDisk("vdb", "internal", "/i/B1")))
    assert moved(resumed(disks(mixed))) == []


def test_a_record_of_a_guest_with_checkpoints_is_not_changed_while_it_is_off() -> None:
    plan = commit("Snap-2", record("s", "Snap-3", "Snap-4"), guest=replace(GUEST, checkpoints=("c",)))
    assert "backup-chain" in {one.name for one in plan.concerns if one.level == "refuse"}


def test_the_records_above_one_that_goes_are_given_its_parent_first() -> None:
    """By hand as well: libvirt would change the images that they name. With checkpoints it refuses that."""
    below, above = record("r", "RootBase", "Snap-1"), record("t", "RootBase", "Snap-1", parent="s")
    own = record("s", "Snap-2", "Snap-3", parent="r")
    plan = commit("Snap-1", below, own, above)
    (step,) = (one for one in plan.steps if isinstance(one, ForgetRecord))
    assert (step.name, step.parent, step.children) == ("s", "r", (above,))
    assert [one.parent for one in plan.after.records] == [None, "r"]
    marked = replace(GUEST, checkpoints=("c",))
    assert "backup-chain" in {one.name for one in commit("Snap-1", below, own, above, guest=marked).concerns}
    assert "backup-chain" not in {one.name for one in commit("Snap-1", below, own, guest=marked).concerns}
