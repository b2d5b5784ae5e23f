"""Aims that many exercises share."""

from __future__ import annotations

from collections.abc import Iterator

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.lab.exercises.exercise import Aim, Seen
from vmsnap_nb.model.guest import Disk

__all__ = [
    "disk_of",
    "protected",
    "reads_as_before",
    "runs",
    "runs_on",
    "says_format",
    "stands_on",
    "there",
    "unchanged",
]


def _not_there(seen: Seen, name: str) -> str:
    names = sorted(seen.call(image.path) for image in seen.forest if image.status != "missing")
    return f"there is no {name}.qcow2; there are: {', '.join(names) or 'no images'}"


def there(seen: Seen, name: str, *, kept: bool = False) -> Aim:
    """Give the aim that an image is there, and is a qcow2."""
    what = f"{name} is there, as a qcow2 image"
    image = seen.image(name)
    if image is None:
        return Aim(what, False, _not_there(seen, name), kept)
    return Aim(what, image.format == "qcow2", f"{name} is {image.format or 'of no known format'}", kept)


def stands_on(seen: Seen, name: str, base: str, *, kept: bool = False) -> Aim:
    """Give the aim that an image stands directly on another."""
    what = f"{name} stands directly on {base}"
    image = seen.image(name)
    if image is None:
        return Aim(what, False, _not_there(seen, name), kept)
    parent = seen.forest.parent(image.path)
    if parent is None:
        return Aim(what, False, f"{name} stands on nothing: it is a base of its own", kept)
    met = seen.path(base) in seen.forest.same_file(parent)
    gone = ", and there is no such file" if parent in seen.forest.missing else ""
    return Aim(what, met, f"{name} stands on {seen.call(parent)}{gone}", kept)


def says_format(seen: Seen, name: str, *, kept: bool = False) -> Aim:
    """Give the aim that the header of an overlay says the true format of its backing file."""
    what = f"the header of {name} says the format of its backing file, and it is the right one"
    image = seen.image(name)
    if image is None:
        return Aim(what, False, _not_there(seen, name), kept)
    if image.backing is None:
        return Aim(what, False, f"the header of {name} names no backing file", kept)
    said = image.backing.format
    if said is None:
        return Aim(what, False, f"the header of {name} does not say a format", kept)
    true = seen.start.formats.get(seen.call(image.backing.path or ""), said)
    return Aim(what, said == true, f"the header of {name} says {said}, and its backing file is {true}", kept)


def reads_as_before(seen: Seen, name: str, *, kept: bool = True) -> Aim:
    """Give the aim that a guest would read from an image what it did at the start."""
    what = f"{name} reads the same as at the start"
    image = seen.image(name)
    if image is None:
        return Aim(what, False, f"there is no {name}.qcow2 any more", kept)
    for below in seen.forest.lineage(image.path):
        if seen.forest.status(below) == "loop":
            return Aim(what, False, f"{name} cannot be read: {seen.call(below)} is part of a loop", kept)
        if seen.forest[below].status == "missing":
            return Aim(what, False, f"{name} cannot be read: {seen.call(below)} is not there", kept)
        if running := [use.guest for use in seen.forest.writers(below) if use.running]:
            return Aim(what, False, f"{name} cannot be compared while the guest {running[0]} runs", kept)
    try:
        now = seen.reads(image.path, seen.start.formats[name])  # whatever an overlay says that it is
    except VmsnapError as error:
        return Aim(what, False, f"{name} cannot be read: {(error.said or str(error)).splitlines()[0]}", kept)
    return Aim(what, now == seen.start.content[name], f"{name} does not read what it read at the start", kept)


def unchanged(seen: Seen, *names: str) -> Iterator[Aim]:
    """Give `reads_as_before` for several images that only must not be spoilt."""
    for name in names:
        yield reads_as_before(seen, name)


def protected(seen: Seen, name: str) -> Aim:
    """Give the aim that an image has no write permission."""
    what = f"{name} is protected against writing"
    image = seen.image(name)
    if image is None:
        return Aim(what, False, _not_there(seen, name))
    return Aim(what, not image.writable, f"the file permissions of {name} allow writing")


def disk_of(seen: Seen, guest: str, target: str) -> Disk | None:
    """Give a disk of a guest, or None."""
    domain = seen.domains.get(guest)
    return next((disk for disk in domain.disks if disk.target == target), None) if domain else None


def runs(seen: Seen, guest: str) -> Aim:
    """Give the aim that a guest runs."""
    domain = seen.domains.get(guest)
    found = f"{guest} is {domain.state}" if domain else f"there is no guest {guest} any more"
    return Aim(f"{guest} runs", domain is not None and domain.state == "running", found)


def runs_on(seen: Seen, guest: str) -> Aim:
    """Give the aim that a guest has been running since the start."""
    now, then = seen.runs.get(guest), seen.start.runs.get(guest)
    found = f"{guest} does not run" if now is None else f"{guest} runs, but it was off in between"
    return Aim(f"{guest} has been running all the time", now is not None and now == then, found, kept=True)
