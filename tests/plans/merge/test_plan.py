"""Merge plans as pure functions: what commits, pulls and removals predict."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import MIB, UNIT, forest, handout, image
from support.merges import FACTS, commit, parents, pull, remove, shorten
from support.readings import identified, maps, reading
from support.refusals import refused

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.blockmap import LayerMap
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain
from vmsnap_nb.model.image import Bitmap, Image, InternalSnapshot, Status
from vmsnap_nb.model.permit import Permit
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.journal import UnknownEntry
from vmsnap_nb.plans.merge.checks import check_read
from vmsnap_nb.plans.merge.request import CleanupRequest, CommitRequest
from vmsnap_nb.plans.merge.steps import CarryBitmaps, Finish
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.words.message import t

# -- commit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("top", "base", "size", "chain"),
    [
        ("Snap-3", "RootBase", 4, ["RootBase", "Snap-4"]),
        ("Snap-2", "RootBase", 3, ["RootBase", "Snap-3", "Snap-4"]),
        ("Snap-1", "RootBase", 2, ["RootBase", "Snap-2", "Snap-3", "Snap-4"]),
        ("Snap-2", "Snap-1", 2, ["RootBase", "Snap-1", "Snap-3", "Snap-4"]),
        ("Snap-3", "Snap-2", 2, ["RootBase", "Snap-1", "Snap-2", "Snap-4"]),
        ("Snap-3", "Snap-1", 3, ["RootBase", "Snap-1", "Snap-4"]),
    ],
)
def test_the_six_mid_chain_commits(top: str, base: str, size: int, chain: list[str]) -> None:
    plan = commit(handout(), f"/i/{top}", f"/i/{base}", facts=FACTS)
    assert not plan.refused
    assert [one.name for one in plan.after.chain("/i/Snap-4")] == chain
    assert plan.bytes_to_copy == size * UNIT
    assert {move.target for move in plan.moves} == {f"/i/{base}"}
    assert {move.label for move in plan.moves} == {"commit data"}
    merged = {f"Snap-{n}" for n in range(1, 5)} - set(chain)
    assert {path.removeprefix("/i/") for path in plan.invalid} == merged
    assert {one.name for one in plan.after if one.status == "invalid"} == merged
    assert plan.writes == (f"/i/{base}", plan.after.children(f"/i/{base}")[-1])
    assert plan.unlinks == ()


def test_an_active_layer_is_merged_as_well() -> None:
    plan = commit(handout(), "/i/Snap-4", "/i/RootBase", remove=True, facts=FACTS)
    assert not plan.refused
    assert list(plan.after.images) == ["/i/RootBase"]
    assert plan.unlinks == ("/i/Snap-4", "/i/Snap-3", "/i/Snap-2", "/i/Snap-1")
    assert [step.action for step in plan.steps] == ["commit"] + ["mark invalid"] * 4 + ["remove"] * 4 + ["finish"]


def test_without_maps_the_bytes_are_not_known() -> None:
    plan = commit(handout(), "/i/Snap-2")
    assert plan.bytes_to_copy is None
    assert parents(plan) == {"RootBase": None, "Snap-1": "RootBase", "Snap-3": "Snap-1", "Snap-4": "Snap-3"}


def test_several_overlays_of_the_top_are_all_repointed() -> None:
    plan = commit(handout(image("Other", "Snap-2")), "/i/Snap-2", "/i/RootBase")
    assert not plan.refused
    assert parents(plan) == {"RootBase": None, "Snap-3": "RootBase", "Snap-4": "Snap-3", "Other": "RootBase"}


def test_a_protected_base_is_opened_and_closed_again() -> None:
    one = handout()
    plan = commit(one.edited(put=[replace(one["/i/RootBase"], writable=False)]), "/i/Snap-1")
    assert not plan.refused
    assert [step.action for step in plan.steps] == [
        "unprotect", "commit", "protect", "repoint", "mark invalid", "finish",
    ]  # fmt: skip
    assert plan.after["/i/RootBase"].writable is False
    [warning] = [c for c in plan.concerns if c.name == "read-only"]
    assert warning.level == "warn"
    assert "will contain the committed data" in warning.what
    layer = commit(one.edited(put=[replace(one["/i/Snap-1"], writable=False)]), "/i/Snap-2")
    assert [c.level for c in layer.concerns if c.name == "read-only"] == ["note"], "no template: a layer of one guest"


@pytest.mark.parametrize(
    ("top", "base", "message"),
    [
        ("Snap-1", "Snap-3", "the base, /i/Snap-3, is not below /i/Snap-1"),
        ("Snap-2", "Snap-2", "not below"),
        ("Snap-2", "Elsewhere", "not below"),
        ("RootBase", None, "has no backing file"),
    ],
)
def test_what_cannot_be_meant_is_no_plan(top: str, base: str | None, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        commit(handout(image("Elsewhere")), f"/i/{top}", base and f"/i/{base}")


def test_references_stay_relative_where_they_were() -> None:
    one = handout()
    written = Reference("Snap-2", "relative", "/i/Snap-2", "qcow2")
    plan = commit(one.edited(put=[replace(one["/i/Snap-3"], backing=written)]), "/i/Snap-2")
    backing = plan.after["/i/Snap-3"].backing
    assert backing is not None
    assert (backing.written, backing.kind) == ("Snap-1", "relative")


def test_a_base_written_as_json_is_named_as_written() -> None:
    one = handout()
    written = Reference("json:{…}", "json:", "/i/Snap-1", "qcow2")
    plan = commit(one.edited(put=[replace(one["/i/Snap-2"], backing=written)]), "/i/Snap-3", "/i/Snap-1")
    assert "-b 'json:{…}' -- /i/Snap-3" in plan.commands[0]


# -- pull, remove ------------------------------------------------------------------------------------------------------


def test_a_pull_ends_at_the_base_that_is_named_or_goes_down_to_nothing() -> None:
    partial = pull(handout(), "/i/Snap-4", "/i/RootBase", facts=FACTS)
    assert not partial.refused
    assert [one.name for one in partial.after.chain("/i/Snap-4")] == ["RootBase", "Snap-4"]
    assert partial.bytes_to_copy == 3 * UNIT  # clusters 0 to 2; 3 is in Snap-4 already
    assert {move.label for move in partial.moves} == {"stream data"}
    assert partial.writes == ("/i/Snap-4",)
    assert partial.invalid == ()
    full = pull(handout(), "/i/Snap-4", facts=FACTS)
    assert full.after["/i/Snap-4"].backing is None
    assert full.bytes_to_copy == 6 * UNIT
    assert "-b ''" in full.commands[0]


def test_pull_into_the_middle_leaves_what_stands_on_it_alone() -> None:
    one = handout(image("Other", "Snap-3"), image("Another", "Snap-1"))
    plan = pull(one, "/i/Snap-3", "/i/RootBase", remove=True, facts=FACTS)
    assert not plan.refused
    assert plan.writes == ("/i/Snap-3",)
    assert plan.unlinks == ("/i/Snap-2",)
    assert [c.level for c in plan.concerns if c.name == "shared-base"] == ["note"]
    assert parents(plan)["Other"] == "Snap-3"


def test_there_must_be_something_to_pull() -> None:
    with pytest.raises(InvalidRequestError, match="has no backing file"):
        pull(handout(), "/i/RootBase")
    with pytest.raises(InvalidRequestError, match="already the direct backing file"):
        pull(handout(), "/i/Snap-2", "/i/Snap-1")


@pytest.mark.parametrize("verb", ["commit", "pull", "remove", "shorten"])
@pytest.mark.parametrize("status", ["outside", "unreadable", "remote"])
def test_nobody_knows_whether_an_unread_image_has_a_backing_file(verb: str, status: Status) -> None:
    far = forest(image("far", status=status, problem="it is not known"))
    calls = {
        "commit": lambda: commit(far, "/i/far"),
        "pull": lambda: pull(far, "/i/far"),
        "remove": lambda: remove(far, "/i/far"),
        "shorten": lambda: shorten(far, "/i/far", keep=1),
    }
    with pytest.raises(InvalidRequestError, match="/i/far was not read: it is not known") as caught:
        calls[verb]()
    assert caught.value.next_step


def test_one_layer_is_removed_the_cheaper_way() -> None:
    light = maps(RootBase=(0,), Snap_1=(1,), Snap_2=(2, 3, 4, 5), Snap_3=(2, 3, 4), Snap_4=())
    plan = remove(handout(), "/i/Snap-2", facts=light)
    assert [(a.what[:8], a.size, a.chosen) for a in plan.alternatives] == [
        ("method 2", UNIT, True),
        ("method 1", 4 * UNIT, False),
    ]
    assert plan.unlinks == ("/i/Snap-2",)
    assert parents(plan) == {"RootBase": None, "Snap-1": "RootBase", "Snap-3": "Snap-1", "Snap-4": "Snap-3"}
    heavy = maps(RootBase=(0,), Snap_1=(1, 2), Snap_2=(2,), Snap_3=(), Snap_4=())
    two = handout(image("Other", "Snap-2"))
    facts = replace(heavy, maps={**heavy.maps, "/i/Other": LayerMap("/i/Other", 64 * MIB)})
    assert "method 1" in remove(two, "/i/Snap-2", facts=facts).way, "one copy down, two copies up"
    assert "method 2" in remove(two, "/i/Snap-2", method=2, facts=facts).way


def test_a_shared_base_leaves_only_the_other_method() -> None:
    shared = handout(image("Other", "Snap-1"))
    heavy = maps(RootBase=(0,), Snap_1=(1,), Snap_2=(2, 3), Snap_3=(), Snap_4=())
    plan = remove(shared, "/i/Snap-2", facts=heavy)
    assert "method 2" in plan.way
    assert not plan.refused
    assert remove(shared, "/i/Snap-2", method=1, facts=heavy).refused
    assert next(a for a in plan.alternatives if not a.chosen).refused.startswith("Other also depends on Snap-1")


def test_removing_the_first_and_the_last_image() -> None:
    first = remove(handout(), "/i/RootBase", facts=FACTS)
    assert first.after["/i/Snap-1"].backing is None
    with pytest.raises(InvalidRequestError, match="its content would be lost"):
        remove(handout(), "/i/Snap-4")
    with pytest.raises(InvalidRequestError, match="the image has none"):
        remove(handout(), "/i/RootBase", method=1)


# -- verify -----------------------------------------------------------------------------------------------------------


def test_verify_reads_every_disk_that_survives() -> None:
    two = handout(image("Other", "Snap-3"))
    plan = commit(two, "/i/Snap-2", verify=True)
    taken = [step.image for step in plan.steps if step.action == "checksum before"]
    assert taken == ["/i/Snap-2", "/i/Snap-4", "/i/Other"]
    actions = [step.action for step in plan.steps if step.action not in {"checksum before", "finish"}]
    # What overlays are switched to is compared before they are.
    assert actions == ["commit", "checksum after", "repoint", "checksum after", "checksum after", "mark invalid"]
    active = commit(handout(), "/i/Snap-4", "/i/Snap-1", verify=True)
    assert [(s.action, s.image) for s in active.steps if s.action.startswith("checksum")] == [
        ("checksum before", "/i/Snap-4"),
        ("checksum after", "/i/Snap-1"),
    ]


def test_a_layer_is_removed_whose_base_its_overlay_knows_by_another_name() -> None:
    world = forest(
        image("base", identity=(1, 1)),
        image("bound/base", identity=(1, 1)),
        image("middle", "base", identity=(1, 2)),
        image("bound/middle", "bound/base", identity=(1, 2)),
        image("top", "bound/middle", identity=(1, 3)),
    )
    plan = remove(world, "/i/middle", method=2)
    assert plan.unlinks == ("/i/middle",)
    assert plan.after.parent("/i/top") in {"/i/base", "/i/bound/base"}
    assert "/i/bound/middle" not in plan.after.images
    [said] = [one for one in plan.concerns if "other names of " in one.what]
    assert said.images == ("/i/middle", "/i/bound/middle")


# -- what a plan takes care of, whatever is merged ------------------------------------------------------------------

MARKED = (Bitmap("b", UNIT, ("auto",)),)


def with_fields(path: str, **fields: object) -> Forest:
    one = handout()
    return one.edited(put=[replace(one[path], **fields)])  # type: ignore[arg-type]


def carried(plan: Plan) -> list[str]:
    return [step.path for step in plan.steps if isinstance(step, CarryBitmaps)]


def test_a_commit_and_a_pull_carry_the_bitmaps_of_layers_and_need_room_for_them() -> None:
    top = with_fields("/i/Snap-3", bitmaps=MARKED)
    down, plain = (commit(tree, "/i/Snap-3", "/i/Snap-2", facts=FACTS) for tree in (top, handout()))
    assert (carried(down), carried(plain)) == (["/i/Snap-2"], [])
    assert [one.name for one in down.after["/i/Snap-2"].bitmaps] == ["b"]
    assert down.space_needed > plain.space_needed
    up, plain = (pull(tree, "/i/Snap-4", "/i/Snap-2", facts=FACTS) for tree in (top, handout()))
    assert carried(plain) == []
    assert carried(up) == []
    both = top.edited(put=[replace(top["/i/Snap-4"], bitmaps=MARKED)])
    up = pull(both, "/i/Snap-4", "/i/Snap-2", facts=FACTS)
    assert carried(up) == ["/i/Snap-4"]
    assert refused(up) == set()
    assert up.space_needed > plain.space_needed
    off = both.edited(put=[replace(both["/i/Snap-4"], bitmaps=(replace(MARKED[0], flags=()),))])
    assert "backup-chain" in refused(pull(off, "/i/Snap-4", "/i/Snap-2", facts=FACTS)), "only one of them records"
    lost = commit(with_fields("/i/Snap-2", bitmaps=MARKED), "/i/Snap-3", "/i/Snap-1", facts=FACTS)
    assert "backup-chain" in refused(lost), "the top has no such bitmap"


def test_a_layer_that_is_removed_with_a_bitmap_is_refused_unless_that_was_carried() -> None:
    top = with_fields("/i/Snap-3", bitmaps=MARKED)
    both = top.edited(put=[replace(top["/i/Snap-4"], bitmaps=MARKED)])
    assert refused(pull(both, "/i/Snap-4", "/i/Snap-2", remove=True, facts=FACTS)) == set()
    assert refused(pull(top, "/i/Snap-4", "/i/Snap-2", remove=True, facts=FACTS)) == {"backup-chain"}


def test_the_guest_may_write_to_the_base_that_becomes_its_disk() -> None:
    guest = Domain("g", "u", "shut off", True, (Disk("vda", "/i/Snap-4", "qcow2"),))
    tree = with_fields("/i/Snap-3", writable=False).edited(uses=guest.uses)
    plan = CommitRequest(guest="g").plan(reading(tree, guest))
    assert [use.path for use in plan.after.uses] == ["/i/Snap-3"]
    assert plan.after["/i/Snap-3"].writable
    (entry,) = (step.entry for step in plan.steps if isinstance(step, Finish))
    assert (entry.guest, entry.uuid, entry.active) == ("g", "u", False)
    running = replace(guest, state="running")
    live = CommitRequest(guest="g").plan(reading(tree.edited(uses=running.uses), running))
    (entry,) = (step.entry for step in live.steps if isinstance(step, Finish))
    assert entry.active, "a pivot can be interrupted"
    kept = CommitRequest(guest="g", keep_active=True).plan(reading(tree.edited(uses=running.uses), running))
    assert (kept.invalid, kept.unlinks, [use.path for use in kept.after.uses]) == ((), (), ["/i/Snap-4"])
    lower = CommitRequest(guest="g", top="/i/Snap-3").plan(reading(handout(uses=running.uses), running))
    (entry,) = (step.entry for step in lower.steps if isinstance(step, Finish))
    assert not entry.active


def test_a_pull_down_to_a_server_keeps_its_address_as_it_is_written() -> None:
    written = 'json:{"driver":"qcow2","file":{"driver":"nbd","host":"h","export":"x","tls-creds":"t"}}'
    far = Reference(written, "remote", None, "qcow2")
    server = replace(image("x"), path=far.key, status="remote")
    tree = forest(server, replace(image("Snap-1"), backing=far), image("Snap-2", "Snap-1"))
    plan = pull(tree, "/i/Snap-2", far.key)
    assert plan.after["/i/Snap-2"].backing == far


def test_a_device_is_never_removed_and_must_be_large_enough() -> None:
    tree = with_fields("/i/Snap-3", device=True, file_size=64 * MIB)
    plan = commit(tree, "/i/Snap-3", "/i/Snap-2", remove=True, facts=FACTS)
    assert plan.unlinks == ()
    assert [one.level for one in plan.concerns if one.name == "not-supported"] == ["note"]
    pulled = pull(tree, "/i/Snap-4", "/i/Snap-2", remove=True, facts=FACTS)
    assert pulled.unlinks == ()
    for size, names in ((64 * MIB, set()), (MIB, {"no-space"})):
        small = with_fields("/i/Snap-2", device=True, file_size=size)
        assert refused(commit(small, "/i/Snap-3", "/i/Snap-2", facts=FACTS)) == names


def test_what_the_journal_has_that_is_not_understood_is_in_the_way() -> None:
    later = UnknownEntry(path="/i/.entry", version=99)
    assert refused(commit(handout(), "/i/Snap-3", facts=replace(FACTS, strangers=(later,)))) == {"active-job"}


def test_a_guest_whose_image_is_gone_or_another_one_has_nothing_merged() -> None:
    guest = Domain("g", "u", "running", True, (Disk("vda", "/i/Snap-4", "qcow2"),))
    use = replace(guest.uses[0], named="/i/other")
    tree = handout().edited(uses=(use,))
    assert "other-image" in refused(CommitRequest(guest="g", top="/i/Snap-3").plan(reading(tree, guest)))


@pytest.mark.parametrize(
    ("path", "fields", "name"),
    [
        ("/i/RootBase", {"format": "parallels"}, "not-supported"),
        ("/i/Snap-3", {"backing": Reference('json:{"offset":1}', "json:", "/i/Snap-2", "qcow2")}, "not-supported"),
        ("/i/Snap-4", {"encryption": "luks"}, "not-supported"),
    ],
)
def test_what_qemu_img_would_fail_at_or_write_otherwise_is_refused(
    path: str, fields: dict[str, object], name: str
) -> None:
    assert name in refused(commit(with_fields(path, **fields), "/i/Snap-3", "/i/Snap-2", facts=FACTS))


def test_names_of_files_that_nobody_has_read_are_in_the_way_and_others_are_named() -> None:
    for path in ("/i/Snap-2", "/i/Snap-3"):
        permits = {path: Permit(owner=0, links=2, place=path)}
        assert refused(commit(handout(), "/i/Snap-3", "/i/Snap-2", facts=replace(FACTS, permits=permits))) == {
            "shared-base"
        }
    linked = identified(handout())
    linked = linked.edited(put=[replace(linked["/i/Snap-3"], path="/i/link")])
    removing = commit(linked, "/i/Snap-3", "/i/Snap-2", remove=True)
    assert ("/i/Snap-3", "/i/link") in {one.images for one in removing.concerns}
    assert ("/i/Snap-3", "/i/link") not in {one.images for one in commit(linked, "/i/Snap-3", "/i/Snap-2").concerns}
    assert any(" covered only /i" in one.what for one in removing.concerns)


def test_only_leftovers_that_are_no_images_are_removed() -> None:
    one = handout(image("Old", "RootBase", status="invalid", identity=(1, 5)))
    left = {"/i/.x.partial": (1, 9), "/i/.y.partial": (1, 5)}
    plan = CleanupRequest().plan(reading(one, leftovers=left))
    assert set(plan.unlinks) == {"/i/Old", "/i/.x.partial"}


def test_the_growth_of_an_image_with_snapshots_counts_what_they_keep() -> None:
    inside = InternalSnapshot("1", "s")
    plain = commit(handout(), "/i/Snap-3", "/i/Snap-2", facts=FACTS)
    assert plain.growth == {"/i/Snap-2": UNIT}
    keeps = commit(with_fields("/i/Snap-2", snapshots=(inside,)), "/i/Snap-3", "/i/Snap-2", facts=FACTS)
    assert keeps.growth == {"/i/Snap-2": 2 * UNIT}
    assert keeps.space_needed > plain.space_needed


def test_an_image_on_the_network_is_copied_as_the_next_step_says() -> None:
    address = "nbd://far:10809/disk"
    far = Image(address, "qcow2", status="remote", problem="it is at a network address")
    with pytest.raises(InvalidRequestError) as caught:
        check_read(forest(far), address, t("commit it"))
    assert f"qemu-img convert -f qcow2 -O qcow2 {address} NEW.qcow2" in str(caught.value.next_step)
