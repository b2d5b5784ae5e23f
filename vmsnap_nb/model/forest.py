"""All images of some folders, pools and guests, with every edge between them; and one chain of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from vmsnap_nb.model.counting import plural
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import Identity, Image, Status
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.model.snapshot import SnapshotRecord

__all__ = ["Chain", "Forest"]


@dataclass(frozen=True)
class Forest(Shown):
    """Images with their edges. What is broken is in it as data: missing files and loops are images with a status.

    `to_frame` gives: index ``path``, columns ``image format backing backing_path backing_format virtual_size
    allocated depth children snapshots used_by status``.

    Attributes
    ----------
    images : mapping of str to Image
        By `Image.path`, in the order of reading. Every image that another refers to is in it.
    uses : tuple of Use
        Which guest's disk has which image as its source.
    folders : tuple of str
        The folders that were read.
    read_at : datetime.datetime or None
        When, UTC.
    records : tuple of SnapshotRecord
        libvirt's snapshots of those guests whose records were read.
    """

    images: Mapping[str, Image] = field(default_factory=dict)
    uses: tuple[Use, ...] = ()
    folders: tuple[str, ...] = ()
    read_at: datetime | None = None
    records: tuple[SnapshotRecord, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Image]:
        return iter(self.images.values())

    def __contains__(self, path: object) -> bool:
        return path in self.images

    def __getitem__(self, path: str) -> Image:
        return self.images[path]

    def __repr__(self) -> str:
        leaves = "1 leaf" if len(self.leaves) == 1 else f"{len(self.leaves)} leaves"
        counts = f"{plural(len(self.images), 'image')}, {plural(len(self.roots), 'base')}, {leaves}"
        return f"<{type(self).__name__} of {counts}>"

    # -- one file under several names -------------------------------------------------------------------

    @cached_property
    def _aliases(self) -> dict[str, tuple[str, ...]]:
        """All names of those files that have several, by each of them."""
        identities = [image.identity for image in self.images.values() if image.identity is not None]
        if len(set(identities)) == len(identities):
            return {}
        first: dict[Identity, str] = {}
        several: dict[str, list[str]] = {}
        for path, image in self.images.items():
            if image.identity is not None:
                name = first.setdefault(image.identity, path)
                if name is not path:
                    several.setdefault(name, [name]).append(path)
        return {path: tuple(names) for names in several.values() for path in names}

    def same_file(self, path: str) -> tuple[str, ...]:
        """Give all paths of the forest that lead to the same file, this one included."""
        return self._aliases.get(path) or (path,)

    @property
    def duplicates(self) -> tuple[tuple[str, ...], ...]:
        """Groups of paths that are one file: by symbolic link or by hard link."""
        return tuple(dict.fromkeys(self._aliases.values()))

    # -- edges ------------------------------------------------------------------------------------------

    @cached_property
    def _parents(self) -> dict[str, str | None]:
        return {
            path: None if image.backing is None else image.backing.path or image.backing.key
            for path, image in self.images.items()
        }

    def parent(self, path: str) -> str | None:
        """Give the backing file's path (or address), or None for a base."""
        return self._parents[path]

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
        return {base: tuple(paths) for base, paths in children.items()}

    def _first(self, path: str) -> str:
        return self.same_file(path)[0]

    def children(self, path: str) -> tuple[str, ...]:
        """Give the overlays that stand directly on an image, by whatever name they refer to it."""
        aliases = self._aliases
        return self._children.get(aliases[path][0] if path in aliases else path, ())

    def descendants(self, path: str) -> tuple[str, ...]:
        """Give every image that stands on this one, directly or not, nearest first."""
        found: dict[str, None] = {}
        queue = list(self.children(path))
        seen = {self._first(path)}
        for child in queue:
            if self._first(child) not in seen:
                seen.add(self._first(child))
                found[child] = None
                queue.extend(self.children(child))
        return tuple(found)

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """Images without a backing file."""
        return tuple(path for path, base in self._parents.items() if base is None)

    @cached_property
    def leaves(self) -> tuple[str, ...]:
        """Images on which nothing stands."""
        children = self._children
        if not self._aliases:
            return tuple(path for path in self.images if path not in children)
        return tuple(path for path in self.images if self._first(path) not in children)

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """Images that something refers to, and that are not there."""
        return tuple(path for path, image in self.images.items() if image.status == "missing")

    @property
    def loops(self) -> tuple[tuple[str, ...], ...]:
        """Groups of images that stand on themselves, each group in the order of its references."""
        return self._walk[1]

    def _loop_from(self, path: str) -> tuple[str, ...]:
        loop = [path]
        step = self._parents[path]
        while step is not None and step != path:
            loop.append(step)
            step = self._parents[step]
        return tuple(loop)

    @cached_property
    def _looped(self) -> frozenset[str]:
        return frozenset(name for loop in self.loops for path in loop for name in self.same_file(path))

    def lineage(self, path: str) -> tuple[str, ...]:
        """Give the paths from an image down to its base, the image first; a loop is walked once."""
        found: dict[str, None] = {}
        step: str | None = path
        while step is not None and step in self.images and step not in found:
            found[step] = None
            step = self.parent(step)
        return tuple(found)

    @cached_property
    def _walk(self) -> tuple[dict[str, int], tuple[tuple[str, ...], ...]]:
        """The depths of all images, and the loops: found on the same walk."""
        parents = self._parents
        depths: dict[str, int] = {}
        loops: list[tuple[str, ...]] = []
        for start in parents:
            if start in depths:
                continue
            trail: list[str] = []
            step: str | None = start
            while step is not None and step not in depths and step in parents:
                depths[step] = 0  # so that a loop ends here, and is counted once around
                trail.append(step)
                step = parents[step]
            below = 0
            if step in depths:
                below = depths[step]
                if not below:
                    loops.append(self._loop_from(step))
            for path in reversed(trail):
                below += 1
                depths[path] = below
        return depths, tuple(loops)

    def depth(self, path: str) -> int:
        """Give the number of images in the chain from the base to this one; a base has depth 1."""
        return self._walk[0][path]

    # -- people -----------------------------------------------------------------------------------------

    @cached_property
    def _users(self) -> dict[str, list[Use]]:
        users: dict[str, list[Use]] = {}
        for use in self.uses:
            for path in self.lineage(use.path) or (use.path,):
                users.setdefault(self._first(path), []).append(use)
        return users

    def users(self, path: str) -> tuple[Use, ...]:
        """Give the disks of guests that read this image: as their source, or below it."""
        return tuple(self._users.get(self._first(path), ()))

    def writers(self, path: str) -> tuple[Use, ...]:
        """Give the disks of guests that have this very image as their source and may write to it."""
        first = self._first(path)
        return tuple(use for use in self.users(path) if self._first(use.path) == first and not use.readonly)

    def active(self, path: str) -> bool:
        """Tell whether writes go to this image: a guest's source; where no guest is known, a writable leaf."""
        image = self.images[path]
        if self.uses:
            return bool(self.writers(path))
        if image.status not in {"ok", "in-use"} or not image.writable:
            return False
        return all(self.images[child].status == "invalid" for child in self.children(path))

    def status(self, path: str) -> Status:
        """Give what the image was found to be, loops and unexplained locks included."""
        if path in self._looped:
            return "loop"
        image = self.images[path]
        if image.status == "ok" and image.held == "write" and not any(use.running for use in self.writers(path)):
            return "in-use"
        return image.status

    # -- parts and changes ------------------------------------------------------------------------------

    def chain(self, path: str) -> Chain:
        """Give the chain that ends at this image.

        Raises
        ------
        KeyError
            No such image in the forest.
        """
        if path not in self.images:
            raise KeyError(path)
        return Chain(self, path)

    @property
    def chains(self) -> tuple[Chain, ...]:
        """One chain for each leaf."""
        return tuple(Chain(self, leaf) for leaf in self.leaves)

    def tree(self, *paths: str) -> Forest:
        """Give the part that is connected with these images: all below them, and all that stands on that."""
        keep: set[str] = set()
        for path in paths:
            for below in reversed(self.lineage(path)):  # the base first: its descendants are all the others'
                known = below in keep
                keep.update(self.same_file(below))
                if not known:
                    keep.update(self.descendants(below))
        return self.only(keep)

    def only(self, paths: Iterable[str]) -> Forest:
        """Give the forest of these images alone, in the order of this one, with the uses that touch them."""
        keep = set(paths)
        return Forest(
            {path: image for path, image in self.images.items() if path in keep},
            tuple(use for use in self.uses if use.path in keep),
            self.folders,
            self.read_at,
            self.records,
        )

    def edited(
        self,
        *,
        put: Iterable[Image] = (),
        drop: Iterable[str] = (),
        uses: Iterable[Use] | None = None,
        records: Iterable[SnapshotRecord] | None = None,
    ) -> Forest:
        """Give a forest in which some images are put in or replaced and others dropped: how plans predict."""
        images = dict(self.images)
        for image in put:
            images[image.path] = image
        for path in drop:
            images.pop(path, None)
        return Forest(
            images,
            self.uses if uses is None else tuple(uses),
            self.folders,
            self.read_at,
            self.records if records is None else tuple(records),
        )


