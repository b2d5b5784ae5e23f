"""Dirty bitmaps in merges of real images: they are carried over, or the plan says what is lost."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from support.bitmaps import add, recorded
from support.commands import qemu_img, shell
from support.content import content
from support.images import KIB, MIB, create, write
from support.small_disk import fill_up

import vmsnap_nb as vs
from vmsnap_nb.errors import CommandError, NoSpaceError, PlanRefusedError
from vmsnap_nb.live import image_actions
from vmsnap_nb.plans.checks.bitmaps import BitmapMerge
from vmsnap_nb.plans.merge.steps import CarryBitmaps
from vmsnap_nb.plans.plan import Plan

pytestmark = pytest.mark.system


def chain(folder: Path, *, base_format: str = "qcow2", compat: str = "1.1") -> list[Path]:
    """Make a base and three overlays as libvirt's snapshots leave them: each goes on with the bitmaps of the one below.

    monday was added to the base, tuesday to the first overlay, and each image has 64 KiB written that they record.
    """
    base = folder / ("base.img" if base_format == "raw" else "base.qcow2")
    create(base, size=4 * MIB, format=base_format, **({"compat": compat} if base_format == "qcow2" else {}))
    write(base, "write -q -P 9 0 1M", format=base_format)
    holds = base_format == "qcow2" and compat == "1.1"
    if holds:
        add(base, "monday")
        write(base, "write -q -P 1 1M 64k")
    paths = [base]
    for number in (1, 2, 3):
        path = create(folder / f"s{number}.qcow2", paths[-1], backing_format=base_format if number == 1 else "qcow2")
        add(path, *(("monday",) if holds else ()), *(("tuesday",) if number > 1 or not holds else ()))
        write(path, f"write -q -P {number} {number}M 64k", f"write -q -P {number} {number * 64}k 64k")
        if number == 1 and holds:
            add(path, "tuesday")
        paths.append(path)
    return paths


def concerns(plan: Plan, level: str = "refuse") -> list[str]:
    return [one.what for one in plan.concerns if one.name == "backup-chain" and one.level == level]


def backup(paths: list[Path]) -> dict[str, set[int]]:
    """Return what an incremental backup would copy: for each bitmap of the top, also what the layers below have."""
    found = recorded(paths[-1])
    for name, places in found.items():
        for path in reversed(paths[:-1]):
            below = recorded(path) if path.suffix == ".qcow2" else {}
            if name not in below:
                break
            places |= below[name]
    return found


EVERYTHING = {
    "monday": {64, 128, 192, 1024, 2048, 3072},
    "tuesday": {128, 192, 2048, 3072},
}


def test_what_a_backup_would_copy(folder: Path) -> None:
    assert backup(chain(folder)) == EVERYTHING


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize(("top", "base"), [("s3", "base"), ("s3", "s1"), ("s2", "base"), ("s2", "s1")])
def test_a_commit_carries_bitmaps_down(folder: Path, top: str, base: str, by_hand: bool) -> None:
    paths = chain(folder)
    was = content(paths[-1])
    forest = vs.scan(folder)
    plan = forest.commit(top, base, remove=True)
    assert concerns(plan) == []
    assert any("incremental backups can continue" in what for what in concerns(plan, "note"))
    if by_hand:
        done = shell(plan.commands, folder)
        assert done.returncode == 0, done.stderr
    else:
        assert plan.run(progress=False).as_predicted
    left = [path for path in paths if path.exists()]
    assert content(left[-1]) == was
    assert backup(left) == EVERYTHING
    image = vs.scan(folder)[str(folder / f"{base}.qcow2")]
    assert {b.name: b.flags for b in image.bitmaps} == {"monday": ("auto",), "tuesday": ("auto",)}


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize(("image", "base"), [("s3", "base"), ("s3", "s1"), ("s3", None), ("s2", "base"), ("s2", None)])
def test_a_pull_carries_bitmaps_up(folder: Path, image: str, base: str | None, by_hand: bool) -> None:
    paths = chain(folder)
    was = content(paths[-1])
    plan = vs.scan(folder).pull(image, base)
    assert concerns(plan) == []
    if by_hand:
        done = shell(plan.commands, folder)
        assert done.returncode == 0, done.stderr
    else:
        assert plan.run(progress=False).as_predicted
    assert content(paths[-1]) == was
    names = [Path(one.path) for one in vs.scan(folder).chain(str(paths[-1]))]
    after = backup(names)
    if by_hand:  # qemu-img rebase records all that it copies: more than necessary, and never less
        assert {name: after[name] >= places for name, places in EVERYTHING.items()} == dict.fromkeys(after, True)
    else:
        assert after == EVERYTHING


@pytest.mark.parametrize("method", [1, 2])
def test_a_layer_is_removed_without_its_bitmaps_being_lost(folder: Path, method: int) -> None:
    paths = chain(folder)
    plan = vs.scan(folder).remove("s2", method=method)  # type: ignore[arg-type]
    assert concerns(plan) == []
    assert plan.run(progress=False).as_predicted
    assert not paths[2].exists()
    assert backup([paths[0], paths[1], paths[3]]) == EVERYTHING


@pytest.mark.parametrize("top_may_go", [False, True])
def test_a_chain_made_short_keeps_its_bitmaps(folder: Path, top_may_go: bool) -> None:
    chain(folder)
    plan = vs.scan(folder).shorten("s3", keep=1, top_may_go=top_may_go, remove=True)
    assert concerns(plan) == []
    report = plan.run(progress=False)
    assert report.as_predicted, report.differences
    (left,) = [Path(one.path) for one in vs.scan(folder)]
    assert {name: places >= EVERYTHING[name] for name, places in recorded(left).items()} == {
        "monday": True,
        "tuesday": True,
    }


def test_a_bitmap_that_does_not_record_stays_so(folder: Path) -> None:
    base = create(folder / "base.qcow2", size=4 * MIB)
    over = create(folder / "over.qcow2", base)
    add(over, "done", granularity=128 * KIB)
    write(over, "write -q 1M 64k")
    qemu_img("bitmap", "--disable", over, "done")
    write(over, "write -q 2M 64k")
    assert vs.scan(folder).commit("over").run(progress=False).as_predicted
    (bitmap,) = vs.scan(folder)["base"].bitmaps
    assert (bitmap.flags, bitmap.granularity, recorded(base)) == ((), 128 * KIB, {"done": {1024}})


# -- what is lost --------------------------------------------------------------------------------------------------


def damage_bitmap(path: Path) -> None:
    """Mark the first bitmap of an image as one that was not saved."""
    with open(path, "r+b") as file:
        data = file.read()
        at = data.index(struct.pack(">II", 0x23852875, 24))
        offset = struct.unpack(">Q", data[at + 24 : at + 32])[0]
        file.seek(offset + 12)
        file.write(struct.pack(">I", 3))


@pytest.mark.parametrize(("base_format", "compat", "why"), [("raw", "1.1", "raw"), ("qcow2", "0.10", "version 2")])
def test_a_base_that_holds_no_bitmaps(folder: Path, base_format: str, compat: str, why: str) -> None:
    paths = chain(folder, base_format=base_format, compat=compat)
    was = content(paths[-1])
    plan = vs.scan(folder).commit("s3", paths[0])
    (what,) = concerns(plan)
    assert "tuesday" in what
    assert why in what
    with pytest.raises(PlanRefusedError):
        plan.run(progress=False)
    assert plan.run(progress=False, waive="backup-chain").as_predicted
    assert content(paths[0], format=base_format) == was


def test_a_bitmap_of_a_layer_that_the_top_does_not_have(folder: Path) -> None:
    base = create(folder / "base.qcow2", size=4 * MIB)
    middle = create(folder / "middle.qcow2", base)
    add(middle, "monday")
    create(folder / "top.qcow2", middle)
    forest = vs.scan(folder)
    assert "monday" in concerns(forest.commit("top", "base"))[0]
    assert "monday" in concerns(forest.pull("top", "base", remove=True))[0]
    assert concerns(forest.pull("top", "base")) == []  # the file stays, and its bitmap in it
    assert "monday" in concerns(forest.remove("middle", method=2))[0]
    assert concerns(forest.remove("middle", method=1)) == []


def test_bitmaps_of_other_sizes_are_not_merged_by_qemu(folder: Path) -> None:
    base = create(folder / "base.qcow2", size=8 * MIB)
    middle = create(folder / "middle.qcow2", base, size=4 * MIB)
    add(middle, "monday")
    top = create(folder / "top.qcow2", middle, size=6 * MIB)
    add(top, "monday")
    forest = vs.scan(folder)
    assert "size" in concerns(forest.commit("top", "base"))[0]
    plan = forest.pull("top", "base")
    assert "would miss" in concerns(plan)[0]
    with pytest.raises(PlanRefusedError):
        plan.run(waive="backup-chain", progress=False)
    remedy = next(one.remedy for one in plan.concerns if one.name == "backup-chain")
    done = shell([remedy.partition(": ")[2]], folder)
    assert done.returncode == 0, done.stderr
    assert forest.pull("top", "base").run(progress=False).as_predicted


def test_a_bitmap_that_was_not_saved_is_of_no_use(folder: Path) -> None:
    paths = chain(folder)
    damage_bitmap(paths[2])
    forest = vs.scan(folder)
    assert not forest["s2"].bitmaps[0].consistent
    name = forest["s2"].bitmaps[0].name
    assert name in concerns(forest.pull("s3", "s1"))[0]
    assert name in concerns(forest.commit("s3", "s1"))[0]
    plan = forest.commit("s2", "s1")  # it ends with its layer, and nothing is lost by that
    assert concerns(plan) == []
    assert any("unusable" in what for what in concerns(plan, "note"))
    assert plan.run(progress=False).as_predicted
    assert len(recorded(paths[1])) == 2


def test_a_bitmap_of_the_base_records_what_is_copied(folder: Path) -> None:
    base = create(folder / "base.qcow2", size=4 * MIB)
    over = create(folder / "over.qcow2", base)
    add(base, "monday")
    write(over, "write -q 1M 64k")
    plan = vs.scan(folder).commit("over")
    assert any("larger" in what for what in concerns(plan, "note"))
    assert plan.run(progress=False).as_predicted
    assert recorded(base) == {"monday": {1024}}


# -- room, crashes -------------------------------------------------------------------------------------------------


def test_the_bytes_of_bitmaps_count(folder: Path) -> None:
    base = create(folder / "base.qcow2", size=1 << 30)
    over = create(folder / "over.qcow2", base)
    without = vs.scan(folder).commit("over").space_needed
    add(over, "fine", granularity=512)
    write(over, *(f"write -q {number * 32}M 64k" for number in range(32)))
    plan = vs.scan(folder).commit("over")
    assert plan.space_needed >= without + (1 << 30) // 512 // 8
    before = base.stat().st_blocks * 512
    assert plan.run(progress=False).as_predicted
    assert base.stat().st_blocks * 512 - before <= plan.space_needed


def test_a_full_disk_is_foreseen(small: Path) -> None:
    base = create(small / "base.qcow2", size=64 << 30)
    over = create(small / "over.qcow2", base)
    add(over, "fine", granularity=4096)  # 2 MiB if all is written to
    assert not any(one.name == "no-space" for one in vs.scan(small).commit("over").concerns)
    (small / "full").write_bytes(bytes(5 * MIB // 2))
    assert any(one.name == "no-space" for one in vs.scan(small).commit("over").concerns)


def test_a_merge_that_ended_before_the_bitmaps_were_carried(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = chain(folder)
    was = content(paths[-1])

    def fail(step: CarryBitmaps) -> image_actions.Undo:
        raise CommandError("copy bitmaps", said="no", argv=("qemu-img",))

    with monkeypatch.context() as patch:
        patch.setattr(image_actions, "carry_bitmaps", fail)
        with pytest.raises(CommandError):
            vs.scan(folder).commit("s3", "base", remove=True).run(progress=False)
    assert content(paths[-1]) == was
    (plan,) = vs.scan(folder).unfinished()
    assert plan.run(progress=False).as_predicted
    assert content(paths[0]) == was
    assert backup(paths[:1]) == EVERYTHING


# -- what qemu-img says --------------------------------------------------------------------------------------------


def test_what_qemu_img_says_is_in_the_report(folder: Path) -> None:
    base = create(folder / "base.qcow2", size=4 * MIB)
    add(base, "monday")
    over = create(folder / "over.qcow2", base)
    write(over, "write -q 1M 64k")
    with open(base, "r+b") as file:  # as a program that knows no bitmaps leaves it
        file.seek(88)
        file.write(bytes(8))
    report = vs.scan(folder).commit("over").run(progress=False)
    assert any("lacking bitmap support" in said for said in report.said)
    assert "lacking bitmap support" in report.steps[0].said
    assert "lacking bitmap support" in report.to_text()


def test_a_bitmap_that_qemu_img_loses_is_a_failure(small: Path) -> None:
    image = create(small / "image.qcow2", size=8 << 30)
    add(image, "monday")
    fill_up(small)
    new = BitmapMerge(name="tuesday", granularity=512, recording=True, sources=(), new=True)
    with pytest.raises(NoSpaceError) as caught:
        image_actions.carry_bitmaps(CarryBitmaps(path=str(image), bitmaps=(new,)))
    assert "Lost persistent bitmaps" in str(caught.value)
