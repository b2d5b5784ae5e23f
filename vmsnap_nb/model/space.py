"""What images take on disk: what would be free without one of them, what nobody reads, and what would free it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from vmsnap_nb.model.file_space import FileSpace
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import OPENABLE, Image
from vmsnap_nb.model.number import invalid
from vmsnap_nb.model.shown import Carded, Tabled
from vmsnap_nb.model.size import human_size
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.model.text import plural
from vmsnap_nb.words.message import joined, t

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ImageSpace", "InternalSpace", "Readers", "Space", "memory_of", "space_of"]

_NOTHING: Mapping[str, int | None] = MappingProxyType({})
Parts = tuple[tuple[int, int], ...]
"""Parts of a disk, beginning and end of each in bytes, in order and without overlap."""


@dataclass(frozen=True, slots=True)
class InternalSpace(Carded):
    """The disk space that one internal snapshot takes.

    Attributes
    ----------
    path : str
        The path of the image.
    id : str
        The ID of the snapshot in the image.
    name : str
        The name of the snapshot.
    exclusive : int
        The number of bytes that deleting only this snapshot would free.
    vm_state_size : int
        The part of these bytes that holds the memory and device state.
    """

    path: str
    id: str
    name: str
    exclusive: int
    vm_state_size: int


@dataclass(frozen=True, slots=True)
class ImageSpace(Carded):
    """The disk space that one image takes; all sizes are in bytes, and None if unknown.

    Attributes
    ----------
    path : str
        The path of the image.
    name : str
        The name of the image.
    allocated : int or None
        The disk space that the file takes.
    exclusive : int or None
        The space that removing the file would free, without data that other files share (reflinks). The value is 0 if
        a hard link of the file would remain.
    hidden : int or None
        Data that no disk, snapshot or saved memory reads, because higher layers cover it.
    internal : int or None
        Data that only internal snapshots hold.
    memory_files : int
        The size of the files with saved memory that belongs to this image.
    reclaim : str or None
        A Python call that plans how to free space.
    snapshots : tuple of InternalSpace
        The internal snapshots of the image.
    """

    path: str
    name: str
    allocated: int | None = None
    exclusive: int | None = None
    hidden: int | None = None
    internal: int | None = None
    memory_files: int = 0
    reclaim: str | None = None
    snapshots: tuple[InternalSpace, ...] = ()


@dataclass(frozen=True)
class Space(Tabled):
    """The disk space that the images of a forest take, one row for each file.

    `to_frame` returns a table with index ``path`` and columns ``image allocated exclusive hidden internal memory_files
    reclaim``. Sizes are in bytes, and ``<NA>`` if unknown. ``exclusive`` is the space that removing the file would
    free. This does not include data that another file shares (a reflink, on XFS and Btrfs) or that a hard link keeps.
    ``hidden`` is data that higher layers cover in all chains: no disk, snapshot or saved memory reads this data. (A
    `BlockMap` shows one chain; another chain may read data that is hidden there.) ``reclaim`` contains a Python call
    that plans how to free space.

    Attributes
    ----------
    images : tuple of ImageSpace
        The rows, in the order of the forest.
    """

    images: tuple[ImageSpace, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[ImageSpace]:
        return iter(self.images)

    def __repr__(self) -> str:
        sums = (
            f"{human_size(self.total(what))} {word}" for what, word in _SUMS if what == "allocated" or self.total(what)
        )
        return f"<Space of {plural(len(self), 'image')}: {', '.join(sums)}>"

    def internal_frame(self) -> pd.DataFrame:
        """Return the internal snapshots as a table with index ``path`` and columns ``id snapshot exclusive
        vm_state_size``.

        Returns
        -------
        pandas.DataFrame
            One row for each internal snapshot of an image. ``exclusive`` is the number of bytes that deleting only this
            snapshot would free; ``vm_state_size`` is the part of these bytes that holds the memory and device state.
        """
        from vmsnap_nb.views.frames import internal_frame

        return internal_frame(self)

    def total(self, what: str) -> int:
        """Return the sum of the known values of a column.

        Parameters
        ----------
        what : str
            ``allocated``, ``exclusive``, ``hidden``, ``internal`` or ``memory_files``.

        Returns
        -------
        int
            The sum, in bytes.
        """
        if what not in _SUMMED:
            raise invalid(what, "what", t("{name} must be one of {values}", name="what", values=joined(_SUMMED)))
        return sum(getattr(image, what) or 0 for image in self.images)


_SUMMED = ("allocated", "exclusive", "hidden", "internal", "memory_files")
"""Columns of bytes."""
_SUMS = (
    ("allocated", "allocated"),
    ("hidden", "hidden"),
    ("internal", "in internal snapshots"),
    ("memory_files", "in memory files"),
)


class Readers:
    """Which parts of each image are read: by disks, by snapshots, by saved memory, and through overlays.

    `files` is what was read of the images; those of which nothing was read may read anything of what is below.
    """

    def __init__(self, forest: Forest, files: Mapping[str, FileSpace]) -> None:
        self.forest, self.files = forest, files
        self._parts: dict[str, Parts | None] = {}
        self._states: dict[str, set[tuple[str, str] | None]] = {}
        for record in forest.records:
            for disk in record.held_disks:
                if disk.held == "external" and disk.source is not None:
                    self._states.setdefault(self._first(disk.source), set()).add((record.guest, record.name))
        images = [path for path in forest.images if forest.same_file(path)[0] == path]
        for path in sorted(images, key=forest.depth, reverse=True):
            self._parts[path] = self._read(path, {})

    def parts(self, path: str) -> Parts | None:
        """Return the parts of an image that are read; None where that is not known."""
        return self._parts.get(self._first(path))

    def _first(self, path: str) -> str:
        return self.forest.same_file(path)[0]

    def unread(self, path: str) -> int | None:
        """Return the bytes of an image that nobody reads; None where that is not known."""
        found, read = self.files.get(path), self.parts(path)
        return None if found is None or read is None else found.unread(read)

    def only_of(self, record: SnapshotRecord) -> int | None:
        """Return the bytes that nobody would read any more without one snapshot, inside of its images or below them."""
        sizes = [
            self._inside(disk.source, record.name)
            if disk.held == "internal"
            else self._below(disk.source, (record.guest, record.name))
            for disk in record.held_disks
            if disk.source is not None
        ]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def _inside(self, path: str, name: str) -> int | None:
        found, image = self.files.get(path), self.forest.images.get(path)
        if found is None or image is None:
            return None
        return found.exclusive(*(inside.id for inside in image.snapshots if inside.name == name))

    def _below(self, path: str, without: tuple[str, str]) -> int | None:
        """Return the bytes of an image, and of those below it, that only one external snapshot reads."""
        if path not in self.forest.images:
            return None
        total = 0
        instead: dict[str, Parts | None] = {}
        for layer in map(self._first, self.forest.known_lineage(path)):
            now, before = self._read(layer, instead, without), self._parts.get(layer)
            if now is None or before is None or layer not in self.files:
                return None
            if now == before:
                break
            instead[layer] = now
            total += self.files[layer].unread(now) - self.files[layer].unread(before)
        return total

    def _read(
        self, path: str, instead: Mapping[str, Parts | None], without: tuple[str, str] | None = None
    ) -> Parts | None:
        """Return which parts of an image are read, with other parts of what is based on it than was found before."""
        forest, image = self.forest, self.forest.images[path]
        status = forest.status(path)
        if status == "invalid":
            return ()
        if image.virtual_size is None or status not in OPENABLE:
            return None
        whole: Parts = ((0, image.virtual_size),)
        overlays = [child for child in forest.known_children(path) if forest.status(child) != "invalid"]
        if not overlays or status == "in-use" or self._is_needed(path, without):
            return whole
        parts: Parts = ()
        for child in dict.fromkeys(map(self._first, overlays)):
            through = self._through(child, instead.get(child, self._parts.get(child)), image.virtual_size)
            if through is None:
                return None
            parts = _joined((*parts, *through))
            if parts == whole:
                break
        return parts

    def _is_needed(self, path: str, without: tuple[str, str] | None) -> bool:
        if self._states.get(path, set()) - {without}:
            return True
        needs = self.forest.known_needs(path)
        return any(need.kind != "snapshot" and self.forest.same(need.path, path) for need in needs)

    def _through(self, child: str, read: Parts | None, end: int) -> Parts | None:
        """Return what an overlay reads of the image below: what is read of it, and it has not itself."""
        found, backing = self.files.get(child), self.forest.images[child].backing
        if found is None or read is None or (backing is not None and not backing.is_plain):
            return None
        inside = tuple((part.start, part.end) for part in found.below)
        own = ((extent.start, extent.end) for extent in found.layer.extents)
        parts = _joined((*_without(read, own), *inside))
        return tuple((start, min(stop, end)) for start, stop in parts if start < end)


def _joined(parts: Iterable[tuple[int, int]]) -> Parts:
    found: list[tuple[int, int]] = []
    for start, end in sorted(parts):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)


def _without(parts: Parts, others: Iterable[tuple[int, int]]) -> Parts:
    """Return parts without others, which are in order."""
    found: list[tuple[int, int]] = []
    others = list(others)
    at = 0
    for start, end in parts:
        while at < len(others) and others[at][1] <= start:
            at += 1
        place, number = start, at
        while number < len(others) and others[number][0] < end:
            if place < others[number][0]:
                found.append((place, others[number][0]))
            place = max(place, others[number][1])
            number += 1
        if place < end:
            found.append((place, end))
    return tuple(found)


def memory_of(forest: Forest) -> dict[str, str]:
    """Return the files of saved memory that are known, each with one of the images that it goes on with."""
    found: dict[str, str] = {}
    for record in forest.records:
        sources = [disk.source for disk in record.held_disks if disk.source in forest.images]
        if record.memory_file and sources:
            found.setdefault(record.memory_file, sources[0] or "")
    for need in (*forest.needs, *forest.stale_memory):
        if need.kind == "saved memory" and need.path in forest.images:
            found.setdefault(need.name, need.path)
    return found


def space_of(
    forest: Forest,
    files: Mapping[str, FileSpace],
    links: Mapping[str, int],
    memory: Mapping[str, int],
    shared: Mapping[str, int | None] = _NOTHING,
) -> Space:
    """Return what the images of a forest take.

    `files` is what was read of the images, `links` how many hard links each file has, `memory` what each file of saved
    memory takes, `shared` how much of each file the file system has for other files as well.
    """
    readers = Readers(forest, files)
    sizes: dict[str, int] = {}
    for path, with_it in memory_of(forest).items():
        first = forest.same_file(with_it)[0]
        sizes[first] = sizes.get(first, 0) + memory.get(path, 0)
    calls = _Calls(forest)
    rows = []
    for path, image in forest.images.items():
        names = forest.same_file(path)
        if names[0] != path:
            continue
        found = files.get(path)
        hidden = readers.unread(path)
        inside = () if found is None else tuple(_inside(image, found))
        row = ImageSpace(
            path,
            image.name,
            allocated=image.allocated,
            exclusive=_exclusive(image, links.get(path), shared.get(path, 0)),
            hidden=hidden,
            internal=None if found is None else found.internal,
            memory_files=sizes.get(path, 0),
            reclaim=calls.reclaim(image, hidden or 0, inside),
            snapshots=inside,
        )
        rows.append(row)
    return Space(tuple(rows))


def _exclusive(image: Image, links: int | None, shared: int | None) -> int | None:
    if links is None or image.device or image.allocated is None or shared is None:
        return None
    return max(0, image.allocated - shared) if links == 1 else 0


def _inside(image: Image, found: FileSpace) -> Iterator[InternalSpace]:
    for inside in image.snapshots:
        size = found.exclusive(inside.id)
        yield InternalSpace(image.path, inside.id, inside.name, exclusive=size, vm_state_size=inside.vm_state_size)


class _Calls:
    """The calls that plan how space is freed; `forest` and `host` stand for what was asked for the space."""

    def __init__(self, forest: Forest) -> None:
        self._forest = forest
        self._names = Counter(image.name for image in forest)
        self._stale = {forest.known(need.path) or need.path for need in forest.stale_memory}

    def _name(self, path: str) -> str:
        image = self._forest.images[path]
        return repr(image.name if self._names[image.name] == 1 else path)

    def reclaim(self, image: Image, hidden: int, inside: Sequence[InternalSpace]) -> str | None:
        path = image.path
        if self._forest.status(path) == "invalid" or path in self._stale:
            return "forest.cleanup()"
        largest = max(inside, key=lambda one: one.exclusive, default=None)
        if largest is not None and largest.exclusive >= hidden:
            return self._delete(path, largest.name)
        return self._commit(image) if hidden else None

    def _delete(self, path: str, name: str) -> str:
        names = self._forest.same_file(path)
        guests = [record.guest for record in self._forest.records if record.name == name and self._is_in(record, names)]
        guests += [use.guest for use in self._forest.known_users(path)]
        if not guests:
            return shlex.join(("qemu-img", "snapshot", "-d", name, path))
        return f"host.guest({guests[0]!r}).delete_snapshot({name!r})"

    @staticmethod
    def _is_in(record: SnapshotRecord, names: Sequence[str]) -> bool:
        return any(disk.held == "internal" and disk.source in names for disk in record.disks)

    def _commit(self, image: Image) -> str | None:
        """Return the call that merges the one overlay of an image down into it, if that is all that reads it."""
        forest, path = self._forest, image.path
        overlays = [child for child in forest.known_children(path) if forest.status(child) != "invalid"]
        if len(overlays) != 1 or any(need.kind != "disk" for need in forest.known_needs(overlays[0])):
            return None
        guests = dict.fromkeys(use.guest for use in forest.known_users(overlays[0]))
        if len(guests) > 1:
            return None
        top, base = self._name(overlays[0]), self._name(path)
        if not guests:
            return f"forest.commit({top}, {base}, remove=True)"
        return f"host.guest({next(iter(guests))!r}).commit(top={top}, base={base}, remove=True)"
