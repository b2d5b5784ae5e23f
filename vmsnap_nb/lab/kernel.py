"""Unpacks a Linux kernel, so that no guest has to do it at each start: without KVM that takes a fifth of the start.

Sources: the kernel's Documentation/arch/x86/boot.rst for the packed form; for the other, which QEMU starts by its note
of a "PVH" entry, https://xenbits.xen.org/docs/unstable/misc/pvh.html.
"""

from __future__ import annotations

import struct
import zlib

from vmsnap_nb.errors import ImageError
from vmsnap_nb.words.message import t

__all__ = ["unpack_kernel"]

_MAGIC_AT, _MAGIC = 0x202, b"HdrS"
_SECTORS_AT, _VERSION_AT, _PAYLOAD_AT = 0x1F1, 0x206, 0x248
_HAS_PAYLOAD = 0x208
"""Since version 2.08 of the boot protocol the header tells where the packed kernel lies."""
_GZIP = 31  # zlib: with a gzip header
_MOST = 256 << 20


def unpack_kernel(packed: bytes) -> bytes:
    """Return the ELF file in a bzImage that was packed by gzip."""
    tried = t("unpack a kernel")
    try:
        (version,) = struct.unpack_from("<H", packed, _VERSION_AT)
        if packed[_MAGIC_AT : _MAGIC_AT + 4] != _MAGIC or version < _HAS_PAYLOAD:
            raise ImageError(tried, why=t("it is not a bzImage with a recorded payload position"))
        offset, length = struct.unpack_from("<II", packed, _PAYLOAD_AT)
        start = ((packed[_SECTORS_AT] or 4) + 1) * 512 + offset  # 0 means 4, for old kernels
        reader = zlib.decompressobj(_GZIP)
        kernel = reader.decompress(packed[start : start + length], _MOST)
    except (struct.error, IndexError, zlib.error) as error:
        raise ImageError(tried, why=t("it is damaged, or not compressed with gzip: {error}", error=error)) from error
    if not reader.eof:
        raise ImageError(tried, why=t("it is truncated, or larger than any kernel"))
    if not kernel.startswith(b"\x7fELF"):
        raise ImageError(tried, why=t("its payload is not an ELF file"))
    return kernel
