"""A real Chromium for tests: its start, what axe-core finds on a page, and JupyterLab with one notebook."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
START = 120_000  # milliseconds that a start, or a page, may take on a busy machine
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium(*, scrollbars: bool = False) -> Iterator[Browser]:
    """The system's Chromium, without a window; with scrollbars that take room if asked for."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    assert program, f"none of {', '.join(NAMES)} is installed: scripts/setup --tests does it"
    expect.set_options(
        timeout=20_000
    )  # milliseconds; how soon things appear is not what is tested, and machines are busy
    # Chromium keeps its reports of crashes and its fonts' cache in these, whatever folder the profile is in.
    with tempfile.TemporaryDirectory() as own, sync_playwright() as playwright:
        env: dict[str, str | float | bool] = {**os.environ, "XDG_CONFIG_HOME": own, "XDG_CACHE_HOME": own}
        without = ["--hide-scrollbars"] if scrollbars else None
        browser = playwright.chromium.launch(
            executable_path=program, args=list(OPTIONS), ignore_default_args=without, timeout=START, env=env
        )
        yield browser
        browser.close()


def violations(page: Page, inside: str) -> list[str]:
    """What axe-core finds serious or critical inside the elements of a selector."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found: list[Any] = page.evaluate("async (inside) => (await axe.run(inside)).violations", inside)
    return [
        f"{violation['impact']}: {violation['id']}: {node['target']} {node['html']}\n{node['failureSummary']}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


_CUT = """(panel) => {
    const cut = [];
    for (const one of panel.querySelectorAll("button, input, select, textarea, summary, [tabindex='0']")) {
        if (!one.checkVisibility() || one.closest("svg, .vmsnap-item, details:not([open]) > :not(summary)")) continue;
        const at = one.getBoundingClientRect();
        for (let box = one.parentElement; box !== panel.parentElement; box = box.parentElement) {
            const { overflowX, overflowY } = getComputedStyle(box);
            const scrolls = box.scrollHeight > box.clientHeight + 1 || box.scrollWidth > box.clientWidth + 1;
            if (scrolls || (overflowX === "visible" && overflowY === "visible")) continue;
            const by = box.getBoundingClientRect();
            const room = Math.min(at.left - by.left, by.right - at.right, at.top - by.top, by.bottom - at.bottom);
            const text = JSON.stringify([room, at, by]);
            if (room < 1.9) cut.push(`${one.outerHTML.slice(0, 150)} in ${box.className}: ${text}`);
        }
    }
    return cut;
}"""


def cut_frames(panel: Locator) -> list[str]:
    """Which elements of a panel have no room for the frame of two pixels that shows the focus."""
    until = time.monotonic() + 5  # what was opened just now may still be laid out
    while True:
        found: list[str] = panel.evaluate(_CUT)
        if not found or time.monotonic() > until:
            return found
        panel.page.wait_for_timeout(200)


class JupyterError(Exception):
    """Code in the notebook's kernel failed."""


