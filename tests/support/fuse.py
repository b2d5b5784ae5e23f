"""A file that another user provides: the program of that user says whose it is, and what is in it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

_IN, _OUT = struct.Struct("=IIQQ4I"), struct.Struct("=IiQ")
_INIT = struct.Struct("=4I2H2I2HI28x")
_ATTRIBUTES = struct.Struct("=QII6Q10I")
_GETATTR, _OPEN, _READ, _INTERRUPTED, _STARTS, _NO_ANSWER = 3, 14, 15, 36, 26, (2, 36, 42)


@contextlib.contextmanager
def provided(path: Path, content: bytes, *, by: int, uid: int = 0, mode: int = 0o1644) -> Iterator[None]:
    """Mount a file in the place of one, for `by`: it has the owner and mode that are told (fuse(4))."""
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"no FUSE here: {error}")
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fd},rootmode={stat.S_IFREG:o},user_id={by},group_id={by},allow_other".encode()
    path.touch()
    if libc.mount(b"lies", os.fsencode(path), b"fuse", 0, options):
        os.close(fd)
        pytest.skip(f"no FUSE here: {os.strerror(ctypes.get_errno())}")
    server = threading.Thread(target=_serve, args=(fd, content, uid, stat.S_IFREG | mode), daemon=True)
    server.start()
    try:
        yield
    finally:
        libc.umount2(os.fsencode(path), 2)
        server.join(5)
        os.close(fd)


def _serve(fd: int, content: bytes, uid: int, mode: int) -> None:
    while True:
        try:
            request = os.read(fd, 1 << 18)
        except OSError:
            return
        _, what, number, *_ = _IN.unpack_from(request)
        if what in _NO_ANSWER:
            continue
        answer = _answer(what, request[_IN.size :], content, uid, mode)
        failed = 0 if answer is not None else -errno.ENOSYS
        with contextlib.suppress(OSError):
            os.write(fd, _OUT.pack(_OUT.size + len(answer or b""), failed, number) + (answer or b""))


def _answer(what: int, request: bytes, content: bytes, uid: int, mode: int) -> bytes | None:
    if what == _STARTS:
        return _INIT.pack(7, 31, 0, 0, 0, 0, 1 << 16, 1, 0, 0, 0)
    if what == _GETATTR:
        return _ATTRIBUTES.pack(0, 0, 0, 1, len(content), 8, 0, 0, 0, 0, 0, 0, mode, 1, uid, uid, 0, 4096, 0)
    if what == _OPEN:
        return bytes(16)
    if what == _READ:
        _, offset, size = struct.unpack_from("=QQI", request)
        return content[offset : offset + size]
    return None
