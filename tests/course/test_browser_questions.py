"""Questions as a student answers them: in a real JupyterLab, by mouse and by keyboard, and read by axe."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect
from support.browser import Notebook, chromium, notebook, violations

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def nb() -> Iterator[Notebook]:
    folder = Path(tempfile.mkdtemp(prefix="v", dir="/tmp"))
    with chromium() as browser, notebook(browser, folder) as nb:
        yield nb
    shutil.rmtree(folder)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_prediction_and_a_quiz(nb: Notebook, dark: bool) -> None:
    nb.set_dark(dark)
    nb.page.set_viewport_size({"width": 600 if dark else 1200, "height": 900})
    nb.python("import vmsnap_nb as vs; p = vs.predict('merging/direction'); q = vs.quiz('merging')")
    nb.run_cell("p")
    cell = nb.page.locator(".jp-OutputArea-output")
    expect(cell.get_by_text("Which direction copies less?")).to_be_visible()
    cell.get_by_label("commit, down").press("Tab")
    expect(cell.get_by_label("pull, up")).to_be_focused()
    nb.page.keyboard.press(" ")
    expect(cell.get_by_label("pull, up")).to_be_checked()
    assert nb.python("print(p.guess)") == "pull"
    nb.python("p.check('pull')")
    expect(cell.get_by_role("status")).to_contain_text("As you expected: pull, up")
    assert violations(nb.page, ".jp-OutputArea-output") == []

    nb.run_cell("q")
    cell.get_by_label("the lower one").check()
    cell.get_by_role("button", name="Check answers").click()
    expect(cell.get_by_text("1 of 5 answers are right")).to_be_visible()
    expect(cell.get_by_text("Answer", exact=True)).to_have_count(4)
    for option in cell.locator(".widget-radio-box label").all():
        assert option.evaluate("label => label.scrollHeight <= label.clientHeight + 1"), option.inner_text()
    assert violations(nb.page, ".jp-OutputArea-output") == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_lines_are_put_in_order_by_keyboard(nb: Notebook, dark: bool) -> None:
    nb.set_dark(dark)
    nb.page.set_viewport_size({"width": 600 if dark else 1200, "height": 900})
    nb.python("import vmsnap_nb as vs; lab = vs.Lab(); lab.reset_exercise('order-middle-layer')")
    nb.run_cell("lab.lines('order-middle-layer')")
    cell = nb.page.locator(".jp-OutputArea-output")
    lines = cell.locator(".vmsnap-lines")
    expect(lines.get_by_label("1. a rm Snap-2.qcow2")).to_be_checked()
    down, across = (cell.get_by_role("button", name=name, exact=True) for name in ("Down", "Include or exclude"))

    def move(letter: str, button: Locator, times: int) -> None:
        radio = lines.get_by_label(re.compile(rf"(\d\.|left out:) {letter} "))
        radio.focus()
        nb.page.keyboard.press(" ")
        expect(radio).to_be_checked()
        button.focus()
        for _ in range(times):
            nb.page.keyboard.press("Enter")
        expect(cell.get_by_role("status").first).to_contain_text(f"{letter} is ")
        expect(button).to_be_focused()

    move("d", across, 1)
    move("f", across, 1)  # a b c e
    move("a", down, 3)
    expect(cell.get_by_role("status").first).to_contain_text("a is number 4")  # b c e a
    move("c", down, 1)
    move("b", down, 1)  # e b c a
    expect(cell.get_by_role("status").first).to_contain_text("b is number 2")
    cell.get_by_role("button", name="Check this order").press("Enter")
    expect(cell.get_by_role("status").last).to_contain_text('lab.answer("order-middle-layer", "e b c a")')
    expect(cell.get_by_role("status").last).to_contain_text("done")
    assert violations(nb.page, ".jp-OutputArea-output") == []
