"""One image file, opened for reading only and read once: what it is by its own content."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import Any

from vmsnap_nb.model.image import Image, Status
from vmsnap_nb.system.locks import held
from vmsnap_nb.system.magic import guess_format
from vmsnap_nb.system.qcow2 import read_qcow2
from vmsnap_nb.system.qcow2_format import MAGIC

__all__ = ["Stamp", "not_a_file", "raw_size", "read_image", "stamp", "with_lock"]

Stamp = tuple[int, int, int, int, int, int]
"""What changes when a file does: device, inode, length, time of change of content and of status, blocks."""

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW
_HEAD = 1024
"""Bytes. The headers of nearly all images end within them; more is read of those that do not."""
_QCOW2 = (MAGIC + b"\0\0\0\2", MAGIC + b"\0\0\0\3")
"""What nearly all images begin with."""
_KIND = 0o170000
_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)
NO_FORMAT = "it begins like no format that is known here; if it is a raw disk, give the format: raw"


def stamp(status: os.stat_result) -> Stamp:
    """Give what tells whether a file is still the one that was read."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_blocks,
    )


def raw_size(file_size: int) -> int:
    """Give the virtual size of a raw image: its length, rounded up to a sector as QEMU does. In bytes."""
    return (file_size + 511) & ~511


def read_image(path: str, folder: str, target: str | None = None) -> tuple[Image, Stamp | None]:
    """Read one file.

    Parameters
    ----------
    path : str
        Absolute path under which it is known.
    folder : str
        The folder part of `path`.
    target : str, optional
        Where `path` leads if it is a symbolic link; what is opened is never itself a link.

    Returns
    -------
    image : Image
        Its `format` is None where the content does not tell it, and ``qcow2`` images are complete. Of other formats
        only `format` is known.
    stamp : tuple of int or None
        To see later whether it has changed; None where it could not be read.
    """
    try:
        fd = os.open(path if target is None else target, _FLAGS)
    except OSError as error:
        return _failed(path, error), None
    try:
        status = os.fstat(fd)
        size = status.st_size
        fields: dict[str, Any]
        mode = status.st_mode
        if mode & _KIND != stat.S_IFREG:
            return not_a_file(path, status), None
        head = os.pread(fd, _HEAD, 0)
        if head.startswith(_QCOW2):
            fields = read_qcow2(fd, head, size, folder)
        else:
            format = guess_format(head)
            if format == "qcow2":
                fields = read_qcow2(fd, head, size, folder)
            elif format is None:
                fields = {"status": "unknown", "problem": NO_FORMAT}
            else:
                fields = {"format": format}
        holds = held(fd)
    except OSError as error:
        return _failed(path, error), None
    finally:
        os.close(fd)
    mark = stamp(status)
    fields["path"] = path
    fields["allocated"] = mark[5] * 512
    fields["identity"] = mark[:2]
    fields["file_size"] = size
    fields["mtime_ns"] = mark[3]
    if holds:
        fields["held"] = holds
    if not mode & _WRITE:
        fields["writable"] = False
    return Image.build(fields), mark


def with_lock(image: Image, target: str | None = None) -> Image:
    """Give an image that was read before and has not changed, with the lock that is on it now.

    Parameters
    ----------
    image : Image
        As it was read.
    target : str, optional
        Where its path leads if it is a symbolic link.
    """
    try:
        fd = os.open(image.path if target is None else target, _FLAGS)
    except OSError:
        return image
    try:
        holds = held(fd)
    finally:
        os.close(fd)
    return image if holds == image.held else replace(image, held=holds)


def not_a_file(path: str, status: os.stat_result) -> Image:
    """Give the image that stands for a folder, FIFO, socket or device: these are never opened."""
    kind = next((name for test, name in _KINDS if test(status.st_mode)), "no regular file")
    return Image(path, status="not-a-file", problem=f"it is {kind}", identity=(status.st_dev, status.st_ino))


def _failed(path: str, error: OSError) -> Image:
    said = error.strerror or str(error)
    state: Status = "unreadable"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        state, problem = "missing", "there is no such file"
    elif isinstance(error, PermissionError):
        problem = f"it may not be read by this user: {said}; check the owner and mode of the file and its folders"
    else:
        problem = f"it cannot be read: {said}"
    return Image(path, status=state, problem=problem)
