"""The cheapest way to a short chain, against every way that the rules permit."""

from __future__ import annotations

import html
import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.forests import UNIT, figure_2, handout, image
from support.merges import FACTS, commit, shorten
from support.readings import maps
from support.refusals import refused

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.blockmap import BlockMap, Extent, LayerMap
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import InternalSnapshot
from vmsnap_nb.plans.merge.shorten import Group, _Costs, cheapest


def test_a_small_base_goes_up_instead_of_a_large_overlay_down() -> None:
    facts = maps(RootBase=(0, 1), Snap_1=tuple(range(2, 30)))
    two = handout().only(["/i/RootBase", "/i/Snap-1"])
    plan = shorten(two, "/i/Snap-1", keep=1, top_may_go=True, facts=facts)
    assert plan.bytes_to_copy == 2 * UNIT
    assert [(a.what, a.size) for a in plan.alternatives] == [
        ("pull RootBase into Snap-1", 2 * UNIT),
        ("commit everything down", 28 * UNIT),
    ]
    other = maps(RootBase=tuple(range(2, 30)), Snap_1=(0, 1))
    down = shorten(two, "/i/Snap-1", keep=1, top_may_go=True, facts=other)
    assert down.bytes_to_copy == 2 * UNIT
    assert down.invalid == ("/i/Snap-1",)
    stays = shorten(two, "/i/Snap-1", keep=1, facts=other)
    assert stays.bytes_to_copy == 28 * UNIT
    assert "top_may_go=True" in next(a.refused for a in stays.alternatives if not a.chosen)


def test_the_ways_are_shown_with_their_bytes_as_a_frame_and_below_the_figure() -> None:
    two = handout().only(["/i/RootBase", "/i/Snap-1"])
    plan = shorten(two, "/i/Snap-1", keep=1, facts=maps(RootBase=(0, 1), Snap_1=tuple(range(2, 30))))
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
    reason = frame["refused"].iloc[1]
    assert len(reason) > 50  # where pandas would cut it
    assert reason in repr(frame).replace("\n", "")
    assert html.escape(reason, quote=False) in frame._repr_html_()
    for shown in (repr(frame), frame._repr_html_()):
        assert f"{2 * UNIT >> 10} KiB" in shown
        assert "1.75 MiB" in shown
        assert str(28 * UNIT) not in shown
    assert frame["bytes"].tolist() == [2 * UNIT, 28 * UNIT], "displaying a frame changes nothing in it"
    section = plan.to_text().partition("Ways compared\n")[2].splitlines()
    assert section[0] == f"  * pull RootBase into Snap-1 ({2 * UNIT >> 10} KiB, chosen)"
    assert section[1].startswith("  * commit everything down (1.75 MiB); not possible: the top image would be merged")
    only = commit(two, "/i/Snap-1", "/i/RootBase")
    assert only.alternatives_frame().empty
    assert "Ways compared" not in only.to_text()


def test_the_best_way_of_a_refused_plan_is_shown_with_its_refusal() -> None:
    inside = (InternalSnapshot("1", "precious"),)
    last = handout().edited(put=[image("Snap-4", "Snap-3", snapshots=inside)])
    plan = shorten(last, "/i/Snap-4", keep=1, facts=FACTS)
    assert plan.refused
    best = next(way for way in plan.alternatives if way.chosen)
    said = " ".join(plan.to_text().partition("Ways compared\n")[2].split())
    assert f"{best.what} (" in said
    assert f"; would be chosen, but is refused: {best.refused}) * " in said
    assert ", chosen)" not in said


def test_a_way_that_is_not_possible_names_the_image_in_its_way() -> None:
    facts = maps(RootBase=(0, 1), Snap_1=(2,), Snap_2=(3,), Snap_3=(4,), Snap_4=(5,))
    plan = shorten(handout(), "/i/Snap-4", keep=("/i/Snap-2",), facts=facts)
    down = next(way for way in plan.alternatives if way.what == "commit everything down")
    assert down.refused == "the file of Snap-2 must be kept"


def test_layers_that_write_the_same_cost_nothing_to_pull() -> None:
    same = maps(RootBase=tuple(range(10, 20)), Snap_1=(0, 1), Snap_2=(0, 1), Snap_3=(0, 1), Snap_4=(0, 1))
    plan = shorten(handout(), "/i/Snap-4", keep=2, facts=same)
    assert plan.bytes_to_copy == 0
    naive = next(a for a in plan.alternatives if "layer by layer" in a.what)
    assert naive.size == 6 * UNIT


def test_what_must_be_kept_is_kept() -> None:
    plan = shorten(handout(), "/i/Snap-4", keep=("/i/RootBase", "/i/Snap-2"), facts=FACTS)
    assert [one.name for one in plan.after.chain("/i/Snap-4")] == ["RootBase", "Snap-2", "Snap-4"]
    assert plan.writes == ("/i/Snap-2", "/i/Snap-4"), "its content stays, so layers come up into it"
    shared = handout(image("Other", "Snap-1"), uses=(Use("g", "vda", "/i/Snap-3"),))
    kept = shorten(shared, "/i/Snap-4", keep=1, facts=FACTS)
    assert not kept.refused
    assert [one.name for one in kept.after.chain("/i/Snap-4")] == ["Snap-1", "Snap-3", "Snap-4"]


def test_snapshots_inside_a_layer_are_spared_where_that_is_possible() -> None:
    inside = (InternalSnapshot("1", "precious"),)
    some = handout().edited(put=[image("Snap-2", "Snap-1", snapshots=inside)])
    plan = shorten(some, "/i/Snap-4", keep=2, facts=FACTS)
    assert not plan.refused
    assert "/i/Snap-2" not in (*plan.writes, *plan.invalid)
    # Where it is not, the plan says what would be lost.
    last = handout().edited(put=[image("Snap-4", "Snap-3", snapshots=inside)])
    assert refused(shorten(last, "/i/Snap-4", keep=1, facts=FACTS)) == {"state-lost"}


def test_a_chain_that_is_short_already() -> None:
    with pytest.raises(InvalidRequestError, match="the chain has only 5 images, and all of them would be kept"):
        shorten(handout(), "/i/Snap-4", keep=5)
    with pytest.raises(InvalidRequestError, match="they have other overlays"):
        shorten(figure_2(), "/i/Overlay-2", keep=1)
    with pytest.raises(InvalidRequestError, match="keep must be 1 or more"):
        shorten(handout(), "/i/Snap-4", keep=0)
    with pytest.raises(InvalidRequestError, match="not in this chain"):
        shorten(handout(image("x")), "/i/Snap-4", keep=("/i/x",))


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


def test_a_long_chain_that_becomes_a_little_shorter_takes_little_time() -> None:
    """With the number of groups counted, it would take a minute and more."""
    count = 900
    began = time.process_time()
    found = cheapest(
        _Costs(None, count),
        count,
        most=count - 1,
        fixed=frozenset(),
        ends=frozenset(),
        movable=frozenset(range(count)),
    )
    assert len(found) == count - 1
    assert time.process_time() - began < 12
