"""What is in a folder, and which of it was read before."""

from __future__ import annotations

import os
from itertools import islice
from operator import attrgetter

from vmsnap_nb.system.files.temporary import is_temporary
from vmsnap_nb.system.image_file import Stamp, stamp

__all__ = ["Listing", "is_incomplete", "listing_of", "stamp_of"]

Listing = list[os.DirEntry[str]] | OSError

_NOT_ENTERED = ("/proc", "/sys", "/dev")
"""Folders in which nothing is looked for; folders within /dev, as that of a volume group, can be given."""


def listing_of(folder: str, *, most: int) -> Listing:
    """List a folder in the order of names, or one more than `most` of them; or return why that cannot be done."""
    if folder in _NOT_ENTERED:
        return []
    try:
        with os.scandir(folder) as listing:
            return sorted(islice(listing, most + 1), key=attrgetter("name"))
    except OSError as error:
        return error


def is_incomplete(entry: os.DirEntry[str]) -> bool:
    """Return whether a file is not complete yet, or was left by a process that was killed: it is nobody's image."""
    name = entry.name
    return name.endswith(".partial") and is_temporary(name) and not entry.is_dir(follow_symlinks=False)


def stamp_of(entry: os.DirEntry[str]) -> Stamp | None:
    """Return the stamp of a file, or None if it cannot be looked at."""
    try:
        return stamp(entry.stat(follow_symlinks=False))
    except OSError:
        return None
