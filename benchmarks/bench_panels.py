"""From click to picture: what a panel takes in Python to read, draw and hand over, for large forests.

Usage: ``python benchmarks/bench_panels.py``. The browser's own part is not in it.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import vmsnap_nb as vs
from vmsnap_nb.panels import MergePanel


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


def main() -> None:
    for count in (10, 200, 1000):
        with tempfile.TemporaryDirectory() as name:
            make(Path(name), count)
            panel = MergePanel(vs.scan(name), every=0)
            times = []
            for _ in range(5):
                (Path(name) / "base.qcow2").touch()  # something to read and to draw
                panel.reading = None
                began = time.perf_counter()
                panel.refresh()
                times.append(time.perf_counter() - began)
                assert panel.last_error is None
            panel.close()
            print(f"{count:5} images: read again and drawn in {1000 * statistics.median(times):6.1f} ms (limit 300)")


if __name__ == "__main__":
    main()
