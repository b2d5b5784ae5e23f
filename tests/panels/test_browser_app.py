"""The panel of the lab alone, as a page: what `make app` shows, in a real Chromium; and what a busy lab shows."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import expect
from support import ROOT
from support.browser import START, chromium, end, violations

from vmsnap_nb.lab.holder import busy
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.panels import page as page_of
from vmsnap_nb.panels.busy import Busy
from vmsnap_nb.panels.panel import Panel
from vmsnap_nb.words.message import t

pytestmark = pytest.mark.browser


def test_a_lab_that_is_open_elsewhere_has_a_page_that_names_the_notebook() -> None:
    def opened() -> LiveForest:
        raise busy(t("open the lab"), "12\n/home/<b>/01-lesson.ipynb\n")

    shown = page_of(opened)
    assert isinstance(shown, Busy)
    html = shown._repr_mimebundle_()["text/html"]
    assert "/home/&lt;b&gt;/01-lesson.ipynb" in html
    assert "Try again" in html


def test_a_page_that_is_opened_again_has_the_panel_that_is_there(forest: LiveForest, opened: list[Panel]) -> None:
    shown = page_of(lambda: forest)
    assert isinstance(shown, Panel)
    opened.append(shown)
    assert page_of(lambda: pytest.fail("opened twice"), shown) is shown


def test_the_page_keeps_lab_and_panel_when_it_is_reloaded_or_opened_twice(short: Path) -> None:
    log = short / "log"
    own = {
        name: str(short / name)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    with log.open("wb") as out:
        app = subprocess.Popen(
            [ROOT / "scripts" / "app", "--no-browser"],
            env={**os.environ, **own, "VMSNAP_LAB": str(short / "lab")},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1000, "height": 1000})
            page.set_default_timeout(START)
            # It tries other ports where its own is taken.
            while not (told := re.search(r"is running at:\s+(\S+)\s", log.read_text(errors="replace"))):
                assert app.poll() is None, log.read_text(errors="replace")
                page.wait_for_timeout(100)
            page.goto(told[1])
            panel = page.locator(".vmsnap-panel").first
            expect(panel.get_by_role("button", name="Create guest…")).to_be_hidden()  # on what, without a base?
            expect(panel.get_by_role("button", name="Zoom in")).to_be_hidden()
            expect(panel.get_by_text("read at")).to_be_visible()
            expect(panel.get_by_text(re.compile("^0 "))).to_have_count(0)  # of nothing there is no number
            expect(panel.get_by_role("button", name="All images")).to_be_hidden()
            panel.get_by_role("button", name="Create RootBase (61 MiB) and a first guest").click()
            start = panel.get_by_role("button", name="Start demo", exact=True)  # in the console, which waits for it
            start.click()
            expect(panel.locator(".vmsnap-item", has_text="starting …")).to_be_visible()
            expect(start).to_be_disabled()  # and not "Resume demo" while QEMU is there, and waits
            expect(page.get_by_text("import vmsnap_nb")).to_have_count(0)
            page.reload()
            running = panel.get_by_role("radio", name="demo, running")
            expect(running).to_be_checked(timeout=START)
            expect(start).to_be_hidden()
            panel.get_by_role("tab", name="Disk layers").click()
            dark = browser.new_page(viewport={"width": 1000, "height": 1000}, color_scheme="dark")
            dark.set_default_timeout(START)
            dark.goto(told[1])
            second = dark.locator(".vmsnap-panel").first
            expect(second.get_by_role("tab", name="Disk layers")).to_have_attribute("aria-selected", "true")
            expect(second.get_by_role("radio", name="demo, running")).to_be_checked()
            assert dark.title() == "Snapshot lab"
            assert dark.evaluate("document.body.dataset.jpThemeLight") == "false"
            assert violations(dark, ".vmsnap-panel") == []
            dark.close()
            stranger = browser.new_page()
            stranger.goto(told[1].partition("?")[0], timeout=START)
            assert "/login" in stranger.url
            stranger.close()
            page.close()
    finally:
        end(app)
