"""Sizes as people type them."""

from __future__ import annotations

import re

from vmsnap_nb.errors import InvalidRequestError

__all__ = ["Size", "in_bytes"]

Size = int | str
"""Bytes, or a number with one of QEMU's suffixes, as ``"20G"``."""

_SUFFIXES = "BKMGTPE"
_SIZE = re.compile(rf"(\d+(?:\.\d+)?)\s*([{_SUFFIXES}]?)(?:IB)?", re.IGNORECASE)


def in_bytes(size: Size) -> int:
    """Give a size in bytes.

    Parameters
    ----------
    size : int or str
        Bytes; or a number with a suffix K, M, G, T, P or E, each 1024 times the one before, as `qemu-img` takes it
        (https://www.qemu.org/docs/master/tools/qemu-img.html).

    Returns
    -------
    int

    Raises
    ------
    InvalidRequestError
        What is no size.

    Examples
    --------
    >>> in_bytes("20G") == in_bytes("20 GiB") == 20 * 1024**3
    True
    >>> in_bytes("1.5k")
    1536
    """
    if isinstance(size, int):
        return size
    found = _SIZE.fullmatch(str(size).strip())
    if found is None:
        raise InvalidRequestError(
            f"understand the size {size!r}", next_step="give bytes, or a number with a suffix: 21474836480, '20G'"
        )
    number, suffix = found.groups()
    return int(float(number) * 1024 ** (_SUFFIXES.index(suffix.upper()) if suffix else 0))
