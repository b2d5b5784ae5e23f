"""The panels as a person uses them: in a real JupyterLab in a real Chromium, on a real lab with a real guest."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect
from support.browser import Notebook, chromium, cut_frames, notebook, violations

pytestmark = pytest.mark.browser

LONG = 60_000  # milliseconds that a thing with a guest may take on a busy machine
AS_PREDICTED = "Done, as the plan predicted."


SETUP = """
import vmsnap_nb as vs
from vmsnap_nb import panels
lab = vs.Lab()
base = lab.base("RootBase")
vm = lab.guest("demo", backing=base)
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="v", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def nb(folder: Path) -> Iterator[Notebook]:
    with chromium() as browser, notebook(browser, folder) as nb:
        nb.python(SETUP)
        yield nb
        assert nb.python("panel.close(); print(lab.destroy())") == "()"


@pytest.fixture
def running(nb: Notebook) -> None:
    """The guest runs, and takes commands; a test before may have shut it down."""
    nb.python("vm.state == 'running' or vm.start()")


@pytest.fixture(autouse=True)
def plain(nb: Notebook) -> Iterator[None]:
    """Each test begins in a wide window and the light theme."""
    yield
    nb.page.set_viewport_size({"width": 1400, "height": 1000})
    nb.set_dark(False)


def press(root: Locator, name: str, *, timeout: float | None = None) -> None:
    root.get_by_role("button", name=name, exact=True).click(timeout=timeout)


def image(root: Locator, name: str) -> Locator:
    return root.locator(f"[data-path$='/{name}.qcow2']")


LOST = "I understand what will be lost"
NOTHING_YET = "Nothing has been changed yet."


def confirm(root: Locator, verb: str, *, lost: bool = True) -> None:
    # Where one looks after the click that planned it, without scrolling.
    expect(root.get_by_text(NOTHING_YET, exact=True)).to_be_in_viewport(timeout=LONG)
    button = root.get_by_role("button", name=verb, exact=True)
    expect(button).to_be_in_viewport(ratio=1)
    expect(root.locator(".vmsnap-stage").first).to_be_in_viewport(ratio=0.3)
    if lost:
        expect(button).to_be_disabled()
        root.get_by_label(LOST).check()
    else:
        expect(root.get_by_label(LOST)).to_have_count(0)
    button.click()
    expect(root.get_by_text(AS_PREDICTED)).to_be_in_viewport(timeout=LONG)


def test_start_a_guest_and_run_commands_in_it(nb: Notebook, tmp_path: Path) -> None:
    nb.python(f"import os; os.environ['VMSNAP_CACHE'] = {str(tmp_path)!r}")  # so that its kernel boots
    root = nb.show("vs.panel(lab)")
    expect(root.get_by_role("radio", name="demo, shut off")).to_be_checked()  # the only one there is
    run = root.get_by_role("button", name="Run in guest")
    expect(run).to_be_disabled()
    root.get_by_label("Command").fill("true")
    root.get_by_label("Command").press("Enter")
    expect(root.get_by_label("Command")).to_have_value("true")  # it is there when it can be run
    press(root, "Start: demo")
    expect(root.locator(".vmsnap-item", has_text="starting …")).to_be_visible()
    expect(root.locator(".vmsnap-chip", has_text="starting …")).to_be_visible()  # not running: nothing answers yet
    expect(root.get_by_text("Booting its Linux …")).to_be_visible(timeout=LONG)
    booting = root.get_by_role("group", name="Last lines of the console")
    expect(booting).to_contain_text("Linux version", timeout=LONG)
    assert nb.python("print(6 * 7)") == "42"  # the kernel answers meanwhile
    expect(root.get_by_role("radio", name="demo, running")).to_be_checked(timeout=120_000)
    expect(booting).to_be_hidden()
    expect(run).to_be_enabled()
    command, log = root.get_by_label("Command"), root.get_by_role("log")
    command.fill("echo '<b>快照' > /made-by-panel; cat /made-by-panel; false")
    command.press("Enter")
    expect(log.get_by_text("demo# echo")).to_be_visible()
    expect(log.locator("pre")).to_have_text("<b>快照", timeout=LONG)
    expect(log.get_by_text("exit 1", exact=True)).to_be_visible()
    assert nb.python("print(vm.execute('cat /made-by-panel').stdout)") == "<b>快照"
    command.fill("sleep 100")
    command.press("Enter")
    expect(log.get_by_role("img", name="running")).to_be_visible()
    nb.python("import time; from vmsnap_nb.live import commands\nwhile not commands._OPEN_PORTS: time.sleep(0.05)")
    command.press("Control+c")
    expect(log.get_by_text("interrupted", exact=True)).to_be_visible()
    for line in ("sleep 100", "echo '<b>快照' > /made-by-panel; cat /made-by-panel; false"):
        command.press("ArrowUp")
        expect(command).to_have_value(line)
    assert nb.python("print(vm.execute('true').exit_status, panel.last_error)") == "0 None"
    root.get_by_role("button", name="Log (").click()
    expect(root.get_by_text("interrupted", exact=True).last).to_be_visible()


