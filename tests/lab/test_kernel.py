"""A kernel is taken out of what the distribution packs it in."""

from __future__ import annotations

import gzip
import struct

import pytest

from vmsnap_nb.errors import ImageError
from vmsnap_nb.lab.kernel import unpack_kernel


def bzimage(payload: bytes, *, version: int = 0x20F, length: int | None = None) -> bytes:
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x202:0x208] = b"HdrS" + version.to_bytes(2, "little")
    head[0x248:0x250] = struct.pack("<II", 16, len(payload) if length is None else length)
    return bytes(head) + b"starts here ... " + payload


def test_a_kernel_is_unpacked_or_refused() -> None:
    kernel = b"\x7fELF and the rest" * 999
    packed = gzip.compress(kernel)
    assert unpack_kernel(bzimage(packed) + b"what follows") == kernel
    old = bytearray(bzimage(packed))
    old[0x1F1] = 0
    assert unpack_kernel(bytes(old[:1024] + bytes(3 * 512) + old[1024:])) == kernel
    for broken, said in (
        (b"", "damaged"),
        (kernel, "not a bzImage"),
        (bzimage(packed, version=0x207), "not a bzImage"),
        (bzimage(b"\xfd7zXZ\0" + packed), "not compressed with gzip"),
        (bzimage(packed[:9] + b"\xff" * 99), "not compressed with gzip"),
        (bzimage(packed, length=len(packed) // 2), "truncated"),
        (bzimage(gzip.compress(b"#!/bin/sh")), "not an ELF file"),
        (bzimage(packed)[:700], "damaged|truncated"),
    ):
        with pytest.raises(ImageError, match=said):
            unpack_kernel(broken)
