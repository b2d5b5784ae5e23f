"""The JavaScript of the figure in a real browser, on a page without Jupyter: what a model would hold is in the page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect
from support.browser import START, chromium, violations
from support.forests import figure_2, forest, handout, image
from support.merges import FACTS, commit

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.model.snapshot import Snapshot, SnapshotList, SnapshotRecord
from vmsnap_nb.panels import ChainView
from vmsnap_nb.panels.local_time import time_html

pytestmark = pytest.mark.browser

ADDRESS = "http://figure.test/"
NAMES = [
    "svg",
    "text",
    "summary",
    "boxes",
    "selected",
    "proposed",
    "can_propose",
    "views",
    "look",
    "progress",
    "is_narrow",
    "least",
    "words",
    "switch",
    "scope",
]
HOSTILE = """<img src=x onerror="window.bad=1">&'"]]>.qcow2"""
CHINESE = "/i/快照 基础镜像 😀.qcow2"
PAGE = """<!doctype html><html lang="en"><title>A figure</title><style>{css}</style><main id="here"></main>
<script type="module">
import widget from "/chain_view.js";
class Model {{
  constructor(state) {{ this.state = state; this.heard = []; this.saved = 0; }}
  get(name) {{ return this.state[name]; }}
  set(name, value) {{
    this.state[name] = value;
    for (const [event, call] of this.heard) if (event === `change:${{name}}`) call();
  }}
  on(event, call) {{ this.heard.push([event, call]); }}
  off(event, call) {{ this.heard = this.heard.filter(([e, c]) => e !== event || c !== call); }}
  save_changes() {{ this.saved += 1; }}
  send(content) {{ (this.sent ??= []).push(content); }}
  answer(content) {{ for (const [event, call] of this.heard) if (event === "msg:custom") call(content); }}
}}
window.start = (state) => {{
  window.model = new Model(state);
  window.end = widget.render({{ model: window.model, el: document.getElementById("here") }});
}};
window.show = (state) => {{
  for (const name of ["boxes", "text", "summary", "switch", "least", "svg"]) window.model.set(name, state[name]);
}};
window.ready = true;
</script></html>"""


@pytest.fixture(scope="module")
def window() -> Iterator[BrowserContext]:
    """One for all pages: to begin another one costs as much as ten pages."""
    with chromium(scrollbars=True) as browser:
        yield browser.new_context(viewport={"width": 1200, "height": 700})


@pytest.fixture
def page(window: BrowserContext) -> Iterator[Page]:
    sources = Path(ChainView._esm._path).parent  # type: ignore[union-attr]
    html = PAGE.format(css=ChainView._css)
    page = window.new_page()
    page.set_default_timeout(START)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.route(ADDRESS, lambda route: route.fulfill(body=html, content_type="text/html; charset=utf-8"))
    page.route(ADDRESS + "chain_view.js", lambda route: route.fulfill(path=sources / "chain_view.js"))
    page.goto(ADDRESS)
    page.wait_for_function("window.ready")
    yield page
    page.close()
    assert errors == []


def state(thing: Shown) -> dict[str, Any]:
    return ChainView(thing, scope="one").get_state(NAMES)  # as of one view


def start(page: Page, thing: Forest) -> None:
    page.evaluate("state => window.start(state)", state(thing))


def show(page: Page, thing: Shown) -> None:
    page.evaluate("state => window.show(state)", state(thing))


def box(page: Page, name: str) -> Locator:
    path = name if name.startswith("/") else f"/i/{name}"
    found = [one for one in page.locator("[data-path]").all() if one.get_attribute("data-path") == path]
    assert len(found) == 1, (path, len(found))
    return found[0]


def held(page: Page, name: str) -> Any:
    return page.evaluate("name => window.model.get(name)", name)


def middle(place: Locator) -> tuple[float, float]:
    at = place.bounding_box()
    assert at is not None
    return at["x"] + at["width"] / 2, at["y"] + at["height"] / 2


