"""Images in a browser: read as anywhere, but nobody knows a file system with free space, and no QEMU checks them."""

from __future__ import annotations

import os
from dataclasses import replace

from vmsnap_nb.live.forest import LiveForest, scan
from vmsnap_nb.plans.facts import FolderFacts
from vmsnap_nb.plans.request import Needs, Reading

__all__ = ["folder_named", "read_folder"]


def read_folder(folder: str) -> LiveForest:
    """Read the images of a folder."""
    place = scan(folder).place

    def look(now: Reading, needs: Needs) -> Reading:
        found = place.look(now, replace(needs, compared=(), checked=()))
        return replace(found, folders=FolderFacts(found.folders.taken))

    return LiveForest.of(replace(place, look=look))


def folder_named(folder: str) -> str:
    """Return where the files of a folder belong: in the folder in which the header of one says that another one is.

    A header may name any place, so a folder that is there already is not taken.
    """
    forest = scan(folder)
    names = {os.path.basename(path) for path in forest.images if forest.status(path) not in {"missing", "outside"}}
    for image in forest:
        if image.backing is None or image.backing.kind != "absolute" or image.backing.path is None:
            continue
        place, name = os.path.split(image.backing.path)
        if name in names and not os.path.lexists(place):
            return place
    return folder
