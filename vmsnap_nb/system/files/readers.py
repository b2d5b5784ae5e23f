"""Who may read files, by owner, group, permission bits and the folders above them."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator

from vmsnap_nb.model.permit import Permit
from vmsnap_nb.system.files.owner import QEMU, owner_of
from vmsnap_nb.system.files.paths import real_path
from vmsnap_nb.system.files.permission import has_list

__all__ = ["permits"]

_GROUPS = {"root", "disk", "kvm", *QEMU}
"""Groups of the system: their members get at images and block devices anyway."""


def permits(paths: Iterable[str]) -> dict[str, Permit]:
    """Return by path who may read each of these files, of those that this process can see."""
    found: dict[str, os.stat_result] = {}
    for path in dict.fromkeys(paths):
        with contextlib.suppress(OSError):
            found[path] = os.stat(path)
    owners = set(map(owner_of, found.values()))
    return {path: _permit(path, status, owners) for path, status in found.items()}


def _permit(path: str, status: os.stat_result, owners: Iterable[int]) -> Permit:
    mode, owner, everyone = status.st_mode, owner_of(status), _may(None, path)
    user = _user(owner)
    return Permit(
        owner=owner,
        user=user,
        is_system=owner == 0 or user in QEMU,
        group=_group(status, user) if mode & stat.S_IRGRP else "",
        everyone=everyone,
        by_folder=bool(mode & stat.S_IROTH) and not everyone,
        links=status.st_nlink if stat.S_ISREG(mode) else 1,
        place=real_path(path),
        closed_to=frozenset(uid for uid in owners if not _may(uid, path)),
    )


def _user(uid: int) -> str:
    try:
        import pwd  # Python for browsers has neither this nor grp

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return f"uid {uid}"


def _group(status: os.stat_result, user: str) -> str:
    """Return the group of a file, unless that is the owner's own one, or one of the system."""
    try:
        import grp

        name = grp.getgrgid(status.st_gid).gr_name
    except (ImportError, KeyError):
        return f"gid {status.st_gid}"
    return "" if name == user or name in _GROUPS else name


def _may(uid: int | None, path: str) -> bool:
    """Return whether a user may read a file or use a folder, or None: anybody; of root nothing is asked.

    Where there is a list of further users that is not read: they may.
    """
    if uid == 0:
        return True
    groups = () if uid is None else tuple(_groups(uid))
    real = real_path(path)
    try:
        found = os.stat(real)
        bit = stat.S_IXOTH if stat.S_ISDIR(found.st_mode) else stat.S_IROTH
        if not _has(found, uid, groups, bit) and (uid is None or not has_list(real)):
            return False
        while (real := os.path.dirname(real)) != "/":
            if not _has(os.stat(real), uid, groups, stat.S_IXOTH) and (uid is None or not has_list(real)):
                return False
    except OSError:
        return False
    return True


def _has(status: os.stat_result, uid: int | None, groups: Iterable[int], bit: int) -> bool:
    if uid is not None and uid == owner_of(status):
        return True
    if status.st_gid in groups:
        return bool(status.st_mode & bit << 3)
    return bool(status.st_mode & bit)


def _groups(uid: int) -> Iterator[int]:
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        user = pwd.getpwuid(uid)
        yield from os.getgrouplist(user.pw_name, user.pw_gid)
