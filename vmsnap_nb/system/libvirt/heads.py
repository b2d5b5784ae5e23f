"""Reads the headers of volumes of a libvirt connection, and remembers them as long as the files do not change.

Source: https://libvirt.org/formatstorage.html (``timestamps``, which libvirt reads anew for each request).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import Any

from vmsnap_nb.model.image import Image
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.system.qcow2.header import read_qcow2
from vmsnap_nb.system.signatures import guess_format
from vmsnap_nb.system.sources.volume import VolumeSource

__all__ = ["Heads", "VolumeXml"]

_HEAD = 4096
"""Bytes at the beginning of a volume that are read: of nearly all images the header with all of its extensions."""
_FRESH = 0.02
"""Seconds: the clocks of file systems go in steps of up to 10 ms, so what has just changed is read again."""
_MOST = 20_000
"""Headers that are remembered."""


@dataclass(frozen=True)
class VolumeXml:
    """The XML of a volume, and when it was there, by the monotonic clock of this process."""

    text: str
    at: float

    def state(self) -> tuple[str, ...] | None:
        """Return what changes whenever the file is written to; None of a device, and where libvirt does not say it."""
        volume = parse_xml(self.text)
        found = [volume.findtext(name) for name in ("target/timestamps/mtime", "target/timestamps/ctime", "physical")]
        if volume.get("type") != "file" or None in found:
            return None
        return tuple(map(str, found))


class Heads:
    """The headers that were read over one connection."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {}  # by path: state of the file, and fields

    def known(self, image: Image, xml: VolumeXml) -> Image | None:
        """Return the image with its header, if that was read before and the file has not changed since."""
        known = self._read.get(image.path)
        return replace(image, **known[1]) if known is not None and known[0] == xml.state() else None

    def read(self, image: Image, connection: Any, volume: Any, xml: VolumeXml) -> Image:
        """Return the image with what its first bytes tell."""
        began = time.monotonic()
        with VolumeSource(connection, volume, size=image.file_size, name=image.path) as source:
            fields = _fields(image, source)
        state = xml.state()
        if state is not None and began - xml.at > _FRESH:
            while len(self._read) >= _MOST:
                self._read.pop(next(iter(self._read)), None)
            self._read[image.path] = state, fields
        return replace(image, **fields)


def _fields(image: Image, source: VolumeSource) -> dict[str, Any]:
    head, size = source.pread(0, _HEAD), source.size
    guess = guess_format(head)
    if image.device and image.format is None and head:
        image = replace(image, format="qcow2" if guess == "qcow2" else "raw")
    if guess != "qcow2" or image.format != "qcow2":
        return {"format": image.format, "known_from": "volume data"} if head else {}
    fields = read_qcow2(source.pread, head, size, os.path.dirname(image.path))
    told = {name: value for name, value in fields.items() if value is not None}
    return {"backing": None, "file_size": size, "format": "qcow2", **told, "known_from": "volume data"}
