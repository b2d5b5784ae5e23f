"""A real XFS: images on it that share data, and what is read of one that is mounted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.filesystems import empty, tool
from support.images import MIB, create, write
from support.waiting import eventually

import vmsnap_nb as vs
from vmsnap_nb.live.freed import Meter
from vmsnap_nb.system.files.shared import shared_bytes

pytestmark = pytest.mark.hosts


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """What has the file system."""
    return empty(tmp_path / "disk", 320 * MIB)


@pytest.fixture
def folder(tmp_path: Path, disk: Path) -> Iterator[Path]:
    """The file system, mounted; it has reflinks."""
    place = tmp_path / "mounted"
    place.mkdir()
    tool("mkfs.xfs", "-q", "-m", "reflink=1", disk)
    subprocess.run(["mount", "-o", "loop", disk, place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def free(folder: Path) -> int:
    os.sync()
    found = os.statvfs(folder)
    return found.f_bfree * found.f_frsize


def test_a_reflink_frees_what_it_does_not_share(folder: Path) -> None:
    one = create(folder / "one.qcow2", size=64 * MIB)
    write(one, "write -P 1 0 16M")
    subprocess.run(["cp", "--reflink=always", one, folder / "two.qcow2"], check=True)
    write(folder / "two.qcow2", "write -P 2 0 4M")
    os.sync()
    space = {image.name: image for image in vs.scan(folder).space()}
    assert space["two"].allocated is not None
    assert space["two"].allocated > 16 * MIB
    assert space["two"].exclusive == pytest.approx(4 * MIB, abs=MIB // 2)
    assert space["one"].exclusive == pytest.approx(4 * MIB, abs=2 * MIB)  # XFS allocates ahead

    write(create(folder / "top.qcow2", folder / "two.qcow2"), "write -P 3 0 64k")
    plan = vs.scan(folder).pull("top", remove=True)
    assert plan.frees[str(folder / "two.qcow2")] == pytest.approx(4 * MIB, abs=MIB // 2)
    before = free(folder)
    frees = plan.run(progress=False).frees
    assert frees.found[str(folder / "two.qcow2")] == pytest.approx(4 * MIB, abs=MIB // 2)
    assert frees.found_total is not None
    # XFS does it later, and allocates ahead.
    assert eventually(lambda: free(folder) - before == pytest.approx(frees.found_total, abs=2 * MIB))


def test_a_merge_into_a_reflink_takes_what_the_copy_keeps(folder: Path) -> None:
    base = create(folder / "base.qcow2", size=64 * MIB)
    write(base, "write -P 1 0 16M")
    subprocess.run(["cp", "--reflink=always", base, folder / "copy.qcow2"], check=True)
    write(create(folder / "top.qcow2", base), "write -P 2 0 8M")
    os.sync()
    frees = vs.scan(folder).commit("top", "base").run(progress=False).frees
    assert frees[str(base)] == pytest.approx(-8 * MIB, abs=MIB // 4)
    assert frees.found[str(base)] == pytest.approx(-8 * MIB, abs=2 * MIB)  # XFS allocates ahead


def test_copies_that_share_only_with_each_other_free_their_data_with_the_last(folder: Path) -> None:
    one = create(folder / "one.qcow2", size=64 * MIB)
    write(one, "write -P 1 0 16M")
    subprocess.run(["cp", "--reflink=always", one, folder / "two.qcow2"], check=True)
    meter = Meter([str(one), str(folder / "two.qcow2")])
    for name in ("one.qcow2", "two.qcow2"):
        assert eventually(lambda: shared_bytes(str(folder / "two.qcow2")) == 0) or name == "one.qcow2"
        meter.look([str(folder / name)])
        (folder / name).unlink()
        os.sync()
    found = meter.freed()
    assert found[str(one)] == pytest.approx(0, abs=MIB)
    assert found[str(folder / "two.qcow2")] == pytest.approx(16 * MIB, abs=4 * MIB)


def test_what_is_in_the_log_alone_is_not_read_until_the_file_system_was_frozen(folder: Path, disk: Path) -> None:
    def names() -> list[str]:
        os.sync()
        return [entry.name for entry in vs.chain(disk, format="raw").files()]

    (folder / "one").write_text("x" * 5000)
    assert names() == []
    [note] = vs.chain(disk, format="raw").files().notes
    assert "only in the log were not read, even after a sync" in note
    for verb in ("-f", "-u"):
        tool("fsfreeze", verb, folder)
    assert names() == ["one"]
