"""Which image file a user means, and what a new one is called."""

from __future__ import annotations

import os
from typing import Protocol

from vmsnap_nb.errors import InvalidRequestError, NotFoundError
from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.lookup import SUFFIXES, ImageLike, path_of
from vmsnap_nb.model.names import close_names
from vmsnap_nb.system.files.paths import absolute, is_address
from vmsnap_nb.words.message import Message, joined, listed, t

__all__ = ["GuestLike", "existing_path", "image_of", "named", "names_beside", "with_suffix"]


class GuestLike(Protocol):
    """What has a disk with a chain: a guest."""

    def chain(self) -> Chain:
        """Return the chain of its first disk."""


def image_of(image: ImageLike | GuestLike) -> ImageLike:
    """Return the image itself; for a guest the path of the image that it writes to."""
    if isinstance(image, Image | str | os.PathLike):
        return image
    other: object = image  # whatever it is declared to be
    if isinstance(other, Forest) or not hasattr(other, "chain"):
        raise _no_image(image)
    return image.chain().top


def _no_image(given: object) -> NotFoundError:
    return NotFoundError(
        t("find the image {name}", name=repr(given)),
        why=t("the argument is not an image, a path or a name"),
        next_step=t("pass an image, a path or a name"),
    )


def named(image: ImageLike) -> str:
    """Return what a user calls an image: a path as absolute, a name or an address as it is."""
    text = path_of(image)
    if text is None:
        raise _no_image(image)
    is_path = "/" in text or text.startswith("~")
    return absolute(text) if is_path and not is_address(text) and not text.startswith("json:") else text


def existing_path(image: ImageLike | GuestLike) -> str:
    """Return the absolute path of an image; a name without its suffix will do where only one file has it."""
    image = image_of(image)
    full = image.path if isinstance(image, Image) else absolute(image)
    if isinstance(image, Image) or os.path.lexists(full):
        return full
    found = [full + suffix for suffix in SUFFIXES if os.path.lexists(full + suffix)]
    if len(found) > 1:
        raise NotFoundError(
            t("find the image {name}", name=full),
            why=t("several images have that name: {paths}", paths=joined(found)),
            next_step=t("pass the path of one of them"),
        )
    return found[0] if found else full


def names_beside(path: str) -> Message:
    """Return what to do about a file that is not there: the names in its folder that are close to it."""
    try:
        names = sorted(os.listdir(os.path.dirname(path)))
    except OSError:
        names = []
    if close := close_names(path, names):
        return t("did you mean {close}? Check the path", close=listed(close, last="or"))
    return t("check the path")


def with_suffix(path: str | os.PathLike[str]) -> str:
    """Return the path of a new image: a name without a suffix gets ``.qcow2``; InvalidRequestError without a name."""
    text = os.fspath(path)
    name = os.path.basename(text)
    if name in ("", ".", ".."):
        raise InvalidRequestError(
            t("use {path!r} as a path", path=text),
            why=t("the path does not end in a file name"),
            next_step=t("append the name of the new image"),
        )
    return text if os.path.splitext(name)[1] else text + ".qcow2"
