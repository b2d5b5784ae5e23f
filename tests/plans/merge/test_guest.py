"""Plans of merges while the guest runs, as pure functions: several jobs, records, keys; without libvirt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.forests import UNIT, handout, image
from support.readings import NOTHING, identified, maps, reading, recorded
from support.refusals import refused

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain, Use
from vmsnap_nb.model.snapshot import MANAGED_SAVE, SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.facts import LOST_JOB
from vmsnap_nb.plans.journal import InsideEntry, MergeEntry
from vmsnap_nb.plans.merge.request import (
    CleanupRequest,
    CommitRequest,
    FinishRequest,
    PullRequest,
    ShortenRequest,
)
from vmsnap_nb.plans.merge.steps import LiveCommit
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Reading

GUEST = Domain("g", "u", "running", True, (Disk("vda", "/i/Snap-4", "qcow2"),))
OFF = replace(GUEST, state="shut off")
SMALL_BETWEEN_LARGE = maps(
    RootBase=tuple(range(40)),
    Snap_1=(50,),
    Snap_2=tuple(range(60, 90)),
    Snap_3=(100,),
    Snap_4=tuple(range(110, 140)),
)


def of(
    tree: Forest,
    guest: Domain = GUEST,
    *,
    jobs: dict[str, str] | None = None,
    facts: Reading = NOTHING,
    alike: bool = False,
    untouched: bool = False,
) -> Reading:
    """What was read of a guest and its chain; whether the images of a merge cut short are alike, and untouched."""
    pairs = {(entry.top, entry.base) for entry in facts.merges if alike}
    paths = {entry.path for entry in facts.merges if untouched}
    owner = reading(tree, guest, jobs=jobs or {}).guest
    return replace(facts, forest=tree, guest=owner, alike=frozenset(pairs), untouched=frozenset(paths))


def finish(now: Reading, entry: MergeEntry) -> Plan:
    tree = identified(now.forest)
    return FinishRequest(guest="g", entry=recorded(tree, entry)).plan(replace(now, forest=tree))


def running(forest: Forest, *records: SnapshotRecord) -> Forest:
    return forest.edited(uses=GUEST.uses, records=records)


def external(name: str, source: str, file: str) -> SnapshotRecord:
    disk = SnapshotDisk("vda", "external", f"/i/{source}", f"/i/{file}")
    return SnapshotRecord("g", name, "disk-snapshot", disks=(disk,), xml="<domainsnapshot/>")


@pytest.mark.parametrize("status", ["unreadable", "outside"])
def test_a_layer_that_was_not_read_is_in_the_way_of_those_who_need_it(status: str) -> None:
    tree = running(handout())
    tree = tree.edited(put=[replace(tree["/i/RootBase"], status=status, problem="Permission denied")])
    above = CommitRequest(guest="g", top="/i/Snap-3", base="/i/Snap-2").plan(of(tree))
    assert refused(above) == set()
    (told,) = [one for one in above.concerns if one.images == ("/i/RootBase",)]
    assert told.level == "note"
    assert "Permission denied. QEMU has it open" in told.what
    for request in (PullRequest(guest="g"), CommitRequest(guest="g", top="/i/Snap-1", base="/i/RootBase")):
        assert refused(request.plan(of(tree))) & {"unknown-image", "untrusted-backing"}
    off = CommitRequest(guest="g", top="/i/Snap-3", base="/i/Snap-2").plan(of(tree, OFF))
    assert refused(off) & {"unknown-image", "untrusted-backing"}, "qemu-img opens the whole chain"


def test_small_layers_between_large_ones_go_down_one_job_after_the_other() -> None:
    plan = ShortenRequest(guest="g", keep=3).plan(of(running(handout()), facts=SMALL_BETWEEN_LARGE))
    assert not plan.refused
    assert [one.name for one in plan.after.chain("/i/Snap-4")] == ["RootBase", "Snap-2", "Snap-4"]
    assert plan.bytes_to_copy == 2 * UNIT
    assert [step.action for step in plan.steps if step.size] == ["commit live", "commit live"]
    assert plan.way.startswith("live, with QEMU block jobs")
    assert set(plan.invalid) == {"/i/Snap-1", "/i/Snap-3"}
    up = next(way for way in plan.alternatives if "everything up" in way.what)
    assert "only into the active layer" in up.refused


def test_every_record_is_put_right_that_one_of_several_jobs_concerns() -> None:
    records = (external("two", "Snap-1", "Snap-2"), external("four", "Snap-3", "Snap-4"))
    plan = ShortenRequest(guest="g", keep=3).plan(of(running(handout(), *records), facts=SMALL_BETWEEN_LARGE))
    assert [record.disks[0].source for record in plan.after.records] == ["/i/RootBase", "/i/Snap-2"]
    actions = [step.action for step in plan.steps]
    assert actions.count("write record") == 2
    assert actions.index("finish") > max(n for n, action in enumerate(actions) if action == "write record")


def test_what_cannot_be_done_while_the_guest_runs() -> None:
    forest = running(handout())
    with pytest.raises(InvalidRequestError, match="prevents a commit"):
        ShortenRequest(guest="g", keep=("/i/Snap-2",)).plan(of(forest, facts=SMALL_BETWEEN_LARGE))
    kept = ShortenRequest(guest="g", keep=("/i/RootBase", "/i/Snap-1")).plan(of(forest, facts=SMALL_BETWEEN_LARGE))
    assert [step.action for step in kept.steps if step.size] == ["pull live"]
    assert refused(PullRequest(guest="g", into="/i/Snap-3").plan(of(forest, facts=SMALL_BETWEEN_LARGE))) == {
        "not-supported"
    }
    busy = CommitRequest(guest="g", top="/i/Snap-3").plan(of(forest, jobs={"vda": "pull"}, facts=SMALL_BETWEEN_LARGE))
    assert refused(busy) == {"active-job"}


def test_saved_memory_keeps_the_image_that_it_goes_on_with() -> None:
    saved = SnapshotRecord("g", MANAGED_SAVE, "", memory="external")
    forest = handout().edited(uses=[Use("g", "vda", "/i/Snap-4")], records=[saved])
    plan = CommitRequest(guest="g", base="/i/Snap-3").plan(of(forest, OFF))
    assert refused(plan) == {"managed-save"}
    assert {concern.images for concern in plan.concerns if concern.name == "managed-save"} == {
        ("/i/Snap-3",),
        ("/i/Snap-4",),
    }
    lower = CommitRequest(guest="g", top="/i/Snap-3").plan(of(forest, OFF))
    assert refused(lower) == {"managed-save"}, "it goes on with the layers below Snap-4 as well"
    assert refused(CommitRequest(guest="g", base="/i/Snap-3").plan(of(forest.edited(records=[]), OFF))) == set()


def test_a_guest_that_has_not_got_its_new_disk_yet_is_never_left_with_a_merged_one() -> None:
    """A commit of the image that a guest writes to, cut short when all was copied and the guest not yet pointed."""
    forest = handout().edited(uses=OFF.uses)
    entry = MergeEntry(base="/i/Snap-3", top="/i/Snap-4", merged=("/i/Snap-4",), phase="copied", remove=True)
    facts = replace(SMALL_BETWEEN_LARGE, entries=(entry,))
    plan = finish(of(forest, OFF, facts=facts), entry)
    assert not plan.refused
    assert [use.path for use in plan.after.uses] == ["/i/Snap-3"]
    actions = [step.action for step in plan.steps]
    # It may have been started since, and have written to its image.
    assert actions.index("commit") < actions.index("set disk") < actions.index("mark invalid")
    # Who knows the images alone leaves it to the guest.
    assert "in-use" in refused(FinishRequest(entry=entry).plan(of(forest, OFF, facts=facts)))
    # Where both are seen to read alike, nothing is copied again.
    plan = finish(of(forest, OFF, facts=facts, alike=True), entry)
    assert not plan.refused
    assert [step.action for step in plan.steps] == ["set disk", "mark invalid", "remove", "finish"]
    assert [use.path for use in plan.after.uses] == ["/i/Snap-3"]


def test_a_commit_whose_qemu_may_not_have_written_its_tables_is_taken_back() -> None:
    forest = handout(image("Snap-4", "Snap-2")).edited(uses=OFF.uses)
    entry = MergeEntry(base="/i/Snap-2", top="/i/Snap-3", merged=("/i/Snap-3",), children=("/i/Snap-4",), remove=True)
    facts = replace(SMALL_BETWEEN_LARGE, entries=(entry,))
    plan = finish(of(forest, OFF, facts=facts, untouched=True), entry)
    assert not plan.refused
    assert plan.title == "undo the merge of Snap-3 into Snap-2"
    assert [step.action for step in plan.steps] == ["repoint"], "and the entry stays: a part may be in the base"
    assert [one.name for one in plan.after.chain("/i/Snap-4")] == ["RootBase", "Snap-1", "Snap-2", "Snap-3", "Snap-4"]
    assert plan.unlinks == plan.invalid == ()
    assert [concern.level for concern in plan.concerns] == ["warn"]
    assert refused(finish(of(forest, OFF, facts=facts), entry)) == {"disk-changed"}
    # qemu-img asks for the key, even if only the header changes.
    secret = forest.edited(put=[replace(forest["/i/Snap-4"], encryption="luks")])
    assert refused(finish(of(secret, OFF, facts=facts, untouched=True), entry)) == {"not-supported"}
    # All was copied: then only what comes after it is left.
    plan = finish(of(forest, OFF, facts=facts), replace(entry, phase="copied"))
    assert plan.unlinks == ("/i/Snap-3",)
    # It is marked as invalid only when all is there.
    marked = forest.edited(put=[replace(forest["/i/Snap-3"], status="invalid")])
    assert finish(of(marked, OFF, facts=facts), entry).unlinks == ("/i/Snap-3",)


@pytest.mark.parametrize("stands_on", ["Snap-2", "Snap-3"])
def test_nothing_goes_on_without_the_layer_that_was_merged(stands_on: str) -> None:
    whole = handout(image("Snap-4", stands_on))
    forest = whole.edited(uses=OFF.uses, put=[replace(whole["/i/Snap-3"], status="missing")])
    entry = MergeEntry(base="/i/Snap-2", top="/i/Snap-3", merged=("/i/Snap-3",), children=("/i/Snap-4",), remove=True)
    for one in (entry, replace(entry, by_libvirt=True)):
        facts = replace(SMALL_BETWEEN_LARGE, entries=(one,))
        done = one.by_libvirt and stands_on == "Snap-2"
        plan = finish(of(forest, OFF, facts=facts, untouched=True), one)
        # libvirt, which goes on alone, removes it when all is done, and then nothing names it any more.
        assert refused(plan) == (set() if done else {"missing-base"})
        assert [step.action for step in plan.steps] == (["finish"] if done else [])


@pytest.mark.parametrize("by_libvirt", [True, False])
def test_a_layer_of_another_folder_may_only_be_missing_now(by_libvirt: bool) -> None:
    forest = handout(image("Snap-4", "Snap-2")).edited(uses=OFF.uses)
    entry = MergeEntry(
        base="/i/Snap-2",
        top="/away/x",
        merged=("/away/x",),
        children=("/i/Snap-4",),
        remove=True,
        by_libvirt=by_libvirt,
    )
    plan = finish(of(forest, OFF, facts=replace(SMALL_BETWEEN_LARGE, entries=(entry,)), untouched=True), entry)
    assert refused(plan) == (set() if by_libvirt else {"missing-base"})
    record = external("x", "Snap-2", "x")
    record = replace(record, disks=(replace(record.disks[0], file="/away/x"),))
    plan = finish(of(forest.edited(records=[record]), OFF, untouched=True), entry)
    assert refused(plan) == {"missing-base"}, "libvirt removes its record when all is done"


def test_a_guest_that_runs_may_have_been_started_since_and_not_know_of_it() -> None:
    forest = running(handout(image("Snap-4", "Snap-2")))
    entry = MergeEntry(base="/i/Snap-2", top="/i/Snap-3", merged=("/i/Snap-3",), children=("/i/Snap-4",), remove=True)
    facts = replace(SMALL_BETWEEN_LARGE, entries=(entry,))
    assert refused(finish(of(forest, facts=facts, untouched=True), entry)) == {"in-use"}
    plan = finish(of(forest, facts=facts, alike=True), entry)
    assert not plan.refused
    assert plan.unlinks == ("/i/Snap-3",)


@pytest.mark.parametrize("phase", ["ready", "pivoting", "copied"])
@pytest.mark.parametrize(
    ("top", "base", "jobs", "alike", "does"),
    [
        ("", "write", {}, False, ["flush tables", "set disk", "mark invalid", "finish"]),
        ("write", "write", {"vda": "active commit"}, False, ["commit live", "mark invalid", "finish"]),
        ("write", "write", {}, False, "disk-changed"),
        ("write", "read", {}, True, ["commit live", "mark invalid", "finish"]),
        ("write", "read", {}, False, "disk-changed"),
        ("", "", {}, False, "disk-changed"),
    ],
)
def test_qemu_is_asked_to_which_image_it_writes(
    phase: Any, top: Any, base: Any, jobs: dict[str, str], alike: bool, does: list[str] | str
) -> None:
    """A pivot that was interrupted: libvirt has the top as the guest's disk."""
    tree = running(handout())
    held = (replace(tree["/i/Snap-4"], held=top), replace(tree["/i/Snap-3"], held=base))
    entry = MergeEntry(base="/i/Snap-3", top="/i/Snap-4", merged=("/i/Snap-4",), active=True, phase=phase)
    facts = replace(SMALL_BETWEEN_LARGE, entries=(entry,))
    now = of(tree.edited(put=held), jobs=jobs, facts=facts, alike=alike)
    xml = "<domain><devices><disk><source file='/i/Snap-4'/><target dev='vda'/></disk></devices></domain>"
    now = replace(now, guest=replace(now.owner, definition=xml))
    plan = finish(now, entry)
    if isinstance(does, str):
        assert does in refused(plan)
        assert plan.steps == ()
    else:
        assert not plan.refused, plan.concerns
        assert [step.action for step in plan.steps] == does
        assert all(step.adopt is bool(jobs) for step in plan.steps if isinstance(step, LiveCommit))


