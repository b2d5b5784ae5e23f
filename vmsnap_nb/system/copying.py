"""Copies image files: holes stay holes, blocks are shared where the file system can, and nothing half-made is left."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.system.os_errors import from_os_error

__all__ = ["copy_file"]

_AT_ONCE = 8 << 20
# What copy_file_range says where it cannot do it: another file system, or one that is not able to.
_NO_RANGES = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def copy_file(source: Path, target: Path, *, sha256: str = "") -> str:
    """Copy a file under another name first, so that a half-made one never has the right name.

    Parameters
    ----------
    source, target : pathlib.Path
        `target` is replaced if it is there.
    sha256 : str
        The digest of the content, without which the copy is thrown away; empty where any content will do.

    Returns
    -------
    str
        The digest that was found, or an empty text if none was asked for.

    Raises
    ------
    NotFoundError
        No such file.
    NoSpaceError, PermissionDeniedError
        It cannot be copied.
    """
    partial = target.with_name(f".{uuid.uuid4().hex}.partial")
    tried = f"copy {source} to {target}"
    found = ""
    try:
        try:
            with open(source, "rb") as old, open(partial, "xb") as new:
                _copy(old.fileno(), new.fileno())
                os.fsync(new.fileno())
            if sha256:
                with open(partial, "rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            if found == sha256:
                partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except FileNotFoundError as error:
        raise NotFoundError(tried, said=error.strerror, next_step="check the path") from error
    except OSError as error:
        raise from_os_error(error, tried) from error
    return found


def _copy(old: int, new: int) -> None:
    size = os.fstat(old).st_size
    os.ftruncate(new, size)
    for start, end in _data(old, size):
        at = start
        while at < end:
            count = _range(old, new, at, min(end - at, _AT_ONCE))
            if not count:
                return  # it has become shorter meanwhile
            at += count


def _data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Give where a file has data: the rest is holes."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # a hole up to the end
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end


def _range(old: int, new: int, at: int, size: int) -> int:
    try:
        return os.copy_file_range(old, new, size, at, at)
    except OSError as error:
        if error.errno not in _NO_RANGES:
            raise
    return os.pwrite(new, os.pread(old, size, at), at)
