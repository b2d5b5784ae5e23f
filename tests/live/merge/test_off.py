"""Merges of real images: what every disk reads before and after, and which files are left."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from support.commands import run, shell
from support.content import backing, chain_of, content
from support.images import MIB, create, handout_chain, write
from support.nobody import NOBODY, as_nobody

import vmsnap_nb as vs
from vmsnap_nb.errors import (
    InvalidRequestError,
    NotFoundError,
    PlanRefusedError,
    StalePlanError,
)
from vmsnap_nb.live import image_actions as merge_files
from vmsnap_nb.model.blockmap import Extent
from vmsnap_nb.plans.merge.steps import CheckContent, TakeContent
from vmsnap_nb.system.qemu.blockmap import reads_none_of
from vmsnap_nb.system.qemu.fill import fill

pytestmark = pytest.mark.system


# -- what merges do -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", ["Snap-1", "Snap-2", "Snap-3", "Snap-4"])
@pytest.mark.parametrize("base", ["RootBase", "Snap-1", "Snap-2"])
@pytest.mark.parametrize("by_hand", [False, True])
def test_commit_leaves_every_disk_as_it_reads(folder: Path, top: str, base: str, by_hand: bool) -> None:
    if top <= base and base != "RootBase":
        handout_chain(folder)
        with pytest.raises(InvalidRequestError, match="is not below"):
            vs.scan(folder).commit(top, base)
        return
    paths = handout_chain(folder)
    was = content(folder / f"{top}.qcow2") if top == "Snap-4" else content(paths[-1])
    forest = vs.scan(folder)
    plan = forest.commit(top, base)
    if by_hand:
        done = shell(plan.commands, folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        after = forest.refresh()
    else:
        report = plan.run(progress=False)
        assert report.as_predicted, report.differences
        after = forest.refresh()
    end = folder / f"{base if top == 'Snap-4' else 'Snap-4'}.qcow2"
    assert content(end) == was
    for image in plan.after:
        assert after[image.path].status == image.status
        assert after.parent(image.path) == plan.after.parent(image.path)
    assert os.listdir(folder).count("RootBase.qcow2") == 1
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


def test_bytes_are_known_beforehand(folder: Path) -> None:
    paths = handout_chain(folder)
    plan = vs.scan(folder).commit("Snap-3", "Snap-1")
    before = os.stat(paths[1]).st_blocks * 512
    report = plan.run(progress=False)
    grown = os.stat(paths[1]).st_blocks * 512 - before
    # Snap-2 and Snap-3: 512 KiB each that the other does not have, 512 KiB both, and twice 64 KiB alone.
    assert plan.bytes_to_copy == 1536 * 1024 + 128 * 1024 - 64 * 1024 * 0
    assert grown <= plan.space_needed
    assert report.steps[0].size == plan.bytes_to_copy


@pytest.mark.parametrize(
    ("image", "base"), [("Snap-4", "RootBase"), ("Snap-4", None), ("Snap-3", "Snap-1"), ("Snap-2", None)]
)
@pytest.mark.parametrize("by_hand", [False, True])
def test_pull_leaves_every_image_as_it_reads(folder: Path, image: str, base: str | None, by_hand: bool) -> None:
    paths = handout_chain(folder)
    was = [content(path) for path in paths]
    forest = vs.scan(folder)
    plan = forest.pull(image, base)
    before = os.stat(folder / f"{image}.qcow2").st_blocks * 512
    if by_hand:
        assert shell(plan.commands, folder).returncode == 0
    else:
        assert plan.run(progress=False).as_predicted
        assert os.stat(folder / f"{image}.qcow2").st_blocks * 512 - before <= plan.space_needed
    assert [content(path) for path in paths] == was
    assert backing(folder / f"{image}.qcow2") == (None if base is None else f"{base}.qcow2")


def test_after_the_copying_of_a_pull_nothing_is_left_for_qemu_img_rebase(folder: Path) -> None:
    paths = handout_chain(folder)
    (step,) = vs.scan(folder).pull("Snap-4", "RootBase").steps
    fill(str(paths[-1]), step.extents)  # type: ignore[attr-defined]
    filled = paths[-1].read_bytes()
    assert shell([step.commands[0].replace("-t writethrough ", "")], folder).returncode == 0
    after = paths[-1].read_bytes()
    assert filled[65536:] == after[65536:], "only the header has changed"


@pytest.mark.parametrize("base", ["RootBase", "Snap-1", None])
def test_what_the_copying_of_a_pull_forgot_is_seen_by_qemu_and_copied(
    folder: Path, base: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = handout_chain(folder)
    was = [content(path) for path in paths]
    plan = vs.scan(folder).pull("Snap-4", base)

    def forgetful(path: str, extents: Iterable[Extent], **_: object) -> bool:
        return fill(path, [extent for extent in extents if not extent.zero][:-1])

    monkeypatch.setattr(merge_files, "fill", forgetful)
    assert plan.run(progress=False).as_predicted
    assert [content(path) for path in paths] == was


def test_qemus_map_shows_what_an_image_reads_from_the_layers_right_below(folder: Path) -> None:
    paths = handout_chain(folder)
    write(paths[0], "discard -q 15M 1M")
    top = str(paths[-1])

    def shown() -> list[tuple[int, bool]]:
        asked = [(left, below) for left in range(1, 5) for below in (True, False)]
        return [(left, below) for left, below in asked if reads_none_of(top, left, below=below)]

    assert shown() == []
    (step,) = vs.scan(folder).pull("Snap-4", "Snap-2").steps
    fill(top, step.extents)  # type: ignore[attr-defined]
    assert shown() == [(1, True), (1, False)]
    with pytest.raises(NotFoundError):
        reads_none_of(str(folder / "none"), 1, below=True)


def test_zeros_beyond_the_end_of_a_layer_that_goes_stay(folder: Path) -> None:
    base = create(folder / "base", size=4 * MIB)
    write(base, "write -q -P 1 0 4M")
    short = create(folder / "short", base, size=2 * MIB)
    write(short, "write -q -P 2 1M 64k")
    top = create(folder / "top", short, size=4 * MIB)
    write(top, "write -q -P 3 3M 64k")
    was = content(top)
    plan = vs.scan(folder).pull("top", "base")
    (step,) = plan.steps
    assert step.left is None  # type: ignore[attr-defined]
    assert plan.run(progress=False).as_predicted
    assert content(top) == was
    assert vs.scan(folder).pull("top").steps[0].left == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("cluster", [512, 65536])
@pytest.mark.parametrize("large", ["128k", "2M"])
@pytest.mark.parametrize("into", ["base", None])
def test_a_layer_with_subclusters_is_filled_in_whole_clusters(
    folder: Path, cluster: int, large: str, into: str | None
) -> None:
    base = create(folder / "base", size=4 * MIB, cluster_size=cluster)
    write(base, "write -q -P 1 0 4M")
    middle = create(folder / "middle", base)
    write(middle, "write -q -P 2 4k 1k", "write -q -P 2 60k 8k", "write -q -z 1M 100k")
    top = create(folder / "top", middle, extended_l2="on", cluster_size=large)
    write(top, "write -q -P 3 6k 1k", "write -q -P 3 130k 1k", "write -q -P 3 1M 1k", "write -q -P 3 2500k 900k")
    was = content(top)
    assert vs.scan(folder).pull("top", into).run(progress=False).as_predicted
    assert content(top) == was


@pytest.mark.parametrize("method", [1, 2, None])
def test_one_layer_is_removed(folder: Path, method: int | None) -> None:
    paths = handout_chain(folder, 3)
    was = content(paths[-1])
    plan = vs.scan(folder).remove("Snap-2", method=method, verify=True)  # type: ignore[arg-type]
    assert plan.run(progress=False).as_predicted
    assert content(paths[-1]) == was
    assert not paths[2].exists()
    assert chain_of(paths[-1]) == ["RootBase", "Snap-1", "Snap-3"]


def test_a_chain_becomes_one_file(folder: Path) -> None:
    paths = handout_chain(folder)
    was = content(paths[-1])
    plan = vs.scan(folder).shorten("Snap-4", keep=1, remove=True, verify=True)
    assert plan.run(progress=False).as_predicted
    assert content(paths[-1]) == was
    assert [path.name for path in folder.iterdir()] == ["Snap-4.qcow2"]


def test_down_and_up_in_one_plan(folder: Path) -> None:
    paths = handout_chain(folder)
    write(paths[2], "write -q -P 9 2M 6M")
    was = content(paths[-1])
    plan = vs.scan(folder).shorten("Snap-4", keep=1, top_may_go=True)
    assert {move.label for move in plan.moves} == {"commit data", "stream data"}
    assert plan.run(progress=False).as_predicted
    assert content(paths[2]) == was
    assert backing(paths[2]) is None
    cleanup = vs.scan(folder).cleanup()
    assert set(cleanup.unlinks) == {str(paths[3]), str(paths[4])}
    assert cleanup.run(progress=False).as_predicted
    assert not paths[4].exists()


def test_a_raw_base_that_is_smaller_grows(folder: Path) -> None:
    base = folder / "base.raw"
    base.write_bytes(b"b" * MIB)
    top = create(folder / "top", base, backing_format="raw", size=3 * MIB)
    write(top, "write -q -P 7 512k 1M")
    leaf = create(folder / "leaf", top)
    was = content(leaf)
    plan = vs.scan(folder).commit("top")
    assert [c.name for c in plan.concerns if c.level == "warn"] == ["grows-base"]
    assert plan.run(progress=False).as_predicted
    assert base.stat().st_size == 3 * MIB
    assert content(leaf) == was


def test_a_raw_base_that_nobody_names_any_more_is_no_image(folder: Path) -> None:
    base = folder / "base.raw"
    base.write_bytes(b"b" * MIB)
    leaf = create(folder / "leaf", base, backing_format="raw")
    was = content(leaf)
    report = vs.scan(folder).pull("leaf").run(progress=False)
    assert report.as_predicted, report.differences
    assert content(leaf) == was
    assert base.exists()
    assert str(base) not in vs.scan(folder)


def test_a_base_of_version_2_that_cannot_grow_is_refused_and_made_version_3(folder: Path) -> None:
    root = create(folder / "root", size=2 * MIB)
    base = create(folder / "base", root, size=MIB, compat="0.10")
    top = create(folder / "top", base, size=4 * MIB)
    write(top, "write -q -P 7 3M 64k")
    was = content(top)
    plan = vs.scan(folder).commit("top")
    with pytest.raises(PlanRefusedError, match="grows-base"):
        plan.run(progress=False)
    assert "not supported" in run("qemu-img", "commit", "-d", "-f", "qcow2", str(top), check=False).stderr
    remedy = next(c.remedy for c in plan.concerns if c.level == "refuse")
    assert shell([remedy.partition(": ")[2]], folder).returncode == 0
    assert vs.scan(folder).commit("top").run(progress=False).as_predicted
    assert content(base) == was


@pytest.mark.parametrize("version", ["0.10", "1.1"])
def test_what_is_protected_is_protected_again(nobodys_folder: Path, version: str) -> None:
    """As a user without the rights of root, whom the protection stops."""
    paths = handout_chain(nobodys_folder, 2)
    run("qemu-img", "amend", "-f", "qcow2", "-o", f"compat={version}", str(paths[1]))
    paths[0].chmod(0o444)
    paths[1].chmod(0o440)
    for path in (nobodys_folder, *paths):
        os.chown(path, NOBODY, NOBODY) if os.geteuid() == 0 else None
    was = content(paths[-1])

    def commit() -> dict[str, object]:
        report = vs.scan(nobodys_folder).commit("Snap-1", "RootBase").run(progress=False)
        return {"as predicted": report.as_predicted, "text": str(report)}

    done = as_nobody(commit)
    assert done["as predicted"], done
    assert [oct(path.stat().st_mode & 0o777) for path in paths[:2]] == ["0o444", "0o440"]
    assert content(paths[-1]) == was


@pytest.mark.parametrize("form", ["relative", "absolute", "file:", "json:"])
def test_every_form_of_reference(folder: Path, form: str) -> None:
    (folder / "sub dir").mkdir()
    base = create(folder / "base, 'one'.qcow2", size=MIB)
    write(base, "write -q -P 1 0 1M")
    options = json.dumps({"driver": "qcow2", "file": {"driver": "file", "filename": str(base)}})
    name = {"relative": f"../{base.name}", "absolute": base, "file:": f"file:{base}", "json:": f"json:{options}"}[form]
    first = create(folder / "sub dir/first", name)
    write(first, "write -q -P 2 0 128k")
    second = create(folder / "sub dir/second", first)
    write(second, "write -q -P 3 64k 128k")
    leaf = create(folder / "sub dir/leaf", "second")
    was = content(leaf)
    plan = vs.scan(folder).commit("second", str(base))
    assert plan.run(progress=False).as_predicted
    assert content(leaf) == was
    assert chain_of(leaf)[-1] == "leaf"
    assert backing(leaf) == f"../{base.name}"


# -- decided when it is run, or afterwards --------------------------------------------------------------------------


def test_a_plan_can_be_run_with_removal_and_with_proof(folder: Path) -> None:
    paths = handout_chain(folder)
    was = content(paths[-1])
    plan = vs.scan(folder).commit("Snap-3", "Snap-1")
    assert not plan.unlinks
    report = plan.run(remove=True, verify=True, progress=False)
    assert report.as_predicted, report.differences
    # What Snap-4 is put on is compared before that, and what Snap-4 reads at the end.
    assert [
        (done.step.action, Path(done.step.path).name)
        for done in report.steps
        if isinstance(done.step, TakeContent | CheckContent)
    ] == [
        ("checksum before", "Snap-3.qcow2"),
        ("checksum before", "Snap-4.qcow2"),
        ("checksum after", "Snap-1.qcow2"),
        ("checksum after", "Snap-4.qcow2"),
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["RootBase.qcow2", "Snap-1.qcow2", "Snap-4.qcow2"]
    assert content(paths[-1]) == was
    # Of what was planned with it, it can be left out.
    report = vs.scan(folder).pull("Snap-4", remove=True, verify=True).run(remove=False, verify=False, progress=False)
    assert report.as_predicted
    assert [done.step.action for done in report.steps] == ["pull"]
    assert content(paths[-1]) == was


def test_a_report_removes_what_its_merge_has_left_behind_and_nothing_else(folder: Path) -> None:
    paths = handout_chain(folder)
    was = content(paths[-1])
    first = vs.scan(folder).commit("Snap-1").run(progress=False)
    second = vs.scan(folder).commit("Snap-3").run(progress=False)
    cleanup = first.cleanup()
    assert cleanup.unlinks == (str(paths[1]),)
    assert cleanup.run(progress=False).as_predicted
    with pytest.raises(InvalidRequestError, match="none of these images is marked as invalid"):
        first.cleanup()
    assert second.cleanup().run(progress=False).as_predicted
    assert sorted(path.name for path in folder.iterdir()) == ["RootBase.qcow2", "Snap-2.qcow2", "Snap-4.qcow2"]
    pulled = vs.scan(folder).pull("Snap-4").run(progress=False)
    with pytest.raises(InvalidRequestError, match="leaves the lower layers valid"):
        pulled.cleanup()
    assert content(paths[-1]) == was


def test_a_layer_that_goes_between_plan_and_run_is_said_with_options_too(folder: Path) -> None:
    paths = handout_chain(folder)
    forest = vs.scan(folder)
    plan = forest.commit("Snap-3", "Snap-1")
    removal = forest.remove("Snap-2")
    with pytest.raises(InvalidRequestError, match="Its options: verify"):
        removal.run(remove=True)
    paths[2].unlink()
    with pytest.raises(StalePlanError, match="no longer exists"):
        plan.run(remove=True, verify=True, progress=False)
