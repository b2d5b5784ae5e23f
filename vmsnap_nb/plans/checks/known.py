"""Checks of what nobody here knows: whether an image is there, and what it holds."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import NOT_READ, Image, reason
from vmsnap_nb.plans.concern import Concern, refuse
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.words.message import NOTHING, Message, t

__all__ = ["how_to_reach", "how_to_read", "inner_names", "not_known", "raw_overlays", "why_not_known"]


def why_not_known(reading: Reading, path: str) -> str:
    """Return why nobody here knows whether an image is there, or what it holds; empty if that is known."""
    image = reading.forest.images.get(path)
    if image is not None and image.status in NOT_READ:
        return reason(image)
    return reading.unknown.get(path, "") if image is None else ""


def how_to_read(image: Image) -> Message:
    """Return how an image is read that is outside of the folders that were read."""
    if image.device:  # nobody follows a header to one; the XML of a guest that runs lists its layers
        return t("also read its folder. If it is the disk of a guest, do this while the guest is running")
    return t("also read its folder, or pass follow=True")


def how_to_reach(image: Image) -> Message:
    """Return how an image is read that is on another machine, or that only another user may read."""
    return _to_copy(image) or t("run this on the machine where the file is stored, as a user who can read it")


def _to_copy(image: Image) -> Message:
    """Return how a file is made of an image at a network address, which no plan opens; empty of any other."""
    if image.status != "remote" or ":" not in image.path:
        return NOTHING
    format = ("-f", image.format) if image.format else ()
    command = shlex.join(("qemu-img", "convert", *format, "-O", "qcow2", image.path, "NEW.qcow2"))
    return t("copy it to a file, with the guest shut off: {command}", command=command)


def raw_overlays(forest: Forest, changed: Sequence[str]) -> Iterator[Concern]:
    """Check that no file is an overlay of what changes that another overlay records as raw: it may be wrong."""
    images = (forest.images[path] for path in changed if path in forest.images)
    bases = {image.identity: image.path for image in images if image.identity is not None}
    for path, image in forest.images.items():
        if image.hidden_base in bases and image.identity not in bases:
            yield refuse(
                "unknown-image",
                t(
                    "{path} may be an overlay of {base}, which this plan changes: {why}",
                    path=path,
                    base=bases[image.hidden_base],
                    why=image.problem,
                ),
                t("correct the backing format in the overlay. If {path} is a raw disk, waive this", path=path),
                images=(*changed, path),
                waivable=True,
            )


def inner_names(forest: Forest, path: str) -> tuple[str, ...]:
    """Return the internal snapshots of an image, and those that libvirt has recorded if its header was not read."""
    image = forest[path]
    names = dict.fromkeys(snapshot.name for snapshot in image.snapshots)
    if not image.is_seen:
        same = forest.same_file(path)
        disks = ((record.name, disk) for record in forest.records for disk in record.disks)
        names |= dict.fromkeys(name for name, disk in disks if disk.held == "internal" and disk.source in same)
    return tuple(names)


def not_known(reading: Reading, paths: Iterable[str]) -> Iterator[Concern]:
    """Check that it is known of these images whether they are there, and what they hold."""
    for path in dict.fromkeys(paths):
        if why := why_not_known(reading, path):
            if path in reading.forest.images:
                what = t("the content of {path} is unknown: {why}", path=path, why=why)
            else:
                what = t("cannot tell whether {path} exists: {why}", path=path, why=why)
            image = reading.forest.images.get(path)
            remedy = NOTHING if image is None else _to_copy(image)
            remedy = remedy or t(
                "use an account that can read the file, on the machine that has it. Or create and start a storage "
                "pool for its folder, so that libvirt reads the file"
            )
            yield refuse("unknown-image", what, remedy, images=(path,))
