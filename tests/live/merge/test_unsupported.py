"""Images that QEMU refuses, is wary of, or can read only with a key: each has a status or a fact of its own."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from support.commands import qemu_img, run
from support.images import MIB, SECRET, create, luks, write

import vmsnap_nb as vs
from vmsnap_nb.plans.plan import Plan

pytestmark = pytest.mark.system


def patch(path: Path, offset: int, form: str, value: int) -> Path:
    """Write a number into a header."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack(form, value))
    return path


def opened(path: Path) -> str:
    """Return how QEMU is told an encrypted image."""
    return f"driver=qcow2,encrypt.key-secret=s,file.driver=file,file.filename={path}"


def refusals(plan: Plan) -> set[str]:
    return {concern.name for concern in plan.concerns if concern.level == "refuse"}


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [(72, ">Q", 1 << 5), (72, ">Q", 1 << 7 | 4), (72, ">Q", 1 << 62), (4, ">I", 4), (32, ">I", 3)],
)
def test_what_qemu_does_not_know_is_unsupported_and_nothing_is_built_on_it(
    tmp_path: Path, offset: int, form: str, value: int
) -> None:
    base = create(tmp_path / "base.qcow2", size=MIB)
    middle = create(tmp_path / "middle.qcow2", base)
    top = create(tmp_path / "top.qcow2", middle)
    patch(middle, offset, form, value)
    assert "nsupported" in run("qemu-img", "info", str(middle), check=False).stderr
    forest = vs.scan(tmp_path)
    assert forest.to_frame().loc[str(middle), "status"] == "unsupported"
    assert "UNSUPPORTED" in forest.to_text()
    for plan in (
        vs.create_overlay(tmp_path / "new", middle),
        vs.create_overlay(tmp_path / "new", top),
        forest.commit("top"),
        forest.pull("top"),
    ):
        [concern] = [one for one in plan.concerns if one.level == "refuse" and str(middle) in one.images]
        assert (concern.name, concern.waivable) == ("not-supported", False), concern


def test_a_virtual_size_that_no_disk_can_have_leaves_the_table_of_the_folder(tmp_path: Path) -> None:
    good = create(tmp_path / "good.qcow2")
    for number, size in enumerate((2**63 - 1, 2**63, 2**64 - 1)):
        patch(create(tmp_path / f"bad-{number}.qcow2"), 24, ">Q", size)
    forest = vs.scan(tmp_path)
    frame = forest.to_frame()
    assert frame.loc[str(good), "virtual_size"] == 64 * MIB
    assert list(frame["status"]) == ["corrupt", "corrupt", "corrupt", "ok"]
    assert "CORRUPT" in forest.to_text()
    assert forest.commit


def test_an_image_that_was_not_closed_is_dirty_until_qemu_has_opened_it(tmp_path: Path) -> None:
    base = create(tmp_path / "base.qcow2", lazy_refcounts="on")
    top = create(tmp_path / "top.qcow2", base)
    patch(base, 72, ">Q", 1)
    forest = vs.scan(tmp_path)
    assert forest.status(base) == "dirty"
    assert (forest[str(base)].dirty, forest[str(base)].status) == (True, "ok")
    assert "DIRTY" in forest.to_text()
    write(top, "write -q -P 7 0 64k")
    assert forest.commit("top").run(progress=False).as_predicted
    assert vs.scan(tmp_path).status(base) == "ok"


def test_an_image_that_qemu_has_marked_as_corrupt_is_not_written_to(tmp_path: Path) -> None:
    base = create(tmp_path / "base.qcow2")
    create(tmp_path / "top.qcow2", base)
    patch(base, 72, ">Q", 2)
    forest = vs.scan(tmp_path)
    assert (forest[str(base)].corrupt, forest.status(base)) == (True, "corrupt")
    assert "missing-base" in refusals(forest.commit("top"))


@pytest.mark.parametrize("format", ["luks", "qcow2"])
def test_an_encrypted_base_is_said_to_be_one_and_nothing_of_it_is_copied(tmp_path: Path, format: str) -> None:
    base = tmp_path / "base.img"
    luks(format, base, 4 * MIB)
    top = create(tmp_path / "top.qcow2", base, size=4 * MIB, backing_format=format)
    upper = create(tmp_path / "upper.qcow2", top)
    forest = vs.scan(tmp_path)
    assert forest[str(base)].encryption == "luks"
    for plan in (forest.commit("top"), forest.pull("top"), forest.commit("upper", base)):
        assert "not-supported" in refusals(plan)
        assert any("encrypted" in concern.what for concern in plan.concerns)
    # qemu-img opens whole chains, and needs the key also where nothing is read with it.
    assert "not-supported" in refusals(forest.commit("upper", "top"))
    assert "encrypt" in run("qemu-img", "commit", "-f", "qcow2", str(upper), check=False).stderr
    plain = create(tmp_path / "plain.qcow2", size=4 * MIB)
    create(tmp_path / "layer.qcow2", plain)
    if format == "qcow2":  # an overlay that is encrypted itself would have to be opened to let it refer to the base
        child = tmp_path / "child.qcow2"
        luks(format, child, 4 * MIB)
        qemu_img("rebase", "-u", *SECRET, "--image-opts", "-b", "layer.qcow2", "-F", "qcow2", opened(child))
        assert "not-supported" in refusals(vs.scan(tmp_path).commit("layer"))
    new = vs.create_overlay(tmp_path / "new", base)
    assert [(one.name, one.level) for one in new.concerns] == [("not-encrypted", "warn")]
    assert new.run(progress=False).as_predicted
    assert str(base) in qemu_img("info", str(tmp_path / "new.qcow2"))