@pytest.mark.parametrize("phase", ["copying", "ready", "pivoting", "copied"])
def test_a_commit_that_is_asked_for_again_copies_nothing_from_a_top_that_may_be_old(phase: Any) -> None:
    entry = MergeEntry(base="/i/Snap-3", top="/i/Snap-4", merged=("/i/Snap-4",), active=True, phase=phase)
    now = of(running(handout()), facts=replace(SMALL_BETWEEN_LARGE, entries=(entry,)))
    plan = CommitRequest(guest="g").plan(now)
    assert refused(plan) == (set() if phase == "copying" else {"active-job"})


def test_others_on_a_layer_leave_it_as_it_is() -> None:
    shared = running(handout(image("Other", "Snap-2")))
    plan = ShortenRequest(guest="g", keep=1).plan(of(shared, facts=SMALL_BETWEEN_LARGE))
    assert not plan.refused
    assert [one.name for one in plan.after.chain("/i/Other")] == ["RootBase", "Snap-2", "Other"]
    assert [one.name for one in plan.after.chain("/i/Snap-4")] == ["RootBase", "Snap-2", "Snap-4"]


def test_what_is_encrypted_is_not_written_in_the_clear() -> None:
    def with_key(*names: str) -> Forest:
        forest = handout()
        secret = [image(n, f"Snap-{int(n[-1]) - 1}" if n != "Snap-1" else "RootBase", encryption="luks") for n in names]
        return running(forest.edited(put=secret))

    assert refused(CommitRequest(guest="g", top="/i/Snap-3").plan(of(with_key("Snap-3")))) == {"not-supported"}
    assert refused(CommitRequest(guest="g", top="/i/Snap-3").plan(of(with_key("Snap-2", "Snap-3")))) == set()
    pulled = PullRequest(guest="g", base="/i/Snap-2").plan(of(with_key("Snap-3")))
    (why,) = [concern for concern in pulled.concerns if concern.level == "refuse"]
    assert "in plain text" in why.what
    assert why.waivable
    assert refused(PullRequest(guest="g", base="/i/Snap-2").plan(of(with_key("Snap-3", "Snap-4")))) == set()


