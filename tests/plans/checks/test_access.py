"""What a plan may do with the files of a user who has not all rights."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from support.forests import MIB, forest, image
from support.merges import commit
from support.readings import reading

from vmsnap_nb.errors import PlanRefusedError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain
from vmsnap_nb.model.reference import parse_reference
from vmsnap_nb.model.snapshot import SnapshotDisk
from vmsnap_nb.plans.checks.access import Access, opened, unresolved, with_access
from vmsnap_nb.plans.concern import remark
from vmsnap_nb.plans.delete.steps import DropInside
from vmsnap_nb.plans.machine import Machine
from vmsnap_nb.plans.merge.request import CommitRequest, PullRequest
from vmsnap_nb.plans.merge.steps import CommitLayers, Finish, LiveCommit, MarkInvalid, RemoveFile, SetSource
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.snapshot.steps import TakeSnapshot
from vmsnap_nb.plans.step import CreateOverlay, CreateVolume, GuestRef, RemoveVolume, Step

pytestmark = pytest.mark.quick


def refused(access: Access) -> list[tuple[str, tuple[str, ...]]]:
    plan = PullRequest(into="/i/top").plan(
        reading(forest(image("base"), image("middle", "base"), image("top", "middle")))
    )
    concerns = with_access(plan, access).concerns
    return [(c.name, c.images) for c in concerns if c.level == "refuse" and c.name == "no-permission"]


def test_an_image_that_may_be_read_and_not_written_is_not_pulled_into() -> None:
    assert refused(Access()) == []
    assert refused(Access(unwritten={"/i/top": "no"})) == [("no-permission", ("/i/top",))]


def test_an_image_that_may_not_be_read_either_is_named_once() -> None:
    assert refused(Access(unread={"/i/top": "no"}, unwritten={"/i/top": "no"})) == [("no-permission", ("/i/top",))]


def test_what_another_machine_must_do_is_planned_there() -> None:
    """The remedy is said once, however many files it is about."""
    plan = PullRequest(into="/i/top").plan(
        reading(forest(image("base"), image("middle", "base"), image("top", "middle")))
    )
    why = {f"/i/{name}": "it is on another machine" for name in ("base", "middle", "top")}
    plan = replace(plan, machine=Machine(name="box", uri="qemu+ssh://box/system", here=False))
    with pytest.raises(PlanRefusedError) as caught:
        with_access(plan, Access(unread=why, unwritten=why, elsewhere=True)).check()
    assert str(caught.value.why).count("no-permission") > 1
    assert caught.value.next_step == (
        "create the plan on that machine, using an account with access, such as root: "
        "ssh -- box 'vmsnap-nb plan --help'"
    )


def test_the_work_on_a_long_chain_grows_with_its_length() -> None:
    def work(count: int) -> int:
        """How many functions are called to look at a merge of so many layers."""
        tree = forest(image("l0"), *(image(f"l{number}", f"l{number - 1}") for number in range(1, count)))
        plan = commit(tree, f"/i/l{count - 1}", "/i/l0")
        calls = 0

        def count_calls(*_: object) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(count_calls)
        try:
            assert list(unresolved(plan)) == []
        finally:
            sys.setprofile(None)
        return calls

    assert work(400) < 5 * work(100)


def chain() -> Forest:
    return forest(image("base"), image("mid", "base"), image("top", "mid"))


def of(*steps: Step, before: Forest | None = None, after: Forest | None = None) -> Plan:
    tree = chain() if before is None else before
    return replace(commit(chain(), "/i/top", "/i/mid"), before=tree, after=after or tree, steps=steps, concerns=())


def said(plan: Plan) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.level, one.images) for one in plan.concerns]


OVERLAY = CreateOverlay(path="/i/new", backing=parse_reference("/i/top", folder="/i", format="qcow2"))
REMOVE = RemoveFile(path="/i/top")
MARK = MarkInvalid(path="/i/top", into="/i/mid")
CLOSED = {"/i": "no"}


def test_qemu_img_opens_whole_chains_this_process_single_files_and_libvirt_needs_nobody() -> None:
    tree, switch = (
        chain(),
        SetSource(guest=GuestRef("g", "u", ""), target="vda", before="/i/top", path="/i/mid", format="qcow2"),
    )
    assert opened(OVERLAY, tree) == (("/i/top", "/i/mid", "/i/base"), ())
    assert opened(MARK, tree) == ((), ("/i/top",))
    made = CreateVolume(path="/i/new", backing="/i/top", format="qcow2", pool="p")
    assert opened(switch, tree) == opened(made, tree) == ((), ())
    assert opened(DropInside(path="/i/top", name="s"), tree)[1] == ("/i/top",)
    (copy,) = (step for step in commit(tree, "/i/top", "/i/mid").steps if isinstance(step, CommitLayers))
    read, written = opened(copy, tree)
    assert set(read) == {"/i/top", "/i/mid", "/i/base"}
    assert "/i/mid" in written


def test_what_all_may_be_done_with_stays_as_it_is() -> None:
    plan = of(OVERLAY, REMOVE, MARK)
    for access in (Access(), Access(is_root=False), Access(volumes=frozenset({"/i/top"}), pools={"/i": "p"}, uri="q")):
        assert with_access(plan, access) is plan


def test_libvirt_removes_volumes_where_this_process_cannot() -> None:
    volumes = Access(closed=CLOSED, volumes=frozenset({"/i/top"}), uri="qemu:///system")
    plan = with_access(of(REMOVE), volumes)
    assert plan.steps == (RemoveVolume(path="/i/top", uri="qemu:///system"),)
    assert said(plan) == []
    for access in (Access(closed=CLOSED), replace(volumes, volumes=frozenset({"/i/mid"}))):
        assert said(with_access(of(REMOVE), access)) == [("refuse", ("/i/top",))]
    assert with_access(of(REMOVE), replace(volumes, closed={"/other": "no"})).steps == (REMOVE,)


def test_libvirt_makes_overlays_in_pools_where_this_process_cannot() -> None:
    pool = Access(closed=CLOSED, pools={"/i": "p"}, uri="q")
    plan = with_access(of(OVERLAY), pool)
    made = CreateVolume(path="/i/new", backing="/i/top", format="qcow2", pool="p", virtual_size=64 * MIB, uri="q")
    assert (plan.steps, said(plan)) == ((made,), [])
    assert with_access(of(OVERLAY), replace(pool, closed={}, unread={"/i/base": "no"})).steps == (made,)
    assert with_access(of(replace(OVERLAY, virtual_size=7)), pool).steps == (replace(made, virtual_size=7),)
    assert said(with_access(of(replace(OVERLAY, cluster_size=512)), pool)) == [("refuse", ("/i/new",))]
    assert said(with_access(of(OVERLAY), replace(pool, pools={"/other": "p"}))) == [("refuse", ("/i/new",))]
    away = replace(OVERLAY, backing=parse_reference("nbd://h/x", folder="/i", format="raw"))
    assert said(with_access(of(away), pool)) == [("refuse", ("/i/new",))]


def test_a_merged_layer_that_nobody_here_may_mark_stays_as_it_was_and_that_is_said() -> None:
    after = chain().edited(put=[replace(chain()["/i/top"], status="invalid", problem="merged")])
    closed = Access(unwritten={"/i/top": "no"})
    plan = with_access(of(MARK, after=after), closed)
    assert plan.steps == ()
    assert (plan.after["/i/top"].status, plan.after["/i/top"].problem) == ("ok", "")
    assert said(plan) == [("warn", ("/i/top",))]
    assert "remove it as root" in plan.concerns[0].remedy
    volume = with_access(of(MARK, after=after), replace(closed, volumes=frozenset({"/i/top"})))
    assert "libvirt then removes it" in volume.concerns[0].remedy
    gone = with_access(of(MARK, after=chain().edited(drop=["/i/top"])), closed)
    assert (gone.steps, said(gone)) == ((), [])
    assert with_access(of(MARK, after=after), Access(unwritten={"/i/mid": "no"})).steps == (MARK,)


def test_an_entry_that_cannot_be_written_is_left_out_where_libvirt_does_the_work() -> None:
    guest = Domain("g", "u", "running", True, (Disk("vda", "/i/top", "qcow2"),))
    tree = chain().edited(uses=guest.uses)
    live = CommitRequest(guest="g").plan(reading(tree, guest))
    copy, finish = (next(step for step in live.steps if isinstance(step, kind)) for kind in (LiveCommit, Finish))
    plan = with_access(of(copy, finish, before=tree), Access(closed=CLOSED))
    assert plan.steps == (copy.unnoted(),)
    assert [level for level, _ in said(plan)] == ["note"]
    assert "cannot write a journal entry to /i" in plan.concerns[0].what
    assert with_access(of(copy, finish, before=tree), Access(closed={"/other": "no"})).steps == (copy, finish)
    # What qemu-img does needs its entry.
    (copy, *_) = (step for step in commit(chain(), "/i/top", "/i/mid").steps if isinstance(step, CommitLayers))
    assert "refuse" in {level for level, _ in said(with_access(of(copy), Access(closed=CLOSED)))}


def test_overlays_that_libvirt_makes_are_volumes_or_said_to_be_open_to_everybody() -> None:
    guest = GuestRef("g", "u", "")
    disks = (SnapshotDisk("vda", "external", "/i/top", "/i/new"), SnapshotDisk("vdb", "external", "/i/base", "/j/new"))
    take = TakeSnapshot(guest=guest, name="s", kind="external-disk", state="shut off", disks=disks)
    user = Access(is_root=False, pools={"/i": "p", "/j": "p2"}, uri="q")
    plan = with_access(of(take), user)
    assert [step.path for step in plan.steps if isinstance(step, CreateVolume)] == ["/i/new", "/j/new"]
    assert plan.steps[-1] == replace(take, reuse=True)
    for access in (replace(user, pools={"/i": "p"}), replace(user, pools={})):
        plan = with_access(of(take), access)
        assert plan.steps == (take,)
        assert said(plan) == [("warn", ("/i/new",)), ("warn", ("/j/new",))]
    root = with_access(of(take), replace(user, is_root=True))
    assert (root.steps, root.concerns) == ((take,), ())
    assert with_access(of(replace(take, state="running")), user).concerns == ()
    raw = chain().edited(put=[replace(chain()["/i/top"], format=None)])
    assert with_access(of(take, before=raw), user).steps == (take,)


def test_the_journal_of_another_machine_is_said_to_be_unknown_where_images_change() -> None:
    away = Access(elsewhere=True, uri="qemu+ssh://box/system")
    volume = CreateVolume(path="/j/new", backing="/i/top", format="qcow2", pool="p")
    (concern,) = with_access(of(volume), away).concerns
    assert (concern.level, concern.name) == ("note", "active-job")
    assert concern.remedy.endswith("vmsnap-nb plan finish /j")
    inside = with_access(of(DropInside(path="/i/top", name="s")), away).concerns
    assert "vmsnap-nb plan finish /i" in {one.remedy.rpartition(": ")[2] for one in inside}
    assert with_access(of(volume), replace(away, elsewhere=False)).concerns == ()
    assert with_access(of(RemoveVolume(path="/i/top", uri="q")), away).concerns == ()


def test_who_has_no_access_is_told_by_what_and_what_was_known_before_is_kept() -> None:
    before = remark("not-supported", "before", images=("/i/base",))
    plan = with_access(replace(of(OVERLAY), concerns=(before,)), Access(unread={"/i/base": "no", "/j/x": "no"}))
    assert set(said(plan)) == {("note", ("/i/base",)), ("refuse", ("/i/base",))}
    assert any("runs qemu-img, but" in one.what for one in plan.concerns)
    marked = replace(MARK, path="/i/mid", into="/i/base")
    tree = chain().edited(put=[replace(chain()["/i/base"], status="outside")])
    assert with_access(of(OVERLAY, before=tree), Access(unread={"/i/base": "no"})).concerns == ()
    (own,) = with_access(of(REMOVE), Access(closed=CLOSED)).concerns
    assert "runs in this process, but" in own.what
    assert own.remedy == "use an account with access, such as root"
    (there,) = (
        one for one in with_access(of(REMOVE), Access(closed=CLOSED, elsewhere=True)).concerns if one.level == "refuse"
    )
    assert there.remedy == "create the plan on that machine, using an account with access, such as root"
    assert with_access(of(marked), Access(closed=CLOSED)).steps == (marked,)
