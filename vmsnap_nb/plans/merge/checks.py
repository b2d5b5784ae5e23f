"""Checks of what a merge changes for others: overlays and guests on the base, sizes, snapshots, other merges."""

from __future__ import annotations

import os.path
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.aliases import names_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import NOT_READ, Image, reason
from vmsnap_nb.plans.checks import folders
from vmsnap_nb.plans.checks.interrupted import finishing
from vmsnap_nb.plans.checks.known import how_to_reach, inner_names
from vmsnap_nb.plans.concern import Concern, either, refuse, remark, warn
from vmsnap_nb.plans.facts import FolderFacts, GuestFacts
from vmsnap_nb.plans.journal import MergeEntry
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.words.message import Message, counted, joined, listed, t

__all__ = [
    "check_read",
    "device_room",
    "hidden_data",
    "inner_snapshots",
    "interrupted",
    "other_names",
    "outsiders",
    "readers",
    "room",
    "searched",
    "several",
    "sharing",
    "sound",
    "stale_end",
]


def check_read(forest: Forest, path: str, tried: Message) -> None:
    """Refuse a request about an image of which nobody knows whether it has a backing file."""
    image = forest.images.get(path)
    if image is not None and image.status in NOT_READ and image.backing is None:
        raise InvalidRequestError(
            tried,
            why=t("{path} was not read: {why}", path=path, why=reason(image)),
            next_step=how_to_reach(image),
        )


def sound(forest: Forest, path: str) -> bool:
    """Return whether an image counts as an overlay of its backing file: one that was marked invalid does not."""
    return forest[path].status != "invalid"


def several(names: Sequence[str], most: int = 3) -> Message:
    """Return names, and how many more there are."""
    if len(names) <= most:
        return listed(names)
    return t("{names}, and {count} more", names=joined(names[:most]), count=len(names) - most)


def _names(paths: Iterable[str], forest: Forest) -> Message:
    return listed(forest[path].name if path in forest.images else path for path in paths)


def outsiders(forest: Forest, base: str, merged: Sequence[str]) -> tuple[str, ...]:
    """Return overlays that read the base, or a merged layer, and not through the top one: a commit corrupts these."""
    inside = names_of(forest, merged)
    found: dict[str, None] = {}
    for path in (base, *merged[:-1]):
        for child in forest.known_children(path):
            if child not in inside and sound(forest, child):
                found[child] = None
    return tuple(found)


def sharing(forest: Forest, base: str, merged: Sequence[str]) -> Iterator[Concern]:
    """Check who else reads what a commit changes: other overlays, and guests that have such an image as their disk."""
    name = forest[base].name
    others = outsiders(forest, base, merged)
    if others:
        corrupted = tuple(dict.fromkeys(p for o in others for p in (o, *forest.descendants(o)) if sound(forest, p)))
        guests = tuple(dict.fromkeys(use.guest for path in others for use in forest.known_users(path)))
        names = _names(others, forest)
        yield refuse(
            "shared-base",
            counted(
                "{overlays} also depends on {base} or a layer above it, and would be silently corrupted",
                "{overlays} also depend on {base} or a layer above it, and would be silently corrupted",
                len(others),
                overlays=t("{images} (used by {guests})", images=names, guests=listed(guests)) if guests else names,
                base=name,
            ),
            either(
                _pull_instead(forest, merged[-1]),
                t("pull {base} into {overlays} first", base=name, overlays=names),
            ),
            images=(base, *corrupted),
            holders=guests,
            waivable=True,
        )
    inner = names_of(forest, (base, *merged[:-1]))
    direct = [use for use in forest.uses if use.path in inner]
    if direct:
        guests = tuple(dict.fromkeys(use.guest for use in direct))
        yield refuse(
            "shared-base",
            t(
                "the content of {images}, used as a disk by {guests}, would change",
                images=_names(dict.fromkeys(use.path for use in direct), forest),
                guests=listed(guests),
            ),
            t("give {guest} its own overlay first", guest=guests[0]),
            images=tuple(dict.fromkeys(use.path for use in direct)),
            holders=guests,
            waivable=True,
        )


def _pull_instead(forest: Forest, top: str) -> Message:
    """Return what to do in place of a commit: the layers go up into the overlays of the top, or into a top without."""
    name = forest[top].name
    if any(sound(forest, child) for child in forest.known_children(top)):
        return t("pull the layers into the overlays of {top} instead", top=name)
    return t("pull the layers below {top} into {top} instead", top=name)


def readers(forest: Forest, top: str, base: str, own: Use | None = None) -> Iterator[Concern]:
    """Check for guests, beside the disk that is merged, whose disk is the very image that is merged away."""
    names = set(forest.same_file(top))
    mine = None if own is None or own.path not in names else (own.guest, own.target)
    uses = [use for use in forest.uses if use.path in names and (use.guest, use.target) != mine]
    guests = tuple(dict.fromkeys(use.guest for use in uses))
    if guests:
        yield refuse(
            "in-use",
            t(
                "{image} is the disk of {guests}, and would no longer be valid",
                image=forest[top].name,
                guests=listed(guests),
            ),
            t(
                "use commit() of the guest {guest} instead: {base} then becomes its disk",
                guest=guests[0],
                base=forest[base].name,
            )
            if own is None
            else t("give {guest} its own overlay first", guest=guests[0]),
            images=(top,),
            holders=guests,
            waivable=True,
        )


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
                overlays=_names(longer, forest),
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
            _pull_instead(reading.forest, high.path),
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
            layers=_names(longer, forest),
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


