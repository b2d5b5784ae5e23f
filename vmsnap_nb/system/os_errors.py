"""The one border at which errors of the operating system become ours."""

from __future__ import annotations

import errno

from vmsnap_nb.errors import NoSpaceError, NotFoundError, PermissionDeniedError, VmsnapError

__all__ = ["from_os_error"]


def from_os_error(error: OSError, tried: str) -> VmsnapError:
    """Give the error of this package that says the same.

    Parameters
    ----------
    error : OSError
        What the system raised.
    tried : str
        What was tried, as a sentence without a full stop.

    Returns
    -------
    VmsnapError
        To be raised ``from`` the system's.
    """
    said = error.strerror or str(error)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return NoSpaceError(tried, said=said, next_step="make room on that file system and try again")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return PermissionDeniedError(
                tried, said=said, next_step="check the owner and mode of the file and its folder"
            )
        case errno.ENOENT:
            return NotFoundError(tried, said=said, next_step="check the path")
        case errno.EEXIST | errno.ENOTEMPTY:
            return VmsnapError(tried, said=said, next_step="give another name; nothing is ever overwritten")
    return VmsnapError(tried, said=said)
