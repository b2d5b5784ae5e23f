"""Exercises in reading: the answer is a name or a word, and no image changes."""

from __future__ import annotations

from collections.abc import Iterator

from vmsnap_nb.lab.alpine import copy_checked, find_alpine
from vmsnap_nb.lab.exercises.aims import answered, unchanged
from vmsnap_nb.lab.exercises.exercise import Aim, Exercise, Seen
from vmsnap_nb.lab.exercises.stage import Stage
from vmsnap_nb.live.forest import scan
from vmsnap_nb.words.message import N_, t

__all__ = ["READING", "STRANGERS"]

# The names say nothing: disk-f needs disk-a and disk-d; the others are of another chain, or only look like it.
STRANGERS = (
    ("disk-d", ""),
    ("disk-a", "disk-d"),
    ("disk-f", "disk-a"),
    ("disk-b", "disk-d"),
    ("disk-c", ""),
    ("disk-e", "disk-c"),
)


def _read_needed(stage: Stage) -> None:
    stage.images(*STRANGERS)
    stage.note("disk-f")
    stage.expect("disk-f", "disk-a", "disk-d")


def _read_needed_aims(seen: Seen) -> Iterator[Aim]:
    yield answered(seen, t("the answer names exactly the files that disk-f consists of"), images=True)
    yield from unchanged(seen, "disk-f")


def _read_monday(stage: Stage) -> None:
    stage.images(("Diary", ""))
    guest = stage.define("diary", "Diary")
    for day in ("monday", "tuesday"):
        guest.snapshot(day, kind="external-disk", disks={"vda": stage.path(day)}).run(progress=False)
    stage.note("Diary", "monday", "tuesday")
    stage.expect("Diary")


def _read_monday_aims(seen: Seen) -> Iterator[Aim]:
    yield answered(seen, t("the answer names the file that holds the end of Monday's data"), images=True)
    yield from unchanged(seen, "Diary", "monday", "tuesday")


def _look_inside(stage: Stage) -> None:
    stage.folder.mkdir(parents=True)
    copy_checked(find_alpine().disk, stage.folder / "RootBase.qcow2")
    stage.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", stage.path("RootBase"), stage.path("Top"))
    content = scan(stage.folder).chain("Top").read("/etc/alpine-release")
    stage.expect(content.decode())


def _look_inside_aims(seen: Seen) -> Iterator[Aim]:
    yield answered(seen, t("the answer is what /etc/alpine-release contains"))
    top = seen.image("Top")
    found = t("{image}.qcow2 no longer exists", image="Top")
    yield Aim(t("Top still exists"), top is not None, found, kept=True)


READING = (
    Exercise(
        name="read-needed",
        title=N_("What a backup must contain"),
        topic="overlays",
        level="easy",
        task=N_(
            "Do not change anything. Which files must a backup contain so that disk-f.qcow2 can be read from it? "
            "Give their names with lab.answer, in any order."
        ),
        build=_read_needed,
        aims=_read_needed_aims,
    ),
    Exercise(
        name="look-inside",
        title=N_("Read a file without booting the disk"),
        topic="overlays",
        level="easy",
        task=N_(
            "Which version of Alpine Linux is installed on the disk Top.qcow2? The file /etc/alpine-release contains "
            "it. Do not boot a guest. Give the version with lab.answer."
        ),
        build=_look_inside,
        aims=_look_inside_aims,
    ),
    Exercise(
        name="read-monday",
        title=N_("Which file holds Monday's state"),
        topic="snapshots",
        level="easy",
        task=N_(
            "Do not change anything. The guest `diary` has two external snapshots, `monday` and `tuesday`. Which "
            "file holds the state of `monday`, that is, which file did the guest write to just before that snapshot? "
            "Give its name with lab.answer."
        ),
        build=_read_monday,
        aims=_read_monday_aims,
        guests=("diary",),
    ),
)
