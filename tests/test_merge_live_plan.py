"""Plans of merges while the guest runs, as pure functions: several jobs, records, keys; without libvirt."""

from __future__ import annotations

from dataclasses import replace

import pytest
from forests import image
from refusals import refused
from test_merge_plan import UNIT, handout, maps

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain, Use
from vmsnap_nb.model.snapshot import MANAGED_SAVE, SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.merge import plan_finish
from vmsnap_nb.plans.merge_live import (
    LiveRequest,
    plan_guest_cleanup,
    plan_guest_commit,
    plan_guest_finish,
    plan_guest_pull,
    plan_guest_shorten,
)
from vmsnap_nb.plans.merge_note import MergeNote

GUEST = Domain("g", "u", "running", True, (Disk("vda", "/i/Snap-4", "qcow2"),))
SMALL_BETWEEN_LARGE = maps(
    RootBase=tuple(range(40)),
    Snap_1=(50,),
    Snap_2=tuple(range(60, 90)),
    Snap_3=(100,),
    Snap_4=tuple(range(110, 140)),
)


def request(*, jobs: dict[str, str] | None = None) -> LiveRequest:
    return LiveRequest(GUEST, GUEST.disks[0], jobs=jobs or {})


def running(forest: Forest, *records: SnapshotRecord) -> Forest:
    return forest.edited(uses=GUEST.uses, records=records)


def external(name: str, source: str, file: str) -> SnapshotRecord:
    disk = SnapshotDisk("vda", "external", f"/i/{source}", f"/i/{file}")
    return SnapshotRecord("g", name, "disk-snapshot", disks=(disk,), xml="<domainsnapshot/>")


def test_small_layers_between_large_ones_go_down_one_job_after_the_other() -> None:
    plan = plan_guest_shorten(running(handout()), request(), keep=3, facts=SMALL_BETWEEN_LARGE)
    assert not plan.refused
    assert [one.name for one in plan.after.chain("/i/Snap-4")] == ["RootBase", "Snap-2", "Snap-4"]
    assert plan.bytes_to_copy == 2 * UNIT
    assert [step.action for step in plan.steps if step.size] == ["commit live", "commit live"]
    assert plan.way.startswith("live by block jobs of QEMU")
    assert set(plan.invalid) == {"/i/Snap-1", "/i/Snap-3"}
    up = next(way for way in plan.alternatives if "everything up" in way.what)
    assert "only into the image that the guest writes to" in up.refused


def test_every_record_is_put_right_that_one_of_several_jobs_concerns() -> None:
    records = (external("two", "Snap-1", "Snap-2"), external("four", "Snap-3", "Snap-4"))
    plan = plan_guest_shorten(running(handout(), *records), request(), keep=3, facts=SMALL_BETWEEN_LARGE)
    assert [record.disks[0].source for record in plan.after.records] == ["/i/RootBase", "/i/Snap-2"]
    actions = [step.action for step in plan.steps]
    assert actions.count("write record") == 2
    assert actions.index("finish") > max(n for n, action in enumerate(actions) if action == "write record")


def test_what_cannot_be_done_while_the_guest_runs() -> None:
    forest = running(handout())
    with pytest.raises(InvalidRequestError, match="is in the way of a commit"):
        plan_guest_shorten(forest, request(), keep=["/i/Snap-2"], facts=SMALL_BETWEEN_LARGE)
    kept = plan_guest_shorten(forest, request(), keep=["/i/RootBase", "/i/Snap-1"], facts=SMALL_BETWEEN_LARGE)
    assert [step.action for step in kept.steps if step.size] == ["pull live"]
    assert refused(plan_guest_pull(forest, request(), into="/i/Snap-3", facts=SMALL_BETWEEN_LARGE)) == {"not-supported"}
    busy = plan_guest_commit(forest, request(jobs={"vda": "pull"}), top="/i/Snap-3", facts=SMALL_BETWEEN_LARGE)
    assert refused(busy) == {"active-job"}


