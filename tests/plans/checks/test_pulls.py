"""A pull that was interrupted: its image may lack data, and reads the rest only from what it was based on before."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import forest, image
from support.readings import reading
from support.refusals import refused

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain, State
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.checks.start import start_concerns
from vmsnap_nb.plans.delete.request import DeleteRequest
from vmsnap_nb.plans.journal import FileFact, PullEntry
from vmsnap_nb.plans.leftovers.find import find_leftovers
from vmsnap_nb.plans.leftovers.request import LeftoversRequest
from vmsnap_nb.plans.merge.request import CommitRequest, FinishPullRequest, PullRequest, RemoveRequest, unfinished
from vmsnap_nb.plans.merge.steps import LivePull
from vmsnap_nb.plans.overlay.request import OverlayRequest
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Reading, Request
from vmsnap_nb.plans.revert.request import RevertRequest
from vmsnap_nb.plans.snapshot.request import SnapshotRequest
from vmsnap_nb.plans.step import GuestRef

REF = GuestRef("demo", "u", "")
FILES = tuple(FileFact(path=f"/i/{name}", device=1, inode=at, size=1, mtime_ns=1) for at, name in enumerate("ab", 1))
ENTRY = PullEntry(image="/i/b", written="a", format="qcow2", files=FILES)


def images(*more: str, cut: bool = True) -> Forest:
    """Images base <- a and b, which has been based on a; then what is based on b, each on the one before."""
    chain = ("b", *more)
    below = zip(chain[1:], chain, strict=False)
    real = [
        image("base"),
        image("a", "base", identity=(1, 1)),
        image("b", None if cut else "a", identity=(1, 2)),
        *(image(top, on) for top, on in below),
    ]
    return forest(*real)


def world(*more: str, state: State = "shut off", cut: bool = True, records: tuple[str, ...] = ()) -> Reading:
    """A guest whose disk is the last of the images; `records` are snapshots that hold an image and its overlay."""
    top = (*more, "b")[len(more) - 1 if more else 0]
    domain = Domain("demo", "u", state, True, (Disk("vda", f"/i/{top}", "qcow2"),))
    held = tuple(
        SnapshotRecord(
            "demo",
            name,
            disks=(SnapshotDisk("vda", "external", f"/i/{name}", f"/i/{above}"),),
            xml=f"<domainsnapshot><name>{name}</name><domain type='qemu'><name>demo</name></domain></domainsnapshot>",
        )
        for name, _, above in (record.partition("-") for record in records)
    )
    tree = images(*more, cut=cut).edited(uses=domain.uses, records=held)
    return reading(tree, domain, entries=(ENTRY,), xml="<domain/>", definition="<domain/>")


def said(now: Reading, request: Request) -> bool:
    """Whether the plan is refused for the pull, and would not be without its entry."""
    with_entry = {one.what for one in request.plan(now).concerns if one.level == "refuse"}
    without = {one.what for one in request.plan(replace(now, entries=())).concerns if one.level == "refuse"}
    return any("a pull into /i/b" in what for what in with_entry - without)


@pytest.mark.parametrize("cut", [True, False])
def test_what_it_was_based_on_is_no_leftover(cut: bool) -> None:
    tree = images(cut=cut)
    alone = reading(tree, entries=(ENTRY,))
    assert [one.path for one in find_leftovers(alone)] == []
    assert len(find_leftovers(replace(alone, entries=()))) == 3, "nothing else needs them"
    for path in ("/i/b", "/i/a", "/i/base"):
        assert said(alone, LeftoversRequest(folder="/away", paths=(path,))), "listed before the pull began"


@pytest.mark.parametrize("above", [(), ("c",), ("c", "d")])
def test_nothing_starts_on_it_whatever_is_based_on_it_since(above: tuple[str, ...]) -> None:
    now = world(*above)
    [concern] = [one for one in start_concerns(now) if one.name == "active-job"]
    assert (concern.level, concern.images) == ("refuse", ("/i/b",))
    assert "vda may be incomplete" in concern.what
    assert start_concerns(replace(now, entries=())) == ()


@pytest.mark.parametrize("above", [(), ("c",)])
def test_it_can_be_finished_while_the_guest_is_off(above: tuple[str, ...]) -> None:
    [request] = unfinished(world(*above), "demo")
    plan = request.plan(world(*above))
    assert (refused(plan), [step.action for step in plan.steps]) == (set(), ["repoint", "finish"])
    assert plan.after.parent("/i/b") == "/i/a"
    running = world(*above, state="running")
    [request] = unfinished(running, "demo")
    assert refused(request.plan(running)) == ({"in-use"} if above else set())


def test_it_can_be_finished_where_only_a_snapshot_holds_it() -> None:
    now = world("c", records=("b-c",))
    elsewhere = now.forest.edited(uses=[replace(now.forest.uses[0], path="/i/base")])
    [request] = unfinished(replace(now, forest=elsewhere), "demo")
    assert refused(request.plan(replace(now, forest=elsewhere))) == set()


def test_nothing_is_based_on_it_and_no_state_of_it_is_kept() -> None:
    assert said(world(), OverlayRequest(paths=("/i/new",), backing="/i/b"))
    assert said(world("c"), OverlayRequest(paths=("/i/new",), backing="/i/c"))
    assert not said(world(), OverlayRequest(paths=("/i/new",), backing="/i/a")), "what is below is whole"
    for kind in ("external-disk", "internal-disk"):
        for above in ((), ("c",)):
            assert said(world(*above), SnapshotRequest(guest=REF, name="s", kind=kind))  # type: ignore[arg-type]


def test_neither_it_nor_what_it_was_based_on_is_merged() -> None:
    for now in (world(), world(cut=False)):
        assert said(now, CommitRequest(top="a", base="base"))
        assert said(now, PullRequest(into="a"))
    assert said(world("c"), CommitRequest(guest="demo", top="c", base="b"))
    assert said(world("c", "d"), PullRequest(guest="demo", base="b"))
    assert said(world("c", "d"), RemoveRequest(guest="demo", top="c"))


def test_a_pull_into_it_that_begins_anew_ends_the_entry_itself() -> None:
    assert not said(world(state="running", cut=False), PullRequest(guest="demo"))


def test_no_snapshot_of_it_is_deleted_or_reverted_to() -> None:
    now = world("c", records=("a-b", "b-c"))
    for name in ("a", "b"):
        assert said(now, DeleteRequest(guest=REF, name=name))
    assert said(now, RevertRequest(guest=REF, name="b"))
    assert not said(now, RevertRequest(guest=REF, name="a")), "what is below is whole"


def finish(at: Reading, **owner: object) -> Plan:
    """The plan that finishes the pull into b of a guest with that disk; the images are those of the entry."""
    tree = at.forest.edited(put=[replace(at.forest[f"/i/{name}"], mtime_ns=1, file_size=1) for name in "ab"])
    assert at.guest is not None
    now = replace(at, forest=tree, guest=replace(at.guest, **owner))  # type: ignore[arg-type]
    return FinishPullRequest(guest="demo", disk="vda", entry=ENTRY).plan(now)


@pytest.mark.parametrize("cut", [True, False])
def test_while_the_guest_is_off_the_image_gets_its_old_backing_file(cut: bool) -> None:
    made = finish(world(cut=cut))
    assert refused(made) == set()
    assert [step.action for step in made.steps] == ["repoint", "finish"][not cut :]


@pytest.mark.parametrize("gone", ["a", "b"])
def test_without_one_of_its_images_a_pull_is_not_finished(gone: str) -> None:
    for state in ("running", "shut off"):
        at = world(state=state)  # type: ignore[arg-type]
        at = replace(at, forest=at.forest.edited(put=[image(gone, status="missing")]))
        made = FinishPullRequest(guest="demo", disk="vda", entry=ENTRY).plan(at)
        assert refused(made) == {"missing-base"}
        assert made.steps == ()


def test_a_qemu_that_has_the_image_writes_its_tables_and_any_other_is_ended_first() -> None:
    running = world(state="running", cut=False)
    assert [type(step) for step in finish(running).steps] == [LivePull]
    assert refused(finish(running)) == set()
    assert refused(finish(running, restarted=frozenset({ENTRY.path}))) == {"in-use"}
    assert refused(finish(running, restarted=frozenset({"/i/another"}))) == set()
    assert refused(finish(world("c", state="running", cut=False))) == {"in-use"}
    going_on = finish(running, jobs={"vda": "pull"})
    assert [step.adopt for step in going_on.steps if isinstance(step, LivePull)] == [True]


def test_files_that_are_not_those_of_the_entry_are_not_changed() -> None:
    at = world()
    other = replace(at, forest=at.forest.edited(put=[replace(at.forest["/i/b"], identity=(1, 99))]))
    assert refused(finish(other)) == {"disk-changed"}
