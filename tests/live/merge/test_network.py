"""Chains on an image of the network: what is above it is merged, and nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import shell
from support.content import content
from support.defined import chain, define, disk, file_disk
from support.images import create, write
from support.labs import start_paused
from support.nbd import Export, exported

import vmsnap_nb as vs
from vmsnap_nb.errors import PlanRefusedError
from vmsnap_nb.live.host import Host
from vmsnap_nb.live.plan import LivePlan

pytestmark = pytest.mark.guest

VERBS = ["commit", "commit two", "pull", "pull two", "remove 1", "remove 2", "shorten 3", "shorten 2"]
OTHER_FORMS = [("tcp", "commit two"), ("tcp", "pull two"), ("unix json", "pull two"), ("tcp json", "remove 2")]


@pytest.fixture
def form() -> str:
    return "unix"


@pytest.fixture
def export(tmp_path: Path, form: str) -> Iterator[Export]:
    with exported(tmp_path / "far.raw", form.split(maxsplit=1)[0]) as export:
        yield export


@pytest.fixture
def layers(export: Export, tmp_path: Path, form: str) -> list[Path]:
    """Three layers on the export."""
    base = chain(tmp_path, [export.json if "json" in form else export.address], backing_format="raw")
    return [*base, *chain(tmp_path, ["l0.qcow2", "m0.qcow2"], names="m{}.qcow2")]


def runs(plan: LivePlan) -> None:
    report = plan.run(progress=False)
    assert report.as_predicted, report.differences


@pytest.mark.parametrize(("form", "verb"), [*(("unix", verb) for verb in VERBS), *OTHER_FORMS])
def test_layers_above_are_merged_offline(layers: list[Path], tmp_path: Path, export: Export, verb: str) -> None:
    was, far = content(layers[-1]), export.image.read_bytes()
    forest = vs.scan(tmp_path)
    [remote] = [image.path for image in forest if image.status == "remote"]
    plans = {
        "commit": lambda: forest.commit("m1", "m0"),
        "commit two": lambda: forest.commit("m1", "l0"),
        "pull": lambda: forest.pull("m1", "l0"),
        "pull two": lambda: forest.pull("m1", remote),
        "remove 1": lambda: forest.remove("m0", method=1),
        "remove 2": lambda: forest.remove("l0", method=2),
        "shorten 3": lambda: forest.shorten("m1", keep=3),
        "shorten 2": lambda: forest.shorten("m1", keep=2),
    }
    plan = plans[verb]()
    assert "untrusted-backing" in {concern.name for concern in plan.concerns}
    runs(plan)
    after = forest.refresh()
    top = next(path for path in (layers[2], layers[1], layers[0]) if after[str(path)].status == "ok")
    assert content(top) == was
    assert export.image.read_bytes() == far


def test_nothing_is_written_to_it_or_copied_from_it(layers: list[Path], tmp_path: Path) -> None:
    was = content(layers[-1])
    forest = vs.scan(tmp_path)
    for plan in (forest.commit("l0"), forest.pull("m1"), forest.remove("l0", method=1)):
        with pytest.raises(PlanRefusedError, match="is on the network"):
            plan.run(waive="untrusted-backing", progress=False)
    [concern] = [one for one in forest.pull("m1").concerns if one.level == "refuse"]
    command = concern.remedy[concern.remedy.index("qemu-img convert") :].replace("NEW.qcow2", "new.qcow2")
    done = shell([command], tmp_path)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "new.qcow2") == was
    assert shlex.split(command)[-1] == "new.qcow2"


LIVE = {"commit": 2, "commit m0": 3, "pull": 3, "pull two": 2, "shorten": 2, "snapshot": 4}
"""What is done in the chain of a guest, and how many images are left of the four."""


@pytest.mark.parametrize(
    ("form", "verb", "running"),
    [
        *(("unix", verb, True) for verb in LIVE),
        *(("unix", verb, False) for verb in ("commit", "pull two", "snapshot")),
        ("tcp json", "pull two", True),
    ],
)
def test_layers_above_are_merged_in_the_chain_of_a_guest(
    host: Host, layers: list[Path], verb: str, running: bool
) -> None:
    guest = define(host, "far", file_disk(layers[-1]))
    was = content(layers[-1])
    if running:
        start_paused(guest)
    remote = guest.chain()[0].path
    assert guest.chain()[0].status == "remote"
    if verb == "snapshot":
        runs(guest.snapshot("s", kind="external-disk"))
        assert guest.snapshots()["s"].status == "ok"
        runs(guest.delete_snapshot("s"))
    plans = {
        "commit": lambda: guest.commit(base="l0"),
        "commit m0": lambda: guest.commit(top="m0", base="l0"),
        "pull": lambda: guest.pull(base="l0"),
        "pull two": lambda: guest.pull(base=remote),
        "shorten": lambda: guest.shorten(keep=2),
    }
    if verb in plans:
        runs(plans[verb]())
    assert len(guest.chain()) == LIVE[verb]
    assert guest.unfinished() == ()
    if running:
        guest.destroy()
    assert content(guest.chain().top) == was
    with pytest.raises(PlanRefusedError, match="is on the network"):
        guest.pull().run(progress=False)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_guest_whose_disk_is_on_the_network(host: Host, tmp_path: Path, kind: str) -> None:
    with exported(tmp_path / "far.raw", kind) as export, exported(tmp_path / "other.raw", kind) as another:
        guest = define(host, "far", disk(export.xml, "raw", kind="network"))
        neighbour = define(host, "neighbour", disk(another.xml, "raw", kind="network"))
        [use] = host.survey().users(export.address)
        assert use.guest == guest.name
        assert [use.guest for use in host.survey().users(another.address)] == [neighbour.name]
        start_paused(guest)
        runs(guest.snapshot("s", kind="external-disk", disks={"vda": tmp_path / "over.qcow2"}))
        assert guest.chain()[0].status == "remote"
        assert guest.snapshots()["s"].status not in ("stale", "missing-file")
        assert host.survey().users(export.address)
        plan = guest.delete_snapshot("s")
        assert plan.refused
        with pytest.raises(PlanRefusedError, match="network"):
            plan.run(progress=False)
        assert "s" in guest.snapshots()
        guest.destroy()
        assert guest.snapshots()["s"].status not in ("stale", "missing-file")


def test_forms_of_an_address_are_one_image(tmp_path: Path) -> None:
    unix, tcp = Export(tmp_path / "x", tmp_path / "x.sock"), Export(tmp_path / "x", 10809)
    create(tmp_path / "u0.qcow2", unix.address, size="16M", backing_format="raw")
    create(tmp_path / "v0.qcow2", f"nbd:unix:{unix.at}:exportname=disk", size="16M", backing_format="raw")
    create(tmp_path / "t0.qcow2", tcp.address, size="16M", backing_format="raw")
    create(tmp_path / "w0.qcow2", tcp.json, size="16M", backing_format="raw")
    create(tmp_path / "nohost0.qcow2", "nbd:///disk", size="16M", backing_format="raw")
    forest = vs.scan(tmp_path)
    assert {Path(path).name for path in forest.children(unix.address)} == {"u0.qcow2", "v0.qcow2"}
    assert tcp.address in forest.images
    assert {Path(path).name for path in forest.children(tcp.json)} == {"t0.qcow2", "w0.qcow2"}
    assert forest.identity("nbd:///disk") is None


def test_a_qcow2_image_on_the_network_is_no_raw_one_after_a_revert(host: Host, tmp_path: Path) -> None:
    with exported(tmp_path / "far.raw", "unix") as export:
        image = create(tmp_path / "image.qcow2", size="8M")
        write(image, "write -q -P 7 0 1M")
        with open(export.image, "r+b") as file:
            file.write(image.read_bytes())
        guest = define(host, "far", disk(export.xml, kind="network"))
        start_paused(guest)
        runs(guest.snapshot("s", kind="external-disk", disks={"vda": tmp_path / "over.qcow2"}))
        assert guest.chain()[0].format == "qcow2"
        runs(guest.revert("s", to="off", keep_current=False))
        assert content(guest.chain().top) == content(image)
