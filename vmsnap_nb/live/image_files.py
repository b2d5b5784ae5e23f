"""Files of one image, read through the chain that it is the last layer of."""

from __future__ import annotations

import os

from vmsnap_nb.errors import ImageError
from vmsnap_nb.live.files import PathLike, When, copy_out, find_files, read_file
from vmsnap_nb.model.arguments import checked_methods
from vmsnap_nb.model.files import Files
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.filesystems.reader import DiskState
from vmsnap_nb.system.survey import Survey
from vmsnap_nb.words.message import t

__all__ = ["ImageFiles"]


@checked_methods
class ImageFiles:
    """What `Image.read`, `Image.copy_out` and `Image.find` do."""

    def read(self, image: Image, path: PathLike, most: int) -> bytes:
        """Return the content of a file."""
        return read_file(_state(image), path, most)

    def copy_out(self, image: Image, path: PathLike, to: PathLike) -> str:
        """Copy a file to this machine."""
        return copy_out(_state(image), path, to)

    def find(self, image: Image, pattern: str, path: PathLike, newer: When | None) -> Files:
        """Return files by their names."""
        return find_files(_state(image), pattern, path, newer)


def _state(image: Image) -> DiskState:
    """Read the chain of an image again: layers are looked for in its own folder."""
    if image.known_from != "file" or not image.path.startswith("/"):
        raise ImageError(
            t("read files of {image}", image=image.path),
            why=t("its file was not read on this machine"),
            next_step=t("use host.survey().chain(path): libvirt reads volumes of its storage pools"),
        )
    path = image.path
    forest = Survey((os.path.dirname(path),), images={path: image.format}).read()
    return DiskState(image.name, tuple(forest[name] for name in reversed(forest.known_lineage(path))))
