"""The panel of the lab alone, as a page: what `make app` shows, in a real Chromium."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from browser import chromium, violations
from labs import REPOSITORY
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def test_the_page_shows_the_panel_and_no_code(short: Path) -> None:
    port, log = free_port(), short / "log"
    own = {
        name: str(short / name)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    with log.open("wb") as out:
        app = subprocess.Popen(
            [REPOSITORY / "scripts" / "app", "--no-browser", f"--port={port}"],
            env={**os.environ, **own, "VMSNAP_LAB": str(short / "lab")},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1000, "height": 1000})
            page.set_default_timeout(60_000)
            while "is running at" not in log.read_text(errors="replace"):
                assert app.poll() is None, log.read_text(errors="replace")
                page.wait_for_timeout(100)
            page.goto(f"http://127.0.0.1:{port}/")
            panel = page.locator(".vmsnap-panel").first
            panel.get_by_role("radio", name="demo, shut off").check()  # the kernel has started by now
            expect(panel.get_by_role("tab", name="Snapshots")).to_be_visible()
            expect(page.get_by_text("import vmsnap_nb")).to_have_count(0)
            panel.get_by_label("New guest").fill("second")
            panel.get_by_label("Stands on").select_option("RootBase")
            panel.get_by_role("button", name="Plan guest").click()
            panel.get_by_role("button", name="Confirm").click()
            expect(panel.get_by_role("radio", name="second, shut off")).to_be_visible()
            assert violations(page, ".vmsnap-panel") == []
            page.close()
    finally:
        app.terminate()
        app.wait(30)
