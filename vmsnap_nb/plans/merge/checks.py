"""Checks of what a merge changes for others: overlays and guests on the base, snapshots, other merges."""

from __future__ import annotations

import os.path
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.aliases import names_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import NOT_READ, reason
from vmsnap_nb.plans.checks import folders
from vmsnap_nb.plans.checks.interrupted import finishing
from vmsnap_nb.plans.checks.known import how_to_reach, inner_names
from vmsnap_nb.plans.concern import Concern, either, refuse, remark, warn
from vmsnap_nb.plans.facts import FolderFacts, GuestFacts
from vmsnap_nb.plans.journal import MergeEntry
from vmsnap_nb.words.message import Message, counted, joined, listed, t

__all__ = [
    "check_read",
    "device_room",
    "image_list",
    "inner_snapshots",
    "interrupted",
    "other_names",
    "outsiders",
    "pull_instead",
    "readers",
    "room",
    "searched",
    "several",
    "sharing",
    "sound",
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


def image_list(paths: Iterable[str], forest: Forest) -> Message:
    """Return the names of images, as a list."""
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
        names = image_list(others, forest)
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
                pull_instead(forest, merged[-1]),
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
                images=image_list(dict.fromkeys(use.path for use in direct), forest),
                guests=listed(guests),
            ),
            t("give {guest} its own overlay first", guest=guests[0]),
            images=tuple(dict.fromkeys(use.path for use in direct)),
            holders=guests,
            waivable=True,
        )


def pull_instead(forest: Forest, top: str) -> Message:
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
