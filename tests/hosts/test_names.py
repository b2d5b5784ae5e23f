"""One folder of images under several names on a host: by links and bind mounts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hosts import IMAGES, SystemLibvirt, define, file_disk, pool, qemu_img, volume_disk
from support.images import MIB, create
from support.refusals import refused

import vmsnap_nb as vs
from vmsnap_nb.errors import PlanRefusedError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.host import Host
from vmsnap_nb.live.plan import LivePlan

pytestmark = pytest.mark.hosts

REAL, OTHER = IMAGES / "real", IMAGES / "other"


@pytest.fixture(params=["link", "bind mount", "hard links", "link to a link"])
def way(system: SystemLibvirt, request: pytest.FixtureRequest) -> Iterator[str]:
    """How the folder has its other name; of what is made in it by one name, the other knows."""
    REAL.mkdir()
    for name, backing in (("base", None), ("a", f"{REAL}/base"), ("b", f"{OTHER}/base"), ("a2", f"{OTHER}/a")):
        qemu_img(
            "create", "-q", "-f", "qcow2", *(("-u", "-b", backing, "-F", "qcow2") if backing else ()), REAL / name, "8M"
        )
    if request.param == "link":
        OTHER.symlink_to(REAL)
    elif request.param == "link to a link":
        (IMAGES / "between").symlink_to(REAL)
        OTHER.symlink_to("between")
    else:
        OTHER.mkdir()
    if request.param == "bind mount":
        subprocess.run(["mount", "--bind", REAL, OTHER], check=True)
    elif request.param == "hard links":
        for path in REAL.iterdir():
            os.link(path, OTHER / path.name)
    for number, name in enumerate(("base", "a", "b", "a2")):
        io(REAL / name, f"write -q -P {number + 1} {number}M 1M")
    yield request.param
    if request.param == "bind mount":
        subprocess.run(["umount", "--lazy", OTHER], check=True)


def io(path: Path, command: str) -> None:
    subprocess.run(["qemu-io", "-t", "unsafe", "-f", "qcow2", "-c", command, path], check=True, capture_output=True)


def content(path: object) -> str:
    qemu_img("convert", "-f", "qcow2", "-O", "raw", path, IMAGES / "content")
    done = subprocess.run(["sha256sum", IMAGES / "content"], check=True, capture_output=True, text=True)
    (IMAGES / "content").unlink()
    return done.stdout.split(maxsplit=1)[0]


def runs(plan: LivePlan) -> None:
    report = plan.run(progress=False)
    assert report.as_predicted, report.differences


def without_link(way: str, guest: Guest) -> None:
    """Remove what is left of an image that was pulled up: its hard link, which is an overlay like any other."""
    if way == "hard links":
        assert "shared-base" in refused(guest.commit(base="a"))
        for path in (REAL / "a2", OTHER / "a2"):  # the guest had it by the other of these names
            path.unlink(missing_ok=True)


@pytest.fixture
def host(connection: Any, way: str) -> Iterator[Host]:
    with vs.connect("qemu:///system") as host:
        yield host


@pytest.fixture
def guests(connection: Any, host: Host) -> tuple[Guest, Guest]:
    """Two guests, each with its disk by another name of the folder; one runs on an overlay of its own."""
    define(connection, "one", file_disk(REAL / "a2"), running=True)
    define(connection, "two", file_disk(OTHER / "b"))
    return host.guest("one"), host.guest("two")


def test_plans_run_whatever_the_names(guests: tuple[Guest, Guest], way: str) -> None:
    one, two = guests
    was = content(REAL / "b")
    with pytest.raises(PlanRefusedError, match="shared-base"):
        two.commit().run(progress=False)
    with pytest.raises(PlanRefusedError, match="shared-base"):
        one.commit(base="base").run(progress=False)
    runs(two.snapshot("s", kind="external-disk"))
    runs(two.delete_snapshot("s"))
    runs(one.snapshot("s", kind="external-disk"))
    assert one.snapshots()["s"].status == "ok"
    runs(one.delete_snapshot("s"))
    without_link(way, one)
    runs(one.commit(base="a"))
    assert one.unfinished() == ()
    one.destroy()
    runs(two.pull())
    assert content(two.chain().top) == was


def test_a_merge_of_images_sees_guests_by_any_name(guests: tuple[Guest, Guest], host: Host, way: str) -> None:
    one, two = guests
    for folder in (REAL, OTHER):
        forest = host.survey(folder)
        assert {use.guest for use in forest.users(str(folder / "base"))} == {"one", "two"}
        with pytest.raises(PlanRefusedError, match="in-use"):
            forest.commit(str(folder / "a2"), str(folder / "a")).run(progress=False)
        with pytest.raises(PlanRefusedError, match="shared-base"):
            forest.commit(str(folder / "b"), str(folder / "base")).run(progress=False)
    one.destroy()
    assert two.state == "shut off"


def test_records_name_images_by_any_name(guests: tuple[Guest, Guest], host: Host, connection: Any, way: str) -> None:
    one, _ = guests
    one.destroy()
    runs(one.snapshot("s", kind="external-disk"))
    overlay = Path(one.chain().top).name
    if way == "hard links":
        os.link(one.chain().top, OTHER / overlay)
    for folder in (REAL, OTHER):
        with pytest.raises(PlanRefusedError):
            host.survey(folder).commit(str(folder / overlay), str(folder / "a2")).run(progress=False, waive="in-use")
    # The guest's definition gets another name of the same image; its snapshot is what it was.
    text = connection.lookupByName("one").XMLDesc(2).replace(f"{REAL}/", f"{OTHER}/")
    connection.defineXML(text)
    assert one.snapshots()["s"].status == "ok"
    was, then = content(REAL / overlay), content(REAL / "a2")
    runs(one.revert("s"))
    assert content(one.chain().top) == then
    kept = next(snapshot.name for snapshot in one.snapshots() if snapshot.name != "s")
    runs(one.revert(kept))
    assert content(one.chain().top) == was
    for name in [snapshot.name for snapshot in one.snapshots()][::-1]:
        runs(one.delete_snapshot(name))
    assert content(one.chain().top) == was


def test_a_volume_is_its_file(connection: Any, host: Host, way: str) -> None:
    pool(connection, "images", OTHER)
    define(connection, "one", volume_disk("images", "a2"), running=True)
    with pytest.raises(PlanRefusedError, match="in-use"):
        vs.connect("qemu:///system").survey(REAL).commit(str(REAL / "a2"), str(REAL / "a")).run(progress=False)
    one = host.guest("one")
    runs(one.snapshot("s", kind="external-disk"))
    runs(one.delete_snapshot("s"))
    without_link(way, one)
    runs(one.commit(base="a"))


# -- one disk of several guests -------------------------------------------------------------------------


def shared(host: Host) -> list[tuple[str, str]]:
    return [(str(one.severity), one.where) for one in host.findings() if one.name == "shared-disk"]


def test_a_disk_of_two_guests_is_found_under_all_its_names(connection: Any, host: Host) -> None:
    create(IMAGES / "d.qcow2", size=4 * MIB)
    (IMAGES / "link.qcow2").symlink_to("d.qcow2")
    os.link(IMAGES / "d.qcow2", IMAGES / "hard.qcow2")
    (IMAGES / "sub").mkdir()
    (IMAGES / "folder").symlink_to(".")
    pool(connection, "images", IMAGES)
    define(connection, "one", file_disk(IMAGES / "d.qcow2"))
    other = define(connection, "two")
    assert shared(host) == []
    names = ("d.qcow2", "link.qcow2", "hard.qcow2", "folder/d.qcow2", "sub/../d.qcow2")
    for disk in (volume_disk("images", "d.qcow2"), *(file_disk(f"{IMAGES}/{name}") for name in names)):
        other.undefine()
        other = define(connection, "two", disk)
        assert shared(host) == [("warning", str(IMAGES / "d.qcow2"))], disk
    other.undefine()
    define(connection, "two", file_disk(IMAGES / "d.qcow2").replace("<target", "<readonly/><target"))
    assert shared(host) == []


def test_a_disk_that_is_meant_to_be_shared_is_none_and_keeps_no_guest_from_a_start(connection: Any, host: Host) -> None:
    (IMAGES / "d.raw").write_bytes(bytes(MIB))
    disk = file_disk(IMAGES / "d.raw", format="raw").replace("<target", "<shareable/><target")
    define(connection, "one", disk, running=True)
    define(connection, "two", disk)
    assert [str(one.name) for one in host.findings()] == []
    assert host.guest("two").start().state == "running"
