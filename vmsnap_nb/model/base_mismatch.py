"""Signs that an overlay does not belong to the image that it names, from their sizes and times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from vmsnap_nb.model.image import Image
from vmsnap_nb.model.moment import moment
from vmsnap_nb.words.message import N_, NOTHING, Message, t

__all__ = ["DIRTY", "MERGED", "is_older", "is_other", "is_smaller", "smaller_ones"]

DIRTY = N_("the image was not closed properly; QEMU repairs it when it is next opened for writing")
"""`Image.problem` of an image whose header says so."""

MERGED = N_("merged into another image, and the images below have changed; QEMU refuses to open such a file")
"""`Image.problem` of an image that is marked as merged."""

_LATER = 60_000_000_000
"""Nanoseconds: QEMU closes the image below an overlay later than it makes the overlay, and a busy machine is slow."""


def is_smaller(image: Image, base: Image) -> Message:
    """Return a sentence where an overlay is smaller than the image below it, or an empty text."""
    if image.virtual_size is None or base.virtual_size is None or image.virtual_size >= base.virtual_size:
        return NOTHING
    if image.backing is not None and not image.backing.is_plain:
        return NOTHING  # what it reads is only a part of that file, or something else
    return t(
        "its virtual size is {size} bytes, but its backing file {base} has a virtual size of {base_size} "
        "bytes. Data beyond the end of the overlay cannot be read through it",
        size=image.virtual_size,
        base=base.name,
        base_size=base.virtual_size,
    )


def smaller_ones(images: Mapping[str, Image], based: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Message]]:
    """Yield the overlays that are smaller than the image below, and why that matters; `based` has both names."""
    for path, below in based:
        image, base = images.get(path), images.get(below)
        if image is None or base is None or image.virtual_size == base.virtual_size:
            continue  # nearly all are of one size
        if problem := is_smaller(image, base):
            yield path, problem


def is_other(image: Image, base: Image) -> Message:
    """Return a sentence where an overlay was created on another backing file than it has now, or an empty text."""
    record = image.base_record
    if record is None or image.backing is None or image.backing.written != record.written:
        return NOTHING
    if image.status != "ok" or base.status != "ok" or base.held == "write":
        return NOTHING
    if base.file_size is None or base.mtime_ns is None:
        return NOTHING
    now = base.mtime_ns // 10**9
    if _is_remembered(image, base):
        return NOTHING
    if (base.file_size, now) == (record.size, record.mtime):
        return t(
            "{base} is not the file on which {image} was created, although it has the same size and modification time",
            base=base.name,
            image=image.name,
        )
    return t(
        "{base} has changed since {image} was created. It had {size} bytes and was modified at {then} UTC; now it "
        "has {now_size} bytes and was modified at {now} UTC",
        base=base.name,
        image=image.name,
        size=record.size,
        then=_utc(record.mtime),
        now_size=base.file_size,
        now=_utc(now),
    )


def is_older(image: Image, base: Image) -> Message:
    """Return a sentence where the image below an overlay was written to after the overlay, or an empty text.

    QEMU writes to no image below, but for merges and snapshots inside it.
    """
    if image.mtime_ns is None or base.mtime_ns is None or base.mtime_ns <= image.mtime_ns + _LATER:
        return NOTHING
    if image.status != "ok" or base.status != "ok" or image.held == "write":
        return NOTHING  # what QEMU has not written yet has no time
    if _is_remembered(image, base):
        return NOTHING  # a plan wrote to it, and then let the overlay know it
    return t(
        "{base} was modified at {now} UTC, after its overlay {image} ({then} UTC)",
        base=base.name,
        now=_utc(base.mtime_ns // 10**9),
        image=image.name,
        then=_utc(image.mtime_ns // 10**9),
    )


def _is_remembered(image: Image, base: Image) -> bool:
    """Return whether the image below an overlay is exactly the one that the overlay remembers."""
    record, backing = image.base_record, image.backing
    if record is None or backing is None or backing.written != record.written or base.mtime_ns is None:
        return False
    now = base.identity, base.file_size, base.mtime_ns // 10**9
    return now == (record.identity, record.size, record.mtime)


def _utc(seconds: int) -> str:
    time = moment(seconds * 10**9)
    return str(seconds) if time is None else f"{time:%Y-%m-%d %H:%M:%S}"
