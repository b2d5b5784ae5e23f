"""Maps of images, each by itself: from its own tables where they can be read here, otherwise by `qemu-img map`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from vmsnap_nb.model.blockmap import LayerMap
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.model.image import OPENABLE, Image
from vmsnap_nb.system.disk.layer import Layer
from vmsnap_nb.system.disk.layer_map import map_layer
from vmsnap_nb.system.disk.open import can_open, open_layer
from vmsnap_nb.system.qemu.blockmap import LayerParser, Piece, map_argv, read_map
from vmsnap_nb.system.qemu.qemu_img import unreadable
from vmsnap_nb.system.threads import in_threads
from vmsnap_nb.words.message import listed, t

__all__ = ["MapReader", "map_inside"]

MOST_PARTS = 4_000_000
"""Parts of all maps that are read at once, or kept: about 600 MiB of memory."""
_AT_ONCE = 4
_FRESH = 20_000_000
"""Nanoseconds: a file that was changed twice within one step of the file system's clock looks the same."""

_Key = tuple[Identity | None, int | None, int | None, str | None]


class MapReader:
    """Maps images, and maps again only those that have changed."""

    def __init__(self, most: int = MOST_PARTS) -> None:
        self._most = most
        self._known: dict[_Key, LayerMap] = {}
        self._kept = 0
        self._lock = threading.Lock()

    def read(self, images: Iterable[Image]) -> dict[str, LayerMap]:
        """Map each of some images by itself; those that are not local or have no known format are left out."""
        wanted = {image.path: image for image in images if self.can(image)}
        room = self._room(wanted)
        foreign = [image for image in wanted.values() if not can_open(image)]
        found: dict[str, LayerMap] = {}
        maps = in_threads(lambda image: self._one(image, room, by_qemu), foreign, _AT_ONCE)
        found.update({image.path: layer for image, layer in zip(foreign, maps, strict=True)})
        for path, image in wanted.items():
            if path not in found:
                found[path] = self._one(image, room, by_tables)
        return found

    def _room(self, wanted: Iterable[str]) -> Callable[[int], None]:
        left = self._most

        def take(parts: int) -> None:
            nonlocal left
            with self._lock:
                left -= parts
            if left < 0:
                why = t("the maps have more than {most} parts, which is the limit", most=self._most)
                raise unreadable(t("map {image}", image=listed(wanted)), why)

        return take

    @staticmethod
    def can(image: Image) -> bool:
        """Return whether an image can be mapped: it was read, with its data file, and no key is needed."""
        return (
            image.status in OPENABLE
            and image.known_from == "file"
            and image.format is not None
            and image.virtual_size is not None
            and image.path.startswith("/")
            and image.encryption is None
            and image.data_status in {None, "ok"}
        )

    def _one(self, image: Image, room: Callable[[int], None], read: Callable[[Image, LayerParser], None]) -> LayerMap:
        key = (image.identity, image.mtime_ns, image.file_size, image.format)
        known = self._known.get(key) if image.identity is not None and image.held != "write" else None
        if known is None:
            parser = LayerParser(image, t("map {image}", image=image.path), room)
            read(image, parser)
            known = parser.layer()
            if image.mtime_ns is not None and time.time_ns() - image.mtime_ns > _FRESH:
                self._keep(key, known)
        if known.path != image.path:
            known = LayerMap(image.path, known.size, known.extents, known.cluster_size)
        return known

    def _keep(self, key: _Key, layer: LayerMap) -> None:
        """Keep a map, and no more parts of all of them than may be read at once: the oldest go."""
        with self._lock:
            if key not in self._known:
                self._known[key] = layer
                self._kept += len(layer.extents)
            while self._kept > self._most:
                oldest = next(iter(self._known))
                self._kept -= len(self._known.pop(oldest).extents)


def by_tables(image: Image, parser: LayerParser) -> None:
    """Map an image from its own tables."""
    with open_layer(image) as layer:
        _take(layer, parser)


def map_inside(image: Image, snapshot: str) -> LayerMap:
    """Map what an internal snapshot of an image holds, named by its ID: the disk may have had another size then."""
    with open_layer(image, snapshot=snapshot) as layer:
        parser = LayerParser(replace(image, virtual_size=layer.size), t("map {image}", image=image.path))
        _take(layer, parser)
    return parser.layer()


def _take(layer: Layer, parser: LayerParser) -> None:
    def take(pieces: Iterator[Piece]) -> None:
        parser.add(pieces)
        parser.check()

    map_layer(layer, parser.restart, take)


def by_qemu(image: Image, parser: LayerParser) -> None:
    """Map an image of any format that QEMU knows."""
    argv = map_argv(image.path, image.format or "raw")
    read_map(argv, tried=t("map {image}", image=image.path), each=parser.take, check=parser.check)
