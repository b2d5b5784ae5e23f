"""Exercises in ordering commands: all lines are given, some are not needed, and the order must be found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations

from vmsnap_nb.lab.exercises.exercise import Aim, Exercise, Line, Seen
from vmsnap_nb.lab.exercises.stage import Stage, layers_on
from vmsnap_nb.words.message import N_, counted, joined, t

__all__ = ["ORDERING", "another_order", "right_order"]

_NEW = "qemu-img create -f qcow2 -F qcow2 -b Template.qcow2 web.qcow2"
_FIRST_GUEST = (
    Line("a", "virsh start web", after=("c", "e")),
    Line("b", "qemu-img create -f qcow2 -b Template.qcow2 web.qcow2", needed=False),
    Line("c", "virsh define web.xml"),
    Line("d", "chmod a-w Template.qcow2"),
    Line("e", _NEW),
    Line("f", "virsh create web.xml", needed=False),
)
_MIDDLE_LAYER = (
    Line("a", "rm Snap-2.qcow2", after=("c",)),
    Line("b", "qemu-img commit -d Snap-2.qcow2", after=("e",)),
    Line("c", "qemu-img rebase -u -f qcow2 -F qcow2 -b Snap-1.qcow2 Snap-3.qcow2", after=("b",)),
    Line("d", "qemu-img rebase -u -f qcow2 -F qcow2 -b RootBase.qcow2 Snap-3.qcow2", needed=False),
    Line("e", "cp Snap-1.qcow2 Snap-1.saved"),
    Line("f", "qemu-img commit -d Snap-3.qcow2", needed=False),
)
_LIVE_BACKUP = (
    Line("a", "virsh blockcommit mail vda --active --pivot --wait", after=("d",)),
    Line("b", "virsh blockpull mail vda --wait", needed=False),
    Line("c", "rm over.qcow2", after=("a",)),
    Line("d", "qemu-img convert -O qcow2 disk.qcow2 copy.qcow2", after=("g",)),
    Line("e", "cp over.qcow2 copy.qcow2", needed=False),
    Line("f", "virsh snapshot-delete mail backup --metadata", after=("a",)),
    Line("g", "virsh snapshot-create-as mail backup --disk-only --diskspec vda,file=$PWD/over.qcow2"),
)


def right_order(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Return the needed lines in an order that is right; there may be others."""
    waiting, done = [line for line in lines if line.needed], list[Line]()
    while waiting:
        letters = {line.letter for line in done}
        ready = next(line for line in waiting if letters.issuperset(line.after))
        waiting.remove(ready)
        done.append(ready)
    return tuple(done)


def another_order(lines: Sequence[Line], given: str) -> str:
    """Return the letters of a right order that was not given, or nothing if there is no other."""
    needed = [line for line in lines if line.needed]
    letters = [letter for letter in given.lower() if letter.isalnum()]
    for order in permutations(needed):
        found = [line.letter for line in order]
        if found != letters and not any(_is_early(line, found) for line in needed):
            return " ".join(found)
    return ""


def _ordered(lines: Sequence[Line]) -> Callable[[Seen], Iterator[Aim]]:
    """Return the aims of an exercise with these lines: the needed ones, each after those that it needs."""

    def aims(seen: Seen) -> Iterator[Aim]:
        given = [letter for letter in seen.answer.lower() if letter.isalnum()]  # with or without spaces
        needed = {line.letter for line in lines if line.needed}
        left, more = needed.difference(given), [letter for letter in given if letter not in needed]
        twice = len(given) - len(set(given))
        found = t("there is no answer yet")
        if given:
            absent = counted("{count} needed line is missing", "{count} needed lines are missing", len(left))
            surplus = counted("{count} line is not needed", "{count} lines are not needed", len(more) + twice)
            both = t("{absent}; {surplus}", absent=absent, surplus=surplus)
            found = both if left and (more or twice) else absent if left else surplus
        yield Aim(t("the answer has exactly the needed lines"), not (left or more or twice), found)
        early = [line.letter for line in lines if line.letter in given and _is_early(line, given)]
        several = len(needed.intersection(given)) > 1
        what = t("each line comes after those that must come before it")
        if given:
            found = t("too early: {lines}", lines=joined(early)) if early else t("there are too few lines to compare")
        yield Aim(what, several and not early, found)

    return aims


def _is_early(line: Line, given: Sequence[str]) -> bool:
    return any(before in given[given.index(line.letter) :] for before in line.after)


def _first_guest(stage: Stage) -> None:
    stage.images(("Template", ""), mebibytes=2)
    stage.describe("web", "web")


def _middle_layer(stage: Stage) -> None:
    stage.images(("RootBase", ""), *layers_on("RootBase", "Snap-1", "Snap-2", "Snap-3"), mebibytes=5)


def _live_backup(stage: Stage) -> None:
    stage.images(("disk", ""), mebibytes=2)
    stage.describe("mail", "disk")


ORDERING = (
    Exercise(
        name="order-first-guest",
        title=N_("Order: from a template to a guest"),
        topic="overlays",
        level="easy",
        task=N_(
            "Put the commands in order. Template.qcow2 becomes write-protected, and the guest `web`, which web.xml "
            "describes, starts on an overlay of it. libvirt must still know `web` after it is shut off. Two lines "
            "are not needed."
        ),
        build=_first_guest,
        aims=_ordered(_FIRST_GUEST),
        lines=_FIRST_GUEST,
    ),
    Exercise(
        name="order-live-backup",
        title=N_("Order: a copy of a running guest"),
        topic="snapshots",
        level="medium",
        task=N_(
            "Put the commands in order. The guest `mail` runs and writes to disk.qcow2. Copy the state of its "
            "disk at one moment to copy.qcow2 without shutting the guest down. Afterwards it writes to disk.qcow2 "
            "again, and neither a file nor a record is left over. Two lines are not needed."
        ),
        build=_live_backup,
        aims=_ordered(_LIVE_BACKUP),
        lines=_LIVE_BACKUP,
    ),
    Exercise(
        name="order-middle-layer",
        title=N_("Order: remove a layer by hand"),
        topic="merging",
        level="medium",
        task=N_(
            "Put the commands in order. Remove Snap-2 from RootBase <- Snap-1 <- Snap-2 <- Snap-3 by merging "
            "it down, after copying the file that the merge writes to. No guest uses the images. Two lines "
            "are not needed."
        ),
        build=_middle_layer,
        aims=_ordered(_MIDDLE_LAYER),
        lines=_MIDDLE_LAYER,
    ),
)
