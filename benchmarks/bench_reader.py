"""What reading images here takes, against QEMU's tools on the same images in the same run.

`qemu-img convert` cannot write to a pipe; it writes to the device `null-co`, which takes whatever it is given.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import vmsnap_nb as vs
from vmsnap_nb.system.disk.open import open_disk
from vmsnap_nb.system.maps import MapReader
from vmsnap_nb.system.qemu.blockmap import map_argv
from vmsnap_nb.system.sources.source import new_buffer

MIB = 1 << 20
MAP_GOAL, READ_GOAL, PLAN_GOAL = 20.0, 0.5, 0.4
FILES, CHANGED = 5000, 50


def run(*argv: object) -> None:
    subprocess.run([str(word) for word in argv], check=True, stdout=subprocess.DEVNULL)


def overlays(folder: Path, count: int, size: int, commands: Callable[[int], list[str]]) -> list[Path]:
    """Make a chain, each layer written to by commands of qemu-io."""
    paths: list[Path] = []
    for number in range(count):
        path = folder / f"o{number}.qcow2"
        below = ("-F", "qcow2", "-b", paths[-1], "-u") if paths else ()
        run("qemu-img", "create", "-q", "-f", "qcow2", *below, path, size)
        run("qemu-io", "-t", "unsafe", "-f", "qcow2", *(word for c in commands(number) for word in ("-c", c)), path)
        paths.append(path)
    return paths


def many(folder: Path, count: int) -> None:
    """Make a long chain by copying one overlay: only the name of the backing file differs."""
    overlays(folder, 2, 64 * MIB, lambda number: [f"write -q {number + 1}M 64k", "write -q 40M 128k"])
    content = bytearray((folder / "o1.qcow2").read_bytes())
    place = int.from_bytes(content[8:16])
    for number in range(1, count):
        name = str(folder / f"o{number - 1}.qcow2").encode()
        content[place : place + len(name)] = name
        content[16:20] = len(name).to_bytes(4)
        (folder / f"o{number}.qcow2").write_bytes(content)


def in_turns(rounds: int, *works: Callable[[], object]) -> list[float]:
    """Return the best time of each: what else the machine does meets all of them."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, taken in zip(works, times, strict=True):
            began = time.perf_counter()
            work()
            taken.append(time.perf_counter() - began)
    return [min(taken) for taken in times]


def maps(folder: Path, rounds: int) -> bool:
    # Every layer has 50 parts, which differ from those of the others.
    paths = overlays(
        folder, 10, 1024 * MIB, lambda number: [f"write -q {20 * n * MIB + number * 65536} 64k" for n in range(50)]
    )
    chain = vs.chain(paths[-1])

    def theirs() -> None:
        for path in paths:
            run(*map_argv(str(path), "qcow2"))

    ours, other = in_turns(rounds, lambda: MapReader().read(chain), theirs)
    whole = in_turns(rounds, lambda: vs.chain(paths[-1]).blockmap())[0]
    print(f"map of 10 layers of 1 GiB: {ours * 1000:.1f} ms, qemu-img map of each {other * 1000:.0f} ms")
    print(f"  {other / ours:.0f} x as fast (goal {MAP_GOAL:.0f}); with reading the chain {whole * 1000:.1f} ms")
    return other / ours >= MAP_GOAL


def plans(folder: Path, rounds: int, count: int) -> bool:
    many(folder, count)
    times, busy = [], []
    for _ in range(rounds):
        forest = vs.scan(folder)
        vs.live.reading._MAPS.__init__()  # type: ignore[misc]
        began, worked = time.perf_counter(), time.process_time()
        plan = forest.commit(f"o{count - 2}", "o1")
        times.append(time.perf_counter() - began)
        busy.append(time.process_time() - worked)
        assert plan.bytes_to_copy is not None
    yardstick = in_turns(3, lambda: run("qemu-img", "map", "-U", "--output=json", folder / "o0.qcow2"))[0]
    took = f"{min(times):.2f} s, median {statistics.median(times):.2f}, of the processor {min(busy):.2f}"
    print(f"plan of a merge of {count - 2} layers: {took} (goal {PLAN_GOAL})")
    print(f"  as long as {min(times) / yardstick:.0f} times qemu-img map of one image ({yardstick * 1000:.0f} ms)")
    return min(busy) <= PLAN_GOAL  # the rest is what else the machine does


