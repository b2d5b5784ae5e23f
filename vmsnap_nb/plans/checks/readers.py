"""Checks of who may read data where it is copied to: people who may not read it where it is."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.permit import Permit
from vmsnap_nb.plans.concern import Concern, either, refuse, warn
from vmsnap_nb.words.message import Message, listed, t

__all__ = ["moved_into", "names_elsewhere", "new_readers", "other_bases"]


def new_readers(permits: Mapping[str, Permit], sources: Iterable[str], into: str, *, up: bool) -> Iterator[Concern]:
    """Check that who may read an image may read what is copied into it.

    With `up` it is an overlay: its owner alone has decided on what it is based, so it may be one that was made in
    order to read that. The owner of a base has not decided what is based on it.
    """
    to = permits.get(into)
    if to is None:
        return
    known = {path: permits[path] for path in dict.fromkeys(sources) if path in permits and path != into}
    closed = () if to.is_system else tuple(path for path, one in known.items() if to.owner in one.closed_to)
    if closed:
        what = t(
            "{user}, the owner of {into}, has no read access to {paths}, but could read the data copied into {into}",
            user=to.user,
            into=into,
            paths=listed(closed),
        )
        give = t(
            "first give {into} that owner, and remove access for other users: {command}",
            into=into,
            command=_like(closed, into),
        )
        remedy = either(give, t("waive this if {user} is allowed to read that data", user=to.user))
        yield (refuse if up else warn)("other-readers", what, remedy, images=(into, *closed), waivable=True)
    every = tuple(path for path, one in known.items() if to.everyone and not one.everyone)
    if every:
        what = t("every user on this machine can read {into}, but not {paths}", into=into, paths=listed(every))
        yield _open(what, ("chmod", "o-r", "--", into), into, every)
    members = tuple(path for path, one in known.items() if to.group and not one.everyone and one.group != to.group)
    if members and not every:
        what = t("the group {group} can read {into}, but not {paths}", group=to.group, into=into, paths=listed(members))
        yield _open(what, ("chmod", "g-r", "--", into), into, members)


def _open(what: Message, command: tuple[str, ...], into: str, paths: tuple[str, ...]) -> Concern:
    remedy = t("before you run this plan: {command}", command=shlex.join(command))
    return warn("other-readers", what, remedy, images=(into, *paths))


def _like(closed: tuple[str, ...], into: str) -> str:
    """Return how an image gets the owner of another one, and nobody else reads it."""
    commands = ("chown", f"--reference={closed[0]}", "--", into), ("chmod", "go-r", "--", into)
    return " && ".join(map(shlex.join, commands))


def names_elsewhere(forest: Forest, permits: Mapping[str, Permit], written: Iterable[str]) -> Iterator[Concern]:
    """Check that files that are written to have no further name, by which they may be something else to somebody."""
    for path in dict.fromkeys(written):
        names = forest.same_file(path)
        known = {permits[name].place for name in names if name in permits}
        if path in permits and permits[path].links > len(known):
            yield refuse(
                "shared-base",
                t(
                    "{path} has another name (hard link), which is not among the images read: anything written to "
                    "the file also appears under that name",
                    path=path,
                ),
                either(
                    t("find the other name: {command}", command=shlex.join(("find", "/", "-xdev", "-samefile", path))),
                    t("waive this if nothing uses the file under its other name"),
                ),
                images=(path,),
                waivable=True,
            )


def other_bases(forest: Forest, changed: Iterable[str]) -> Iterator[Concern]:
    """Check that no image that changes or goes reads something else under another of its names.

    A relative reference starts in the folder of the name by which the image is opened, also where that is a link.
    """
    for path in dict.fromkeys(changed):
        below = forest.parent(path) if path in forest.images else None
        for name in forest.same_file(path) if below is not None else ():
            other = forest.parent(name)
            if other is not None and not forest.same(below, other) and forest.status(other) != "missing":
                yield refuse(
                    "shared-base",
                    t(
                        "{path} and {other} are one file, but its relative backing path leads to {base} from the first "
                        "name and to {other_base} from the second, where other data would be read after this",
                        path=path,
                        other=name,
                        base=below,
                        other_base=other,
                    ),
                    either(
                        t(
                            "copy the content that is read under the second name: {command}",
                            command=shlex.join(("qemu-img", "convert", "-O", "qcow2", name, "NEW.qcow2")),
                        ),
                        t("waive this if nothing uses the file under its other name"),
                    ),
                    images=(path, name),
                    waivable=True,
                )


def moved_into(permits: Mapping[str, Permit], paths: Iterable[str], folder: str) -> Iterator[Concern]:
    """Check that files are moved into no folder in which more people may read them."""
    open_folder = folder in permits and permits[folder].everyone
    paths = tuple(path for path in paths if open_folder and path in permits and permits[path].by_folder)
    if paths:
        yield warn(
            "other-readers",
            t(
                "every user on this machine can read {paths} in {folder}, but not in its current folder",
                paths=listed(paths),
                folder=folder,
            ),
            t("before you run this plan: {command}", command=shlex.join(("chmod", "o-r", "--", *paths))),
            images=paths,
        )
