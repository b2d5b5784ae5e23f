"""New overlays as real files: what qemu-img says of them, and what happens when something is in the way."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import qemu_img
from support.faulty import perform
from support.images import create
from support.small_disk import small_disk

import vmsnap_nb as vs
from vmsnap_nb.errors import (
    InvalidRequestError,
    NoSpaceError,
    NotFoundError,
    PlanRefusedError,
    StalePlanError,
    VmsnapError,
)
from vmsnap_nb.live import image_actions
from vmsnap_nb.plans.overlay.reference import NEW_OVERLAY_BYTES
from vmsnap_nb.system.qemu import qemu_img as qemu_img_module

pytestmark = pytest.mark.system
MIB = 1 << 20


def info(path: Path) -> dict[str, object]:
    return dict(json.loads(qemu_img("info", "--output=json", str(path))))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return create(tmp_path / "RootBase.qcow2")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 512 KiB."""
    with small_disk(tmp_path / "small", "512k") as folder:
        yield folder


def test_an_overlay_is_what_was_planned(base: Path) -> None:
    new = base.with_name("Overlay-1.qcow2")
    plan = vs.create_overlay(new, base)
    assert not new.exists()
    report = plan.run()
    assert report.as_predicted, report.differences
    found = info(new)
    assert found["backing-filename"] == str(base)
    assert found["backing-filename-format"] == "qcow2"
    assert found["virtual-size"] == 64 * MIB
    assert found["actual-size"] == NEW_OVERLAY_BYTES
    assert files(base.parent) == {"RootBase.qcow2", "Overlay-1.qcow2"}
    assert [layer.name for layer in vs.chain(new)] == ["RootBase", "Overlay-1"]


def test_the_command_by_hand_gives_the_same(base: Path) -> None:
    ours, theirs = base.with_name("ours.qcow2"), base.with_name("theirs.qcow2")
    options = {"size": 80 * MIB, "cluster_size": 4096, "relative": True}
    vs.create_overlay(ours, base, **options).run()  # type: ignore[arg-type]
    (command,) = vs.create_overlay(theirs, base, **options).commands  # type: ignore[arg-type]
    subprocess.run(["sh", "-ec", command], check=True, cwd=base.parent)
    one, two = info(ours), info(theirs)
    assert one.pop("filename") != two.pop("filename")
    one.pop("children", None), two.pop("children", None)
    assert one == two
    assert one["backing-filename"] == "RootBase.qcow2"


@pytest.mark.parametrize(
    "name", ["with space", "quote'\"", "虚拟机 快照.qcow2", "-rf", "a:b", "x" * 255, "new\nline", "😀"]
)
@pytest.mark.parametrize("relative", [True, False])
def test_a_base_of_any_name_gets_an_overlay(tmp_path: Path, name: str, relative: bool) -> None:
    base, new = tmp_path / name, tmp_path / f"{name[:200]} over.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", str(base), "1M")
    report = vs.create_overlay(new, base, relative=relative).run()
    assert report.as_predicted, report.differences
    chain = json.loads(qemu_img("info", "--output=json", "--backing-chain", str(new)))
    assert len(chain) == 2
    assert len(vs.chain(new)) == 2
    assert shlex.split(report.plan.commands[0])[-1] == str(new)


def test_relative_images_can_be_moved_together(base: Path, tmp_path: Path) -> None:
    vs.create_overlay(base.with_name("top"), base, relative=True).run()
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("RootBase.qcow2", "top.qcow2"):
        (tmp_path / name).rename(moved / name)
    assert [layer.status for layer in vs.chain(moved / "top.qcow2")] == ["ok", "ok"]


def test_a_raw_base_needs_its_format_once(tmp_path: Path) -> None:
    base, new = tmp_path / "disk.raw", tmp_path / "top.qcow2"
    base.write_bytes(b"\1" * MIB)
    with pytest.raises(PlanRefusedError, match="backing-format-missing"):
        vs.create_overlay(new, base).run()
    assert vs.create_overlay(new, base, backing_format="raw").run().as_predicted
    assert vs.create_overlay(tmp_path / "second", base).run().as_predicted  # the first overlay says it
    with pytest.raises(PlanRefusedError, match="backing-format-wrong"):
        vs.create_overlay(tmp_path / "third", new, backing_format="raw").run()


