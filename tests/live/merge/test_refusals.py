"""What qemu-img would spoil silently, or could not do, and is refused here."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from support.commands import run
from support.content import backing, content
from support.faulty import perform
from support.images import MIB, create, handout_chain, write
from support.nobody import as_nobody, nobodys_folder  # noqa: F401 - a fixture
from support.refusals import refused
from support.small_disk import resize

import vmsnap_nb as vs
from vmsnap_nb.errors import (
    ImageError,
    InUseError,
    NoSpaceError,
    PlanRefusedError,
    StalePlanError,
)

pytestmark = pytest.mark.system


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
    with pytest.raises(PlanRefusedError, match="sibling also depends on base"):
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
    with pytest.raises(StalePlanError, match="late is now based on"):
        plan.run(progress=False)
    paths[1].unlink()
    with pytest.raises(StalePlanError, match="no longer exists"):
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
    with pytest.raises(PlanRefusedError, match="would become visible"):
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
        plan = forest.commit("Snap-1")
        assert {c.name for c in plan.concerns if c.level == "refuse"} == {"in-use"}
        with pytest.raises(InUseError, match="lock"):
            perform(plan, plan.steps[0])
        assert not forest.unfinished(), "nothing was written, so there are no unfinished operations"
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


def test_an_image_that_is_recorded_as_raw_is_not_overwritten_as_raw(tmp_path: Path) -> None:
    base = create(tmp_path / "base.qcow2", size=MIB)
    create(tmp_path / "top.qcow2", base, backing_format="raw", size=MIB)
    write(tmp_path / "top.qcow2", "write -q -P 2 0 64k")
    disk = content(base)
    plan = vs.scan(tmp_path).commit("top")
    [concern] = [one for one in plan.concerns if one.name == "backing-format-wrong"]
    assert concern.level == "refuse"
    assert "looks like qcow2" in concern.what
    with pytest.raises(PlanRefusedError):
        plan.run(progress=False)
    assert content(base) == disk
    # A raw disk on which a guest has an image is one, too: then it is waived.
    top = content(tmp_path / "top.qcow2")
    assert plan.run(waive="backing-format-wrong", progress=False).as_predicted
    assert content(base, "raw") == top


def test_an_image_that_an_overlay_records_as_raw_may_be_an_overlay_itself(folder: Path) -> None:
    base = create(folder / "base.qcow2", size=MIB)
    mid = create(folder / "mid.qcow2", base)
    create(folder / "a.qcow2", mid, backing_format="raw", size=MIB)
    create(folder / "top.qcow2", base)
    forest = vs.scan(folder)
    [concern] = [one for one in forest.commit("top").concerns if one.level == "refuse"]
    assert (concern.name, concern.waivable) == ("unknown-image", True)
    assert f"{mid} may be an overlay of {base}" in concern.what
    assert str(base) not in [one.path for one in forest.leftovers().files]
    assert not forest.pull("top").refused


def test_a_file_that_was_not_read_may_be_an_overlay(folder: Path) -> None:
    top, sibling = siblings(folder, "absolute")
    (folder / "given").mkdir()
    for path in (folder / "base.qcow2", top):
        path.rename(folder / "given" / path.name)
    run("qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", folder / "given/base.qcow2", sibling)
    (folder / "given/link").symlink_to(sibling)
    plan = vs.scan(folder / "given").commit("top")
    assert [(c.name, c.waivable) for c in plan.concerns if c.level == "refuse"] == [("unknown-image", True)]
    assert refused(vs.scan(folder / "given", follow=True).commit("top")) == {"shared-base"}
    (folder / "given/link").unlink()
    assert not vs.scan(folder / "given").commit("top").refused


def test_a_file_that_may_not_be_read_may_be_an_overlay(nobodys_folder: Path) -> None:  # noqa: F811
    folder = nobodys_folder
    siblings(folder, "absolute")
    for path in (folder, *folder.rglob("*.qcow2")):
        shutil.chown(path, "nobody")
    (folder / "elsewhere/sibling.qcow2").chmod(0)
    (folder / "lost+found").mkdir(mode=0)
    plans = lambda: dict.fromkeys(refused(vs.scan(folder).commit("top")), 1)  # noqa: E731
    assert as_nobody(plans) == {"unknown-image": 1}
    (folder / "elsewhere/sibling.qcow2").unlink()
    assert as_nobody(plans) == {}


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
    assert "may contain part of the data" in " ".join(caught.value.__notes__)
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


def options_of(folder: Path, how: str) -> tuple[dict[str, object], str]:
    """Say by JSON what `low` is read through: a part of it, or another backing file than its header's."""
    low = {"driver": "file", "filename": str(folder / "low")}
    if how == "slice":
        (folder / "low").write_bytes(b"\x11" * MIB + b"\x22" * 4 * MIB + b"\x33" * MIB)
        return {"driver": "raw", "offset": MIB, "size": 4 * MIB, "file": low}, "raw"
    for number in (1, 2):
        (folder / f"{number}.raw").write_bytes(bytes([number]) * 4 * MIB)
    create(folder / "low", "1.raw", backing_format="raw")
    other = {"driver": "raw", "file": {"driver": "file", "filename": str(folder / "2.raw")}}
    return {"driver": "qcow2", "file": low, "backing": other}, "qcow2"


