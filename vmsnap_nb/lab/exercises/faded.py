"""Faded examples: the first of three cases is solved already, of the second a part is given, and the third is open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vmsnap_nb.lab.exercises.aims import protected, says_format, stands_on, unchanged
from vmsnap_nb.lab.exercises.exercise import Aim, Exercise, Seen
from vmsnap_nb.lab.exercises.stage import Stage
from vmsnap_nb.words.message import N_, t

__all__ = ["FADED_MERGES", "FADED_OVERLAYS"]

_NUMBERS = (1, 2, 3)


def _overlays(stage: Stage) -> None:
    stage.images(*((f"Base-{number}", "") for number in _NUMBERS), mebibytes=4)
    stage.note(*(f"Base-{number}" for number in _NUMBERS))
    stage.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "Base-1.qcow2", stage.path("Top-1"))
    stage.run("chmod", "a-w", stage.path("Base-1"))


def _overlays_aims(seen: Seen) -> Iterator[Aim]:
    for number in _NUMBERS:
        base, top = f"Base-{number}", f"Top-{number}"
        for aim in (stands_on(seen, top, base), says_format(seen, top), protected(seen, base)):
            yield replace(aim, kept=number == 1)
    yield from unchanged(seen, *(f"Base-{number}" for number in _NUMBERS))


def _merges(stage: Stage) -> None:
    for letter in "ABC":
        stage.images((f"{letter}-0", ""), (f"{letter}-1", f"{letter}-0"), (f"{letter}-2", f"{letter}-1"), mebibytes=4)
    stage.note(*(f"{letter}-2" for letter in "ABC"))
    stage.run("qemu-img", "commit", "-q", "-d", stage.path("A-1"))
    stage.repoint("A-2", "A-0")
    stage.run("rm", stage.path("A-1"))


def _merges_aims(seen: Seen) -> Iterator[Aim]:
    for letter in "ABC":
        yield stands_on(seen, f"{letter}-2", f"{letter}-0", kept=letter == "A")
        middle = f"{letter}-1"
        what = t("{image}.qcow2 no longer exists", image=middle)
        there = seen.image(f"{letter}-0") is not None  # where everything is gone, this is no merit
        gone = seen.image(middle) is None and there
        yield Aim(what, gone, t("{image} exists", image=middle), kept=letter == "A")
    yield from unchanged(seen, *(f"{letter}-2" for letter in "ABC"))


FADED_OVERLAYS = (
    Exercise(
        name="faded-overlay",
        title=N_("Step by step: overlays"),
        topic="overlays",
        level="easy",
        task=N_(
            "Create an overlay with a complete header on each of three bases, and write-protect the bases. The first "
            "is done for you, the second only partly; do the third on your own."
        ),
        build=_overlays,
        aims=_overlays_aims,
    ),
)
FADED_MERGES = (
    Exercise(
        name="faded-merge",
        title=N_("Step by step: remove a layer"),
        topic="merging",
        level="easy",
        task=N_(
            "Remove the middle layer of three chains with qemu-img: commit it, rebase the top onto the base, and "
            "remove the file. The first is done for you, the second only partly; do the third on your own."
        ),
        build=_merges,
        aims=_merges_aims,
    ),
)