@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("on", ["sent.qcow2", "top.qcow2"])
def test_a_link_in_a_downloaded_folder_to_a_file_of_another_is_said(
    tmp_path: Path, link: Callable[[str, str], None], on: str
) -> None:
    """An archive can have links; what is linked would be the guest's disk."""
    secret, folder = tmp_path / "host" / "secret.qcow2", tmp_path / "sent"
    for path in (secret.parent, folder):
        path.mkdir()
    create(secret)
    link(str(secret), str(folder / "sent.qcow2"))
    create(folder / "top.qcow2", "sent.qcow2")
    concerns = vs.scan(folder, follow=True).overlay("new.qcow2", backing=on).concerns
    assert [(one.name, one.level) for one in concerns] == [("untrusted-backing", "warn")]
    assert str(folder / "sent.qcow2") in concerns[0].what
    assert vs.scan(folder, secret.parent).overlay("new.qcow2", backing=on).concerns == ()
    own = folder / "own.qcow2"
    own.symlink_to("sub/below.qcow2")
    (folder / "sub").mkdir()
    create(folder / "sub" / "below.qcow2")
    assert vs.scan(folder, follow=True).overlay("new.qcow2", backing="own.qcow2").concerns == ()


def test_nothing_is_ever_overwritten(base: Path) -> None:
    for name in ("file", "link", "folder"):
        path = base.with_name(f"{name}.qcow2")
        if name == "file":
            path.write_text("precious")
        elif name == "link":
            path.symlink_to("nowhere")
        else:
            path.mkdir()
        with pytest.raises(PlanRefusedError, match="file-exists"):
            vs.create_overlay(path, base).run()
    assert base.with_name("file.qcow2").read_text() == "precious"


@pytest.mark.parametrize("path", ["", ".", "..", "folder/"])
def test_a_new_image_needs_a_name(base: Path, path: str) -> None:
    for create_overlay in (vs.scan(base.parent).overlay, vs.create_overlay):
        with pytest.raises(InvalidRequestError, match="does not end in a file name"):
            create_overlay(path, base)


def test_a_file_that_appears_at_the_last_moment_is_kept(base: Path) -> None:
    new = base.with_name("new.qcow2")
    plan = vs.create_overlay(new, base)
    new.write_text("precious")
    with pytest.raises(VmsnapError, match="File exists"):
        perform(plan, plan.steps[0])
    assert new.read_text() == "precious"
    assert files(base.parent) == {"RootBase.qcow2", "new.qcow2"}


