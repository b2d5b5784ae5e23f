"""Merge plans as pure functions: what they predict, what they refuse, and the cheapest way to a short chain."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from forests import MIB, figure_2, forest, image
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from vmsnap_nb.errors import InvalidRequestError, PlanRefusedError
from vmsnap_nb.model.blockmap import BlockMap, Extent, LayerMap
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import Image, InternalSnapshot
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.ground import Ground
from vmsnap_nb.plans.merge import plan_cleanup, plan_commit, plan_finish, plan_pull, plan_remove
from vmsnap_nb.plans.merge_facts import MergeFacts, commit_needs, pull_needs
from vmsnap_nb.plans.merge_note import MergeNote
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.shorten import Group, _Costs, cheapest, plan_shorten

UNIT = 65536


def handout(*others: Image, uses: tuple[Use, ...] = ()) -> Forest:
    """RootBase <- Snap-1 <- Snap-2 <- Snap-3 <- Snap-4, and what else is given."""
    snaps = [image(f"Snap-{n}", f"Snap-{n - 1}" if n > 1 else "RootBase") for n in range(1, 5)]
    return forest(image("RootBase"), *snaps, *others, uses=uses)


def maps(**clusters: tuple[int, ...]) -> MergeFacts:
    """What each image holds, as numbers of clusters; `Snap_1` stands for Snap-1."""
    found = {
        f"/i/{name.replace('_', '-')}": LayerMap(
            f"/i/{name.replace('_', '-')}", 64 * MIB, tuple(Extent(n * UNIT, UNIT) for n in numbers)
        )
        for name, numbers in clusters.items()
    }
    return MergeFacts(found)


FACTS = maps(RootBase=tuple(range(8)), Snap_1=(0, 1), Snap_2=(1, 2), Snap_3=(2, 3), Snap_4=(3, 4))


def parents(plan: Plan) -> dict[str, str | None]:
    return {
        one.name: None if one.backing is None else one.backing.key.removeprefix("/i/")
        for one in plan.after
        if one.status == "ok"
    }


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
    plan = plan_commit(handout(), f"/i/{top}", f"/i/{base}", facts=FACTS)
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
    plan = plan_commit(handout(), "/i/Snap-4", "/i/RootBase", remove=True, facts=FACTS)
    assert not plan.refused
    assert list(plan.after.images) == ["/i/RootBase"]
    assert plan.unlinks == ("/i/Snap-4", "/i/Snap-3", "/i/Snap-2", "/i/Snap-1")
    assert [step.action for step in plan.steps] == ["commit"] + ["mark invalid"] * 4 + ["remove"] * 4 + ["finish"]


def test_without_maps_the_bytes_are_not_known() -> None:
    plan = plan_commit(handout(), "/i/Snap-2")
    assert plan.bytes_to_copy is None
    assert parents(plan) == {"RootBase": None, "Snap-1": "RootBase", "Snap-3": "Snap-1", "Snap-4": "Snap-3"}


def test_several_overlays_of_the_top_are_all_repointed() -> None:
    plan = plan_commit(handout(image("Other", "Snap-2")), "/i/Snap-2", "/i/RootBase")
    assert not plan.refused
    assert parents(plan) == {"RootBase": None, "Snap-3": "RootBase", "Snap-4": "Snap-3", "Other": "RootBase"}


@pytest.mark.parametrize("stands_on", ["RootBase", "Snap-1"])
def test_a_base_that_somebody_else_reads_is_refused(stands_on: str) -> None:
    uses = (Use("guest-2", "vda", "/i/Other-A"),)
    plan = plan_commit(
        handout(image("Other", stands_on), image("Other-A", "Other"), uses=uses), "/i/Snap-2", "/i/RootBase"
    )
    (concern,) = [c for c in plan.concerns if c.name == "shared-base" and c.level == "refuse"]
    assert concern.images == ("/i/RootBase", "/i/Other", "/i/Other-A")
    assert concern.holders == ("guest-2",)
    assert "Other (and so guest-2)" in concern.what
    with pytest.raises(PlanRefusedError, match="Other"):
        plan.check()
    plan.check(waive="shared-base")


def test_figure_2_is_refused_because_of_the_other_guests() -> None:
    plan = plan_commit(figure_2(), "/i/Overlay-1", "/i/RootBase")
    (concern,) = [c for c in plan.concerns if c.level == "refuse"]
    assert {"/i/Overlay-2", "/i/Overlay-2A", "/i/Overlay-3", "/i/Overlay-3A"} <= set(concern.images)


@pytest.mark.parametrize("name", ["/elsewhere/link", "/elsewhere/hard-link"])
def test_a_base_that_is_read_under_another_name_is_refused(name: str) -> None:
    same = handout()
    base = replace(same["/i/RootBase"], identity=(1, 2))
    other = image("/j/Other", name)
    plan = plan_commit(same.edited(put=[base, replace(base, path=name), other]), "/i/Snap-1")
    assert refused(plan) == {"shared-base"}


def test_an_overlay_that_was_marked_invalid_does_not_count() -> None:
    spoilt = image("Old", "RootBase", status="invalid")
    assert not plan_commit(handout(spoilt), "/i/Snap-1").refused
    assert plan_commit(handout(image("Other", "Old"), spoilt), "/i/Snap-1").before["/i/Old"].status == "invalid"


@pytest.mark.parametrize("source", ["RootBase", "Snap-1"])
def test_a_guest_on_a_lower_layer_is_refused(source: str) -> None:
    plan = plan_commit(handout(uses=(Use("g", "vda", f"/i/{source}"),)), "/i/Snap-2", "/i/RootBase")
    assert refused(plan) == {"shared-base"}


def test_a_guest_on_what_is_merged_away_is_refused() -> None:
    plan = plan_commit(handout(uses=(Use("g", "vda", "/i/Snap-4"),)), "/i/Snap-4")
    (concern,) = [c for c in plan.concerns if c.level == "refuse"]
    assert (concern.name, concern.holders) == ("in-use", ("g",))
    plan.check(waive="in-use")


def test_a_running_guest_is_refused_and_no_waiver_helps() -> None:
    running = handout(uses=(Use("g", "vda", "/i/Snap-4", "running"),))
    for plan in (
        plan_commit(running, "/i/Snap-2"),
        plan_pull(running, "/i/Snap-4", "/i/Snap-1"),
        plan_pull(running, "/i/Snap-2"),
    ):
        assert refused(plan) == {"in-use"}
        with pytest.raises(PlanRefusedError, match="shut g down"):
            plan.check(waive="in-use")


@pytest.mark.parametrize(("path", "held"), [("RootBase", "read"), ("Snap-2", "read"), ("Snap-3", "write")])
def test_another_process_that_has_it_open_is_refused(path: str, held: str) -> None:
    one = handout()
    plan = plan_commit(one.edited(put=[replace(one[f"/i/{path}"], held=held)]), "/i/Snap-2", "/i/RootBase")  # type: ignore[arg-type]
    assert refused(plan) == {"in-use"}


def test_a_base_that_is_only_read_may_be_open_for_reading() -> None:
    one = handout()
    reading = one.edited(put=[replace(one["/i/RootBase"], held="read")])
    assert not plan_commit(reading, "/i/Snap-2", "/i/Snap-1").refused
    writing = one.edited(put=[replace(one["/i/RootBase"], held="write")])
    assert refused(plan_commit(writing, "/i/Snap-2", "/i/Snap-1")) == {"in-use"}


def test_a_bigger_overlay_grows_the_base() -> None:
    big = forest(image("base"), image("top", "base", virtual_size=80 * MIB), image("leaf", "top"))
    plan = plan_commit(big, "/i/top")
    assert plan.after["/i/base"].virtual_size == 80 * MIB
    assert [c.level for c in plan.concerns if c.name == "grows-base"] == ["warn"]
    old = replace(big["/i/base"], compat="0.10", snapshots=(InternalSnapshot("1", "s"),))
    assert refused(plan_commit(big.edited(put=[old]), "/i/top")) == {"grows-base"}


def test_a_short_layer_would_bring_to_light_what_it_hid() -> None:
    short = forest(image("base"), image("top", "base", virtual_size=32 * MIB), image("leaf", "top"))
    assert refused(plan_commit(short, "/i/top")) == {"smaller-size"}

    def facts(place: int, own: int) -> MergeFacts:
        def one(path: str, size: int, start: int) -> LayerMap:
            return LayerMap(path, size * MIB, (Extent(start * MIB, MIB),))

        layers = (one("/i/base", 64, place), one("/i/top", 32, 0), one("/i/leaf", 64, own))
        return MergeFacts({layer.path: layer for layer in layers})

    assert refused(plan_commit(short, "/i/top", facts=facts(40, 50))) == {"smaller-size"}
    assert not plan_commit(short, "/i/top", facts=facts(40, 40)).refused, "the leaf covers it"
    assert not plan_commit(short, "/i/top", facts=facts(4, 40)).refused, "there is nothing"
    leaf = plan_commit(short.only(["/i/base", "/i/top"]), "/i/top")
    assert [c.level for c in leaf.concerns if c.name == "smaller-size"] == ["warn"]


def test_internal_snapshots_would_be_lost_or_spoilt() -> None:
    with_snapshot = handout()
    held = replace(with_snapshot["/i/Snap-2"], snapshots=(InternalSnapshot("1", "before-update"),))
    one = with_snapshot.edited(put=[held])
    assert refused(plan_commit(one, "/i/Snap-3", "/i/Snap-1")) == {"state-lost"}
    assert refused(plan_pull(one, "/i/Snap-2", "/i/RootBase")) == {"state-lost"}
    assert refused(plan_pull(one, "/i/Snap-3", "/i/Snap-1", remove=True)) == {"state-lost"}
    assert not plan_pull(one, "/i/Snap-3", "/i/Snap-1").refused
    assert not plan_commit(one, "/i/Snap-3", "/i/Snap-2").refused, "the base keeps its own"
    assert "before-update" in plan_commit(one, "/i/Snap-2").concerns[0].what


def test_room_and_permission() -> None:
    facts = MergeFacts(FACTS.maps, Ground(free={"/i": 3 * UNIT}))
    plan = plan_commit(handout(), "/i/Snap-3", "/i/Snap-1", facts=facts)
    assert refused(plan) == {"no-space"}
    assert plan.space_needed > 2 * UNIT
    closed = MergeFacts(FACTS.maps, Ground(closed={"/i": "Read-only file system"}))
    assert refused(plan_commit(handout(), "/i/Snap-3", facts=closed)) == {"no-permission"}


def test_a_protected_base_is_opened_and_closed_again() -> None:
    one = handout()
    plan = plan_commit(one.edited(put=[replace(one["/i/RootBase"], writable=False)]), "/i/Snap-1")
    assert not plan.refused
    assert [step.action for step in plan.steps] == [
        "unprotect", "commit", "protect", "repoint", "mark invalid", "finish",
    ]  # fmt: skip
    assert plan.after["/i/RootBase"].writable is False
    [warning] = [c for c in plan.concerns if c.name == "read-only"]
    assert warning.level == "warn"
    assert "begins with the data that is committed" in warning.what
    layer = plan_commit(one.edited(put=[replace(one["/i/Snap-1"], writable=False)]), "/i/Snap-2")
    assert [c.level for c in layer.concerns if c.name == "read-only"] == ["note"], "no template: a layer of one guest"


@pytest.mark.parametrize(
    ("path", "fields", "name"),
    [
        ("RootBase", {"status": "missing", "format": None}, "missing-base"),
        ("Snap-1", {"status": "corrupt"}, "missing-base"),
        ("Snap-2", {"status": "invalid"}, "missing-base"),
        ("RootBase", {"status": "outside", "format": None}, "untrusted-backing"),
        ("Snap-1", {"status": "unknown", "format": None}, "backing-format-missing"),
        ("Snap-1", {"encryption": "luks"}, "not-supported"),
        ("Snap-1", {"format": "qed"}, "not-supported"),
        ("Snap-2", {"format": "vmdk"}, "not-supported"),
        ("Snap-2", {"data_file": Reference("/d", "absolute", "/d", "raw")}, "not-supported"),
    ],
)
def test_images_that_cannot_be_merged(path: str, fields: dict[str, object], name: str) -> None:
    one = handout()
    other = replace(one[f"/i/{path}"], **fields)  # type: ignore[arg-type]
    plan = plan_commit(one.edited(put=[other]), "/i/Snap-2", "/i/Snap-1")
    assert name in refused(plan)


def test_a_backing_format_that_is_missing_or_wrong() -> None:
    one = handout()
    for written, name in ((None, "backing-format-missing"), ("raw", "backing-format-wrong")):
        reference = Reference("/i/RootBase", "absolute", "/i/RootBase", written)
        plan = plan_commit(one.edited(put=[replace(one["/i/Snap-1"], backing=reference)]), "/i/Snap-2")
        assert refused(plan) == {name}
        assert "rebase -u -f qcow2 -F qcow2" in plan.concerns[0].remedy
        plan.check(waive=name)


def test_a_loop_is_refused() -> None:
    loop = forest(image("a", "b"), image("b", "a"), image("c", "b"))
    assert refused(plan_commit(loop, "/i/c")) >= {"loop"}
    assert refused(plan_pull(loop, "/i/c")) >= {"loop"}


@pytest.mark.parametrize(
    ("top", "base", "message"),
    [
        ("Snap-1", "Snap-3", "base /i/Snap-3 is not below /i/Snap-1"),
        ("Snap-2", "Snap-2", "not below"),
        ("Snap-2", "Elsewhere", "not below"),
        ("RootBase", None, "has no backing file"),
    ],
)
def test_what_cannot_be_meant_is_no_plan(top: str, base: str | None, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        plan_commit(handout(image("Elsewhere")), f"/i/{top}", base and f"/i/{base}")


def test_references_stay_relative_where_they_were() -> None:
    one = handout()
    written = Reference("Snap-2", "relative", "/i/Snap-2", "qcow2")
    plan = plan_commit(one.edited(put=[replace(one["/i/Snap-3"], backing=written)]), "/i/Snap-2")
    backing = plan.after["/i/Snap-3"].backing
    assert backing is not None
    assert (backing.written, backing.kind) == ("Snap-1", "relative")


def test_a_base_written_as_json_is_named_as_written() -> None:
    one = handout()
    written = Reference("json:{…}", "json:", "/i/Snap-1", "qcow2")
    plan = plan_commit(one.edited(put=[replace(one["/i/Snap-2"], backing=written)]), "/i/Snap-3", "/i/Snap-1")
    assert "-b 'json:{…}' -- /i/Snap-3" in plan.commands[0]


# -- pull, remove ------------------------------------------------------------------------------------------------------


def test_pull_partial_and_full() -> None:
    partial = plan_pull(handout(), "/i/Snap-4", "/i/RootBase", facts=FACTS)
    assert not partial.refused
    assert [one.name for one in partial.after.chain("/i/Snap-4")] == ["RootBase", "Snap-4"]
    assert partial.bytes_to_copy == 3 * UNIT  # clusters 0 to 2; 3 is in Snap-4 already
    assert {move.label for move in partial.moves} == {"stream data"}
    assert partial.writes == ("/i/Snap-4",)
    assert partial.invalid == ()
    full = plan_pull(handout(), "/i/Snap-4", facts=FACTS)
    assert full.after["/i/Snap-4"].backing is None
    assert full.bytes_to_copy == 6 * UNIT
    assert "-b ''" in full.commands[0]


def test_pull_into_the_middle_leaves_what_stands_on_it_alone() -> None:
    one = handout(image("Other", "Snap-3"), image("Another", "Snap-1"))
    plan = plan_pull(one, "/i/Snap-3", "/i/RootBase", remove=True, facts=FACTS)
    assert not plan.refused
    assert plan.writes == ("/i/Snap-3",)
    assert plan.unlinks == ("/i/Snap-2",)
    assert [c.level for c in plan.concerns if c.name == "shared-base"] == ["note"]
    assert parents(plan)["Other"] == "Snap-3"


def test_there_must_be_something_to_pull() -> None:
    with pytest.raises(InvalidRequestError, match="stands alone already"):
        plan_pull(handout(), "/i/RootBase")
    with pytest.raises(InvalidRequestError, match="nothing lies between"):
        plan_pull(handout(), "/i/Snap-2", "/i/Snap-1")


def test_one_layer_is_removed_the_cheaper_way() -> None:
    light = maps(RootBase=(0,), Snap_1=(1,), Snap_2=(2, 3, 4, 5), Snap_3=(2, 3, 4), Snap_4=())
    plan = plan_remove(handout(), "/i/Snap-2", facts=light)
    assert [(a.what[:8], a.size, a.chosen) for a in plan.alternatives] == [
        ("method 2", UNIT, True),
        ("method 1", 4 * UNIT, False),
    ]
    assert plan.unlinks == ("/i/Snap-2",)
    assert parents(plan) == {"RootBase": None, "Snap-1": "RootBase", "Snap-3": "Snap-1", "Snap-4": "Snap-3"}
    heavy = maps(RootBase=(0,), Snap_1=(1, 2), Snap_2=(2,), Snap_3=(), Snap_4=())
    two = handout(image("Other", "Snap-2"))
    facts = MergeFacts({**heavy.maps, "/i/Other": LayerMap("/i/Other", 64 * MIB)})
    assert "method 1" in plan_remove(two, "/i/Snap-2", facts=facts).way, "one copy down, two copies up"
    assert "method 2" in plan_remove(two, "/i/Snap-2", method=2, facts=facts).way


def test_a_shared_base_leaves_only_the_other_method() -> None:
    shared = handout(image("Other", "Snap-1"))
    heavy = maps(RootBase=(0,), Snap_1=(1,), Snap_2=(2, 3), Snap_3=(), Snap_4=())
    plan = plan_remove(shared, "/i/Snap-2", facts=heavy)
    assert "method 2" in plan.way
    assert not plan.refused
    assert plan_remove(shared, "/i/Snap-2", method=1, facts=heavy).refused
    assert next(a for a in plan.alternatives if not a.chosen).refused.startswith("Other also reads Snap-1")


def test_removing_the_first_and_the_last_image() -> None:
    first = plan_remove(handout(), "/i/RootBase", facts=FACTS)
    assert first.after["/i/Snap-1"].backing is None
    with pytest.raises(InvalidRequestError, match="would lose what it holds"):
        plan_remove(handout(), "/i/Snap-4")
    with pytest.raises(InvalidRequestError, match="stands on nothing"):
        plan_remove(handout(), "/i/RootBase", method=1)


# -- shorten ----------------------------------------------------------------------------------------------------------


def test_a_small_base_goes_up_instead_of_a_large_overlay_down() -> None:
    facts = maps(RootBase=(0, 1), Snap_1=tuple(range(2, 30)))
    two = handout().only(["/i/RootBase", "/i/Snap-1"])
    plan = plan_shorten(two, "/i/Snap-1", keep=1, top_may_go=True, facts=facts)
    assert plan.bytes_to_copy == 2 * UNIT
    assert [(a.what, a.size) for a in plan.alternatives] == [
        ("pull RootBase into Snap-1", 2 * UNIT),
        ("commit everything down", 28 * UNIT),
    ]
    other = maps(RootBase=tuple(range(2, 30)), Snap_1=(0, 1))
    down = plan_shorten(two, "/i/Snap-1", keep=1, top_may_go=True, facts=other)
    assert down.bytes_to_copy == 2 * UNIT
    assert down.invalid == ("/i/Snap-1",)
    stays = plan_shorten(two, "/i/Snap-1", keep=1, facts=other)
    assert stays.bytes_to_copy == 28 * UNIT
    assert "top_may_go=True" in next(a.refused for a in stays.alternatives if not a.chosen)


def test_the_ways_are_shown_with_their_bytes_as_a_frame_and_below_the_figure() -> None:
    two = handout().only(["/i/RootBase", "/i/Snap-1"])
    plan = plan_shorten(two, "/i/Snap-1", keep=1, facts=maps(RootBase=(0, 1), Snap_1=tuple(range(2, 30))))
    frame = plan.alternatives_frame()
    assert frame.index.tolist() == ["pull RootBase into Snap-1", "commit everything down"]
    assert frame.index.name == "way"
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        "bytes": "Int64",
        "chosen": "boolean",
        "refused": "string",
    }
    assert frame["bytes"].tolist() == [2 * UNIT, 28 * UNIT]
    assert frame["chosen"].tolist() == [True, False]
    assert frame["refused"].isna().tolist() == [True, False]
    section = plan.to_text().partition("Ways compared\n")[2].splitlines()
    assert section[0] == f"  * {2 * UNIT >> 10} KiB, chosen: pull RootBase into Snap-1"
    assert section[1].startswith("  * 1.75 MiB: commit everything down; not possible: the last image would go")
    only = plan_commit(two, "/i/Snap-1", "/i/RootBase")
    assert only.alternatives_frame().empty
    assert "Ways compared" not in only.to_text()


def test_a_way_that_is_not_possible_names_the_image_in_its_way() -> None:
    facts = maps(RootBase=(0, 1), Snap_1=(2,), Snap_2=(3,), Snap_3=(4,), Snap_4=(5,))
    plan = plan_shorten(handout(), "/i/Snap-4", keep=["/i/Snap-2"], facts=facts)
    down = next(way for way in plan.alternatives if way.what == "commit everything down")
    assert down.refused == "Snap-2 must keep its file"


def test_layers_that_write_the_same_cost_nothing_to_pull() -> None:
    same = maps(RootBase=tuple(range(10, 20)), Snap_1=(0, 1), Snap_2=(0, 1), Snap_3=(0, 1), Snap_4=(0, 1))
    plan = plan_shorten(handout(), "/i/Snap-4", keep=2, facts=same)
    assert plan.bytes_to_copy == 0
    naive = next(a for a in plan.alternatives if "layer by layer" in a.what)
    assert naive.size == 6 * UNIT


def test_what_must_be_kept_is_kept() -> None:
    plan = plan_shorten(handout(), "/i/Snap-4", keep=["/i/RootBase", "/i/Snap-2"], facts=FACTS)
    assert [one.name for one in plan.after.chain("/i/Snap-4")] == ["RootBase", "Snap-2", "Snap-4"]
    assert plan.writes == ("/i/Snap-2", "/i/Snap-4"), "its content stays, so layers come up into it"
    shared = handout(image("Other", "Snap-1"), uses=(Use("g", "vda", "/i/Snap-3"),))
    kept = plan_shorten(shared, "/i/Snap-4", keep=1, facts=FACTS)
    assert not kept.refused
    assert [one.name for one in kept.after.chain("/i/Snap-4")] == ["Snap-1", "Snap-3", "Snap-4"]


def test_snapshots_inside_a_layer_are_spared_where_that_is_possible() -> None:
    inside = (InternalSnapshot("1", "precious"),)
    some = handout().edited(put=[image("Snap-2", "Snap-1", snapshots=inside)])
    plan = plan_shorten(some, "/i/Snap-4", keep=2, facts=FACTS)
    assert not plan.refused
    assert "/i/Snap-2" not in (*plan.writes, *plan.invalid)
    # Where it is not, the plan says what would be lost.
    last = handout().edited(put=[image("Snap-4", "Snap-3", snapshots=inside)])
    assert refused(plan_shorten(last, "/i/Snap-4", keep=1, facts=FACTS)) == {"state-lost"}


def test_a_chain_that_is_short_already() -> None:
    with pytest.raises(InvalidRequestError, match="it has 5 images, and 5 would be kept"):
        plan_shorten(handout(), "/i/Snap-4", keep=5)
    with pytest.raises(InvalidRequestError, match="since others stand on them"):
        plan_shorten(figure_2(), "/i/Overlay-2", keep=1)
    with pytest.raises(InvalidRequestError, match="keep 1 or more"):
        plan_shorten(handout(), "/i/Snap-4", keep=0)
    with pytest.raises(InvalidRequestError, match="not in this chain"):
        plan_shorten(handout(image("x")), "/i/Snap-4", keep="/i/x")


def ways(
    count: int, most: int, fixed: set[int], movable: set[int], *, whole: set[int], down: bool
) -> list[tuple[Group, ...]]:
    """Every row of groups that the rules permit."""
    found = []
    for inner in itertools.chain.from_iterable(itertools.combinations(range(count - 1), n) for n in range(most)):
        edges = [*inner, count - 1]
        if not fixed <= set(edges):
            continue
        choices = []
        for first, last in zip([0, *(edge + 1 for edge in edges)], edges, strict=False):
            files = list(range(first, last + 1)) if last in movable else [last]
            if down and last < count - 1:
                files = [first] if first in files else []
            files = [file for file in files if not any(file < n <= last for n in whole)]
            choices.append([Group(first, last, file) for file in files if first == file or file not in whole])
        found += list(itertools.product(*choices))
    return found


@given(st.data())
def test_the_cheapest_way_is_the_cheapest_of_all(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 5))
    texts = [data.draw(st.text("d0.", min_size=6, max_size=6)) for _ in range(count)]
    layers = tuple(
        LayerMap(f"/{n}", 6 * UNIT, tuple(Extent(i * UNIT, UNIT, c == "0") for i, c in enumerate(text) if c != "."))
        for n, text in enumerate(texts)
    )
    blocks = BlockMap(layers)
    fixed = frozenset(data.draw(st.sets(st.integers(0, count - 2), max_size=2)))
    movable = frozenset(range(count)) - fixed - data.draw(st.sampled_from([frozenset(), frozenset({count - 1})]))
    most = data.draw(st.integers(len(fixed) + 1, count))
    down = data.draw(st.booleans())
    whole = frozenset(data.draw(st.sets(st.integers(0, count - 1), max_size=2)))
    found = cheapest(
        _Costs(blocks, count),
        count,
        most=most,
        fixed=fixed,
        ends=frozenset(),
        movable=movable,
        whole=whole,
        down=down,
    )
    every = ways(count, most, set(fixed), set(movable), whole=set(whole), down=down)
    if not every:
        assert found == ()
        return

    def cost(way: tuple[Group, ...]) -> int:
        return sum(sum(blocks.to_copy(g.first, g.last, g.into).values()) for g in way)

    assert found in every
    assert cost(found) == min(map(cost, every))


# -- what was cut short ----------------------------------------------------------------------------------------------


def test_a_merge_cut_short_is_finished_and_nothing_else_begins() -> None:
    note = MergeNote("/i/RootBase", "/i/Snap-2", ("/i/Snap-1", "/i/Snap-2"), ("/i/Snap-3",))
    facts = MergeFacts(FACTS.maps, notes=(note,))
    assert refused(plan_commit(handout(), "/i/Snap-1", facts=facts)) == {"active-job"}
    assert refused(plan_pull(handout(), "/i/Snap-3", "/i/RootBase", facts=facts)) == {"active-job"}
    again = plan_finish(handout(), note, facts=facts)
    assert not again.refused
    assert [step.action for step in again.steps][:2] == ["commit", "repoint"]
    copied = replace(note, phase="copied")
    rest = plan_finish(handout(), copied, facts=MergeFacts(FACTS.maps, notes=(copied,)))
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
    note = MergeNote(
        "/i/RootBase", "/i/Snap-2", ("/i/Snap-1", "/i/Snap-2"), ("/i/Snap-3",), phase="copied", remove=True
    )
    plan = plan_finish(moved, note)
    assert not plan.refused, "the guest runs on the base already, and does not mind"
    assert [step.action for step in plan.steps] == ["mark invalid", "remove", "remove", "finish"]


@pytest.mark.parametrize("there", [[], [image("Snap-2")], [image("RootBase")], [image("RootBase"), image("Snap-2")]])
def test_a_note_whose_images_are_not_as_it_left_them_is_a_plan_that_is_refused(there: list[Image]) -> None:
    note = MergeNote("/i/RootBase", "/i/Snap-2", ("/i/Snap-2",), ("/i/Snap-3",))
    plan = plan_finish(forest(*there), note)
    assert refused(plan) == {"missing-base"}
    assert note.path in plan.to_text()
    assert "svg" in str(plan._repr_mimebundle_())


def test_a_guest_that_may_write_to_the_base_by_now_is_asked() -> None:
    """A commit of the image that a guest writes to, and nobody knows of the guest."""
    note = MergeNote("/i/Snap-1", "/i/Snap-2", ("/i/Snap-2",), active=True)
    chain = forest(image("RootBase"), image("Snap-1", "RootBase"), image("Snap-2", "Snap-1"))
    assert refused(plan_finish(chain, note)) == {"missing-base"}
    moved = chain.edited(uses=[Use("g", "vda", "/i/Snap-1", "running")])
    plan = plan_finish(moved, note)
    assert not plan.refused
    assert [step.action for step in plan.steps] == ["mark invalid", "finish"]
    still = chain.edited(uses=[Use("g", "vda", "/i/Snap-2", "shut off")])
    assert "commit" in [step.action for step in plan_finish(still, note).steps]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"version": 2}', '{"version": 1, "phase": "copied"}', "[" * 10_000],
)
def test_a_note_that_is_none(text: str) -> None:
    assert MergeNote.from_json(text) is None


def test_a_note_leads_nowhere_else() -> None:
    note = MergeNote("/i/a", "/i/b", ("/i/b",))
    assert note.path.startswith("/i/.vmsnap-merge-")
    assert MergeNote.from_json(replace(note, merged=("relative",)).to_json()) is None
    assert MergeNote.from_json(replace(note, top="/i/c").to_json()) is None


def test_cleanup_removes_what_is_invalid_and_nothing_else() -> None:
    spoilt = handout(image("Old", "RootBase", status="invalid"), image("Older", "Old", status="invalid"))
    plan = plan_cleanup(spoilt)
    assert plan.unlinks == ("/i/Older", "/i/Old")
    assert not plan.refused
    needed = handout(image("Old", "RootBase", status="invalid"), image("Other", "Old"))
    assert plan_cleanup(needed).refused
    with pytest.raises(InvalidRequestError, match="no image"):
        plan_cleanup(handout())


def test_verify_reads_every_disk_that_survives() -> None:
    two = handout(image("Other", "Snap-3"))
    plan = plan_commit(two, "/i/Snap-2", verify=True)
    assert [step.image for step in plan.steps if step.action == "checksum before"] == ["/i/Snap-4", "/i/Other"]
    actions = [step.action for step in plan.steps]
    assert actions.index("checksum after") < actions.index("mark invalid")
    active = plan_commit(handout(), "/i/Snap-4", "/i/Snap-1", verify=True)
    assert [(s.action, s.image) for s in active.steps if s.action.startswith("checksum")] == [
        ("checksum before", "/i/Snap-4"),
        ("checksum after", "/i/Snap-1"),
    ]


# -- what a plan must look at ---------------------------------------------------------------------------------------


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

    def limited(needed: tuple[str, ...]) -> MergeFacts:
        return MergeFacts({one: every[one] for one in needed})

    pairs = [
        [
            plan_commit(world, path, base, facts=facts)
            for facts in (MergeFacts(every), limited(commit_needs(world, path, base)))
        ]
    ]
    if base != f"/i/{top - 1}":
        pairs.append(
            [
                plan_pull(world, path, base, facts=facts)
                for facts in (MergeFacts(every), limited(pull_needs(world, path, base)))
            ]
        )
    if world.children(path):
        needed = (*commit_needs(world, path), *world.children(path))
        pairs.append([plan_remove(world, path, facts=facts) for facts in (MergeFacts(every), limited(needed))])
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
