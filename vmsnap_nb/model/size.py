"""Sizes as people type and read them."""

from __future__ import annotations

import operator
import re
from typing import SupportsIndex

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.words.message import t

__all__ = ["Size", "human_size", "in_bytes"]

Size = int | str
"""Bytes, or a number with a unit, as ``"20 GiB"`` or, with QEMU's suffixes, ``"20G"``."""

_SUFFIXES = "BKMGTPE"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SIZE = re.compile(rf"(\d+(?:\.\d+)?)\s*([{_SUFFIXES}]?)(?:IB)?", re.IGNORECASE)


def in_bytes(size: Size) -> int:
    """Return a size in bytes: given as such, or as a number with a suffix K, M, G, T, P or E.

    Each suffix is 1024 times the one before, as `qemu-img` takes it
    (https://www.qemu.org/docs/master/tools/qemu-img.html); a unit KiB, MiB, … will do as well.

    Examples
    --------
    >>> in_bytes("20G") == in_bytes("20 GiB") == 20 * 1024**3
    True
    >>> in_bytes("1.5k")
    1536
    """
    given: object = size  # whatever it is declared to be
    number, suffix = None, None
    if isinstance(given, str):
        if found := _SIZE.fullmatch(given.strip()):
            number, suffix = found.groups()
    elif isinstance(given, SupportsIndex) and not isinstance(given, bool) and operator.index(given) >= 0:
        return operator.index(given)
    if number is None:
        raise InvalidRequestError(
            t("read the size {size!r}", size=given),
            why=t("a size must be a whole number of bytes, 0 or more, or a number with a unit"),
            next_step=t("use a form such as 21474836480, '20 GiB' or '20G'"),
        )
    return int(float(number) * 1024 ** (_SUFFIXES.index(suffix.upper()) if suffix else 0))


def human_size(size: int) -> str:
    """Write a number of bytes in binary units, three digits long.

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
