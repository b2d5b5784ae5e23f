"""What a plan must know of the machine beyond the images: names that are taken, space, permissions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from vmsnap_nb.plans.plan import Concern

__all__ = ["Ground", "about_room"]


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


def about_room(
    ground: Ground, needed: Mapping[str, int], estimates: Mapping[str, str] | None = None
) -> Iterator[Concern]:
    """Compare what the folders must take with what they can.

    Parameters
    ----------
    ground : Ground
        What is known of the folders; nothing is said of others.
    needed : mapping of str to int
        For a folder, the bytes that a plan writes there.
    estimates : mapping of str to str, optional
        The folders for which that is the most that it can be, and what there is to say of it. Such a want of room
        may be waived.

    Yields
    ------
    Concern
        ``no-permission`` or ``no-space``.
    """
    estimates = estimates or {}
    for folder, size in needed.items():
        if folder in ground.closed:
            yield Concern(
                "no-permission",
                "refuse",
                f"nothing can be made in {folder}: {ground.closed[folder]}",
                "make that folder, get the permission to write there, or choose another",
            )
        elif ground.free.get(folder, size) < size:
            most = "up to " if folder in estimates else ""
            yield Concern(
                "no-space",
                "refuse",
                f"{folder} has {ground.free[folder]} bytes free, and {most}{size} are needed"
                + estimates.get(folder, ""),
                "make room first",
                waivable=folder in estimates,
            )
