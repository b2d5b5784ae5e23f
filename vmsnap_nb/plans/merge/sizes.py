"""Checks of merges whose images have different sizes: what would grow, and what would become visible."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.concern import Concern, refuse, warn
from vmsnap_nb.plans.merge.checks import image_list, pull_instead
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.words.message import t

__all__ = ["hidden_data", "short_layers", "stale_end"]


def hidden_data(reading: Reading, base: str, top: str, children: Sequence[str]) -> Iterator[Concern]:
    """Check whether the base grows, and whether its data beyond the end of the top would become visible."""
    forest = reading.forest
    low, high = forest[base], forest[top]
    if low.virtual_size is None or high.virtual_size is None:
        return
    if high.virtual_size > low.virtual_size:
        yield _grows(forest, low, high)
        yield from _stale_tail(reading, low, high)
    longer = [child for child in children if _would_see(reading, base, child, high.virtual_size)]
    if low.virtual_size > high.virtual_size and longer:
        yield refuse(
            "smaller-size",
            t(
                "{top} ends after {size} bytes, and data beyond that offset reads as zeros in {overlays}. {base} is "
                "larger, and its data beyond that offset would become visible",
                top=high.name,
                size=high.virtual_size,
                overlays=image_list(longer, forest),
                base=low.name,
            ),
            t("pull {top} into the overlays based on it instead", top=high.name),
            images=(base, top, *longer),
            waivable=True,
        )
    elif low.virtual_size > high.virtual_size and not children:
        yield warn(
            "smaller-size",
            t(
                "{base} receives the content of {top} but keeps its size of {size} bytes, so it remains larger",
                base=low.name,
                size=low.virtual_size,
                top=high.name,
            ),
            images=(base, top),
        )


def _grows(forest: Forest, low: Image, high: Image) -> Concern:
    fields = {"base": low.name, "old": low.virtual_size, "new": high.virtual_size, "top": high.name}
    below = forest.images.get(low.backing.key) if low.backing is not None else None
    longer_below = below is not None and (below.virtual_size or 0) > (low.virtual_size or 0)
    if low.compat != "0.10" or not (low.snapshots or longer_below):
        return warn(
            "grows-base",
            t("{base} will grow from {old} to {new} bytes, the size of {top}", **fields),
            images=(low.path,),
        )
    if low.snapshots:
        what = t(
            "{base} would grow from {old} to {new} bytes, the size of {top}, but QEMU cannot resize qcow2 version 2 "
            "with internal snapshots",
            **fields,
        )
    else:
        what = t(
            "{base} would grow from {old} to {new} bytes, the size of {top}, but QEMU cannot resize qcow2 version 2 "
            "on a larger backing file",
            **fields,
        )
    return refuse(
        "grows-base",
        what,
        t("upgrade it to version 3 first: {command}", command=shlex.join(_upgrade(low.path))),
        images=(low.path,),
    )


def _stale_tail(reading: Reading, low: Image, high: Image) -> Iterator[Concern]:
    """Check whether the base may hold data behind its end, in its last cluster: as it grows, that becomes visible."""
    end, unit = low.virtual_size or 0, low.cluster_size or 1
    if low.format != "qcow2" or not end % unit or not _may_hold(reading, low.path, end - end % unit, end):
        return
    stop = min(end - end % unit + unit, high.virtual_size or 0)
    if not _holds(reading, high.path, end, stop):
        yield refuse(
            "smaller-size",
            t(
                "{base} ends after {size} bytes, inside a cluster. Data that it may hold beyond that end would become "
                "visible when {base} grows to the size of {top}",
                base=low.name,
                size=end,
                top=high.name,
            ),
            pull_instead(reading.forest, high.path),
            images=(low.path, high.path),
            waivable=True,
        )


def _upgrade(path: str) -> tuple[str, ...]:
    return ("qemu-img", "amend", "-f", "qcow2", "-o", "compat=1.1", path)


def _would_see(reading: Reading, base: str, child: str, end: int) -> bool:
    """Return whether an overlay of the base reads data of it, or of what is below, after some place."""
    forest = reading.forest
    if (forest[child].virtual_size or 0) <= end:
        return False
    blocks = reading.block_map((*reversed(forest.lineage(base)), child))
    if blocks is None:
        return True
    own = len(blocks.layers) - 1
    return any(run.kind == "data" and run.layer != own and run.start + run.length > end for run in blocks.visible)


def short_layers(reading: Reading, base: str, guest: str, parts: Sequence[str]) -> Iterator[Concern]:
    """Check whether a pull of a running guest leaves out a layer that ends before data of the base.

    The image reads zeros there, which QEMU does not copy into it (seen with 7.2): afterwards it reads the base.
    """
    forest, image = reading.forest, parts[0]
    end, short = min((forest[path].virtual_size or 0, path) for path in parts[1:])
    if (forest[base].virtual_size or 0) > end and _would_see(reading, base, image, end):
        yield refuse(
            "smaller-size",
            t(
                "{layer} ends after {size} bytes, and {image} reads zeros beyond that offset. While the guest is "
                "running, QEMU does not copy these zeros, so data of {base} would become visible",
                layer=forest[short].name,
                size=end,
                image=forest[image].name,
                base=forest[base].name,
            ),
            t("shut {guest} down, so that qemu-img performs the pull", guest=guest),
            images=(image, short, base),
            holders=(guest,),
            waivable=True,
        )


def stale_end(reading: Reading, lineage: Sequence[str], parts: Sequence[str]) -> Iterator[Concern]:
    """Check whether data behind the end of an image that a pull writes to could be read when the image grows.

    It should read zeros there. But QEMU copies whole clusters, and so it does when a guest writes to a part of one. As
    an image grows, QEMU writes zeros only if its backing file is longer.
    """
    forest, image = reading.forest, reading.forest[lineage[0]]
    size, unit = image.virtual_size or 0, image.cluster_size or 65536
    if not size % unit:
        return
    start, end = size - size % unit, size - size % unit + unit
    if _holds(reading, image.path, start, size):  # nothing of that cluster is copied
        copied, longer = False, []
    else:
        copied = any(_may_hold(reading, path, start, size) for path in parts[1:])
        longer = [
            path for path in lineage[1:] if _ends_after(forest, path, size) and _may_hold(reading, path, size, end)
        ]
    below = lineage[len(parts) :][:1]
    if copied and longer:
        what = t(
            "{image} ends after {size} bytes, inside a cluster, and is smaller than {layers}. QEMU would copy "
            "data beyond that end, and the data would become visible if {image} grows",
            image=image.name,
            size=size,
            layers=image_list(longer, forest),
        )
    elif (
        _ends_after(forest, lineage[1], size)
        and not any(_ends_after(forest, path, size) for path in below)
        and _may_hold(reading, image.path, start, size)
    ):
        longer = [lineage[1]]
        what = t(
            "{image} ends after {size} bytes, inside a cluster, and is smaller than {layer}. Data that it may hold "
            "beyond that end would become visible if {image} grows on a backing file that is not larger, or on none",
            image=image.name,
            size=size,
            layer=forest[lineage[1]].name,
        )
    else:
        return
    yield refuse(
        "smaller-size",
        what,
        t(
            "extend the image to a cluster boundary first: {command}",
            command=_extend(forest, image, end),
        ),
        images=(image.path, *longer),
        waivable=True,
    )


def _extend(forest: Forest, image: Image, end: int) -> str:
    """Return the command that makes an image longer: QEMU itself does so for a guest that runs."""
    use = next((use for use in forest.known_users(image.path) if use.running and not use.readonly), None)
    if use is not None:
        return shlex.join(("virsh", "blockresize", use.guest, use.target, f"{end}B"))
    return shlex.join(("qemu-img", "resize", "-f", "qcow2", image.path, str(end)))


def _ends_after(forest: Forest, path: str, size: int) -> bool:
    return (forest[path].virtual_size or 0) > size


def _may_hold(reading: Reading, path: str, start: int, end: int) -> bool:
    """Return whether an image may hold data in a part of the disk: so it is where its map is not known."""
    layer = reading.maps.get(path)
    if layer is None:
        return True
    return any(not one.zero and one.start < end and one.end > start for one in layer.extents)


def _holds(reading: Reading, path: str, start: int, end: int) -> bool:
    """Return whether an image is known to hold all of a part of the disk itself."""
    layer = reading.maps.get(path)
    return layer is not None and any(one.start <= start and one.end >= end for one in layer.extents)
