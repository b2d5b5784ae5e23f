"""Forests built of model objects alone, for tests that need no machine."""

from __future__ import annotations

import random

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.reference import Reference

MIB = 1 << 20
UNIT = 65536
"""A cluster of qcow2."""


def image(path: str, backing: str | None = None, **fields: object) -> Image:
    """One image of 64 MiB in /i, on another."""
    given = {"format": "qcow2", "virtual_size": 64 * MIB, "allocated": MIB, **fields}
    full = path if path.startswith("/") else f"/i/{path}"
    below = None
    if backing is not None:
        target = backing if backing.startswith("/") else f"/i/{backing}"
        below = Reference(target, "absolute", target, str(given.pop("backing_format", "qcow2")))
    return Image(full, backing=below, **given)  # type: ignore[arg-type]


def forest(*images: Image, uses: tuple[Use, ...] = ()) -> Forest:
    return Forest({one.path: one for one in images}, uses, ("/i",))


def figure_2() -> Forest:
    """Return the handout's Figure 2."""
    return forest(
        image("RootBase", writable=False),
        image("Overlay-1", "RootBase"),
        image("Overlay-1A", "Overlay-1"),
        image("Overlay-1B", "Overlay-1A"),
        image("Overlay-1C", "Overlay-1B"),
        image("Overlay-2", "RootBase"),
        image("Overlay-2A", "Overlay-2"),
        image("Overlay-3", "RootBase"),
        image("Overlay-3A", "Overlay-3"),
    )


def thousand(seed: int) -> Forest:
    """20 bases with branching overlays, up to 50 deep."""
    rng = random.Random(seed)
    images = [image(f"base-{n}") for n in range(20)]
    depth = {one.path: 1 for one in images}
    while len(images) < 1000:
        below = rng.choice(images[-30:] if rng.random() < 0.7 else images)
        if depth[below.path] < 50:
            images.append(image(f"o{len(images)}", below.path))
            depth[images[-1].path] = depth[below.path] + 1
    return forest(*images)


def handout(*others: Image, uses: tuple[Use, ...] = ()) -> Forest:
    """RootBase <- Snap-1 <- Snap-2 <- Snap-3 <- Snap-4, and what else is given."""
    snaps = [image(f"Snap-{n}", f"Snap-{n - 1}" if n > 1 else "RootBase") for n in range(1, 5)]
    return forest(image("RootBase"), *snaps, *others, uses=uses)