@pytest.mark.parametrize("verb", ["pull onto it", "pull all", "commit", "commit above", "remove", "shorten"])
@pytest.mark.parametrize("how", ["slice", "own backing file"])
def test_a_reference_with_options_is_never_written_as_a_plain_path(folder: Path, how: str, verb: str) -> None:
    options, format = options_of(folder, how)
    create(folder / "mid.qcow2", "json:" + json.dumps(options), backing_format=format)
    write(folder / "mid.qcow2", "write -q -P 0x44 0 64k")
    create(folder / "top.qcow2", "mid.qcow2")
    write(folder / "top.qcow2", "write -q -P 0x55 64k 64k")
    leaf = create(folder / "leaf.qcow2", "top.qcow2")
    was = content(leaf)
    forest = vs.scan(folder)
    plan = {
        "pull onto it": lambda: forest.pull("top", "low"),
        "pull all": lambda: forest.pull("top"),
        "commit": lambda: forest.commit("mid", "low"),
        "commit above": lambda: forest.commit("top", "mid"),
        "remove": lambda: forest.remove("mid"),
        "shorten": lambda: forest.shorten("leaf", keep=2),
    }[verb]()
    if verb == "commit above":  # what mid itself refers to stays as it is written
        assert plan.run(progress=False).as_predicted
    else:
        with pytest.raises(PlanRefusedError, match="with options that would be lost"):
            plan.run(progress=False)
    assert content(leaf) == was


def test_nothing_is_taken_from_the_map_of_a_file_of_which_a_part_is_read(folder: Path) -> None:
    low = {"driver": "file", "filename": str(create(folder / "low", size=8 * MIB, format="raw"))}
    write(folder / "low", "write -q -P 9 6M 1M", format="raw")
    part = {"driver": "raw", "offset": 4 * MIB, "size": 4 * MIB, "file": low}
    create(folder / "mid.qcow2", "json:" + json.dumps(part), backing_format="raw")
    create(folder / "top.qcow2", "mid.qcow2", size=2 * MIB)
    leaf = create(folder / "leaf.qcow2", "top.qcow2", size=4 * MIB)  # longer than what is below: it reads zeros there
    was = content(leaf)
    forest = vs.scan(folder)
    assert not forest["mid"].problem  # it is as large as the part
    assert "smaller-size" in refused(forest.commit("top", "mid"))
    assert content(leaf) == was
    with pytest.raises(ImageError, match="with options"):
        forest.blockmap("mid")
    with pytest.raises(ImageError, match="with options"):
        forest.chain("mid").files()
    row = forest.space().to_frame().loc[str(folder / "low")]
    assert row[["hidden", "reclaim"]].isna().all()


def test_a_container_of_an_image_is_not_that_image(folder: Path) -> None:
    inner = create(folder / "inner", size=MIB)
    (folder / "low.ova").write_bytes(bytes(512) + inner.read_bytes())
    inner.unlink()
    low = {"driver": "file", "filename": str(folder / "low.ova")}
    options = {"driver": "qcow2", "file": {"driver": "raw", "offset": 512, "file": low}}
    create(folder / "mid.qcow2", "json:" + json.dumps(options))
    top = create(folder / "top.qcow2", "mid.qcow2")
    write(top, "write -q -P 5 0 64k")
    was = content(top)
    forest = vs.scan(folder)
    assert {forest.status(image) for image in forest} == {"ok"}
    assert forest["low.ova"].format == "raw"
    assert refused(forest.pull("top")) == {"not-supported"}
    assert forest.commit("top").run(progress=False).as_predicted
    assert content(folder / "mid.qcow2") == was


