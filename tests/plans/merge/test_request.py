"""What merges ask to be read, whose chain they are about, and how the names in them are settled."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.forests import UNIT, forest, handout, image
from support.merges import commit, pull, remove
from support.readings import identified, maps, reading, recorded
from support.refusals import refused

from vmsnap_nb.errors import InvalidRequestError, NotFoundError
from vmsnap_nb.model.blockmap import Extent, LayerMap
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain, State
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.journal import MergeEntry, PullEntry
from vmsnap_nb.plans.merge.request import (
    CleanupRequest,
    CommitRequest,
    FinishPullRequest,
    FinishRequest,
    PullRequest,
    RemoveRequest,
    ShortenRequest,
    commit_needs,
    pull_needs,
    unfinished,
    unfinished_needs,
)
from vmsnap_nb.plans.request import Needs, Reading, Request

MERGED = MergeEntry(base="/i/Snap-2", top="/i/Snap-3", merged=("/i/Snap-3",), children=("/i/Snap-4",))
PULLED = PullEntry(image="/i/Snap-4", written="/i/Snap-3", format="qcow2")
DISKS = (Disk("vda", "/i/Snap-4", "qcow2"), Disk("vdb", "/k/data", "qcow2"))


def of_guest(state: State = "shut off", *others: str) -> Reading:
    """The handout's chain and another image, as the two disks of a guest."""
    guest = Domain("g", "u", state, True, DISKS)
    tree = handout(image("/k/data", "/k/base"), image("/k/base"), *(image(f"/z/{other}") for other in others))
    return reading(tree.edited(uses=guest.uses), guest)


@pytest.mark.parametrize(
    ("request_", "maps", "folders"),
    [
        (CommitRequest(guest="g"), ["Snap-4", "Snap-3"], ("/i",)),
        (CommitRequest(guest="g", top="Snap-3", base="Snap-1"), ["Snap-3", "Snap-2", "Snap-1"], ("/i",)),
        (CommitRequest(guest="g", disk="vdb"), ["/k/data", "/k/base"], ("/k",)),
        (PullRequest(guest="g", base="Snap-2"), ["Snap-4", "Snap-3"], ("/i",)),
        (ShortenRequest(guest="g", keep=2), ["Snap-4", "Snap-3", "Snap-2", "Snap-1", "RootBase"], ("/i",)),
        (CommitRequest(top="data"), ["/k/data", "/k/base"], ("/k",)),
        (RemoveRequest(top="Snap-2"), ["Snap-2", "Snap-1", "Snap-3"], ("/i",)),
        (CleanupRequest(guest="g"), [], ()),
        (FinishPullRequest(guest="g", entry=PULLED), [], ("/i",)),
    ],
)
def test_what_is_read_are_the_layers_that_are_copied_and_the_journal_beside_them(
    request_: Request, maps: list[str], folders: tuple[str, ...]
) -> None:
    needs = request_.needs(of_guest().forest)
    assert list(needs.maps) == [name if name.startswith("/") else f"/i/{name}" for name in maps]
    assert needs.journal == folders
    assert {path.rpartition("/")[0] for path in needs.places} == set(folders)


def test_only_the_jobs_of_the_disk_that_is_meant_keep_its_layers_from_being_read() -> None:
    assert CommitRequest(guest="g").needs(of_guest().forest).disk == "vda"
    assert CommitRequest(guest="g", disk="vdb").needs(of_guest().forest).disk == "vdb"
    assert CommitRequest(top="data").needs(of_guest().forest).disk is None


def test_a_commit_cut_short_is_compared_with_its_base_only_where_a_guest_runs_on_that() -> None:
    torn = handout(image("Snap-4", "Snap-2"))
    request = FinishRequest(guest="g", disk="vda", entry=MERGED)
    for state, pairs in (("running", (("/i/Snap-3", "/i/Snap-2"),)), ("shut off", ())):
        guest = Domain("g", "u", state, True, DISKS[:1])  # type: ignore[arg-type]
        needs = request.needs(torn.edited(uses=guest.uses))
        assert (needs.compared, needs.entries) == (pairs, (MERGED,))
    assert request.needs(of_guest("running").forest).compared == (), "its chain is the old one"


def test_what_nobody_knows_is_said_by_the_plan() -> None:
    for request in (CommitRequest(guest="g", top="Snap-9"), CommitRequest(top="x"), PullRequest(guest="g", disk="vdc")):
        assert request.needs(of_guest().forest) == Needs(disk=request.disk)
        with pytest.raises(NotFoundError):
            request.plan(of_guest())


