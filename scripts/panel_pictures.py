"""Make `docs/images/panel-*.png`: each panel as it looks in JupyterLab, on a real guest.

Usage: ``python scripts/panel_pictures.py``. It wants what ``scripts/setup --tests`` installs, and of Debian's packages
``pngquant`` and a font that has Chinese, as ``fonts-wqy-microhei``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from playwright.sync_api import Locator, expect  # noqa: E402
from support.browser import Notebook, chromium, notebook  # noqa: E402 - where the tests are

PICTURES = ROOT / "docs" / "images"
MOST = 80_000  # bytes: they lie in notebooks

SETUP = """
import vmsnap_nb as vs
from vmsnap_nb import panels
lab = vs.Lab()
base = lab.base("RootBase")
lab.guest("mail", backing=base)
vm = lab.guest("demo", backing=base).start()
for name, kind in (("installed", "external-disk"), ("updated", "external-disk"), ("课前", "external-checkpoint")):
    vm.execute(f"head -c 3000000 /dev/urandom > /{name}; sync").check()
    vm.snapshot(name, kind=kind, description=f"with the file /{name}").run(progress=False)
"""


def save(root: Locator, name: str) -> None:
    """Save what is seen of a panel without scrolling: the decision bar is at its lower edge."""
    path = PICTURES / f"panel-{name}.png"
    place, window = root.bounding_box(), root.page.locator(".jp-WindowedPanel-outer").bounding_box()
    assert place is not None
    assert window is not None
    top = max(place["y"], window["y"])
    end = min(place["y"] + place["height"], window["y"] + window["height"])
    root.page.mouse.move(5, 5)
    root.page.screenshot(path=path, clip={"x": place["x"], "y": top, "width": place["width"], "height": end - top})
    subprocess.run(["pngquant", "--force", "--ext=.png", "64", path], check=True, timeout=60)
    size = path.stat().st_size
    print(f"saved {path}, {size} bytes")
    assert size < MOST, path


def planned(root: Locator) -> None:
    """Wait until a plan is shown."""
    expect(root.get_by_text("Nothing has been changed yet.", exact=True)).to_be_visible()
    expect(root.get_by_role("button", name="Discard")).to_be_visible()


def make(nb: Notebook) -> None:
    """Make all pictures."""
    nb.python(SETUP)
    nb.page.evaluate("jupyterapp.shell.collapseLeft()")
    nb.page.emulate_media(reduced_motion="reduce")  # no picture of a figure that moves
    nb.page.set_viewport_size({"width": 1120, "height": 940})

    root = nb.show("panels.OverlayPanel(vm)")
    root.locator("[data-path$='/RootBase.qcow2']").click()
    root.get_by_label("Name").fill("第一课")
    root.get_by_role("button", name="Create overlay…").click()
    planned(root)
    save(root, "overlay")

    root = nb.show("vs.panel(vm)")
    root.locator("[data-path=updated]").click()
    expect(root.get_by_text("KiB").first).to_be_visible()  # the sizes, which are measured
    save(root, "snapshot")

    root = nb.show("panels.MergePanel(vm)")
    root.locator("[data-path$='/demo.updated.qcow2']").drag_to(root.locator("[data-path$='/demo.qcow2']"))
    planned(root)
    save(root, "merge")

    root = nb.show("panels.MergePanel(lab.scenario('figure-2'))")
    root.locator("[data-path$='/Overlay-1A.qcow2']").drag_to(root.locator("[data-path$='/RootBase.qcow2']"))
    expect(root.get_by_role("button", name="Pull up instead")).to_be_visible()
    save(root, "refused")

    nb.set_dark(True)
    root = nb.show("vs.panel(lab)")
    command = root.get_by_label("Command")
    command.fill("ls -l /installed")
    command.press("Enter")
    expect(root.get_by_text("3000000")).to_be_visible()
    command.fill("test -e /missing")
    command.press("Enter")
    expect(root.get_by_text("exit 1").first).to_be_visible()
    save(root, "lab")
    nb.python("panel.close(); lab.destroy()")


def main() -> None:
    """Start JupyterLab on an empty folder, and make them."""
    with (
        tempfile.TemporaryDirectory(prefix="v", dir="/tmp") as folder,
        chromium() as browser,
        notebook(browser, Path(folder)) as nb,
    ):
        make(nb)


if __name__ == "__main__":
    main()
