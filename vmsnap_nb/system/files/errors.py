"""The one border at which errors of the operating system become ours."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from vmsnap_nb.errors import NoSpaceError, NotFoundError, PermissionDeniedError, VmsnapError
from vmsnap_nb.words.message import Message, t

__all__ = ["from_os_error", "named_error", "os_errors"]

_LIMITED = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}
_NO_THREAD = "can't start new thread"


def from_os_error(error: OSError, tried: Message) -> VmsnapError:
    """Return the error of vmsnap_nb that says the same, to be raised ``from`` the system's."""
    said = error.strerror or str(error)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return NoSpaceError(tried, said=said, next_step=t("free space on that file system and try again"))
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return PermissionDeniedError(
                tried, said=said, next_step=t("check the owner and mode of the file and its folders")
            )
        case errno.ENOENT:
            return NotFoundError(tried, said=said, next_step=t("check the path"))
        case errno.EEXIST | errno.ENOTEMPTY:
            return VmsnapError(
                tried, said=said, next_step=t("choose another name, because existing files are not overwritten")
            )
        case errno.ENOTDIR:
            return VmsnapError(tried, said=said, next_step=t("check the path"))
        case errno.ELOOP:
            return VmsnapError(tried, said=said, next_step=t("use a path without symbolic links"))
        case errno.EIO:
            return VmsnapError(tried, said=said, next_step=t("check the storage device; dmesg shows its errors"))
        case errno.EISDIR:
            return VmsnapError(tried, said=said, next_step=t("move the folder with that name away, then try again"))
    return VmsnapError(tried, said=said, next_step=_raise_limits() if error.errno in _LIMITED else None)


def named_error(error: Exception, tried: Message) -> Exception:
    """Return an error that says that the system gave no more files, memory or threads as one of ours, others as is."""
    if isinstance(error, OSError):
        return from_os_error(error, tried)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and str(error) == _NO_THREAD):
        said = str(error) or t("out of memory")
        return VmsnapError(tried, said=said, next_step=_raise_limits())
    return error


def _raise_limits() -> Message:
    return t("end other programs, or raise the limits of this process (see ulimit -a), then try again")


@contextmanager
def os_errors(tried: Message) -> Iterator[None]:
    """Raise errors of the operating system as those of vmsnap_nb."""
    try:
        yield
    except OSError as error:
        raise from_os_error(error, tried) from error
