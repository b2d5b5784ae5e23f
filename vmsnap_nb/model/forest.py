"""All images of some folders, pools and guests, with every edge between them; and one chain of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, SupportsIndex, overload

from vmsnap_nb.model.aliases import Aliases
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.model.image import OPENABLE, Image, Status
from vmsnap_nb.model.lookup import ImageLike, ImageNames, full_path, path_of
from vmsnap_nb.model.need import Need, data_needs, index_needs
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.model.text import plural
from vmsnap_nb.model.walk import depths_and_loops
from vmsnap_nb.words.message import Message

__all__ = ["Chain", "Forest"]


@dataclass(frozen=True)
class Forest(Shown):
    """Images with their backing files. Missing files and loops do not raise errors; each has a status of its own.

    Methods that take an image accept the image itself, its path, or its name if only one image has that name.

    `to_frame` returns a table with index ``path`` and columns ``image format backing backing_path backing_format
    virtual_size allocated depth children snapshots bitmaps used_by needed_by status``.

    Attributes
    ----------
    images : mapping of str to Image
        The images by `Image.path`, in the order of reading. Every image to which another image refers is included.
    uses : tuple of Use
        The guests' disks, each with the image that is its source.
    folders : tuple of str
        The folders that were read.
    read_at : datetime.datetime or None
        The time of reading, in UTC.
    records : tuple of SnapshotRecord
        libvirt's snapshots of all guests of the host.
    places : mapping of str to tuple
        The `Image.identity` of names that records, definitions and headers use, but under which no image was read.
    needs : tuple of Need
        Other uses of images: by differing definitions of running guests, saved memory, block jobs and firmware.
    stale_memory : tuple of Need
        Saved memory files that are no longer usable, each with the image that is missing or has been used since.
    alone : str
        The name of the guest if only its images were read, and their other users are not known; otherwise empty.
    """

    _unlisted = frozenset(
        {
            "deleted",
            "edited",
            "known_children",
            "known_devices",
            "known_lineage",
            "known_needs",
            "known_users",
            "known_writers",
            "only",
        }
    )

    images: Mapping[str, Image] = field(default_factory=dict)
    uses: tuple[Use, ...] = ()
    folders: tuple[str, ...] = ()
    read_at: datetime | None = None
    records: tuple[SnapshotRecord, ...] = ()
    places: Mapping[str, Identity] = field(default_factory=dict, repr=False)
    needs: tuple[Need, ...] = ()
    stale_memory: tuple[Need, ...] = ()
    alone: str = ""

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Image]:
        return iter(self.images.values())

    def __contains__(self, image: object) -> bool:
        return bool(self.known(path_of(image)) or self._names.candidates(image))  # plans ask `images`: by the very path

    def __getitem__(self, image: ImageLike) -> Image:
        try:
            return self.images[image]  # type: ignore[index]
        except (KeyError, TypeError):
            return self.images[self.find(image)]

    def _ipython_key_completions_(self) -> list[str]:
        names: dict[str, list[str]] = {}
        for path, image in self.images.items():
            names.setdefault(image.name, []).append(path)
        return [key for name, paths in names.items() for key in ([name] if len(paths) == 1 else paths)]

    def __repr__(self) -> str:
        leaves = "1 leaf" if len(self.leaves) == 1 else f"{len(self.leaves)} leaves"
        counts = f"{plural(len(self.images), 'image')}, {plural(len(self.roots), 'base')}, {leaves}"
        return f"<{type(self).__name__} of {counts}>"

    # -- which image is meant ---------------------------------------------------------------------------

    @cached_property
    def _names(self) -> ImageNames:
        return ImageNames(self.images)

    def find(self, image: ImageLike) -> str:
        """Return the path of an image; pass the image itself, its path, or its name if only one image has that name.

        Raises
        ------
        NotFoundError
            No image has that name, or several images have that name.

        Examples
        --------
        >>> Forest({"/images/Base.qcow2": Image("/images/Base.qcow2")}).find("Base")
        '/images/Base.qcow2'
        """
        known = self.known(path_of(image))
        return known or self._names.find(image, "image")

    # -- one file under several names -------------------------------------------------------------------

    @cached_property
    def _known(self) -> Aliases:
        return Aliases(self.images, self.places)

    @cached_property
    def _aliases(self) -> dict[str, tuple[str, ...]]:
        """All names of those files that have several, by each of them."""
        return self._known.several

    def same_file(self, path: str) -> tuple[str, ...]:
        """Return all paths in the forest that refer to the same file as this path, including the path itself."""
        return self._aliases.get(path) or (path,)

    def identity(self, path: str) -> Identity | None:
        """Return the `Image.identity` of the image to which a name refers, or None if it is not known."""
        return self._known.place(path)

    def same(self, path: str | None, other: str | None) -> bool:
        """Return whether two names refer to the same image."""
        return self._known.same(path, other)

    def known(self, path: str | None) -> str | None:
        """Return the name under which an image was read, or None if it was not read; a record may use another name."""
        return self._known.known(path)

    @property
    def duplicates(self) -> tuple[tuple[str, ...], ...]:
        """Groups of paths that refer to the same file through symbolic links or hard links."""
        return tuple(dict.fromkeys(self._aliases.values()))

    # -- edges ------------------------------------------------------------------------------------------

    @cached_property
    def _parents(self) -> dict[str, str | None]:
        return {
            path: None if image.backing is None else image.backing.path or image.backing.key
            for path, image in self.images.items()
        }

    def parent(self, image: ImageLike) -> str | None:
        """Return the path or address of the backing file, or None for a base."""
        try:  # plans and views ask by path, and often
            return self._parents[image]  # type: ignore[index]
        except (KeyError, TypeError):
            return self._parents[self.find(image)]

    @cached_property
    def _children(self) -> dict[str, tuple[str, ...]]:
        children: dict[str, list[str]] = {}
        aliases = self._aliases
        for path, base in self._parents.items():
            if base is not None:
                if base in aliases:
                    base = aliases[base][0]
                if base in children:
                    children[base].append(path)
                else:
                    children[base] = [path]
        overlays = {base: tuple(paths) for base, paths in children.items()}
        for path in self.images:
            if path not in overlays:
                overlays[path] = overlays.get(aliases[path][0], ()) if path in aliases else ()
        return overlays

    def _first(self, path: str) -> str:
        return self.same_file(self.known(path) or path)[0]

    def children(self, image: ImageLike) -> tuple[str, ...]:
        """Return the overlays that are directly based on an image, regardless of which of its names they record."""
        try:
            return self._children[image]  # type: ignore[index]
        except (KeyError, TypeError):
            return self._children[self.find(image)]

    def known_children(self, path: str) -> tuple[str, ...]:
        """Return what `children` returns, and nothing for a path that is not in the forest; used by plans."""
        return self._children.get(path, ())

    def descendants(self, image: ImageLike) -> tuple[str, ...]:
        """Return all overlays that directly or indirectly depend on an image, nearest first."""
        path = image if type(image) is str and image in self.images else self.find(image)
        found: dict[str, None] = {}
        queue = list(self.known_children(path))
        seen = {self._first(path)}
        for child in queue:
            if self._first(child) not in seen:
                seen.add(self._first(child))
                found[child] = None
                queue.extend(self.known_children(child))
        return tuple(found)

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """Images without a backing file."""
        return tuple(path for path, base in self._parents.items() if base is None)

    @cached_property
    def leaves(self) -> tuple[str, ...]:
        """Images without overlays."""
        children = self._children
        return tuple(path for path in self.images if not children[path])

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """Images that do not exist, although another image, a guest or a record refers to them."""
        return tuple(path for path, image in self.images.items() if image.status == "missing")

    @property
    def loops(self) -> tuple[tuple[str, ...], ...]:
        """Groups of images whose backing files form a loop, in the order in which they refer to each other."""
        return self._walk[1]

    @cached_property
    def _looped(self) -> frozenset[str]:
        return frozenset(name for loop in self.loops for path in loop for name in self.same_file(path))

    def lineage(self, image: ImageLike) -> tuple[str, ...]:
        """Return the paths from an image down to its base, starting with the image; a loop is followed only once."""
        path = image if type(image) is str and image in self.images else self.find(image)
        return self.known_lineage(path)

    def known_lineage(self, path: str) -> tuple[str, ...]:
        """Return what `lineage` returns, and nothing for a path that is not in the forest; used by plans."""
        parents, aliases = self._parents, self._aliases
        found: dict[str, None] = {}
        step: str | None = path
        while step is not None and step in parents and step not in found:
            if aliases and not found.keys().isdisjoint(aliases.get(step, ())):
                break  # the same file again, under another name: a loop
            found[step] = None
            step = parents[step]
        return tuple(found)

    @cached_property
    def _walk(self) -> tuple[dict[str, int], tuple[tuple[str, ...], ...]]:
        return depths_and_loops(self._parents, self._aliases)

    def depth(self, image: ImageLike) -> int:
        """Return the number of images in the chain from the base to this image; a base has a depth of 1."""
        try:
            return self._walk[0][image]  # type: ignore[index]
        except (KeyError, TypeError):
            return self._walk[0][self.find(image)]

    def known_devices(self, *paths: str) -> tuple[str, ...]:
        """Return which of the given paths are block devices in this forest; used by plans."""
        return tuple(path for path in paths if path in self.images and self.images[path].device)

    # -- people -----------------------------------------------------------------------------------------

    @cached_property
    def _users(self) -> dict[str, list[Use]]:
        users: dict[str, list[Use]] = {}
        for use in self.uses:
            for path in self.known_lineage(use.path) or (use.path,):
                users.setdefault(self._first(path), []).append(use)
        return users

    @cached_property
    def deleted(self) -> frozenset[str]:
        """Files that were deleted or moved, but that are still open in a running QEMU process."""
        return frozenset(path for use in self.uses for path in use.deleted)

    def users(self, image: ImageLike) -> tuple[Use, ...]:
        """Return the guests' disks that read this image as their source or as a lower layer."""
        path = image if type(image) is str and image in self.images else self.find(image)
        return self.known_users(path)

    def known_users(self, path: str) -> tuple[Use, ...]:
        """Return what `users` returns, also for a path that is not in the forest; used by plans."""
        return tuple(self._users.get(self._first(path), ()))

    def writers(self, image: ImageLike) -> tuple[Use, ...]:
        """Return the guests' disks that have this image as their source and may write to it."""
        path = image if type(image) is str and image in self.images else self.find(image)
        return self.known_writers(path)

    def known_writers(self, path: str) -> tuple[Use, ...]:
        """Return what `writers` returns, also for a path that is not in the forest; used by plans."""
        first = self._first(path)
        return tuple(use for use in self.known_users(path) if self._first(use.path) == first and not use.readonly)

    @cached_property
    def _needs(self) -> dict[str, tuple[Need, ...]]:
        return index_needs(self.uses, self.records, (*self.needs, *data_needs(self)), self.known_lineage, self._first)

    def needed_by(self, image: ImageLike) -> tuple[Need, ...]:
        """Return everything that needs this image: disks, snapshots, saved memory, jobs, firmware and overlays."""
        path = image if type(image) is str and image in self.images else self.find(image)
        overlays = (child for child in self.known_children(path) if self.images[child].status != "invalid")
        return (*self.known_needs(path), *(Need("overlay", path, name=child) for child in overlays))

    def known_needs(self, path: str) -> tuple[Need, ...]:
        """Return what `needed_by` returns, without overlays; also for a path not in the forest; used by plans."""
        return self._needs.get(self._first(path), ())

    def active(self, image: ImageLike) -> bool:
        """Return whether an image is active: the source of a guest's disk or, without guests, a writable leaf."""
        path = image if type(image) is str and image in self.images else self.find(image)
        found = self.images[path]
        if self.uses:
            return bool(self.known_writers(path))
        if found.status not in OPENABLE or not found.writable:
            return False
        return all(self.images[child].status == "invalid" for child in self.known_children(path))

    def status(self, image: ImageLike) -> Status:
        """Return an image's status, including loops, unexplained locks and images that were not closed properly."""
        try:
            found = self.images[image]  # type: ignore[index]
        except (KeyError, TypeError):
            found = self[image]
        path = found.path
        if path in self._looped:
            return "loop"
        if found.status == "ok" and found.held == "write" and not any(use.running for use in self.known_writers(path)):
            return "in-use"
        if found.status == "ok" and found.dirty and found.held != "write":
            return "dirty"
        return found.status

    # -- parts and changes ------------------------------------------------------------------------------

    def chain(self, image: ImageLike) -> Chain:
        """Return the backing chain of this image.

        Raises
        ------
        NotFoundError
            The forest does not contain the image.
        """
        return Chain(self, self.find(image))

    @property
    def chains(self) -> tuple[Chain, ...]:
        """The backing chains of all leaves."""
        return tuple(Chain(self, leaf) for leaf in self.leaves)

    def tree(self, *paths: str) -> Forest:
        """Return a forest of these images, all of their layers, and all overlays that are based on these layers."""
        keep: set[str] = set()
        for path in paths:
            for below in reversed(self.known_lineage(path)):  # the base first: its descendants are all the others'
                known = below in keep
                keep.update(self.same_file(below))
                if not known:
                    keep.update(self.descendants(below))
        return self.only(keep)

    def only(self, paths: Iterable[str]) -> Forest:
        """Return a forest of only these images, in the same order as in this forest, with their uses."""
        keep = set(paths)
        images = {path: image for path, image in self.images.items() if path in keep}
        return self._with(images, tuple(use for use in self.uses if use.path in keep))

    def _with(self, images: Mapping[str, Image], uses: tuple[Use, ...], **changes: Any) -> Forest:
        """Return a forest of other images and uses, in which the rest is the same but for some changes."""
        rest = ("folders", "read_at", "records", "places", "needs", "stale_memory", "alone")
        return Forest(images, uses, **({name: getattr(self, name) for name in rest} | changes))

    def edited(
        self,
        *,
        put: Iterable[Image] = (),
        drop: Iterable[str] = (),
        uses: Iterable[Use] | None = None,
        records: Iterable[SnapshotRecord] | None = None,
        places: Mapping[str, Identity] | None = None,
        needs: Iterable[Need] | None = None,
        stale_memory: Iterable[Need] | None = None,
    ) -> Forest:
        """Return this forest with some images added, replaced or removed; plans use the result as a prediction."""
        images = {**self.images, **{image.path: image for image in put}}
        for path in drop:
            images.pop(path, None)
        given = {"records": records, "needs": needs, "stale_memory": stale_memory}
        changes: dict[str, object] = {name: tuple(some) for name, some in given.items() if some is not None}
        if places is not None:
            changes["places"] = places
        return self._with(images, self.uses if uses is None else tuple(uses), **changes)


