"""How the steps that concern files are performed, and the facts that plans need of the folders."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.live.plan import Action, Undo
from vmsnap_nb.plans.ground import Ground
from vmsnap_nb.plans.steps import CreateOverlay, Protect, Step
from vmsnap_nb.system import qemu_img
from vmsnap_nb.system.os_errors import from_os_error

__all__ = ["FILE_ACTIONS", "absolute", "create_overlay", "ground_of", "protect"]

_NAME_MAX = 255
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What link() says on file systems such as FAT that have no hard links."""


def absolute(path: str | os.PathLike[str]) -> str:
    """Give the absolute path as QEMU would use it: ``~`` expanded, symbolic links left as they are.

    Raises
    ------
    InvalidRequestError
        An empty name, a null byte, a name longer than file systems have, or a network address.
    """
    text = os.fspath(path)
    if _ADDRESS.match(text):
        raise InvalidRequestError(
            f"use {text} as a path",
            said="it is a network address, and only local files are opened",
            next_step="give a path; a file of that very name is ./" + text.replace("//", "/", 1),
        )
    if not text or "\0" in text:
        raise InvalidRequestError(f"use {text!r} as a path", said="it is empty or has a null byte in it")
    full = os.path.abspath(os.path.expanduser(text))
    if len(os.fsencode(os.path.basename(full))) > _NAME_MAX:
        raise InvalidRequestError(
            f"use {os.path.basename(full)[:40]}… as a name", said=f"it is longer than {_NAME_MAX} bytes"
        )
    return full


def ground_of(paths: Iterable[str]) -> Ground:
    """Look which of these paths are taken, and what their folders allow.

    Parameters
    ----------
    paths : iterable of str
        Absolute paths of files that a plan would make.

    Returns
    -------
    Ground
    """
    paths = list(paths)
    free: dict[str, int] = {}
    closed: dict[str, str] = {}
    for folder in {os.path.dirname(path) for path in paths}:
        try:
            if not stat.S_ISDIR(os.stat(folder).st_mode):
                closed[folder] = "it is not a folder"
            elif not os.access(folder, os.W_OK | os.X_OK):
                closed[folder] = "no permission to write there"
            free[folder] = shutil.disk_usage(folder).free
        except FileNotFoundError:
            closed[folder] = "there is no such folder"
        except OSError as error:
            closed[folder] = error.strerror or str(error)
    return Ground(frozenset(path for path in paths if os.path.lexists(path)), free, closed)


def create_overlay(step: CreateOverlay) -> Undo:
    """Make the image under another name first, so that a half-made one never has the right name."""
    folder = os.path.dirname(step.path)
    partial = os.path.join(folder, f".{uuid.uuid4().hex}.partial")
    tried = f"create {step.path}"
    try:
        for argv in replace(step, path=partial).argvs:
            qemu_img.run(argv, tried=tried)
        _settle(partial, step.path, tried)
        identity = os.stat(step.path)
    finally:
        _unlink(partial)

    def undo() -> None:
        # Only the very file that was made here; another of that name is somebody else's.
        now = os.stat(step.path)
        if (now.st_dev, now.st_ino) == (identity.st_dev, identity.st_ino):
            os.unlink(step.path)

    return undo


def _settle(partial: str, path: str, tried: str) -> None:
    try:
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        try:
            os.link(partial, path)  # unlike a rename, a link never replaces a file
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _settle_without_links(partial, path)
    except OSError as error:
        raise from_os_error(error, tried) from error


def _settle_without_links(partial: str, path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    os.replace(partial, path)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def protect(step: Protect) -> Undo:
    """Take the write permission of an image, of owner, group and others."""
    try:
        mode = stat.S_IMODE(os.stat(step.path).st_mode)
        os.chmod(step.path, mode & ~0o222)
    except OSError as error:
        raise from_os_error(error, f"protect {step.path}") from error
    return lambda: os.chmod(step.path, mode)


FILE_ACTIONS: Mapping[type[Step], Action] = {CreateOverlay: create_overlay, Protect: protect}
"""The actions of a world that has files only."""
