"""A lab's folder: where it is, the mark that it is a lab's, the lock that one process holds, and its removal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vmsnap_nb.errors import InvalidRequestError, LabBusyError, LabError, PermissionDeniedError
from vmsnap_nb.system.os_errors import from_os_error

__all__ = ["MAX_ROOT", "LabFolder", "check_guest_fits", "default_root"]

_SOCKET_PATH_MAX = 107
"""Bytes of a UNIX socket's path (man 7 unix: 108 with the null byte at its end)."""

_MONITOR = "/lib/qemu/domain-99999-" + 20 * "x" + "/monitor.sock"
"""The longest path that an embedded libvirt makes in its folder, for a guest's name in ASCII: of that it takes 20."""

MAX_ROOT = _SOCKET_PATH_MAX - len(_MONITOR)
"""Bytes that the path of a lab's folder may have."""

_MARK = ".vmsnap-lab.json"
_LOCK = ".vmsnap-lab.lock"
# What an embedded libvirt makes in its folder, and what a lab makes beside that.
_OF_LIBVIRT = ("cache", "etc", "lib", "log", "run")
_OF_LAB = ("boot", "console", "exercises", "images", "port", "scenarios")


def default_root() -> Path:
    """Give the folder of a lab for which no other was named.

    It outlives the process, so that guests are found again: ``$VMSNAP_LAB``, or ``~/.vmsnap``, or
    ``/var/tmp/vmsnap-UID`` where the home folder's path is too long.
    """
    named = os.environ.get("VMSNAP_LAB")
    if named:
        return Path(named)
    home = Path("~/.vmsnap").expanduser()
    return home if len(os.fsencode(home)) <= MAX_ROOT else Path(f"/var/tmp/vmsnap-{os.getuid()}")  # noqa: S108 - owner is checked