def test_what_stood_on_a_layer_that_has_gone_is_cleaned_up_too() -> None:
    gone = image("Gone", status="missing")
    orphan = image("Orphan", "Gone", status="invalid")
    others = image("Others", "Gone")  # mended by hand perhaps: it stays
    plan = CleanupRequest(guest="g").plan(of(running(handout(gone, orphan, others))))
    assert plan.unlinks == ("/i/Orphan",)
    with pytest.raises(InvalidRequestError, match="is marked as invalid"):
        CleanupRequest(guest="g").plan(of(running(handout(gone, others))))


def test_nothing_is_written_to_an_image_in_which_a_change_of_a_snapshot_was_interrupted() -> None:
    facts = replace(NOTHING, entries=(InsideEntry(image="/i/Snap-2", name="s", change="delete", table=0, names=()),))
    for guest in (OFF, GUEST):
        now = of(running(handout()), guest, facts=facts)
        [concern] = [
            one
            for one in CommitRequest(guest="g", top="Snap-3", base="Snap-2").plan(now).concerns
            if one.name == "active-job"
        ]
        assert (concern.level, concern.images) == ("refuse", ("/i/Snap-2",))
        assert "guest.unfinished()[0]" in concern.remedy
        above = CommitRequest(guest="g", top="Snap-4", base="Snap-3")
        assert "active-job" not in refused(above.plan(now)), "it is only read"
    alone = replace(facts, forest=handout())
    for request in (PullRequest(into="Snap-2"), CommitRequest(top="Snap-3", base="Snap-2")):
        assert "active-job" in refused(request.plan(alone))


