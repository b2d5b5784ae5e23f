"""A lab's folder: where it is, the mark that it is a lab's, the lock that one process holds, and its removal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vmsnap_nb.errors import InvalidRequestError, LabError, PermissionDeniedError
from vmsnap_nb.lab.contents import OF_LIBVIRT, check_files
from vmsnap_nb.lab.holder import MOST_OF_HOLDER, busy, has_ended, own_name
from vmsnap_nb.lab.workdir import leave_removed
from vmsnap_nb.model.caller import warn_caller
from vmsnap_nb.system.files.atomic import write_whole
from vmsnap_nb.system.files.devices import identity_of
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.system.files.locks import holders, keep, release
from vmsnap_nb.system.files.owner import owner_of, replaceable
from vmsnap_nb.system.files.small import read_small
from vmsnap_nb.system.files.temporary import is_temporary, sync_folder
from vmsnap_nb.words.message import Message, joined, listed, t

__all__ = ["MAX_ROOT", "LabFolder", "check_guest_fits", "default_root"]

_SOCKET_PATH_MAX = 107
"""Bytes of a UNIX socket's path (man 7 unix: 108 with the null byte at its end)."""

_MONITOR = "/lib/qemu/domain-99999-" + 20 * "x" + "/monitor.sock"
"""The longest path that an embedded libvirt makes in its folder, for a guest's name in ASCII: of that it takes 20."""

MAX_ROOT = _SOCKET_PATH_MAX - len(_MONITOR)
"""Bytes that the path of a lab's folder may have."""

_MOST = 16 << 20
"""Bytes of a mark."""
_LINGERS = 2.0
"""Seconds. What a process has just started has its lock for a moment, also if that process is killed meanwhile."""
_NAMED = 5
"""Files that an error lists."""
_MARK = ".vmsnap-lab.json"
_LOCK = ".vmsnap-lab.lock"
# What a lab makes beside what an embedded libvirt makes in its folder.
_WHOLE = ("boot", "console", "exercises", "hand", "lesson", "port")
"""Folders that are removed with all that is in them."""
_OF_LAB = ("boot", "console", "exercises", "images", "lesson", "port", "scenarios")


def default_root() -> Path:
    """Return the folder of a lab for which no other was named.

    It outlives the process, so that guests are found again: ``$VMSNAP_LAB``, or ``~/.vmsnap``, or
    ``/var/tmp/vmsnap-UID`` where the home folder's path is too long.
    """
    named = os.environ.get("VMSNAP_LAB")
    if named:
        return Path(named)
    home = Path("~/.vmsnap").expanduser()
    return home if len(os.fsencode(home)) <= MAX_ROOT else Path(f"/var/tmp/vmsnap-{os.getuid()}")  # noqa: S108 - owner is checked


