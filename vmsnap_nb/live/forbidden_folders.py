"""Folders whose images are changed by hand only: the verbs of vmsnap_nb refuse there."""

from __future__ import annotations

import os
from collections.abc import Iterable

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.words.message import Message, t

__all__ = ["allow_verbs", "check_verbs", "forbid_verbs"]

_FOLDERS: dict[str, Message] = {}


def forbid_verbs(folder: str | os.PathLike[str], why: Message) -> None:
    """Let no plan of this process be made of images in a folder."""
    _FOLDERS[os.path.realpath(folder)] = why


def allow_verbs(folder: str | os.PathLike[str]) -> None:
    """Let plans be made of them again."""
    _FOLDERS.pop(os.path.realpath(folder), None)


def check_verbs(title: Message, paths: Iterable[str]) -> None:
    """Check that none of these images is in such a folder; a plan would show the commands."""
    if not _FOLDERS:
        return
    folders = {os.path.realpath(os.path.dirname(path)) for path in paths}
    for forbidden, why in _FOLDERS.items():
        if any(folder == forbidden or folder.startswith(f"{forbidden}/") for folder in folders):
            next_step = t("enter the commands yourself: qemu-img, virsh and shell commands")
            raise InvalidRequestError(title, why=why, next_step=next_step)