@dataclass(frozen=True)
class Chain(Shown):
    """The images from a base to one overlay.

    `to_frame` gives: index ``layer`` (0 = base), columns ``image path format backing backing_format virtual_size
    allocated active used_by snapshots status``.

    Attributes
    ----------
    forest : Forest
        All that was read: it also knows who else stands on the layers.
    top : str
        Path of the last overlay.
    """

    forest: Forest
    top: str

    @cached_property
    def layers(self) -> tuple[Image, ...]:
        """The images, base first."""
        return tuple(self.forest[path] for path in reversed(self.forest.lineage(self.top)))

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Image]:
        return iter(self.layers)

    def __getitem__(self, layer: int) -> Image:
        return self.layers[layer]

    def __repr__(self) -> str:
        names = " <- ".join(image.name for image in self.layers[:3])
        if len(self) > 4:
            names += " <- …"
        if len(self) > 3:
            names += f" <- {self.layers[-1].name}"
        return f"<Chain {names}>"

    def active(self, image: Image) -> bool:
        """Tell whether writes go to this layer: it is the top and writable, or a guest's source."""
        if image.path == self.top and self.forest.status(image.path) in {"ok", "in-use"} and image.writable:
            return True
        return bool(self.forest.writers(image.path))


def with_status(image: Image, status: Status, problem: str) -> Image:
    """Give the image with another status, and why."""
    return replace(image, status=status, problem=problem)