def test_no_block_job_starts_on_a_disk_that_the_guest_only_reads() -> None:
    reads = replace(GUEST, disks=(replace(GUEST.disks[0], readonly=True),))
    tree = handout().edited(uses=reads.uses)
    request = CommitRequest(guest="g", top="Snap-3", base="Snap-2")
    assert "read-only" in refused(request.plan(of(tree, reads)))
    assert "read-only" not in refused(request.plan(of(tree, replace(reads, state="shut off"))))
    assert "read-only" not in refused(request.plan(of(running(handout()))))


@pytest.mark.parametrize(("job", "names"), [(LOST_JOB, {"active-job"}), ("active commit", set())])
def test_a_job_that_libvirt_has_lost_is_neither_adopted_nor_begun_anew(job: str, names: set[str]) -> None:
    entry = MergeEntry(base="/i/Snap-3", top="/i/Snap-4", merged=("/i/Snap-4",), active=True, guest="g", uuid="u")
    now = of(running(handout()), jobs={"vda": job}, facts=replace(NOTHING, entries=(entry,)))
    made = finish(now, entry)
    assert refused(made) == names
    assert bool(made.steps) == (job != LOST_JOB)


@pytest.mark.parametrize("transient", [True, False])
def test_no_block_job_starts_on_a_transient_disk(transient: bool) -> None:
    xml = f"<domain><devices><disk><target dev='vda'/>{'<transient/>' * transient}</disk></devices></domain>"
    for guest in (GUEST, OFF):
        now = of(handout().edited(uses=guest.uses), guest)
        assert now.guest is not None
        now = replace(now, guest=replace(now.guest, xml=xml))
        made = CommitRequest(guest="g", top="Snap-3", base="Snap-2").plan(now)
        assert ("not-supported" in refused(made)) is (transient and guest.running)