def test_a_file_that_takes_the_temporary_name_is_not_published(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As somebody can do who may write to the folder, even between the last check and the end."""
    new = base.with_name("new.qcow2")
    check = image_actions.check_same

    def swap(path: str, *rest: Any) -> None:
        check(path, *rest)
        if path != str(new):
            os.rename(path, f"{path}.moved")
            Path(path).write_text("somebody else's")

    monkeypatch.setattr(image_actions, "check_same", swap)
    vs.create_overlay(new, base).run(progress=False)
    monkeypatch.undo()
    assert [layer.name for layer in vs.chain(new)] == [base.stem, "new"]


@pytest.mark.parametrize("relative", [False, True])
def test_qemu_writes_to_the_file_that_was_made(base: Path, monkeypatch: pytest.MonkeyPatch, *, relative: bool) -> None:
    """Somebody who may write to the folder puts a link in its place before QEMU has opened it."""
    precious = base.with_name("precious")
    precious.write_text("x")
    run = qemu_img_module.run

    def swap(*rest: Any, **options: Any) -> Any:
        for path in base.parent.glob(".*.partial"):
            path.rename(f"{path}.moved")
            path.symlink_to(precious)
        return run(*rest, **options)

    monkeypatch.setattr(qemu_img_module, "run", swap)
    with pytest.raises(StalePlanError):
        vs.create_overlay(base.with_name("new"), base, relative=relative).run(progress=False)
    assert precious.read_text() == "x"


def test_refusals_leave_everything_as_it_was(base: Path, tmp_path: Path) -> None:
    before = files(tmp_path)
    for name, path, on, options in (
        ("smaller-size", "new", base, {"size": MIB}),
        ("missing-base", "new", tmp_path / "nowhere", {}),
        ("missing-base", "new", tmp_path, {}),
        ("loop", "RootBase.qcow2", base, {}),
        ("no-permission", "no/such/folder/new", base, {}),
    ):
        with pytest.raises(PlanRefusedError, match=name) as caught:
            vs.create_overlay(tmp_path / path, on, **options).run()  # type: ignore[arg-type]
        assert caught.value.next_step
    for bad in ("", "a\0b", "x" * 256):
        with pytest.raises(InvalidRequestError):
            vs.create_overlay(bad or tmp_path / "new", base if bad else bad)
    assert files(tmp_path) == before


def test_a_base_in_a_loop_is_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    qemu_img("create", "-q", "-f", "qcow2", str(one), "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(one), str(two))
    qemu_img("rebase", "-q", "-u", "-F", "qcow2", "-b", str(two), str(one))
    with pytest.raises(PlanRefusedError, match="loop"):
        vs.create_overlay(tmp_path / "three", two).run()


def test_a_base_that_changed_since_makes_the_plan_stale(base: Path) -> None:
    plan = vs.create_overlay(base.with_name("new"), base)
    qemu_img("resize", "-q", str(base), "128M")
    with pytest.raises(StalePlanError, match=r"virtual size 128 MiB \(expected 64 MiB\)"):
        plan.run()
    plan = vs.create_overlay(base.with_name("new"), base)
    base.unlink()
    with pytest.raises(StalePlanError, match="no longer exists"):
        plan.run()


def test_plans_of_one_forest_run_one_after_the_other(base: Path) -> None:
    forest = vs.scan(base.parent)
    assert forest.overlay("one.qcow2", base.name).run().as_predicted
    assert forest.overlay("two.qcow2", base.name).run().as_predicted
    above = forest.overlay("three.qcow2", "two")
    assert above.run().as_predicted, "what the plan before has made is found by its name"
    assert len(forest) == 1, "a forest stays as it was read"
    assert [image.name for image in forest.refresh().chain("three")] == [base.stem, "two", "three"]


def test_a_stale_plan_is_mended_as_its_error_says(base: Path) -> None:
    forest = vs.scan(base.parent)
    plan = forest.overlay("new.qcow2", base.name)
    qemu_img("resize", "-q", str(base), "128M")
    with pytest.raises(StalePlanError, match="create the plan again"):
        plan.run()
    assert forest.overlay("new.qcow2", base.name).run().as_predicted


def test_protect_takes_the_write_permission(base: Path) -> None:
    report = vs.create_overlay(base.with_name("new"), base, protect=True).run()
    assert report.as_predicted
    assert base.stat().st_mode & 0o222 == 0
    again = vs.create_overlay(base.with_name("second"), base, protect=True)
    assert [step.action for step in again.steps] == ["create overlay"]


def test_a_full_disk_is_foreseen_and_survived(base: Path, small: Path) -> None:
    (small / "filler").write_bytes(b"x" * (400 << 10))
    with pytest.raises(PlanRefusedError, match="no-space"):
        vs.create_overlay(small / "new", base).run()
    (small / "filler").unlink()
    plan = vs.create_overlay(small / "new", base)
    (small / "filler").write_bytes(b"x" * (400 << 10))
    with pytest.raises(NoSpaceError):
        perform(plan, plan.steps[0])
    assert files(small) == {"filler"}


def test_a_hundred_overlays_take_little_and_come_in_one_call(base: Path) -> None:
    forest = vs.scan(base.parent)
    plan = forest.overlay([f"thin-{n}" for n in range(100)], "RootBase")
    assert len(plan.steps) == 100
    report = plan.run()
    assert report.as_predicted, report.differences
    frame = forest.refresh().to_frame()
    thin = frame[frame["depth"] == 2]
    assert len(thin) == 100
    du = sum(os.stat(path).st_blocks * 512 for path in thin.index)
    assert thin["allocated"].sum() == du
    assert du < 25 * MIB


def test_a_failed_series_takes_back_its_first_images(base: Path, small: Path) -> None:
    plan = vs.scan(base.parent).overlay([small / "a", small / "b"], base)
    (small / "filler").write_bytes(b"x" * (250 << 10))
    job = plan.place.actions
    made = job[type(plan.steps[0])](plan.steps[0])
    made()
    assert files(small) == {"filler"}


def test_an_image_is_found_by_its_name_if_no_other_has_it(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    qemu_img("create", "-q", "-f", "qcow2", str(other / "RootBase.qcow2"), "1M")
    qemu_img("create", "-q", "-f", "qcow2", str(other / "single.img"), "1M")
    forest = vs.scan(tmp_path)
    assert forest.find("single") == str(other / "single.img")
    with pytest.raises(NotFoundError, match="several"):
        forest.overlay("new", "RootBase")
    with pytest.raises(NotFoundError, match="single"):
        forest.find("nobody")
    with pytest.raises(NotFoundError, match="no such folder"):
        vs.scan(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="the file does not exist"):
        vs.chain(tmp_path / "nowhere")
    for reads in (vs.scan, vs.chain, lambda there: vs.create_overlay(tmp_path / "new", there)):
        with pytest.raises(InvalidRequestError, match="only local files"):
            reads("nbd://box:10809/disk")
    vs.scan(tmp_path).overlay("far", "single", backing_format="qcow2").run(progress=False)
    qemu_img("rebase", "-u", "-F", "raw", "-b", "nbd://box:10809/disk", str(other / "far.qcow2"))
    assert vs.scan(tmp_path).find("nbd://box:10809/disk") == "nbd://box:10809/disk"


def test_reading_stays_in_the_folder_unless_asked(base: Path, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    vs.create_overlay(inside / "top", base).run()
    assert [layer.status for layer in vs.chain(inside / "top")] == ["outside", "ok"]
    assert [layer.status for layer in vs.chain(inside / "top", follow=True)] == ["ok", "ok"]
    assert [layer.status for layer in vs.chain(inside / "top", folders=[tmp_path])] == ["ok", "ok"]
    assert vs.scan(inside)[str(base)].status == "outside"


def test_an_overlay_outside_of_the_folders_that_were_read_is_as_predicted(base: Path, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    base = base.rename(inside / base.name)
    report = vs.scan(inside).overlay(tmp_path / "top.qcow2", backing=base).run(progress=False)
    assert report.as_predicted, report.differences


def test_sizes_as_qemu_img_takes_them(base: Path) -> None:
    new = base.with_name("Overlay-1.qcow2")
    assert vs.create_overlay(new, base, size="1.5G", cluster_size="128k").run(progress=False).as_predicted
    assert (info(new)["virtual-size"], info(new)["cluster-size"]) == (1536 * MIB, 128 << 10)
    forest = vs.scan(base.parent)
    assert (
        forest.overlay("Overlay-2", base, size="2 GiB").after[str(base.with_name("Overlay-2"))].virtual_size == 2 << 30
    )
    for wrong in ("five", "5X", "-5M", ""):
        with pytest.raises(InvalidRequestError, match=r"read the size"):
            forest.overlay("Overlay-3", base, size=wrong)


def test_the_chain_of_an_image_is_found_by_name(base: Path) -> None:
    vs.create_overlay(base.with_name("Overlay-1.qcow2"), base).run(progress=False)
    forest = vs.scan(base.parent)
    assert [layer.name for layer in forest.chain("Overlay-1")] == ["RootBase", "Overlay-1"]
    with pytest.raises(NotFoundError, match=r"Available: Overlay-1, RootBase"):
        forest.chain("Overlay-9")