class LabFolder:
    """A lab's folder, made if it is not there, and locked for this process."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(os.path.abspath(os.path.expanduser(root)))
        check_root(self.root)
        tried = t("open the lab {folder}", folder=self.root)
        if os.path.lexists(self.root) and not self.root.is_dir():
            raise LabError(tried, why=t("it is not a folder"), next_step=t("choose another path"))
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_owner(tried)
            if not os.path.lexists(self.root / _MARK) and any(map(_is_foreign, os.listdir(self.root))):
                next_step = t("move these files away, or choose a new or empty folder: Lab(root=…)")
                if os.path.lexists(self.root / _LOCK):
                    next_step = self._without_mark()
                raise LabError(
                    tried,
                    why=t("it is not the folder of a lab, and it contains {files}", files=_some(_files_in(self.root))),
                    next_step=next_step,
                )
            self._lock = self._take_lock(tried)
            self._skeleton: list[Path] = []
            try:
                self._make()
            except BaseException:
                self.release()
                raise
        except OSError as error:
            raise from_os_error(error, tried) from error

    def _check_owner(self, tried: Message) -> None:
        # In a folder such as /var/tmp somebody else may have been there first.
        found = os.stat(self.root)
        if not stat.S_ISDIR(found.st_mode):
            raise LabError(tried, why=t("it is not a folder"), next_step=t("choose another path"))
        for owner in map(owner_of, (os.lstat(self.root), found)):
            if owner != os.getuid():
                raise PermissionDeniedError(
                    tried,
                    why=t("it belongs to the user with uid {owner}", owner=owner),
                    next_step=t("choose a folder of your own: Lab(root=…)"),
                )
        self._close_to_others(self.root, tried)
        # libvirt finds the folder by its name again, and acts on the definitions that are there then.
        if place := replaceable(str(self.root), {0, os.getuid()}):
            raise PermissionDeniedError(
                tried,
                why=t("other users can put another folder in its place, because they can change {path}", path=place),
                next_step=t("choose a folder within your home folder: Lab(root=…)"),
            )

    def _close_to_others(self, folder: Path, tried: Message, *, quiet: bool = False) -> None:
        """Take from others the permission to write to a folder of this user, and say so."""
        with _opened(folder) as fd:
            found = os.fstat(fd)
            if found.st_uid != os.getuid():
                raise PermissionDeniedError(
                    tried,
                    why=t(
                        "{path} belongs to the user with uid {owner}, who can write to it",
                        path=folder,
                        owner=found.st_uid,
                    ),
                    next_step=t("choose a folder of your own: Lab(root=…)"),
                )
            if not found.st_mode & 0o022:
                return
            os.fchmod(fd, stat.S_IMODE(found.st_mode) & ~0o022)
        if quiet:
            return
        warn_caller(
            t(
                "Other users had write permission for {path}, and could have made this lab remove files or boot "
                "their images. The lab removed that permission (chmod go-w). Check that everything in the folder is "
                "yours.",
                path=folder,
            )
        )

    def _take_lock(self, tried: Message) -> int:
        path = self.root / _LOCK
        # What is written here later must not go through a link to another file.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            os.close(descriptor)
            why = t("{path} is not a regular file", path=path)
            if stat.S_ISREG(found.st_mode):
                why = t("{path} is a hard link, so the lab would write to another file", path=path)
            raise LabError(tried, why=why, next_step=t("remove it, or choose another folder"))
        until = time.monotonic() + _LINGERS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                holder = os.pread(descriptor, MOST_OF_HOLDER, 0).decode(errors="replace")
                ended = has_ended(holder)
                if ended and time.monotonic() < until:
                    time.sleep(0.02)
                    continue
                left = holders(identity_of(found)) if ended else ()
                os.close(descriptor)
                raise busy(tried, holder, left) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, own_name().encode(errors="replace"), 0)
        return keep(descriptor)

    def _make(self) -> None:
        tried = t("open the lab {folder}", folder=self.root)
        if not os.path.lexists(self.root / _MARK):
            self._write({"lab": 1, "created": datetime.now(UTC).isoformat(timespec="seconds"), "made": {}})
            sync_folder(str(self.root.parent))
        for name in (*_OF_LAB, *OF_LIBVIRT):
            folder = self.root / name
            if name in _OF_LAB and not os.path.lexists(folder):
                folder.mkdir(mode=0o700)
            if folder.is_symlink() or (os.path.lexists(folder) and not folder.is_dir()):
                raise LabError(
                    tried,
                    why=t(
                        "{path} is a symbolic link or not a folder, so the lab could remove files elsewhere",
                        path=folder,
                    ),
                    next_step=t("remove that link, or choose another folder: Lab(root=…)"),
                )
            if folder.is_dir():
                self._close_to_others(folder, tried, quiet=name in OF_LIBVIRT)
        check_files(self.root)
        # What a process that was killed has left half done.
        for folder in (self.images, self.root / "boot", self.root / "scenarios"):
            for left in folder.iterdir():
                if is_temporary(left.name) and not left.is_symlink():
                    shutil.rmtree(left) if left.is_dir() else left.unlink()

    @property
    def images(self) -> Path:
        """The folder of the images."""
        return self.root / "images"

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(read_small(self.root / _MARK, _MOST))
            made = content.get("made", {}) if isinstance(content, dict) else None
            if not isinstance(made, dict) or not all(isinstance(source, str) for source in made.values()):
                raise ValueError(t("it does not list the files of the lab"))
        except (OSError, ValueError, RecursionError) as error:
            raise LabError(
                t("read the file {file} of the lab", file=self.root / _MARK),
                why=self._what_is_wrong(error),
                next_step=self._without_mark(),
            ) from error
        return dict(content)

    def _what_is_wrong(self, error: Exception) -> str:
        """Return why the mark cannot be read; a file that a power failure has left has no content, or only zeros."""
        if isinstance(error, OSError):
            return error.strerror or str(error)
        is_empty = not read_small(self.root / _MARK, _MOST).strip(b"\0 \n")
        return t("the file is empty") if is_empty else str(error)

    def _without_mark(self) -> Message:
        """Return what to do where nothing says any more which files the lab made: with an empty list it removes none.

        What is there instead of the mark is kept.
        """
        mark = shlex.quote(str(self.root / _MARK))
        keep = f"mv -- {mark} {shlex.quote(f'{self.root}-mark.json')} && " if os.path.lexists(self.root / _MARK) else ""
        return t(
            "restore the file {file} from a backup. Without a backup, write an empty one: {command}. The lab then "
            "opens with all of its guests, but it cannot tell which images it created, so destroy() removes none of "
            "them. The folder contains {files}",
            file=self.root / _MARK,
            command=f"{keep}echo '{{}}' > {mark}",
            files=_some(self._valued()) or t("no images and no guests"),
        )

    def _valued(self) -> list[Path]:
        """Return the images and definitions in the folder, which are what a user would miss."""
        own = (path for name in ("images", "scenarios") for path in _files_in(self.root / name))
        return [*own, *sorted((self.root / "etc" / "qemu").glob("*.xml"))]

    def _write(self, content: dict[str, Any]) -> None:
        try:
            write_whole(self.root / _MARK, json.dumps(content, indent=1).encode())
        except OSError as error:
            raise from_os_error(error, t("write to the lab {folder}", folder=self.root)) from error

    def made(self) -> dict[str, str]:
        """Return the files that the lab made: absolute paths, each with what it was made from.

        Names in the mark that lead out of the folder are left out: a lab makes none, so another has written them.
        """
        made = self._read().get("made", {})
        return {str(self.root / name): source for name, source in made.items() if self._is_inside(name)}

    def _is_inside(self, name: str) -> bool:
        """Return whether a name is that of a file in the folder, not in one to which a link leads."""
        parts = name.split("/")
        if "\0" in name or not name or {"", ".", ".."} & set(parts):
            return False
        parent = os.path.join(os.path.realpath(self.root), *parts[:-1])
        return os.path.realpath(parent) == parent

    def has(self, path: str | os.PathLike[str]) -> bool:
        """Return whether a path is in the folder, and no link on the way or at its end leads out of it."""
        return self._is_inside(os.path.relpath(path, self.root)) and not os.path.islink(path)

    def add(self, path: str | os.PathLike[str], source: str = "") -> None:
        """Write down that the lab has made a file, so that `remove` takes it along."""
        content, name = self._read(), os.path.relpath(path, self.root)
        if self._is_inside(name):
            content.setdefault("made", {})[name] = source
            self._write(content)

    def drop(self, path: str | os.PathLike[str]) -> None:
        """Write down that a file is no longer one that the lab made."""
        content = self._read()
        if content.get("made", {}).pop(os.path.relpath(path, self.root), None) is not None:
            self._write(content)

    def restore(self) -> None:
        """Make the folder again after `remove`: a libvirt that is still loaded goes on using the folders it had."""
        tried = t("open the lab {folder}", folder=self.root)
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_owner(tried)
            if not os.path.lexists(self.root / _LOCK):  # `remove` was interrupted: what is locked has no name any more
                self.release()
            if self._lock < 0:
                self._lock = self._take_lock(tried)
            for folder in self._skeleton:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make()
        except OSError as error:
            raise from_os_error(error, tried) from error

    def goes_whole(self, path: str | os.PathLike[str]) -> bool:
        """Return whether a file is in a folder of the lab's that `remove` removes with all that is in it."""
        return any(Path(path).is_relative_to(self.root / name) for name in _WHOLE)

    def release(self) -> None:
        """Let another process have the lab."""
        if self._lock >= 0:
            release(self._lock)
            self._lock = -1

    def remove(self) -> list[str]:
        """Remove what the lab and its libvirt made, and the folder if nothing else is in it; return what was left.

        With files of somebody else in it, it stays the folder of a lab: so it can be opened again.
        """
        made = self.made()
        try:
            self._skeleton = [path for name in OF_LIBVIRT for path in _folders(self.root / name)]
            for path in made:
                with contextlib.suppress(IsADirectoryError):
                    Path(path).unlink(missing_ok=True)
            for name in (*OF_LIBVIRT, *_WHOLE):
                if (self.root / name).is_dir() and not (self.root / name).is_symlink():
                    shutil.rmtree(self.root / name)
            for name in ("images", "scenarios"):
                _remove_empty(self.root / name)
            left = [path for path in _files_in(self.root) if path.name not in (_MARK, _LOCK)]
            if left:
                self._write({**self._read(), "made": {}})
            else:
                (self.root / _MARK).unlink()
            (self.root / _LOCK).unlink()
            self.release()
            with contextlib.suppress(OSError):  # not empty: files or folders of somebody else
                self.root.rmdir()
        except OSError as error:
            raise from_os_error(error, t("remove the lab {folder}", folder=self.root)) from error
        leave_removed(self.root.parent)
        return [str(path) for path in left]


