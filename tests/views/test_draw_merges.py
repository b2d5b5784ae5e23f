"""Merges of real images drawn as the handout's Figures 3 to 6: boxes, rows, arrows and labels compared."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import GOLDEN

import vmsnap_nb as vs
from vmsnap_nb.lab.scenarios import build_scenario
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.views.channel import Wire, draw_channel
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Options
from vmsnap_nb.views.svg import figure_svg

pytestmark = pytest.mark.system

NAME = re.compile(r"(?:RootBase|Snap-\d|Overlay-\d\w?)")


@pytest.fixture(scope="module")
def merge(tmp_path_factory: pytest.TempPathFactory) -> LiveForest:
    folder = tmp_path_factory.mktemp("merge") / "m"
    build_scenario("merge", folder)
    return vs.scan(folder)


@dataclass(frozen=True)
class Structure:
    """What a figure of a merge says, however it is spaced."""

    above: tuple[str, ...]
    below: tuple[str, ...]
    active: tuple[int, int]
    data: tuple[tuple[str, int], ...]
    new_edges: int
    backing: bool


def structure(text: str) -> Structure:
    """Read a drawn figure: the first two rows of names, and what is written between and beside them."""
    lines = text.splitlines()
    rows = [number for number, line in enumerate(lines) if NAME.search(line) and re.search(r"[|x<]", line)]
    first, second = rows[0], rows[1]
    if second - first < 4:  # the handout writes a name of Figures 4 and 5 a line below the others of its row
        second = rows[2]
    above = tuple(NAME.findall(lines[first]))
    low = [line for line in lines[second - 1 : second + 2] if NAME.search(line)]
    below = tuple(name for line in low for name in NAME.findall(line))
    actives = [number for number, line in enumerate(lines) if "(Active)" in line]
    between = "\n".join(lines[first:second])
    # The handout has one label for each arrow; ours add the size.
    data = Counter(re.findall(r"commit data|stream data", between))
    return Structure(
        above,
        below,
        (sum(n < second - 1 for n in actives), sum(second - 1 <= n <= second + 4 for n in actives)),
        tuple(sorted(data.items())),
        sum(line.count("Backing File") for line in lines),
        any(re.search(r"<\s?[-=]{4,}", line) for line in lines[second - 1 : second + 2]),
    )


def row(plan: Plan) -> str:
    """Draw a plan with the names alone, up to what is left behind by it."""
    figure = plan.to_text(details="none", style="handout").partition("\n\n")[2].partition("\n\nHow")[0]
    lines = figure.splitlines()
    last = max(number for number, line in enumerate(lines) if re.search(r"Snap-4 ", line))
    return "\n".join(lines[: last + 5])


def planned(merge: LiveForest, number: int) -> Plan:
    return {
        3: lambda: merge.commit("Snap-3", "Snap-1"),
        4: lambda: merge.commit("Snap-3", "RootBase"),
        5: lambda: merge.pull("Snap-4", "RootBase"),
        6: lambda: merge.pull("Snap-4"),
    }[number]()


@pytest.mark.parametrize("number", [3, 4, 5])
def test_a_merge_is_drawn_as_the_handout_draws_it(merge: LiveForest, number: int) -> None:
    handout = structure((GOLDEN / f"figure-{number}.txt").read_text())
    assert len(handout.above) == 5
    assert sum(count for _, count in handout.data) == (2 if number == 3 else 3)
    assert structure(row(planned(merge, number))) == handout


def test_one_figure_is_not_taken_for_another(merge: LiveForest) -> None:
    found = {structure(row(planned(merge, number))) for number in (3, 4, 5, 6)}
    assert len(found) == 4


def test_figure_6_leaves_one_image_alone(merge: LiveForest) -> None:
    text = planned(merge, 6).to_text(details="none")
    found = structure(row(planned(merge, 6)))
    assert found.below == ("Snap-4",)
    assert found.data == (("stream data", 4),)
    assert found.new_edges == 0
    assert "Standalone (w/o backing file)" in text
    below = text.index("Standalone")
    assert all(name in text[below:] for name in ("RootBase", "Snap-1", "Snap-2", "Snap-3"))  # they stay valid
    assert "INVALID" not in text


PLANS = {
    "figure-3": lambda forest: forest.commit("Snap-3", "Snap-1"),
    "figure-4": lambda forest: forest.commit("Snap-3", "RootBase"),
    "figure-5": lambda forest: forest.pull("Snap-4", "RootBase"),
    "figure-6": lambda forest: forest.pull("Snap-4"),
    "active": lambda forest: forest.commit("Snap-4", "Snap-3"),
    "method-1": lambda forest: forest.remove("Snap-2", method=1),
    "method-2": lambda forest: forest.remove("Snap-2", method=2),
}


TREE_PLANS = {
    "all of a branch": lambda forest: forest.commit("Overlay-1B", "RootBase"),
    "up a branch": lambda forest: forest.pull("Overlay-1C", "RootBase"),
    "another branch": lambda forest: forest.pull("Overlay-2A", "RootBase"),
    "the last branch": lambda forest: forest.commit("Overlay-3A", "Overlay-3"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> LiveForest:
    folder = tmp_path_factory.mktemp("tree") / "t"
    build_scenario("figure-2", folder)
    return vs.scan(folder)


@pytest.mark.parametrize("name", PLANS)
def test_each_move_has_an_arrow_from_its_box_to_its_box(merge: LiveForest, name: str) -> None:
    check_arrows(merge, PLANS[name](merge))


@pytest.mark.parametrize("name", TREE_PLANS)
def test_arrows_of_a_branch_cross_no_other_branch(tree: LiveForest, name: str) -> None:
    plan = TREE_PLANS[name](tree)
    check_arrows(tree, plan)
    assert re.search(r"(?m)^after|[v ]  after$", plan.to_text(details="none", style="handout"))


def check_arrows(forest: LiveForest, plan: Plan) -> None:
    assert plan.moves
    lines = plan.to_text(details="none", style="handout").splitlines()
    drawn = {traced(lines, y, x) for y, line in enumerate(lines) for x, char in enumerate(line) if arrives(lines, y, x)}
    assert drawn == {(forest[move.source].name, forest[move.target].name) for move in plan.moves}


def arrives(lines: list[str], y: int, x: int) -> bool:
    """Return whether the head of an arrow from above is here: on a line that has nothing but arrows."""
    return lines[y][x] == "v" and not lines[y].replace("after", "").strip(" v|")


def traced(lines: list[str], y: int, x: int) -> tuple[str, str]:
    """Walk an arrow back from its head to the box that it leaves."""
    target = box_at(lines, y + 3, x)
    y -= 1
    while lines[y][x] == "|":
        y -= 1
    assert lines[y][x] == ".", lines[y]
    right = lines[y][x + 1 : x + 2] == "-"
    x = lines[y].index("'", x) if right else lines[y].rindex("'", 0, x)
    y -= 1
    while lines[y][x] == "|":
        y -= 1
    assert not NAME.search(lines[y])  # the lower edge of a box
    while not NAME.search(lines[y]):
        y -= 1
    return box_at(lines, y, x), target


def box_at(lines: list[str], y: int, x: int) -> str:
    """Return the name of the box that spans a column."""
    return [found for found in NAME.finditer(lines[y]) if found.start() - 2 <= x][-1].group()


def test_what_is_invalid_stands_where_it_stood_and_the_live_chain_keeps_its_row(merge: LiveForest) -> None:
    figure = figure_of(PLANS["figure-3"](merge), Options(details="none", style="handout"))
    before, after = figure.blocks
    was = {box.lines[0].text: box for box in before.boxes}
    now = {box.lines[0].text: box for box in after.boxes}
    assert {name: box.column for name, box in now.items()} == {name: box.column for name, box in was.items()}
    assert [name for name, box in now.items() if box.row == 0] == ["RootBase", "Snap-1", "Snap-4"]
    assert [name for name, box in now.items() if box.shape == "gone"] == ["Snap-2", "Snap-3"]
    svg = figure_svg(figure)
    assert "Backing File" in svg
    assert svg.count("commit data") == 2


@pytest.mark.parametrize(
    ("name", "active"), [("figure-5", "Snap-4"), ("figure-6", "Snap-4"), ("active", "Snap-3"), ("method-2", "Snap-4")]
)
def test_nobody_writes_to_a_layer_only_because_nothing_stands_on_it_any_more(
    merge: LiveForest, name: str, active: str
) -> None:
    after = figure_of(PLANS[name](merge), Options(style="handout")).blocks[1:]
    assert [box.lines[0].text for block in after for box in block.boxes if box.active] == [active]


def test_what_several_images_have_in_common_is_said_once(merge: LiveForest) -> None:
    (note,) = figure_of(PLANS["figure-3"](merge), Options()).notes
    assert note.startswith("Snap-2, Snap-3: merged into another image")


def test_a_refused_merge_is_drawn_and_names_who_stands_in_its_way(tmp_path: Path) -> None:
    build_scenario("figure-2", tmp_path / "f")
    plan = vs.scan(tmp_path / "f").commit("Overlay-1B", "RootBase")
    text = plan.to_text(details="none", style="handout")
    assert plan.refused
    assert text.splitlines()[0].endswith(", refused")
    (why,) = [line for line in re.sub(r"\n {4}", " ", text).splitlines() if line.startswith("! shared-base: ")]
    assert "Overlay-2 and Overlay-3 also depend on RootBase" in why
    *_, after = figure_of(plan, Options(details="none", style="handout")).blocks
    corrupted = {box.lines[0].text for box in after.boxes if box.lines[1].text.startswith("CORRUPTED")}
    assert corrupted == {"Overlay-2", "Overlay-2A", "Overlay-3", "Overlay-3A"}


def test_arrows_that_meet_are_drawn_as_crossings() -> None:
    lines = draw_channel([Wire(30, 3, "one"), Wire(8, 40, "two")])
    assert any("+" in line for line in lines)
    assert "".join(lines).count("v") == 2
    assert draw_channel([]) == []
    assert [line.strip() for line in draw_channel([Wire(4, 4, "straight")])] == ["|", "|", "v"]


def test_a_report_says_what_is_left_behind_and_the_plan_to_remove_it_spares_the_rest(tmp_path: Path) -> None:
    build_scenario("merge", tmp_path / "m")
    report = vs.scan(tmp_path / "m").commit("Snap-3", "Snap-1").run(progress=False)
    assert report.as_predicted
    text = re.sub(r"\n {4}", " ", report.to_text())
    assert "Snap-3 and Snap-2 are now INVALID" in text or "Snap-2 and Snap-3 are now INVALID" in text
    plan = vs.scan(tmp_path / "m").cleanup()
    before, after = figure_of(plan, Options(style="rows")).blocks
    gone = {box.lines[0].text for box in before.boxes if "(removed)" in [line.text for line in box.lines]}
    assert gone == {"Snap-2", "Snap-3"}
    assert {box.lines[0].text for box in after.boxes} == {"RootBase", "Snap-1", "Snap-4"}
