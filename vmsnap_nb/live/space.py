"""What the images of a forest take on disk, read from their tables; what cannot be read is left out."""

from __future__ import annotations

import contextlib
import os

from vmsnap_nb.live.reading import file_spaces
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.space import Space, memory_of, space_of
from vmsnap_nb.system.files.shared import shared_bytes
from vmsnap_nb.system.files.taken import taken

__all__ = ["read_space"]


def read_space(forest: Forest) -> Space:
    """Return what the images of a forest take, those of another machine as far as libvirt tells."""
    links: dict[str, int] = {}
    shared: dict[str, int | None] = {}
    for image in forest:
        if image.known_from == "file" and image.path.startswith("/"):
            with contextlib.suppress(OSError):
                links[image.path] = os.stat(image.path).st_nlink
                shared[image.path] = shared_bytes(os.path.realpath(image.path))
    memory = {path: size for path in memory_of(forest) if (size := taken(path)) is not None}
    return space_of(forest, file_spaces(forest), links, memory, shared)
