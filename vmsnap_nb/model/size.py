"""Sizes as people type and read them."""

from __future__ import annotations

import re

from vmsnap_nb.errors import InvalidRequestError

__all__ = ["Size", "human_size", "in_bytes"]

Size = int | str
"""Bytes, or a number with one of QEMU's suffixes, as ``"20G"``."""

_SUFFIXES = "BKMGTPE"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
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


def human_size(size: int) -> str:
    """Write a number of bytes in binary units, three digits long.

    Parameters
    ----------
    size : int
        Bytes.

    Returns
    -------
    str

    Examples
    --------
    >>> human_size(200704), human_size(10 * 1024**3), human_size(512), human_size(1024**2 - 1)
    ('196 KiB', '10 GiB', '512 B', '1 MiB')
    """
    value = float(size)
    for unit in _UNITS:
        digits = 0 if unit == "B" or value >= 100 else 1 if value >= 10 else 2
        rounded = round(value, digits)
        if rounded < 1024 or unit == _UNITS[-1]:
            return f"{rounded:.{digits}f}".rstrip("0").rstrip(".") + f" {unit}" if digits else f"{rounded:.0f} {unit}"
        value /= 1024
    raise AssertionError("the last unit takes all")
