"""Compressed clusters, as QEMU's block/qcow2-threads.c reads them: never more than a cluster comes out of one."""

from __future__ import annotations

import io
import zlib

from vmsnap_nb.errors import MissingPartError
from vmsnap_nb.words.message import t

__all__ = ["decompress"]

_ZLIB_WINDOW = -12
"""Bits; negative for data without a header of zlib's."""
_ZSTD_WINDOW = 8 << 20
"""Bytes of memory that a compressed cluster may ask for: QEMU's, of at most 2 MiB, ask for no more than that."""


def decompress(data: bytes, length: int, compression: str) -> bytes | None:
    """Return a cluster from its compressed bytes, which others may follow; None if they are bad."""
    found = _zstd(data, length) if compression == "zstd" else _zlib(data, length)
    return found if found is not None and len(found) == length else None


def _zlib(data: bytes, length: int) -> bytes | None:
    try:
        return zlib.decompressobj(_ZLIB_WINDOW).decompress(data, length)
    except zlib.error:
        return None


def _zstd(data: bytes, length: int) -> bytes | None:
    try:
        import zstandard
    except ImportError as error:
        raise MissingPartError(
            t("read a cluster that is compressed with zstd"),
            said=str(error),
            next_step=t("install it: {commands}", commands="pip install zstandard"),
        ) from error
    try:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        # It can be several frames, and what follows the last one in its sector is not of it.
        return decompressor.stream_reader(io.BytesIO(data), read_across_frames=True).read(length)
    except (zstandard.ZstdError, MemoryError):
        return None
