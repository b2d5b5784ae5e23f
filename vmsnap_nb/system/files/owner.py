"""Whose a file is, and who else can give its name to another file."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections import deque
from collections.abc import Collection, Iterable
from functools import lru_cache

from vmsnap_nb.system.files.permission import has_list

__all__ = ["QEMU", "own_accounts", "owner_of", "replaceable"]

QEMU = ("libvirt-qemu", "qemu")
"""The accounts with which libvirt runs QEMU: it gives them the images of each guest that it starts."""
_MOUNTS = "/proc/self/mountinfo"
_FUSE = re.compile(r"fuse\b")
_PROVIDER = re.compile(r"(?:.*,)?user_id=([0-9]+)(?:,|$)")
_MOST_LINKS = 40
"""Links on the way to a file that Linux itself follows."""


def owner_of(found: os.stat_result) -> int:
    """Return the number of the user whose file it is.

    In a file system that a user provides (FUSE) all is that user's: owner, permission bits and content of a file there
    are whatever the program of that user says. One that root or this user has mounted is believed.
    """
    if os.major(found.st_dev):  # it has a device of its own, to which only root has access
        return found.st_uid
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
            providers = _providers(file, f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}")
    except OSError:  # another system than Linux
        return found.st_uid
    return next(iter(providers - {0, os.geteuid()}), found.st_uid)


def _providers(table: Iterable[str], device: str) -> set[int]:
    """Return the users who have mounted the file system with a device number. Source: proc(5) and fuse(4)."""
    found: set[int] = set()
    for line in table:
        words = line.split()
        if words[2:3] == [device] and _FUSE.match(words[-3]) and (provider := _PROVIDER.match(words[-1])):
            found.add(int(provider[1]))
    return found


def replaceable(path: str, owners: Collection[int], *, may_be_made: bool = False) -> str:
    """Return the folder or link on the way to a file in which others can put another file in its place, or nothing.

    Others are all users but these `owners`. In a folder with the sticky bit they cannot, while the file is one of the
    owners'. The file itself may not be there; OSError where the way cannot be seen, also where a folder is missing,
    unless it `may_be_made`.
    """
    # ".." is behind a link what the kernel finds there, and not what is before it in the text.
    here, rest, links = "/", deque(os.path.join(os.getcwd(), path).split("/")[1:]), 0
    if not _is_kept(os.lstat(here), here, owners):
        return here
    while rest:
        name = rest.popleft()
        if name in ("", os.curdir):
            continue
        place = os.path.dirname(here) if name == os.pardir else os.path.join(here, name)
        try:
            found = os.lstat(place)
        except FileNotFoundError:
            if rest and not may_be_made:
                raise
            break
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if owner_of(found) not in owners or links > _MOST_LINKS:
                return place
            target = os.readlink(place)
            rest.extendleft(reversed(target.split("/")))
            here = "/" if target.startswith("/") else here
        elif rest and not _is_kept(found, place, owners):
            return place
        else:
            here = place
    return ""


def own_accounts() -> set[int]:
    """Return whose files are trusted: root's, this user's, and those of the accounts under which libvirt runs QEMU.

    Python for browsers has no accounts.
    """
    try:
        import pwd
    except ImportError:
        return set()
    found = {0, os.geteuid()}
    for name in QEMU:
        with contextlib.suppress(KeyError):
            found.add(pwd.getpwnam(name).pw_uid)
    return found


def _is_kept(found: os.stat_result, folder: str, owners: Collection[int]) -> bool:
    """Return whether others can neither rename what the owners have in a folder, nor replace the folder's list."""
    if owner_of(found) not in owners:
        return False
    if found.st_mode & stat.S_ISVTX:
        return True
    # With a list, the bits of the group are the most that anybody in it may do.
    of_group = has_list(folder) or not _is_private(found.st_gid, os.geteuid())
    return not found.st_mode & (stat.S_IWOTH | (stat.S_IWGRP if of_group else 0))


@lru_cache(maxsize=64)
def _is_private(group: int, user: int) -> bool:
    """Return whether nobody but a user, and root, is in a group: a primary group can be that of all users.

    Not every directory of accounts lists all of them. One that does not list the user lists no others either: then only
    a group with the user's name is believed, as distributions make them.
    """
    if group == 0:
        return True
    try:
        import grp
        import pwd

        found = grp.getgrgid(group)
        own = pwd.getpwuid(user).pw_name
    except (ImportError, KeyError):
        return group == os.getegid()  # in a container without accounts, where nobody else is
    every = pwd.getpwall()
    if set(found.gr_mem) - {own, "root"} or any(one.pw_gid == group and one.pw_uid not in (0, user) for one in every):
        return False
    return found.gr_name == own or any(one.pw_name == own for one in every)