@dataclass(frozen=True)
class Chain(Shown):
    """The images from a base to an overlay, accessible by index (0 is the base), slice, name or path.

    `to_frame` returns a table with index ``layer`` (0 is the base) and columns ``image path format backing
    backing_format virtual_size allocated active used_by needed_by snapshots bitmaps status``.

    Attributes
    ----------
    forest : Forest
        All images that were read, including other overlays that are based on the layers.
    top : str
        The path of the top image of the chain.
    """

    forest: Forest
    top: str

    @cached_property
    def layers(self) -> tuple[Image, ...]:
        """The images, starting with the base."""
        images = self.forest.images
        return tuple(images[path] for path in reversed(self.forest.known_lineage(self.top)))

    @cached_property
    def _names(self) -> ImageNames:
        return ImageNames({image.path: image for image in self.layers})

    def find(self, image: ImageLike) -> str:
        """Return the path of a layer; pass the image itself, its path, or its name if only one layer has that name.

        Raises
        ------
        NotFoundError
            No layer has that name, or several layers have that name.
        """
        names = [layer.name for layer in self.layers]
        return self._names.find(self._as_named_here(image), "layer", order=names)

    def _as_named_here(self, image: object) -> object:
        """Return the path under which the chain has a file for which another path of it was given."""
        text = path_of(image)
        for path in () if text is None else (text, full_path(text)):
            if here := self._names.of(self.forest.same_file(path)):
                return here
        return image

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Image]:
        return iter(self.layers)

    def __contains__(self, image: object) -> bool:
        return bool(self._names.candidates(self._as_named_here(image)))

    @overload
    def __getitem__(self, layer: int | ImageLike) -> Image: ...
    @overload
    def __getitem__(self, layer: slice) -> tuple[Image, ...]: ...
    def __getitem__(self, layer: int | slice | ImageLike) -> Image | tuple[Image, ...]:
        if isinstance(layer, SupportsIndex | slice):
            return self.layers[layer]
        return self.forest.images[self.find(layer)]

    def _ipython_key_completions_(self) -> list[str]:
        return list(dict.fromkeys(image.name for image in self.layers))

    def __repr__(self) -> str:
        names = " <- ".join(image.name for image in self.layers[:3])
        if len(self) > 4:
            names += " <- …"
        if len(self) > 3:
            names += f" <- {self.layers[-1].name}"
        problems = (use.problem for use in self.forest.known_writers(self.top) if use.problem)
        return f"<Chain {'; '.join((names, *problems))}>"

    def active(self, layer: int | ImageLike) -> bool:
        """Return whether a layer is written to, as the writable top of the chain or as the source of a guest."""
        image = layer if isinstance(layer, Image) else self[layer]
        if image.path == self.top and self.forest.status(image.path) in OPENABLE and image.writable:
            return True
        return bool(self.forest.known_writers(image.path))


def with_status(image: Image, status: Status, problem: Message) -> Image:
    """Return the image with another status, and why."""
    return replace(image, status=status, problem=problem)
