"""Merging from images of other formats, and from those that end within a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import qemu_img, run
from support.images import MIB, create, write

import vmsnap_nb as vs
from vmsnap_nb.plans.plan import Plan

pytestmark = pytest.mark.system


def refusals(plan: Plan) -> set[str]:
    return {concern.name for concern in plan.concerns if concern.level == "refuse"}


def reads(path: Path, value: int, offset: object, length: object) -> bool:
    command = f"read -P {value} {offset} {length}"
    return run("qemu-io", "-r", "-f", "qcow2", "-c", command, str(path), check=False).returncode == 0


@pytest.mark.parametrize("format", ["vmdk", "vdi", "vhdx", "vpc", "qed", "qcow", "parallels", "raw"])
def test_an_overlay_is_made_independent_of_a_base_of_any_format(tmp_path: Path, format: str) -> None:
    base = create(tmp_path / f"base.{format}", format=format, size=8 * MIB)
    write(base, "write -q -P 5 1M 1M", "write -q -P 5 4M 1M", format=format)
    lower = create(tmp_path / "lower.qcow2", base, backing_format=format)
    write(lower, "write -q -P 6 2M 1M")
    top = create(tmp_path / "top.qcow2", lower)
    write(top, "write -q -P 7 4M 64k")
    forest = vs.scan(tmp_path)
    if format != "raw":
        assert "not-supported" in refusals(forest.commit("lower"))
    # qemu-img reopens all that is below, which QEMU's parallels does not know.
    assert refusals(forest.commit("top")) == ({"not-supported"} if format == "parallels" else set())
    plan = forest.pull("top")
    assert not plan.refused, plan.concerns
    assert plan.run(progress=False, verify=True).as_predicted
    plan = vs.scan(tmp_path).pull("lower")
    assert plan.run(progress=False, verify=True).as_predicted
    base.unlink()
    for path in (lower, top):
        assert vs.scan(tmp_path)[str(path)].backing is None
        assert reads(path, 5, "1M", "1M")
        assert reads(path, 6, "2M", "1M")
    assert (reads(top, 7, "4M", "64k"), reads(lower, 5, "4M", "1M")) == (True, True)


@pytest.mark.parametrize("options", [{}, {"cluster_size": "2M"}, {"cluster_size": 4096}])
def test_what_is_behind_the_end_of_an_image_is_not_copied_into_it(tmp_path: Path, options: dict[str, object]) -> None:
    base = create(tmp_path / "base.qcow2", size=4 * MIB)
    write(base, "write -q -P 7 0 4M")
    size = MIB - 3 * 512
    middle = create(tmp_path / "middle.qcow2", base, size=size, **options)
    plan = vs.scan(tmp_path).pull("middle")
    [concern] = [one for one in plan.concerns if one.level == "refuse"]
    assert (concern.name, concern.waivable) == ("smaller-size", True)
    # QEMU itself does that; as the image grows, it comes to light.
    copy = tmp_path / "copy.qcow2"
    copy.write_bytes(middle.read_bytes())
    qemu_img("rebase", "-b", "", "-f", "qcow2", copy)
    qemu_img("resize", "-q", copy, 4 * MIB)
    assert not reads(copy, 0, size, 3 * 512)
    # What the remedy says, and then the same pull:
    run(*concern.remedy.partition(": ")[2].split())
    plan = vs.scan(tmp_path).pull("middle")
    assert not plan.refused, plan.concerns
    assert plan.run(progress=False, verify=True).as_predicted
    qemu_img("resize", "-q", middle, 4 * MIB)
    assert reads(middle, 0, size, 4 * MIB - size)
    assert reads(middle, 7, 0, size)


def test_an_end_within_a_cluster_does_not_matter_where_nothing_is_behind_it(tmp_path: Path) -> None:
    base = create(tmp_path / "base.qcow2", size=4 * MIB)
    write(base, "write -q -P 7 0 512k")
    create(tmp_path / "top.qcow2", base, size=MIB - 512)
    same = create(tmp_path / "same.qcow2", size=MIB - 512)
    write(same, f"write -q -P 7 0 {MIB - 512}")
    create(tmp_path / "over.qcow2", same)
    forest = vs.scan(tmp_path)
    assert not forest.pull("top").refused
    assert not forest.pull("over").refused
