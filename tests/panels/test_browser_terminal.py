"""A terminal on a guest's serial console, in a real JupyterLab: keys, Ctrl-C, size, and how it ends."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect
from support.browser import Notebook, chromium, notebook, violations
from support.waiting import eventually

pytestmark = pytest.mark.browser

LONG = 60_000
SETUP = """
import threading
import vmsnap_nb as vs
lab = vs.Lab()
vm = lab.guest("demo", backing=lab.base("RootBase"))
vm.start()
"""
THREADS = "print([one.name for one in threading.enumerate() if one.name.startswith('vmsnap terminal')])"


@pytest.fixture
def nb() -> Iterator[Notebook]:
    folder = Path(tempfile.mkdtemp(prefix="v", dir="/tmp"))
    with chromium() as browser, notebook(browser, folder) as nb:
        nb.python(SETUP)
        yield nb
        nb.python("panel.close(); lab.destroy()")
    shutil.rmtree(folder)


def lines(root: Locator) -> list[str]:
    """Return what the terminal shows, without the spaces at the ends of lines."""
    text = root.locator(".xterm-rows").inner_text().replace("\xa0", " ")
    return [line.rstrip() for line in text.split("\n")]


def ends_in_prompt(root: Locator) -> bool:
    """Return whether an empty line was answered by a prompt."""
    return [line for line in lines(root) if line][-2:] == ["demo:~#"] * 2


def test_a_terminal_in_the_guest(nb: Notebook) -> None:
    root = nb.show("vs.panel(lab)")
    assert nb.python("print(panel.guest_page.switch.terminal)") == "None"  # a browser gets xterm.js when it is opened
    root.get_by_role("button", name="Terminal", exact=True).click()
    keys, place = nb.page.keyboard, root.get_by_role("textbox", name="Serial console of demo")
    expect(place).to_be_focused(timeout=LONG)
    assert eventually(lambda: any(line.startswith("demo:~#") for line in lines(root)))
    keys.type("echo made-$((40 + 2)); sleep 600\n")
    assert eventually(lambda: "made-42" in lines(root))
    assert eventually(lambda: "sleep 600" in nb.python("print(vm.execute('ps').stdout)"))  # no more the shell's Ctrl-C
    keys.press("Control+c")
    keys.type("echo ended-$?\n")
    assert eventually(lambda: "ended-130" in lines(root))

    def size() -> tuple[int, int]:
        rows, columns = nb.python("print(vm.execute('stty -F /dev/ttyS0 size').stdout)").split()
        return int(rows), int(columns)

    assert eventually(lambda: size()[1] > 80)
    nb.page.set_viewport_size({"width": 600, "height": 1000})
    assert eventually(lambda: 10 < size()[1] < 70)
    assert violations(nb.page, ".vmsnap-serial") == []
    nb.page.set_viewport_size({"width": 1400, "height": 1000})

    place.focus()
    keys.press("Shift+Tab")
    expect(place).not_to_be_focused()
    nb.python("vm.destroy()")
    expect(root.get_by_text("The terminal connects as soon as the guest is running.")).to_be_visible(timeout=LONG)
    assert eventually(lambda: nb.python(THREADS) == "[]")
    nb.python("vm.start()")
    assert eventually(lambda: nb.python("print(panel.guest_page.switch.terminal._console is not None)") == "True")
    place.focus()
    assert eventually(lambda: keys.press("Enter") is None and ends_in_prompt(root))  # the shell reads by now
    keys.type("echo again-$((1 + 1))\n")
    assert eventually(lambda: "again-2" in lines(root))

    nb.run_cell("panel")  # another view of it, as after a page is loaded again
    assert eventually(lambda: root.locator(".xterm-rows").count() == 1 and "again-2" in lines(root))
    place.focus()
    nb.python("from vmsnap_nb.panels import terminal; terminal._MOST_UNSEEN = 4096")
    keys.type("yes | head -c 20000; echo whole-$((2 + 2))\n")  # more than may be under way
    assert eventually(lambda: "whole-4" in lines(root))
    nb.python("panel.close()")
    assert eventually(lambda: nb.python(THREADS) == "[]")
    nb.python("vm.commands.open_terminal().close()")  # nobody has it any more
