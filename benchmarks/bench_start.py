"""How long a guest takes to be ready: from the memory of a booted kernel, and by a boot.

Each pair is of one machine at one moment. The cache is one of its own, so that the first start, which boots the kernel
and saves its memory, is measured as well. With KVM guests always boot.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from pathlib import Path

import vmsnap_nb as vs
from vmsnap_nb.live.guest import Guest

PAIRS = 5
TICKS = os.sysconf("SC_CLK_TCK")


def processor_time(guest: Guest) -> float:
    """Seconds that the guest's QEMU has computed."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if guest.uuid.encode() in entry.read_bytes():
                fields = (entry.parent / "stat").read_text().rpartition(")")[2].split()
                return (int(fields[11]) + int(fields[12])) / TICKS
    raise RuntimeError(f"{guest.name} has no QEMU")


def start(guest: Guest, timeout: float) -> tuple[float, float]:
    """Return the seconds until it is ready, and those that its QEMU has computed."""
    began = time.perf_counter()
    guest.start(timeout=timeout)
    found = time.perf_counter() - began, processor_time(guest)
    guest.destroy()
    return found


def main() -> None:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="v", dir="/tmp") as folder:
        full, empty = f"{folder}/full", f"{folder}/empty"
        os.environ["VMSNAP_CACHE"] = full
        lab = vs.Lab(Path(folder) / "l")
        print(f"guests are run by {lab.acceleration!r}")
        guest = lab.guest("demo", backing=lab.base("RootBase"))
        print(f"first start: {start(guest, 120)[0]:.1f} s")
        pairs = []
        for _ in range(PAIRS):
            os.environ["VMSNAP_CACHE"] = empty
            booted = start(guest, 50)  # in which no memory is saved
            os.environ["VMSNAP_CACHE"] = full
            restored = start(guest, 50)
            pairs.append([one / other for one, other in zip(booted, restored, strict=True)])
            print(
                f"  boot {booted[0]:.1f} s ({booted[1]:.1f} s of QEMU), start {restored[0]:.1f} s ({restored[1]:.1f} s)"
            )
        wall, processor = (statistics.median(ratios) for ratios in zip(*pairs, strict=True))
        print(f"medians: {wall:.1f} times as fast, {processor:.1f} times less processor time")
        lab.destroy()


if __name__ == "__main__":
    main()