def test_saved_memory_keeps_the_image_that_it_goes_on_with() -> None:
    off = Domain("g", "u", "shut off", True, GUEST.disks)
    saved = SnapshotRecord("g", MANAGED_SAVE, "", memory="external")
    forest = handout().edited(uses=[Use("g", "vda", "/i/Snap-4")], records=[saved])
    asks = LiveRequest(off, off.disks[0])
    plan = plan_guest_commit(forest, asks, base="/i/Snap-3")
    assert refused(plan) == {"managed-save"}
    assert plan.concerns[0].images == ("/i/Snap-4",)
    assert refused(plan_guest_commit(forest, asks, top="/i/Snap-3")) == set(), "it goes on with Snap-4, as before"
    assert refused(plan_guest_commit(forest.edited(records=[]), asks, base="/i/Snap-3")) == set()


def test_a_guest_that_has_not_got_its_new_disk_yet_is_never_left_with_a_merged_one() -> None:
    """A commit of the image that a guest writes to, cut short when all was copied and the guest not yet pointed."""
    off = Domain("g", "u", "shut off", True, GUEST.disks)
    forest = handout().edited(uses=off.uses)
    note = MergeNote("/i/Snap-3", "/i/Snap-4", ("/i/Snap-4",), phase="copied", remove=True)
    facts = replace(SMALL_BETWEEN_LARGE, notes=(note,))
    plan = plan_guest_finish(forest, LiveRequest(off, off.disks[0], remove=True), note, facts=facts)
    assert not plan.refused
    assert [use.path for use in plan.after.uses] == ["/i/Snap-3"]
    actions = [step.action for step in plan.steps]
    # It may have been started since, and have written to its image.
    assert actions.index("commit") < actions.index("set disk") < actions.index("mark invalid")
    # Who knows the images alone leaves it to the guest.
    assert refused(plan_finish(forest, note, facts=facts)) == {"in-use"}


def test_a_commit_whose_qemu_may_not_have_written_its_tables_is_taken_back() -> None:
    off = Domain("g", "u", "shut off", True, GUEST.disks)
    forest = handout(image("Snap-4", "Snap-2")).edited(uses=off.uses)
    note = MergeNote("/i/Snap-2", "/i/Snap-3", ("/i/Snap-3",), ("/i/Snap-4",), remove=True)
    facts = replace(SMALL_BETWEEN_LARGE, notes=(note,))
    asks = LiveRequest(off, off.disks[0], remove=True)
    plan = plan_guest_finish(forest, asks, note, facts=facts, untouched=True)
    assert not plan.refused
    assert plan.title == "take back the merge of Snap-3 into Snap-2"
    assert [step.action for step in plan.steps] == ["repoint"], "and the note stays: a part may be in the base"
    assert [one.name for one in plan.after.chain("/i/Snap-4")] == ["RootBase", "Snap-1", "Snap-2", "Snap-3", "Snap-4"]
    assert plan.unlinks == plan.invalid == ()
    assert [concern.level for concern in plan.concerns] == ["warn"]
    assert refused(plan_guest_finish(forest, asks, note, facts=facts)) == {"disk-changed"}
    # qemu-img asks for the key, even if only the header changes.
    secret = forest.edited(put=[replace(forest["/i/Snap-4"], encryption="luks")])
    assert refused(plan_guest_finish(secret, asks, note, facts=facts, untouched=True)) == {"not-supported"}
    # All was copied: then only what comes after it is left.
    plan = plan_guest_finish(forest, asks, replace(note, phase="copied"), facts=facts)
    assert plan.unlinks == ("/i/Snap-3",)
    # It is marked as invalid only when all is there.
    marked = forest.edited(put=[replace(forest["/i/Snap-3"], status="invalid")])
    assert plan_guest_finish(marked, asks, note, facts=facts).unlinks == ("/i/Snap-3",)


@pytest.mark.parametrize("stands_on", ["Snap-2", "Snap-3"])
def test_nothing_goes_on_without_the_layer_that_was_merged(stands_on: str) -> None:
    off = Domain("g", "u", "shut off", True, GUEST.disks)
    whole = handout(image("Snap-4", stands_on))
    forest = whole.edited(uses=off.uses, put=[replace(whole["/i/Snap-3"], status="missing")])
    asks = LiveRequest(off, off.disks[0], remove=True)
    note = MergeNote("/i/Snap-2", "/i/Snap-3", ("/i/Snap-3",), ("/i/Snap-4",), remove=True)
    for one in (note, replace(note, by_libvirt=True)):
        facts = replace(SMALL_BETWEEN_LARGE, notes=(one,))
        done = one.by_libvirt and stands_on == "Snap-2"
        plan = plan_guest_finish(forest, asks, one, facts=facts, untouched=True)
        # libvirt, which goes on alone, removes it when all is done, and then nothing names it any more.
        assert refused(plan) == (set() if done else {"missing-base"})
        assert [step.action for step in plan.steps] == (["finish"] if done else [])


