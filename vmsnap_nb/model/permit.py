"""Who may read a file."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Permit"]


@dataclass(frozen=True, kw_only=True)
class Permit:
    """Who may read a file, the folders above it included.

    `owner` is a number and `user` the name, `is_system` says that this is root, or the account with which libvirt runs
    QEMU. `group` is the name of a group that may read it, if there is one of people, and `everyone` whether all users
    may; with `by_folder` they may not only because of a folder above. `closed_to` are those owners of other files read
    with it, by number, who may not. `links` is the number of names that the file has, and `place` this one without
    symbolic links.
    """

    owner: int
    user: str = ""
    is_system: bool = False
    group: str = ""
    everyone: bool = False
    by_folder: bool = False
    links: int = 1
    place: str = ""
    closed_to: frozenset[int] = frozenset()
