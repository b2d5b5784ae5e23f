"""External data files: what an image's header says of one is looked at near that image, and never opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from vmsnap_nb.model.image import Status
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.system.files.allowed import Places
from vmsnap_nb.system.image_file import not_a_file
from vmsnap_nb.words.message import NOTHING, Message, t

__all__ = ["NO_DATA", "look_at_data"]

NO_DATA = frozenset({"missing", "unreadable", "not-a-file"})
"""What a data file is found to be where QEMU cannot open the image."""


def look_at_data(data: Reference, image: str, folders: Iterable[str]) -> tuple[Status, Message]:
    """Return what a data file is, and what is wrong with it: it must be in these folders or beside its image.

    That is so where backing files are followed anywhere, too: whoever makes an image can let any file of this machine
    be its data.
    """
    if data.path is None and data.kind == "remote":
        return "remote", t("its data file is at a network address")
    if data.path is None:
        return "unknown", t(
            "its data file {name!r} is a relative path, which QEMU resolves against its current folder",
            name=data.written,
        )
    target = Places((*folders, os.path.dirname(image))).target(data.path)
    if target is None:
        return "outside", t("its data file {path} is outside the folders that were read", path=data.path)
    try:
        found = os.stat(target)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return "missing", t("its data file {path} does not exist", path=data.path)
        why = error.strerror
        return "unreadable", t("its data file {path} cannot be inspected: {why}", path=data.path, why=why)
    if not stat.S_ISREG(found.st_mode):
        why = not_a_file(data.path, found).problem
        return "not-a-file", t("its data file {path} cannot be used: {why}", path=data.path, why=why)
    return "ok", NOTHING