def test_what_is_entered_is_what_is_run(nb: Notebook, running: None) -> None:
    root = nb.show("vs.panel(lab)")
    nb.python("lines = []; panel.guest_page.console.execute = lambda line, token: lines.append(line)")
    command = root.get_by_label("Command")
    for number in range(30):  # faster than the kernel answers
        command.fill(f"line {number}")
        command.press("Enter")
    command.fill("by the button")
    press(root, "Run in guest")
    wanted = [*(f"line {number}" for number in range(30)), "by the button"]
    assert nb.python("print(lines)") == str(wanted)
    expect(root.get_by_text("demo# line 29")).to_be_visible()


def test_rows_are_selected_and_acted_on_by_keyboard(nb: Notebook) -> None:
    nb.python(
        "other = lab.guest('other <b>', backing=base); other.snapshot('s', kind='internal-disk').run(progress=False)"
    )
    root = nb.show("vs.panel(lab)")
    keys = nb.page.keyboard
    demo, other = root.get_by_role("radio", name="demo, "), root.get_by_role("radio", name="other <b>, ")
    expect(demo).to_be_checked()
    demo.focus()
    keys.press("ArrowDown")
    expect(other).to_be_checked()
    expect(root.get_by_role("heading", name="other <b>")).to_be_visible()
    root.get_by_role("tab", name="Snapshots 1").click()
    row = root.get_by_role("radio", name="s ←")
    expect(row).to_be_visible()
    row.check(force=True)
    expect(other).to_be_checked()  # each list has a choice of its own
    other.focus()
    for _ in range(2):
        keys.press("Tab")
    keys.press("Enter")  # the menu of the row
    remove = root.get_by_role("button", name="Remove guest…: other <b>")
    expect(remove).to_have_attribute("aria-disabled", "true")
    expect(remove).to_have_attribute("title", "delete its snapshot first")
    keys.press("Escape")
    expect(remove).to_be_hidden()
    nb.python("other.delete_snapshot('s').run(progress=False)")
    expect(root.get_by_role("tab", name="Snapshots", exact=True)).to_be_visible()
    keys.press("Enter")
    expect(remove).not_to_have_attribute("aria-disabled", "true")
    remove.click()
    root.get_by_label(LOST).check()
    press(root, "Remove guest")
    expect(other).to_have_count(0)
    expect(root.get_by_role("tab")).to_have_count(0)