def drag(page: Page, source: Locator, target: Locator | tuple[float, float]) -> None:
    page.mouse.move(*middle(source))
    page.mouse.down()
    page.mouse.move(*(target if isinstance(target, tuple) else middle(target)), steps=5)


def test_a_click_selects_and_another_gives_up(page: Page) -> None:
    start(page, figure_2())
    chosen = box(page, "Overlay-1A")
    chosen.click()
    expect(chosen).to_have_attribute("aria-pressed", "true")
    assert held(page, "selected") == "/i/Overlay-1A"
    box(page, "Overlay-2").click()
    expect(chosen).to_have_attribute("aria-pressed", "false")
    assert held(page, "selected") == "/i/Overlay-2"
    box(page, "Overlay-2").click()
    assert held(page, "selected") is None
    assert page.evaluate("model.saved") == 4  # the first said that it is shown


def test_what_python_selects_is_marked(page: Page) -> None:
    start(page, figure_2())
    page.evaluate("model.set('selected', '/i/Overlay-3')")
    expect(box(page, "Overlay-3")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("[aria-pressed=true]")).to_have_count(1)


def test_a_box_says_what_stands_in_it_and_its_whole_path(page: Page) -> None:
    start(page, figure_2())
    said = "RootBase\n1 MiB of 64 MiB\nwrite-protected\n/i/RootBase"
    expect(box(page, "RootBase")).to_have_attribute("aria-label", said)
    assert box(page, "RootBase").locator("title").text_content() == said


