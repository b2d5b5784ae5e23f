"""Exercises on images that somebody has broken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from vmsnap_nb.lab.exercises.aims import reads_as_before, says_format, stands_on, unchanged
from vmsnap_nb.lab.exercises.exercise import Aim, Exercise, Seen
from vmsnap_nb.lab.exercises.stage import Stage, layers_on

__all__ = ["REPAIR"]

_COPIES = ("copies/copy-1", "copies/copy-2", "copies/copy-3")


def _moved_base(stage: Stage) -> None:
    stage.images(("templates/RootBase-old", ""), ("RootBase", ""), ("Overlay-1", "RootBase"), ("Overlay-2", "RootBase"))
    stage.note("Overlay-1", "Overlay-2", "templates/RootBase-old")
    stage.move("RootBase", "templates/RootBase")
    stage.note("templates/RootBase")


def _moved_base_aims(seen: Seen) -> Iterator[Aim]:
    for name in ("Overlay-1", "Overlay-2"):
        yield stands_on(seen, name, "templates/RootBase")
        yield reads_as_before(seen, name, kept=False)
    again = seen.image("RootBase") is not None
    yield Aim("nothing lies at the old place", not again, "there is a RootBase.qcow2 at the old place", kept=True)
    yield from unchanged(seen, "templates/RootBase", "templates/RootBase-old")


def _loop(stage: Stage) -> None:
    stage.images(("RootBase", ""), *layers_on("RootBase", "Overlay-1", "Overlay-2", "Overlay-3"))
    stage.note("RootBase", "Overlay-3")
    stage.repoint("Overlay-1", "Overlay-3")


def _loop_aims(seen: Seen) -> Iterator[Aim]:
    around = ", ".join(seen.call(path) for loop in seen.forest.loops for path in loop)
    yield Aim("no image stands on itself", not around, f"these stand on each other in a circle: {around}")
    for name, base in layers_on("RootBase", "Overlay-1", "Overlay-2", "Overlay-3"):
        kept = name != "Overlay-1"
        yield stands_on(seen, name, base, kept=kept)
    yield reads_as_before(seen, "Overlay-3", kept=False)
    yield from unchanged(seen, "RootBase")


def _orphan(stage: Stage) -> None:
    stage.images(("copies/copy-1", ""), ("copies/copy-3", ""), ("RootBase", ""), ("Orphan", "RootBase"))
    stage.note("Orphan")
    digest = hashlib.sha256(Path(stage.path("RootBase")).read_bytes()).hexdigest()
    (stage.folder / "SHA256SUMS").write_text(f"{digest}  RootBase.qcow2\n")
    stage.move("RootBase", "copies/copy-2")
    stage.note(*_COPIES)


def _orphan_aims(seen: Seen) -> Iterator[Aim]:
    orphan = seen.image("Orphan")
    what = "Orphan stands on an image that is there"
    if orphan is None:
        yield Aim(what, False, "there is no Orphan.qcow2 any more")
    elif (parent := seen.forest.parent(orphan.path)) is None:
        yield Aim(what, False, "Orphan stands on nothing")
    else:
        found = f"Orphan stands on {seen.call(parent)}, and there is no such file"
        yield Aim(what, parent not in seen.forest.missing, found)
        yield says_format(seen, "Orphan", kept=True)
    yield reads_as_before(seen, "Orphan", kept=False)
    yield from unchanged(seen, *_COPIES)


REPAIR = (
    Exercise(
        "moved-base",
        "A base that was moved",
        "repair",
        "medium",
        "RootBase.qcow2 was moved into the folder templates, where it is to stay, and its overlays were not told. Mend "
        "them.",
        _moved_base,
        _moved_base_aims,
    ),
    Exercise(
        "loop",
        "A chain that bites its tail",
        "repair",
        "hard",
        "The chain was RootBase <- Overlay-1 <- Overlay-2 <- Overlay-3, until somebody used `qemu-img rebase -u`. "
        "Since then no image of it can be opened but RootBase. Mend it, so that Overlay-3 reads what it did before.",
        _loop,
        _loop_aims,
    ),
    Exercise(
        "orphan",
        "An orphan",
        "repair",
        "hard",
        "RootBase.qcow2, on which Orphan.qcow2 stands, was deleted. One of the three images in the folder copies is a "
        "true copy of it, and SHA256SUMS tells the checksum that the lost file had. Have Orphan read again what it "
        "read before; the copies are to stay as they are.",
        _orphan,
        _orphan_aims,
    ),
)
