"""Merges of real images: content, files, what QEMU does when nobody refuses, and what we refuse."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from merging import MIB, content, create, handout_chain, run, shell, write
from nobody import NOBODY, as_nobody, nobodys_folder  # noqa: F401 - a fixture
from small_disk import resize, small_disk

import vmsnap_nb as vs
from vmsnap_nb.errors import (
    ImageError,
    InUseError,
    InvalidRequestError,
    NoSpaceError,
    NotFoundError,
    PlanRefusedError,
    StalePlanError,
    VmsnapError,
)
from vmsnap_nb.live import merge_files
from vmsnap_nb.live.folders import LiveForest
from vmsnap_nb.live.job import Job
from vmsnap_nb.live.notes import write_note
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.blockmap import Extent, LayerMap
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.merge_steps import CheckContent, RemoveFile, Repoint
from vmsnap_nb.system.blockmap import MapReader, reads_none_of
from vmsnap_nb.system.content import content_digest
from vmsnap_nb.system.fill import fill
from vmsnap_nb.system.qcow2_mark import INVALID_NAME, mark_invalid, marked, write_header

pytestmark = pytest.mark.system


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder in memory: these tests need files, not a disk."""
    path = Path(tempfile.mkdtemp(prefix="vmsnap-merge-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


def chain_of(path: Path) -> list[str]:
    return [image.name for image in vs.chain(path)]


def backing(path: Path) -> str | None:
    return json.loads(run("qemu-img", "info", "--output=json", str(path)).stdout).get("backing-filename")


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
    base = create(folder / "base", size=4 * MIB, options=[f"cluster_size={cluster}"])
    write(base, "write -q -P 1 0 4M")
    middle = create(folder / "middle", base)
    write(middle, "write -q -P 2 4k 1k", "write -q -P 2 60k 8k", "write -q -z 1M 100k")
    top = create(folder / "top", middle, options=["extended_l2=on", f"cluster_size={large}"])
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
    base = create(folder / "base", root, size=MIB, options=["compat=0.10"])
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
def test_what_is_protected_is_protected_again(nobodys_folder: Path, version: str) -> None:  # noqa: F811 - the fixture
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


# -- the mark ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["compat=0.10"], ["cluster_size=512"], ["extended_l2=on", "cluster_size=2M"]])
def test_nobody_opens_or_builds_on_what_is_invalid(folder: Path, options: list[str]) -> None:
    create(folder / "base", size=MIB)
    top = create(folder / "top", "base", options=options)
    write(top, "write -q -P 2 0 64k")
    was = content(top)
    assert vs.scan(folder).commit("top").run(progress=False).as_predicted
    for argv in (
        ["info", "top"],
        ["create", "-f", "qcow2", "-F", "qcow2", "-b", "top", "new"],
        ["check", "-r", "all", "top"],
    ):
        done = run("qemu-img", *argv, cwd=folder, check=False)
        assert done.returncode != 0
        assert "Unsupported qcow2 feature" in done.stderr
        assert INVALID_NAME in done.stderr
    forest = vs.scan(folder)
    assert forest[str(top)].status == "invalid"
    assert forest.overlay("new", "top").refused
    # The way back, by hand: nothing but the header was changed.
    with top.open("r+b") as file:
        file.seek(72)
        file.write(b"\0")
    assert content(top) == was
    assert run("qemu-img", "check", str(top)).returncode == 0


def test_the_mark_is_put_once_and_taken_back(folder: Path) -> None:
    create(folder / "base", size=MIB)
    path = create(folder / "x", "base")
    old = path.read_bytes()
    head = mark_invalid(str(path))
    assert head is not None
    assert mark_invalid(str(path)) is None
    assert path.read_bytes()[65536:] == old[65536:]
    write_header(str(path), head, "take it back")
    assert path.read_bytes() == old
    plain = folder / "plain"
    plain.write_bytes(b"no image" * 100)
    with pytest.raises(ImageError, match="not a qcow2 image"):
        mark_invalid(str(plain))
    with pytest.raises(ValueError, match="version 3"):
        marked(bytes(512))
    assert marked(marked(old[:65536])) == marked(old[:65536])
    length = int.from_bytes(old[100:104])
    cut = old[:length] + struct.pack(">II", 1, 1 << 31) + old[length + 8 : 65536]
    assert marked(cut)[73:] == cut[73:], "extensions that make no sense are left as they are"
    long = create(folder / "long", "./" * 170 + "base", options=["cluster_size=512"]).read_bytes()[:512]
    assert marked(long)[73:] == long[73:], "where there is no room for a name, only the bit is set"
    assert marked(long)[72] == 0x80


# -- silent corruption, and its refusal --------------------------------------------------------------------------------


def siblings(folder: Path, how: str) -> tuple[Path, Path]:
    """Make base <- top, and a sibling of top that refers to the base in some way."""
    base = create(folder / "base.qcow2", size=MIB)
    write(base, "write -q -P 1 0 1M")
    top = create(folder / "top.qcow2", "base.qcow2")
    write(top, "write -q -P 2 0 64k")
    (folder / "elsewhere").mkdir()
    name: str | Path = base
    if how == "relative":
        name = "../base.qcow2"
    elif how == "symlink":
        name = folder / "elsewhere/link"
        os.symlink(base, name)
    elif how == "hard link":
        name = folder / "elsewhere/hard"
        os.link(base, name)
    elif how == "json":
        name = "json:" + json.dumps({"driver": "qcow2", "file": {"driver": "file", "filename": str(base)}})
    elif how == "file":
        name = f"file:{base}"
    return top, create(folder / "elsewhere/sibling.qcow2", name)


@pytest.mark.parametrize("how", ["absolute", "relative", "symlink", "hard link", "json", "file"])
def test_qemu_img_spoils_a_sibling_silently_and_we_refuse(folder: Path, how: str) -> None:
    top, sibling = siblings(folder, how)
    was = content(sibling)
    plan = vs.scan(folder).commit("top")
    with pytest.raises(PlanRefusedError, match="sibling also reads base"):
        plan.run(progress=False)
    assert content(sibling) == was
    done = run("qemu-img", "commit", "-f", "qcow2", str(top))
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "Image committed.", "")
    assert content(sibling) != was


def test_pulling_instead_spoils_nobody(folder: Path) -> None:
    top, sibling = siblings(folder, "absolute")
    was = content(sibling), content(top)
    assert vs.scan(folder).pull("top").run(progress=False).as_predicted
    assert (content(sibling), content(top)) == was


def test_a_sibling_that_appears_between_plan_and_run(folder: Path) -> None:
    paths = handout_chain(folder, 2)
    plan = vs.scan(folder).commit("Snap-1", "RootBase")
    create(folder / "late", paths[0])
    with pytest.raises(StalePlanError, match="late stands on"):
        plan.run(progress=False)
    paths[1].unlink()
    with pytest.raises(StalePlanError, match="not there any more"):
        plan.run(progress=False)


def test_pulling_spoils_internal_snapshots_and_we_refuse(folder: Path) -> None:
    paths = handout_chain(folder, 3)
    run("qemu-img", "snapshot", "-c", "before", str(paths[-1]))
    was = content(paths[-1], snapshot="before")
    plan = vs.scan(folder).pull("Snap-3", "RootBase")
    with pytest.raises(PlanRefusedError, match="state-lost"):
        plan.run(progress=False)
    assert content(paths[-1], snapshot="before") == was
    run("qemu-img", "rebase", "-f", "qcow2", "-F", "qcow2", "-b", "RootBase.qcow2", str(paths[-1]))
    assert content(paths[-1], snapshot="before") != was


def test_the_base_keeps_its_internal_snapshots(folder: Path) -> None:
    paths = handout_chain(folder, 2)
    run("qemu-img", "snapshot", "-c", "first", str(paths[0]))
    was = content(paths[0], snapshot="first"), content(paths[-1])
    plan = vs.scan(folder).commit("Snap-1")
    assert plan.run(progress=False).as_predicted
    assert (content(paths[0], snapshot="first"), content(paths[-1])) == was


def test_a_short_layer_that_hides_is_refused_and_pulled_instead(folder: Path) -> None:
    base = create(folder / "base", size=4 * MIB)
    write(base, "write -q -P 1 0 4M")
    top = create(folder / "top", base, size=2 * MIB)
    write(top, "write -q -P 2 0 64k")
    leaf = create(folder / "leaf", top, size=4 * MIB)
    was = content(leaf)
    forest = vs.scan(folder)
    plan = forest.commit("top")
    with pytest.raises(PlanRefusedError, match="come to light"):
        plan.run(progress=False)
    copies = [folder / "copy-base", folder / "copy-top", folder / "copy-leaf"]
    for one, other in zip((base, top, leaf), copies, strict=True):
        shutil.copy(one, other)
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "copy-base", str(copies[1]))
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "copy-top", str(copies[2]))
    run("qemu-img", "commit", "-q", "-d", "-f", "qcow2", str(copies[1]))
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "copy-base", str(copies[2]))
    assert content(copies[2]) != was, "this is what happens without the refusal"
    assert vs.scan(folder).remove("top").run(progress=False).as_predicted
    assert content(leaf) == was


