"""Exercises on broken images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from vmsnap_nb.lab.exercises.aims import reads_as_before, says_format, stands_on, unchanged
from vmsnap_nb.lab.exercises.exercise import Aim, Exercise, Seen
from vmsnap_nb.lab.exercises.stage import Stage, layers_on
from vmsnap_nb.words.message import N_, joined, t

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
    found = t("there is a RootBase.qcow2 at the old path")
    yield Aim(t("no image is at the old path"), not again, found, kept=True)
    yield from unchanged(seen, "templates/RootBase", "templates/RootBase-old")


def _loop(stage: Stage) -> None:
    stage.images(("RootBase", ""), *layers_on("RootBase", "Overlay-1", "Overlay-2", "Overlay-3"))
    stage.note("RootBase", "Overlay-3")
    stage.repoint("Overlay-1", "Overlay-3")


def _loop_aims(seen: Seen) -> Iterator[Aim]:
    around = [seen.call(path) for loop in seen.forest.loops for path in loop]
    yield Aim(t("no chain has a loop"), not around, t("these images form a loop: {names}", names=joined(around)))
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
    what = t("Orphan is based on an image that exists")
    if orphan is None:
        yield Aim(what, False, t("{image}.qcow2 no longer exists", image="Orphan"))
    elif (parent := seen.forest.parent(orphan.path)) is None:
        yield Aim(what, False, t("{image} has no backing file", image="Orphan"))
    else:
        found = t("{image} is based on {base}, which does not exist", image="Orphan", base=seen.call(parent))
        yield Aim(what, parent not in seen.forest.missing, found)
        yield says_format(seen, "Orphan", kept=True)
    yield reads_as_before(seen, "Orphan", kept=False)
    yield from unchanged(seen, *_COPIES)


def _wrong_format(stage: Stage) -> None:
    stage.images(("RootBase", ""), ("Overlay-1", "RootBase"))
    stage.note("RootBase", "Overlay-1")
    stage.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "RootBase.qcow2", stage.path("Overlay-1"))


def _wrong_format_aims(seen: Seen) -> Iterator[Aim]:
    yield says_format(seen, "Overlay-1")
    yield reads_as_before(seen, "Overlay-1", kept=False)
    yield stands_on(seen, "Overlay-1", "RootBase", kept=True)
    yield from unchanged(seen, "RootBase")


REPAIR = (
    Exercise(
        name="wrong-format",
        title=N_("A wrong backing format"),
        topic="repair",
        level="easy",
        task=N_(
            "The guest on Overlay-1.qcow2 starts, but finds no operating system: the header says that the "
            "backing file is raw. Repair the header, so that Overlay-1 reads the right data. RootBase must "
            "not change."
        ),
        build=_wrong_format,
        aims=_wrong_format_aims,
    ),
    Exercise(
        name="moved-base",
        title=N_("The base was moved"),
        topic="repair",
        level="medium",
        task=N_(
            "RootBase.qcow2 was moved into the folder templates, where it must stay. The headers of its overlays "
            "still name the old path. Repair them."
        ),
        build=_moved_base,
        aims=_moved_base_aims,
    ),
    Exercise(
        name="loop",
        title=N_("A loop in the chain"),
        topic="repair",
        level="hard",
        task=N_(
            "The chain was RootBase <- Overlay-1 <- Overlay-2 <- Overlay-3, until somebody ran a wrong "
            "`qemu-img rebase -u`. Since then, only RootBase can be opened. Repair the chain, so that "
            "Overlay-3 reads the same data as before."
        ),
        build=_loop,
        aims=_loop_aims,
    ),
    Exercise(
        name="orphan",
        title=N_("An overlay without its base"),
        topic="repair",
        level="hard",
        task=N_(
            "RootBase.qcow2, on which Orphan.qcow2 is based, was deleted. One of the three images in the folder "
            "copies is an exact copy of it, and SHA256SUMS contains the checksum of the lost file. Make Orphan read "
            "the same data as before. The copies must not change."
        ),
        build=_orphan,
        aims=_orphan_aims,
    ),
)
