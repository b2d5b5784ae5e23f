"""A plan as one picture: each image once, with what comes, what goes, and arrows for data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Page
from support.browser import chromium
from support.forests import MIB, figure_2, forest, handout, image
from support.merges import FACTS, commit
from support.shown import overlay_plan

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.concern import refuse
from vmsnap_nb.plans.plan import Move, Plan
from vmsnap_nb.views.bundle import narrow_svg
from vmsnap_nb.views.clickable import clickable
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Box, Figure, Options
from vmsnap_nb.views.svg import MOST_NARROW, figure_svg, least_width
from vmsnap_nb.words.message import t


def chain(*names: str, uses: tuple[Use, ...] = ()) -> Forest:
    return forest(*(image(name, names[n - 1] if n else None) for n, name in enumerate(names)), uses=uses)


def boxes(figure: Figure) -> dict[str, Box]:
    return {box.lines[0].text: box for block in figure.blocks for box in block.boxes}


def arrows(figure: Figure) -> set[tuple[str, str, str]]:
    return {
        (block.boxes[arrow.tail].lines[0].text, block.boxes[arrow.head].lines[0].text, arrow.fate)
        for block in figure.blocks
        for arrow in block.arrows
    }


def memory(name: str, of: str) -> SnapshotRecord:
    """A record whose memory belongs to the state of an image."""
    disks = (SnapshotDisk("vda", "external", f"/i/{of}"),)
    return SnapshotRecord("web", name, memory="external", memory_file=f"/i/{name}.mem", disks=disks)


def merge_plan() -> Plan:
    before = chain("A", "B", "C", "D", uses=(Use("web", "vda", "/i/D"),))
    after = forest(image("A"), image("C", "A"), image("D", "C"), uses=before.uses)
    return Plan("merge", before, (), after, (Move("/i/B", "/i/A", MIB, "commit data"),), subjects=("/i/A",))


def test_what_goes_and_the_new_backing_file_are_in_one_picture() -> None:
    figure = figure_of(merge_plan(), Options())
    assert len(figure.blocks) == 1
    found = boxes(figure)
    assert {name: box.fate for name, box in found.items()} == {"A": "", "B": "goes", "C": "", "D": ""}
    assert (found["B"].shape, found["D"].active) == ("gone", True)
    assert arrows(figure) == {("B", "A", "goes"), ("C", "B", "goes"), ("C", "A", "comes"), ("D", "C", "")}
    (move,) = figure.moves
    assert (move.source, move.target, move.label) == ((0, 1), (0, 0), "commit data, 1 MiB")


def test_a_file_that_data_is_copied_into_says_how_it_grows() -> None:
    plan = merge_plan()
    a = plan.before["/i/A"]
    before = plan.before.edited(put=[replace(a, virtual_size=10 * MIB, allocated=2 * MIB)])
    box = boxes(figure_of(replace(plan, before=before, growth={"/i/A": 3 * MIB}), Options()))["A"]
    (line,) = [line for line in box.lines if "→" in line.text]
    assert (line.text, line.fate, box.fill, box.grown) == ("2 MiB → 5 MiB", "comes", 0.2, 0.5)
    svg = figure_svg(figure_of(replace(plan, before=before, growth={"/i/A": 3 * MIB}), Options()))
    assert svg.count('<rect class="comes"') == 1  # of its bar; the switch to "before" hides it
    unknown = boxes(figure_of(replace(plan, before=before, growth={"/i/A": None}), Options()))["A"]
    assert (unknown.grown, [line.text for line in unknown.lines if "→" in line.text]) == (0.0, [])


def test_what_comes_is_beside_what_is_there_and_other_branches_are_folded() -> None:
    figure = figure_of(overlay_plan(figure_2()), Options())
    found = boxes(figure)
    assert set(found) == {"RootBase", "new", "… 3 more overlays …"}
    assert (found["new"].fate, found["new"].shape) == ("comes", "new")
    assert ("new", "RootBase", "comes") in arrows(figure)


def test_other_branches_are_one_box_wherever_their_names_are_and_however_long_they_are() -> None:
    others = (image("mail", "RootBase"), image("web", "RootBase"), image("web.1", "web"), image("web.2", "web.1"))
    before = forest(image("RootBase", writable=False), *others).edited(records=[memory("s", "web.1")])
    assert "s.mem" in boxes(figure_of(before, Options()))
    found = boxes(figure_of(overlay_plan(before), Options()))
    assert set(found) == {"RootBase", "new", "… 2 more overlays …"}
    assert len(found["… 2 more overlays …"].members) == 4


def test_memory_is_in_the_picture_where_its_image_changes() -> None:
    plan = merge_plan()
    records = [memory("s", "B"), memory("t", "D")]
    plan = replace(plan, before=plan.before.edited(records=records), after=plan.after.edited(records=records))
    found = boxes(figure_of(plan, Options()))
    assert set(found) == {"A", "B", "C", "D", "s.mem"}
    assert set(boxes(figure_of(plan, Options(fold=None)))) == {"A", "B", "C", "D", "s.mem", "t.mem"}


def test_users_that_change_come_and_go_within_a_box() -> None:
    before = chain("Base", "web", uses=(Use("web", "vda", "/i/web"),))
    after = before.edited(put=[image("web.s1", "web")], uses=[Use("web", "vda", "/i/web.s1")])
    found = boxes(figure_of(Plan("snapshot", before, (), after, subjects=("/i/web",)), Options()))
    fates = {(line.text, line.fate) for line in found["web"].lines}
    assert {("(Active)", "goes"), ("web: vda", "goes")} <= fates
    assert ("(Active)", "") in {(line.text, line.fate) for line in found["web.s1"].lines}


def test_what_a_plan_changes_in_a_long_chain_is_not_folded_away() -> None:
    layers = [image(f"L{n}", f"L{n - 1}" if n else "Base") for n in range(14)]
    before = forest(image("Base"), image("other", "Base"), *layers, uses=(Use("web", "vda", "/i/L13"),))
    after = before.edited(put=[image("L4", "L2")], drop=["/i/L3"])
    plan = Plan("delete", before, (), after, (Move("/i/L3", "/i/L2", MIB, "commit data"),), subjects=("/i/L3",))
    figure = figure_of(plan, Options())
    assert {"Base", "L2", "L3", "L4", "L13"} <= set(boxes(figure))
    assert boxes(figure)["L3"].fate == "goes"
    assert [(figure.blocks[0].boxes[move.source[1]].path, move.label) for move in figure.moves] == [
        ("/i/L3", "commit data, 1 MiB")
    ]


def test_a_revert_in_a_long_chain_fits_into_a_narrow_column() -> None:
    layers = [image(f"L{n}", f"L{n - 1}" if n else "Base") for n in range(14)]
    before = forest(image("Base"), image("other", "Base"), *layers, uses=(Use("web", "vda", "/i/L13"),))
    after = before.edited(put=[image("L3-2", "L2"), image("kept", "L13")])
    after = replace(after, uses=(Use("web", "vda", "/i/L3-2"),))
    plan = Plan("revert", before, (), after, subjects=("/i/L3",))
    wide, narrow = (clickable(plan, "scope", narrow=narrow) for narrow in (False, True))
    assert 'data-box="0-5"' in wide.svg
    assert {"/i/Base", "/i/L3-2", "/i/kept"} <= set(narrow.boxes.values())
    found = re.search(r'viewBox="\S+ \S+ (\d+)', narrow.svg)
    assert found is not None
    assert int(found[1]) * 0.7 < 425  # pixels of a panel's tab in a window of 600, at the least size


@pytest.mark.parametrize("gone", range(1, 13))
@pytest.mark.parametrize("up", [False, True])
def test_a_deletion_in_a_long_chain_fits_into_a_narrow_cell(gone: int, up: bool) -> None:
    layers = [image(f"layer-{n}", f"layer-{n - 1}" if n else "Base") for n in range(14)]
    before = forest(image("Base"), *layers, uses=(Use("web", "vda", "/i/layer-13"),))
    below, here, above = (f"/i/layer-{gone + n}" for n in (-1, 0, 1))
    after = before.edited(put=[image(f"layer-{gone + 1}", f"layer-{gone - 1}")], drop=[here])
    move = Move(here, above if up else below, MIB, "stream data" if up else "commit data")
    plan = Plan("delete", before, (), after, (move,), subjects=(here,))
    narrow = clickable(plan, "scope", narrow=True)
    assert {here, above, "/i/layer-13"} <= set(narrow.boxes.values())
    assert least_width(narrow.svg) <= MOST_NARROW
    found = re.search(r'viewBox="\S+ \S+ (\d+)', narrow.svg)
    assert found is not None
    assert int(found[1]) * 0.7 <= MOST_NARROW + 1  # smaller text cannot be read
    assert least_width(narrow_svg(plan, figure_of(plan, Options()))) <= MOST_NARROW


def test_moves_of_folded_layers_are_one_arrow_with_their_sum() -> None:
    names = [f"L{n}" for n in range(14)]
    before = chain(*names)
    after = forest(image("L0"), image("L13", "L0"))
    moves = tuple(Move(f"/i/L{n}", "/i/L0", MIB, "commit data") for n in range(1, 13))
    figure = figure_of(Plan("merge", before, (), after, moves, subjects=("/i/L0",)), Options())
    assert len(boxes(figure)) <= 5
    assert {"L0", "L13"} <= set(boxes(figure))
    sizes = [int(str(re.findall(r"(\d+) MiB", str(move.label))[0])) for move in figure.moves]
    assert sum(sizes) == 12
    folded = [box for box in boxes(figure).values() if box.members]
    assert all(box.fate == "goes" for box in folded)


def test_an_image_that_is_invalid_without_the_plan_saying_so_says_it_itself() -> None:
    before = chain("A", "B", "C")
    after = before.edited(put=[image("B", "A", status="invalid")])
    found = boxes(figure_of(Plan("odd", before, (), after, subjects=("/i/C",)), Options()))
    assert ("INVALID, was merged", "comes") in {(line.text, line.fate) for line in found["B"].lines}
    assert found["B"].fate == "turns"


def test_the_image_for_which_a_plan_is_refused_says_so() -> None:
    before = chain("A", "B", uses=(Use("web", "vda", "/i/B", "running"),))
    reason = refuse("in-use", t("{image} is open", image="B"), images=("/i/B",))
    found = boxes(figure_of(Plan("x", before, (), before, subjects=("/i/B",), concerns=(reason,)), Options()))
    (line,) = [line for line in found["B"].lines if line.role == "mark"]
    assert (line.text, line.tone) == ("(refused: in-use)", "bad")


def test_text_figures_keep_their_two_rows() -> None:
    text = merge_plan().to_text()
    assert re.search(r"(?m)^before$", text)
    assert "after" in text
    assert text == merge_plan().to_text(style="rows")


# -- the switch ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as browser:
        yield browser.new_page()


@pytest.mark.browser
def test_the_switch_shows_before_change_and_after_without_javascript(page: Page) -> None:
    html = merge_plan()._repr_mimebundle_()["text/html"]
    page.set_content(f"<!doctype html>{html}{html}")  # twice: the second keeps its own state
    first = page.locator(".vmsnap").first

    def seen(kind: str, figure: int = 0) -> bool:
        return page.locator(".vmsnap").nth(figure).locator(kind).first.is_visible()

    assert [seen(kind) for kind in (".box.goes", ".arrow.comes", ".arrow.move")] == [True, True, True]
    first.get_by_role("radio", name="before").check()
    assert [seen(kind) for kind in (".box.goes", ".arrow.comes", ".arrow.move")] == [True, False, False]
    first.get_by_role("radio", name="after").check()
    assert [seen(kind) for kind in (".box.goes", ".arrow.comes", ".arrow.move")] == [False, True, False]
    assert seen(".box.goes", 1)
    assert figure_svg(figure_of(merge_plan(), Options())).count(' id="') == 0
    stripped = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html, flags=re.DOTALL)
    shown = re.sub(r"<[^>]*>", "", stripped.partition("<pre")[0]).strip()
    assert shown == ""  # a viewer that strips both shows nothing of the switch


@pytest.mark.browser
@pytest.mark.parametrize(("layers", "column"), [(5, 348), (11, 348), (5, 640), (11, 640), (5, 830), (11, 830)])
def test_a_chain_fits_into_its_cell_without_a_scrollbar(page: Page, layers: int, column: int) -> None:
    names = ["RootBase", *(f"web.snap-{n}" for n in range(1, layers))]
    thing = chain(*names, uses=(Use("web", "vda", f"/i/{names[-1]}", "running"),)).chain(f"/i/{names[-1]}")
    page.set_content(f'<!doctype html><div style="width:{column}px">{thing._repr_mimebundle_()["text/html"]}</div>')
    scroll = page.locator(".vmsnap-scroll:visible")
    assert scroll.evaluate("part => part.scrollWidth <= part.clientWidth")
    drawn = scroll.locator("svg")
    assert drawn.evaluate("svg => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width") >= 0.69
    last = scroll.locator(".box.active")
    assert last.get_attribute("data-box") is not None
    assert names[-1] in str(last.text_content())


@pytest.mark.browser
def test_a_figure_that_cannot_be_smaller_starts_at_its_active_end(page: Page) -> None:
    thing = chain("RootBase", *(f"web.snapshot-with-a-long-name-{n}" for n in range(9)))
    page.set_content(f'<!doctype html><div style="width:200px">{thing._repr_mimebundle_()["text/html"]}</div>')
    ends = page.locator(".vmsnap-scroll:visible").evaluate(
        "part => { const last = [...part.querySelectorAll('.box')].at(-1).getBoundingClientRect();"
        " return [last.right, part.getBoundingClientRect().right]; }"
    )
    assert ends[0] <= ends[1]


def test_a_plan_says_what_it_frees() -> None:
    plan = commit(handout(), "/i/Snap-2", "/i/RootBase", remove=True, facts=FACTS)
    assert plan.frees.total == 2 * MIB
    assert "frees 2 MiB of disk space" in plan.to_text()
    assert "frees" not in commit(handout(), "/i/Snap-2", "/i/RootBase", facts=FACTS).to_text()


@pytest.mark.browser
def test_the_commands_of_steps_fit_into_a_narrow_column(page: Page) -> None:
    plan = commit(handout(), "/i/Snap-3", "/i/Snap-1", facts=FACTS)
    page.set_content(f'<!doctype html><div style="width:420px">{plan._repr_mimebundle_()["text/html"]}</div>')
    steps = page.locator("details", has_text="as commands").first
    steps.locator("summary").first.click()
    for cell in steps.locator("td:has(> code):visible").all():
        place = cell.bounding_box()
        assert place is not None
        assert place["x"] + place["width"] <= 430
        assert place["width"] > 300  # a line of its own
