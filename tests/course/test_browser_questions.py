"""Questions as a student answers them: in a real JupyterLab, by mouse and by keyboard, and read by axe."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect
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