def test_an_image_in_use_is_refused_and_named(folder: Path) -> None:
    paths = handout_chain(folder, 2)
    with (folder / "RootBase.qcow2").open("r+b") as file:
        # QEMU's lock for writing: byte 101 (block/file-posix.c).
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 101, 1, 0))
        forest = vs.scan(folder)
        with pytest.raises(PlanRefusedError, match="in-use"):
            forest.commit("Snap-1").run(progress=False)
        assert forest.pull("Snap-2").refused
    with subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(paths[-1])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("read 0 512\n")
        process.stdin.flush()
        while "ops" not in process.stdout.readline():
            assert process.poll() is None
        forest = vs.scan(folder)
        assert {c.name for c in forest.commit("Snap-1").concerns if c.level == "refuse"} == {"in-use"}
        step = forest.commit("Snap-1").steps[0]
        with pytest.raises(InUseError, match="lock"):
            forest.world.actions[type(step)](step)
        assert not forest.unfinished(), "nothing was written, so nothing is unfinished"
        process.stdin.close()
    assert not vs.scan(folder).commit("Snap-1").refused


def test_an_overlay_without_the_format_of_its_backing_file(folder: Path) -> None:
    paths = handout_chain(folder, 2)
    # qemu-img does not make such images any more; an extension of another type is passed over.
    data = paths[1].read_bytes()
    assert data.count(b"\xe2\x79\x2a\xca") == 1
    paths[1].write_bytes(data.replace(b"\xe2\x79\x2a\xca", b"\x11\x11\x11\x11"))
    plan = vs.scan(folder).commit("Snap-1")
    with pytest.raises(PlanRefusedError, match="backing-format-missing"):
        plan.run(progress=False)
    was = content(paths[-1])
    assert plan.run(waive="backing-format-missing", progress=False).as_predicted
    assert content(paths[-1]) == was
    assert vs.scan(folder)[str(paths[2])].backing.format == "qcow2"  # type: ignore[union-attr]


