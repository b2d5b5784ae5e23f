"""The panel of the lab alone, as a page: what `make app` shows, in a real Chromium."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import expect
from support import ROOT
from support.browser import START, chromium, end, violations

pytestmark = pytest.mark.browser


def test_the_page_shows_the_panel_and_no_code(short: Path) -> None:
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
            panel.get_by_role("radio", name="demo, shut off").check()  # the kernel has started by now
            expect(panel.get_by_role("tab", name="Snapshots")).to_be_visible()
            expect(page.get_by_text("import vmsnap_nb")).to_have_count(0)
            panel.get_by_label("New guest").fill("second")
            panel.get_by_label("Based on").select_option("RootBase")
            panel.get_by_role("button", name="Create guest…").click()
            panel.get_by_role("button", name="Create guest", exact=True).click()
            expect(panel.get_by_role("radio", name="second, shut off")).to_be_visible()
            assert violations(page, ".vmsnap-panel") == []
            page.close()
    finally:
        end(app)
