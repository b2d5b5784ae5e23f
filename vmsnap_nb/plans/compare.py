"""Do two forests say the same? Used for stale plans and for checking what a run has done."""

from __future__ import annotations

from collections.abc import Iterator

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image

__all__ = ["differences"]


def differences(expected: Forest, found: Forest) -> tuple[str, ...]:
    """Compare what does not change while a guest merely runs: formats, edges, sizes, snapshots, uses.

    Allocated sizes and times are left out: they change whenever a guest writes. libvirt's snapshot records count too.

    Parameters
    ----------
    expected, found : Forest
        Only images of `expected`, and those that stand on them in `found`, are compared.

    Returns
    -------
    tuple of str
        A sentence for each difference; empty if there is none.
    """
    return tuple(_differences(expected, found))


def _differences(expected: Forest, found: Forest) -> Iterator[str]:
    for path, image in expected.images.items():
        other = found.images.get(path)
        if other is None or (other.status == "missing" and image.status != "missing"):
            if image.status != "missing":
                yield f"{path} is not there any more"
            continue
        if image.status == "missing":
            if other.status != "missing":
                yield f"{path} was missing and is there now"
            continue
        for what, was, now in _fields(image, other):
            if was != now:
                yield f"{path}: {what} is {now}, not {was}"
        for child in found.children(path):
            if child not in expected:
                yield f"{child} stands on {path} now"
    had, has = _disks(expected, expected), _disks(found, expected)
    for guest, target, path in had:
        if (guest, target, path) not in has:
            yield f"guest {guest} does not have {path} as its disk {target} any more"
    for guest, target, path in has:
        if (guest, target, path) not in had:
            yield f"guest {guest} has {path} as its disk {target} now"
    yield from _records(expected, found)


def _records(expected: Forest, found: Forest) -> Iterator[str]:
    had, has = ({(record.guest, record.name): record for record in one.records} for one in (expected, found))
    for (guest, name), record in had.items():
        other = has.get((guest, name))
        if other is None:
            yield f"guest {guest} has no record of a snapshot {name} any more"
            continue
        for what in ("state", "parent", "current", "memory", "memory_file", "disks", "description"):
            was, now = getattr(record, what), getattr(other, what)
            if was != now:
                yield f"snapshot {name} of {guest}: {what} is {now}, not {was}"
    for guest, name in has:
        if (guest, name) not in had:
            yield f"guest {guest} has a snapshot {name} now"


def _disks(forest: Forest, among: Forest) -> dict[tuple[str, str, str], None]:
    return dict.fromkeys((use.guest, use.target, use.path) for use in forest.uses if use.path in among)


def _fields(image: Image, other: Image) -> Iterator[tuple[str, object, object]]:
    yield "format", image.format, other.format
    yield "backing file", image.backing and image.backing.key, other.backing and other.backing.key
    yield "backing format", image.backing and image.backing.format, other.backing and other.backing.format
    yield "virtual size", image.virtual_size, other.virtual_size
    yield "status", image.status, other.status
    yield "snapshots", [s.name for s in image.snapshots], [s.name for s in other.snapshots]
    if image.identity is not None:
        yield "file", image.identity, other.identity
