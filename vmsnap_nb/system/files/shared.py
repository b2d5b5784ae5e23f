"""Which bytes of a file other files have as well, on file systems that share extents: XFS, Btrfs, bcachefs."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import sys

__all__ = ["shared_bytes"]

_FIEMAP = 0xC020660B
_HEAD, _EXTENT = struct.Struct("=QQIIII"), struct.Struct("=QQQQQIIII")
_LAST, _SHARED = 0x0001, 0x2000
_AT_ONCE, _MOST = 2048, 1_000_000
_END = (1 << 64) - 1


def shared_bytes(path: str) -> int | None:
    """Return the bytes of a file that are not free without it, since other files share them; None if not known.

    A file system that cannot say it shares none. Source: Linux, Documentation/filesystems/fiemap.rst.
    """
    if sys.platform != "linux":
        return 0
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _shared(fd) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)


def _shared(fd: int) -> int | None:
    total = start = 0
    for _ in range(_MOST // _AT_ONCE):
        request = bytearray(_HEAD.size + _AT_ONCE * _EXTENT.size)
        _HEAD.pack_into(request, 0, start, _END - start, 0, 0, _AT_ONCE, 0)
        try:
            fcntl.ioctl(fd, _FIEMAP, request)
        except OSError:
            return 0
        count = _HEAD.unpack_from(request)[3]
        for number in range(count):
            logical, _, length, _, _, flags, *_ = _EXTENT.unpack_from(request, _HEAD.size + number * _EXTENT.size)
            total += length if flags & _SHARED else 0
            start = logical + length
            if flags & _LAST:
                return total
        if not count:
            return total
    return None
