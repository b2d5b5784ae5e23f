"""Copies image files: holes stay holes, blocks are shared where the file system can, and nothing half-made is left."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.system.files.identity import SameFile
from vmsnap_nb.system.files.permission import permission_of
from vmsnap_nb.system.files.temporary import publish, publish_new, temporary
from vmsnap_nb.words.message import t

__all__ = ["copy_content", "copy_file", "copy_same"]

_AT_ONCE = 8 << 20
# What copy_file_range says where it cannot do it: another file system, or one that is not able to.
_NO_RANGES = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def copy_file(source: Path, target: Path, *, sha256: str = "", check: Callable[[str], object] | None = None) -> str:
    """Copy a file under another name first, so that a half-made one never has the right name.

    With a digest given, a copy of other content is thrown away, and the digest that was found is returned. So is a copy
    for which `check` raises: whoever may write to the file can change it while it is copied.
    """
    tried = t("copy {source} to {target}", source=source, target=target)
    found = ""
    try:
        with open(source, "rb", opener=_regular) as old, temporary(str(target.parent)) as new:
            copy_content(old.fileno(), new.fd)
            if sha256:
                with open(new.fd, "rb", closefd=False) as file:
                    file.seek(0)
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            permission_of(old.fileno()).give(new.fd, most=0o644, owner=False)
            if check is not None:
                check(new.path)
            if found == sha256:
                publish(new, str(target))
    except FileNotFoundError as error:
        raise NotFoundError(tried, said=error.strerror, next_step=t("check the path")) from error
    except OSError as error:
        raise from_os_error(error, tried) from error
    return found


def _regular(path: str, flags: int) -> int:
    """Open a file without waiting; OSError for what has no end, or none that is known."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    return fd


def copy_same(file: SameFile, target: str, *, whole: bool = False) -> Identity:
    """Copy a file that was found, whatever has its name by now; return which file the copy is.

    With `whole` it gets owner, permission bits and times of the file: bits that let a program run as its owner are left
    out. Nothing is overwritten.
    """
    with file.opened() as old, temporary(os.path.dirname(target)) as new:
        copy_content(old, new.fd)
        found = os.fstat(old)
        if whole:
            permission_of(old).give(new.fd, most=0o777, least=0)
            os.utime(new.fd, ns=(found.st_atime_ns, found.st_mtime_ns))
        else:
            permission_of(old).give(new.fd, most=0o644, owner=False)
        publish_new(new, target)
        made = os.fstat(new.fd)
    return made.st_dev, made.st_ino


def copy_content(old: int, new: int) -> None:
    """Copy what one descriptor has to another; holes stay holes."""
    size = os.fstat(old).st_size
    os.ftruncate(new, size)
    for start, end in _data(old, size):
        at = start
        while at < end:
            count = _range(old, new, at, min(end - at, _AT_ONCE))
            if not count:
                raise OSError(None, t("the file became shorter while it was copied"))
            at += count


def _data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Return where a file has data: the rest is holes."""
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
        if count := os.copy_file_range(old, new, size, at, at):
            return count  # some file systems say 0 where they cannot do it (man 2 copy_file_range)
    except OSError as error:
        if error.errno not in _NO_RANGES:
            raise
    return os.pwrite(new, os.pread(old, size, at), at)
