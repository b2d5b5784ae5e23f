"""Exercises on backing files and overlays."""

from __future__ import annotations

from collections.abc import Iterator

from vmsnap_nb.lab.exercises.aims import protected, says_format, stands_on, there, unchanged
from vmsnap_nb.lab.exercises.exercise import Aim, Exercise, Seen
from vmsnap_nb.lab.exercises.stage import Stage, layers_on

__all__ = ["OVERLAYS"]


def _first_overlay(stage: Stage) -> None:
    stage.images(("RootBase", ""))
    stage.note("RootBase")


def _first_overlay_aims(seen: Seen) -> Iterator[Aim]:
    yield there(seen, "Overlay-1")
    yield stands_on(seen, "Overlay-1", "RootBase")
    yield says_format(seen, "Overlay-1")
    yield from unchanged(seen, "RootBase")


def _thin_guests(stage: Stage) -> None:
    stage.images(("Template", ""))
    stage.note("Template")


def _thin_guests_aims(seen: Seen) -> Iterator[Aim]:
    for name in ("web", "mail", "data"):
        yield stands_on(seen, name, "Template")
    yield protected(seen, "Template")
    yield from unchanged(seen, "Template")


# The names tell nothing: disk-d carries two branches, disk-c one, and disk-g, a base as well, nobody.
_STRANGERS = (
    ("disk-d", ""),
    ("disk-a", "disk-d"),
    ("disk-f", "disk-a"),
    ("disk-b", "disk-d"),
    ("disk-c", ""),
    ("disk-e", "disk-c"),
    ("disk-g", ""),
)


def _who_stands_on(stage: Stage) -> None:
    stage.images(*_STRANGERS)


def _who_stands_on_aims(seen: Seen) -> Iterator[Aim]:
    carrying = {base for _, base in _STRANGERS if base}
    images = {name: seen.image(name) for name, _ in _STRANGERS}
    open_ones = [name for name in images if name in carrying and (image := images[name]) and image.writable]
    closed = [name for name in images if name not in carrying and (image := images[name]) and not image.writable]
    yield Aim(
        "every image on which another stands is protected against writing",
        not open_ones,
        f"{len(open_ones)} of {len(carrying)} such images can be written to",
    )
    yield Aim(
        "every other image can be written to",
        not closed,
        f"{', '.join(closed)} cannot be written to, and nothing stands on it",
        kept=True,
    )
    gone = [name for name, image in images.items() if image is None]
    yield Aim("every image is still there", not gone, f"{', '.join(gone)} is gone", kept=True)


def _missing_format(stage: Stage) -> None:
    stage.images(("RootBase", ""), *layers_on("RootBase", "Overlay-1", "Overlay-2"))
    stage.note("RootBase", "Overlay-2")
    stage.forget_backing_format("Overlay-1")


def _missing_format_aims(seen: Seen) -> Iterator[Aim]:
    overlays = [image for image in seen.forest if image.backing is not None]
    silent = [image for image in overlays if image.backing is not None and image.backing.format is None]
    yield Aim(
        "every overlay says the format of its backing file",
        not silent,
        f"{len(silent)} of {len(overlays)} overlays do not say it",
    )
    for name, base in layers_on("RootBase", "Overlay-1", "Overlay-2"):
        yield stands_on(seen, name, base, kept=True)
        image = seen.image(name)
        if image is not None and image.backing is not None and image.backing.format is not None:
            yield says_format(seen, name, kept=True)
    yield from unchanged(seen, "RootBase", "Overlay-2")


OVERLAYS = (
    Exercise(
        "first-overlay",
        "An overlay",
        "overlays",
        "easy",
        "Make an overlay Overlay-1.qcow2 on RootBase.qcow2, in the same folder. Its header is to say the format of its "
        "backing file as well.",
        _first_overlay,
        _first_overlay_aims,
    ),
    Exercise(
        "thin-guests",
        "Thin guests from one template",
        "overlays",
        "easy",
        "Three guests are to begin with what Template.qcow2 has, and none is to see what another writes. Make the "
        "images web.qcow2, mail.qcow2 and data.qcow2 for them, which take next to no room, and protect the template "
        "against writing.",
        _thin_guests,
        _thin_guests_aims,
    ),
    Exercise(
        "who-stands-on",
        "Who stands on whom",
        "overlays",
        "medium",
        "Somebody left seven images whose names tell nothing. Take the write permission from every image on which "
        "another one stands, and from no other: the rest belongs to guests that have to write.",
        _who_stands_on,
        _who_stands_on_aims,
    ),
    Exercise(
        "missing-format",
        "A backing format that nobody said",
        "overlays",
        "medium",
        "libvirt refuses a guest whose disk is Overlay-2.qcow2: the format of a backing image was not specified. Find "
        "the image whose header does not say it, and mend that header. What stands on what, and what the images read, "
        "must stay as it is.",
        _missing_format,
        _missing_format_aims,
    ),
)
