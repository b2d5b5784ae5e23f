"""Two hosts, each with a system libvirtd of its own, that share a folder: what one needs, the other does not change."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.hosts import IMAGES, SystemLibvirt, clear, define, file_disk, pool, qemu_img

import vmsnap_nb as vs
from vmsnap_nb.fleet.fleet import Fleet
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.hosts

NOWHERE = "qemu+tcp://127.0.0.1:9/system"
"""No libvirt listens there."""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that both hosts have under the same path, with a base, a layer on it, and the disk of a guest."""
    folder = Path(tempfile.mkdtemp(prefix="vs", dir="/tmp"))
    folder.chmod(0o755)
    qemu_img("create", "-q", "-f", "qcow2", folder / "base.qcow2", "1M")
    for name, below in (("mid", "base"), ("web", "mid")):
        qemu_img(
            "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", folder / f"{below}.qcow2", folder / f"{name}.qcow2"
        )
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def far(other: SystemLibvirt) -> Iterator[Any]:
    """libvirt's own handle of the other host; its folder of images is a storage pool."""
    with other.entered():
        handle = library().open("qemu:///system")
        pool(handle, "default", IMAGES)
    yield handle
    handle.close()


def on_the_other(other: SystemLibvirt, path: Path, below: Path) -> None:
    """Make an overlay on the other host alone."""
    with other.entered():
        qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below, path)
        handle = library().open("qemu:///system")
        for found in handle.listAllStoragePools():
            found.refresh()
        handle.close()


@pytest.fixture
def fleet(system: SystemLibvirt, other: SystemLibvirt, shared: Path) -> Iterator[Fleet]:
    with vs.connect({"a": "qemu:///system", "b": other.uri}, shared=[shared]) as made:
        yield made


def refusals(plan: vs.LivePlan) -> dict[str, str]:
    return {concern.name: str(concern.what) for concern in plan.concerns if concern.level == "refuse"}


def test_a_base_whose_overlay_another_host_has_is_not_written_to(
    fleet: Fleet, connection: Any, far: Any, other: SystemLibvirt, shared: Path
) -> None:
    define(connection, "web", file_disk(shared / "web.qcow2"))
    on_the_other(other, IMAGES / "db.qcow2", shared / "base.qcow2")
    define(far, "db", file_disk(IMAGES / "db.qcow2"))
    one = vs.connect("qemu:///system").survey(shared).commit("mid")
    assert not one.refused, one.concerns  # one host alone cannot know
    plan = fleet["a"].survey(shared).commit("mid")
    assert "shared-base" in refusals(plan)
    assert "b/db" in refusals(plan)["shared-base"]
    with pytest.raises(vs.PlanRefusedError):
        plan.run(progress=False)
    assert "shared-base" in refusals(fleet.survey(shared)["a"].commit("mid"))
    assert "shared-base" in refusals(fleet.guest("a/web").commit(top="mid"))
    # A layer of which nothing there is based on it can be merged, and everything there stays.
    report = fleet.guest("web").commit().run(progress=False)
    assert report.as_predicted, report.differences
    frame = fleet.survey(shared).to_frame()
    assert set(frame.loc["a", "used_by"].dropna()) == {"web", "b/db", "b/db, web"}


def test_a_layer_below_an_overlay_of_another_host_is_not_removed(
    fleet: Fleet, other: SystemLibvirt, far: Any, shared: Path
) -> None:
    """To remove it, the overlay on the other host would have to get another backing file."""
    (shared / "web.qcow2").unlink()
    on_the_other(other, IMAGES / "db.qcow2", shared / "mid.qcow2")
    for method in (1, 2):
        plan = fleet["a"].survey(shared).remove("mid", method=method)
        assert plan.refused, plan
        with pytest.raises(vs.PlanRefusedError):
            plan.run(progress=False, waive=["unknown-image", "shared-base"])
    assert "mid" in vs.scan(shared)


def test_a_disk_that_a_guest_of_another_host_has_open_is_in_use(
    fleet: Fleet, connection: Any, far: Any, shared: Path
) -> None:
    define(far, "db", file_disk(shared / "web.qcow2"))
    plan = fleet["a"].survey(shared).commit("web")
    assert "b/db" in refusals(plan)["in-use"]
    assert str(shared / "web.qcow2") not in {one.path for one in fleet.leftovers(shared)["a"]}


