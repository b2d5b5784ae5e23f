"""Images on block devices: read, drawn and merged where they lie, and never made, removed or protected there."""

from __future__ import annotations

import os
import stat
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import qemu_img, run
from support.devices import MakeDevice, block_disk
from support.hosts import IMAGES, define, file_disk
from support.images import KIB, MIB, create, write
from support.watch import watch

import vmsnap_nb as vs
from vmsnap_nb.live.host import Host
from vmsnap_nb.model.image import Image

pytestmark = pytest.mark.hosts


@pytest.fixture
def host(connection: Any) -> Iterator[Host]:
    with vs.connect("qemu:///system") as opened:
        yield opened


def pattern(path: object, format: str = "qcow2", length: str = "64k", offset: str = "0") -> set[str]:
    """Return with which of the patterns that tests write a part of a disk is filled."""
    said = [
        run("qemu-io", "-r", "-f", format, "-c", f"read -P {n} {offset} {length}", str(path), check=False)
        for n in range(8)
    ]
    return {str(n) for n, done in enumerate(said) if "failed" not in done.stdout + done.stderr}


def refusals(plan: Any) -> dict[str, str]:
    return {one.name: one.what for one in plan.concerns if one.level == "refuse"}


def end_of(path: object) -> int:
    """Return where QEMU says that an image ends."""
    import json

    return int(json.loads(run("qemu-img", "check", "--output=json", str(path)).stdout)["image-end-offset"])


# -- reading --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"cluster_size": 4096}, {"refcount_bits": 1}, {"compat": "0.10"}])
def test_a_qcow2_image_on_a_device_takes_what_is_before_its_end(device: MakeDevice, options: dict[str, object]) -> None:
    path = create(device(), size=16 * MIB, **options)
    for command in ("write -q -P 1 0 2M", "write -q -P 2 8M 300k", "discard -q 8M 300k"):
        write(path, command)
        [image] = vs.chain(path)
        assert (image.format, image.status, image.device) == ("qcow2", "ok", True)
        assert (image.virtual_size, image.file_size, image.allocated) == (16 * MIB, 32 * MIB, end_of(path))


def test_a_chain_of_devices_and_files_is_one_under_all_of_its_names(tmp_path: Path, device: MakeDevice) -> None:
    raw, lower = device(), device()
    create(lower, raw, backing_format="raw")
    group = tmp_path / "group"
    group.mkdir()
    (group / "lower").symlink_to(lower)
    top = create(tmp_path / "top.qcow2", group / "lower")
    chain = vs.chain(top, folders=[group])
    assert [(image.path, image.format, image.status) for image in chain] == [
        (str(raw), "raw", "ok"),
        (str(group / "lower"), "qcow2", "ok"),
        (str(top), "qcow2", "ok"),
    ]
    assert (chain[0].virtual_size, chain[0].allocated) == (32 * MIB, 32 * MIB)
    assert "(qcow2, block device)" in chain.to_text()
    assert len(chain.to_frame()) == 3
    assert vs.scan(group).to_frame()["status"].to_list() == ["ok", "ok"]
    assert "group/lower" in " ".join(vs.chain(lower, folders=[group]).forest.same_file(str(lower)))


def test_a_device_that_only_the_header_of_a_file_names_is_not_opened(tmp_path: Path, device: MakeDevice) -> None:
    secret, raw = create(device(), size=MIB), device()
    create(tmp_path / "a.qcow2", secret)
    create(tmp_path / "b.qcow2", raw, backing_format="raw")
    for options in ({}, {"follow": True}):
        with watch() as seen:
            forest = vs.scan(tmp_path, **options)
        assert not {str(secret), str(raw)} & set(seen)
        assert forest.status(secret) == "outside"
        assert forest[str(raw)].virtual_size == 32 * MIB
        assert "untrusted-backing" in refusals(forest.commit("a"))
    assert forest.status(raw) == "ok"
    with watch() as seen:
        assert vs.chain(tmp_path / "a.qcow2", folders=[secret.parent])[0].format == "qcow2"
    assert str(secret) in seen


def test_a_link_to_a_device_that_another_user_has_put_there_is_not_opened(tmp_path: Path, device: MakeDevice) -> None:
    secret = create(device(), size=MIB)
    link = tmp_path / "disk.qcow2"
    link.symlink_to(secret)
    os.lchown(link, 61300, 61300)
    with watch() as seen:
        assert vs.scan(tmp_path).status(link) == "outside"
    assert str(secret) not in seen


# -- merging while nothing runs --------------------------------------------------------------------------


