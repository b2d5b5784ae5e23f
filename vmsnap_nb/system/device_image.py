"""Images on block devices: which devices are opened in a survey, and what is told of the others."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property

from vmsnap_nb.model.identity import Identity
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.files.allowed import Places
from vmsnap_nb.system.files.devices import identity_of, is_device
from vmsnap_nb.system.files.owner import owner_of
from vmsnap_nb.system.files.paths import real_path
from vmsnap_nb.system.image_file import read_image, unopened_device

__all__ = ["Devices", "with_header"]


class Devices:
    """The block devices of one survey.

    One is read if somebody vouches for it, if it is in a given folder, or beside the device above it. Any other is only
    named by the header of a file, which can name any device of this machine: it is not opened.
    """

    def __init__(self, folders: tuple[str, ...], vouched: frozenset[str]) -> None:
        self._folders = folders
        self._vouched = vouched
        self._opened: dict[Identity, Image] = {}

    def read(self, path: str, above: Image | None = None, *, trusted: bool = False) -> Image | None:
        """Return the image on a device, which `above` refers to; None for what is no device, or cannot be seen."""
        try:
            status = os.stat(path)
            if not stat.S_ISBLK(status.st_mode):
                return None
            is_read = trusted or path in self._vouched or _is_beside(path, above) or self._is_given(path)
        except (OSError, ValueError):
            return None
        identity = identity_of(status)
        if is_read:
            image, _ = read_image(path, os.path.dirname(path), real_path(path), device=True)
            self._opened[identity] = image
            return image
        known = self._opened.get(identity)
        return unopened_device(path, status) if known is None else replace(known, path=path)

    @cached_property
    def _given(self) -> Places:
        """The folders; where there is no device, nobody asks where they lead."""
        return Places(self._folders)

    def _is_given(self, path: str) -> bool:
        """Return whether a name is in a folder that was given; a link counts if nobody else can have put it there."""
        if not self._given.near(path):
            return False
        found = os.lstat(path)
        return not stat.S_ISLNK(found.st_mode) or owner_of(found) in (0, os.geteuid())


def _is_beside(path: str, above: Image | None) -> bool:
    if above is None or not above.device:
        return False
    return os.path.dirname(path) in map(os.path.dirname, (above.path, real_path(above.path)))


def with_header(paths: Iterable[str]) -> list[str]:
    """Return those of some block devices that hold more than raw data, such as an overlay, or that cannot be read."""
    devices = [path for path in paths if is_device(path)]
    images = (read_image(path, os.path.dirname(path), real_path(path), device=True)[0] for path in devices)
    return [path for path, image in zip(devices, images, strict=True) if image.status != "unknown"]
