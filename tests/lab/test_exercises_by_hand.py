"""Exercises without the package: its verbs refuse, and what was typed is checked."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmsnap_nb import scan
from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.lab import by_hand
from vmsnap_nb.lab.exercises import practice
from vmsnap_nb.lab.lab import Lab

pytestmark = pytest.mark.system

REBASE = "qemu-img rebase -u -f qcow2 -F qcow2 -b "
THIN = "for n in web mail data; do qemu-img create -q -f qcow2 -F qcow2 -b Template.qcow2 $n.qcow2; done; "
SNAPSHOT = "virsh define postman.xml; virsh start postman; virsh snapshot-create-as postman before --disk-only "
END = 'virsh "domblkinfo till vda; destroy till"; '  # virsh first waits until it has found the guest that runs
START = "virsh define till.xml; virsh start till; "
COMMIT = "virsh blockcommit till vda --active --pivot --wait; " + END
DELETE = "for n in one two three; do qemu-img snapshot -d $n Big.qcow2; done; "

# Exercise, what was typed, a part of what the check says, points of 12.
TYPED: list[tuple[str, str, str, float]] = [
    ("hand-thin-guests", THIN + "chmod a-w Template.qcow2", "done", 12),
    ("hand-thin-guests", THIN, "the file permissions of Template allow writing", 9),
    ("hand-missing-format", REBASE + "RootBase.qcow2 Overlay-1.qcow2", "done", 12),
    ("hand-missing-format", REBASE + "RootBase.qcow2 Overlay-2.qcow2", "Overlay-2 is based on RootBase", 0),
    ("hand-export-internal", "qemu-img convert -l monday -O qcow2 Archive-1.qcow2 monday.qcow2", "done", 12),
    (
        "hand-export-internal",
        "qemu-img convert -O qcow2 Archive-1.qcow2 monday.qcow2",
        "monday reads different data",
        8,
    ),
    ("hand-middle-layer", "qemu-img rebase -f qcow2 -F qcow2 -b Snap-1.qcow2 Snap-3.qcow2", "done", 12),
    (
        "hand-middle-layer",
        f"qemu-img commit -q -d Snap-2.qcow2; {REBASE} Snap-1.qcow2 Snap-3.qcow2",
        "Other does not read the same data as at the start",
        0,
    ),
    ("hand-shrink", DELETE + "qemu-img convert -O qcow2 Big.qcow2 new; mv new Big.qcow2", "done", 12),
    ("hand-shrink", DELETE, "its size is 9", 6),
    ("hand-loop", REBASE + "RootBase.qcow2 Overlay-1.qcow2", "done", 12),
    ("hand-loop", REBASE + "RootBase.qcow2 Overlay-2.qcow2", "Overlay-2 is based on RootBase", 0),
    ("hand-snapshot", SNAPSHOT + "--diskspec vda,file=$PWD/Mail-new.qcow2", "done", 12),
    ("hand-snapshot", SNAPSHOT + "--diskspec vda,file=$PWD/new.qcow2", "Mail-new.qcow2 does not exist", 4.8),
    ("hand-snapshot", SNAPSHOT.removesuffix("--disk-only "), "its disk is Mail\n", 4.8),
    ("hand-pivot", START + COMMIT + "rm Till-1.qcow2 Till-2.qcow2", "done", 12),
    ("hand-pivot", START + COMMIT.removesuffix(END), "Till cannot be compared while the guest till is running", 4.8),
    ("hand-pivot", START + END + "rm Till-1.qcow2", "its disk is Till-2", 4.8),
]


@pytest.fixture
def folder(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The folder of an exercise that has just begun."""
    lab.reset_exercise(request.param)
    yield lab.root / "exercises" / request.param
    practice.clear(lab, request.param)


@pytest.mark.parametrize(
    ("folder", "typed", "said", "points"),
    TYPED,
    indirect=["folder"],
    ids=[f"{name}-{number}" for number, (name, *_) in enumerate(TYPED)],
)
def test_what_was_typed_is_checked(lab: Lab, folder: Path, typed: str, said: str, points: float) -> None:
    done = subprocess.run(["sh", "-ec", typed], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    check = lab.check(folder.name)
    assert said in check.to_text()
    assert check.points(12) == points, check.to_text()


@pytest.mark.parametrize("name", [name for name, exercise in practice.EXERCISES.items() if exercise.by_hand])
def test_each_has_a_right_and_a_wrong_answer(name: str) -> None:
    points = [points for one, _, _, points in TYPED if one == name]
    assert 12 in points
    assert min(points) < 12


@pytest.mark.parametrize("folder", ["hand-middle-layer"], indirect=True)
def test_verbs_refuse_and_reading_does_not(lab: Lab, folder: Path) -> None:
    images = lab.exercise(folder.name)
    assert images.chain("Snap-3").blockmap().size
    for verb in (lambda: images.remove("Snap-2"), lambda: scan(folder).pull("Snap-3", "Snap-1")):
        with pytest.raises(InvalidRequestError, match="must be done without vmsnap_nb") as refused:
            verb()
        assert "enter the commands yourself" in str(refused.value)
    practice.clear(lab, folder.name)
    assert lab.exercise("middle-layer").remove("Snap-2").steps
    practice.clear(lab, "middle-layer")


@pytest.mark.parametrize("folder", ["hand-middle-layer"], indirect=True)
def test_a_plan_that_was_made_before_does_not_run(lab: Lab, folder: Path) -> None:
    practice.allow_verbs(folder)
    plan = scan(folder).pull("Snap-3", "Snap-1")
    lab.check(folder.name)
    with pytest.raises(InvalidRequestError, match="must be done without vmsnap_nb"):
        plan.run(progress=False)


@pytest.mark.parametrize("folder", ["hand-snapshot"], indirect=True)
def test_the_guests_of_virsh_stay_if_the_exercise_is_shown_again(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    subprocess.run(["virsh", "define", "postman.xml"], cwd=folder, check=True, capture_output=True)
    lab.exercise(folder.name)
    assert by_hand.guests(lab.root, ["postman", "x"])["postman"].state == "shut off"
    lab.reset_exercise(folder.name)
    assert os.getcwd() == str(folder)
    assert "postman.xml" in os.listdir()  # not the folder that was removed
    assert by_hand.guests(lab.root, ["postman"]) == {}
