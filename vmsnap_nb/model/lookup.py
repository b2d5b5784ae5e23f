"""Which image a user means: an image, its path, or its name."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.names import there_are
from vmsnap_nb.words.message import counted, joined, t

__all__ = ["SUFFIXES", "ImageLike", "ImageNames", "full_path", "path_of"]

ImageLike = Image | str | os.PathLike[str]
"""An image, its path, or its name if only one has it."""

SUFFIXES = (".qcow2", ".img", ".raw")
"""Those that `Image.name` leaves out: a path may be given without them as well."""

_MOST_NAMES = 20


def path_of(image: object) -> str | None:
    """Return what is written for an image, or None for what names none."""
    if isinstance(image, Image):
        return image.path
    text = os.fspath(image) if isinstance(image, str | os.PathLike) else None
    return text if isinstance(text, str) and text and "\0" not in text else None


def full_path(text: str) -> str:
    """Return the absolute path of a text, with ``~`` expanded; symbolic links are left as they are."""
    return os.path.abspath(os.path.expanduser(text))


class ImageNames:
    """The names under which some images, by path, can be asked for."""

    def __init__(self, images: Mapping[str, Image]) -> None:
        self._images = images
        self._named: dict[str, list[str]] = {}
        for path, image in images.items():
            for name in {image.name, os.path.basename(path)}:
                self._named.setdefault(name, []).append(path)

    def of(self, paths: Iterable[str]) -> str | None:
        """Return the first of these paths that is one of an image here."""
        return next((path for path in paths if path in self._images), None)

    def candidates(self, image: object) -> Collection[str]:
        """Return the paths of the images that can be meant."""
        text = path_of(image)
        if text is None:
            return ()
        full = full_path(text)
        for path in (text, full):
            if path in self._images:
                return (path,)
        return self._named.get(text) or [full + suffix for suffix in SUFFIXES if full + suffix in self._images]

    def find(self, image: object, kind: Literal["image", "layer"], *, order: Iterable[str] | None = None) -> str:
        """Return the path of the one image that is meant; `kind` and `order` are for the error."""
        found = self.candidates(image)
        identities = {self._images[path].identity for path in found}
        if len(found) == 1 or (len(identities) == 1 and None not in identities):  # names of one file
            return next(iter(found))
        text = path_of(image)
        named = repr(image) if text is None else text
        tried = t("find the image {name}", name=named) if kind == "image" else t("find the layer {name}", name=named)
        if text is None:
            raise NotFoundError(
                tried,
                why=t("the argument is not an image, a path or a name"),
                next_step=t("pass an image, a path or a name"),
            )
        if found:
            raise NotFoundError(
                tried,
                why=t("several images have that name: {paths}", paths=joined(found)),
                next_step=t("pass the path of one of them"),
            )
        names = sorted({image.name for image in self._images.values()}) if order is None else list(order)
        if not self._images:
            raise NotFoundError(
                tried, why=t("no image was read"), next_step=t("read the folder that contains the image")
            )
        if kind == "image":
            none = counted(
                "the only image that was read has a different name",
                "none of the {count} images that were read has that name",
                len(self._images),
            )
        else:
            none = counted(
                "the only image of the chain has a different name",
                "none of the {count} images of the chain has that name",
                len(self._images),
            )
        raise NotFoundError(tried, why=none, next_step=there_are(text, names, most=_MOST_NAMES))
