"""Overlays that may not belong to the image that they name, and remedies, each followed."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from support.images import create, write

import vmsnap_nb as vs

MIB = 1 << 20
pytestmark = pytest.mark.system


def doubts(plan: vs.LivePlan) -> dict[str, str]:
    return {c.name: c.what for c in plan.concerns if c.name in ("smaller-size", "disk-changed")}


def chain(folder: Path) -> tuple[Path, Path]:
    base, top = folder / "Base.qcow2", folder / "Top.qcow2"
    create(base, size=16 * MIB)
    create(top, backing=base)
    return base, top


def plans(folder: Path) -> list[vs.LivePlan]:
    forest = vs.scan(folder)
    return [forest.commit("Top", "Base"), forest.pull("Top"), forest.overlay("New", "Top")]


def test_nothing_is_said_of_a_chain_as_it_was_made(tmp_path: Path) -> None:
    chain(tmp_path)
    assert [doubts(plan) for plan in plans(tmp_path)] == [{}, {}, {}]
    assert vs.scan(tmp_path)["Top"].problem == ""


def test_a_base_that_was_written_to_behind_its_overlay(tmp_path: Path) -> None:
    base, top = chain(tmp_path)
    before = top.stat().st_mtime - 3600
    os.utime(top, (before, before))
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q 0 1M", str(base)], check=True)
    for plan in plans(tmp_path):
        assert "Top now reads a mixture" in doubts(plan)["disk-changed"]


def test_a_base_that_was_replaced_by_a_larger_disk(tmp_path: Path) -> None:
    base, _ = chain(tmp_path)
    base.unlink()
    create(base, size=32 * MIB)
    for plan in plans(tmp_path):
        assert "smaller-size" in doubts(plan)
    forest = vs.scan(tmp_path)
    assert forest["Top"].status == "ok"
    assert "Data beyond the end of the overlay cannot be read through it" in forest["Top"].problem
    assert "beyond the end" in " ".join(forest.to_text().split()), "every figure says so"


def test_an_overlay_that_was_pointed_to_another_disk(tmp_path: Path) -> None:
    _, top = chain(tmp_path)
    other = tmp_path / "Other.qcow2"
    create(other, size=64 * MIB)
    subprocess.run(["qemu-img", "rebase", "-u", "-F", "qcow2", "-b", str(other), str(top)], check=True)
    assert "Other" in vs.scan(tmp_path)["Top"].problem


def test_what_is_said_of_a_header_of_qed_can_be_followed(tmp_path: Path) -> None:
    base, top = tmp_path / "Base.qcow2", tmp_path / "Top.qed"
    create(base, size=MIB)
    create(top, backing=base, format="qed")
    create(tmp_path / "Over.qcow2", backing=top, backing_format="qed")
    (remedy,) = {c.remedy for c in vs.scan(tmp_path).pull("Over").concerns if c.name == "backing-format-missing"}
    line = remedy.partition(": ")[2]
    subprocess.run(line, shell=True, check=True, cwd=tmp_path)
    assert vs.scan(tmp_path)["NEW"].backing is None, "it has no room for the format, so all is copied into one"


def test_the_raw_base_of_a_qed_image_is_recorded_as_it_is_said(tmp_path: Path) -> None:
    base, top = tmp_path / "Base.img", tmp_path / "Top.qed"
    base.write_bytes(bytes(MIB))
    create(top, backing=base, format="qed", backing_format="raw")
    with open(top, "r+b") as file:  # as older versions of QEMU made it: a backing file, and nothing about its format
        file.seek(16)
        file.write(b"\1")
    create(tmp_path / "Raw.qcow2", backing=base, backing_format="raw")
    create(tmp_path / "Over.qcow2", backing=top, backing_format="qed")
    against = [c for c in vs.scan(tmp_path).pull("Over").concerns if c.name == "backing-format-missing"]
    assert against
    for concern in against:
        subprocess.run(concern.remedy.partition(": ")[2], shell=True, check=True, cwd=tmp_path)
    assert not [c for c in vs.scan(tmp_path).pull("Over").concerns if c.name.startswith("backing-format")]


def three(folder: Path) -> tuple[Path, Path, Path]:
    """Return a base, an image that is an hour old, and the overlay on that, which was made by a plan."""
    base, middle = chain(folder)
    write(base, "write -q -P 1 0 1M")
    then = time.time() - 3600
    for image in (base, middle):
        os.utime(image, (then, then))
    assert vs.scan(folder).overlay(folder / "Over.qcow2", "Top").run(progress=False).as_predicted
    os.utime(folder / "Over.qcow2", (then, then))
    return base, middle, folder / "Over.qcow2"


def test_nothing_is_said_after_a_pull_into_an_image_with_overlays(tmp_path: Path) -> None:
    three(tmp_path)
    create(tmp_path / "by hand.qcow2", backing=tmp_path / "Top.qcow2")
    os.utime(tmp_path / "by hand.qcow2", (time.time() - 3600,) * 2)
    report = vs.scan(tmp_path).pull("Top").run(progress=False)
    assert report.as_predicted
    forest = vs.scan(tmp_path)
    assert [doubts(forest.overlay("New", name)) for name in ("Over", "by hand")] == [{}, {}]
    assert "disk-changed" not in forest.findings().to_frame()["what"].to_string()


def test_a_doubt_outlives_a_plan_that_writes_to_the_base(tmp_path: Path) -> None:
    _, middle, over = three(tmp_path)
    write(middle, "write -q -P 2 0 1M")
    was = os.getxattr(over, "user.vmsnap_nb.base")
    assert doubts(vs.scan(tmp_path).overlay("New", "Over"))
    assert vs.scan(tmp_path).pull("Top").run(progress=False).as_predicted
    assert doubts(vs.scan(tmp_path).overlay("New", "Over"))
    assert os.getxattr(over, "user.vmsnap_nb.base") == was


def test_an_overlay_that_reads_other_data_after_a_waived_plan_is_given_nothing_to_remember(tmp_path: Path) -> None:
    base, _, _ = three(tmp_path)
    other = create(tmp_path / "Other.qcow2", backing=base)
    plan = vs.scan(tmp_path).commit("Top", "Base")
    assert plan.refused
    plan.run(progress=False, waive="shared-base")
    assert os.listxattr(other) == []
