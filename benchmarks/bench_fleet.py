"""How long many hosts take against the slowest one of them, and a million images that ten workers read.

Run as root: ``python benchmarks/bench_fleet.py [--hosts 10] [--guests 20] [--delay 20] [--images 100000]``. It starts
private system libvirt daemons. A proxy before each delays what goes through it, by half of ``--delay`` (ms) in each
direction. Then a worker of Dask on each host reads ``--images`` files of one header each, in memory (5 KiB each), and
sends back its forest. Time of the processor says more than seconds where workers share few cores.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from distributed import Client, LocalCluster

import vmsnap_nb as vs
from vmsnap_nb.system.libvirt.library import library

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support.hosts import IMAGES, SystemLibvirt, define, file_disk, pool, qemu_img, system_libvirt
from support.slow_proxy import slow_proxy


def fill(host: SystemLibvirt, guests: int) -> None:
    """Make guests on one base, in a storage pool."""
    with host.entered():
        qemu_img("create", "-q", "-f", "qcow2", "base.qcow2", "16M")
        qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "g0.qcow2")
        for number in range(1, guests):
            (IMAGES / f"g{number}.qcow2").write_bytes((IMAGES / "g0.qcow2").read_bytes())
    connection = library().open(host.uri)
    pool(connection, "images", IMAGES)
    for number in range(guests):
        define(connection, f"g{number}", file_disk(IMAGES / f"g{number}.qcow2"))
    connection.close()


def seconds(uris: dict[str, str], *, readonly: bool) -> tuple[float, float]:
    """Return the time of a survey of some hosts that are connected already, and the time of this processor."""
    with vs.connect(uris, readonly=readonly) as fleet:
        fleet.guests()
        began, busy = time.perf_counter(), time.process_time()
        found = fleet.survey()
        took = time.perf_counter() - began, time.process_time() - busy
        assert not found.problems, found.problems
    return took


def many_hosts(hosts: list[SystemLibvirt], delay: float, rounds: int, *, readonly: bool) -> None:
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(slow_proxy(host.port, delay=delay / 2000)).port for host in hosts]
        uris = {f"h{number}": f"qemu+tcp://127.0.0.1:{port}/system" for number, port in enumerate(ports)}
        ratios = []
        for _ in range(rounds):
            each = [seconds({name: uri}, readonly=readonly) for name, uri in uris.items()]
            every, busy = seconds(uris, readonly=readonly)
            slowest, alone = max(each)
            ratios.append(every / slowest)
            print(
                f"{len(hosts)} hosts: {every:.2f} s, {busy:.2f} s of the processor; one: {min(each)[0]:.2f} to "
                f"{slowest:.2f} s, {alone:.2f} s of the processor",
                flush=True,
            )
        print(f"  {min(ratios):.2f} x the slowest one (goal 1.5)")


@contextlib.contextmanager
def worker(host: SystemLibvirt, address: str, name: str) -> Iterator[None]:
    with host.entered():
        words = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--name", name, "--nthreads", "1"]
        more = ["--no-nanny", "--no-dashboard", "--host", "127.0.0.1", "--memory-limit", "0"]
        process = subprocess.Popen([*words, *more], cwd=Path(__file__).parent.parent, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def grow(host: SystemLibvirt, already: int, images: int) -> None:
    """Have more images on a host, all overlays of one base, as `qemu-img create` makes them but for their tables."""
    with host.entered():
        folder = IMAGES / "many"
        if not folder.exists():
            folder.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)
            qemu_img("create", "-q", "-f", "qcow2", folder / "base.qcow2", "16M")
        qemu_img(
            *("create", "-q", "-f", "qcow2", "-b", folder / "base.qcow2", "-F", "qcow2", folder / f"{already:06}.qcow2")
        )
        content = (folder / f"{already:06}.qcow2").read_bytes()
        for number in range(already + 1, images):
            with open(folder / f"{number:06}.qcow2", "wb") as file:
                file.write(content[:4096])
                file.truncate(len(content))


def _used(_: int) -> tuple[float, int]:
    """Return the time of the processor (s) and the most memory (bytes) that this process has taken."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def many_images(hosts: list[SystemLibvirt], steps: list[int]) -> None:
    cluster = LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0")
    with cluster, Client(cluster) as client, contextlib.ExitStack() as stack:
        for number, host in enumerate(hosts):
            stack.enter_context(worker(host, cluster.scheduler_address, f"h{number}"))
        client.wait_for_workers(len(hosts), timeout=300)
        uris = {f"h{number}": host.uri for number, host in enumerate(hosts)}
        fleet = stack.enter_context(
            vs.connect(uris, executor={name: client.get_executor(workers=[name]) for name in uris})
        )
        already = 0
        for images in steps:
            for host in hosts:
                grow(host, already, images)
            already = images
            busy = {name: client.submit(_used, images, workers=[name], pure=False).result()[0] for name in uris}
            own, began = _used(0)[0], time.perf_counter()
            found = fleet.survey(IMAGES / "many")
            took, own = time.perf_counter() - began, _used(0)[0] - own
            count = sum(len(found[name]) for name in uris)
            after = {name: client.submit(_used, -images, workers=[name], pure=False).result() for name in uris}
            workers = sum(after[name][0] - busy[name] for name in uris)
            print(
                f"{count:9,} images: {took:6.1f} s; of the processor {own:5.1f} s here and {workers:5.1f} s in workers "
                f"({(own + workers) / count * 1e6:.0f} us an image); memory {_used(0)[1] / 2**20:,.0f} MiB here, "
                f"{max(memory for _, memory in after.values()) / 2**20:,.0f} MiB in a worker",
                flush=True,
            )
            del found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--guests", type=int, default=20)
    parser.add_argument("--delay", type=float, default=20, help="ms for a round trip")
    parser.add_argument("--readonly", action="store_true", help="libvirt starts no process for each image then")
    parser.add_argument("--images", type=int, default=100_000, help="of each host")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(system_libvirt()) for _ in range(options.hosts)]
        for host in hosts:
            fill(host, options.guests)
        many_hosts(hosts, options.delay, options.rounds, readonly=options.readonly)
        if options.images:
            many_images(hosts, [options.images // 100, options.images // 10, options.images // 3, options.images])
    print(f"load of this machine: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
