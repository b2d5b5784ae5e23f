"""Overlays remember the file on which they were created: real files that are copied, replaced and changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.images import MIB, create, write

import vmsnap_nb as vs

pytestmark = pytest.mark.system

NAME = "user.vmsnap_nb.base"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base with an overlay of it, and another image of the same size and time."""
    for name, pattern in (("base", 1), ("other", 2)):
        path = create(tmp_path / f"{name}.qcow2", size=MIB)
        write(path, f"write -q -P {pattern} 0 1M")
        os.utime(path, (1_700_000_000, 1_700_000_000))
    forest = vs.scan(tmp_path)
    assert forest.overlay(tmp_path / "top.qcow2", "base").run(progress=False).as_predicted
    return tmp_path


def doubted(folder: Path) -> bool:
    frame = vs.scan(folder).findings().to_frame()
    return bool((frame["where"] == str(folder / "top.qcow2")).any())


def test_a_base_that_another_image_replaces_is_named(folder: Path) -> None:
    assert not doubted(folder)
    os.replace(folder / "other.qcow2", folder / "base.qcow2")
    assert doubted(folder)
    (concern,) = [one for one in vs.scan(folder).commit("top").concerns if one.name == "disk-changed"]
    assert "base is not the file on which" in concern.what


def test_a_base_that_is_older_than_before_is_named(folder: Path) -> None:
    os.utime(folder / "base.qcow2", (1_600_000_000, 1_600_000_000))
    assert doubted(folder)


def test_a_copy_is_as_good(folder: Path) -> None:
    """Also one whose time has no fraction of a second, as many archives keep none."""
    copy = shutil.copy2(folder / "base.qcow2", folder / "copy")
    os.utime(copy, (1_700_000_000, 1_700_000_000))
    os.replace(copy, folder / "base.qcow2")
    assert not doubted(folder)


def test_an_overlay_that_was_given_another_base_is_not_judged_by_the_first(folder: Path) -> None:
    assert vs.scan(folder).pull("top").run(progress=False).as_predicted
    (folder / "base.qcow2").unlink()
    assert not doubted(folder)


@pytest.mark.parametrize("forged", [b"", b"x" * 47, b"\xff" * 48, b"x" * 60_000])
def test_what_is_no_record_says_nothing(folder: Path, forged: bytes) -> None:
    try:
        os.setxattr(folder / "top.qcow2", NAME, forged)
    except OSError:  # more than this file system takes
        return
    os.replace(folder / "other.qcow2", folder / "base.qcow2")
    assert not doubted(folder)


def test_a_record_takes_no_space(folder: Path) -> None:
    create(folder / "bare.qcow2", folder / "base.qcow2")
    assert os.getxattr(folder / "top.qcow2", NAME)
    assert os.stat(folder / "top.qcow2").st_blocks == os.stat(folder / "bare.qcow2").st_blocks
