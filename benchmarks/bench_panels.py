"""From click to picture: what panels take in Python to read, draw and hand over, for many images and many snapshots.

Usage: ``python benchmarks/bench_panels.py``. The browser's own part is not in it: a figure of many images folds, so
that it takes some 2 ms, however many there are (``tests/panels/test_browser_chain_view.py``).
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import vmsnap_nb as vs
from vmsnap_nb.panels import MergePanel, SnapshotPanel
from vmsnap_nb.panels.panel import Panel

LIMIT = 300


def make(folder: Path, count: int) -> None:
    base = folder / "base.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(base), "4M"], check=True, timeout=60)
    for number in range(count - 1):
        path = folder / f"overlay-{number:04}.qcow2"
        if number == 0:
            command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(path)]
            subprocess.run(command, check=True, timeout=60)
            content = path.read_bytes()
        else:
            path.write_bytes(content)


def measure(what: str, panel: Panel, change: Callable[[], None]) -> None:
    """Read again and draw, five times, something being new each time."""
    times = []
    for _ in range(5):
        change()
        panel.reading = None
        began = time.perf_counter()
        panel.refresh()
        times.append(time.perf_counter() - began)
        assert panel.last_error is None, panel.last_error
    print(f"{what}: read again and drawn in {1000 * statistics.median(times):6.1f} ms (limit {LIMIT})")


def main() -> None:
    for count in (10, 200, 1000):
        with tempfile.TemporaryDirectory() as name:
            make(Path(name), count)
            panel: Panel = MergePanel(vs.scan(name), every=0)
            measure(f"{count:5} images", panel, (Path(name) / "base.qcow2").touch)
            panel.close()
    with tempfile.TemporaryDirectory(prefix="v", dir="/tmp") as name:
        lab = vs.Lab(Path(name) / "lab")
        guest = lab.guest("many", backing=lab.base())
        for number in range(200):
            guest.handle.domain.snapshotCreateXML(f"<domainsnapshot><name>snap{number}</name></domainsnapshot>")
        panel = SnapshotPanel(guest, every=0)
        measure("  200 snapshots", panel, lambda: None)
        panel.close()
        lab.destroy()


if __name__ == "__main__":
    main()
