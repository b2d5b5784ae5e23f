"""Checks of the folders to which a plan would write: names, room, permission."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Callable, Iterator, Mapping

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.concern import Concern, either, refuse
from vmsnap_nb.plans.facts import FolderFacts
from vmsnap_nb.words.message import Message, t

__all__ = ["free_name", "kept_memory", "room"]


def free_name(
    forest: Forest,
    folders: FolderFacts,
    path: str,
    remedy: Message | None = None,
    *,
    shared: Callable[..., Concern] = refuse,
) -> Iterator[Concern]:
    """Check that nothing is where a file would be made, and that no image takes it for its backing file.

    The latter is a concern of the kind `shared`.
    """
    if path in folders.taken or (path in forest.images and forest[path].status != "missing"):
        yield refuse(
            "file-exists",
            t("{path} already exists and will not be overwritten", path=path),
            remedy or t("choose another name, or remove the file yourself"),
            images=(path,),
        )
    elif path in forest.images and forest.children(path):
        yield shared(
            "shared-base",
            t(
                "{path} is missing, and other images name it as their backing file: a new file there would take its "
                "place",
                path=path,
            ),
            t("choose another name"),
            images=(path, *forest.children(path)),
        )


def kept_memory(folders: FolderFacts, path: str, remedy: Message) -> Iterator[Concern]:
    """Check that nobody else can put another file where libvirt writes memory: it follows links, and overwrites."""
    if place := folders.shared.get(posixpath.dirname(path)):
        yield refuse(
            "not-supported",
            t(
                "the memory cannot be written to {path}: other users can change {place}, so they could have another "
                "file overwritten, or replace the memory before it is restored",
                path=path,
                place=place,
            ),
            either(
                t(
                    "let only the owners of files there rename them, if that folder is yours: {command}",
                    command=shlex.join(("chmod", "+t", "--", place)),
                ),
                remedy,
            ),
        )


def room(
    folders: FolderFacts, needed: Mapping[str, int], estimates: Mapping[str, Message | None] | None = None
) -> Iterator[Concern]:
    """Check that each folder can take the bytes that a plan writes there; nothing is said of folders not looked at.

    In the folders of `estimates` that is the most that it can be, perhaps with a clause about it: such a want of room
    may be waived.
    """
    estimates = estimates or {}
    for folder, size in needed.items():
        if folder in folders.closed:
            yield refuse(
                "no-permission",
                t("cannot create a file in {folder}: {why}", folder=folder, why=folders.closed[folder]),
                t("create that folder, get write permission for it, or choose another"),
            )
        elif folders.free.get(folder, size) < size:
            free = folders.free[folder]
            if folder in estimates:
                what = t(
                    "{folder} has {free} bytes free, but up to {size} are needed", folder=folder, free=free, size=size
                )
            else:
                what = t("{folder} has {free} bytes free, but {size} are needed", folder=folder, free=free, size=size)
            if (more := estimates.get(folder)) is not None:
                what = t("{what}, {more}", what=what, more=more)
            yield refuse("no-space", what, t("free some space first"), waivable=folder in estimates)