def test_code_and_commands_are_copied_from_the_log(nb: Notebook) -> None:
    root = nb.show("vs.panel(lab)")
    nb.python("panel.activity.add('<b>快照', 'done', 'guest.start()', ['virsh start demo', 'true'])")
    root.get_by_role("button", name="Log (1)").click()
    root.get_by_text("<b>快照: done").click()
    nb.python("panel.activity.add('something else', 'done')")
    expect(root.get_by_text("something else: done")).to_be_visible()
    for button, text in (("Copy: In a terminal", "virsh start demo true"), ("Copy: In a cell", "guest.start()")):
        press(root, button)  # it is open as before
        command = root.get_by_label("Command")
        command.fill("")
        command.press("ControlOrMeta+v")
        expect(command).to_have_value(re.compile(text.replace(" ", ".?")))


def test_an_overlay_from_choice_to_report(nb: Notebook) -> None:
    root = nb.show("panels.OverlayPanel(vm)")
    image(root, "RootBase").click()
    expect(root.get_by_label("Base").locator("option:checked")).to_have_text("RootBase")
    root.get_by_label("Name").fill("second 快照")
    press(root, "Create overlay…")
    expect(root.get_by_text(NOTHING_YET)).to_be_visible()
    root.locator("summary", has_text="as commands").click()
    expect(root.locator("code", has_text="qemu-img create").first).to_be_visible()
    assert nb.python("print('second 快照' in [image.name for image in lab.survey()])") == "False"
    confirm(root, "Create overlay", lost=False)
    press(root, "Close")
    expect(root.get_by_label("Name")).to_have_value("")
    expect(root.get_by_text(AS_PREDICTED)).to_have_count(0)
    assert nb.python("f = lab.survey(); print(f.parent(f.find('second 快照')) == base.path)") == "True"


EXPLAINED = {
    "external-disk": "writes go to a new overlay",
    "external-checkpoint": "Memory in a separate file",
    "internal-disk": "The disk only, inside the same qcow2 file",
    "internal-checkpoint": "Memory, device state and disk, inside the same qcow2 file",
}


def take(nb: Notebook, guest: str, kind: str) -> None:
    root = nb.show(f"vs.panel({guest})")
    root.get_by_label("Name").fill(kind)
    root.get_by_label("Kind").select_option(kind.replace("-", " "))
    expect(root.get_by_text(EXPLAINED[kind])).to_be_visible()
    press(root, "Take snapshot…")
    confirm(root, "Take snapshot", lost=False)
    expect(root.get_by_role("radio", name=f"{kind} ← you are here, {kind.replace('-', ' ')}, ")).to_be_attached()
    assert kind in nb.python(f"print({guest}.snapshots().names)")


@pytest.mark.parametrize("kind", ["external-disk", "external-checkpoint"])
def test_external_snapshots_of_a_running_guest(nb: Notebook, running: None, kind: str) -> None:
    take(nb, "vm", kind)
    assert nb.python("print(vm.execute('echo goes on').stdout)") == "goes on"


def test_internal_snapshots(nb: Notebook) -> None:
    nb.python("inner = lab.guest('inner', backing=base)")
    take(nb, "inner", "internal-disk")
    nb.python("inner.handle.domain.createWithFlags(1)  # VIR_DOMAIN_START_PAUSED: nothing in it runs")
    take(nb, "inner", "internal-checkpoint")
    nb.python("inner.destroy()")


