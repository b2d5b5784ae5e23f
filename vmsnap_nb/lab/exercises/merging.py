"""Exercises on merging layers."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vmsnap_nb.lab.exercises.aims import disk_of, runs_on, unchanged
from vmsnap_nb.lab.exercises.exercise import Aim, Exercise, Seen
from vmsnap_nb.lab.exercises.stage import Stage, layers_on
from vmsnap_nb.views.words import human_size

__all__ = ["MERGING"]

_DAYS = ("Day-1", "Day-2", "Day-3", "Day-4", "Day-5", "Day-6")
_BUDGET = 4 << 20


def _middle_layer(stage: Stage) -> None:
    stage.images(("RootBase", ""), *layers_on("RootBase", "Snap-1", "Snap-2", "Snap-3"), ("Other", "Snap-1"))
    stage.note("Snap-3", "Other")


def _middle_layer_aims(seen: Seen) -> Iterator[Aim]:
    top = seen.path("Snap-3")
    lineage = seen.forest.lineage(top)
    yield Aim(
        "the chain of Snap-3 does without Snap-2",
        seen.image("Snap-3") is not None and seen.path("Snap-2") not in lineage,
        f"the chain is {seen.row(top)}" if lineage else "there is no Snap-3.qcow2 any more",
    )
    yield Aim(
        "Snap-3 still shares what is in Snap-1 and RootBase",
        {seen.path("Snap-1"), seen.path("RootBase")} <= set(lineage),
        f"the chain is {seen.row(top)}",
        kept=True,
    )
    yield from unchanged(seen, "Snap-3", "Other")


def _short_chain(stage: Stage) -> None:
    stage.images(("RootBase", ""), *layers_on("RootBase", *_DAYS), mebibytes=32)
    stage.write("Day-1", 10, at=8)
    stage.write("Day-4", 10, at=20)
    stage.note("Day-6")


def _short_chain_aims(seen: Seen) -> Iterator[Aim]:
    top = seen.path("Day-6")
    lineage = seen.forest.lineage(top)
    names = [seen.call(path) for path in lineage]
    yield Aim(
        "the chain of Day-6 has at most 4 images",
        0 < len(lineage) <= 4,
        f"it has {len(lineage)}: {seen.row(top)}",
    )
    grown = sum(
        max(0, (seen.forest[path].file_size or 0) - seen.start.sizes.get(name, 0))
        for path, name in zip(lineage, names, strict=True)
    )
    yield Aim(
        f"the images of the chain have grown by at most {human_size(_BUDGET)} in all",
        grown <= _BUDGET,
        f"they have grown by {human_size(grown)}",
        kept=True,
    )
    new = [name for name in names if name not in seen.start.sizes]
    yield Aim("the chain has no new images", not new, f"new in it: {', '.join(new)}", kept=True)
    yield from unchanged(seen, "Day-6")


def _while_it_runs(stage: Stage) -> None:
    stage.images(("Counter-0", ""), *layers_on("Counter-0", "Counter-1", "Counter-2", "Counter-3"))
    stage.define("counter", "Counter-3").start()


def _while_it_runs_aims(seen: Seen) -> Iterator[Aim]:
    disk = disk_of(seen, "counter", "vda")
    lineage = seen.forest.lineage(disk.source or "") if disk else ()
    row = seen.row(lineage[0]) if lineage else "none"
    yield Aim("the chain of counter has two images", len(lineage) == 2, f"its chain is {row}")
    yield Aim(
        "it still stands on Counter-0",
        bool(lineage) and lineage[-1] == seen.path("Counter-0"),
        f"its chain is {row}",
        kept=True,
    )
    yield runs_on(seen, "counter")
    left = [os.path.basename(path) for path in lineage if seen.forest[path].status not in ("ok", "in-use")]
    yield Aim("its images are in order", not left, f"not in order: {', '.join(left)}", kept=True)


MERGING = (
    Exercise(
        "middle-layer",
        "A layer in the middle, and a sibling",
        "merging",
        "medium",
        "The chain RootBase <- Snap-1 <- Snap-2 <- Snap-3 is to do without Snap-2, and Snap-3 is to read the same "
        "afterwards. Mind Other, which stands on Snap-1.",
        _middle_layer,
        _middle_layer_aims,
    ),
    Exercise(
        "short-chain",
        "A short chain for few bytes",
        "merging",
        "hard",
        "The chain of Day-6.qcow2 has seven images; at most four are to remain, Day-6 as its last, and it is to read "
        f"the same. The disk is slow: the images that remain may grow by {human_size(_BUDGET)} in all, and the chain "
        "is to have no new ones.",
        _short_chain,
        _short_chain_aims,
    ),
    Exercise(
        "while-it-runs",
        "Shorter while it runs",
        "merging",
        "hard",
        "The guest counter runs on Counter-0 <- Counter-1 <- Counter-2 <- Counter-3. Make it a chain of two images, "
        "the first of which is Counter-0, and do not shut the guest off for it.",
        _while_it_runs,
        _while_it_runs_aims,
        guests=("counter",),
    ),
)
