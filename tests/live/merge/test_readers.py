"""Who may read an image may read what is copied into it: else an overlay is a way to read what is closed."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from support.images import create, write
from support.nobody import NOBODY, as_nobody

import vmsnap_nb as vs
from vmsnap_nb.errors import PlanRefusedError
from vmsnap_nb.model.permit import Permit
from vmsnap_nb.plans.checks.readers import moved_into, new_readers
from vmsnap_nb.plans.concern import Concern
from vmsnap_nb.plans.plan import Plan

pytestmark = pytest.mark.system
of_root = pytest.mark.skipif(os.geteuid() != 0, reason="files of several users")


def about_readers(plan: Plan) -> list[Concern]:
    return [concern for concern in plan.concerns if concern.name == "other-readers"]


@pytest.fixture
def planted(nobodys_folder: Path) -> Path:
    """An image that is closed to a user, and the overlay that this user has made on it."""
    folder = nobodys_folder
    closed, open_ = folder / "closed", folder / "open"
    closed.mkdir(mode=0o755)
    open_.mkdir(mode=0o755)
    write(create(closed / "base.qcow2", size=1 << 20), "write -q -P 7 0 64k")
    (closed / "base.qcow2").chmod(0o600)
    top = create(open_ / "top.qcow2", closed / "base.qcow2")
    if os.geteuid() == 0:
        os.chown(top, NOBODY, NOBODY)
    top.chmod(0o600)
    return folder


@of_root
@pytest.mark.parametrize("by", ["mode", "folder"])
def test_a_pull_into_an_overlay_of_somebody_who_may_not_read_the_image_is_refused(planted: Path, by: str) -> None:
    base, top = planted / "closed" / "base.qcow2", planted / "open" / "top.qcow2"
    if by == "folder":
        base.chmod(0o644)
        base.parent.chmod(0o700)
    forest = vs.scan(planted)
    plan = forest.pull("top")
    [concern] = about_readers(plan)
    assert (concern.level, concern.waivable, concern.images) == ("refuse", True, (str(top), str(base)))
    assert "nobody" in concern.what
    with pytest.raises(PlanRefusedError):
        plan.run(progress=False)
    assert as_nobody(lambda: {"read": b"\7" * 512 in top.read_bytes()}) == {"read": False}
    assert [one.level for one in about_readers(forest.shorten("top", keep=1))] == ["refuse"]
    assert about_readers(forest.commit("top", "base")) == [], "root may read both"
    subprocess.run(concern.remedy.partition(": ")[2].partition(". ")[0], shell=True, check=True)
    assert about_readers(vs.scan(planted).pull("top")) == []
    assert vs.scan(planted).pull("top").run(progress=False).as_predicted


@of_root
@pytest.mark.parametrize(
    ("base", "top", "level"),
    [
        ((0, 0o644), (NOBODY, 0o644), []),
        ((NOBODY, 0o600), (NOBODY, 0o600), []),
        ((NOBODY, 0o644), (NOBODY, 0o664), []),
        ((NOBODY, 0o600), (0, 0o600), []),
        ((0, 0o600), (0, 0o644), ["warn"]),
        ((0, 0o640), (4242, 0o600), ["refuse"]),
    ],
)
def test_who_may_read_both_is_no_reason(
    planted: Path, base: tuple[int, int], top: tuple[int, int], level: list[str]
) -> None:
    for path, (owner, mode) in ((planted / "closed/base.qcow2", base), (planted / "open/top.qcow2", top)):
        os.chown(path, owner, owner)
        path.chmod(mode)
    assert [one.level for one in about_readers(vs.scan(planted).pull("top"))] == level


def test_what_everybody_could_read_after_a_move(planted: Path) -> None:
    old = planted / "closed" / "base.qcow2"
    (planted / "open" / "top.qcow2").unlink()
    old.chmod(0o644)
    old.parent.chmod(0o700)
    plan = vs.scan(planted).leftovers().move(planted / "open")
    [concern] = about_readers(plan)
    assert concern.level == "warn"
    subprocess.run(shlex.split(concern.remedy.partition(": ")[2]), check=True)
    assert about_readers(vs.scan(planted).leftovers().move(planted / "open")) == []


@pytest.mark.parametrize("alias", [False, True])
def test_what_is_written_to_has_no_name_elsewhere(tmp_path: Path, alias: bool) -> None:
    """As in a lab out of an archive, in which an image is a hard link to a file of whom unpacks it."""
    images = tmp_path / "images"
    images.mkdir()
    base = create(images / "base.qcow2", size=1 << 20)
    create(images / "top.qcow2", base)
    base.with_name("Other.qcow2").hardlink_to(base)
    assert not vs.scan(images).commit("top", "base.qcow2").refused
    base.with_name("Other.qcow2").rename(tmp_path / "mine")
    if alias:
        base.with_name("alias.qcow2").symlink_to(base.name)
    [concern] = [one for one in vs.scan(images).commit("top", "base.qcow2").concerns if one.level == "refuse"]
    assert (concern.name, concern.images, concern.waivable) == ("shared-base", (str(base),), True)
    assert not vs.scan(images).pull("top").refused, "nothing is written to the base"


def test_groups_and_the_accounts_of_the_system() -> None:
    root = Permit(owner=0, user="root", is_system=True)
    of_qemu = Permit(owner=64055, user="libvirt-qemu", is_system=True)
    mine = Permit(owner=1000, user="me")
    closed = Permit(owner=0, user="root", is_system=True, closed_to=frozenset({1000, 64055}))
    assert list(new_readers({"a": closed, "b": of_qemu}, ["a", "b"], "b", up=True)) == []
    assert [one.level for one in new_readers({"a": closed, "b": mine}, ["a", "b"], "b", up=True)] == ["refuse"]
    assert [one.level for one in new_readers({"a": closed, "b": mine}, ["a", "b"], "b", up=False)] == ["warn"]
    staff = Permit(owner=0, user="root", is_system=True, group="staff")
    [concern] = new_readers({"a": root, "b": staff}, ["a"], "b", up=True)
    assert (concern.level, "group staff" in concern.what) == ("warn", True)
    assert list(new_readers({"a": staff, "b": staff}, ["a"], "b", up=True)) == []
    assert list(new_readers({"a": root}, ["a"], "b", up=True)) == []
    assert list(moved_into({"a": root}, ["a"], "/to")) == []