def test_revert_and_delete(nb: Notebook) -> None:
    nb.python(
        """
        back = lab.guest("back", backing=base)
        for name in ("one", "two"):
            back.snapshot(name, kind="external-disk").run(progress=False)
        """
    )
    root = nb.show("vs.panel(back)")
    root.locator("[data-path=one]").click()
    chosen = root.locator(".vmsnap-list :checked")
    expect(chosen).to_have_value("one")
    slider = root.get_by_role("slider", name="Point in time")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("^one, external disk, "))
    slider.press("ArrowRight")
    expect(chosen).to_have_value("two")
    expect(root.get_by_role("heading", name="State at two")).to_be_visible()
    slider.press("Home")
    moment = root.locator(".vmsnap-moment")
    expect(moment.get_by_text("back.one")).to_have_count(0)  # the overlay that was new then
    expect(moment.get_by_text("back", exact=True)).to_be_visible()
    press(root, "Block map")
    expect(moment.get_by_role("group", name="Block map of 2 layers")).to_be_visible()
    assert violations(nb.page, ".vmsnap-panel") == []
    press(root, "Revert to this moment…")
    confirm(root, "Revert", lost=False)
    assert nb.python("print(*back.snapshots().names, back.snapshots().current.name)") == "one two kept1 one"
    root.locator("[data-path=two]").press("Enter")
    expect(chosen).to_have_value("two")
    expect(root.locator("[data-path=two]")).to_have_attribute("aria-pressed", "true")
    press(root, "Delete…: two")
    confirm(root, "Delete")
    assert nb.python("print(*back.snapshots().names)") == "one kept1"
    expect(root.locator("[data-path=two]")).to_have_count(0)
    expect(chosen).to_have_count(0)


def test_many_snapshots_with_long_names_fit_into_a_narrow_cell(nb: Notebook) -> None:
    nb.python(
        """
        import ipywidgets as widgets
        from vmsnap_nb.panels.row_list import Row, RowList
        from vmsnap_nb.panels.time_slider import TimeSlider
        names = [f"night-{number}-{'long' * 20}" for number in range(40)]
        rows = [Row(key=name, title=name, notes=(name,), when="2026-11-30T12:00:00Z") for name in names]
        slider = TimeSlider()
        """
    )
    root = nb.show("widgets.VBox([panels.ChainView(), slider, RowList(rows=[])]).add_class('vmsnap-panel')")
    nb.page.set_viewport_size({"width": 600, "height": 1000})
    for stops in (40, 5):
        nb.python(f"panel.children[2].show(rows[:{stops}]); slider.show(rows[:{stops}])")
        expect(root.locator(".vmsnap-stop")).to_have_count(stops + 1)
        for key in ("Home", "ArrowRight", "End"):
            root.get_by_role("slider", name="Point in time").press(key)
            assert root.evaluate("root => root.scrollWidth <= root.clientWidth + 1"), (stops, key)


def test_a_live_merge_with_progress_and_cancel(nb: Notebook, running: None) -> None:
    nb.python(
        """
        for name in "ab":
            vm.execute("head -c 12000000 /dev/urandom > /bulk; md5sum /bulk > /sum; sync").check()
            vm.snapshot(name, kind="external-disk").run(progress=False)
        layers = [image.path for image in vm.chain()]
        """
    )
    root = nb.show("panels.MergePanel(vm)")
    top, base = nb.python("print(layers[-2], layers[-3])").split()
    root.locator(f"[data-path='{top}']").drag_to(root.locator(f"[data-path='{base}']"))
    expect(root.get_by_text(NOTHING_YET)).to_be_visible(timeout=LONG)
    root.get_by_label("Limit MiB/s").fill("1")
    press(root, "Merge…")
    expect(root.locator("code", has_text="--bandwidth").first).to_be_attached(timeout=LONG)
    root.get_by_label(LOST).check()
    press(root, "Merge now")
    bar = root.get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuenow", re.compile("[1-9]"), timeout=LONG)
    expect(root.get_by_text(re.compile(r"\d [KM]iB/s"))).to_be_visible()
    line = root.locator(".arrow.move .vmsnap-come")  # along the arrow of the data, as far as the job has come
    expect(line).to_have_attribute("stroke-dasharray", re.compile(r"^0\.\d*[1-9]\d* 1$"))
    assert nb.python("print(6 * 7)") == "42"  # the kernel answers meanwhile
    keys = nb.page.keyboard
    expect(root.get_by_role("button", name="Cancel", exact=True)).to_be_focused()  # it stands where the other was
    keys.press("Enter")
    expect(root.get_by_text("the chain is unchanged, but")).to_be_in_viewport(timeout=LONG)
    expect(root.get_by_text(re.compile("INVALID"))).to_have_count(0)
    close = root.get_by_role("button", name="Close")
    expect(close).to_be_focused()
    keys.press("Enter")
    expect(close).to_be_hidden()
    expect(bar).to_have_count(0)
    expect(line).to_have_count(0)
    assert nb.python("print(layers == [image.path for image in vm.chain()])") == "True"
    root.get_by_label("Limit MiB/s").fill("0")
    press(root, "Merge…")
    confirm(root, "Merge now")
    assert nb.python("print([image.path for image in vm.chain()] == [*layers[:-2], layers[-1]])") == "True"
    assert nb.python("print(vm.execute('md5sum -c /sum').exit_status)") == "0"


