"""One image file, opened read-only and read once: its format and fields by its own content."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import Any

from vmsnap_nb.model.identity import Identity
from vmsnap_nb.model.image import NO_FILE, Image, Status
from vmsnap_nb.system.base_record import read_base_record
from vmsnap_nb.system.files.devices import device_size, identity_of, is_writable_device
from vmsnap_nb.system.files.locks import Held, held
from vmsnap_nb.system.files.taken import bytes_on_disk
from vmsnap_nb.system.qcow2.directories import Room
from vmsnap_nb.system.qcow2.end import image_end
from vmsnap_nb.system.qcow2.format import MAGIC
from vmsnap_nb.system.qcow2.header import read_qcow2
from vmsnap_nb.system.saved_memory import SAVED, SAVED_MEMORY
from vmsnap_nb.system.signatures import guess_format
from vmsnap_nb.words.message import N_, t

__all__ = [
    "Stamp",
    "as_raw",
    "not_a_file",
    "read_image",
    "stamp",
    "unopened_device",
    "was_read",
    "with_lock",
]

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
    (stat.S_ISDIR, N_("it is a folder")),
    (stat.S_ISFIFO, N_("it is a FIFO")),
    (stat.S_ISSOCK, N_("it is a socket")),
    (stat.S_ISBLK, N_("it is a block device")),
    (stat.S_ISCHR, N_("it is a character device")),
)
_NO_FILE = N_("it is not a regular file")
NO_FORMAT = N_("its format is not recognized. If it is a raw disk, specify the format: raw")


def stamp(status: os.stat_result) -> Stamp:
    """Return what tells whether a file is still the one that was read."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_blocks,
    )


def _raw_size(file_size: int) -> int:
    """Return the virtual size of a raw image: its length, rounded up to a sector as QEMU does. In bytes."""
    return (file_size + 511) & ~511


def read_image(
    path: str, folder: str, target: str | None = None, *, device: bool = False, room: Room | None = None
) -> tuple[Image, Stamp | None]:
    """Read one file; return its image and its stamp, which is None where it could not be read.

    `folder` is the folder part of `path`, `target` where `path` leads if it is a symbolic link; what is opened is never
    itself a link. The image's `format` is None where the content does not tell it, and ``qcow2`` images are complete.
    Of other formats only `format` is known. `room` is what all images that are read together may take.

    A block device is read only if `device` says so. It has no stamp: nothing of it changes when its content does.
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
        if device and stat.S_ISBLK(mode):
            size = os.lseek(fd, 0, os.SEEK_END)
        elif mode & _KIND != stat.S_IFREG:
            return not_a_file(path, status), None
        head = os.pread(fd, _HEAD, 0)
        if head.startswith(_QCOW2):
            fields = read_qcow2(lambda offset, length: os.pread(fd, length, offset), head, size, folder, room)
        else:
            format = guess_format(head)
            if format == "qcow2":
                fields = read_qcow2(lambda offset, length: os.pread(fd, length, offset), head, size, folder, room)
            elif format is None:
                fields = {"status": "unknown", "problem": t(SAVED_MEMORY if head.startswith(SAVED) else NO_FORMAT)}
            else:
                fields = {"format": format}
        if (backing := fields.get("backing")) is not None:
            fields["base_record"] = read_base_record(fd, backing)
        holds = held(fd)
        end = image_end(fd, head, size) if device and fields.get("format") == "qcow2" and _is_whole(fields) else size
    except OSError as error:
        return _failed(path, error), None
    finally:
        os.close(fd)
    if device:
        return _device(path, status, size, fields, end, holds), None
    mark = stamp(status)
    fields["path"] = path
    fields["allocated"] = bytes_on_disk(status)
    fields["identity"] = mark[:2]
    fields["file_size"] = size
    fields["mtime_ns"] = mark[3]
    if holds:
        fields["held"] = holds
    if not mode & _WRITE:
        fields["writable"] = False
    if status.st_nlink > 1:
        fields["link"] = _link(path if target is None else target)
    return Image.build(fields), mark


def _link(path: str) -> Identity | None:
    """Return which of the hard links of a file a name is: the folder, and the name in it."""
    try:
        folder = os.stat(os.path.dirname(path))
    except OSError:
        return None
    return (*identity_of(folder), os.path.basename(path))


def _is_whole(fields: dict[str, Any]) -> bool:
    return fields.get("status") not in {"corrupt", "unsupported"}


def _device(
    path: str, status: os.stat_result, size: int, fields: dict[str, Any], end: int | None, holds: Held
) -> Image:
    """Return the image on a block device: what it takes is all of it, or of a qcow2 image what is before its end."""
    return Image(
        **{
            **fields,
            "path": path,
            "allocated": end,
            "identity": identity_of(status),
            "file_size": size,
            "mtime_ns": None,
            "held": holds,
            "writable": is_writable_device(status),
            "device": True,
        }
    )


def unopened_device(path: str, status: os.stat_result) -> Image:
    """Return the image that stands for a block device that only a header names: it is not opened."""
    return Image(
        path,
        status="outside",
        problem=t(
            "it is a block device that only a header names, so it was not opened. To read it, also read its folder"
        ),
        identity=identity_of(status),
        file_size=device_size(status),
        writable=is_writable_device(status),
        device=True,
    )


def with_lock(image: Image, target: str | None = None) -> Image:
    """Return an image that was read before and has not changed, with the lock that is on it now.

    `target` is where its path leads if it is a symbolic link.
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


def was_read(image: Image) -> bool:
    """Return whether an image was opened."""
    return image.identity is not None and image.status not in {"not-a-file", "outside", "remote", "unreadable"}


def as_raw(image: Image) -> Image:
    """Return a file that is taken for a raw image, whatever it contains."""
    return Image(
        image.path,
        "raw",
        virtual_size=None if image.file_size is None else _raw_size(image.file_size),
        allocated=image.file_size if image.device else image.allocated,
        device=image.device,
        identity=image.identity,
        file_size=image.file_size,
        mtime_ns=image.mtime_ns,
        writable=image.writable,
        held=image.held,
        link=image.link,
        # libvirt calls it raw and has the key, or the guest has encrypted it by itself.
        encryption="luks" if image.format == "luks" else None,
    )


def not_a_file(path: str, status: os.stat_result) -> Image:
    """Return the image that stands for a folder, FIFO, socket or device: these are never opened."""
    problem = next((problem for test, problem in _KINDS if test(status.st_mode)), _NO_FILE)
    return Image(path, status="not-a-file", problem=t(problem), identity=identity_of(status))


def _failed(path: str, error: OSError) -> Image:
    said = error.strerror or str(error)
    state: Status = "unreadable"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        state, problem = "missing", t(NO_FILE)
    elif isinstance(error, PermissionError):
        problem = t(
            "the current user has no permission to read it: {error}. Check the owner and mode of the file and its "
            "folders",
            error=said,
        )
    else:
        problem = t("it cannot be read: {error}", error=said)
    return Image(path, status=state, problem=problem, identity=_unopened(path))


def _unopened(path: str) -> Identity | None:
    """Return which file a name leads to that cannot be opened."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return identity_of(status) if stat.S_ISREG(status.st_mode) else None