def test_everything_can_be_done_by_keyboard(page: Page) -> None:
    start(page, figure_2())
    page.keyboard.press("Tab")
    for name in ("Zoom in", "Zoom out", "Fit to width"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_focused()
        page.keyboard.press("Tab")
    expect(page.locator(".vmsnap-stage")).to_be_focused()
    page.keyboard.press("Tab")
    first = page.locator("[data-path]:focus")
    expect(first).to_have_count(1)
    page.keyboard.press("Enter")
    path = first.get_attribute("data-path")
    assert held(page, "selected") == path
    show(page, figure_2())  # drawn anew: the focus stays with the image
    expect(page.locator("[data-path]:focus")).to_have_attribute("data-path", path or "")
    page.keyboard.press("Space")
    assert held(page, "selected") is None


def test_a_merge_is_proposed_by_keyboard(page: Page) -> None:
    start(page, figure_2())
    box(page, "Overlay-1C").focus()
    page.keyboard.press("m")
    expect(page.get_by_role("status")).to_contain_text("Merge Overlay-1C")
    box(page, "Overlay-1A").focus()
    page.keyboard.press("Escape")
    expect(page.get_by_role("status")).to_be_empty()
    page.keyboard.press("Enter")  # after Escape it selects again
    assert held(page, "proposed") == []
    assert held(page, "selected") == "/i/Overlay-1A"
    box(page, "Overlay-1C").focus()
    page.keyboard.press("m")
    box(page, "Overlay-1A").focus()
    page.keyboard.press("Enter")
    assert held(page, "proposed") == ["/i/Overlay-1C", "/i/Overlay-1A"]
    assert held(page, "selected") == "/i/Overlay-1A"


def test_dragging_one_onto_another_proposes_a_merge(page: Page) -> None:
    start(page, figure_2())
    drag(page, box(page, "Overlay-1B"), box(page, "Overlay-1"))
    expect(box(page, "Overlay-1")).to_contain_class("vmsnap-target")
    page.mouse.up()
    assert held(page, "proposed") == ["/i/Overlay-1B", "/i/Overlay-1"]
    assert held(page, "selected") is None  # a drag is no click
    expect(page.locator(".vmsnap-target, .vmsnap-dragged")).to_have_count(0)
    assert page.evaluate("String(getSelection())") == ""


def test_the_dragged_box_follows_the_pointer_and_refused_targets_are_hatched(page: Page) -> None:
    start(page, figure_2())
    dragged, target = box(page, "Overlay-1B"), box(page, "Overlay-1")
    was = middle(dragged)
    drag(page, dragged, target)
    now, there = middle(dragged), middle(target)
    assert math.dist(now, there) < 3 < math.dist(was, now)
    tip = page.locator(".vmsnap-tip")
    expect(tip).to_have_text("…")
    assert page.evaluate("model.sent") == [{"source": "/i/Overlay-1B", "question": 1}]
    answer = "said => model.answer({ question: 1, verdicts: [said] })"
    page.evaluate(answer, ["/i/Overlay-1", "commit 38.6 MiB", ""])
    expect(tip).to_have_text("commit 38.6 MiB")
    page.evaluate(answer, ["/i/RootBase", "commit 1 MiB", "three overlays are based on <b>"])
    expect(box(page, "RootBase")).to_contain_class("vmsnap-refused")
    fill = box(page, "RootBase").locator(".outline").evaluate("part => getComputedStyle(part).fill")
    assert "#vmsnap-hatch" in fill
    page.mouse.move(*middle(box(page, "RootBase")))
    expect(tip).to_have_text("refused: three overlays are based on <b>")
    page.mouse.up()
    expect(page.locator(".vmsnap-refused, .vmsnap-tip:visible")).to_have_count(0)
    assert middle(dragged) == was
    page.evaluate(answer, ["/i/RootBase", "", "too late"])
    expect(page.locator(".vmsnap-refused")).to_have_count(0)


def test_what_the_keyboard_carries_says_what_a_merge_would_do(page: Page) -> None:
    start(page, figure_2())
    box(page, "Overlay-1B").press("m")
    page.evaluate("model.answer({ question: 1, verdicts: [['/i/Overlay-1', 'commit 2 MiB', '']] })")
    box(page, "Overlay-1").focus()
    expect(page.get_by_role("status")).to_contain_text("commit 2 MiB")


def test_a_plan_is_seen_before_and_after(page: Page) -> None:
    start(page, handout())
    expect(page.locator(".vmsnap-states")).to_have_count(0)
    show(page, commit(handout(), "/i/Snap-3", "/i/Snap-1", facts=FACTS))
    moves = page.locator(".vmsnap-stage .move, .vmsnap-stage .comes").first
    expect(moves).to_be_visible()
    page.get_by_role("radio", name="before").check()
    expect(moves).to_be_hidden()
    page.get_by_role("radio", name="after").check()
    expect(page.locator(".vmsnap-stage .box.goes").first).to_be_hidden()
    assert violations(page, "#here") == []
    show(page, handout())
    expect(page.locator(".vmsnap-states")).to_have_count(0)


def test_where_nothing_can_be_merged_a_drag_pans(page: Page) -> None:
    start(page, figure_2())
    page.evaluate("model.set('can_propose', false)")
    drag(page, box(page, "Overlay-1B"), box(page, "Overlay-1"))
    page.mouse.up()
    box(page, "Overlay-1").press("m")
    expect(page.get_by_role("status")).to_be_empty()
    assert held(page, "proposed") == []
    assert held(page, "selected") is None


def test_a_drag_that_ends_nowhere_proposes_nothing(page: Page) -> None:
    start(page, figure_2())
    drag(page, box(page, "Overlay-1B"), (1190.0, 690.0))
    page.mouse.up()
    page.mouse.move(5, 5)
    assert held(page, "proposed") == []
    assert held(page, "selected") is None


def test_zoom_by_button_and_wheel_and_fit(page: Page) -> None:
    start(page, figure_2())
    svg = page.locator(".vmsnap-stage svg").first

    def width() -> float:
        return float(svg.evaluate("svg => svg.getBoundingClientRect().width"))

    plain = width()
    page.get_by_role("button", name="Zoom in").click()
    assert math.isclose(width() / plain, 1.25, rel_tol=0.01)
    page.get_by_role("button", name="Zoom out").click()
    assert math.isclose(width() / plain, 1, rel_tol=0.01)
    page.mouse.move(*middle(svg))
    page.keyboard.down("Control")
    page.mouse.wheel(0, 100)
    page.keyboard.up("Control")
    page.wait_for_function("before => document.querySelector('.vmsnap-stage svg').clientWidth < before", arg=plain)
    page.set_viewport_size({"width": 600, "height": 700})
    page.get_by_role("button", name="Fit").click()
    assert width() <= 600
    page.set_viewport_size({"width": 500, "height": 700})  # it goes on to fit
    page.wait_for_function("document.querySelector('.vmsnap-stage svg').clientWidth <= 500")
    page.get_by_role("button", name="Zoom in").click()
    zoomed = width()
    page.set_viewport_size({"width": 450, "height": 700})  # until the user zooms
    page.wait_for_function("document.querySelector('.vmsnap-stage').clientWidth <= 450")
    assert width() == zoomed
    page.set_viewport_size({"width": 600, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 600


def test_a_figure_that_grows_is_made_to_fit_until_the_user_zooms(page: Page) -> None:
    def chain(count: int) -> Forest:
        name = "an-image-with-a-long-name-{}".format
        return forest(*(image(name(n), name(n - 1) if n else None) for n in range(count)))

    page.set_viewport_size({"width": 800, "height": 700})
    start(page, chain(3))
    stage = page.locator(".vmsnap-stage")
    fits = "stage => stage.scrollWidth <= stage.clientWidth"
    show(page, chain(4))
    assert stage.evaluate(fits)
    page.get_by_role("button", name="Zoom in").click()
    assert not stage.evaluate(fits)
    show(page, chain(5))
    assert not stage.evaluate(fits)


def test_six_images_fit_into_a_tab_of_a_narrow_page(page: Page) -> None:
    page.evaluate("document.getElementById('here').style.width = '430px'")
    chain = [image(f"a-server-with-layer-{n}", f"a-server-with-layer-{n - 1}" if n else None) for n in range(6)]
    others = [image(f"other-{n}", f"a-server-with-layer-{n}") for n in (0, 1, 3, 4)]  # so nothing can be folded
    start(page, forest(*chain, *others))
    page.wait_for_function("window.model.get('is_narrow')")
    page.evaluate(
        "state => window.show(state)", ChainView(forest(*chain, *others), scope="one", is_narrow=True).get_state(NAMES)
    )
    stage = page.locator(".vmsnap-stage")
    assert len(page.locator("[data-path^='/i/a-server']").all()) == 6
    assert stage.evaluate("stage => stage.scrollWidth <= stage.clientWidth")
    drawn = stage.locator("svg")
    assert drawn.evaluate("svg => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width") >= 0.69


def test_its_own_scrollbar_does_not_make_it_flicker(page: Page) -> None:
    steady = """async () => {
        const stage = document.querySelector(".vmsnap-stage");
        const seen = new Set();
        for (let frame = 0; frame < 6; frame++) {
            await new Promise(requestAnimationFrame);
            if (frame > 1) seen.add(stage.clientWidth);
        }
        return seen.size === 1;
    }"""
    # As high as the stage may be, a little more, a little less: at some width the bar comes and goes.
    tall = forest(image("base"), *(image(f"{n}", "base") for n in range(6)))
    start(page, tall)
    page.get_by_role("button", name="Fit").click()
    for width in range(300, 560, 4):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(steady), width


def test_arrow_keys_go_from_box_to_box(page: Page) -> None:
    start(page, forest(image("a"), image("b", "a"), image("c", "b")))
    box(page, "a").focus()
    for key, name in (
        ("ArrowLeft", "a"),
        ("ArrowRight", "b"),
        ("ArrowDown", "c"),
        ("ArrowDown", "c"),
        ("ArrowUp", "b"),
    ):
        page.keyboard.press(key)
        expect(box(page, name)).to_be_focused()


def test_in_vs_code_a_widget_stands_on_white_whatever_the_theme(page: Page) -> None:
    page.add_style_tag(content=":root { --vscode-editor-foreground: #eee; --vscode-editor-background: #111; }")
    start(page, figure_2())
    colour = "part => getComputedStyle(part).fill"
    assert box(page, "RootBase").locator("text").first.evaluate(colour) == "rgb(17, 17, 17)"
    assert box(page, "RootBase").locator(".outline").evaluate(colour) == "rgb(255, 255, 255)"
    page.evaluate("svg => { document.getElementById('here').innerHTML = svg; }", state(figure_2())["svg"])
    assert page.locator("#here text").first.evaluate(colour) == "rgb(238, 238, 238)"  # and a figure alone on the page


def test_the_stage_is_panned_by_dragging_its_ground(page: Page) -> None:
    start(page, forest(*(image(f"{n:02}", f"{n - 1:02}" if n else None) for n in range(8))))
    page.set_viewport_size({"width": 600, "height": 700})
    for _ in range(3):
        page.get_by_role("button", name="Zoom in").click()
    stage = page.locator(".vmsnap-stage")
    at = stage.bounding_box()
    assert at is not None
    page.mouse.move(at["x"] + 500, at["y"] + 3)
    page.mouse.down()
    page.mouse.move(at["x"] + 100, at["y"] + 3, steps=4)
    page.mouse.up()
    assert stage.evaluate("stage => stage.scrollLeft") > 300
    assert held(page, "proposed") == []


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_boxes_move_from_before_to_after(page: Page, motion: Any) -> None:
    page.emulate_media(reduced_motion=motion)
    before = forest(image("a"), image("b", "a"), image("c", "b"))
    after = forest(image("a"), image("c", "a"), image("new", "c"))
    start(page, before)
    moved = page.evaluate(
        """state => {
            window.show(state);
            const moved = document.getAnimations().map((one) => one.effect.target.dataset.path);
            return moved.filter((path) => path !== undefined);
        }""",
        state(after),
    )
    assert sorted(moved) == ([] if motion == "reduce" else ["/i/a", "/i/c", "/i/new"])
    page.wait_for_function("document.getAnimations().every((one) => one.playState === 'finished')")
    assert box(page, "c").evaluate("box => getComputedStyle(box).transform") == "none"


def test_hostile_and_chinese_names_are_only_names(page: Page) -> None:
    hostile = f"/i/{HOSTILE}"
    start(page, forest(image(hostile), image(CHINESE, hostile), image("/i/" + "long-" * 40, CHINESE)))
    for path in (hostile, CHINESE):
        box(page, path).click()
        assert held(page, "selected") == path
        expect(box(page, path)).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("window.bad") is None
    expect(page.locator("img, .vmsnap-stage script")).to_have_count(0)
    label = box(page, CHINESE).get_attribute("aria-label")
    assert label is not None
    assert "快照 基础镜像 😀" in label


def test_without_a_picture_the_text_is_shown(page: Page) -> None:
    plain = state(forest(image(f"/i/{HOSTILE}"), image("top", f"/i/{HOSTILE}")))
    page.evaluate("state => window.start({ ...state, svg: '' })", plain)
    assert page.locator(".vmsnap-stage pre").inner_text().strip() == plain["text"].strip()
    expect(page.locator("img")).to_have_count(0)


def test_a_view_that_is_removed_listens_no_more(page: Page) -> None:
    start(page, figure_2())
    assert page.evaluate("model.heard.length") == 5
    assert held(page, "views") == 1
    page.evaluate("window.end()")
    assert held(page, "views") == 0
    assert page.evaluate("model.heard.length") == 0


def test_two_views_of_one_model_show_the_same(page: Page) -> None:
    start(page, figure_2())
    page.evaluate("state => { const first = model; window.start(state); window.second = model; }", state(figure_2()))
    expect(page.locator(".vmsnap-stage")).to_have_count(2)
    page.locator(".vmsnap-stage").nth(1).locator("[data-path]").first.click()
    expect(page.locator("[aria-pressed=true]")).to_have_count(1)


def crowd(count: int) -> Forest:
    return forest(image("base"), *(image(f"overlay-{n:04}", "base") for n in range(count - 1)))


def milliseconds(page: Page, thing: Forest) -> float:
    """How long a page takes to draw what it is shown, at best."""
    taken: float = page.evaluate(
        """state => Math.min(...[1, 2, 3].map(() => {
            const began = performance.now();
            window.show(state);
            document.body.getBoundingClientRect(); // laid out as well
            return performance.now() - began;
        }))""",
        state(thing),
    )
    return taken


def test_a_thousand_images_are_drawn_and_selected_at_once(page: Page) -> None:
    hundred, thousand = crowd(100), crowd(1000)
    start(page, hundred)
    few, many = milliseconds(page, hundred), milliseconds(page, thousand)
    assert many < 40 * max(few, 1), (few, many)  # not with the square of their number, on whatever machine
    page.locator("[data-path]").last.click()
    assert held(page, "selected") in thousand


def test_axe_finds_nothing_serious(page: Page) -> None:
    start(page, figure_2())
    box(page, "Overlay-1").click()
    assert violations(page, "#here") == []


def test_a_figure_knows_whether_it_is_narrow_and_shows_progress(page: Page) -> None:
    page.evaluate("document.getElementById('here').style.width = '400px'")
    start(page, handout())
    page.wait_for_function("window.model.get('is_narrow')")
    page.evaluate("document.getElementById('here').style.width = '900px'")
    page.wait_for_function("!window.model.get('is_narrow')")
    show(page, commit(handout(), "/i/Snap-3", "/i/Snap-1", facts=FACTS))
    arrows, lines = page.locator(".arrow.move"), page.locator(".arrow.move .vmsnap-come")
    expect(lines).to_have_count(0)
    page.evaluate("window.model.set('progress', 0.25)")
    expect(lines).to_have_count(arrows.count())
    expect(lines.first).to_have_attribute("stroke-dasharray", "0.25 1")
    page.evaluate("window.model.set('progress', null)")
    expect(lines).to_have_count(0)


def test_times_are_those_of_the_readers_clock(page: Page) -> None:
    page.context.new_cdp_session(page).send("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Shanghai"})
    at = datetime(2026, 11, 30, 20, 15, 7, tzinfo=UTC)
    record = SnapshotRecord("demo", "monday", "running", created=at)
    start(page, SnapshotList("demo", (Snapshot(record),)))
    monday = page.locator("[data-path=monday]")
    expect(monday).to_contain_text("04:15")
    said = str(monday.get_attribute("aria-label"))
    assert "2026-12-01 04:15" in said.replace("\n", " ").replace("  ", " ")
    assert "UTC" not in said

    module = (Path(str(ChainView._esm._path)).parent / "local_time.js").read_text()  # type: ignore[union-attr]
    for value, shown in (
        (f"<small>Read at {time_html(at, zone=True)}</small>", "Read at 4:15:07 AM GMT+8"),
        (f"<small>Read at {time_html(at)}</small>", "Read at 4:15:07 AM"),
    ):
        line = page.evaluate(
            """async ([module, value]) => {
                const { default: widget } = await import(`data:text/javascript,${encodeURIComponent(module)}`);
                const el = document.createElement("p");
                const model = { get: (name) => ({ value, language: "en" })[name], on() {}, off() {} };
                widget.render({ model, el });
                return [el.textContent, el.querySelector("time").title];
            }""",
            [module, value],
        )
        assert [text.replace("\u202f", " ") for text in line] == [shown, "20:15:07 UTC"]