def test_a_block_map_shows_what_a_guest_writes(nb: Notebook, running: None) -> None:
    root = nb.show("panels.BlockMapPanel(vm)")
    expect(root.locator("text", has_text="new data")).to_be_visible()  # in the legend
    nb.python("vm.execute('head -c 3000000 /dev/urandom > /live; sync').check()")
    expect(root.get_by_text(re.compile("MiB new"))).to_be_visible(timeout=LONG)
    nb.page.set_viewport_size({"width": 800, "height": 1000})
    stage = root.locator(".vmsnap-stage")
    expect(stage.locator("text", has_text=re.compile("RootBase: "))).to_be_visible()  # that for narrow columns
    assert stage.evaluate("stage => stage.querySelector('svg').clientWidth > 0.9 * stage.clientWidth")
    assert violations(nb.page, ".vmsnap-panel") == []


def test_an_exercise_is_set_up_and_checked(nb: Notebook) -> None:
    root = nb.show("vs.panel(lab)")
    root.get_by_role("button", name="Exercises and scenarios").click()
    root.get_by_role("radio", name="An overlay, ").check(force=True)
    expect(root.get_by_label("Answer")).to_have_count(0)  # it asks for none
    press(root, "Set up")
    press(root, "Check", timeout=LONG)
    expect(root.get_by_text("0 of 3 done")).to_be_visible(timeout=LONG)
    expect(root.locator("[data-path$='/first-overlay/RootBase.qcow2']")).to_be_visible()
    assert violations(nb.page, ".vmsnap-panel") == []


def test_a_running_guest_is_shortened_and_shut_down(nb: Notebook, running: None) -> None:
    nb.python("vm.snapshot(kind='external-disk').run(progress=False)")
    root = nb.show("panels.MergePanel(vm)")
    press(root, "Shorten")
    root.get_by_label("Top", exact=True).select_option(nb.python("print(vm.chain()[-1].name)"))
    root.get_by_label("Keep").fill("2")
    press(root, "Shorten…")
    confirm(root, "Shorten now")
    assert nb.python("print(len(vm.chain()))") == "2"
    assert nb.python("print(vm.execute('cat /etc/alpine-release').exit_status)") == "0"
    # Seen from the folder the guest is in the way, and can be told to go.
    root = nb.show("panels.MergePanel(lab)")
    top, base = nb.python("print(*reversed([image.path for image in vm.chain()]))").split()
    root.locator(f"[data-path='{top}']").drag_to(root.locator(f"[data-path='{base}']"))
    expect(root.locator("li", has_text="in-use").first).to_be_visible(timeout=LONG)
    press(root, "Shut down demo")
    expect(root.get_by_role("button", name="Shut down demo")).to_have_count(0)
    expect(root.get_by_text("Refused: ")).to_be_in_viewport(timeout=LONG)
    assert nb.python("print(vm.state, len(panel.activity.entries))") == "shut off 1"