def content(folder: Path, rounds: int, mib: int) -> bool:
    # A base of all, and above it layers with 1 MiB in every 8, so that all five are read from.
    def commands(number: int) -> list[str]:
        if number == 0:
            return [f"write -q -P 17 {start}M 64M" for start in range(0, mib, 64)]
        return [f"write -q -P {number} {start + number}M 1M" for start in range(0, mib, 8)]

    paths = overlays(folder, 5, mib * MIB, commands)
    chain = vs.chain(paths[-1])
    buffer = new_buffer(MIB)

    def ours() -> None:
        with open_disk(chain) as disk:
            for start in range(0, disk.size, len(buffer)):
                assert disk.pread_into(start, buffer) == len(buffer)

    def theirs() -> None:
        null = f"driver=null-co,size={mib * MIB}"
        run("qemu-img", "convert", "-n", "-f", "qcow2", "--target-image-opts", paths[-1], null)

    mine, other = in_turns(rounds, ours, theirs)
    print(f"{mib} MiB of guest data through 5 layers: {mine:.2f} s, qemu-img convert {other:.2f} s")
    print(f"  {other / mine:.2f} x its speed (goal {READ_GOAL})")
    return other / mine >= READ_GOAL


def diffs(folder: Path, rounds: int, files: int) -> bool:
    """Measure which files a layer changed, against taking all files out of both states and comparing these."""
    tree, disk, top = folder / "tree", folder / "disk.img", folder / "top.qcow2"
    chance = random.Random(1)
    for number in range(files):
        path = tree / f"{number % 50}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(chance.randrange(100, 40_000)))
    disk.touch()
    os.truncate(disk, 1024 * MIB)
    run("/usr/sbin/mkfs.ext4", "-q", "-F", "-d", tree, disk)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", disk, top)
    # A block of each of some files is written to, as by a guest.
    chain = vs.chain(top)
    names = sorted(f"/{number % 50}/{number}" for number in range(0, files, files // CHANGED))
    places = [next(part.place for part in chain.where(name) if part.place is not None) for name in names]
    commands = [word for place in places for word in ("-c", f"write -q -P 7 {place} 64")]
    run("qemu-io", "-t", "unsafe", "-f", "qcow2", *commands, top)
    chain = vs.chain(top)
    found: list[str] = []

    def ours() -> None:
        found[:] = [change.path for change in chain.changes("top")]

    def theirs() -> None:
        for state, image in (("before", disk), ("after", top)):
            raw, out = folder / f"{state}.raw", folder / state
            run("qemu-img", "convert", "-O", "raw", image, raw)
            out.mkdir()
            subprocess.run(["/usr/sbin/debugfs", "-R", f"rdump / {out}", raw], check=True, capture_output=True)
        done = subprocess.run(["diff", "-rq", folder / "before", folder / "after"], capture_output=True, check=False)
        assert len(done.stdout.splitlines()) == len(names)
        for state in ("before", "after"):
            shutil.rmtree(folder / state)

    mine, other = in_turns(min(rounds, 3), ours, theirs)
    assert found == names
    print(f"what a layer changed among {files} files: {mine:.2f} s, by convert, debugfs and diff {other:.2f} s")
    print(f"  {other / mine:.1f} x as fast")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=1500)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--only", choices=("maps", "plans", "content", "diffs"), help="only one of them")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    reached = True
    works = ((maps, ()), (plans, (options.layers,)), (content, (options.mib,)), (diffs, (options.files,)))
    for work, more in works:
        if options.only not in (None, work.__name__):
            continue
        folder = Path(tempfile.mkdtemp(prefix="vmsnap-bench-", dir="/dev/shm"))
        try:
            reached &= work(folder, options.rounds, *more)
        finally:
            shutil.rmtree(folder)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
