"""How long a survey of 1,000 images takes, against qemu-img and against merely opening and reading the files.

Run: ``python benchmarks/bench_survey.py [--images 1000] [--repeat 9] [--sample 100]``. It makes the forest of the tests
in a temporary folder (about 15 s), then measures all ways in turn, several times over, so that a busy machine disturbs
all of them alike; before each, all files are read once, so that all find the same caches. Printed are medians, with
the medians of the ratios within each turn, and the best of all turns, which on a busy machine says more. The qemu-img
ways are measured on a random sample in each turn and scaled up, since every image is a process of its own there:
``--sample 0`` measures all.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.system.survey import Survey

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support.images import Tree, make_forest


def use(forest: Forest) -> None:
    """Ask what a table of the forest asks: the work is done once and kept in the forest."""
    for path in forest.images:
        forest.depth(path)
        forest.children(path)
    assert not forest.loops


def first_survey(folder: str) -> None:
    use(Survey((folder,)).read())


def files(folder: str) -> Iterator[str]:
    """List the files that a survey has to read: it does not know them beforehand either."""
    waiting = [folder]
    for place in waiting:
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    yield entry.path
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def limit(folder: str) -> None:
    for path in files(folder):
        with open(path, "rb") as file:
            file.read(4096)


def limit_unbuffered(folder: str) -> None:
    for path in files(folder):
        fd = os.open(path, os.O_RDONLY)
        os.read(fd, 4096)
        os.close(fd)


def info(paths: list[str], *options: str) -> None:
    for path in paths:
        argv = ["qemu-img", "info", "--output=json", *options, path]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def processor(folder: str, repeat: int) -> list[tuple[float, float]]:
    """Return the processor time of a survey and of open() and read in pairs: other processes hardly change it."""
    pairs = []
    for _ in range(repeat):
        began = time.process_time()
        limit(folder)
        between = time.process_time()
        Survey((folder,)).read()
        pairs.append((time.process_time() - between, between - began))
    return pairs


def measure(tree: Tree, repeat: int, sample: int) -> dict[str, list[float]]:
    folder = str(tree.folder)
    paths = [str(path) for path in tree.paths]
    leaves = [str(path) for path in tree.leaves]
    chance = random.Random(0)
    kept = Survey((folder,))
    use(kept.read())
    times: dict[str, list[float]] = {}
    for _ in range(repeat):
        some = chance.sample(paths, min(sample or len(paths), len(paths)))
        tops = chance.sample(leaves, min(sample or len(leaves), len(leaves)))
        ways: dict[str, tuple[Callable[[], None], float]] = {
            "survey": (lambda: first_survey(folder), 1),
            "survey again": (lambda: use(kept.read()), 1),
            "limit: list, open(), read": (lambda: limit(folder), 1),
            "limit: list, os.open(), os.read": (lambda: limit_unbuffered(folder), 1),
            "qemu-img info": (lambda some=some: info(some), len(paths) / len(some)),
            "qemu-img info --backing-chain": (
                lambda tops=tops: info(tops, "--backing-chain"),
                len(leaves) / len(tops),
            ),
        }
        for name, (work, scale) in ways.items():
            limit_unbuffered(folder)
            times.setdefault(name, []).append(seconds(work) * scale)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--sample", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vmsnap-bench-") as folder:
        tree = make_forest(Path(folder), options.images)
        depths = [tree.depth(path) for path in tree.leaves]
        print(
            f"{len(tree.paths)} images, {len(tree.leaves)} leaves, chains of {statistics.median(depths):.0f} images "
            f"in the median and {max(depths)} at most"
        )
        os.sync()
        time.sleep(0.1)  # a survey keeps nothing of files that changed just before
        times = measure(tree, options.repeat, options.sample)
        pairs = processor(folder, options.repeat)
    ours = times["survey"]
    print(f"\n{'':32}{'median':>12}{'best':>12}{'ratio to our survey: median':>30}{'best':>9}")
    for name, taken in times.items():
        ratio = statistics.median(other / own for other, own in zip(taken, ours, strict=True))
        middle, best = statistics.median(taken), min(taken)
        print(f"{name:32}{middle * 1e3:9.1f} ms{best * 1e3:9.1f} ms{ratio:30.2f}{best / min(ours):9.2f}")
    ratio = statistics.median(survey / opened for survey, opened in pairs)
    best = min(survey for survey, _ in pairs) / len(tree.paths)
    print(f"processor time: {ratio:.2f} times that of open() and read (goal 2), {best * 1e6:.1f} us an image (goal 20)")
    print(f"goals: qemu-img info 400, --backing-chain 90, limit 0.5; load of this machine: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
