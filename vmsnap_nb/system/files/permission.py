"""Who may read what is made here: nobody who may not read the image below, whose data it will show."""

from __future__ import annotations

import contextlib
import errno
import functools
import operator
import os
import stat
import struct
from dataclasses import dataclass

__all__ = ["Permission", "has_list", "permission_below", "permission_of", "restrict"]

_LIST, _INHERITED = "system.posix_acl_access", "system.posix_acl_default"
_HEAD, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
"""Of an access control list as Linux has it in an extended attribute (linux/posix_acl_xattr.h)."""
_VERSION, _NO_ID = 2, 0xFFFFFFFF
_NAMED_USER, _NAMED_GROUP = 0x02, 0x08
_USER, _GROUP, _MASK, _OTHER = (0x01, _NO_ID), (0x04, _NO_ID), (0x10, _NO_ID), (0x20, _NO_ID)
_PLACES = {_USER: 6, _OTHER: 0}
"""Where their permission bits are; all others, with a list, may do no more than those of the group say."""
_NO_LIST = {errno.ENODATA, errno.EOPNOTSUPP, errno.ENOSYS}

Entries = dict[tuple[int, int], int]
"""What each may do, by kind and number: the owner, further users, the group, further groups, and others."""


@dataclass(frozen=True)
class Permission:
    """Owner and group of a file, and what they and everybody else may do with it; None of one that is not known."""

    owner: int | None
    group: int | None
    entries: Entries

    def within(self, other: Permission) -> Permission:
        """Return it without what another one does not permit to the same people."""
        one, two = self.entries, other.entries
        if self.group != other.group:  # the members of each are others to the other one
            two = {**two, _GROUP: two[_OTHER], _OTHER: two[_OTHER] & two[_GROUP]}
        both = {key: one.get(key, one[_OTHER]) & two.get(key, two[_OTHER]) for key in {**one, **two}}
        return Permission(self.owner, self.group, both)

    def give(self, fd: int, *, most: int = 0o664, least: int = 0o600, owner: bool = True) -> None:
        """Give a file this permission, its group and, as root, its owner: others may never write to it.

        Where the group cannot be that one, neither its members nor those of the file's group may do more than others.
        """
        if self.group is not None:
            with contextlib.suppress(OSError):
                os.fchown(fd, -1 if self.owner is None or not owner or os.geteuid() else self.owner, self.group)
        entries = {key: bits & most >> _PLACES.get(key, 3) for key, bits in self.entries.items()}
        entries[_USER] |= least >> 6
        if os.fstat(fd).st_gid != self.group:
            entries[_GROUP] = entries[_OTHER] = entries[_GROUP] & entries[_OTHER]
        _write(fd, entries)


def permission_of(file: int | str) -> Permission:
    """Return who may do what with a file, given by its path or its descriptor."""
    found = os.stat(file)
    bits = stat.S_IMODE(found.st_mode)
    entries = _read(file) or {_USER: bits >> 6 & 7, _GROUP: bits >> 3 & 7, _OTHER: bits & 7}
    mask = entries.pop(_MASK, 7)
    return Permission(
        found.st_uid, found.st_gid, {key: had & (7 if key in _PLACES else mask) for key, had in entries.items()}
    )


def permission_below(path: str | None) -> Permission:
    """Return what an overlay of this image gets; of one that is not here, or cannot be seen: only its owner uses it."""
    if path is not None:
        with contextlib.suppress(OSError):
            return permission_of(path)
    return Permission(None, None, {_USER: 6, _GROUP: 0, _OTHER: 0})


def restrict(path: str, below: str) -> None:
    """Give an overlay that another program has made owner and mode of the image below, where it has more."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:  # of another name it would be another's file
            permission_below(below).within(permission_of(fd)).give(fd)
    finally:
        os.close(fd)


def has_list(path: str) -> bool:
    """Return whether a file has an access control list, or a folder has one for what is made in it."""
    try:
        return not {_LIST, _INHERITED}.isdisjoint(os.listxattr(path))
    except (AttributeError, OSError):  # a Python for browsers has no such lists
        return False


def _read(file: int | str) -> Entries | None:
    """Return the access control list of a file; None where it has none."""
    try:
        data = os.getxattr(file, _LIST)
    except AttributeError:  # a Python for browsers
        return None
    except OSError as error:
        if error.errno not in _NO_LIST:
            raise
        return None
    return {(kind, number): bits for kind, bits, number in _ENTRY.iter_unpack(data[_HEAD.size :])}


def _write(fd: int, entries: Entries) -> None:
    """Set the bits of a file, and its list: where it can have none, or keeps another one, only its owner uses it."""
    named = {key: bits for key, bits in entries.items() if key[0] in (_NAMED_USER, _NAMED_GROUP)}
    of_group = entries[_GROUP]
    try:
        if named:
            # Linux asks the list only where the group bits are not all zero: others may do less by it than by the bits.
            of_group = functools.reduce(operator.or_, named.values(), of_group | entries[_OTHER])
            rows = sorted({**entries, _MASK: of_group}.items())
            listed = (_ENTRY.pack(kind, bits, number) for (kind, number), bits in rows)
            os.setxattr(fd, _LIST, _HEAD.pack(_VERSION) + b"".join(listed))
        else:
            os.removexattr(fd, _LIST)
    except AttributeError:
        pass
    except OSError as error:
        if named or error.errno not in _NO_LIST:
            os.fchmod(fd, entries[_USER] << 6)
            return
    os.fchmod(fd, entries[_USER] << 6 | of_group << 3 | entries[_OTHER])