def _is_foreign(name: str) -> bool:
    """Return whether a name in a folder without a mark is none that a lab leaves if it is cut short before the mark."""
    return name != _LOCK and not is_temporary(name)


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _some(paths: Sequence[Path]) -> Message:
    """Return the first few of these paths as a list, and the number of the others."""
    names, more = [str(path) for path in paths[:_NAMED]], len(paths) - _NAMED
    return t("{files} and {count} more", files=joined(names), count=more) if more > 0 else listed(names)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """Open a folder, so that what is asked and changed is one and the same."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _folders(top: Path) -> list[Path]:
    return [Path(folder) for folder, _, _ in os.walk(top)]


def _remove_empty(folder: Path) -> None:
    if not folder.is_dir() or folder.is_symlink():
        return
    for below in sorted((p for p in folder.rglob("*") if p.is_dir() and not p.is_symlink()), reverse=True):
        with contextlib.suppress(OSError):
            below.rmdir()
    with contextlib.suppress(OSError):
        folder.rmdir()


def check_root(root: Path) -> None:
    """Check that the path of a lab's folder is short enough for the sockets in it, and fits into libvirt's address."""
    size = len(os.fsencode(root))
    if size > MAX_ROOT:
        raise LabError(
            t("open the lab {folder}", folder=root),
            why=t(
                "its path is {size} bytes long, but at most {most} are allowed because of the UNIX sockets in it",
                size=size,
                most=MAX_ROOT,
            ),
            next_step=t("choose a shorter path: Lab(root=…)"),
        )
    if not str(root).isprintable():
        raise InvalidRequestError(
            t("open the lab {folder!r}", folder=str(root)),
            why=t("the path contains control characters"),
            next_step=t("choose another path: Lab(root=…)"),
        )


def check_guest_fits(root: Path, name: str) -> None:
    """Check that a guest's name is short enough for its sockets: its first 20 characters are in their paths."""
    longest = len(os.fsencode(root)) + len(_MONITOR) - 20 + len(name[:20].encode())
    if longest > _SOCKET_PATH_MAX:
        raise InvalidRequestError(
            t("name a guest {name!r}", name=name),
            why=t(
                "the path of its socket in {folder} would be {size} bytes long; at most {most} are allowed",
                folder=root,
                size=longest,
                most=_SOCKET_PATH_MAX,
            ),
            next_step=t("choose a shorter name, or a shorter path for the lab"),
        )
