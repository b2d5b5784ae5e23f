"""Whether a disk is just as an internal snapshot in its image."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.system.disk.snapshot_table import is_as_taken


def run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("change", ["write -P 3 0 512", "write -P 3 8M 512", "discard 0 64k", "write -z 0 64k"])
def test_whatever_is_written_since_a_revert_shows(tmp_path: Path, change: str) -> None:
    disk = tmp_path / "disk"
    run("qemu-img", "create", "-q", "-f", "qcow2", disk, "16M")
    run("qemu-io", "-c", "write -P 1 0 128k", disk)
    run("qemu-img", "snapshot", "-c", "a", disk)
    assert is_as_taken(str(disk), "a")
    run("qemu-io", "-c", "write -P 2 0 64k", disk)
    assert not is_as_taken(str(disk), "a")
    run("qemu-img", "snapshot", "-c", "kept1", disk)
    run("qemu-img", "snapshot", "-a", "a", disk)
    assert is_as_taken(str(disk), "a")
    assert not is_as_taken(str(disk), "kept1")
    run("qemu-io", "-c", change, disk)
    assert not is_as_taken(str(disk), "a")
    with pytest.raises(NotFoundError):
        is_as_taken(str(disk), "none")


def test_another_size_shows(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    run("qemu-img", "create", "-q", "-f", "qcow2", disk, "16M")
    run("qemu-img", "snapshot", "-c", "a", disk)
    run("qemu-img", "resize", "-q", disk, "32M")
    assert not is_as_taken(str(disk), "a")
