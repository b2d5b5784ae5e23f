"""Put together what the documentation's page *Playground* serves: Pyodide, the package, images, and the page's code.

    python scripts/playground.py FOLDER

Nothing is fetched: `scripts/setup --docs` has put Pyodide into .venv. The images are made by qemu-img and qemu-io.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

from vmsnap_nb.errors import MissingPartError
from vmsnap_nb.lab.breaking import forget_backing_format
from vmsnap_nb.lab.exercises.reading import STRANGERS
from vmsnap_nb.lab.scenarios import SCENARIOS, Layer, make_layers
from vmsnap_nb.system import process
from vmsnap_nb.words.message import Message

ROOT = Path(os.path.abspath(__file__)).parent.parent
PYODIDE = Path(sys.prefix) / "share" / "vmsnap_nb" / "pyodide" / "node_modules" / "pyodide"
SERVED = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
OWN = {
    "docs/playground": ("page.js", "page.css", "worker.js", "session.mjs", "LICENSES.txt"),
    "vmsnap_nb/panels": ("chain_view.js", "chain_view.css"),
}
LENT = ("wcwidth",)
"""Python packages that the package needs in a browser, as they are installed here: with their licences."""
_DISK = 16 << 20
_TRIED = Message("make the images of the playground")


def main(target: Path) -> None:
    """Write everything into a folder."""
    if not PYODIDE.exists():
        raise MissingPartError("build the playground", why=f"{PYODIDE} is missing", next_step="scripts/setup --docs")
    shutil.rmtree(target, ignore_errors=True)
    (target / "pyodide").mkdir(parents=True)
    for name in SERVED:
        shutil.copyfile(PYODIDE / name, target / "pyodide" / name)
    for folder, names in OWN.items():
        for name in names:
            shutil.copyfile(ROOT / folder / name, target / name)
    archives = [build_wheel(target), *(lend(name, target) for name in LENT)]
    pack_images(target / "images.zip")
    (target / "archives.json").write_text(json.dumps(archives))


def build_wheel(target: Path) -> str:
    """Build the package; return the name of its file."""
    argv = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(argv, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = target.glob("*.whl")
    return wheel.name


def lend(name: str, target: Path) -> str:
    """Pack the Python of an installed package, which must work without the rest; return the name of the archive."""
    archive = target / f"{name}-{distribution(name).version}-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in distribution(name).files or ():
            if file.suffix == ".py" or file.parent.suffix == ".dist-info" or "licenses" in file.parts:
                packed.write(str(file.locate()), str(file))
    return archive.name


def pack_images(archive: Path) -> None:
    """Make the images of all scenes and tasks, and pack them."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        root = Path(folder)
        make_images(root)
        for path in sorted(root.rglob("*.*")):
            packed.write(path, path.relative_to(root))


def make_images(root: Path) -> None:
    """Make a folder of images for each scene and each task."""
    for name, layers in SCENARIOS.items():
        make_layers(layers, root / name, size=_DISK)
    make_layers(_row(*STRANGERS), root / "read-needed", size=_DISK)
    make_layers(_row(("Diary", ""), ("monday", "Diary"), ("tuesday", "monday")), root / "read-monday", size=_DISK)
    _break(root / "broken")


def _row(*names: tuple[str, str]) -> list[Layer]:
    return [Layer(f"{name}.qcow2", base and f"{base}.qcow2") for name, base in names]


def _break(folder: Path) -> None:
    """Make chains with a missing image, an overlay that does not record its backing format, and a loop."""
    chain = ("Base", ""), ("Overlay-1", "Base"), ("Overlay-1A", "Overlay-1"), ("Overlay-1B", "Overlay-1A")
    make_layers(_row(*chain, ("Overlay-2", "Base"), ("Loop-1", ""), ("Loop-2", "Loop-1")), folder, size=_DISK)
    (folder / "Overlay-1A.qcow2").unlink()
    forget_backing_format(folder / "Overlay-2.qcow2", _TRIED)
    turned = ("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "Loop-2.qcow2")
    process.run((*turned, str(folder / "Loop-1.qcow2")), tried=_TRIED)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
