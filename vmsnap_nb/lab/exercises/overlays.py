"""Exercises on backing files and overlays."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vmsnap_nb.lab.exercises.aims import alone, protected, reads_as_noted, says_format, stands_on, there, unchanged
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


def _template_update(stage: Stage) -> None:
    stage.images(("Template-1", ""), ("web", "Template-1"), ("mail", "Template-1"), ("Update", "Template-1"))
    stage.note("Template-1", "web", "mail", "Update")
    stage.note_as("Template-2", "Update")


def _template_update_aims(seen: Seen) -> Iterator[Aim]:
    yield there(seen, "Template-2")
    yield reads_as_noted(seen, "Template-2", t("Template-2 reads the data of Update"))
    yield alone(seen, "Template-2")
    yield protected(seen, "Template-2")
    for name in ("web", "mail"):
        yield stands_on(seen, name, "Template-1", kept=True)
    yield from unchanged(seen, "Template-1", "web", "mail")


def _permissions(stage: Stage) -> None:
    stage.images(("Base", ""), *layers_on("Base", "Middle", "Top"))
    for name, mode in (("Base", 0o600), ("Middle", 0o640), ("Top", 0o644)):
        os.chmod(stage.path(name), mode)
    stage.note("Top")


def _permissions_aims(seen: Seen) -> Iterator[Aim]:
    for name in ("Base", "Middle"):
        mode = seen.modes.get(seen.path(name))
        found = t("{image}.qcow2 no longer exists", image=name)
        if mode is not None:
            found = t("the permissions of {image} are {mode}", image=name, mode=f"{mode:o}")
        yield Aim(t("every user can read {image}", image=name), mode is not None and mode & 0o444 == 0o444, found)
        yield Aim(t("no user can write to {image}", image=name), mode is not None and not mode & 0o222, found)
    mode = seen.modes.get(seen.path("Top"), 0)
    found = t("the permissions of {image} are {mode}", image="Top", mode=f"{mode:o}")
    yield Aim(t("only the owner of Top can write to it"), mode & 0o222 == 0o200, found, kept=True)
    yield from unchanged(seen, "Top")


OVERLAYS = (
    Exercise(
        name="first-overlay",
        title=N_("An overlay"),
        topic="overlays",
        level="easy",
        task=N_(
            "Create an overlay Overlay-1.qcow2 on RootBase.qcow2, in the same folder. Its header must also record "
            "the backing format."
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
            "Three guests start with the content of Template.qcow2, and none may see what another "
            "writes. Create the images web.qcow2, mail.qcow2 and data.qcow2 for them, and "
            "write-protect the template. The three images must take almost no space."
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
            "libvirt refuses to start a guest whose disk is Overlay-2.qcow2: the format of a backing image "
            "was not specified. Find the image whose header does not record it, and repair that header. "
            "The chain, and the data that the images read, must not change."
        ),
        build=_missing_format,
        aims=_missing_format_aims,
    ),
    Exercise(
        name="template-update",
        title=N_("A new version of a template"),
        topic="overlays",
        level="medium",
        task=N_(
            "web and mail are based on Template-1. Update.qcow2 is another overlay of it, with all "
            "updates installed. Create Template-2.qcow2 for new guests. It must have the content of "
            "Update and no backing file, and must be write-protected. web and mail must keep their "
            "template and their data."
        ),
        build=_template_update,
        aims=_template_update_aims,
    ),
    Exercise(
        name="permissions",
        title=N_("Permission denied"),
        topic="overlays",
        level="easy",
        task=N_(
            "A guest whose disk is Top.qcow2 does not start: Permission denied. QEMU runs as another user, who must "
            "be able to read Base and Middle. Nobody needs to write to these two. Leave Top as it is."
        ),
        build=_permissions,
        aims=_permissions_aims,
    ),
)
