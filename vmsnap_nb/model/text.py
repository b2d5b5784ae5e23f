"""Counts with their nouns, in reprs: what users read is a message."""

from __future__ import annotations

__all__ = ["plural"]


def plural(number: int, one: str) -> str:
    """Write a count with its noun.

    Examples
    --------
    >>> plural(1, "image"), plural(2, "image")
    ('1 image', '2 images')
    """
    return f"{number} {one}" if number == 1 else f"{number} {one}s"
