"""Aims that many exercises share."""

from __future__ import annotations

from collections.abc import Iterator

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.lab.exercises.exercise import Aim, Seen, answer_digest, answer_words
from vmsnap_nb.model.guest import Disk
from vmsnap_nb.model.snapshot import Snapshot
from vmsnap_nb.views.labels import state_text
from vmsnap_nb.words.message import Message, joined, t

__all__ = [
    "alone",
    "answered",
    "disk_of",
    "protected",
    "reads_as_before",
    "reads_as_noted",
    "recorded",
    "runs",
    "runs_on",
    "says_format",
    "source",
    "stands_on",
    "there",
    "unchanged",
    "writes_above",
]


def _not_there(seen: Seen, name: str) -> Message:
    if seen.path(name) in seen.others:
        return t("{image}.qcow2 exists, but is not a qcow2 image", image=name)
    names = sorted(seen.call(image.path) for image in seen.forest if image.status != "missing")
    if not names:
        return t("{image}.qcow2 does not exist, and there are no other images", image=name)
    return t("{image}.qcow2 does not exist. Existing images: {names}", image=name, names=joined(names))


def there(seen: Seen, name: str, *, kept: bool = False) -> Aim:
    """Return the aim that an image is there, and is a qcow2."""
    what = t("{image} exists and is a qcow2 image", image=name)
    image = seen.image(name)
    if image is None:
        return Aim(what, False, _not_there(seen, name), kept)
    found = t("the format of {image} is unknown", image=name)
    if image.format:
        found = t("the format of {image} is {format}", image=name, format=image.format)
    return Aim(what, image.format == "qcow2", found, kept)


def stands_on(seen: Seen, name: str, base: str, *, kept: bool = False) -> Aim:
    """Return the aim that an image is based directly on another."""
    what = t("{image} is based directly on {base}", image=name, base=base)
    image = seen.image(name)
    if image is None:
        return Aim(what, False, _not_there(seen, name), kept)
    parent = seen.forest.parent(image.path)
    if parent is None:
        return Aim(what, False, t("{image} has no backing file", image=name), kept)
    met = seen.path(base) in seen.forest.same_file(parent)
    found = t("{image} is based on {base}", image=name, base=seen.call(parent))
    if parent in seen.forest.missing:
        found = t("{image} is based on {base}, which does not exist", image=name, base=seen.call(parent))
    return Aim(what, met, found, kept)


def says_format(seen: Seen, name: str, *, kept: bool = False) -> Aim:
    """Return the aim that the header of an overlay records the true format of its backing file."""
    what = t("the header of {image} records the correct backing format", image=name)
    image = seen.image(name)
    if image is None:
        return Aim(what, False, _not_there(seen, name), kept)
    if image.backing is None:
        return Aim(what, False, t("the header of {image} names no backing file", image=name), kept)
    said = image.backing.format
    if said is None:
        return Aim(what, False, t("the header of {image} records no backing format", image=name), kept)
    true = seen.start.formats.get(seen.call(image.backing.path or ""), said)
    found = t(
        "the header of {image} records {format}, but its backing file is {true}", image=name, format=said, true=true
    )
    return Aim(what, said == true, found, kept)


def alone(seen: Seen, name: str) -> Aim:
    """Return the aim that an image is there, and has no backing file."""
    image = seen.image(name)
    found = t("{image} has a backing file", image=name) if image else _not_there(seen, name)
    return Aim(t("{image} needs no other file", image=name), image is not None and image.backing is None, found)


def reads_as_before(seen: Seen, name: str, *, kept: bool = True) -> Aim:
    """Return the aim that a guest would read from an image what it did at the start."""
    what = t("{image} reads the same data as at the start", image=name)
    image = seen.image(name)
    if image is None and seen.path(name) in seen.others:
        return Aim(what, False, _not_there(seen, name), kept)
    if image is None:
        return Aim(what, False, t("{image}.qcow2 no longer exists", image=name), kept)
    for below in seen.forest.known_lineage(image.path):
        if seen.forest.status(below) == "loop":
            found = t("{image} cannot be read: {layer} is part of a loop", image=name, layer=seen.call(below))
            return Aim(what, False, found, kept)
        if seen.forest[below].status == "missing":
            found = t("{image} cannot be read: {layer} does not exist", image=name, layer=seen.call(below))
            return Aim(what, False, found, kept)
        running = [use.guest for use in seen.forest.known_writers(below) if use.running]
        running += [name for name, guest in seen.typed.items() if guest.writes_to(below)]
        if running:
            found = t("{image} cannot be compared while the guest {guest} is running", image=name, guest=running[0])
            return Aim(what, False, found, kept)
    try:
        now = seen.reads(image.path, seen.start.formats[name])  # whatever an overlay says that it is
    except VmsnapError as error:
        reason = (error.reason or str(error)).splitlines()[0]
        return Aim(what, False, t("{image} cannot be read: {reason}", image=name, reason=reason), kept)
    found = t("{image} does not read the same data as at the start", image=name)
    return Aim(what, now == seen.start.content[name], found, kept)


