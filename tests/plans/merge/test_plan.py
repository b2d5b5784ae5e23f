"""Merge plans as pure functions: what commits, pulls and removals predict."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import MIB, UNIT, forest, handout, image
from support.merges import FACTS, commit, parents, pull, remove, shorten
from support.readings import maps
from support.refusals import refused

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.blockmap import LayerMap
from vmsnap_nb.model.image import InternalSnapshot, Status
from vmsnap_nb.model.reference import Reference

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


def test_a_bigger_overlay_grows_the_base() -> None:
    big = forest(image("base"), image("top", "base", virtual_size=80 * MIB), image("leaf", "top"))
    plan = commit(big, "/i/top")
    assert plan.after["/i/base"].virtual_size == 80 * MIB
    assert [c.level for c in plan.concerns if c.name == "grows-base"] == ["warn"]
    old = replace(big["/i/base"], compat="0.10", snapshots=(InternalSnapshot("1", "s"),))
    assert refused(commit(big.edited(put=[old]), "/i/top")) == {"grows-base"}


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
    [said] = [one for one in plan.concerns if "other names" in one.what]
    assert said.images == ("/i/middle", "/i/bound/middle")
