"""Which names are of one image."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from vmsnap_nb.model.address import address_of
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.model.image import Image

if TYPE_CHECKING:
    from vmsnap_nb.model.forest import Forest

__all__ = ["Aliases", "is_among", "names_of"]


class Aliases:
    """The names of images: those under which they were read, and others, with the `places` to which they lead.

    Two names are of the same image if they are equal, or lead to the same place.
    """

    def __init__(self, images: Mapping[str, Image], places: Mapping[str, Identity]) -> None:
        self._images = images
        self._places = places

    @cached_property
    def several(self) -> dict[str, tuple[str, ...]]:
        """All names under which those images were read that have several, by each of them."""
        identities = [image.identity for image in self._images.values() if image.identity is not None]
        if len(set(identities)) == len(identities):
            return {}
        first: dict[Identity, str] = {}
        several: dict[str, list[str]] = {}
        for path, image in self._images.items():
            if image.identity is not None:
                name = first.setdefault(image.identity, path)
                if name is not path:
                    several.setdefault(name, [name]).append(path)
        return {path: tuple(names) for names in several.values() for path in names}

    @cached_property
    def first(self) -> dict[Identity, str]:
        """The first name of each image of which it is known where it lies."""
        first: dict[Identity, str] = {}
        for path, image in self._images.items():
            if image.identity is not None:
                first.setdefault(image.identity, path)
        return first

    def place(self, path: str) -> Identity | None:
        """Return where a name leads, or None where that is not known."""
        image = self._images.get(path)
        if image is not None:
            return image.identity
        return address_of(path) if ":" in path and not path.startswith("/") else self._places.get(path)

    def same(self, path: str | None, other: str | None) -> bool:
        """Return whether two names refer to the same image."""
        if path is None or other is None or path == other:
            return path == other
        place = self.place(path)
        return place is not None and place == self.place(other)

    def known(self, path: str | None) -> str | None:
        """Return a name under which an image was read, for any of its names; None if it was not read."""
        if path is None or path in self._images:
            return path
        place = self.place(path)
        return None if place is None else self.first.get(place)


def names_of(forest: Forest, paths: Iterable[str]) -> set[str]:
    """Return all names of some files."""
    return {name for path in paths for name in forest.same_file(path)}


def is_among(forest: Forest, path: str, layers: Collection[str]) -> bool:
    """Return whether a file is one of some layers, under whichever of its names."""
    return any(name in layers for name in forest.same_file(path))
