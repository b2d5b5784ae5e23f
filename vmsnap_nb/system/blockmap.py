"""Reading what each image holds itself: `qemu-img map` of one layer at a time, so that hidden data is seen too."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from vmsnap_nb.errors import ImageError
from vmsnap_nb.model.blockmap import Extent, LayerMap
from vmsnap_nb.model.image import Identity, Image
from vmsnap_nb.system import qemu_img

__all__ = ["MapReader", "map_argv", "parse_map", "reads_none_of"]

_AT_ONCE = 4
_RAW_UNIT = 4096
"""What file systems allocate at once; a raw image has no clusters of its own."""
_FRESH = 20_000_000
"""Nanoseconds: a file that was changed twice within one step of the file system's clock looks the same."""


def map_argv(path: str, format: str) -> tuple[str, ...]:
    """Give the command that maps one image as if it stood on nothing, also while somebody writes to it.

    Without ``"backing": null`` QEMU would map the whole chain, in which upper layers hide what lower ones hold.
    """
    start = ("qemu-img", "map", "--output=json", "-U")
    if not path.isprintable() and any("\udc80" <= char <= "\udcff" for char in path):
        # No JSON can hold a name that is no UTF-8; in this form of options a comma is written twice.
        nothing_below = "" if format == "raw" else ",backing="
        name = path.replace(",", ",,")
        return (*start, "--image-opts", f"driver={format},file.driver=file,file.filename={name}{nothing_below}")
    options: dict[str, object] = {"driver": format, "file": {"driver": "file", "filename": path}}
    if format != "raw":
        options["backing"] = None
    return (*start, "json:" + json.dumps(options))


def parse_map(answer: bytes, path: str, size: int, cluster_size: int) -> LayerMap:
    """Understand what `qemu-img map` says.

    Parameters
    ----------
    answer : bytes
        ``MapEntry`` objects of QEMU's qapi/block-core.json, as JSON.
    path : str
        The image.
    size : int
        Its virtual size in bytes.
    cluster_size : int
        Bytes that it allocates at once.

    Returns
    -------
    LayerMap

    Raises
    ------
    ImageError
        That is not what the answer looks like.
    """
    found: list[Extent] = []
    try:
        for entry in json.loads(answer):
            if not entry["present"]:
                continue
            start, length, zero = int(entry["start"]), int(entry["length"]), bool(entry["zero"])
            if found and found[-1].end == start and found[-1].zero == zero:
                found[-1] = Extent(found[-1].start, found[-1].length + length, zero)
            else:
                found.append(Extent(start, length, zero))
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(f"map {path}", said=f"qemu-img's answer is not understood: {error}") from error
    return LayerMap(path, size, tuple(found), cluster_size)


def reads_none_of(path: str, left: int, *, below: bool) -> bool:
    """Ask QEMU whether an image reads nothing from the layers right below it, so that they can be left out.

    Parameters
    ----------
    path : str
        A qcow2 image that nobody writes to. QEMU opens what it stands on too.
    left : int
        How many layers below it are meant; none of them may be shorter than the image if `below`.
    below : bool
        Whether there are others below them: without, zeros that are read from a layer are read without it too.

    Returns
    -------
    bool
        False also where QEMU's answer does not show it.

    Raises
    ------
    VmsnapError
        As `vmsnap_nb.system.qemu_img.run`.
    """
    argv = ("qemu-img", "map", "--output=json", "-f", "qcow2", "--", path)
    answer = qemu_img.run(argv, tried=f"map what {path} reads").stdout
    try:
        return not any(
            1 <= part["depth"] <= left and (below or part["data"] or not part["zero"]) for part in json.loads(answer)
        )
    except (ValueError, KeyError, TypeError):
        return False


class MapReader:
    """Maps images, and maps again only those that have changed."""

    def __init__(self) -> None:
        self._known: dict[tuple[Identity | None, int | None, int | None, str | None], LayerMap] = {}

    def read(self, images: Iterable[Image]) -> dict[str, LayerMap]:
        """Map each of some images by itself.

        Parameters
        ----------
        images : iterable of Image
            Local images with a known format; others are left out of the answer.

        Returns
        -------
        dict
            By path.

        Raises
        ------
        VmsnapError
            As `vmsnap_nb.system.qemu_img.run`.
        """
        wanted = {image.path: image for image in images if self.can(image)}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(wanted, pool.map(self._one, wanted.values()), strict=True))

    @staticmethod
    def can(image: Image) -> bool:
        """Tell whether an image can be mapped: it was read, and no key is needed."""
        return (
            image.status in {"ok", "in-use"}
            and image.format is not None
            and image.virtual_size is not None
            and image.path.startswith("/")
            and image.encryption is None
        )

    def _one(self, image: Image) -> LayerMap:
        key = (image.identity, image.mtime_ns, image.file_size, image.format)
        known = self._known.get(key) if image.identity is not None and image.held != "write" else None
        if known is None:
            done = qemu_img.run(map_argv(image.path, image.format or "raw"), tried=f"map {image.path}")
            known = parse_map(done.stdout, image.path, image.virtual_size or 0, image.cluster_size or _RAW_UNIT)
            if image.mtime_ns is not None and time.time_ns() - image.mtime_ns > _FRESH:
                self._known[key] = known
        if known.path != image.path:
            known = LayerMap(image.path, known.size, known.extents, known.cluster_size)
        return known