def test_a_refused_merge_and_its_remedy(nb: Notebook) -> None:
    nb.python("forest = lab.reset_scenario('figure-2')")
    root = nb.show("panels.MergePanel(forest)")
    image(root, "Overlay-1A").hover()
    nb.page.mouse.down()
    image(root, "Overlay-1").hover()
    tip = root.locator(".vmsnap-tip")
    expect(tip).to_contain_text(re.compile(r"^commit \d+ KiB$"), timeout=LONG)
    image(root, "RootBase").hover()
    expect(tip).to_contain_text("refused: ")
    expect(tip).to_contain_text("Overlay-2")
    for name in ("RootBase", "Overlay-2", "Overlay-3"):
        expect(image(root, name)).to_contain_class("vmsnap-refused")
    expect(image(root, "Overlay-1")).not_to_contain_class("vmsnap-refused")
    nb.page.mouse.up()
    expect(root.get_by_text("Refused: ")).to_be_in_viewport(timeout=LONG)
    ink = root.locator(".vmsnap-bar strong").evaluate("one => getComputedStyle(one).color")
    expect(root.locator(".vmsnap-bar .vmsnap-below")).to_have_css("color", ink)  # the reason is no side note
    expect(root.locator("li", has_text="shared-base").first).to_be_visible()
    root.get_by_label(LOST).check()
    expect(root.get_by_role("button", name="Merge now")).to_be_disabled()
    press(root, "Pull up instead")
    confirm(root, "Merge now", lost=False)
    assert nb.python("f = forest.refresh(); print(f[f.parent(f.find('Overlay-1B'))].name)") == "RootBase"


def test_a_refusal_is_waived_by_keyboard(nb: Notebook) -> None:
    nb.python("forest = lab.reset_scenario('figure-2')")
    root = nb.show("panels.MergePanel(forest)")
    image(root, "Overlay-1A").drag_to(image(root, "RootBase"))
    waiver = root.get_by_label("Override shared-base: I accept the risk. Overlay-2")
    waiver.wait_for(timeout=LONG)
    button = root.get_by_role("button", name="Merge now")
    expect(button).to_be_disabled()
    nb.page.set_viewport_size({"width": 600, "height": 1000})
    label = root.locator("label", has_text="Override shared-base")
    expect(label).to_contain_text("silently corrupted")
    assert label.evaluate("label => label.scrollWidth <= label.clientWidth + 1"), "what is risked is cut off"
    box, text = waiver.bounding_box(), label.locator("span").bounding_box()
    assert box is not None
    assert text is not None
    assert text["x"] > box["x"] + box["width"]  # no line of it lies below its box
    assert text["y"] <= box["y"] <= text["y"] + 8
    assert violations(nb.page, ".jp-OutputArea-output .vmsnap-panel") == []
    waiver.focus()
    nb.page.keyboard.press("Space")
    expect(waiver).to_be_checked()
    nb.page.keyboard.press("Tab")
    expect(root.get_by_label(LOST)).to_be_focused()
    expect(button).to_be_disabled()
    nb.page.keyboard.press("Space")
    expect(button).to_be_enabled()
    for name in ("Plan again", "Discard", "Pull up instead", "Merge now"):
        nb.page.keyboard.press("Tab")
        expect(root.get_by_role("button", name=name, exact=True)).to_be_focused()
    nb.page.keyboard.press("Enter")
    expect(root.get_by_text(AS_PREDICTED)).to_be_visible(timeout=LONG)
    assert nb.python("print(panel.activity.entries[-1].code)").endswith(".run(waive=('shared-base',))")


