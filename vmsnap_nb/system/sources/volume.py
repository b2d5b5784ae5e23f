"""A volume of a storage pool behind a libvirt connection as a source, also on another machine.

Source: https://libvirt.org/html/libvirt-libvirt-storage.html (virStorageVolDownload, virStorageVolGetInfoFlags).
"""

from __future__ import annotations

import contextlib
import shlex
from typing import Any

from vmsnap_nb.errors import ImageError, NotFoundError
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.sources.source import Source
from vmsnap_nb.words.message import t

__all__ = ["VolumeSource", "open_volume"]

_PIECE = 256 << 10
"""Bytes in a message of libvirt's stream, at most."""


class VolumeSource(Source):
    """A volume, read range by range: each read is a download of its own, so larger ones are faster."""

    def __init__(self, connection: Any, volume: Any, *, size: int | None = None, name: str = "") -> None:
        self._connection, self._volume, self._size, self._given = connection, volume, size, name

    @property
    def name(self) -> str:  # type: ignore[override]
        """What it is called in errors: as given, or with its pool."""
        if not self._given:
            with libvirt_errors(t("find a volume")):
                pool = self._volume.storagePoolLookupByVolume().name()
                self._given = t("volume {volume} of pool {pool}", volume=self._volume.name(), pool=pool)
        return self._given

    @property
    def size(self) -> int:
        """Bytes of the volume's file or device: as given, or now, whatever size of disk it describes."""
        if self._size is not None:
            return self._size
        with libvirt_errors(t("read the size of {image}", image=self.name)):
            return int(self._volume.infoFlags(library().VIR_STORAGE_VOL_GET_PHYSICAL)[2])

    def pread(self, offset: int, length: int) -> bytes:
        """Return the bytes at an offset, fewer only where the volume ends."""
        length = min(length, self.size - offset)
        if length <= 0:  # a length of 0 would mean all that is left
            return b""
        found = bytearray()
        with libvirt_errors(t("read {image}", image=self.name)):
            stream = self._connection.newStream(0)
            try:
                self._volume.download(stream, offset, length, 0)
                while len(found) < length:
                    piece = stream.recv(min(_PIECE, length - len(found)))
                    if not piece:
                        break
                    found += piece
                # The end of the stream is a message of its own, and errors come with it.
                while len(found) >= length and stream.recv(_PIECE):
                    pass
                stream.finish()
            except BaseException:
                with contextlib.suppress(library().libvirtError):
                    stream.abort()
                raise
        return bytes(found)


def open_volume(connection: Any, image: Image, uri: str) -> VolumeSource:
    """Return the source of an image that is a volume of one of a connection's storage pools."""
    tried = t("read {image} through the libvirt at {uri}", image=image.path, uri=uri)
    if image.data_file is not None:
        raise ImageError(
            tried,
            why=t("its data is in a separate file, {file}", file=image.data_file.written),
            next_step=t("run this on the machine where the file is stored, as a user who can read it"),
        )
    try:
        with libvirt_errors(tried):
            volume = connection.storageVolLookupByPath(image.path)
            size = VolumeSource(connection, volume, name=image.path).size
            return VolumeSource(connection, volume, size=size, name=image.path)
    except NotFoundError as error:
        folder = image.path.rpartition("/")[0] or "/"
        command = shlex.join(("virsh", "-c", uri, "pool-create-as", "images", "dir", "--target", folder))
        raise ImageError(
            tried,
            why=t("no active storage pool of that libvirt contains it"),
            next_step=t("create a storage pool for its folder: {command}", command=command),
        ) from error
