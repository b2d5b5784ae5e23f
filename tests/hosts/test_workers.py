"""Workers of Dask on two hosts, each with a system libvirtd of its own: images are read where they lie."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster
from support import ROOT
from support.hosts import IMAGES, SystemLibvirt, define, file_disk, pool, qemu_img

import vmsnap_nb as vs
from vmsnap_nb.fleet.fleet import Fleet
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.hosts


@contextlib.contextmanager
def worker(host: SystemLibvirt, client: Client, name: str) -> Iterator[None]:
    """Run a worker on a host."""
    with host.entered():
        address = client.scheduler.address
        words = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--name", name, "--nthreads", "1"]
        process = subprocess.Popen(
            [*words, "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"], cwd=ROOT, stderr=subprocess.DEVNULL
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def workers(client: Client, _first: SystemLibvirt, _second: SystemLibvirt) -> Iterator[dict[str, Any]]:
    """The executors of workers on both hosts, by the names of the hosts."""
    with worker(_first, client, "a"), worker(_second, client, "b"):
        client.wait_for_workers(2, timeout=60)
        yield {name: client.get_executor(workers=[name]) for name in "ab"}


@pytest.fixture
def images(system: SystemLibvirt, other: SystemLibvirt) -> None:
    """An image with an internal snapshot on each host, in a folder in the one that is a pool; b has a guest of it."""
    for host in (system, other):
        with host.entered():
            (IMAGES / "deep").mkdir()
            qemu_img("create", "-q", "-f", "qcow2", "deep/base.qcow2", "1M")
            qemu_img("snapshot", "-c", "inside", "deep/base.qcow2")
            qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", IMAGES / "deep/base.qcow2", "top.qcow2")
    handle = library().open(other.uri)
    pool(handle, "images", IMAGES)
    define(handle, "web", file_disk(IMAGES / "top.qcow2"))
    handle.close()


def test_workers_read_what_no_connection_can(
    workers: dict[str, Any], images: None, system: SystemLibvirt, other: SystemLibvirt
) -> None:
    uris = {"a": system.uri, "b": other.uri}
    with vs.connect(uris) as far, vs.connect(uris, executor=workers) as near:
        known = far.survey(IMAGES)["b"]
        assert known["base"].status == "outside"  # libvirt does not look into folders of a pool
        forests = near.survey(IMAGES)
        for name in "ab":
            base = forests[name]["base"]
            assert (base.known_from, [snapshot.name for snapshot in base.snapshots]) == ("worker", ["inside"])
        assert forests["b"].users("top")[0].guest == "web"
        assert near.leftovers(IMAGES).to_frame().loc["a"].index.size
        # This process has other files under the same paths, and opens none of them.
        with pytest.raises(vs.VmsnapError, match="this process cannot read it"):
            forests["b"].blockmap("top")
        report = near.guest("b/web").snapshot("s1", kind="external-disk").run(progress=False)
        assert report.as_predicted
        assert near.snapshots()["b"]["web"].names == ("inside", "s1")


def test_plans_know_what_workers_have_read(
    workers: dict[str, Any], system: SystemLibvirt, other: SystemLibvirt, tmp_path: Path
) -> None:
    """The overlay on the other host is in no pool: over its connection nobody knows what it is based on."""
    tmp_path.chmod(0o755)
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "base.qcow2", "1M")
    for name, below in (("mid", "base"), ("web", "mid")):
        backing = ("-F", "qcow2", "-b", tmp_path / f"{below}.qcow2")
        qemu_img("create", "-q", "-f", "qcow2", *backing, tmp_path / f"{name}.qcow2")
    with other.entered():
        backing = ("-F", "qcow2", "-b", tmp_path / "base.qcow2")
        qemu_img("create", "-q", "-f", "qcow2", *backing, IMAGES / "db.qcow2")
        handle = library().open("qemu:///system")
        define(handle, "db", file_disk(IMAGES / "db.qcow2"))
        handle.close()
    executor = {"b": workers["b"]}
    with Fleet({"a": "qemu:///system", "b": other.uri}, shared=[tmp_path], executor=executor) as fleet:
        [concern] = [one for one in fleet["a"].survey(tmp_path).commit("mid").concerns if one.level == "refuse"]
        assert concern.name == "shared-base"
        assert "b/db" in concern.what


def test_a_worker_on_another_host_is_not_believed(
    workers: dict[str, Any], system: SystemLibvirt, other: SystemLibvirt
) -> None:
    swapped = {"a": workers["b"], "b": workers["b"]}
    with vs.connect({"a": system.uri, "b": other.uri}, executor=swapped) as fleet:
        found = fleet.guests()
        assert list(found) == ["b"]
        assert "the worker runs on " in str(found.problems["a"])