class Notebook:
    """A notebook of one cell in JupyterLab, in which one panel after the other is shown."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._shown = 0

    def python(self, code: str) -> str:
        """Run code in the kernel beside the cell, and give what it prints."""
        code = textwrap.dedent(code)
        said: dict[str, str] = self.page.evaluate(
            """async (code) => {
                const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const said = { text: "", error: "" };
                const future = kernel.requestExecute({ code, store_history: false, stop_on_error: false });
                future.onIOPub = ({ header, content }) => {
                    if (header.msg_type === "stream" && content.name === "stdout") said.text += content.text;
                    if (header.msg_type === "error") said.error = content.traceback.join("\\n");
                };
                await future.done;
                return said;
            }""",
            code,
        )
        if said["error"]:
            raise JupyterError(said["error"])
        return said["text"].strip()

    def show(self, made: str) -> Locator:
        """Make a panel, called `panel` in the kernel, and show it in the cell; the one before is closed."""
        self._shown += 1
        mark = f"shown-{self._shown}"
        self.python(f"if 'panel' in globals(): panel.close()\npanel = {made}\npanel.add_class('{mark}')")
        self.run_cell("panel")
        root = self.page.locator(f".jp-OutputArea-output .{mark}")
        root.locator(".vmsnap-stage svg, .vmsnap-list").first.wait_for()
        return root

    def run_cell(self, source: str) -> None:
        """Run the cell with this source."""
        self.page.evaluate(
            """async (source) => {
                const notebook = jupyterapp.shell.currentWidget.content;
                notebook.activeCellIndex = 0;
                notebook.activeCell.model.sharedModel.setSource(source);
                await jupyterapp.commands.execute("notebook:run-cell");
            }""",
            source,
        )

    def command(self, name: str, **arguments: Any) -> None:
        """Do what an entry of JupyterLab's menus does."""
        self.page.evaluate("([name, args]) => jupyterapp.commands.execute(name, args)", [name, arguments])

    def set_dark(self, dark: bool) -> None:
        """Change the theme, and wait until it is there."""
        self.command("apputils:change-theme", theme="JupyterLab Dark" if dark else "JupyterLab Light")
        light = "false" if dark else "true"
        self.page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached")


JUPYTER_LAB = """
import sys
sys.modules["rfc3987_syntax"] = None  # it would build forty parsers that nobody needs
from jupyterlab.labapp import main
sys.exit(main())
"""


@contextmanager
def jupyter_lab(folder: Path) -> Iterator[str]:
    """JupyterLab on a folder, with settings of its own; gives its address."""
    own = folder / "jupyter"
    settings = {
        "JUPYTER_CONFIG_DIR": own / "config",
        "JUPYTER_DATA_DIR": own / "data",
        "JUPYTER_RUNTIME_DIR": own / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": own / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": own / "workspaces",
        "IPYTHONDIR": own / "ipython",
        "VMSNAP_LAB": folder / "lab",
    }
    for path in settings.values():
        if path.name != "lab":
            path.mkdir(parents=True)
    quiet = own / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false, "doNotDisturbMode": true}')
    options = [
        "--no-browser",
        "--allow-root",
        "--ServerApp.port=0",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True",
        "--LanguageServerManager.autodetect=False",  # npm, which it would ask, writes into the home folder
    ]
    log = folder / "jupyter.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-c", JUPYTER_LAB, *options],
            env={**os.environ, **{name: str(path) for name, path in settings.items()}},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _address(server, own / "runtime", log)
    finally:
        end(server)


def end(server: subprocess.Popen[bytes]) -> None:
    """End a server of Jupyter's kind, if it can be in good order."""
    server.terminate()  # it ends its kernels, and a kernel its lab
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _address(server: subprocess.Popen[bytes], runtime: Path, log: Path) -> str:
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text(errors="replace")
        with suppress(FileNotFoundError, ValueError):
            told = json.loads((runtime / f"jpserver-{server.pid}.json").read_text())
            return str(told["url"])
        time.sleep(0.05)
    raise AssertionError("JupyterLab did not start:\n" + log.read_text(errors="replace"))


EMPTY = {
    "cells": [{"cell_type": "code", "id": "one", "metadata": {}, "source": "", "outputs": [], "execution_count": None}],
    "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@contextmanager
def notebook(browser: Browser, folder: Path) -> Iterator[Notebook]:
    """A new notebook in JupyterLab, its kernel ready."""
    (folder / "panels.ipynb").write_text(json.dumps(EMPTY))
    with jupyter_lab(folder) as address:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(START)
        page.goto(f"{address}lab/tree/panels.ipynb?reset")
        page.wait_for_function("window.jupyterapp !== undefined")
        page.evaluate("jupyterapp.restored")
        page.wait_for_function(
            """() => {
                const context = jupyterapp.shell.currentWidget?.sessionContext;
                const kernel = context?.session?.kernel;
                return context?.isReady && kernel?.connectionStatus === "connected" && kernel.status === "idle";
            }"""
        )
        yield Notebook(page)
        page.close()