def test_pools_with_one_uuid_are_one_folder(other: SystemLibvirt, connection: Any, far: Any, shared: Path) -> None:
    mine = pool(connection, "one", shared)
    far.storagePoolDefineXML(mine.XMLDesc()).create()
    on_the_other(other, IMAGES / "db.qcow2", shared / "base.qcow2")
    with vs.connect({"a": "qemu:///system", "b": other.uri}) as fleet:
        assert "shared-base" in refusals(fleet["a"].survey().commit("mid"))


def test_hosts_that_share_nothing_do_not_disturb_each_other(
    other: SystemLibvirt, connection: Any, far: Any, shared: Path
) -> None:
    """Both have other files under the same paths."""
    qemu_img("create", "-q", "-f", "qcow2", "same.qcow2", "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "same.qcow2", "top.qcow2")
    on_the_other(other, IMAGES / "same.qcow2", shared / "base.qcow2")
    define(far, "db", file_disk(IMAGES / "same.qcow2"))
    with vs.connect({"a": "qemu:///system", "b": other.uri}) as fleet:
        forest = fleet.survey(IMAGES)["a"]
        assert not [path for path in forest.images if path.startswith("b:")]
        assert forest.commit("top").run(progress=False).as_predicted


def test_a_host_that_gives_no_answer_is_a_row_and_refuses_what_it_may_need(connection: Any, shared: Path) -> None:
    define(connection, "web", file_disk(shared / "web.qcow2"))
    with vs.connect({"a": "qemu:///system", "b": NOWHERE}, shared=[shared]) as fleet:
        for found in (
            fleet.guests(),
            fleet.survey(),
            fleet.snapshots(),
            fleet.space(),
            fleet.findings(),
            fleet.leftovers(),
        ):
            frame = found.to_frame()
            assert str(frame.loc["b", "status"]).startswith("unreachable: cannot connect to qemu+tcp://")
        (shared / "old.qcow2").write_bytes((shared / "web.qcow2").read_bytes())
        doubts = {one.path: one.doubt for one in fleet.leftovers(shared)["a"]}
        assert doubts[str(shared / "old.qcow2")].startswith("host b did not respond, and may need this file: ")
        (shared / "old.qcow2").unlink()
        plan = fleet.guest("a/web").commit()
        assert "host b did not respond" in refusals(plan)["unknown-image"]
        assert plan.run(waive=["unknown-image"], progress=False).as_predicted
        with pytest.raises(vs.NotFoundError, match="did not respond"):
            fleet.guest("web")
        assert "b did not respond" in fleet.survey().to_text()


def test_what_cannot_be_read_there_refuses_as_well(fleet: Fleet, other: SystemLibvirt, shared: Path) -> None:
    """The folder of the overlay is no storage pool: libvirt does not say what the disk is based on."""
    with other.entered():
        qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", shared / "base.qcow2", IMAGES / "db.qcow2")
        handle = library().open("qemu:///system")
        define(handle, "db", file_disk(IMAGES / "db.qcow2"))
        handle.close()
    plan = fleet["a"].survey(shared).commit("mid")
    assert "on host b are unknown" in refusals(plan)["unknown-image"]


def test_a_daemon_that_was_restarted_is_connected_to_again(fleet: Fleet, other: SystemLibvirt, far: Any) -> None:
    define(far, "db")
    assert fleet["b"].guests().to_frame().index.to_list() == ["db"]
    other.restart()
    assert "db" in fleet.guests().to_frame()["guest"].to_list()


def test_threads_of_the_user_read_the_hosts(other: SystemLibvirt, far: Any, connection: Any) -> None:
    define(far, "db")
    with ThreadPoolExecutor(1) as executor, vs.connect(["qemu:///system", other.uri], executor=executor) as fleet:
        assert fleet.hosts == ("localhost", "127.0.0.1")
        assert fleet.guests().names == ("127.0.0.1/db",)
        clear(connection)
