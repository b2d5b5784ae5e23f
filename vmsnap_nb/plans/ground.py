"""What a plan must know of the machine beyond the images: names that are taken, space, permissions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Ground"]


@dataclass(frozen=True)
class Ground:
    """Facts about the places where a plan would write.

    Attributes
    ----------
    taken : frozenset of str
        Paths at which something exists already, image or not.
    free : mapping of str to int
        For a folder, the bytes free on its file system.
    closed : mapping of str to str
        For a folder in which nothing can be made, the reason in the system's words.
    """

    taken: frozenset[str] = frozenset()
    free: Mapping[str, int] = field(default_factory=dict)
    closed: Mapping[str, str] = field(default_factory=dict)
