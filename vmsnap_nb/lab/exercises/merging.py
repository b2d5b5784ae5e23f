"""Exercises on merging layers."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vmsnap_nb.lab.exercises.aims import alone, disk_of, runs_on, source, stands_on, unchanged
from vmsnap_nb.lab.exercises.exercise import Aim, Exercise, Seen
from vmsnap_nb.lab.exercises.stage import Stage, layers_on
from vmsnap_nb.views.shown_text import human_size
from vmsnap_nb.words.message import N_, joined, t

__all__ = ["MERGING"]

_DAYS = ("Day-1", "Day-2", "Day-3", "Day-4", "Day-5", "Day-6")
_BUDGET = 4 << 20


def _middle_layer(stage: Stage) -> None:
    stage.images(("RootBase", ""), *layers_on("RootBase", "Snap-1", "Snap-2", "Snap-3"), ("Other", "Snap-1"))
    stage.note("Snap-3", "Other")


def _middle_layer_aims(seen: Seen) -> Iterator[Aim]:
    top = seen.path("Snap-3")
    lineage = seen.forest.known_lineage(top)
    chain = t("the chain is {chain}", chain=seen.row(top))
    yield Aim(
        t("the chain of Snap-3 no longer contains Snap-2"),
        seen.image("Snap-3") is not None and seen.path("Snap-2") not in lineage,
        chain if lineage else t("{image}.qcow2 no longer exists", image="Snap-3"),
    )
    yield Aim(
        t("Snap-3 is still based on Snap-1 and RootBase"),
        {seen.path("Snap-1"), seen.path("RootBase")} <= set(lineage),
        chain,
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
    lineage = seen.forest.known_lineage(top)
    names = [seen.call(path) for path in lineage]
    yield Aim(
        t("the chain of Day-6 has at most 4 images"),
        0 < len(lineage) <= 4,
        t("it has {count}: {chain}", count=len(lineage), chain=seen.row(top)),
    )
    grown = sum(
        max(0, (seen.forest[path].file_size or 0) - seen.start.sizes.get(name, 0))
        for path, name in zip(lineage, names, strict=True)
    )
    yield Aim(
        t("the images of the chain have grown by at most {size} in total", size=human_size(_BUDGET)),
        grown <= _BUDGET,
        t("they have grown by {size}", size=human_size(grown)),
        kept=True,
    )
    new = [name for name in names if name not in seen.start.sizes]
    yield Aim(t("the chain has no new images"), not new, t("new images: {names}", names=joined(new)), kept=True)
    yield from unchanged(seen, "Day-6")


def _while_it_runs(stage: Stage) -> None:
    stage.images(("Counter-0", ""), *layers_on("Counter-0", "Counter-1", "Counter-2", "Counter-3"))
    stage.define("counter", "Counter-3").start()


def _while_it_runs_aims(seen: Seen) -> Iterator[Aim]:
    disk = disk_of(seen, "counter", "vda")
    lineage = seen.forest.known_lineage(disk.source or "") if disk else ()
    chain = t("its chain is {chain}", chain=seen.row(lineage[0])) if lineage else t("it has no chain")
    yield Aim(t("the chain of counter has two images"), len(lineage) == 2, chain)
    yield Aim(
        t("it is still based on Counter-0"),
        bool(lineage) and lineage[-1] == seen.path("Counter-0"),
        chain,
        kept=True,
    )
    yield runs_on(seen, "counter")
    left = [os.path.basename(path) for path in lineage if seen.forest[path].status not in ("ok", "in-use")]
    found = t("with problems: {names}", names=joined(left))
    yield Aim(t("its images have no problems"), not left, found, kept=True)


def _standalone(stage: Stage) -> None:
    stage.images(("Template", ""), ("web", "Template"), ("mail", "Template"))
    stage.note("Template", "web", "mail")


def _standalone_aims(seen: Seen) -> Iterator[Aim]:
    yield alone(seen, "web")
    yield stands_on(seen, "mail", "Template", kept=True)
    yield from unchanged(seen, "Template", "web", "mail")


def _pivot(stage: Stage) -> None:
    stage.images(("Service", ""), ("Service-1", "Service"))
    stage.define("service", "Service-1").start()


def _pivot_aims(seen: Seen) -> Iterator[Aim]:
    yield source(seen, "service", "vda", "Service", kept=False)
    disk = disk_of(seen, "service", "vda")
    lineage = seen.forest.known_lineage(disk.source) if disk and disk.source else ()
    chain = t("its chain is {chain}", chain=seen.row(lineage[0])) if lineage else t("it has no chain")
    yield Aim(t("the chain of {guest} has one image", guest="service"), len(lineage) == 1, chain)
    yield runs_on(seen, "service")


def _shrink(stage: Stage) -> None:
    stage.images(("Big", ""))
    for name in ("one", "two", "three"):
        stage.run("qemu-img", "snapshot", "-c", name, stage.path("Big"))
        stage.write("Big", 3, at=4)
    stage.note("Big")


def _shrink_aims(seen: Seen) -> Iterator[Aim]:
    image = seen.image("Big")
    gone = t("{image}.qcow2 no longer exists", image="Big")
    names = [inside.name for inside in image.snapshots] if image else []
    found = t("Big contains these internal snapshots: {names}", names=joined(names)) if image else gone
    yield Aim(t("Big contains no internal snapshots"), image is not None and not names, found)
    size = (image.file_size or 0) if image else 0
    found = t("its size is {size}", size=human_size(size)) if image else gone
    yield Aim(t("Big.qcow2 is at most {size} in size", size=human_size(_BUDGET)), 0 < size <= _BUDGET, found)
    yield from unchanged(seen, "Big")


MERGING = (
    Exercise(
        name="middle-layer",
        title=N_("A layer in the middle, and a sibling"),
        topic="merging",
        level="medium",
        task=N_(
            "Remove Snap-2 from the chain RootBase <- Snap-1 <- Snap-2 <- Snap-3. Snap-3 must still read the same "
            "data. Careful: Other is also based on Snap-1."
        ),
        build=_middle_layer,
        aims=_middle_layer_aims,
    ),
    Exercise(
        name="short-chain",
        title=N_("A short chain at low cost"),
        topic="merging",
        level="hard",
        task=N_(
            "The chain of Day-6.qcow2 has seven images. Shorten it to at most four, with Day-6 at its top and with "
            "the same data. The disk is slow: the remaining images may grow by 4 MiB in total, and no image may be "
            "added to the chain."
        ),
        build=_short_chain,
        aims=_short_chain_aims,
    ),
    Exercise(
        name="while-it-runs",
        title=N_("Shortening while the guest runs"),
        topic="merging",
        level="hard",
        task=N_(
            "The guest `counter` runs on Counter-0 <- Counter-1 <- Counter-2 <- Counter-3. Shorten this chain to two "
            "images, the first of which is Counter-0. Do not shut the guest down."
        ),
        build=_while_it_runs,
        aims=_while_it_runs_aims,
        guests=("counter",),
    ),
    Exercise(
        name="standalone",
        title=N_("An image without its template"),
        topic="merging",
        level="easy",
        task=N_(
            "web.qcow2 will be moved to another host. Make it independent of Template, with the same data. mail must "
            "stay an overlay of Template."
        ),
        build=_standalone,
        aims=_standalone_aims,
    ),
    Exercise(
        name="pivot",
        title=N_("Commit the active layer"),
        topic="merging",
        level="medium",
        task=N_(
            "The guest `service` is running and writes to Service-1.qcow2. Merge this layer down, so that the guest "
            "writes to Service.qcow2 from then on. Do not shut the guest down."
        ),
        build=_pivot,
        aims=_pivot_aims,
        guests=("service",),
    ),
    Exercise(
        name="shrink",
        title=N_("Free space"),
        topic="merging",
        level="medium",
        task=N_(
            "Big.qcow2 contains three internal snapshots that are no longer needed. Delete them, and shrink the file "
            "to less than 4 MiB, keeping its name. It must still contain the same data."
        ),
        build=_shrink,
        aims=_shrink_aims,
    ),
)
