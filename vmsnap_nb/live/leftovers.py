"""Files that nothing needs, with the plans that move them away or remove them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.live.place import Place
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.arguments import checked_methods
from vmsnap_nb.model.leftovers import Leftover, Leftovers
from vmsnap_nb.model.names import there_are
from vmsnap_nb.model.shown import pickled_as
from vmsnap_nb.plans.leftovers.find import find_leftovers, leftovers_needs
from vmsnap_nb.plans.leftovers.request import LeftoversRequest
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.system.files.paths import absolute
from vmsnap_nb.system.files.taken import taken
from vmsnap_nb.words.message import t

__all__ = ["LiveLeftovers", "found_leftovers", "live_leftovers", "read_leftovers"]

PathLike = str | os.PathLike[str]


@checked_methods
@dataclass(frozen=True, repr=False)
class LiveLeftovers(Leftovers):
    """Files that nothing needs, as far as was checked; plans can move or remove these files.

    Attributes
    ----------
    place : Place
        The place in which the files were found, and in which plans run.
    """

    place: Place = field(kw_only=True, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return pickled_as(Leftovers, self)

    def move(self, folder: PathLike, *files: PathLike) -> LivePlan:
        """Plan to move files that nothing needs into a folder; moving the files back restores the previous state.

        Parameters
        ----------
        folder : path
            An existing folder.
        *files : path
            The files to include, by path or name. Default: all files in this list.

        Returns
        -------
        LivePlan
            The plan is refused if an image, guest or unreadable file may need one of the files.

        Raises
        ------
        NotFoundError
            A file is not in this list.
        InvalidRequestError
            There are no unneeded files.
        """
        return self._plan(files, absolute(folder))

    def remove(self, *files: PathLike) -> LivePlan:
        """Plan to remove files that nothing needs; this cannot be undone.

        Parameters
        ----------
        *files : path
            The files to include, by path or name. Default: all files in this list.

        Returns
        -------
        LivePlan
            The plan is refused if an image, guest or unreadable file may need one of the files.

        Raises
        ------
        NotFoundError
            A file is not in this list.
        InvalidRequestError
            There are no unneeded files.
        """
        return self._plan(files, None)

    def _plan(self, files: Iterable[PathLike], folder: str | None) -> LivePlan:
        paths = tuple(dict.fromkeys(map(self._find, files))) or tuple(one.path for one in self.files)
        return LivePlan.bind(LeftoversRequest(paths=paths, folder=folder, uri=self.place.uri), self.place)

    def _find(self, file: PathLike) -> str:
        text = os.fspath(file)
        paths = [one.path for one in self.files]
        found = [path for path in paths if path == absolute(text)] or [
            path for path in paths if text in (os.path.basename(path), os.path.basename(path).rpartition(".")[0])
        ]
        if len(found) != 1:
            raise NotFoundError(
                t("find {name} among the unneeded files", name=text),
                why=t("several files have that name") if found else t("there is no such file among them"),
                next_step=there_are(text, found or paths, none=t("the file does not exist")),
            )
        return found[0]


def read_leftovers(place: Place) -> LiveLeftovers:
    """Return what nothing needs of all that a place reads."""
    return found_leftovers(place, place.survey())


def found_leftovers(place: Place, now: Reading) -> LiveLeftovers:
    """Return what nothing needs of all that was read there."""
    found = find_leftovers(place.look(now, leftovers_needs(now.forest)), place.uri)
    files = map(_sized, found.files) if place.here else found.files
    return live_leftovers(replace(found, files=tuple(files)), place)


def live_leftovers(found: Leftovers, place: Place) -> LiveLeftovers:
    """Return files that nothing needs with the place in which plans about them run."""
    return LiveLeftovers(found.files, found.unseen, found.folders, place=place)


def _sized(one: Leftover) -> Leftover:
    return one if one.allocated is not None else replace(one, allocated=taken(one.path))