def _fate(inside: Sequence[str], image: str, *, rebased: bool) -> Message:
    """Return what becomes of the internal snapshots of an image."""
    count, fields = len(inside), {"names": several(inside, 5), "image": image}
    if rebased:
        return counted(
            "the internal snapshot {names} of {image} would read different content from the new backing file",
            "the internal snapshots {names} of {image} would read different content from the new backing file",
            count,
            **fields,
        )
    return counted(
        "the internal snapshot {names} of {image} would be lost",
        "the internal snapshots {names} of {image} would be lost",
        count,
        **fields,
    )


def inner_snapshots(forest: Forest, lost: Iterable[str], *, rebased: bool = False) -> Iterator[Concern]:
    """Check for internal snapshots that the merge would lose or corrupt."""
    for path in lost:
        image = forest[path]
        if inside := inner_names(forest, path):
            yield refuse(
                "state-lost",
                _fate(list(inside), image.name, rebased=rebased),
                t("export what you need from its internal snapshots (qemu-img convert -l NAME), then delete them"),
                images=(path,),
                waivable=True,
            )
        if not image.is_seen and image.status == "ok" and image.format == "qcow2":
            yield warn(
                "unknown-image",
                t(
                    "the header of {image} cannot be read here. Internal snapshots unknown to libvirt would be lost",
                    image=image.name,
                ),
                t("have a user who can read the image check this: {command}", command=_list_snapshots(path)),
                images=(path,),
            )


def _list_snapshots(path: str) -> str:
    return shlex.join(("qemu-img", "snapshot", "-U", "-l", path))


def room(facts: FolderFacts, sizes: Mapping[str, int]) -> Iterator[Concern]:
    """Check that the folders of images have the room that these need."""
    needed: dict[str, int] = {}
    for path, size in sizes.items():
        folder = os.path.dirname(path)
        needed[folder] = needed.get(folder, 0) + size
    yield from folders.room(facts, needed, dict.fromkeys(needed))


def device_room(forest: Forest, needed: Mapping[str, int], sizes: Mapping[str, int]) -> Iterator[Concern]:
    """Check that block devices, which do not grow, can hold what is written to images on them.

    `needed` are the bytes that images may grow by, `sizes` the virtual sizes that bases must have in the end.
    """
    for path in dict.fromkeys((*needed, *sizes)):
        image = forest[path]
        if not image.device or image.file_size is None:
            continue
        if image.format == "raw":
            end = sizes.get(path, 0)
        else:
            end = (image.file_size if image.allocated is None else image.allocated) + needed.get(path, 0)
        if end > image.file_size:
            yield refuse(
                "no-space",
                t(
                    "device {path} has {size} bytes, but {needed} are needed ({missing} more)",
                    path=path,
                    size=image.file_size,
                    needed=end,
                    missing=end - image.file_size,
                ),
                either(t("enlarge the device, for example with lvextend"), t("merge in the other direction")),
                images=(path,),
                waivable=image.format != "raw",
            )


def interrupted(
    entries: Iterable[MergeEntry], paths: Iterable[str], guest: GuestFacts | None = None
) -> Iterator[Concern]:
    """Check for merges of these images that were interrupted, of this guest or of another one."""
    paths, domain = set(paths), None if guest is None else guest.domain
    for entry in entries:
        touched = {entry.base, *entry.merged, *entry.children}
        if touched & paths:
            yield refuse(
                "active-job",
                t("a merge of {top} into {base} was interrupted", top=entry.top, base=entry.base),
                t("finish it first with {call}[0].run()", call=finishing(entry, domain)),
                images=(entry.base, entry.top),
            )


def other_names(forest: Forest, removed: Iterable[str]) -> Iterator[Concern]:
    """Remark other names of files that are removed: of a hard link the file stays."""
    for path in removed:
        others = tuple(name for name in forest.same_file(path) if name != path)
        if others:
            yield remark(
                "shared-base",
                t("other names of {path}: {names}", path=path, names=joined(others)),
                t("the file is freed only after all of its hard links are removed"),
                images=(path, *others),
            )


def searched(forest: Forest, base: str) -> Iterator[Concern]:
    """Remark how far was looked: overlays of the base elsewhere would be corrupted, and nobody here knows of them."""
    name = forest[base].name
    if forest.folders:
        what = t(
            "the search for other overlays of {base} covered only {folders}",
            base=name,
            folders=listed(forest.folders),
        )
    else:
        what = t("the search for other overlays of {base} covered only the images of guests, and no folders", base=name)
    yield remark(
        "shared-base",
        what,
        t(
            "if other folders may contain overlays of the base, also read them with {call}",
            call="vmsnap_nb.scan(folder, folder, …)",
        ),
        images=(base,),
    )