def test_an_offline_merge_by_keyboard_alone(nb: Notebook) -> None:
    nb.python("forest = lab.reset_scenario('merge')")
    root = nb.show("panels.MergePanel(forest)")
    keys = nb.page.keyboard
    root.get_by_role("button", name="Fit to width").focus()
    for _ in range(5):  # the ground, then RootBase, Snap-1, …
        keys.press("Tab")
    expect(image(root, "Snap-3")).to_be_focused()
    keys.press("m")
    expect(root.get_by_text("Merge Snap-3")).to_be_visible()
    keys.press("Shift+Tab")
    keys.press("Shift+Tab")
    expect(image(root, "Snap-1")).to_be_focused()
    keys.press("Enter")
    expect(root.get_by_text(NOTHING_YET)).to_be_visible(timeout=LONG)
    for _ in range(40):
        keys.press("Tab")
        if nb.page.evaluate("document.activeElement.type") == "checkbox" and nb.page.evaluate(
            "document.activeElement.closest('label').textContent"
        ).startswith("I understand"):
            break
    keys.press("Space")
    expect(root.get_by_label(LOST)).to_be_checked()
    expect(root.get_by_role("button", name="Merge now")).to_be_enabled()
    keys.press("Tab")
    expect(root.get_by_role("button", name="Discard")).to_be_focused()
    keys.press("Tab")
    expect(root.get_by_role("button", name="Merge now")).to_be_focused()
    keys.press("Enter")
    expect(root.get_by_text(AS_PREDICTED)).to_be_in_viewport(timeout=LONG)
    expect(root.get_by_role("button", name="Close")).to_be_focused()
    keys.press("Enter")
    expect(root.get_by_role("button", name="Close")).to_be_hidden()
    expect(root.get_by_role("button", name="Merge…")).to_be_focused()  # and not the beginning of the page
    assert nb.python("print(*[image.name for image in forest.refresh().chain(forest.find('Snap-4'))])") == (
        "RootBase Snap-1 Snap-4"
    )
    assert nb.page.evaluate("jupyterapp.shell.currentWidget.content.activeCell.model.type") == "code"


def test_an_error_is_shown_with_its_next_step(nb: Notebook) -> None:
    root = nb.show("panels.OverlayPanel(vm)")
    press(root, "Create overlay…")
    alert = root.get_by_role("alert")
    expect(alert).to_contain_text("the name is empty")
    expect(alert).to_contain_text("enter a name")
    expect(alert).to_be_in_viewport()
    assert nb.python("print(type(panel.last_error).__name__, len(panel.activity.entries))") == "InvalidRequestError 1"


def test_what_others_do_appears_and_a_selection_that_vanished_clears(nb: Notebook, folder: Path) -> None:
    root = nb.show("panels.OverlayPanel(lab)")
    new, images = folder / "lab" / "images" / "outside.qcow2", folder / "lab" / "images"
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(images / "RootBase.qcow2"), str(new)]
    subprocess.run(words, check=True, timeout=60)
    expect(image(root, "outside")).to_be_visible()
    image(root, "outside").click()
    expect(root.get_by_label("Base").locator("option:checked")).to_have_text("outside")
    new.unlink()
    expect(image(root, "outside")).to_have_count(0)
    expect(root.locator("[aria-pressed=true]")).to_have_count(0)
    # The figure is the first to change.
    while nb.python("print(panel.chain.selected, panel.form.base.value)") != "None None":
        nb.page.wait_for_timeout(100)
    expect(root.get_by_label("Base").locator("option:checked")).to_have_count(0)


def test_two_panels_on_one_forest_stay_in_step(nb: Notebook) -> None:
    nb.python("twin = panels.MergePanel(lab.reset_scenario('figure-1'))")
    root = nb.show("panels.OverlayPanel(lab.scenario('figure-1'))")
    expect(image(root, "Overlay-1B")).to_be_visible()
    nb.python("twin.merge_onto(*[twin.reading.forest.find(name) for name in ('Overlay-1A', 'Overlay-1')])")
    nb.python("twin.flow.wait(); twin.flow.understood.value = True; twin.flow.confirm(); twin.flow.wait()")
    expect(root.locator("svg text", has_text="INVALID").first).to_be_visible()
    nb.python("twin.close()")


def test_a_panel_that_nobody_sees_any_more_rests(nb: Notebook) -> None:
    nb.show("panels.OverlayPanel(lab)")
    nb.python("kept, panel = panel, panels.OverlayPanel(lab, every=0)")
    nb.show("panels.OverlayPanel(lab)")
    while nb.python("print(kept.chain.views)") != "0":
        nb.page.wait_for_timeout(100)
    assert nb.python("print(panel.chain.views)") == "1"
    nb.python("kept.close()")


