"""Merges that were cut short, and how a plan finishes them; the removal of what is invalid."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import UNIT, forest, handout, image
from support.merges import FACTS, cleanup, commit, finish, pull
from support.readings import identified, reading, recorded
from support.refusals import refused

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain, State, Use
from vmsnap_nb.model.image import Bitmap, Image
from vmsnap_nb.model.need import Need
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.journal import Began, MergeEntry, PullEntry
from vmsnap_nb.plans.merge.request import CleanupRequest, FinishPullRequest, FinishRequest
from vmsnap_nb.plans.merge.steps import CarryBitmaps, LiveCommit, LivePull, Repoint, SetSource, WriteOut
from vmsnap_nb.plans.plan import Plan


def test_a_merge_cut_short_is_finished_and_nothing_else_begins() -> None:
    entry = MergeEntry(base="/i/RootBase", top="/i/Snap-2", merged=("/i/Snap-1", "/i/Snap-2"), children=("/i/Snap-3",))
    facts = replace(FACTS, entries=(entry,))
    assert refused(commit(handout(), "/i/Snap-1", facts=facts)) == {"active-job"}
    assert refused(pull(handout(), "/i/Snap-3", "/i/RootBase", facts=facts)) == {"active-job"}
    again = finish(handout(), entry, facts=facts)
    assert not again.refused
    assert [step.action for step in again.steps][:2] == ["commit", "repoint"]
    copied = replace(entry, phase="copied")
    assert refused(finish(handout(), copied, facts=replace(FACTS, entries=(copied,)))) == {"disk-changed"}
    seen = frozenset({("/i/Snap-2", "/i/RootBase")})
    rest = finish(handout(), copied, facts=replace(FACTS, entries=(copied,), alike=seen))
    assert not rest.refused
    assert [step.action for step in rest.steps] == ["repoint", "mark invalid", "mark invalid", "finish"]
    assert rest.bytes_to_copy == 0


def test_finishing_when_all_was_repointed_already() -> None:
    one = handout()
    moved = one.edited(
        put=[
            replace(one["/i/Snap-3"], backing=Reference("/i/RootBase", "absolute", "/i/RootBase", "qcow2")),
            replace(one["/i/Snap-2"], status="invalid"),
        ],
        uses=(Use("g", "vda", "/i/Snap-4", "running"),),
    )
    entry = MergeEntry(
        base="/i/RootBase",
        top="/i/Snap-2",
        merged=("/i/Snap-1", "/i/Snap-2"),
        children=("/i/Snap-3",),
        phase="copied",
        remove=True,
    )
    plan = finish(moved, entry)
    assert not plan.refused, "the guest runs on the base already, and does not mind"
    assert [step.action for step in plan.steps] == ["mark invalid", "remove", "remove", "finish"]


@pytest.mark.parametrize("there", [[], [image("Snap-2")], [image("RootBase")], [image("RootBase"), image("Snap-2")]])
def test_an_entry_whose_images_are_not_as_it_left_them_is_a_plan_that_is_refused(there: list[Image]) -> None:
    entry = MergeEntry(base="/i/RootBase", top="/i/Snap-2", merged=("/i/Snap-2",), children=("/i/Snap-3",))
    plan = finish(forest(*there), entry)
    assert refused(plan) == {"missing-base"}
    assert entry.path in plan.to_text()
    assert "svg" in str(plan._repr_mimebundle_())


def test_a_guest_that_may_write_to_the_base_by_now_is_asked() -> None:
    """A commit of the image that a guest writes to, and nobody knows of the guest."""
    entry = MergeEntry(base="/i/Snap-1", top="/i/Snap-2", merged=("/i/Snap-2",), active=True)
    chain = forest(image("RootBase"), image("Snap-1", "RootBase"), image("Snap-2", "Snap-1"))
    assert refused(finish(chain, entry)) == {"missing-base"}
    moved = chain.edited(uses=[Use("g", "vda", "/i/Snap-1", "running")])
    assert refused(finish(moved, entry)) == {"disk-changed", "other-image"}
    writing = moved.edited(put=[replace(moved["/i/Snap-1"], held="write")])
    plan = finish(writing, entry)
    # Its QEMU has the base open for writing, and the top not at all; but what it gets at its next start is not known.
    assert refused(plan) == {"other-image"}
    assert [step.action for step in plan.steps] == ["mark invalid", "finish"]
    still = chain.edited(uses=[Use("g", "vda", "/i/Snap-2", "shut off")])
    assert "commit" in [step.action for step in finish(still, entry).steps]


def test_cleanup_removes_what_is_invalid_and_nothing_else() -> None:
    spoilt = handout(image("Old", "RootBase", status="invalid"), image("Older", "Old", status="invalid"))
    plan = cleanup(spoilt)
    assert plan.unlinks == ("/i/Older", "/i/Old")
    assert not plan.refused
    needed = handout(image("Old", "RootBase", status="invalid"), image("Other", "Old"))
    assert cleanup(needed).refused
    with pytest.raises(InvalidRequestError, match="no image"):
        cleanup(handout())


def test_memory_that_a_snapshot_may_need_stays_where_no_libvirt_was_asked() -> None:
    """A clock that was set back, or a copy, makes an image look newer than the memory of a checkpoint."""
    newer = handout().edited(stale_memory=(Need("saved memory", "/i/Snap-4", "g", "/i/g.cp.mem"),))
    assert CleanupRequest(uri="qemu:///system").plan(reading(newer)).unlinks == ("/i/g.cp.mem",)
    with pytest.raises(InvalidRequestError, match="no image"):
        CleanupRequest().plan(reading(newer))


def test_a_merge_of_a_guest_is_finished_without_it_where_it_no_longer_names_what_was_merged() -> None:
    one = handout()
    entry = MergeEntry(base="/i/Snap-3", top="/i/Snap-4", merged=("/i/Snap-4",), phase="copied", guest="g", uuid="u")
    facts = replace(FACTS, alike=frozenset({("/i/Snap-4", "/i/Snap-3")}))
    assert refused(finish(one, entry, facts=facts)) == {"other-image"}, "nobody knows of the guest"
    off = one.edited(uses=(Use("g", "vda", "/i/Snap-3"),))
    assert refused(finish(off, entry, facts=facts)) == set()
    disk = SnapshotDisk("vda", "external", "/i/Snap-4", "/i/later")
    record = SnapshotRecord("g", "s", "disk-snapshot", disks=(disk,), xml="<domainsnapshot/>")
    assert "other-image" in refused(finish(off.edited(records=[record]), entry, facts=facts))


COPIED = MergeEntry(
    base="/i/Snap-2",
    top="/i/Snap-3",
    merged=("/i/Snap-3",),
    children=("/i/Snap-4",),
    phase="copied",
    guest="g",
    uuid="u",
)
THREE = handout().edited(drop=["/i/Snap-4"])
ALIKE = replace(FACTS, alike=frozenset({("/i/Snap-3", "/i/Snap-2")}))
GUEST = Domain("g", "u", "shut off", True, (Disk("vda", "/i/Snap-4", "qcow2"),))


def of_guest(tree: Forest, entry: MergeEntry = COPIED, guest: Domain = GUEST, **facts: object) -> Plan:
    """Finish a merge of the chain of a guest."""
    tree = identified(tree.edited(uses=guest.uses))
    entry = recorded(tree, entry)
    now = reading(tree, guest, maps=FACTS.maps, entries=(entry,), **{"alike": ALIKE.alike, **facts})
    return FinishRequest(guest="g", disk="vda", entry=entry).plan(now)


def actions(plan: Plan) -> list[str]:
    return [step.action for step in plan.steps]


def test_nothing_that_is_in_use_is_repointed_or_marked() -> None:
    one = handout()
    assert set(finish(one, replace(COPIED, guest=""), facts=ALIKE).subjects) == {"/i/Snap-2", "/i/Snap-3", "/i/Snap-4"}
    for path in ("/i/Snap-4", "/i/Snap-3"):
        used = one.edited(uses=(Use("other", "vda", path, "running"),))
        assert "in-use" in refused(finish(used, replace(COPIED, guest=""), facts=ALIKE)), path
        held = one.edited(put=[replace(one[path], held="write")])
        assert "in-use" in refused(finish(held, replace(COPIED, guest=""), facts=ALIKE)), path
        assert "in-use" in refused(of_guest(held)), path


def test_an_overlay_that_cannot_be_given_the_base_as_it_is_is_refused() -> None:
    """It may have been made on the merged layer since, and nobody has checked it yet."""
    one = handout()
    offset = 'json:{"driver":"raw","offset":512,"file":{"driver":"qcow2","file":{"filename":"/i/Snap-3"}}}'
    entry = replace(COPIED, guest="")
    for later, names in (
        (image("later", "Snap-3"), set()),
        (image("later", "Snap-3", encryption="luks"), {"not-supported"}),
        (replace(image("later", "Snap-3"), backing=Reference(offset, "json:", "/i/Snap-3", "raw")), {"not-supported"}),
    ):
        plan = finish(one.edited(put=[later]), entry, facts=ALIKE)
        assert refused(plan) == names
        assert "/i/later" in {path for step in plan.steps for path in step.writes}


def test_bitmaps_are_carried_once_more_only_while_all_layers_are_as_they_were() -> None:
    marked = (Bitmap("b", UNIT, ("auto",)),)
    one = handout()
    tree = one.edited(put=[replace(one["/i/Snap-3"], bitmaps=marked)])
    entry = replace(COPIED, guest="")

    def carried(tree: Forest, entry: MergeEntry = entry) -> bool:
        return any(isinstance(step, CarryBitmaps) for step in finish(tree, entry, facts=ALIKE).steps)

    assert carried(tree)
    assert not carried(one)
    assert not carried(tree.edited(put=[replace(tree["/i/Snap-2"], held="write")])), "whoever has it open writes them"
    assert not carried(tree.edited(put=[replace(tree["/i/Snap-3"], status="invalid")]))
    two = replace(entry, base="/i/Snap-1", merged=("/i/Snap-2", "/i/Snap-3"))
    away = tree.edited(put=[replace(tree["/i/Snap-2"], status="missing")])
    assert not carried(away, two)


def test_a_guest_that_is_off_gets_the_base_in_place_of_the_top_and_of_nothing_else() -> None:
    at_top = replace(GUEST, disks=(Disk("vda", "/i/Snap-3", "qcow2"),))
    own = replace(COPIED, children=(), active=True)
    plan = of_guest(THREE, own, at_top)
    assert not plan.refused
    assert actions(plan) == ["set disk", "mark invalid", "finish"]
    assert [use.path for use in plan.after.uses] == ["/i/Snap-2"]
    above = of_guest(handout())
    assert not above.refused
    assert actions(above) == ["repoint", "mark invalid", "finish"]
    assert [use.path for use in above.after.uses] == ["/i/Snap-4"]


@pytest.mark.parametrize("state", ["running", "paused"])
def test_before_merged_layers_are_marked_the_qemu_of_a_guest_writes_all_it_has(state: State) -> None:
    one = handout()
    done = one.edited(put=[replace(one["/i/Snap-4"], backing=replace(one["/i/Snap-3"].backing))])
    plan = of_guest(done, guest=replace(GUEST, state=state))
    assert actions(plan)[:2] == ["flush tables", "mark invalid"]
    (step,) = (one for one in plan.steps if isinstance(one, WriteOut))
    assert step.paths == ("/i/Snap-2", "/i/Snap-4")
    assert step.paused is (state == "paused")


@pytest.mark.parametrize(
    ("now", "named", "pivoted", "corrected"),
    [
        ("Snap-2", "Snap-3", False, True),
        ("Snap-2", "Snap-2", False, False),
        ("Snap-2", "elsewhere", False, False),
        ("Snap-3", "Snap-3", True, True),
    ],
)
def test_the_next_start_is_given_the_base_where_it_would_use_what_was_merged(
    now: str, named: str, pivoted: bool, corrected: bool
) -> None:
    base = replace(THREE["/i/Snap-2"], held="write", format="raw", backing=None)
    tree = THREE.edited(put=[base] if pivoted else [])
    guest = replace(GUEST, state="running", disks=(Disk("vda", f"/i/{now}", "qcow2"),))
    xml = f"<domain><devices><disk><source file='/i/{named}'/><target dev='vda'/></disk></devices></domain>"
    plan = of_guest(tree, replace(COPIED, children=(), active=True), guest, definition=xml)
    steps = [step for step in plan.steps if isinstance(step, SetSource)]
    assert [(step.before, step.path) for step in steps] == ([("/i/Snap-3", "/i/Snap-2")] if corrected else [])
    assert [step.format for step in steps] == (["raw" if pivoted else "qcow2"] if corrected else [])
    assert actions(plan)[:2] != ["set disk", "flush tables"], "what QEMU has is written before"


def test_who_began_it_what_is_damaged_and_what_is_another_file_is_said_of_every_plan() -> None:
    entry = replace(COPIED, guest="", began=Began(user="root", uid=0, pid=7, host="h", at="2026-11-29T12:00:00+00:00"))
    plan = finish(handout(), entry, facts=replace(ALIKE, damaged={"/i/Snap-2": "3 errors"}))
    assert "damaged-image" in refused(plan)
    assert any("process 7 on h" in one.what for one in plan.concerns)
    tree = identified(handout())
    other = tree.edited(put=[replace(tree["/i/Snap-3"], identity=(1, 99))])
    plan = FinishRequest(entry=recorded(tree, entry)).plan(replace(ALIKE, forest=other))
    assert "disk-changed" in refused(plan)


def test_to_take_a_merge_back_is_not_stopped_by_a_damaged_base() -> None:
    """The overlays read the merged layers again, and the base is not written to."""
    torn = handout(image("Snap-4", "Snap-2"))
    entry = replace(COPIED, phase="copying", guest="")
    facts = replace(FACTS, untouched=frozenset({entry.path}), damaged={"/i/Snap-2": "3 errors"})
    plan = finish(torn, entry, facts=facts)
    assert not plan.refused
    assert set(plan.subjects) == {"/i/Snap-2", "/i/Snap-3", "/i/Snap-4"}
    (step,) = plan.steps
    assert isinstance(step, Repoint)
    assert step.back
    unknown = finish(torn, entry, facts=replace(facts, untouched=frozenset()))
    assert [one.waivable for one in unknown.concerns if one.name == "disk-changed"] == [True]


@pytest.mark.parametrize(
    ("jobs", "adopted"),
    [({"vda": "commit"}, True), ({"vda": "active commit"}, True), ({"vda": "pull"}, False), ({}, False)],
)
def test_a_commit_that_qemu_goes_on_with_is_waited_for(jobs: dict[str, str], adopted: bool) -> None:
    running = replace(GUEST, state="running")
    entry = replace(COPIED, phase="copying")
    plan = of_guest(handout(), entry, running, jobs=jobs)
    (step,) = (one for one in plan.steps if isinstance(one, LiveCommit))
    assert step.adopt is adopted
    starting = of_guest(handout(), entry, running, jobs={**jobs, "": "starting"})
    assert not any(one.adopt for one in starting.steps if isinstance(one, LiveCommit))


def test_another_merge_that_was_cut_short_stays_in_the_way() -> None:
    entry = replace(COPIED, phase="copying", guest="")
    tree = identified(handout(image("Snap-5", "Snap-4")))
    other = MergeEntry(base="/i/Snap-4", top="/i/Snap-5", merged=("/i/Snap-5",), children=())
    below = MergeEntry(base="/i/Snap-1", top="/i/Snap-2", merged=("/i/Snap-2",), children=("/i/Snap-3",))
    for one, names in ((other, {"active-job"}), (below, {"active-job"})):
        facts = replace(FACTS, forest=tree, entries=(entry, one))
        assert refused(FinishRequest(entry=recorded(tree, entry)).plan(facts)) == names
    alone = replace(FACTS, forest=tree, entries=(entry,))
    assert refused(FinishRequest(entry=recorded(tree, entry)).plan(alone)) == set()


def test_what_is_not_as_the_merge_left_it_is_said() -> None:
    entry = MergeEntry(base="/i/Snap-1", top="/i/Snap-3", merged=("/i/Snap-2", "/i/Snap-3"), children=("/i/Snap-4",))
    one = handout()
    between = one.edited(put=[replace(one["/i/Snap-2"], status="missing")])
    away = one.edited(put=[image("Snap-2", "RootBase")])
    closed = one.edited(put=[replace(image("Snap-3"), backing=None, status="unreadable", problem="Permission denied")])
    for tree, why in (
        (between, "/i/Snap-2 does not exist"),
        (away, "/i/Snap-3 is no longer based on /i/Snap-1"),
        (closed, "no longer based on /i/Snap-1: Permission denied"),
    ):
        plan = finish(tree, entry)
        assert refused(plan) == {"missing-base"}
        assert plan.steps == ()
        (concern,) = [one for one in plan.concerns if one.name == "missing-base"]
        assert why in concern.what
    assert "Permission" not in str(finish(away, entry).concerns)
    assert "/i/Snap-4" in finish(between, entry).subjects


PULL = PullEntry(image="/i/Snap-4", written="/i/Snap-3", format="qcow2", base="/i/Snap-1")


def pulled(guest: Domain, tree: Forest | None = None, entry: PullEntry = PULL, **facts: object) -> Plan:
    tree = handout(image("Snap-4", "Snap-1")) if tree is None else tree
    tree = identified(tree.edited(uses=guest.uses))
    files = recorded(tree, MergeEntry(base=entry.before.key, top=entry.image, merged=(entry.image,), children=())).files
    entry = replace(entry, files=files)
    now = reading(tree, guest, maps=FACTS.maps, entries=(entry,), **facts)
    return FinishPullRequest(guest="g", disk="vda", entry=entry).plan(now)


def test_an_image_whose_pull_was_interrupted_gets_its_old_backing_file_back() -> None:
    plan = pulled(GUEST)
    assert not plan.refused
    assert actions(plan) == ["repoint", "finish"]
    step = plan.steps[0]
    assert isinstance(step, Repoint)
    assert (step.back, step.backing.path) == (True, "/i/Snap-3")
    assert set(plan.subjects) == {"/i/Snap-4", "/i/Snap-3"}
    assert actions(pulled(GUEST, handout())) == ["finish"]
    held = handout(image("Snap-4", "Snap-1", held="write"))
    assert "in-use" in refused(pulled(GUEST, held))
    for gone in ("/i/Snap-3", "/i/Snap-4"):
        away = handout(image("Snap-4", "Snap-1"))
        away = away.edited(put=[replace(away[gone], status="missing")])
        plan = pulled(GUEST, away)
        assert "missing-base" in refused(plan)
        assert plan.steps == ()
        assert set(plan.subjects) == {"/i/Snap-3", "/i/Snap-4"}
    began = Began(user="root", uid=0, pid=7, host="h", at="2026-11-29T12:00:00+00:00")
    assert any("process 7 on h" in one.what for one in pulled(GUEST, entry=replace(PULL, began=began)).concerns)


def test_a_pull_of_a_guest_that_runs_is_waited_for_or_its_tables_are_written() -> None:
    running = replace(GUEST, state="running")
    for state, paused in (("running", False), ("paused", True)):
        plan = pulled(replace(GUEST, state=state))  # type: ignore[arg-type]
        (step,) = plan.steps
        assert isinstance(step, LivePull)
        assert (step.adopt, step.paused, plan.subjects) == (True, paused, ("/i/Snap-4",))
        assert "writes out the tables" in plan.way
    going_on = pulled(running, handout(), jobs={"vda": "pull"})
    (step,) = (one for one in going_on.steps if isinstance(one, LivePull))
    assert step.adopt
    assert "writes out the tables" not in going_on.way
    assert "in-use" in refused(pulled(running, restarted=frozenset({PULL.path})))
    elsewhere = replace(running, disks=(Disk("vda", "/i/Snap-3", "qcow2"),))
    assert "in-use" in refused(pulled(elsewhere))


def test_qemu_itself_says_that_a_guest_writes_to_the_base_though_nobody_sees_its_locks() -> None:
    guest = replace(GUEST, state="running", disks=(Disk("vda", "/i/Snap-3", "qcow2"),))
    entry = replace(COPIED, children=(), active=True)
    xml = "<domain><devices><disk><source file='/i/Snap-3'/><target dev='vda'/></disk></devices></domain>"
    facts = {"alike": frozenset(), "definition": xml}
    plan = of_guest(THREE, entry, guest, written=frozenset({"/i/Snap-2"}), **facts)
    assert refused(plan) == set()
    assert actions(plan) == ["flush tables", "set disk", "mark invalid", "finish"]
    assert "disk-changed" in refused(of_guest(THREE, entry, guest, written=frozenset({"/i/Snap-3"}), **facts))


def test_a_record_stays_while_another_disk_of_it_is_not_merged_yet() -> None:
    disks = (
        SnapshotDisk("vda", "external", "/i/Snap-2", "/i/Snap-3"),
        SnapshotDisk("vdb", "external", "/i/B1", "/i/B2"),
    )
    record = SnapshotRecord("g", "s", "disk-snapshot", disks=disks, xml="<domainsnapshot/>")
    two = replace(GUEST, disks=(*GUEST.disks, Disk("vdb", "/i/B2", "qcow2")))
    plan = of_guest(handout(image("B1"), image("B2", "B1")).edited(records=[record]), guest=two)
    assert refused(plan) == set()
    assert plan.after.records == (record,)
