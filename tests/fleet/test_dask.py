"""Hosts that Dask's workers read, in processes of their own."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from dask import config
from distributed import Client, LocalCluster
from support.images import create

import vmsnap_nb as vs
from vmsnap_nb.fleet.readings import Answer

pytestmark = pytest.mark.system

TEST = "test:///default"
GONE = "test:///no/such/file.xml"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers, each a process; what none of them may do fails soon."""
    with (
        config.set({"distributed.scheduler.no-workers-timeout": "1s", "distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def workers(client: Client) -> list[str]:
    """Their addresses; where each is started by hand, names serve as well."""
    return list(client.scheduler_info()["workers"])


def test_workers_anywhere_read_what_threads_read(client: Client) -> None:
    uris = {"a": TEST, "b": TEST, "c": GONE}
    with vs.connect(uris) as threads, vs.connect(uris, executor=client.get_executor()) as fleet:
        for name in ("survey", "guests", "snapshots", "space", "findings", "leftovers"):
            found, expected = getattr(fleet, name)(), getattr(threads, name)()
            assert found.to_frame().equals(expected.to_frame()), name
            assert found.to_frame().loc["c", "status"].startswith("unreachable: ")
        assert type(fleet.survey()["a"]) is vs.LiveForest


def test_workers_on_their_hosts_read_them_and_others_are_read_by_threads(client: Client, workers: list[str]) -> None:
    with vs.connect({"a": TEST, "b": TEST}, executor={"a": client.get_executor(workers=workers[:1])}) as fleet:
        assert fleet.guests().names == ("a/test", "b/test")
        assert fleet.guest("a/test").state == "running"
    with pytest.raises(vs.InvalidRequestError, match="no host has that name"):
        vs.connect({"a": TEST}, executor={"z": client.get_executor()})


def test_a_host_whose_worker_is_missing_or_dies_is_a_row(client: Client, workers: list[str]) -> None:
    lacking = client.get_executor(workers=["none-of-that-name"])
    with vs.connect({"a": TEST, "b": TEST}, executor={"a": lacking}) as fleet:
        found = fleet.guests()
        assert found.names == ("b/test",)
        assert "read the host a in another process" in found.to_frame().loc["a", "status"]
    number = client.submit(os.getpid, workers=workers[1:], pure=False).result()
    os.kill(number, signal.SIGSTOP)  # so that it is certainly busy when it dies
    with vs.connect({"a": TEST, "b": TEST}, executor={"a": client.get_executor(workers=workers[1:])}) as fleet:
        client.loop.call_later(0.5, os.kill, number, signal.SIGKILL)
        found = fleet.guests()
        assert found.names == ("b/test",)
        assert "read the host a in another process" in found.to_frame().loc["a", "status"]


def test_what_workers_send_is_small(tmp_path: Path) -> None:
    """Bytes for each image beyond those of its name and of that of its backing file, twice; nearly none compressed."""
    base = create(tmp_path / "base.qcow2")
    first = create(tmp_path / "guest-000.qcow2", base)
    for number in range(1, 400):
        shutil.copy(first, tmp_path / f"guest-{number:03}.qcow2")
    forest = vs.scan(tmp_path)
    forest.depth("base")  # what is worked out is not sent
    plan = forest.overlay("new", "guest-000")
    report = plan.run(progress=False)
    names = sum(len(image.path) + 2 * len(str(base)) for image in forest)
    for thing, most in ((forest, 120), (plan, 160), (report, 500)):
        size = (len(pickle.dumps(thing)) - names) / len(forest)
        assert size <= most, (type(thing), size)
    packed = pickle.dumps(Answer(read=forest))
    assert len(packed) / len(forest) <= 40
    assert dict(pickle.loads(packed).read.images) == dict(forest.images)