def reads_as_noted(seen: Seen, name: str, what: Message) -> Aim:
    """Return the aim that an image reads what was noted under its name, perhaps not its state at the start."""
    aim = reads_as_before(seen, name, kept=False)
    differs = aim.seen == t("{image} does not read the same data as at the start", image=name)
    return Aim(what, aim.met, t("{image} reads different data", image=name) if differs else aim.seen)


def answered(seen: Seen, what: Message, *, images: bool = False) -> Aim:
    """Return the aim that the answer is the expected one; what it is stays secret. `images`: it is names of images."""
    if not seen.answer:
        return Aim(what, False, t("there is no answer yet"))
    right = answer_digest(seen.answer) == seen.start.answer
    if images and not right:
        known = {seen.call(image.path).lower() for image in seen.forest}
        if unknown := [word for word in answer_words(seen.answer) if word not in known]:
            return Aim(what, False, _not_there(seen, unknown[0]))
    return Aim(what, right, t("the answer is: {answer}", answer=seen.answer))


def unchanged(seen: Seen, *names: str) -> Iterator[Aim]:
    """Return `reads_as_before` for several images that must not change."""
    for name in names:
        yield reads_as_before(seen, name)


def protected(seen: Seen, name: str) -> Aim:
    """Return the aim that an image has no write permission."""
    what = t("{image} is write-protected", image=name)
    image = seen.image(name)
    if image is None:
        return Aim(what, False, _not_there(seen, name))
    return Aim(what, not image.writable, t("the file permissions of {image} allow writing", image=name))


def disk_of(seen: Seen, guest: str, target: str) -> Disk | None:
    """Return a disk of a guest, or None."""
    domain = seen.domains.get(guest)
    return next((disk for disk in domain.disks if disk.target == target), None) if domain else None


def runs(seen: Seen, guest: str) -> Aim:
    """Return the aim that a guest runs."""
    domain = seen.domains.get(guest)
    found = t("the guest {guest} no longer exists", guest=guest)
    if domain is not None:
        found = t("the state of {guest} is: {state}", guest=guest, state=state_text(domain.state))
    return Aim(t("{guest} is running", guest=guest), domain is not None and domain.state == "running", found)


def runs_on(seen: Seen, guest: str) -> Aim:
    """Return the aim that a guest has been running since the start."""
    now, then = seen.runs.get(guest), seen.start.runs.get(guest)
    found = t("{guest} is running, but was shut off at some point", guest=guest)
    if now is None:
        found = t("{guest} is not running", guest=guest)
    what = t("{guest} has been running the whole time", guest=guest)
    return Aim(what, now is not None and now == then, found, kept=True)


def recorded(seen: Seen, guest: str, name: str) -> tuple[Aim, Snapshot | None]:
    """Return the aim that libvirt has a record of a snapshot, and the snapshot if so."""
    rows = seen.snapshots.get(guest) or ()
    found = next((row for row in rows if row.name == name and row.status != "untracked"), None)
    names = [row.name for row in rows if row.status != "untracked"]
    missing = t("libvirt has no snapshots of {guest}", guest=guest)
    if names:
        missing = t("libvirt has these snapshots of {guest}: {names}", guest=guest, names=joined(names))
    return Aim(t("libvirt has a record of the snapshot '{name}'", name=name), found is not None, missing), found


def source(seen: Seen, guest: str, target: str, image: str, *, kept: bool = True) -> Aim:
    """Return the aim that a disk of a guest writes to an image."""
    disk = disk_of(seen, guest, target)
    where = seen.call(disk.source) if disk and disk.source else ""
    found = (
        t("it writes to {image}", image=where) if where else t("{guest} has no disk {disk}", disk=target, guest=guest)
    )
    what = t("{guest} writes {disk} to {image}", guest=guest, disk=target, image=image)
    return Aim(what, where == image, found, kept)


def writes_above(seen: Seen, guest: str, target: str, image: str) -> Aim:
    """Return the aim that a disk of a guest writes to an overlay somewhere above an image."""
    disk = disk_of(seen, guest, target)
    lineage = seen.forest.known_lineage(disk.source) if disk and disk.source else ()
    found = t("{guest} has no disk {disk}", disk=target, guest=guest)
    if lineage:
        found = t("its chain is {chain}", chain=seen.row(lineage[0]))
    what = t("{guest} writes {disk} to an overlay of {image}", guest=guest, disk=target, image=image)
    return Aim(what, seen.path(image) in lineage[1:], found)
