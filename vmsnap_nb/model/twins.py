"""Images of which nobody here knows where they are, and that may be one file under two paths."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmsnap_nb.model.forest import Forest
    from vmsnap_nb.model.image import Image

__all__ = ["twins"]


def twins(forest: Forest, path: str) -> Iterator[str]:
    """Yield the other images that may be the same file: one folder can be two storage pools, by a link or a mount.

    libvirt does not tell device and inode. But one file has one name, size and time. That time is not compared where a
    guest has an image as its disk, and may write to it between two answers.
    """
    image = forest.images.get(path)
    if image is None or not _is_unplaced(image):
        return
    for other, found in forest.images.items():
        if other == path or posixpath.basename(other) != posixpath.basename(path) or not _is_unplaced(found):
            continue
        if found.known_from == "definition" or image.known_from == "definition":
            yield other  # whose size and time are not known
        elif found.virtual_size == image.virtual_size and found.format == image.format:
            written = forest.known_writers(path) or forest.known_writers(other)
            if written or (found.mtime_ns, found.file_size) == (image.mtime_ns, image.file_size):
                yield other


def _is_unplaced(image: Image) -> bool:
    return image.identity is None and image.known_from != "file" and image.path.startswith("/")
