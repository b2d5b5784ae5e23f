"""How long a folder takes on a file system that is slow to open files, and on a fast one, with threads and without.

Run as root: ``python benchmarks/bench_slow_files.py [--images 1000] [--delay 1]``. FUSE shows the same folder with a
delay (ms) of each open; it is a process of its own, and takes what FUSE takes besides.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from vmsnap_nb.system import pace
from vmsnap_nb.system.survey import Survey

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support.images import create
from support.slow_files import slow_files


def read(folder: Path, *, threads: bool, rounds: int) -> tuple[float, float]:
    """Return the best time of reading a folder, and of the processor."""
    found = []
    with mock.patch.object(pace, "_SLOW", pace._SLOW if threads else 1e9):
        for _ in range(rounds):
            began, busy = time.perf_counter(), time.process_time()
            Survey((str(folder),)).read()
            found.append((time.perf_counter() - began, time.process_time() - busy))
    return min(found)[0], min(busy for _, busy in found)


def opened(folder: Path, rounds: int) -> float:
    """Return the processor time of opening and reading all files, and no more."""
    found = []
    for _ in range(rounds):
        busy = time.process_time()
        for path in folder.iterdir():
            with open(path, "rb") as file:
                file.read(4096)
        found.append(time.process_time() - busy)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--delay", type=float, default=1, help="ms of each open")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vmsnap-bench-") as place:
        folder = Path(place, "images")
        folder.mkdir()
        first = create(folder / "0.qcow2")
        for number in range(1, options.images):
            shutil.copy(first, folder / f"{number}.qcow2")
        time.sleep(0.1)
        with slow_files(folder, Path(place, "slow"), options.delay / 1000) as slow:
            read(slow, threads=True, rounds=1)  # the kernel knows all names then
            many, _ = read(slow, threads=True, rounds=options.rounds)
            one, _ = read(slow, threads=False, rounds=options.rounds)
        print(f"slow: {one:.2f} s one after the other, {many:.2f} s in threads: {one / many:.1f} x (goal 8)")
        _, with_threads = read(folder, threads=True, rounds=options.rounds)
        _, without = read(folder, threads=False, rounds=options.rounds)
        alone = opened(folder, options.rounds)
        print(
            f"fast, of the processor: {with_threads * 1000:.0f} ms, {without * 1000:.0f} ms if nothing is looked at, "
            f"open() and read {alone * 1000:.0f} ms: {with_threads / alone:.1f} x (goal 2)"
        )


if __name__ == "__main__":
    main()