def test_records_of_a_merge_that_was_cut_short_name_the_base_in_the_end() -> None:
    entry = MergeEntry(
        base="/i/Snap-2", top="/i/Snap-3", merged=("/i/Snap-3",), children=("/i/Snap-4",), phase="copied"
    )
    tree = handout().edited(uses=OFF.uses, records=[external("s", "Snap-3", "Snap-4")])
    plan = finish(of(tree, OFF, facts=replace(SMALL_BETWEEN_LARGE, entries=(entry,)), alike=True), entry)
    assert refused(plan) == set()
    assert [step.action for step in plan.steps] == ["repoint", "mark invalid", "write record", "finish"]


@pytest.mark.parametrize("defined", [True, False])
def test_a_merge_of_a_detached_disk_waits_only_where_the_next_start_attaches_it_again(defined: bool) -> None:
    entry = MergeEntry(base="/i/Snap-3", top="/i/Snap-4", merged=("/i/Snap-4",), phase="copied")
    facts = replace(SMALL_BETWEEN_LARGE, entries=(entry,))
    source = "Snap-4" if defined else "other"
    xml = f"<domain><devices><disk><source file='/i/{source}'/><target dev='vda'/></disk></devices></domain>"
    now = of(identified(handout()), facts=facts, alike=True)
    now = replace(now, guest=replace(now.owner, definition=xml))
    plan = FinishRequest(guest="g", entry=recorded(now.forest, entry), detached=True).plan(now)
    assert ("in-use" in refused(plan)) is defined
    assert bool(plan.steps) is not defined


def test_a_snapshot_that_a_merge_makes_meaningless_is_warned_of() -> None:
    records = (external("two", "Snap-2", "Snap-3"),)
    plan = CommitRequest(guest="g", top="Snap-3", base="Snap-1").plan(of(running(handout(), *records)))
    assert refused(plan) == set()
    assert plan.after.records == ()
    assert [one.level for one in plan.concerns if one.name == "state-lost"] == ["warn"]