class LabFolder:
    """A lab's folder, locked for this process.

    Parameters
    ----------
    root : path
        It is made if it is not there.

    Raises
    ------
    LabError
        Its path is too long, or it is a folder of something else.
    LabBusyError
        Another process has it.
    PermissionDeniedError, NoSpaceError
        It cannot be made or written.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(os.path.abspath(os.path.expanduser(root)))
        check_root(self.root)
        tried = f"open the lab {self.root}"
        if os.path.lexists(self.root) and not self.root.is_dir():
            raise LabError(tried, said="it is not a folder", next_step="give another path")
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_owner(tried)
            if not (self.root / _MARK).exists() and any(self.root.iterdir()):
                raise LabError(
                    tried,
                    said="the folder is not empty, and it is not a lab's",
                    next_step="give a folder that is new or empty",
                )
            self._lock = self._take_lock(tried)
            self._skeleton: list[Path] = []
            self._make()
        except OSError as error:
            raise from_os_error(error, tried) from error

    def _check_owner(self, tried: str) -> None:
        # In a folder such as /var/tmp somebody else may have been there first.
        found = os.lstat(self.root)
        if not stat.S_ISDIR(os.stat(self.root).st_mode):
            raise LabError(tried, said="it is not a folder", next_step="give another path")
        if found.st_uid != os.getuid():
            raise PermissionDeniedError(
                tried,
                said=f"it belongs to the user with number {found.st_uid}",
                next_step="give a folder of your own: Lab(root=…)",
            )

    def _take_lock(self, tried: str) -> int:
        path = self.root / _LOCK
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 64).decode(errors="replace").strip() or "of unknown number"
            os.close(descriptor)
            raise LabBusyError(
                tried,
                said=f"process {holder} has it open",
                next_step="end that process (in JupyterLab: shut that notebook's kernel down), "
                "or open another lab: Lab(root=…)",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor

    def _make(self) -> None:
        if not (self.root / _MARK).exists():
            self._write({"lab": 1, "created": datetime.now(UTC).isoformat(timespec="seconds"), "made": {}})
        for name in _OF_LAB:
            (self.root / name).mkdir(mode=0o700, exist_ok=True)
        # What a process that was killed has left half done.
        for folder in (self.images, self.root / "boot", self.root / "scenarios"):
            for left in folder.glob(".*.partial"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    @property
    def images(self) -> Path:
        """The folder of the images."""
        return self.root / "images"

    def _read(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.root / _MARK).read_text())
        except (OSError, ValueError) as error:
            raise LabError(
                f"read the mark {self.root / _MARK}",
                said=str(error),
                next_step="without it nothing here is known to be a lab's, and nothing is removed",
            ) from error
        return content

    def _write(self, content: dict[str, Any]) -> None:
        partial = (self.root / _MARK).with_suffix(".partial")
        try:
            partial.write_text(json.dumps(content, indent=1))
            partial.rename(self.root / _MARK)
        except OSError as error:
            raise from_os_error(error, f"write to the lab {self.root}") from error

    def made(self) -> dict[str, str]:
        """Give the files that the lab made: absolute paths, each with what it was made from."""
        return {str(self.root / name): source for name, source in self._read().get("made", {}).items()}

    def add(self, path: str | os.PathLike[str], source: str = "") -> None:
        """Write down that the lab has made a file, so that `remove` takes it along."""
        content = self._read()
        content.setdefault("made", {})[os.path.relpath(path, self.root)] = source
        self._write(content)

    def drop(self, path: str | os.PathLike[str]) -> None:
        """Write down that a file is no longer one that the lab made."""
        content = self._read()
        if content.get("made", {}).pop(os.path.relpath(path, self.root), None) is not None:
            self._write(content)

    def restore(self) -> None:
        """Make the folder again after `remove`: a libvirt that is still loaded goes on using the folders it had."""
        tried = f"open the lab {self.root}"
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_owner(tried)
            if self._lock < 0:
                self._lock = self._take_lock(tried)
            for folder in self._skeleton:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make()
        except OSError as error:
            raise from_os_error(error, tried) from error

    def release(self) -> None:
        """Let another process have the lab."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def remove(self) -> list[str]:
        """Remove what the lab and its libvirt made, and the folder if nothing else is in it.

        Returns
        -------
        list of str
            Files of somebody else that were left where they are.
        """
        made = self.made()
        try:
            self._skeleton = [path for name in _OF_LIBVIRT for path in _folders(self.root / name)]
            for path in made:
                Path(path).unlink(missing_ok=True)
            for name in (*_OF_LIBVIRT, "boot", "console", "exercises", "port"):
                if (self.root / name).is_dir():
                    shutil.rmtree(self.root / name)
            for name in ("images", "scenarios"):
                _remove_empty(self.root / name)
            (self.root / _MARK).unlink()
            (self.root / _LOCK).unlink()
            self.release()
            left = sorted(str(path) for path in self.root.rglob("*") if not path.is_dir())
            with contextlib.suppress(OSError):  # not empty: files of somebody else
                self.root.rmdir()
        except OSError as error:
            raise from_os_error(error, f"remove the lab {self.root}") from error
        return left


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
    """Raise if the path of a lab's folder is too long for the sockets in it.

    Raises
    ------
    LabError
        It says how long it may be.
    InvalidRequestError
        A character that the address of an embedded libvirt cannot carry.
    """
    size = len(os.fsencode(root))
    if size > MAX_ROOT:
        raise LabError(
            f"open the lab {root}",
            said=f"its path has {size} bytes, and UNIX sockets in it need one of at most {MAX_ROOT}",
            next_step="give a shorter one: Lab(root=…)",
        )
    if not str(root).isprintable():
        raise InvalidRequestError(f"open the lab {str(root)!r}", said="a path with control characters")


def check_guest_fits(root: Path, name: str) -> None:
    """Raise if a guest's name is too long for its sockets: libvirt takes its first 20 characters for a folder's name.

    Raises
    ------
    InvalidRequestError
        It says how many bytes too many there are.
    """
    longest = len(os.fsencode(root)) + len(_MONITOR) - 20 + len(name[:20].encode())
    if longest > _SOCKET_PATH_MAX:
        raise InvalidRequestError(
            f"name a guest {name!r}",
            said=f"the path of its socket in {root} would have {longest} bytes, and at most {_SOCKET_PATH_MAX} work",
            next_step="give it a shorter name, or the lab a shorter folder",
        )
