"""What helps against a refusal is done as it says, with real images: then the same request is not refused for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.commands import qemu_img
from support.content import content
from support.images import create, write

import vmsnap_nb as vs
from vmsnap_nb.lab.breaking import forget_backing_format
from vmsnap_nb.words.message import t

pytestmark = pytest.mark.system

Ask = Callable[[vs.LiveForest], vs.LivePlan]


@dataclass(frozen=True)
class Case:
    """A fault, the request that it has refused, words of the remedy, and what a user does who follows it."""

    name: str
    make: Callable[[Path], object]
    ask: Ask
    says: str
    follow: Callable[[Path, str], object]
    again: Ask | None = None


def rebase(folder: Path, image: str, base: str, *more: str) -> None:
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", base, *more, folder / image)


def command(folder: Path, remedy: str) -> None:
    """Run the command line that the remedy ends with, or that ends at its next sentence."""
    line = remedy.partition(": ")[2].partition(". ")[0]
    subprocess.run(line.replace("NEW.qcow2", "new.qcow2"), shell=True, check=True, cwd=folder, capture_output=True)


def loop(folder: Path) -> None:
    rebase(folder, "base.qcow2", "top.qcow2", "-F", "qcow2")


def convert(folder: Path, format: str) -> None:
    """Have the middle layer be of another format."""
    mid = folder / "mid.qcow2"
    qemu_img("convert", "-O", format, mid, folder / "other")
    os.replace(folder / "other", mid)
    rebase(folder, "top.qcow2", "mid.qcow2", "-F", format)


def with_data_file(folder: Path) -> None:
    create(folder / "apart.qcow2", size="1M", data_file=folder / "apart.raw")
    create(folder / "over.qcow2", folder / "apart.qcow2")


def into_one_file(folder: Path, _: str) -> None:
    qemu_img("convert", "-O", "qcow2", folder / "apart.qcow2", folder / "one.qcow2")
    rebase(folder, "over.qcow2", "one.qcow2", "-F", "qcow2")


def use_the_copy(folder: Path, remedy: str) -> None:
    command(folder, remedy)
    os.replace(folder / "new.qcow2", folder / "mid.qcow2")
    rebase(folder, "top.qcow2", "mid.qcow2", "-F", "qcow2")


def pull_what_it_says(folder: Path, remedy: str) -> None:
    """Do the pull of the last sentence, as in "pull the layers below top into top instead. Or pull mid into other"."""
    found = re.search(r"Or pull \w+ into (\w+)", remedy)
    assert found
    assert vs.scan(folder).pull(found[1]).run(progress=False).as_predicted


CASES = (
    Case(
        "loop",
        loop,
        lambda forest: forest.pull("top"),
        "qemu-img rebase -u",
        lambda folder, _: rebase(folder, "base.qcow2", ""),
    ),
    Case(
        "missing-base",
        lambda folder: (folder / "mid.qcow2").rename(folder / "moved.qcow2"),
        lambda forest: forest.pull("top"),
        "qemu-img rebase -u",
        lambda folder, _: rebase(folder, "top.qcow2", "moved.qcow2", "-F", "qcow2"),
    ),
    Case(
        "missing-base",
        lambda folder: shutil.move(folder / "mid.qcow2", folder / "kept"),
        lambda forest: forest.commit("top"),
        "restore it",
        lambda folder, _: shutil.move(folder / "kept", folder / "mid.qcow2"),
    ),
    Case(
        "backing-format-missing",
        lambda folder: forget_backing_format(folder / "top.qcow2", t("prepare it")),
        lambda forest: forest.pull("top"),
        "qemu-img rebase -u",
        command,
    ),
    Case(
        "backing-format-wrong",
        lambda folder: rebase(folder, "top.qcow2", "mid.qcow2", "-F", "raw"),
        lambda forest: forest.commit("top"),
        "correct the format that the overlay records",
        lambda folder, _: rebase(folder, "top.qcow2", "mid.qcow2", "-F", "qcow2"),
    ),
    Case(
        "shared-base",
        lambda folder: create(folder / "other.qcow2", folder / "mid.qcow2"),
        lambda forest: forest.commit("top"),
        "pull the layers below top into top instead",
        lambda folder, _: None,
        lambda forest: forest.pull("top"),
    ),
    Case(
        "shared-base",
        lambda folder: create(folder / "other.qcow2", folder / "mid.qcow2"),
        lambda forest: forest.commit("top"),
        "Or pull mid into other first",
        pull_what_it_says,
    ),
    Case(
        "not-supported",
        lambda folder: convert(folder, "vmdk"),
        lambda forest: forest.commit("top"),
        "qemu-img convert",
        lambda folder, _: use_the_copy(folder, "x: qemu-img convert -O qcow2 mid.qcow2 NEW.qcow2"),
    ),
    Case(
        "not-supported",
        with_data_file,
        lambda forest: forest.commit("over"),
        "qemu-img convert",
        into_one_file,
    ),
    Case(
        "smaller-size",
        lambda folder: None,
        lambda forest: forest.overlay("new", "top", size="1M"),
        "omit size",
        lambda folder, _: None,
        lambda forest: forest.overlay("new", "top"),
    ),
    Case(
        "file-exists",
        lambda folder: create(folder / "spare.qcow2", size="1M"),
        lambda forest: forest.overlay("spare.qcow2", "top"),
        "choose another name",
        lambda folder, _: None,
        lambda forest: forest.overlay("another", "top"),
    ),
    Case(
        "file-exists",
        lambda folder: (folder / "new.qcow2").write_bytes(b"x"),
        lambda forest: forest.overlay("new", "top"),
        "remove the file yourself",
        lambda folder, _: (folder / "new.qcow2").unlink(),
    ),
    Case(
        "loop",
        lambda folder: rebase(folder, "base.qcow2", "new.qcow2", "-F", "qcow2"),
        lambda forest: forest.overlay("new", "top"),
        "choose another name",
        lambda folder, _: rebase(folder, "base.qcow2", ""),
        lambda forest: forest.overlay("another", "top"),
    ),
    Case(
        "backing-format-wrong",
        lambda folder: None,
        lambda forest: forest.overlay("new", "top", backing_format="raw"),
        "omit backing_format",
        lambda folder, _: None,
        lambda forest: forest.overlay("new", "top"),
    ),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    below = None
    for number, name in enumerate(("base", "mid", "top"), 1):
        below = create(tmp_path / f"{name}.qcow2", below, size=None if below else "2M")
        write(below, f"write -q -P {number} {number * 64}k 64k")
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=[f"{case.name}: {case.says}" for case in CASES])
def test_a_remedy_can_be_followed(case: Case, folder: Path) -> None:
    def against(plan: vs.LivePlan) -> list[str]:
        return [str(one.remedy) for one in plan.concerns if (one.name, one.level) == (case.name, "refuse")]

    was = content(folder / "top.qcow2")
    case.make(folder)
    remedies = [remedy for remedy in against(case.ask(vs.scan(folder))) if case.says in remedy]
    assert remedies, against(case.ask(vs.scan(folder)))
    case.follow(folder, remedies[0])
    plan = (case.again or case.ask)(vs.scan(folder))
    assert against(plan) == []
    assert plan.run(progress=False).as_predicted
    if vs.scan(folder)["top"].status == "ok":
        assert content(folder / "top.qcow2") == was
