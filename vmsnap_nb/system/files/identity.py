"""Changing the very file that was read: a name can mean another one by then, so each is opened once and looked at."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator

from vmsnap_nb.errors import StalePlanError
from vmsnap_nb.model.address import address_of
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.system.files.devices import identity_of
from vmsnap_nb.system.files.paths import real_path
from vmsnap_nb.words.message import Message, t

__all__ = ["SameFile", "check_same", "own_file", "place_of", "replace_same", "same_file", "same_place", "unlink_same"]

_OPEN = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


def place_of(name: str) -> Identity | None:
    """Return where a name leads, without opening what is there; None where nobody can tell, or nothing is there."""
    if not name.startswith("/"):
        return address_of(name)
    try:
        return identity_of(os.stat(name))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError:  # a folder on the way may not be entered
        return ("path", real_path(name))


def same_place(name: str | None, other: str | None) -> bool:
    """Return whether two names are known to be of the same image."""
    if name is None or other is None or name == other:
        return name == other
    place = place_of(name)
    return place is not None and place == place_of(other)


class SameFile:
    """One file, whatever its names mean by now."""

    def __init__(self, pin: int) -> None:
        self._name = f"/proc/self/fd/{pin}"
        found = os.fstat(pin)
        self.identity: Identity = identity_of(found)
        self.mode = stat.S_IMODE(found.st_mode)

    def chmod(self, mode: int) -> None:
        """Set its permission bits."""
        os.chmod(self._name, mode)

    @contextlib.contextmanager
    def opened(self, *, write: bool = False) -> Iterator[int]:
        """Open it; where the owner lacks the permission to write, it is there for as long as opening takes."""
        flags = _OPEN | (os.O_RDWR if write else os.O_RDONLY)
        try:
            fd = os.open(self._name, flags)
        except PermissionError:
            if not write or self.mode & stat.S_IWUSR:
                raise
            self.chmod(self.mode | stat.S_IWUSR)
            try:
                fd = os.open(self._name, flags)
            finally:
                self.chmod(self.mode)
        try:
            yield fd
        finally:
            os.close(fd)


@contextlib.contextmanager
def same_file(path: str, identity: Identity | None, tried: Message) -> Iterator[SameFile]:
    """Find the file to which a path leads, and check that it is the one with this identity, if that is known.

    The path may be a symbolic link, as in a survey. What is found is not opened yet: a FIFO or a device never is.
    """
    pin = os.open(os.path.realpath(path), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check(os.fstat(pin), path, identity, tried)
        yield SameFile(pin)
    finally:
        os.close(pin)


@contextlib.contextmanager
def own_file(path: str, tried: Message) -> Iterator[int]:
    """Open a regular file of this user for writing, which has no other name and is not reached by a link."""
    fd = os.open(path, _OPEN | os.O_RDWR | os.O_NOFOLLOW)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
            raise _replaced(path, tried)
        yield fd
    finally:
        os.close(fd)


def check_same(path: str, identity: Identity | None, tried: Message) -> None:
    """Check that a path leads to the file with this identity."""
    with same_file(path, identity, tried):
        pass


def identity_at(path: str) -> Identity | None:
    """Return which regular file has this name, not through a link; None where there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def unlink_same(path: str, identity: Identity | None, tried: Message) -> None:
    """Remove a name, if it leads to the file with this identity."""
    _with_name(path, identity, tried, lambda name, folder: os.unlink(name, dir_fd=folder))


def replace_same(new: str, path: str, identity: Identity | None, tried: Message) -> None:
    """Give a file the name of another, if that leads to the file with this identity."""
    _with_name(path, identity, tried, lambda name, folder: os.replace(new, name, dst_dir_fd=folder))


def _with_name(path: str, identity: Identity | None, tried: Message, change: Callable[[str, int], None]) -> None:
    folder = os.open(os.path.dirname(path) or os.curdir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        name = os.path.basename(path)
        _check(os.stat(name, dir_fd=folder), path, identity, tried)
        change(name, folder)
    finally:
        os.close(folder)


def _check(found: os.stat_result, path: str, identity: Identity | None, tried: Message) -> None:
    is_image = stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode)
    if not is_image or (identity is not None and identity != identity_of(found)):
        raise _replaced(path, tried)


def _replaced(path: str, tried: Message) -> StalePlanError:
    return StalePlanError(
        tried,
        why=t("{path} has been replaced by a different file since the plan was created; it was not changed", path=path),
        next_step=t("find out who replaced the file. Then create the plan again, review it and run it"),
    )
