"""The other solution that a check shows after success: typed as it is written, it solves the exercise."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmsnap_nb.lab.exercises import practice
from vmsnap_nb.lab.exercises.hand_help import HELP
from vmsnap_nb.lab.lab import Lab

pytestmark = pytest.mark.system

END = 'virsh "domblkinfo till vda; destroy till"; '

# What an exercise needs before and after the command that is shown.
AROUND = {
    "hand-snapshot": ("virsh define postman.xml; virsh start postman; ", ""),
    "hand-pivot": ("virsh define till.xml; virsh start till; ", f"; {END} rm Till-1.qcow2 Till-2.qcow2"),
    "hand-shrink": ("for n in one two three; do qemu-img snapshot -d $n Big.qcow2; done; ", ""),
    "shrink": ("for n in one two three; do qemu-img snapshot -d $n Big.qcow2; done; ", ""),
}
# They show the answer, which is given in other words.
ANSWERS = {"read-needed": "disk-f.qcow2", "look-inside": "3."}


def is_complete(name: str, other: str) -> bool:
    """Whether it can be typed as it is: without placeholders, and without the libvirt of the lab's process."""
    return not ("virsh" in other and name not in AROUND) and "…" not in other and name not in ANSWERS


COMPLETE = [name for name, row in HELP.items() if is_complete(name, row.other)]


@pytest.fixture
def folder(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The folder of an exercise that has just begun."""
    lab.reset_exercise(request.param)
    yield lab.root / "exercises" / request.param
    practice.clear(lab, request.param)


def run(typed: str, folder: Path) -> str:
    done = subprocess.run(["sh", "-c", typed], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    return done.stdout


@pytest.mark.parametrize("folder", COMPLETE, indirect=True)
def test_it_solves_the_exercise(lab: Lab, folder: Path) -> None:
    other = HELP[folder.name].other.replace("{folder}", str(folder))
    if other.startswith(("images.", "for n in", "lab.")) and "do " not in other:
        exec(other, {"images": lab.exercise(folder.name), "lab": lab})
    else:
        before, after = AROUND.get(folder.name, ("", ""))
        run(before + other + after, folder)
    check = lab.check(folder.name)
    if folder.name != "order-middle-layer":  # its check looks only at the order of the lines
        assert check, check.to_text()


@pytest.mark.parametrize("folder", ANSWERS, indirect=True)
def test_it_shows_the_answer(lab: Lab, folder: Path) -> None:
    assert ANSWERS[folder.name] in run(HELP[folder.name].other.replace("{folder}", str(folder)), folder)


@pytest.mark.parametrize("folder", ["order-middle-layer"], indirect=True)
def test_a_layer_can_also_be_removed_upwards(lab: Lab, folder: Path) -> None:
    run("qemu-img convert -O raw Snap-3.qcow2 before.raw", folder)
    run(HELP[folder.name].other.replace("{folder}", str(folder)), folder)
    assert "identical" in run("qemu-img compare -f qcow2 -F raw Snap-3.qcow2 before.raw", folder)


@pytest.mark.parametrize("folder", ["delete-external"], indirect=True)
def test_a_snapshot_can_also_be_deleted_by_hand(lab: Lab, folder: Path) -> None:
    images, _, record = HELP[folder.name].other.replace("{folder}", str(folder)).rpartition("; ")
    run(images, folder)
    assert record == "virsh snapshot-delete mail2 old --metadata"  # virsh cannot reach the libvirt of this process
    lab.guest("mail2").delete_snapshot("old", metadata_only=True).run(progress=False)
    check = lab.check(folder.name)
    assert check, check.to_text()