@pytest.mark.parametrize("verb", ["pull", "commit into it", "repoint it", "commit it"])
def test_an_image_that_reads_other_data_under_another_name_is_not_changed(folder: Path, verb: str) -> None:
    (folder / "a").mkdir(), (folder / "b").mkdir()
    for place in "ab":
        create(folder / place / "base", size=MIB)
        write(folder / place / "base", f"write -q -P {ord(place)} 0 64k")
        create(folder / place / "mid", "base")
    create(folder / "a" / "over", "mid")
    create(folder / "a" / "top", "over")
    write(folder / "a" / "top", "write -q -P 3 64k 64k")
    (folder / "b" / "over").symlink_to("../a/over")
    forest, place = vs.scan(folder), folder / "a"
    plan = {
        "pull": lambda: forest.pull(place / "over"),
        "commit into it": lambda: forest.commit(place / "top"),
        "repoint it": lambda: forest.commit(place / "mid"),
        "commit it": lambda: forest.commit(place / "over"),
    }[verb]()
    assert refused(plan) == {"shared-base"}
    (folder / "b" / "mid").unlink()  # then nothing can be read by that name
    assert not vs.scan(folder).pull(place / "over").refused


END = MIB + 4096
"""Where an image ends inside of a cluster."""


def test_data_behind_the_end_of_an_image_is_not_pulled_into_it(folder: Path) -> None:
    base = create(folder / "base.qcow2", size=2 * MIB)
    write(base, "write -q -P 1 0 2M")
    mid = create(folder / "mid.qcow2", base, size=END)
    top = create(folder / "top.qcow2", mid, size=2 * MIB)
    was = content(top)
    for plan in (vs.scan(folder).pull("mid"), vs.scan(folder).remove("base", method=2)):
        assert refused(plan) == {"smaller-size"}
        (remedy,) = {str(concern.remedy) for concern in plan.concerns if "inside a cluster" in concern.what}
    run(*remedy.partition(": ")[2].split())
    assert vs.scan(folder).pull("mid").run(progress=False).as_predicted
    assert content(top) == was
    assert vs.scan(folder).commit("top").run(progress=False).as_predicted
    assert content(mid) == was


@pytest.mark.parametrize("longer", [False, True])
def test_data_that_an_image_holds_behind_its_own_end_stays_hidden(folder: Path, longer: bool) -> None:
    base = create(folder / "base.qcow2", size=2 * MIB if longer else END)
    mid = create(folder / "mid.qcow2", base, size=2 * MIB)
    write(mid, "write -q -P 1 0 2M")
    top = create(folder / "top.qcow2", mid, size=END)
    write(top, f"write -q -P 2 {MIB} 512")  # QEMU copies the rest of the cluster
    plan = vs.scan(folder).pull("top", "base")
    if not longer:
        assert refused(plan) == {"smaller-size"}
        (remedy,) = {str(concern.remedy) for concern in plan.concerns if "inside a cluster" in concern.what}
        run(*remedy.partition(": ")[2].split())
        plan = vs.scan(folder).pull("top", "base")
    assert plan.run(progress=False).as_predicted
    run("qemu-img", "resize", "-q", "-f", "qcow2", top, str(2 * MIB))
    assert not any(content(top)[END:])


@pytest.mark.parametrize("held", [False, True])
def test_data_behind_the_end_of_a_base_does_not_become_visible(folder: Path, held: bool) -> None:
    base = create(folder / "base.qcow2", size=2 * MIB)
    write(base, "write -q -P 1 0 2M")
    run("qemu-img", "resize", "-q", "-f", "qcow2", "--shrink", base, str(END))
    top = create(folder / "top.qcow2", base, size=2 * MIB)
    write(top, "write -q -P 2 0 64k", *([f"write -q -P 3 {END} 64k"] if held else []))
    was = content(top)
    plan = vs.scan(folder).commit("top")
    if held:  # then all of the cluster is written over
        assert plan.run(progress=False).as_predicted
        assert content(base) == was
    else:
        assert refused(plan) == {"smaller-size"}
        assert vs.scan(folder).pull("top").run(progress=False).as_predicted  # the remedy
        assert content(top) == was