@pytest.mark.parametrize("by_libvirt", [True, False])
def test_a_layer_of_another_folder_may_only_be_missing_now(by_libvirt: bool) -> None:
    off = Domain("g", "u", "shut off", True, GUEST.disks)
    forest = handout(image("Snap-4", "Snap-2")).edited(uses=off.uses)
    asks = LiveRequest(off, off.disks[0], remove=True)
    note = MergeNote("/i/Snap-2", "/away/x", ("/away/x",), ("/i/Snap-4",), remove=True, by_libvirt=by_libvirt)
    plan = plan_guest_finish(forest, asks, note, facts=replace(SMALL_BETWEEN_LARGE, notes=(note,)), untouched=True)
    assert refused(plan) == (set() if by_libvirt else {"missing-base"})
    record = external("x", "Snap-2", "x")
    record = replace(record, disks=(replace(record.disks[0], file="/away/x"),))
    plan = plan_guest_finish(forest.edited(records=[record]), asks, note, untouched=True)
    assert refused(plan) == {"missing-base"}, "libvirt removes its record when all is done"


def test_a_guest_that_runs_may_have_been_started_since_and_not_know_of_it() -> None:
    forest = running(handout(image("Snap-4", "Snap-2")))
    note = MergeNote("/i/Snap-2", "/i/Snap-3", ("/i/Snap-3",), ("/i/Snap-4",), remove=True)
    facts = replace(SMALL_BETWEEN_LARGE, notes=(note,))
    assert refused(plan_guest_finish(forest, request(), note, facts=facts, untouched=True)) == {"in-use"}
    plan = plan_guest_finish(forest, request(), note, facts=facts, alike=True)
    assert not plan.refused
    assert plan.unlinks == ("/i/Snap-3",)


def test_others_on_a_layer_leave_it_as_it_is() -> None:
    shared = running(handout(image("Other", "Snap-2")))
    plan = plan_guest_shorten(shared, request(), keep=1, facts=SMALL_BETWEEN_LARGE)
    assert not plan.refused
    assert [one.name for one in plan.after.chain("/i/Other")] == ["RootBase", "Snap-2", "Other"]
    assert [one.name for one in plan.after.chain("/i/Snap-4")] == ["RootBase", "Snap-2", "Snap-4"]


def test_what_is_encrypted_is_not_written_in_the_clear() -> None:
    def with_key(*names: str) -> Forest:
        forest = handout()
        secret = [image(n, f"Snap-{int(n[-1]) - 1}" if n != "Snap-1" else "RootBase", encryption="luks") for n in names]
        return running(forest.edited(put=secret))

    assert refused(plan_guest_commit(with_key("Snap-3"), request(), top="/i/Snap-3")) == {"not-supported"}
    assert refused(plan_guest_commit(with_key("Snap-2", "Snap-3"), request(), top="/i/Snap-3")) == set()
    pulled = plan_guest_pull(with_key("Snap-3"), request(), base="/i/Snap-2")
    (why,) = [concern for concern in pulled.concerns if concern.level == "refuse"]
    assert "in the clear" in why.what
    assert why.waivable
    assert refused(plan_guest_pull(with_key("Snap-3", "Snap-4"), request(), base="/i/Snap-2")) == set()


def test_what_stood_on_a_layer_that_has_gone_is_cleaned_up_too() -> None:
    gone = image("Gone", status="missing")
    orphan = image("Orphan", "Gone", status="invalid")
    others = image("Others", "Gone")  # mended by hand perhaps: it stays
    plan = plan_guest_cleanup(running(handout(gone, orphan, others)), "g")
    assert plan.unlinks == ("/i/Orphan",)
    with pytest.raises(InvalidRequestError, match="no image is marked as invalid"):
        plan_guest_cleanup(running(handout(gone, others)), "g")