def test_layers_are_committed_into_a_device_that_has_the_room(tmp_path: Path, device: MakeDevice) -> None:
    base = create(device(4 * MIB), size=16 * MIB)
    top = create(tmp_path / "top.qcow2", base)
    write(top, "write -q -P 3 0 2M")
    forest = vs.scan(tmp_path, "/dev")
    assert forest.commit("top").run(progress=False, verify=True).as_predicted
    assert pattern(base, length="2M") == {"3"}
    assert vs.scan(tmp_path).status(top) == "invalid"
    assert not list(Path("/dev").glob(".vmsnap*"))


@pytest.mark.parametrize("format", ["qcow2", "raw"])
def test_a_device_that_is_too_small_is_refused_with_the_missing_bytes(
    tmp_path: Path, device: MakeDevice, format: str
) -> None:
    base = device(2 * MIB)
    if format == "qcow2":
        create(base, size=16 * MIB)
    top = create(tmp_path / "top.qcow2", base, size=16 * MIB, backing_format=format)
    write(top, "write -q -P 3 0 4M")
    plan = vs.scan(tmp_path, "/dev").commit("top")
    what = refusals(plan)["no-space"]
    assert f"device {base} has {2 * MIB} bytes" in what
    if format == "raw":
        assert f"({14 * MIB} more)" in what
    bigger = device(32 * MIB)
    qemu_img("convert", "-n", "-O", "raw", "-f", "raw", base, bigger) if format == "raw" else create(
        bigger, size=16 * MIB
    )
    qemu_img("rebase", "-u", "-b", bigger, "-F", format, top)
    assert not refusals(vs.scan(tmp_path, "/dev").commit("top"))


def test_devices_are_never_removed_made_or_protected(tmp_path: Path, device: MakeDevice) -> None:
    base, middle = create(tmp_path / "base.qcow2"), device()
    create(middle, base)
    write(middle, "write -q -P 4 0 1M")
    link = tmp_path / "middle.qcow2"
    link.symlink_to(middle)
    top = create(tmp_path / "top.qcow2", link)
    forest = vs.scan(tmp_path)
    plan = forest.commit(str(link), remove=True)
    assert any("block device" in one.what and one.level == "note" for one in plan.concerns)
    report = plan.run(progress=False)
    assert report.as_predicted
    assert stat.S_ISBLK(middle.stat().st_mode)
    assert link.is_symlink()
    assert vs.chain(middle)[-1].status == "invalid"
    assert pattern(top, length="1M") == {"4"}
    assert "file-exists" in refusals(vs.create_overlay(link, base))
    assert "not-supported" in refusals(
        vs.create_overlay(tmp_path / "new", device(), backing_format="raw", protect=True)
    )


def test_data_is_pulled_up_into_a_device(tmp_path: Path, device: MakeDevice) -> None:
    base = create(tmp_path / "base.qcow2")
    write(base, "write -q -P 5 0 1M")
    top = create(device(), base)
    (tmp_path / "top").symlink_to(top)
    forest = vs.scan(tmp_path)
    assert forest.pull("top").run(progress=False, verify=True).as_predicted
    assert vs.chain(top)[0].backing is None
    assert pattern(top, length="1M") == {"5"}
    (tmp_path / "small").symlink_to(create(device(512 * KIB), base))
    assert "no-space" in refusals(vs.scan(tmp_path).pull("small"))


def test_a_read_only_device_is_not_written_to(tmp_path: Path, device: MakeDevice) -> None:
    base = device(readonly=True)
    create(tmp_path / "top.qcow2", base, backing_format="raw")
    plan = vs.scan(tmp_path, "/dev").commit("top")
    assert "blockdev --setrw" in next(one.remedy for one in plan.concerns if one.name == "read-only")
    assert plan.refused


# -- guests ----------------------------------------------------------------------------------------------


def test_a_running_guest_on_a_device_is_snapshot_and_merged_by_libvirt(
    host: Host, connection: Any, device: MakeDevice
) -> None:
    base = create(device(), size=16 * MIB)
    define(connection, "demo", block_disk(base), running=True)
    guest = host.guest("demo")
    [image] = guest.chain()
    assert (image.device, image.format, image.held) == (True, "qcow2", "write")
    automatic = guest.snapshot("s1", kind="external-disk")
    assert "name the disks and their overlays" in next(one.remedy for one in automatic.concerns if "vda" in one.what)
    overlay = IMAGES / "demo.s1.qcow2"
    plan = guest.snapshot("s1", kind="external-disk", disks={"vda": str(overlay)})
    assert not plan.refused, plan.concerns
    assert plan.run(progress=False).as_predicted
    assert [image.path for image in guest.chain()] == [str(base), str(overlay)]
    assert host.survey(IMAGES).to_frame().loc[str(base), "used_by"] == "demo"
    plan = guest.commit()
    assert not plan.refused, plan.concerns
    assert plan.run(progress=False).as_predicted
    assert [image.path for image in guest.chain()] == [str(base)]
    disk = ET.fromstring(connection.lookupByName("demo").XMLDesc()).find("devices/disk")
    assert disk is not None
    assert (disk.get("type"), disk.find("source").get("dev")) == ("block", str(base))  # type: ignore[union-attr]


