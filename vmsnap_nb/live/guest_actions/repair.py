"""After a QEMU that has ended in the middle of a commit: overlays get their old backing files again.

QEMU writes the new backing file into the image above, and only then the last tables of the one below: killed
between the two, it leaves a disk that reads otherwise. The layers that were committed were only read: with them, all is
as it was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from functools import partial

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.guest_actions.perform import once_free
from vmsnap_nb.live.handle import GuestHandle
from vmsnap_nb.live.image_actions import point_back
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.system.survey import Survey
from vmsnap_nb.words.message import t

__all__ = ["put_back", "standing"]

_LOOK = 0.02
_ENDS = 10.0
"""Seconds in which a QEMU that was killed is gone, with its locks."""


def standing(guest: GuestHandle, targets: Collection[str], tops: Collection[str]) -> dict[str, Reference]:
    """Return by path how what is based on these images in a guest's chains refers to them, if they are files here."""
    layers = _layers(guest, targets) if guest.link.files_are_here else {}
    return {path: backing for path, backing in layers.items() if backing.path in tops}


def put_back(guest: GuestHandle, targets: Collection[str], before: Mapping[str, Reference], error: VmsnapError) -> None:
    """Give overlays their old backing files again, if the guest's QEMU has ended; the error is given a note.

    `before` is what `standing` returned when all was well.
    """
    deadline = time.monotonic() + _ENDS
    try:
        now = _layers(guest, targets) if before else {}
        moved = [path for path, backing in before.items() if path in now and now[path].path != backing.path]
        while moved and guest.running:
            if time.monotonic() > deadline:
                return  # it is still running, and knows best what it reads
            time.sleep(_LOOK)
        for path in moved:
            if os.path.exists(before[path].path or ""):
                once_free(partial(point_back, path, before[path]), until=deadline)
                error.add_note(
                    t(
                        "QEMU exited before all data was written, so {image} is based on {backing} again",
                        image=path,
                        backing=before[path].path,
                    )
                )
    except VmsnapError as failure:
        error.add_note(t("could not verify that the content of its disks is unchanged: {error}", error=str(failure)))


def _layers(guest: GuestHandle, targets: Collection[str]) -> dict[str, Reference]:
    """Return by path how the layers of some disks refer to their backing files."""
    now = guest.survey(Survey(follow=True))
    tops = (use.path for use in now.owner.domain.uses if use.target in targets)
    layers = (now.forest[path] for top in tops for path in now.forest.known_lineage(top))
    return {layer.path: layer.backing for layer in layers if layer.backing is not None}