def test_a_name_means_a_layer_of_the_guests_chain_and_without_a_guest_any_image() -> None:
    now = of_guest("shut off", "Snap-3")  # another image of that name, elsewhere
    assert CommitRequest(guest="g", top="Snap-3").plan(now).title == "commit Snap-3 into Snap-2"
    with pytest.raises(NotFoundError, match="several images have that name"):
        CommitRequest(top="Snap-3").plan(now)


def test_what_was_named_is_settled_by_the_first_plan() -> None:
    now = of_guest()
    for request, settled in (
        (
            CommitRequest(guest="g", top="Snap-3", base="Snap-1", remove=True),
            CommitRequest(guest="g", disk="vda", top="/i/Snap-3", base="/i/Snap-1", remove=True),
        ),
        (PullRequest(guest="g"), PullRequest(guest="g", disk="vda")),
        (ShortenRequest(top="Snap-4", keep=("Snap-1",)), ShortenRequest(top="/i/Snap-4", keep=("/i/Snap-1",))),
    ):
        assert request.settled(request.plan(now)) == settled
    # So another image of the same name, made since, is not in the way.
    again = CommitRequest(top="Snap-3")
    settled_one = again.settled(again.plan(now))
    assert settled_one.plan(of_guest("shut off", "Snap-3")).steps == again.plan(now).steps


@pytest.mark.parametrize("limits", [{"bandwidth": -1}, {"timeout": 0.0}, {"timeout": -1.0}])
def test_limits_are_positive(limits: dict[str, float]) -> None:
    with pytest.raises(InvalidRequestError, match="must be a"):
        CommitRequest(guest="g", **limits)  # type: ignore[arg-type]


def test_the_same_request_is_done_by_qemu_img_or_by_a_block_job() -> None:
    request = CommitRequest(guest="g", top="Snap-3")
    off, running = request.plan(of_guest()), request.plan(of_guest("running"))
    assert off.steps[0].action == "commit"
    assert running.steps[0].action == "commit live"
    assert off.after.images == running.after.images
    assert off.title == running.title
    for kind, engine in ((off, "offline"), (running, "live, with a QEMU block job")):
        assert kind.way.startswith(engine)
    verified = replace(request, verify=True)
    assert verified.plan(of_guest()).steps[0].action == "checksum before"
    with pytest.raises(InvalidRequestError, match="verify cannot compare"):
        verified.plan(of_guest("running"))


def test_another_disk_of_the_guest_is_not_switched_with_the_one_that_is_merged() -> None:
    guest = Domain("g", "u", "shut off", True, (DISKS[0], Disk("vdb", "/i/Snap-4", "qcow2")))
    now = reading(handout().edited(uses=guest.uses), guest)
    plan = CommitRequest(guest="g", disk="vda").plan(now)
    assert refused(plan) == {"in-use"}
    assert [(use.target, use.path) for use in plan.after.uses] == [("vda", "/i/Snap-3"), ("vdb", "/i/Snap-4")]


def test_a_raw_base_stays_known_as_the_disk_of_the_guest() -> None:
    tree = Forest({one.path: one for one in (image("base", format="raw"), image("top", "base", backing_format="raw"))})
    guest = Domain("g", "u", "shut off", True, (Disk("vda", "/i/top", "qcow2"),))
    plan = CommitRequest(guest="g", remove=True).plan(reading(tree.edited(uses=guest.uses), guest))
    assert not plan.refused
    assert list(plan.after.images) == ["/i/base"]
    assert [step.format for step in plan.steps if step.action == "set disk"] == ["raw"]  # type: ignore[attr-defined]


# -- what was cut short ----------------------------------------------------------------------------------


def test_entries_are_looked_for_beside_all_layers_of_the_guest_and_of_its_snapshots() -> None:
    disk = SnapshotDisk("vda", "external", "/b/branch", "/i/Snap-4")
    record = SnapshotRecord("g", "old", "disk-snapshot", disks=(disk,))
    now = of_guest().forest.edited(put=[image("/b/branch", "/i/Snap-1")], records=(record,))
    assert unfinished_needs(now, "g").journal == ("/b", "/i", "/k")
    assert unfinished_needs(now).journal == ("/b", "/i", "/k")