def test_a_device_that_only_headers_name_is_read_as_the_remedy_says(
    host: Host, connection: Any, device: MakeDevice, tmp_path: Path
) -> None:
    base = create(device(), size=MIB)
    overlay = create(IMAGES / "demo.qcow2", base)
    scanned = create(tmp_path / "alone.qcow2", base)
    plan = vs.scan(tmp_path).commit("alone")
    [told] = [str(one.remedy) for one in plan.concerns if "only a header names" in one.what]
    assert "also read its folder." in told
    assert "untrusted-backing" not in refusals(vs.scan(tmp_path, base.parent).commit("alone"))
    scanned.unlink()
    define(connection, "demo", file_disk(overlay))
    guest = host.guest("demo")
    [told] = [str(one.remedy) for one in guest.commit().concerns if "only a header names" in one.what]
    assert "while the guest is running" in told
    guest.start(wait=False)
    assert guest.commit().run(progress=False).as_predicted
    assert guest.chain().top == str(base)


def test_a_guest_that_is_off_gets_its_device_back_when_its_overlay_is_committed(
    host: Host, connection: Any, device: MakeDevice
) -> None:
    base = device()
    define(connection, "demo", block_disk(base, format="raw"))
    guest, overlay = host.guest("demo"), IMAGES / "demo.s1.qcow2"
    plan = guest.snapshot("s1", kind="external-disk", disks={"vda": str(overlay)})
    assert not plan.refused, plan.concerns
    assert plan.run(progress=False).as_predicted
    write(overlay, "write -q -P 6 1M 1M")
    assert [image.path for image in guest.chain()] == [str(base), str(overlay)]
    plan = guest.delete_snapshot("s1")
    assert not plan.refused, plan.concerns
    assert plan.run(progress=False).as_predicted
    assert pattern(base, "raw", length="1M", offset="1M") == {"6"}
    disk = ET.fromstring(connection.lookupByName("demo").XMLDesc()).find("devices/disk")
    assert disk is not None
    assert (disk.get("type"), disk.find("source").attrib) == ("block", {"dev": str(base), "index": "1"}) or (
        disk.get("type"),
        disk.find("source").get("dev"),  # type: ignore[union-attr]
    ) == ("block", str(base))
    guest.start(wait=False)
    assert guest.state == "running"


def test_a_guest_on_a_device_reverts_and_keeps_what_was_there(host: Host, connection: Any, device: MakeDevice) -> None:
    base = create(device(), size=16 * MIB)
    write(base, "write -q -P 1 0 1M")
    define(connection, "demo", block_disk(base))
    guest = host.guest("demo")
    taken = guest.snapshot("s1", kind="external-disk", disks={"vda": str(IMAGES / "demo.s1.qcow2")})
    assert taken.run(progress=False).as_predicted
    write(IMAGES / "demo.s1.qcow2", "write -q -P 2 0 1M")
    plan = guest.revert("s1")
    assert not plan.refused, plan.concerns
    assert plan.run(progress=False).as_predicted
    assert pattern(guest.chain().top, length="1M") == {"1"}
    back = guest.revert("kept1")
    assert not back.refused, back.concerns
    assert back.run(progress=False).as_predicted
    assert pattern(guest.chain().top, length="1M") == {"2"}


def test_a_plain_file_below_dev_shm_is_a_file(host: Host, connection: Any) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.chmod(folder, 0o755)
        disk = create(Path(folder) / "demo.qcow2", size=MIB)
        below = create(Path(folder) / "base.qcow2", size=MIB)
        qemu_img("rebase", "-u", "-b", below, "-F", "qcow2", disk)
        define(connection, "demo", file_disk(disk))
        guest = host.guest("demo")
        assert [image.status for image in guest.chain()] == ["ok", "ok"]
        plan = guest.snapshot("s1", kind="external-disk")
        assert list(plan.creates) == [f"{folder}/demo.s1.qcow2"]
        assert plan.run(progress=False).as_predicted
        assert [image.name for image in vs.scan(IMAGES, follow=True)] == []
        outside = create(IMAGES / "over.qcow2", disk)
        found: list[Image] = list(vs.chain(outside, follow=True))
        assert [image.status for image in found] == ["ok", "ok", "ok"]
        connection.lookupByName("demo").undefineFlags(2)
