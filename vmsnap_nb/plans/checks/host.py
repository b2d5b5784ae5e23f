"""Checks of a whole host that no single plan makes: room, depth of chains, who may read, what no record names."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from vmsnap_nb.model.aliases import names_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import OPENABLE, Image
from vmsnap_nb.model.size import human_size
from vmsnap_nb.plans.concern import Concern, refuse, warn
from vmsnap_nb.words.message import Message, counted, t

__all__ = [
    "MOST_LAYERS",
    "Growth",
    "closed_bases",
    "deep_chains",
    "growth_by_file_system",
    "overcommitted",
    "protect_by_hand",
    "shared_disks",
    "too_deep",
    "unrecorded",
    "writable_bases",
]

MOST_LAYERS = 200
"""Layers of a chain after which libvirt takes no further snapshot (``VIR_STORAGE_MAX_CHAIN_DEPTH``)."""
_DEEP = 50
"""Layers from which on a chain is worth a word: each is opened, and kept open, by QEMU."""
_OTHERS_READ = 0o004


def too_deep(forest: Forest, path: str, target: str) -> Iterator[Concern]:
    """Check that libvirt takes one more overlay on the chain of a disk."""
    if forest.depth(path) >= MOST_LAYERS:
        yield refuse(
            "not-supported",
            t(
                "the chain of {disk} already has {depth} layers, and libvirt supports at most {most}",
                disk=target,
                depth=forest.depth(path),
                most=MOST_LAYERS,
            ),
            t("merge some of the layers first"),
            images=(path,),
        )


def deep_chains(forest: Forest) -> Iterator[tuple[Concern, str]]:
    """Yield the ends of long chains, each with the guest whose disk it is, or an empty text."""
    for path in forest.leaves:
        if forest.depth(path) < _DEEP:
            continue
        guest = next((use.guest for use in forest.known_users(path)), "")
        found = tuple(too_deep(forest, path, path)) or (
            warn(
                "not-supported",
                t(
                    "the chain of {path} has {depth} layers. QEMU opens each of them, and libvirt supports at most "
                    "{most}",
                    path=path,
                    depth=forest.depth(path),
                    most=MOST_LAYERS,
                ),
                images=(path,),
            ),
        )
        yield found[0], guest


class Growth(NamedTuple):
    """How much the images to which guests write can still grow, on one file system."""

    folder: str  # of one of them
    size: int  # bytes: the sum of virtual size less what is allocated
    free: int
    images: tuple[str, ...]  # those that can grow most first


def growth_by_file_system(forest: Forest, free: Mapping[str, int]) -> Iterator[Growth]:
    """Yield for each file system what may still be written: `free` has the bytes that are free, by folder."""
    tops = [use.path for use in forest.uses if not use.readonly and use.path in forest.images]
    tops = tops if forest.uses else [path for path in forest.images if forest.active(path)]
    found: dict[object, dict[str, int]] = {}
    for path in dict.fromkeys(forest.same_file(top)[0] for top in tops):
        image, folder = forest[path], posixpath.dirname(path)
        if image.status in OPENABLE and image.virtual_size is not None and not image.device and folder in free:
            place = image.identity[0] if image.identity is not None else folder
            found.setdefault(place, {})[path] = max(0, image.virtual_size - (image.allocated or 0))
    for sizes in found.values():
        paths = tuple(sorted(sizes, key=lambda path: -sizes[path]))
        folder = posixpath.dirname(paths[0])
        yield Growth(folder, sum(sizes.values()), min(free[posixpath.dirname(path)] for path in paths), paths)


def overcommitted(growth: Growth) -> Message | None:
    """Return a sentence where a file system cannot hold what may be written to its images, or None."""
    if growth.size <= growth.free:
        return None
    return counted(
        "{count} writable image can grow by {size}, but {folder} has only {free} free. Once its file system is full, "
        "guests that write are paused or see errors",
        "{count} writable images can grow by {size}, but {folder} has only {free} free. Once its file system is "
        "full, guests that write are paused or see errors",
        len(growth.images),
        size=human_size(growth.size),
        folder=growth.folder,
        free=human_size(growth.free),
    )


def shared_disks(forest: Forest, meant: Collection[tuple[str, str]]) -> Iterator[tuple[str, tuple[Use, ...]]]:
    """Yield the images that are disks of several guests, or several of one, which may write to them, with these.

    An image counts once, whatever its names. `meant` are guests and disks that are to be shared by their definition.
    One guest that several hosts know, between which it migrates, is one.
    """
    disks: dict[str, list[Use]] = {}
    for use in forest.uses:
        if not use.readonly and not use.volume:
            disks.setdefault(forest.same_file(use.path)[0], []).append(use)
    for path, uses in disks.items():
        several = len({(use.guest.rpartition("/")[2], use.target) for use in uses}) > 1
        if several and any((use.guest, use.target) not in meant for use in uses):
            yield path, tuple(uses)


def writable_bases(forest: Forest) -> Iterator[tuple[Image, tuple[str, ...]]]:
    """Yield the images without a backing file to which anything could write though overlays are based on them."""
    for path in forest.roots:
        image = forest[path]
        overlays = tuple(child for child in forest.children(path) if forest.status(child) != "invalid")
        if image.writable and overlays and not image.device and image.status == "ok" and not forest.writers(path):
            yield image, overlays


def closed_bases(forest: Forest, modes: Mapping[str, int]) -> Iterator[tuple[Image, Image]]:
    """Yield the overlays that all users of the machine may read though they may not read what is below, with that."""
    for path, mode in modes.items():
        below = forest.images.get(forest.parent(path) or "") if path in forest.images else None
        if below is not None and mode & ~modes.get(below.path, mode) & _OTHERS_READ:
            yield forest[path], below


_TRANSIENT = ".TRANSIENT-"
"""How libvirt calls the overlay of a transient disk, before the name of the guest."""


def unrecorded(forest: Forest) -> Iterator[tuple[Image, str]]:
    """Yield overlays that look as if a snapshot had made them, and that no record names, each with its guest.

    So look overlays in a guest's chain on an image that nothing but this guest has ever been based on.
    """
    held = [disk for record in forest.records for disk in record.held_disks if disk.held == "external"]
    named = names_of(forest, (path for disk in held for path in (disk.source, disk.file) if path is not None))
    for use in forest.uses:
        for path in () if use.readonly else forest.known_lineage(use.path):
            below = forest.parent(path)
            if below is None or below not in forest.images or path in named or below in named:
                continue
            if path.endswith(f"{_TRANSIENT}{use.guest}"):
                continue  # libvirt removes it as soon as the guest stops
            if forest[below].backing is None and not _is_named_like_a_snapshot(path, below):
                continue  # the guest's own overlay on a template
            alone = all(user.guest == use.guest for user in forest.known_users(below))
            one = len(forest.known_children(below)) == 1 and forest.status(below) == "ok" and forest[below].writable
            if alone and one:
                yield forest[path], use.guest


def _is_named_like_a_snapshot(path: str, below: str) -> bool:
    """Return whether an overlay is called as libvirt calls those that it makes: after the image below."""
    stem, dot, _ = posixpath.basename(below).rpartition(".")
    beside = posixpath.dirname(path) == posixpath.dirname(below)
    return beside and posixpath.basename(path).startswith(f"{stem if dot else posixpath.basename(below)}.")


def protect_by_hand(path: str) -> str:
    """Return the line that takes the write permission of an image away."""
    return shlex.join(("chmod", "a-w", "--", path))
