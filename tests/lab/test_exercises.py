"""Exercises: what is wrong is recognised, with a hint at what was seen; setting up again gives the same start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmsnap_nb.errors import ConcernWarning, LabError, NotFoundError
from vmsnap_nb.lab import by_hand
from vmsnap_nb.lab.exercises import practice
from vmsnap_nb.lab.exercises.check import Check
from vmsnap_nb.lab.exercises.exercise import Aim, Seen, Start
from vmsnap_nb.lab.exercises.hand_help import HELP
from vmsnap_nb.lab.exercises.ordering import another_order, right_order
from vmsnap_nb.lab.exercises.progress import read_progress
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.words.message import Message

pytestmark = pytest.mark.system

MERGED_DOWN = "qemu-img commit -q -d Mail-old.qcow2; qemu-img rebase -u -f qcow2 -F qcow2 -b Mail.qcow2 Mail-new.qcow2"
Doing = str | Callable[[Lab], object]


@pytest.fixture
def begun(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The folder of an exercise that has just begun."""
    lab.reset_exercise(request.param)
    yield lab.root / "exercises" / request.param
    practice.clear(lab, request.param)


def do(lab: Lab, folder: Path, doing: Doing) -> None:
    if callable(doing):
        doing(lab)
    else:
        done = subprocess.run(["sh", "-ec", doing], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done


def overlay(new: str, base: str, format: str = "qcow2") -> str:
    return f"qemu-img create -q -f qcow2 -F {format} -b {base}.qcow2 {new}.qcow2; "


def repoint(image: str, base: str, format: str = "qcow2") -> str:
    return f"qemu-img rebase -u -f qcow2 -F {format} -b {base} {image}.qcow2; "


def snapshot(guest: str, name: str, kind: str, **options: object) -> Callable[[Lab], object]:
    return lambda lab: lab.guest(guest).snapshot(name, kind=kind, **options).run(progress=False)  # type: ignore[arg-type]


def answer(exercise: str, text: str) -> Callable[[Lab], object]:
    return lambda lab: lab.answer(exercise, text)


def both(*doings: Callable[[Lab], object]) -> Callable[[Lab], object]:
    return lambda lab: [doing(lab) for doing in doings]


def give(guest: str, old: str, new: str) -> Callable[[Lab], object]:
    """Point a guest's disk at another image."""
    return lambda lab: lab.connection.defineXML(lab.guest(guest).xml().replace(f"/{old}.qcow2", f"/{new}.qcow2"))


WIPE = "qemu-io -f qcow2 -c 'write -q -P 9 0 64k' "

# Exercise, what was done, a part of the hint, points of 12.
WRONG: list[tuple[str, Doing, str, float]] = [
    ("first-overlay", "true", "Overlay-1.qcow2 does not exist. Existing images: RootBase", 0),
    (
        "first-overlay",
        overlay("overlay1", "RootBase"),
        "Overlay-1.qcow2 does not exist. Existing images: RootBase, overlay1",
        0,
    ),
    ("first-overlay", "qemu-img create -q -f qcow2 Overlay-1.qcow2 64M", "Overlay-1 has no backing file", 4),
    ("first-overlay", "cp RootBase.qcow2 Overlay-1.qcow2", "Overlay-1 has no backing file", 4),
    (
        "first-overlay",
        overlay("Overlay-1", "RootBase", "raw"),
        "Overlay-1 records raw, but its backing file is qcow2",
        8,
    ),
    (
        "first-overlay",
        overlay("Overlay-1", "RootBase") + WIPE + "RootBase.qcow2",
        "RootBase does not read the same data as at the start",
        0,
    ),
    (
        "thin-guests",
        overlay("web", "Template") + overlay("mail", "web") + overlay("data", "mail"),
        "mail is based on web",
        3,
    ),
    ("thin-guests", "for n in web mail data; do cp Template.qcow2 $n.qcow2; done", "data has no backing file", 0),
    (
        "thin-guests",
        "".join(overlay(name, "Template") for name in ("web", "mail", "data")),
        "the file permissions of Template allow writing",
        9,
    ),
    ("who-stands-on", "chmod a-w disk-[cd].qcow2", "1 of 3 such images are writable", 0),
    ("who-stands-on", "chmod a-w disk-[cdg].qcow2", "without overlays, but write-protected: disk-g", 0),
    ("who-stands-on", "chmod a-w disk-[acd].qcow2; rm disk-g.qcow2", "missing: disk-g", 0),
    ("missing-format", "true", "1 of 2 overlays do not record it", 0),
    (
        "missing-format",
        repoint("Overlay-1", "RootBase.qcow2", "raw"),
        "Overlay-1 records raw, but its backing file is qcow2",
        0,
    ),
    ("missing-format", repoint("Overlay-2", "RootBase.qcow2"), "Overlay-2 is based on RootBase", 0),
    (
        "missing-format",
        "qemu-img convert -O qcow2 Overlay-2.qcow2 n; mv n Overlay-2.qcow2",
        "Overlay-2 has no backing file",
        0,
    ),
    ("one-disk", snapshot("accounts", "snap1", "external-disk"), "libvirt has these snapshots of accounts: snap1", 0),
    ("one-disk", snapshot("accounts", "before-update", "external-disk"), "the snapshot of vdb is external", 0),
    (
        "one-disk",
        snapshot("accounts", "before-update", "internal-disk"),
        "the snapshot of vda is internal",
        3,
    ),
    ("one-disk", snapshot("accounts", "before-update", "external-disk", disks=["vdb"]), "vda is not included", 0),
    (
        "one-disk",
        snapshot("accounts", "before-update", "external-disk", disks=["vda"], metadata=False),
        "libvirt has no snapshots of accounts",
        3,
    ),
    (
        "one-disk",
        lambda lab: lab.guest("accounts").start(),
        "System cannot be compared while the guest accounts is running",
        0,
    ),
    (
        "inside-and-outside",
        both(snapshot("ledger", "outside", "external-disk"), snapshot("ledger", "inside", "internal-disk")),
        "Ledger contains no internal snapshots",
        10,
    ),
    (
        "inside-and-outside",
        both(snapshot("ledger", "outside", "internal-disk"), snapshot("ledger", "inside", "external-disk")),
        "its kind is external-disk",
        6,
    ),
    ("inside-and-outside", "qemu-img snapshot -c inside Ledger.qcow2", "libvirt has no snapshots of ledger", 2),
    (
        "stale-records",
        lambda lab: [snapshot.delete(2) for snapshot in lab.guest("archive").handle.domain.listAllSnapshots()],
        "libvirt has no snapshots of archive",
        0,
    ),
    ("stale-records", "qemu-img snapshot -d by-hand wednesday.qcow2", "wednesday no longer contains it", 0),
    ("wrote-to-base", "chmod a-w Golden.qcow2", "these guests would write to Golden: tester", 4),
    ("wrote-to-base", lambda lab: lab.guest("tester").undefine(), "tester has no disk vda", 0),
    ("wrote-to-base", give("tester", "Golden", "Shop"), "its image is the disk of: shop, tester", 0),
    (
        "wrote-to-base",
        both(
            lambda lab: subprocess.run(
                [
                    "cp",
                    lab.root / "exercises/wrote-to-base/Golden.qcow2",
                    lab.root / "exercises/wrote-to-base/Copy.qcow2",
                ],
                check=True,
            ),
            give("tester", "Golden", "Copy"),
        ),
        "its chain is Copy",
        4,
    ),
    (
        "template-update",
        "cp Update.qcow2 Template-2.qcow2; chmod a-w Template-2.qcow2",
        "Template-2 has a backing file",
        9,
    ),
    (
        "template-update",
        "qemu-img convert -O qcow2 Template-1.qcow2 Template-2.qcow2; chmod a-w Template-2.qcow2",
        "Template-2 reads different data",
        9,
    ),
    (
        "template-update",
        "qemu-img commit -q Update.qcow2; cp Template-1.qcow2 Template-2.qcow2; chmod a-w Template-2.qcow2",
        "web does not read the same data as at the start",
        0,
    ),
    ("permissions", "chmod 444 Base.qcow2", "the permissions of Middle are 640", 6),
    ("permissions", "chmod 666 *.qcow2", "the permissions of Top are 666", 0),
    ("permissions", "chmod 444 *.qcow2", "the permissions of Top are 444", 0),
    ("read-needed", "true", "there is no answer yet", 0),
    ("read-needed", answer("read-needed", "disk-f"), "the answer is: disk-f", 0),
    ("read-needed", answer("read-needed", "disk-a disk-b disk-d disk-f"), "the answer is: disk-a", 0),
    ("read-needed", answer("read-needed", "disk-a, d, disk-f"), "d.qcow2 does not exist. Existing images: disk-a", 0),
    ("look-inside", answer("look-inside", "Alpine"), "the answer is: Alpine", 0),
    ("look-inside", "rm Top.qcow2", "there is no answer yet", 0),
    ("read-monday", answer("read-monday", "monday"), "the answer is: monday", 0),
    ("read-monday", answer("read-monday", "diary.monday.qcow2"), "diary.monday.qcow2 does not exist", 0),
    ("read-monday", "rm monday.qcow2; echo Diary > answer.txt", "tuesday cannot be read: monday does not exist", 0),
    ("revert-internal", "qemu-img snapshot -d good Notes.qcow2", "Notes reads different data", 0),
    (
        "revert-internal",
        lambda lab: lab.guest("notes").delete_snapshot("good").run(progress=False),
        "libvirt has no snapshots of notes",
        0,
    ),
    (
        "revert-external",
        lambda lab: lab.guest("shop2").revert("clean", keep_current=False).run(progress=False),
        "Later does not read the same data as at the start",
        0,
    ),
    ("revert-external", give("shop2", "Later", "Shop"), "its chain is Shop", 0),
    ("delete-external", "qemu-img commit -q -d Mail-old.qcow2", "libvirt has these snapshots of mail2: old, new", 0),
    (
        "delete-external",
        lambda lab: lab.guest("mail2").delete_snapshot("old", metadata_only=True).run(progress=False),
        "its chain is Mail <- Mail-old <- Mail-new",
        6,
    ),
    (
        "delete-external",
        lambda lab: lab.guest("mail2").delete_snapshot("old", children="also").run(progress=False),
        "libvirt has no snapshots of mail2",
        0,
    ),
    (  # merged down: the file that the record of "new" names is no longer below Mail-new
        "delete-external",
        (
            lambda lab: [
                subprocess.run(["sh", "-ec", MERGED_DOWN], cwd=lab.root / "exercises" / "delete-external", check=True),
                lab.guest("mail2").delete_snapshot("old", metadata_only=True).run(progress=False),
            ]
        ),
        "is no longer based on",
        0,
    ),
    ("export-internal", "cp Archive-1.qcow2 monday.qcow2", "monday reads different data", 8),
    ("export-internal", "qemu-img snapshot -a monday Archive-1.qcow2; cp Archive-1.qcow2 monday.qcow2", "Archive-1", 0),
    (
        "export-internal",
        "qemu-img convert -l monday -O raw Archive-1.qcow2 monday.qcow2",
        "monday.qcow2 exists, but is not a qcow2 image",
        0,
    ),
    ("export-internal", overlay("monday", "Archive-1"), "monday has a backing file", 4),
    ("checkpoint", snapshot("solver", "ready", "external-disk"), "its kind is external-disk", 8),
    ("checkpoint", lambda lab: lab.guest("solver").destroy(), "solver is not running", 0),
    ("saved-state", lambda lab: lab.guest("sleeper").destroy(), "the state of sleeper is: shut off", 0),
    ("saved-state", lambda lab: lab.guest("sleeper").suspend(), "the state of sleeper is: paused", 0),
    ("one-moment", snapshot("database", "moment", "external-disk", disks=["vda"]), "vdb is not included", 7.2),
    (
        "one-moment",
        both(
            snapshot("database", "first", "external-disk", disks=["vda"]),
            snapshot("database", "second", "external-disk", disks=["vdb"]),
        ),
        "libvirt has these snapshots of database: first, second",
        4.8,
    ),
    (
        "quiesced",
        both(lambda lab: lab.guest("bank").wait_ready(), snapshot("bank", "safe", "external-disk")),
        "the file system in Bank must be recovered when it is mounted",
        8,
    ),
    ("faded-overlay", overlay("Top-2", "Base-2") + "chmod a-w Base-2.qcow2", "Top-3.qcow2 does not exist", 6),
    ("faded-overlay", overlay("Top-2", "Base-2", "raw"), "Top-2 records raw, but its backing file is qcow2", 2),
    ("faded-merge", "qemu-img commit -q -d B-1.qcow2; rm B-1.qcow2", "B-2 is based on B-1, which does not exist", 0),
    ("faded-merge", repoint("B-2", "B-0.qcow2"), "B-2 does not read the same data as at the start", 0),
    ("order-first-guest", answer("order-first-guest", "c a"), "2 needed lines are missing\n", 6),
    ("order-first-guest", answer("order-first-guest", "a, c, d, e"), "too early: a", 6),
    ("order-live-backup", answer("order-live-backup", "g d b c f a"), "1 line is not needed", 0),
    ("order-middle-layer", answer("order-middle-layer", "ebac"), "too early: a", 6),
    ("order-middle-layer", answer("order-middle-layer", "e b b c a"), "1 line is not needed", 6),
    (
        "broken-host",
        repoint("mail-1", "mail-0.qcow2")
        + repoint("web-1", "web-2.qcow2")
        + repoint("shop", "backup/copy-1.qcow2")
        + "chmod a-w golden.qcow2; rm old-?.qcow2; echo report-3 report-2 report-1 report-base > answer.txt",
        "shop does not read the same data as at the start",
        4,
    ),
    ("broken-host", "qemu-img commit -q class-1.qcow2; rm backup/copy-3.qcow2", "missing: backup/copy-3", 0),
    ("standalone", "qemu-img rebase -u -f qcow2 -b '' web.qcow2", "web does not read the same data", 0),
    (
        "standalone",
        "for n in web mail; do qemu-img rebase -f qcow2 -b '' $n.qcow2; done",
        "mail has no backing file",
        0,
    ),
    ("pivot", lambda lab: lab.guest("service").pull().run(progress=False), "it writes to Service-1", 6),
    ("pivot", lambda lab: lab.guest("service").destroy(), "service is not running", 0),
    ("shrink", "for n in one two three; do qemu-img snapshot -d $n Big.qcow2; done", "its size is 9.", 6),
    ("shrink", "rm Big.qcow2", "Big.qcow2 no longer exists", 0),
    ("wrong-format", "true", "Overlay-1 records raw, but its backing file is qcow2", 0),
    ("wrong-format", "qemu-img convert -f qcow2 -O raw RootBase.qcow2 n; mv n RootBase.qcow2", "RootBase", 0),
    (
        "middle-layer",
        "qemu-img commit -q -d Snap-2.qcow2; " + repoint("Snap-3", "Snap-1.qcow2"),
        "Other does not read the same data as at the start",
        0,
    ),
    ("middle-layer", repoint("Snap-3", "Snap-1.qcow2"), "Snap-3 does not read the same data as at the start", 0),
    ("middle-layer", "qemu-img rebase -f qcow2 -b '' Snap-3.qcow2", "the chain is Snap-3", 0),
    ("middle-layer", "rm Snap-2.qcow2", "Snap-3 cannot be read: Snap-2 does not exist", 0),
    (
        "short-chain",
        lambda lab: lab.exercise("short-chain").commit("Day-3", "RootBase").run(progress=False),
        "they have grown by 10",
        0,
    ),
    (
        "short-chain",
        lambda lab: lab.exercise("short-chain").remove("Day-2").run(progress=False),
        "it has 6: RootBase <- Day-1 <- Day-3",
        0,
    ),
    (
        "short-chain",
        "qemu-img convert -O qcow2 Day-6.qcow2 new.qcow2; " + overlay("Day-7", "new") + "mv Day-7.qcow2 Day-6.qcow2",
        "new images: new",
        0,
    ),
    ("short-chain", repoint("Day-6", "Day-2.qcow2"), "Day-6 does not read the same data as at the start", 0),
    ("while-it-runs", lambda lab: lab.guest("counter").destroy(), "counter is not running", 0),
    (
        "while-it-runs",
        lambda lab: (
            lab.guest("counter").destroy(),
            lab.guest("counter").pull(base="Counter-0").run(progress=False),
            lab.guest("counter").start(),
        ),
        "counter is running, but was shut off at some point",
        0,
    ),
    (
        "while-it-runs",
        lambda lab: lab.guest("counter").pull(base="Counter-1").run(progress=False),
        "its chain is Counter-0 <- Counter-1 <- Counter-3",
        0,
    ),
    ("while-it-runs", lambda lab: lab.guest("counter").pull().run(progress=False), "its chain is Counter-3", 0),
    (
        "moved-base",
        repoint("Overlay-1", "templates/RootBase.qcow2"),
        "Overlay-2 is based on RootBase, which does not exist",
        6,
    ),
    ("moved-base", "cp templates/RootBase.qcow2 .", "there is a RootBase.qcow2 at the old path", 0),
    (
        "moved-base",
        repoint("Overlay-1", "templates/RootBase-old.qcow2"),
        "Overlay-1 does not read the same data as at the start",
        0,
    ),
    ("loop", "true", "these images form a loop: Overlay-1, Overlay-3, Overlay-2", 0),
    ("loop", repoint("Overlay-3", "RootBase.qcow2"), "Overlay-3 is based on RootBase", 0),
    ("loop", repoint("Overlay-1", "''"), "Overlay-1 has no backing file", 4),
    ("orphan", repoint("Orphan", "copies/copy-1.qcow2"), "Orphan does not read the same data as at the start", 6),
    ("orphan", "qemu-img rebase -u -f qcow2 -b '' Orphan.qcow2", "Orphan has no backing file", 0),
    ("orphan", repoint("Orphan", "copies/copy-2.qcow2", "raw"), "Orphan records raw, but its backing file is qcow2", 0),
]


@pytest.mark.parametrize(
    ("begun", "doing", "hint", "points"),
    WRONG,
    indirect=["begun"],
    ids=[f"{name}-{number}" for number, (name, *_) in enumerate(WRONG)],
)
def test_a_wrong_answer_is_recognised(lab: Lab, begun: Path, doing: Doing, hint: str, points: float) -> None:
    do(lab, begun, doing)
    check = lab.check(begun.name)
    assert not check
    assert hint in check.to_text()
    assert check.points(12) == points


def test_every_exercise_has_help_that_differs() -> None:
    assert set(HELP) == set(practice.EXERCISES)
    for field in ("idea", "first", "why"):
        assert len({getattr(row, field) for row in HELP.values()}) == len(HELP)


@pytest.mark.parametrize("name", practice.EXERCISES)
def test_where_everything_was_removed_there_are_no_points(name: str) -> None:
    exercise = practice.EXERCISES[name]
    check = Check(name, exercise.title, tuple(exercise.aims(Seen("/x", Forest(), Start(), lambda path, format: ""))))
    assert not check
    assert check.points(1) == 0
    assert all(aim.seen for aim in check.missing)


def test_every_exercise_has_wrong_answers() -> None:
    of_its_own = {"second-guest"} | {name for name, exercise in practice.EXERCISES.items() if exercise.by_hand}
    assert {name for name, *_ in WRONG} | of_its_own == set(practice.EXERCISES)


@pytest.mark.parametrize("begun", ["second-guest"], indirect=True)
def test_two_guests_on_one_overlay(lab: Lab, begun: Path) -> None:
    assert "the state of reader is: shut off" in lab.check("second-guest").to_text()
    lab.guest("writer").destroy()
    wrong = lab.check("second-guest")
    assert "writer is not running" in wrong.to_text()
    assert "its chain is RootBase <- Overlay-1" in wrong.to_text()
    assert wrong.points(4) == 0


# -- lines to put in order -----------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", ["order-first-guest", "order-live-backup"], indirect=True)
def test_another_way_is_an_order_that_was_not_given(lab: Lab, begun: Path) -> None:
    lines = practice.EXERCISES[begun.name].lines
    given = " ".join(line.letter for line in right_order(lines))
    other = another_order(lines, given)
    assert other
    assert other != given
    for answered, shown in ((given, other), (other, another_order(lines, other))):
        lab.answer(begun.name, answered)
        assert lab.check(begun.name).other == f'lab.answer("{begun.name}", "{shown}")'
        assert shown != answered


@pytest.mark.parametrize(
    ("begun", "start", "left"),
    [
        ("order-first-guest", "", {"Template.qcow2": False, "web.qcow2": True, "web.xml": True}),
        (
            "order-live-backup",
            "virsh define mail.xml; virsh start mail",
            {"copy.qcow2": True, "disk.qcow2": True, "mail.xml": True},
        ),
        (
            "order-middle-layer",
            "",
            {"RootBase.qcow2": True, "Snap-1.qcow2": True, "Snap-1.saved": True, "Snap-3.qcow2": True},
        ),
    ],
    indirect=["begun"],
)
def test_the_right_order_of_commands_does_what_is_asked(
    lab: Lab, begun: Path, start: str, left: dict[str, bool]
) -> None:
    lines = right_order(practice.EXERCISES[begun.name].lines)
    lab.by_hand()
    try:
        do(lab, begun, "\n".join([start, *(line.text for line in lines)]))
        do(lab, begun, "qemu-img info -U --backing-chain $(ls *.qcow2 | tail -n 1)")
        named = subprocess.run(["virsh", "list", "--all", "--name"], capture_output=True, text=True, check=True)
        assert named.stdout.split() == [path.stem for path in begun.glob("*.xml")]
        if start:
            listed = subprocess.run(["virsh", "domblklist", "mail"], capture_output=True, text=True, check=True)
            assert f"{begun}/disk.qcow2" in listed.stdout
    finally:
        by_hand.end(lab.root)
        shutil.rmtree(lab.root / by_hand.HAND)
    assert {path.name: bool(path.stat().st_mode & 0o200) for path in begun.glob("[!.]*")} == left
    assert lab.lines(begun.name).order(" ".join(line.letter for line in lines)).points(3) == 3


@pytest.mark.parametrize("begun", ["order-middle-layer"], indirect=True)
def test_lines_are_moved_in_a_list_and_checked(lab: Lab, begun: Path) -> None:
    lines = lab.lines("order-middle-layer")
    shown = lines._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in shown
    html = shown["text/html"]
    assert "rm Snap-2.qcow2" in html.partition("<details>")[0]
    assert "e, b, c, a" in html.partition("<details>")[2]
    box = lines._box

    def move(letter: str, *buttons: str) -> None:
        box.list.value = letter
        for button in buttons:
            getattr(box, button).click()
            assert box.list.value == letter, "the moved line stays selected"

    move("d", "use")
    move("f", "use")
    move("e", "up", "up", "up", "up")
    assert 'role="status"' in box.said.value
    assert "e is number 1" in box.said.value
    move("a", "down", "down", "up", "down")
    assert box.used == ["e", "b", "c", "a"]
    box.done.click()
    assert "order-middle-layer: Order: remove a layer by hand: done" in box.result.value
    assert "lab.answer(&quot;order-middle-layer&quot;, &quot;e b c a&quot;)" in box.result.value
    move("f", "use", "use")
    assert "f is excluded" in box.said.value
    box.up.click()
    assert box.used == ["e", "b", "c", "a"]


def test_lines_without_ipywidgets_are_a_text(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vmsnap_nb.lab.exercises.lines_widget", None)
    shown = lab.lines("order-middle-layer")._repr_mimebundle_()
    assert set(shown) == {"text/plain", "text/html"}
    assert 'lab.answer("order-middle-layer", "…")' in shown["text/plain"]
    with pytest.raises(NotFoundError, match="order-first-guest"):
        lab.lines("loop")


# -- setting up ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", ["first-overlay"], indirect=True)
def test_it_is_set_up_once_and_can_be_set_up_again(lab: Lab, begun: Path) -> None:
    images = lab.exercise("first-overlay")
    assert images.overlay("Overlay-1.qcow2", backing="RootBase").run(progress=False).as_predicted
    assert lab.check("first-overlay").done
    assert len(lab.exercise("first-overlay")) == 2
    assert lab.exercises().loc["first-overlay", "begun"]
    assert len(lab.reset_exercise("first-overlay")) == 1
    assert not lab.check("first-overlay")


@pytest.mark.parametrize("begun", ["wrote-to-base"], indirect=True)
def test_guests_of_others_on_its_images_are_left_alone(lab: Lab, begun: Path) -> None:
    with pytest.warns(ConcernWarning, match="Shop is the disk of shop"):
        strange = lab.guest("ex-strange", backing=str(begun / "Shop.qcow2"), boot="disk")
    with pytest.raises(LabError, match="ex-strange"):
        lab.reset_exercise("wrote-to-base")
    assert strange.chain().layers[0].name == "Golden"
    strange.undefine()
    os.unlink(lab.root / "images" / "ex-strange.qcow2")


@pytest.mark.parametrize("begun", ["one-disk"], indirect=True)
def test_a_name_that_is_taken_leaves_nothing_half_done(lab: Lab, begun: Path) -> None:
    practice.clear(lab, "one-disk")
    mine = lab.guest("accounts", backing=lab.exercise("first-overlay").find("RootBase"), boot="disk")
    with pytest.raises(LabError, match="a guest named accounts already exists"):
        lab.exercise("one-disk")
    assert not begun.exists()
    mine.undefine()
    os.unlink(lab.root / "images" / "accounts.qcow2")
    practice.clear(lab, "first-overlay")


def test_what_is_not_there_is_said(lab: Lab) -> None:
    with pytest.raises(NotFoundError, match="first-overlay"):
        lab.exercise("nothing")
    with pytest.raises(NotFoundError, match="it has not been set up"):
        lab.check("orphan")


# -- hints and progress --------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", ["first-overlay"], indirect=True)
def test_hints_and_checks_are_counted_and_survive_a_new_start(lab: Lab, begun: Path) -> None:
    (lab.root / "exercises" / ".progress.json").unlink(missing_ok=True)
    assert lab.progress().loc["first-overlay", "status"] == "begun"
    hints = [lab.hint("first-overlay") for _ in range(4)]
    assert [hint.number for hint in hints] == [1, 2, 3, 3]
    assert HELP["first-overlay"].first in hints[2].to_text()
    folder = lab.root / "exercises" / "permissions"
    assert f"chmod a=r {folder}/Base.qcow2" in [lab.hint("permissions") for _ in range(3)][2].to_text()
    lab.check("first-overlay")
    do(lab, begun, "qemu-img create -q -f qcow2 Overlay-1.qcow2 64M")
    lab.check("first-overlay")
    row = lab.progress().loc["first-overlay"]
    assert list(row[["status", "passed", "of", "checks", "hints"]]) == ["partly", 1, 3, 2, 3]
    lab.reset_exercise("first-overlay")
    do(lab, begun, overlay("Overlay-1", "RootBase"))
    check = lab.check("first-overlay")
    assert "Why: The header now names" in check.to_text()
    assert f"-b RootBase.qcow2 {begun}/Overlay-1.qcow2" in check._repr_mimebundle_()["text/html"]
    assert lab.progress().loc["first-overlay", "status"] == "done"
    do(lab, begun, WIPE + "RootBase.qcow2")
    assert "Why" not in lab.check("first-overlay").to_text()
    assert lab.progress().loc["first-overlay", "status"] == "broken"
    assert lab.progress().loc["first-overlay", "hints"] == 3


@pytest.mark.parametrize("text", ["", "[]", "{", '{"loop": {"hints": "x"}}', '{"loop": {"at": 1e300}}', '{"loop": 1}'])
def test_progress_that_cannot_be_read_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / ".progress.json").write_text(text)
    assert read_progress(tmp_path) == {}


def test_a_hint_for_nothing_lists_what_there_is(lab: Lab) -> None:
    with pytest.raises(NotFoundError, match="loop"):
        lab.hint("lop")


@pytest.mark.parametrize("begun", ["first-overlay"], indirect=True)
def test_without_what_was_written_down_it_says_how_to_begin_again(lab: Lab, begun: Path) -> None:
    (begun / ".start.json").write_text("{")
    with pytest.raises(LabError, match="reset_exercise"):
        lab.check("first-overlay")


def test_the_list_has_all_of_them(lab: Lab) -> None:
    frame = lab.exercises()
    assert len(frame) >= 10
    assert list(frame.columns) == ["title", "topic", "level", "guests", "begun", "task"]
    assert set(frame["level"]) == {"easy", "medium", "hard"}


@pytest.mark.parametrize("begun", ["middle-layer"], indirect=True)
@pytest.mark.parametrize(
    ("backing", "format", "why"),
    [
        ("fifo", "qcow2", "it is a FIFO"),
        ("nbd://127.0.0.1:9/x", "qcow2", "it is at a network address"),
        (None, "raw,file.driver=nbd,file.host=127.0.0.1", "its format is raw,file.driver=nbd"),
    ],
)
def test_a_lab_out_of_an_archive_has_nothing_else_read(
    lab: Lab, begun: Path, backing: str | None, format: str, why: str
) -> None:
    """QEMU would wait for a FIFO, and connect to any server that a header names."""
    os.mkfifo(begun / "fifo")
    if backing:
        do(lab, begun, repoint("RootBase", backing, "raw"))
    start = json.loads((begun / ".start.json").read_text())
    start["formats"] = dict.fromkeys(start["formats"], format)
    (begun / ".start.json").write_text(json.dumps(start))
    found = [str(aim.seen) for aim in lab.check("middle-layer").aims if not aim.met]
    assert any("cannot be read" in seen and why in seen for seen in found), found


# -- what is shown -------------------------------------------------------------------------------------------


def test_a_result_shows_itself() -> None:
    aims = (
        Aim(Message("A <is> there"), True),
        Aim(Message("B is as it was"), False, Message("B & C"), kept=True),
        Aim(Message("C is"), True, kept=True),
    )
    check = Check("x", "Title", aims)
    assert check.to_frame().loc["B is as it was", "seen"] == "B & C"
    assert list(check.to_frame().columns) == ["met", "kept", "seen"]
    shown = check._repr_mimebundle_()
    assert "something is broken" in shown["text/plain"]
    assert "✗ broken" in shown["text/html"]
    tints = [row.split('"')[1] for row in shown["text/html"].split("<tr ")[1:]]
    assert len(set(tints)) == len(tints) == 2
    assert "A &lt;is&gt; there" in shown["text/html"]
    assert "C is" not in shown["text/html"]
    assert check.points(3) == 0
    assert repr(check).startswith("<Check of x: Title: 1 of 1 done, and something is broken")
