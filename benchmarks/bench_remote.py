"""How long a libvirt takes that is a network away, and how many round trips.

Run as root: ``python benchmarks/bench_remote.py [--guests 200] [--delay 20]``. It starts a private system libvirtd with
that many guests on one base, of which half have two snapshots. A proxy delays what goes through it, by half of
``--delay`` (ms) in each direction. *Trips* are calls that were made while no other answer was waited for.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import vmsnap_nb as vs
from vmsnap_nb.system.libvirt.library import library

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support.hosts import IMAGES, SystemLibvirt, define, file_disk, pool, qemu_img, system_libvirt
from support.slow_proxy import SlowProxy, slow_proxy


def fill(host: SystemLibvirt, guests: int) -> None:
    """Make the images, guests and snapshots."""
    with host.entered():
        qemu_img("create", "-q", "-f", "qcow2", "base.qcow2", "16M")
        for number in range(guests):
            qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", f"g{number}.qcow2")
    connection = library().open(host.uri)
    pool(connection, "images", IMAGES)
    for number in range(guests):
        domain = define(connection, f"g{number}", file_disk(IMAGES / f"g{number}.qcow2"))
        for name in "ab" if number % 2 == 0 else "":
            domain.snapshotCreateXML(f"<domainsnapshot><name>{name}</name></domainsnapshot>")
    del domain
    connection.close()


def measure(network: SlowProxy, what: str, read: Callable[[], object]) -> None:
    """Print time, round trips and calls of one question."""
    trips, calls, began = network.trips, network.calls, time.perf_counter()
    read()
    seconds = time.perf_counter() - began
    print(f"{what:24} {seconds:6.2f} s {network.trips - trips:6} trips {network.calls - calls:6} calls", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--guests", type=int, default=200)
    parser.add_argument("--delay", type=float, default=20, help="ms for a round trip")
    arguments = parser.parse_args()
    with system_libvirt() as far:
        fill(far, arguments.guests)
        with (
            slow_proxy(far.port, delay=arguments.delay / 2000) as network,
            vs.connect(f"qemu+tcp://127.0.0.1:{network.port}/system") as host,
        ):
            measure(network, "host.survey()", host.survey)
            measure(network, "host.snapshots()", host.snapshots)
            measure(network, "guest.chain()", lambda: host.guest("g0").chain())
            measure(network, "guest.snapshot('c')", lambda: host.guest("g0").snapshot("c"))
            measure(network, "guest.revert('a')", lambda: host.guest("g0").revert("a"))


if __name__ == "__main__":
    main()