def test_layers_beside_the_files_are_chosen_by_keyboard(nb: Notebook, running: None) -> None:
    nb.python("vm.snapshot('layered', kind='external-disk').run(progress=False)")
    nb.python("vm.execute('echo new > /etc/new').check()")
    root = nb.show("vs.panel(lab)")
    root.get_by_role("radio", name="demo, running").check(force=True)
    expect(root.get_by_role("heading", name="demo", exact=True)).to_be_visible(timeout=LONG)  # another guest's page was
    root.get_by_role("tab", name="Files").click()
    layers, tree = root.locator(".vmsnap-layers"), root.locator(".vmsnap-tree")
    active = layers.get_by_role("radio").first
    expect(active).to_have_attribute("aria-label", re.compile("active layer"), timeout=LONG)
    expect(layers.get_by_role("radio").last).to_have_attribute("aria-label", re.compile("^RootBase, base"))
    active.focus()
    active.press("Space")
    expect(tree.get_by_text("/etc/new")).to_be_visible(timeout=LONG)
    expect(layers.get_by_text(re.compile("active layer · .* change"))).to_be_visible(timeout=LONG)
    active.press("ArrowDown")
    expect(layers.get_by_role("radio").nth(1)).to_be_checked()
    expect(tree.get_by_text(re.compile("^From .* to "))).to_be_visible(timeout=LONG)
    expect(tree.get_by_text("/etc/new")).to_have_count(0)
    places = [(layers.bounding_box(), tree.bounding_box())]
    nb.page.set_viewport_size({"width": 600, "height": 1000})
    places.append((layers.bounding_box(), tree.bounding_box()))
    (one, other), (above, below) = places
    assert one is not None
    assert other is not None
    assert above is not None
    assert below is not None
    assert one["x"] + one["width"] <= other["x"]
    assert above["y"] + above["height"] <= below["y"]
    assert root.evaluate("root => root.scrollWidth <= root.clientWidth + 1")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious_and_narrow_cells_fit(nb: Notebook, dark: bool) -> None:
    nb.set_dark(dark)
    nb.python("forest = lab.reset_scenario('merge')")
    root = nb.show("panels.MergePanel(forest)")
    press(root, "Block map")
    image(root, "Snap-3").drag_to(image(root, "Snap-1"))
    expect(root.get_by_text(NOTHING_YET)).to_be_visible(timeout=LONG)
    assert violations(nb.page, ".jp-OutputArea-output .vmsnap-panel") == []
    confirm(root, "Merge now")
    assert violations(nb.page, ".jp-OutputArea-output .vmsnap-panel") == []
    root = nb.show("vs.panel(lab)")
    expect(root.get_by_role("tab")).to_have_count(5)
    nb.page.set_viewport_size({"width": 600, "height": 1000})
    seen = {"Files": "lost+found/", "Block map": "guest reads"}
    for tab in ("Console", "Snapshots", "Disk layers", "Files", "Block map"):
        root.get_by_role("tab", name=tab).click()
        expect(root.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        if tab in seen:
            expect(root.get_by_text(seen[tab]).first).to_be_visible(timeout=LONG)  # what is read is there
        assert violations(nb.page, ".jp-OutputArea-output .vmsnap-panel") == []
        assert root.evaluate("root => root.scrollWidth <= root.clientWidth + 1"), tab
        assert cut_frames(root) == [], tab
    press(root, "+ New")
    expect(root.get_by_label("New guest")).to_be_focused()
    expect(root.get_by_label("New guest")).to_have_css("outline", re.compile("solid 2px"))
    assert violations(nb.page, ".jp-OutputArea-output .vmsnap-panel") == []
    assert root.evaluate("root => root.scrollWidth <= root.clientWidth + 1")
