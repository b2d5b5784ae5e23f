"""How long merges take: against the same done by qemu-img, and `shorten` against merging layer by layer.

All times include the data being on the disk. The ratios are what counts; each pair is measured in turns.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import vmsnap_nb as vs
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.merge.request import CommitRequest
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.system.libvirt.library import library

MIB = 1 << 20


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def create(path: Path, backing: Path | None, size: int) -> Path:
    below = () if backing is None else ("-F", "qcow2", "-b", str(backing))
    run("qemu-img", "create", "-q", "-f", "qcow2", *below, str(path), str(size))
    return path


def write(path: Path, start: int, size: int, pattern: int) -> None:
    run("qemu-io", "-f", "qcow2", "-c", f"write -q -P {pattern} {start} {size}", str(path))


def timed(work: Callable[[], object]) -> float:
    os.sync()
    began = time.perf_counter()
    work()
    os.sync()
    return time.perf_counter() - began


def compare(
    title: str,
    make: Callable[[Path], object],
    ours: Callable[[Path], object],
    theirs: Callable[[Path], object],
    runs: int,
    end: Callable[[], object] = lambda: None,
) -> float:
    """Time both in turns and print the ratios; a first pair, in which libvirt and the caches get ready, is left out."""
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for number in range(runs + 1):
        order = [("ours", ours), ("theirs", theirs)]
        for name, work in order if number % 2 else reversed(order):
            folder = Path(tempfile.mkdtemp(prefix="vmsnap-bench-"))
            try:
                make(folder)
                taken = timed(lambda folder=folder, work=work: work(folder))  # type: ignore[misc]
                if number:
                    times[name].append(taken)
            finally:
                end()
                shutil.rmtree(folder)
    mine, other = min(times["ours"]), min(times["theirs"])
    spread = ", ".join(f"{name} {min(t):.2f} to {max(t):.2f} s" for name, t in times.items())
    pairs = statistics.median(a / b for a, b in zip(times["ours"], times["theirs"], strict=True))
    ratios = f"ratio {mine / other:.3f}, median of pairs {pairs:.3f}"
    print(f"{title}: {mine:.2f} s, by hand {other:.2f} s, {ratios} ({spread})", flush=True)
    return other / mine


def one_overlay(folder: Path, base: int, overlay: int, extra: bool) -> None:
    create(folder / "base", None, 2048 * MIB)
    write(folder / "base", 0, base, 1)
    create(folder / "top", folder / "base", 2048 * MIB)
    write(folder / "top", 512 * MIB, overlay, 2)
    if extra:
        create(folder / "leaf", folder / "top", 2048 * MIB)


def eight(folder: Path, size: int) -> None:
    below = create(folder / "base", None, 2048 * MIB)
    write(below, 1024 * MIB, size, 9)
    for number in range(8):
        path = create(folder / f"top-{number}", below, 2048 * MIB)
        write(path, 0, size, number + 1)
        below = path


def layer_by_layer(folder: Path) -> None:
    for number in range(7, 0, -1):
        run("qemu-img", "commit", "-q", "-d", "-f", "qcow2", str(folder / f"top-{number}"))


def pure(images: int, chain: int) -> None:
    found: dict[str, Image] = {}
    for number in range(images):
        path = f"/i/{number}"
        below = None if number % chain == 0 else f"/i/{number - 1}"
        reference = None if below is None else Reference(below, "absolute", below, "qcow2")
        found[path] = Image(path, "qcow2", virtual_size=MIB, backing=reference)
    forest = Forest(found, folders=("/i",))
    times = []
    for _ in range(5):
        fresh = Forest(dict(found), folders=forest.folders)
        began = time.perf_counter()
        plan = CommitRequest(top=f"/i/{chain - 2}", base="/i/1").plan(Reading(forest=fresh))
        planned = time.perf_counter()
        plan.to_text()
        times.append((planned - began, time.perf_counter() - began))
    plan_only = statistics.median(t[0] for t in times)
    print(f"plan of {images} images, chain of {chain}: {plan_only * 1000:.1f} ms; ", end="")
    print(f"with its text figure {statistics.median(t[1] for t in times) * 1000:.1f} ms")


def live(mib: int, runs: int) -> None:
    """Commit a layer of a running guest, against `virsh blockcommit --wait` on the same daemon.

    Root has no session of its own: there it is libvirt's calls in this process, which spare what virsh needs to start.
    """
    root = Path(tempfile.mkdtemp(prefix="v", dir="/tmp"))
    root_user = os.geteuid() == 0
    lab = vs.Lab(root / "l", driver="embed" if root_user else "session")
    numbers = itertools.count()
    guests: dict[Path, Guest] = {}

    def make(folder: Path) -> None:
        one_overlay(folder, 64 * MIB, mib * MIB, extra=True)
        guests[folder] = lab.guest(f"bench{next(numbers)}", backing=folder / "leaf", boot="disk", protect=False)
        guests[folder]._domain.createWithFlags(library().VIR_DOMAIN_START_PAUSED)

    def end() -> None:
        while guests:
            guests.popitem()[1].destroy()

    def theirs(folder: Path) -> None:
        base, top = str(folder / "base"), str(folder / "top")
        if not root_user:
            guest = guests[folder].name
            run("virsh", "-c", lab.uri, "blockcommit", guest, "vda", "--base", base, "--top", top, "--wait")
            return
        domain = guests[folder]._domain
        domain.blockCommit("vda", base, top, 0, 0)
        while domain.blockJobInfo("vda"):
            time.sleep(0.02)

    try:
        compare(
            f"live commit of {mib} MiB, against " + ("libvirt's calls" if root_user else "virsh"),
            make,
            lambda folder: guests[folder].commit(top="top", base="base").run(progress=False),
            theirs,
            runs,
            end,
        )
    finally:
        lab.destroy()
        shutil.rmtree(root, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the large overlay")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--live", action="store_true", help="only the plans and the running guest")
    options = parser.parse_args()
    large = options.mib * MIB
    pure(50, 50)
    pure(1000, 50)
    live(options.mib, options.runs)
    if options.live:
        return

    compare(
        f"commit of {options.mib} MiB",
        lambda folder: one_overlay(folder, 64 * MIB, large, extra=True),
        lambda folder: vs.scan(folder).commit("top").run(progress=False),
        lambda folder: run("qemu-img", "commit", "-q", "-d", "-f", "qcow2", str(folder / "top")),
        options.runs,
    )
    compare(
        f"pull of {options.mib} MiB",
        lambda folder: one_overlay(folder, 64 * MIB, large, extra=True),
        lambda folder: vs.scan(folder).pull("leaf", "base").run(progress=False),
        lambda folder: run(
            "qemu-img", "rebase", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(folder / "base"), str(folder / "leaf")
        ),
        options.runs,
    )
    faster = compare(
        f"shorten: {options.mib} MiB overlay on 64 MiB base",
        lambda folder: one_overlay(folder, 64 * MIB, large, extra=False),
        lambda folder: vs.scan(folder).shorten("top", keep=1).run(progress=False),
        lambda folder: run("qemu-img", "commit", "-q", "-d", "-f", "qcow2", str(folder / "top")),
        options.runs,
    )
    print(f"  {faster:.1f} times as fast")
    faster = compare(
        f"shorten: 8 overlays that write the same {options.mib // 8} MiB",
        lambda folder: eight(folder, large // 8),
        lambda folder: vs.scan(folder).shorten("top-7", keep=2).run(progress=False),
        layer_by_layer,
        options.runs,
    )
    print(f"  {faster:.1f} times as fast")


if __name__ == "__main__":
    main()
