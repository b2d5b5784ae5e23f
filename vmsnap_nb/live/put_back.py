"""After a QEMU that has ended in the middle of a commit: overlays stand again on what they stood on.

QEMU writes into the image above that it stands on the one below, and only then the last tables of that one: killed
between the two, it leaves a disk that reads otherwise. The layers that were committed were only read: with them, all is
as it was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from vmsnap_nb.errors import InUseError, VmsnapError
from vmsnap_nb.live.merge_files import point_back
from vmsnap_nb.model.reference import Reference

if TYPE_CHECKING:
    from vmsnap_nb.live.guest import Guest

__all__ = ["put_back", "standing"]

_LOOK = 0.02
_ENDS = 10.0
"""Seconds in which a QEMU that was killed is gone, with its locks."""


def standing(guest: Guest, targets: Iterable[str], tops: Iterable[str]) -> dict[str, Reference]:
    """Give what stands on these images in a guest's chains, and how it refers to them; nothing for a host elsewhere."""
    if not guest.host.files_are_here:
        return {}
    layers = (layer for target in targets for layer in guest.chain(target))
    wanted = set(tops)
    return {layer.path: layer.backing for layer in layers if layer.backing is not None and layer.backing.path in wanted}


def put_back(guest: Guest, targets: Iterable[str], before: Mapping[str, Reference], error: VmsnapError) -> None:
    """Let overlays stand on what they stood on, if the guest's QEMU has ended.

    Parameters
    ----------
    guest : Guest
        Whose chains they are in.
    targets : iterable of str
        The disks.
    before : mapping of str to Reference
        What `standing` gave when all was well.
    error : VmsnapError
        Is given a note.
    """
    deadline = time.monotonic() + _ENDS
    try:
        now = {layer.path: layer.backing for target in targets for layer in guest.chain(target)} if before else {}
        moved = [path for path, backing in before.items() if (stands := now.get(path)) and stands.path != backing.path]
        while moved and guest.running:
            if time.monotonic() > deadline:
                return  # it goes on, and knows best what it reads
            time.sleep(_LOOK)
        for path in moved:
            if os.path.exists(before[path].path or ""):
                _rebase(path, before[path], deadline)
                error.add_note(f"QEMU had ended before all was written: {path} stands on {before[path].path} again")
    except VmsnapError as failure:
        error.add_note(f"could not make sure that its disks read as before: {failure}")


def _rebase(path: str, backing: Reference, deadline: float) -> None:
    while True:
        try:
            point_back(path, backing)
        except InUseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK)
        else:
            return