def test_layers_that_are_not_there_or_not_read(tmp_path: Path) -> None:
    folder = tmp_path
    paths = handout_chain(folder, 3)
    paths[1].rename(folder / "hidden")
    assert {c.name for c in vs.scan(folder).commit("Snap-3", "Snap-2").concerns if c.level == "refuse"} == {
        "missing-base"
    }
    (folder / "hidden").rename(paths[1])
    inner = folder / "inner"
    inner.mkdir()
    create(inner / "a", paths[-1])
    create(inner / "b", "a")
    plan = vs.scan(inner).commit("a")
    assert {c.name for c in plan.concerns if c.level == "refuse"} == {"untrusted-backing"}
    assert not vs.scan(inner, follow=True).commit("a").refused
    run("qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "Snap-2.qcow2", str(paths[1]))
    assert "loop" in {c.name for c in vs.scan(folder).commit("Snap-3", "Snap-2").concerns if c.level == "refuse"}
    assert "infinite loop" in run("qemu-img", "info", "--backing-chain", str(paths[3]), check=False).stderr


@pytest.fixture
def small(folder: Path) -> Iterator[Path]:
    """Give a file system of 4 MiB."""
    with small_disk(folder / "small", "4m") as path:
        yield path


def test_a_disk_that_is_full(folder: Path, small: Path) -> None:
    folder, outer = small, folder / "outer"
    base = create(folder / "base", size=8 * MIB)
    outer.mkdir()
    top = create(outer / "top", base)
    write(top, "write -q -P 2 0 8M")
    leaf = create(outer / "leaf", top)
    write(leaf, "write -q -P 3 1M 1M")
    was = content(leaf)
    forest = vs.scan(folder, outer)
    plan = forest.commit("top")
    with pytest.raises(PlanRefusedError, match="no-space"):
        plan.run(progress=False)
    with pytest.raises(NoSpaceError, match="No space left") as caught:
        plan.run(waive="no-space", progress=False)
    assert "may hold a part of the data" in " ".join(caught.value.__notes__)
    assert content(leaf) == was, "half of the data is in the base, and nobody sees it"
    (unfinished,) = vs.scan(folder, outer).unfinished()
    resize(folder, "16m")
    assert vs.scan(folder, outer).pull("leaf", "base").refused, "first that one must be finished"
    (unfinished,) = vs.scan(folder, outer).unfinished()
    assert unfinished.run(progress=False).as_predicted
    assert content(leaf) == was
    assert not vs.scan(folder, outer).unfinished()
    assert backing(leaf) == str(base)


def test_a_pull_onto_a_full_disk(folder: Path, small: Path) -> None:
    base = create(folder / "base", size=8 * MIB)
    write(base, "write -q -P 1 0 8M")
    leaf = create(small / "leaf", base)
    was = content(leaf)
    plan = vs.scan(folder).pull("leaf")
    assert plan.refused
    with pytest.raises(NoSpaceError, match="No space left"):
        plan.run(waive="no-space", progress=False)
    assert content(leaf) == was
    assert backing(leaf) == str(base)


# -- decided when it is run, or afterwards --------------------------------------------------------------------------


def test_a_plan_can_be_run_with_removal_and_with_proof(folder: Path) -> None:
    paths = handout_chain(folder)
    was = content(paths[-1])
    plan = vs.scan(folder).commit("Snap-3", "Snap-1")
    assert not plan.unlinks
    report = plan.run(remove=True, verify=True, progress=False)
    assert report.as_predicted, report.differences
    assert [done.step.action for done in report.steps if done.step.action.startswith("checksum")] == [
        "checksum before",
        "checksum after",
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
    with pytest.raises(InvalidRequestError, match="no image is marked as invalid here"):
        first.cleanup()
    assert second.cleanup().run(progress=False).as_predicted
    assert sorted(path.name for path in folder.iterdir()) == ["RootBase.qcow2", "Snap-2.qcow2", "Snap-4.qcow2"]
    pulled = vs.scan(folder).pull("Snap-4").run(progress=False)
    with pytest.raises(InvalidRequestError, match="valid still"):
        pulled.cleanup()
    assert content(paths[-1]) == was


def test_a_layer_that_goes_between_plan_and_run_is_said_with_options_too(folder: Path) -> None:
    paths = handout_chain(folder)
    forest = vs.scan(folder)
    plan = forest.commit("Snap-3", "Snap-1")
    removal = forest.remove("Snap-2")
    with pytest.raises(InvalidRequestError, match="it has verify"):
        removal.run(remove=True)
    paths[2].unlink()
    with pytest.raises(StalePlanError, match="is not there any more"):
        plan.run(remove=True, verify=True, progress=False)


# -- failures and cancels in the middle ------------------------------------------------------------------------------


def test_what_fails_after_the_copying_can_be_finished(folder: Path) -> None:
    paths = handout_chain(folder)
    was = content(paths[-1])
    forest = vs.scan(folder)
    plan = forest.commit("Snap-3", "Snap-1", remove=True)

    def refuse(step: RemoveFile) -> None:
        raise VmsnapError("remove", said="not today")

    plan.world.actions[RemoveFile] = refuse  # type: ignore[index, assignment]
    with pytest.raises(VmsnapError, match="not today") as caught:
        plan.run(progress=False)
    assert "the data stays in" in " ".join(caught.value.__notes__)
    assert content(paths[-1]) == was
    assert chain_of(paths[-1]) == ["RootBase", "Snap-1", "Snap-2", "Snap-3", "Snap-4"], "it was repointed back"
    (rest,) = vs.scan(folder).unfinished()
    assert rest.run(progress=False).as_predicted
    assert content(paths[-1]) == was
    assert sorted(path.name for path in folder.iterdir()) == ["RootBase.qcow2", "Snap-1.qcow2", "Snap-4.qcow2"]


def test_nothing_is_repointed_back_to_what_is_gone(folder: Path) -> None:
    paths = handout_chain(folder)
    was = content(paths[-1])
    plan = vs.scan(folder).commit("Snap-3", "Snap-1", remove=True)
    remove = plan.world.actions[RemoveFile]

    def one_only(step: RemoveFile) -> object:
        if step.path.endswith("Snap-2.qcow2"):
            raise VmsnapError("remove", said="not today")
        return remove(step)

    plan.world.actions[RemoveFile] = one_only  # type: ignore[index, assignment]
    with pytest.raises(VmsnapError, match="not today"):
        plan.run(progress=False)
    assert content(paths[-1]) == was
    assert backing(paths[-1]) == "Snap-1.qcow2"
    (rest,) = vs.scan(folder).unfinished()
    assert rest.run(progress=False).as_predicted
    assert not paths[2].exists()


def test_a_cancel_leaves_the_old_chain(folder: Path) -> None:
    paths = handout_chain(folder)
    was = content(paths[-1])
    plan = vs.scan(folder).commit("Snap-3", "Snap-1")
    jobs: list[Job] = []
    repoint = plan.world.actions[Repoint]

    def then_cancel(step: Repoint) -> object:
        undo = repoint(step)
        jobs[0].cancel()
        return undo

    plan.world.actions[Repoint] = then_cancel  # type: ignore[index, assignment]
    jobs.append(plan.start())
    report = jobs[0].wait(60)
    assert report.cancelled
    assert [done.state for done in report.steps] == ["done", "undone", "not run", "not run", "not run"]
    assert chain_of(paths[-1]) == ["RootBase", "Snap-1", "Snap-2", "Snap-3", "Snap-4"]
    assert content(paths[-1]) == was
    (rest,) = vs.scan(folder).unfinished()
    assert rest.run(progress=False).as_predicted
    assert content(paths[-1]) == was


def test_verify_notices_a_change_before_anything_is_removed(folder: Path) -> None:
    paths = handout_chain(folder)
    was = content(paths[-1])
    plan = vs.scan(folder).commit("Snap-3", "Snap-1", remove=True, verify=True)
    check = plan.world.actions[CheckContent]

    def spoil_first(step: CheckContent) -> object:
        write(paths[1], "write -q -P 99 15M 4k")
        return check(step)

    plan.world.actions[CheckContent] = spoil_first  # type: ignore[index, assignment]
    with pytest.raises(ImageError, match="its content has changed"):
        plan.run(progress=False)
    assert all(path.exists() for path in paths)
    assert was != content(paths[-1])


# -- the checksum, the map -------------------------------------------------------------------------------------------


def test_the_checksum_does_not_see_layers(folder: Path) -> None:
    whole = create(folder / "whole", size=66 * MIB)
    write(whole, "write -q -P 1 0 1M", "write -q -P 2 65M 1M", "write -q -z 2M 1M", "write -q -P 0 3M 1M")
    base = create(folder / "base", size=66 * MIB, options=["cluster_size=512"])
    write(base, "write -q -P 1 0 512k", "write -q -P 9 4M 1M")
    top = create(folder / "top, with comma", base)
    write(top, "write -q -P 1 512k 512k", "write -q -P 2 65M 1M", "write -q -z 4M 1M")
    raw = folder / "raw"
    run("qemu-img", "convert", "-O", "raw", str(whole), str(raw))
    digests = {content_digest(str(whole), "qcow2"), content_digest(str(top), "qcow2"), content_digest(str(raw), "raw")}
    assert len(digests) == 1
    write(top, "write -q -P 3 66060288 1")
    assert content_digest(str(top), "qcow2") not in digests
    assert content_digest(str(top), "qcow2", 63 * MIB) == content_digest(str(raw), "raw", 63 * MIB)


def test_the_map_agrees_with_qemu_img_on_every_byte(folder: Path) -> None:
    paths = handout_chain(folder)
    write(paths[2], "discard -q 3M 1M")
    blocks = vs.scan(folder).blockmap("Snap-4")
    answer = json.loads(run("qemu-img", "map", "--output=json", str(paths[-1])).stdout)
    for entry in answer:
        if entry["present"]:
            for place in (entry["start"], entry["start"] + entry["length"] - 1):
                assert blocks.owner(place) == len(paths) - 1 - entry["depth"]
    seen = sum(e["length"] for e in answer if e["present"] and e["data"])
    assert sum(own for own, _ in blocks.totals) == seen
    # What is hidden in Snap-1 appears when the chain ends there.
    below = vs.scan(folder).blockmap("Snap-1")
    assert below.totals[1] == (below.layers[1].data, 0)
    assert blocks.totals[1][1] > 0


def test_the_map_tells_what_a_pattern_was_written_to(folder: Path) -> None:
    paths = handout_chain(folder)
    for run_ in vs.scan(folder).blockmap("Snap-4").visible:
        pattern = 0 if run_.kind == "zero" else run_.layer or 100
        done = run(
            "qemu-io", "-r", "-f", "qcow2", "-c", f"read -q -P {pattern} {run_.start} {run_.length}", str(paths[-1])
        )
        assert "verification failed" not in done.stdout, run_


@pytest.mark.parametrize("name", ["a, b=c", "虚拟机", os.fsdecode(b"no text \xff"), 'quote"\\'])
def test_the_map_of_images_of_any_name(folder: Path, name: str) -> None:
    path = create(folder / name, size=MIB)
    write(path, "write -q -P 1 64k 64k")
    forest = vs.scan(folder)
    assert [(run_.start, run_.length) for run_ in forest.blockmap(str(path)).runs] == [(65536, 65536)]
    write(path, "write -q -P 1 256k 64k")
    assert len(forest.refresh().blockmap(str(path)).runs) == 2, "it was mapped again"


def test_what_cannot_be_mapped_is_said(folder: Path) -> None:
    paths = handout_chain(folder, 2)
    paths[0].unlink()
    with pytest.raises(ImageError, match="there is no such file"):
        vs.scan(folder).blockmap("Snap-2")
    plan = vs.scan(folder).commit("Snap-2", "Snap-1")
    assert plan.bytes_to_copy is not None, "what takes part can be mapped; the plan is refused for its chain"
    assert plan.refused


def test_a_plan_of_a_missing_image_has_no_bytes(folder: Path) -> None:
    paths = handout_chain(folder, 2)
    paths[1].unlink()
    plan = vs.scan(folder).commit("Snap-2", "Snap-1")
    assert plan.bytes_to_copy is None
    assert isinstance(plan.after[str(paths[1])], Image)


def test_finishing_looks_at_what_the_commit_looked_at(tmp_path: Path) -> None:
    # What is above is longer than the top, so it matters what is behind the top's end in all that is below.
    for name, below, size in (("r", None, 8), ("b", "r", 8), ("t", "b", 4), ("c", "t", 8)):
        backing = None if below is None else f"{below}.qcow2"
        create(tmp_path / f"{name}.qcow2", backing, size=size * MIB)
    plan = vs.scan(tmp_path).commit("t", "b")
    assert not plan.refused
    write_note(plan.steps[0].note)  # type: ignore[attr-defined]
    [finish] = vs.scan(tmp_path).unfinished()
    assert not finish.refused, finish.concerns
    assert finish.run(progress=False).as_predicted


@pytest.mark.parametrize(
    ("verb", "maps"),
    [
        (lambda forest: forest.commit("Snap-3", "Snap-2"), {"Snap-2", "Snap-3"}),
        (lambda forest: forest.pull("Snap-4", "Snap-2"), {"Snap-3", "Snap-4"}),
        (lambda forest: forest.remove("Snap-3"), {"Snap-2", "Snap-3", "Snap-4"}),
    ],
)
def test_only_layers_that_are_copied_between_are_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: Callable[[LiveForest], LivePlan], maps: set[str]
) -> None:
    handout_chain(tmp_path)
    asked: set[str] = set()
    read = MapReader.read

    def noted(self: MapReader, images: Iterable[Image]) -> dict[str, LayerMap]:
        images = list(images)
        asked.update(image.name for image in images)
        return read(self, images)

    monkeypatch.setattr(MapReader, "read", noted)
    assert verb(vs.scan(tmp_path)).bytes_to_copy
    assert asked == maps
