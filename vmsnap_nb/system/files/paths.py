"""Paths as a user types them."""

from __future__ import annotations

import os
import re
import stat

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.system.files.owner import owner_of
from vmsnap_nb.words.message import Message, t

__all__ = ["absolute", "check_link", "is_address", "real_path", "tidy"]

_NAME_MAX = 255
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def absolute(path: str | os.PathLike[str]) -> str:
    """Return the absolute path as QEMU would use it: ``~`` expanded, symbolic links left as they are.

    InvalidRequestError for an empty name, a null byte, a name longer than file systems have, or a network address.
    """
    text = os.fspath(path)
    if is_address(text):
        raise InvalidRequestError(
            t("use {path!r} as a path", path=text),
            why=t("the path is a network address, but only local files can be opened"),
            next_step=t("pass a path. If a file has this name, use ./{name}", name=text.replace("//", "/", 1)),
        )
    if not text or "\0" in text:
        raise InvalidRequestError(
            t("use {path!r} as a path", path=text),
            why=t("the path is empty or contains a null byte"),
            next_step=t("pass another path"),
        )
    full = os.path.abspath(os.path.expanduser(text))
    if len(os.fsencode(os.path.basename(full))) > _NAME_MAX:
        raise InvalidRequestError(
            t("use {name}… as a name", name=os.path.basename(full)[:40]),
            why=t("the name is longer than {most} bytes", most=_NAME_MAX),
            next_step=t("choose a shorter name"),
        )
    return full


def check_link(path: str, tried: Message) -> None:
    """Check that a path to write to is no symbolic link of another user: it leads where that user wants."""
    try:
        found = os.lstat(path)
    except OSError:
        return
    if stat.S_ISLNK(found.st_mode) and owner_of(found) not in (0, os.geteuid()):
        raise InvalidRequestError(
            tried, why=t("this is a symbolic link that belongs to another user"), next_step=t("choose another name")
        )


def real_path(path: str) -> str:
    """Return a path without symbolic links; as it is where a link on the way may not be read.

    Such are those of other users' processes in /proc, which any header or record can name.
    """
    try:
        return os.path.realpath(path)
    except OSError:
        return path


def tidy(folder: str) -> str:
    """Return the name of a folder without ``.`` and ``..``, where these do not come after a link to elsewhere."""
    plain = os.path.normpath(folder)
    return plain if plain == folder or real_path(plain) == real_path(folder) else real_path(folder)


def is_address(text: str) -> bool:
    """Return whether a text is no path, but a network address."""
    return _ADDRESS.match(text) is not None
