"""The one border at which errors of the operating system become ours."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from vmsnap_nb.errors import NoSpaceError, NotFoundError, PermissionDeniedError, VmsnapError
from vmsnap_nb.words.message import Message, t

__all__ = ["from_os_error", "os_errors"]


def from_os_error(error: OSError, tried: Message) -> VmsnapError:
    """Return the error of this package that says the same, to be raised ``from`` the system's."""
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
            return VmsnapError(tried, said=said, next_step=t("choose another name; existing files are not overwritten"))
    return VmsnapError(tried, said=said)


@contextmanager
def os_errors(tried: Message) -> Iterator[None]:
    """Raise errors of the operating system as those of this package."""
    try:
        yield
    except OSError as error:
        raise from_os_error(error, tried) from error
