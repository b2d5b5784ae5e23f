"""What becomes of libvirt's records in a merge: which are put right, which go, and with which files of memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import handout
from support.readings import reading

from vmsnap_nb.model.guest import Disk, Domain
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.merge.request import CommitRequest
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
    plan = commit("Snap-2", own, replace(own, guest="other", name="theirs"))
    assert (moved(plan), forgotten(plan)) == (["s"], [])


def test_a_record_that_was_wrong_before_is_neither_put_right_nor_forgotten() -> None:
    wrong = record("wrong", "Snap-1", "elsewhere")
    plan = commit("Snap-2", wrong, record("s", "Snap-3", "Snap-4"))
    assert (moved(plan), forgotten(plan)) == (["s"], [])
    assert wrong in plan.after.records


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
