"""Exercises on backing files and overlays."""

from __future__ import annotations

from collections.abc import Iterator

from vmsnap_nb.lab.exercises.aims import protected, says_format, stands_on, there, unchanged
from vmsnap_nb.lab.exercises.exercise import Aim, Exercise, Seen
from vmsnap_nb.lab.exercises.stage import Stage, layers_on
from vmsnap_nb.words.message import N_, joined, t

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


# The names say nothing: disk-d is the base of two branches, disk-c of one, and disk-g of none.
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
        t("every image that has overlays is write-protected"),
        not open_ones,
        t("{count} of {total} such images are writable", count=len(open_ones), total=len(carrying)),
    )
    yield Aim(
        t("every other image is writable"),
        not closed,
        t("without overlays, but write-protected: {names}", names=joined(closed)),
        kept=True,
    )
    gone = [name for name, image in images.items() if image is None]
    yield Aim(t("every image still exists"), not gone, t("missing: {names}", names=joined(gone)), kept=True)


def _missing_format(stage: Stage) -> None:
    stage.images(("RootBase", ""), *layers_on("RootBase", "Overlay-1", "Overlay-2"))
    stage.note("RootBase", "Overlay-2")
    stage.forget_backing_format("Overlay-1")


def _missing_format_aims(seen: Seen) -> Iterator[Aim]:
    overlays = [image for image in seen.forest if image.backing is not None]
    silent = [image for image in overlays if image.backing is not None and image.backing.format is None]
    yield Aim(
        t("every overlay records its backing format"),
        not silent,
        t("{count} of {total} overlays do not record it", count=len(silent), total=len(overlays)),
    )
    for name, base in layers_on("RootBase", "Overlay-1", "Overlay-2"):
        yield stands_on(seen, name, base, kept=True)
        image = seen.image(name)
        if image is not None and image.backing is not None and image.backing.format is not None:
            yield says_format(seen, name, kept=True)
    yield from unchanged(seen, "RootBase", "Overlay-2")


OVERLAYS = (
    Exercise(
        name="first-overlay",
        title=N_("An overlay"),
        topic="overlays",
        level="easy",
        task=N_(
            "Create an overlay Overlay-1.qcow2 on RootBase.qcow2, in the same folder. Its header must also record the "
            "backing format."
        ),
        build=_first_overlay,
        aims=_first_overlay_aims,
    ),
    Exercise(
        name="thin-guests",
        title=N_("Thin guests from one template"),
        topic="overlays",
        level="easy",
        task=N_(
            "Three guests start with the content of Template.qcow2, and none must see what another writes. Create the "
            "images web.qcow2, mail.qcow2 and data.qcow2 for them, which take almost no space, and write-protect the "
            "template."
        ),
        build=_thin_guests,
        aims=_thin_guests_aims,
    ),
    Exercise(
        name="who-stands-on",
        title=N_("Which image is based on which"),
        topic="overlays",
        level="medium",
        task=N_(
            "The names of these seven images say nothing about their chains. Remove the write permission from every "
            "image that has overlays, and from no other: guests must be able to write to the rest."
        ),
        build=_who_stands_on,
        aims=_who_stands_on_aims,
    ),
    Exercise(
        name="missing-format",
        title=N_("A missing backing format"),
        topic="overlays",
        level="medium",
        task=N_(
            "libvirt refuses a guest whose disk is Overlay-2.qcow2: the format of a backing image was not specified. "
            "Find the image whose header does not record it, and repair that header. The chain, and the data that the "
            "images read, must not change."
        ),
        build=_missing_format,
        aims=_missing_format_aims,
    ),
)
