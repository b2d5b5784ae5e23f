"""Make `docs/images/merge-panel.webp`: a merge by mouse in JupyterLab, from the drag to the report, and then a refusal.

Usage: ``python scripts/moving_picture.py``. It needs what ``scripts/setup --tests`` installs, and Pillow (``pip install
pillow``), which joins the pictures.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from playwright.sync_api import Locator, expect  # noqa: E402
from support.browser import Notebook, chromium, notebook  # noqa: E402 - where the tests are

PICTURE = ROOT / "docs" / "images" / "merge-panel.webp"
MOST = 1_000_000  # bytes
WIDTH, HEIGHT = 960, 660
POINTER = """() => {
    const pointer = document.createElement("div");
    pointer.style = "position: fixed; width: 18px; height: 18px; margin: -9px; border-radius: 9px; z-index: 9999;"
        + "background: rgba(213, 94, 0, 0.6); pointer-events: none; left: -50px";
    document.body.append(pointer);
    for (const kind of ["mousemove", "pointermove", "dragover"])
        document.addEventListener(kind, (event) => {
            pointer.style.left = `${event.clientX}px`;
            pointer.style.top = `${event.clientY}px`;
        }, true);
}"""


class Film:
    """Pictures of one panel, with the time that each of them stays."""

    def __init__(self) -> None:
        self.pictures: list[Image.Image] = []
        self.times: list[int] = []
        self.top = 0.0

    def look(self, root: Locator) -> None:
        """Let the next pictures begin at the top of the panel, and end with the window and the decision bar."""
        box = root.bounding_box()
        assert box is not None
        self.top = max(0.0, box["y"] - 8)

    def take(self, root: Locator, milliseconds: int) -> None:
        """Take a picture."""
        place = root.bounding_box()
        assert place is not None
        clip = {"x": place["x"] - 8, "y": self.top, "width": WIDTH, "height": HEIGHT}
        shot = Image.open(io.BytesIO(root.page.screenshot(clip=clip)))
        self.pictures.append(shot.convert("RGB").quantize(64).convert("RGB"))
        self.times.append(milliseconds)

    def drag(self, root: Locator, name: str, onto: str) -> None:
        """Drag one image onto another, slowly enough to be seen."""
        boxes = [root.locator(f"[data-path$='/{image}.qcow2']").first.bounding_box() for image in (name, onto)]
        (x, y), (to_x, to_y) = ((box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes if box)
        mouse = root.page.mouse
        mouse.move(x, y)
        self.take(root, 700)
        mouse.down()
        for step in range(1, 9):
            mouse.move(x + (to_x - x) * step / 8, y + (to_y - y) * step / 8)
            self.take(root, 110)
        self.take(root, 500)
        mouse.up()

    def press(self, root: Locator, button: Locator) -> None:
        """Press a button, with the pointer on it."""
        button.hover()
        self.take(root, 900)
        button.click()

    def save(self) -> None:
        """Join the pictures into one that moves."""
        first, *others = self.pictures
        first.save(PICTURE, save_all=True, append_images=others, duration=self.times, loop=0, lossless=True, method=6)
        size = PICTURE.stat().st_size
        print(f"saved {PICTURE}, {len(self.pictures)} pictures, {size} bytes")
        assert size < MOST


def make(nb: Notebook, film: Film) -> None:
    """Merge once, and be refused once."""
    nb.python("import vmsnap_nb as vs\nfrom vmsnap_nb import panels\nlab = vs.Lab()")
    nb.page.evaluate("jupyterapp.shell.collapseLeft()")
    nb.page.set_viewport_size({"width": 1120, "height": 825})
    nb.page.evaluate(POINTER)

    root = nb.show("panels.MergePanel(lab.scenario('merge'))")
    film.look(root)
    film.take(root, 1500)
    film.drag(root, "Snap-3", "Snap-1")
    merge = root.get_by_role("button", name="Merge now")
    expect(merge).to_be_visible()
    nb.page.wait_for_timeout(600)  # the figure moves
    film.take(root, 3500)
    root.get_by_role("checkbox").last.check()
    film.press(root, merge)
    close = root.get_by_role("button", name="Close")
    expect(close).to_be_visible()
    nb.page.wait_for_timeout(600)
    film.take(root, 3500)
    film.press(root, close)

    root = nb.show("panels.MergePanel(lab.scenario('figure-2'))")
    film.look(root)
    film.take(root, 1000)
    film.drag(root, "Overlay-1A", "RootBase")
    expect(root.get_by_role("button", name="Merge now")).to_be_disabled()
    nb.page.wait_for_timeout(600)
    film.take(root, 5000)
    nb.python("panel.close(); lab.destroy()")


def main() -> None:
    """Start JupyterLab on an empty folder, and make the picture."""
    film = Film()
    with (
        tempfile.TemporaryDirectory(prefix="v", dir="/tmp") as folder,
        chromium() as browser,
        notebook(browser, Path(folder)) as nb,
    ):
        make(nb, film)
    film.save()


if __name__ == "__main__":
    main()