def test_each_entry_is_one_request() -> None:
    now = replace(of_guest(), entries=(MERGED, PULLED))
    assert unfinished(now) == (FinishRequest(entry=MERGED),)
    commit, pull = unfinished(now, "g")
    assert commit == FinishRequest(guest="g", disk="vda", entry=MERGED)
    assert pull == FinishPullRequest(guest="g", disk="vda", entry=PULLED)
    assert (commit.files, pull.files) == (("/i/Snap-3",), ("/i/Snap-3",))
    elsewhere = replace(now, forest=now.forest.edited(uses=[use for use in now.forest.uses if use.target == "vdb"]))
    assert unfinished(elsewhere, "g") == ()


@pytest.mark.parametrize("defined", [False, True])
def test_a_merge_is_finished_of_a_disk_that_was_detached_since(defined: bool) -> None:
    """Not while the next start of the guest would give it what is merged."""
    disk = SnapshotDisk("vdb", "external", "/i/Snap-3", "/i/Snap-4")
    [vdb] = [one for one in DISKS if one.target == "vdb"]
    guest = Domain("g", "u", "running", True, (replace(vdb, target="vda"),))
    tree = identified(of_guest().forest.edited(uses=guest.uses, records=(SnapshotRecord("g", "b", disks=(disk,)),)))
    xml = f"<domain><devices>{VDB if defined else ''}</devices></domain>"
    facts = maps(Snap_2=(1,), Snap_3=(2,))
    entry = recorded(tree, replace(MERGED, guest="g", uuid="u"))
    now = replace(reading(tree, guest, definition=xml), entries=(entry,), maps=facts.maps)
    [request] = unfinished(now, "g")
    assert isinstance(request, FinishRequest)
    assert request.detached
    assert request.needs(tree).disk is None
    plan = request.plan(now)
    assert refused(plan) == ({"in-use"} if defined else set())
    assert bool(plan.steps) is not defined
    assert request.settled(plan) == request


VDB = "<disk><source file='/i/Snap-3'/><target dev='vdb'/></disk>"


# -- and no more than that --------------------------------------------------------------------------------


@given(st.data())
def test_a_plan_from_the_maps_that_it_needs_is_the_plan_from_all(data: st.DataObject) -> None:
    count = 5
    sizes = [data.draw(st.sampled_from([6, 6, 6, 5, 7])) * UNIT for _ in range(count + 1)]
    below = [None, *range(count - 1), data.draw(st.integers(0, count - 1))]
    texts = [data.draw(st.text("d0.", min_size=size // UNIT, max_size=size // UNIT)) for size in sizes]
    images = [
        image(str(n), None if under is None else str(under), virtual_size=size)
        for n, (under, size) in enumerate(zip(below, sizes, strict=True))
    ]
    every = {
        f"/i/{n}": LayerMap(
            f"/i/{n}", len(text) * UNIT, tuple(Extent(i * UNIT, UNIT, c == "0") for i, c in enumerate(text) if c != ".")
        )
        for n, text in enumerate(texts)
    }
    world = forest(*images)
    top = data.draw(st.integers(1, count - 1))
    base = data.draw(st.sampled_from([None, *(f"/i/{n}" for n in range(top))]))
    path = f"/i/{top}"

    def limited(needed: tuple[str, ...]) -> Reading:
        return reading(world, maps={one: every[one] for one in needed})

    pairs = [
        [
            commit(world, path, base, facts=facts)
            for facts in (reading(world, maps=every), limited(commit_needs(world, path, base)))
        ]
    ]
    if base != f"/i/{top - 1}":
        pairs.append(
            [
                pull(world, path, base, facts=facts)
                for facts in (reading(world, maps=every), limited(pull_needs(world, path, base)))
            ]
        )
    if world.children(path):
        needed = (*commit_needs(world, path), *world.children(path))
        pairs.append([remove(world, path, facts=facts) for facts in (reading(world, maps=every), limited(needed))])
    for whole, part in pairs:
        assert (part.steps, part.moves, part.concerns, part.space_needed, part.alternatives) == (
            whole.steps,
            whole.moves,
            whole.concerns,
            whole.space_needed,
            whole.alternatives,
        )


def test_a_commit_looks_at_no_layer_below_its_base() -> None:
    assert commit_needs(handout(), "/i/Snap-3") == ("/i/Snap-3", "/i/Snap-2")
    assert commit_needs(handout(), "/i/Snap-3", "/i/Snap-1") == ("/i/Snap-3", "/i/Snap-2", "/i/Snap-1")
    assert pull_needs(handout(), "/i/Snap-3", "/i/Snap-1") == ("/i/Snap-3", "/i/Snap-2")
