"""Exercises without the package: its verbs refuse, and the commands are typed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vmsnap_nb.lab.exercises.aims import reads_as_noted, says_format, stands_on, unchanged
from vmsnap_nb.lab.exercises.exercise import Aim, Exercise, Seen
from vmsnap_nb.lab.exercises.merging import MERGING
from vmsnap_nb.lab.exercises.overlays import OVERLAYS
from vmsnap_nb.lab.exercises.repair import REPAIR
from vmsnap_nb.lab.exercises.stage import Stage
from vmsnap_nb.lab.exercises.states import STATES
from vmsnap_nb.words.message import N_, joined, t

__all__ = ["HAND_MERGES", "HAND_OVERLAYS", "HAND_REPAIRS", "HAND_SNAPSHOTS"]

_KNOWN = {exercise.name: exercise for exercise in (*OVERLAYS, *STATES, *MERGING, *REPAIR)}


def _hand(name: str, title: str, task: str) -> Exercise:
    """Return an exercise that is to be done by hand, with the images and the aims of another."""
    return replace(_KNOWN[name], name=f"hand-{name}", title=title, task=task, by_hand=True)


def _typed(seen: Seen, guest: str, state: str, target: str, image: str) -> Iterator[Aim]:
    """Return the aims that `virsh` shows a guest in a state, with an image as its disk."""
    found = seen.typed.get(guest)
    missing = t("virsh lists no guest {guest}", guest=guest)
    saw = missing if found is None else t("virsh shows the state: {state}", state=found.state)
    yield Aim(
        t("virsh shows {guest} in the state: {state}", guest=guest, state=state),
        found is not None and found.state == state,
        saw,
    )
    source = "" if found is None else seen.call(found.sources.get(target, ""))
    saw = missing if found is None else t("its disk is {image}", image=source or "-")
    yield Aim(t("the disk {disk} of {guest} is {image}", disk=target, guest=guest, image=image), source == image, saw)


def _listed(seen: Seen, guest: str, *names: str) -> Aim:
    found = seen.typed.get(guest)
    listed = () if found is None else found.snapshots
    what = t("virsh lists these snapshots of {guest}: {names}", guest=guest, names=joined(names))
    if not names:
        what = t("virsh lists no snapshots of {guest}", guest=guest)
    saw = t("it lists: {names}", names=joined(listed)) if listed else t("it lists none")
    return Aim(what, found is not None and set(listed) == set(names), saw)


def _snapshot(stage: Stage) -> None:
    stage.images(("Mail", ""), mebibytes=4)
    stage.describe("postman", "Mail")
    stage.note("Mail")


def _snapshot_aims(seen: Seen) -> Iterator[Aim]:
    yield from _typed(seen, "postman", "running", "vda", "Mail-new")
    yield _listed(seen, "postman", "before")
    yield stands_on(seen, "Mail-new", "Mail")
    yield says_format(seen, "Mail-new")
    if not any(guest.writes_to(seen.path("Mail")) for guest in seen.typed.values()):  # else it cannot be compared
        yield from unchanged(seen, "Mail")


_TILLS = ("Till-1", "Till-2")


def _pivot(stage: Stage) -> None:
    stage.images(("Till", ""), ("Till-1", "Till"), ("Till-2", "Till-1"), mebibytes=4)
    stage.describe("till", "Till-2")
    stage.note_as("Till", "Till-2")


def _pivot_aims(seen: Seen) -> Iterator[Aim]:
    yield from _typed(seen, "till", "shut off", "vda", "Till")
    yield _listed(seen, "till")
    yield reads_as_noted(seen, "Till", t("Till reads what Till-2 read at the start"))
    there = [name for name in _TILLS if seen.image(name)]
    whole = seen.image("Till") is not None
    yield Aim(
        t("Till-1 and Till-2 are removed"), whole and not there, t("these still exist: {names}", names=joined(there))
    )


HAND_OVERLAYS = (
    _hand(
        "thin-guests",
        N_("By hand: thin guests"),
        N_(
            "With the shell and qemu-img alone: create web.qcow2, mail.qcow2 and data.qcow2. Each starts with the "
            "content of Template.qcow2 and takes almost no space. Write-protect the template."
        ),
    ),
    _hand(
        "missing-format",
        N_("By hand: a missing backing format"),
        N_(
            "With qemu-img alone: in the chain of Overlay-2.qcow2, find the image whose header does not record the "
            "backing format, and repair it. The chain and the data must not change."
        ),
    ),
)
HAND_SNAPSHOTS = (
    _hand(
        "export-internal",
        N_("By hand: export an internal snapshot"),
        N_(
            "With qemu-img alone: list the internal snapshots of Archive-1.qcow2, and create monday.qcow2 "
            "with the disk content of the snapshot `monday`. monday.qcow2 must not depend on any other file, and "
            "Archive-1 must not change."
        ),
    ),
    Exercise(
        name="hand-snapshot",
        title=N_("By hand: an external snapshot"),
        topic="snapshots",
        level="medium",
        task=N_(
            "With virsh alone: define and start the guest `postman` from postman.xml. Create an external snapshot "
            "`before` of its disk while it is running, without its memory, so that it writes to Mail-new.qcow2. It "
            "must keep running."
        ),
        build=_snapshot,
        aims=_snapshot_aims,
        guests=("postman",),
        by_hand=True,
        virsh=True,
    ),
)
HAND_MERGES = (
    _hand(
        "middle-layer",
        N_("By hand: a layer in the middle"),
        N_(
            "With the shell and qemu-img alone: remove Snap-2 from the chain RootBase <- Snap-1 <- Snap-2 <- Snap-3. "
            "Snap-3 and Other must still read the same data. Careful: Other is also based on Snap-1."
        ),
    ),
    _hand(
        "shrink",
        N_("By hand: free space"),
        N_(
            "With the shell and qemu-img alone: delete the three internal snapshots of Big.qcow2, and shrink the file "
            "to less than 4 MiB, keeping its name. It must still contain the same data."
        ),
    ),
    Exercise(
        name="hand-pivot",
        title=N_("By hand: commit and pivot"),
        topic="merging",
        level="hard",
        task=N_(
            "With the shell and virsh alone: define and start the guest `till` from till.xml, which writes to "
            "Till-2.qcow2. While it is running, merge Till-1 and Till-2 down, so that it writes to Till.qcow2. Then "
            "stop it with virsh destroy, and remove both overlays. virsh must still list the guest, with Till.qcow2 "
            "as its disk."
        ),
        build=_pivot,
        aims=_pivot_aims,
        guests=("till",),
        by_hand=True,
        virsh=True,
    ),
)
HAND_REPAIRS = (
    _hand(
        "loop",
        N_("By hand: a loop"),
        N_(
            "With qemu-img alone: the chain was RootBase <- Overlay-1 <- Overlay-2 <- Overlay-3, until "
            "somebody ran a wrong `qemu-img rebase -u`. Find the header that is wrong, and repair it, so "
            "that Overlay-3 reads the same data as before."
        ),
    ),
)
