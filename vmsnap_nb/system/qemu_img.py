"""qemu-img: its command lines, its one caller, and its complaints as errors of this package."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

from vmsnap_nb.errors import (
    ImageError,
    InUseError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    VmsnapError,
)
from vmsnap_nb.system import locks, process
from vmsnap_nb.system.process import Completed, Limits

__all__ = ["INFO_LIMITS", "error_of", "info", "info_argv", "run"]

INFO_LIMITS = Limits(seconds=20, cpu_seconds=10, memory=1 << 30)
"""What `qemu-img info` of an image of unknown origin may take."""

_IN_USE = re.compile(r'Failed to get .*"\w+" lock|Failed to lock byte \d+')
_HELD_IMAGE = re.compile(r"Is another process using the image \[(.*)\]\?", re.DOTALL)
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|File too large")
_NO_PERMISSION = re.compile(r"Permission denied|Operation not permitted|Read-only file system")
_NOT_FOUND = re.compile(r"No such file or directory")
_BAD_IMAGE = re.compile(
    r"Image is not in|Could not open|Could not read|Unsupported|[Ii]nvalid magic|is corrupt|infinite loop"
)


def info_argv(path: str, format: str) -> tuple[str, ...]:
    """Give the command that describes one image, also while somebody writes to it, and opens no backing file."""
    return ("qemu-img", "info", "--output=json", "-U", "-f", format, "--", path)


def info(path: str, format: str) -> dict[str, Any]:
    """Ask qemu-img what an image is, within `INFO_LIMITS`.

    Parameters
    ----------
    path : str
        Absolute path.
    format : str
        QEMU's name of the format; nothing is guessed from the content.

    Returns
    -------
    dict
        ``ImageInfo`` of QEMU's qapi/block-core.json.

    Raises
    ------
    VmsnapError
        As in `run`.
    """
    tried = f"read {path} as {format}"
    done = run(info_argv(path, format), tried=tried, limits=INFO_LIMITS)
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        raise ImageError(tried, said=f"qemu-img's answer is no JSON: {error}") from error
    if not isinstance(answer, dict):
        raise ImageError(tried, said="qemu-img's answer is no description of an image")
    return answer


def run(argv: Sequence[str], *, tried: str, timeout: float | None = None, limits: Limits | None = None) -> Completed:
    """Run a qemu-img command.

    Parameters
    ----------
    argv : sequence of str
        The whole command, ``qemu-img`` first.
    tried : str
        What it is for, as a sentence without a full stop.
    timeout : float, optional
        Seconds by the clock.
    limits : Limits, optional
        More limits; then `timeout` is not used.

    Returns
    -------
    Completed

    Raises
    ------
    MissingPartError
        qemu-img is not installed.
    InUseError
        Another process has the image; `holders` names those that can be seen.
    NoSpaceError, PermissionDeniedError, NotFoundError
        The system refused.
    ImageError
        The image, or one below it, is not what it was taken for.
    CommandError
        Anything else, and a limit that was reached.
    """
    done = process.run(argv, tried=tried, limits=limits or Limits(seconds=timeout), check=False)
    if done.exit_status != 0:
        raise error_of(done, tried)
    return done


def error_of(done: Completed, tried: str) -> VmsnapError:
    """Give the error of one of QEMU's tools that has failed."""
    words = done.stderr.strip()
    said = words.removeprefix("qemu-img: ") or None
    error: VmsnapError
    if done.exit_status < 0:
        return process.command_error(done, tried)
    if _IN_USE.search(words):
        names = _holders(words)
        error = InUseError(
            tried,
            said=said,
            next_step="shut down the guest that has it open, or wait until the other program has ended"
            + (f": {', '.join(names)}" if names else ""),
            holders=names,
        )
    elif _NO_SPACE.search(words):
        error = NoSpaceError(tried, said=said, next_step="make room on that file system and try again")
    elif _NO_PERMISSION.search(words):
        error = PermissionDeniedError(
            tried, said=said, next_step="check the owner and mode of the file, of its folder and of the images below it"
        )
    elif _NOT_FOUND.search(words):
        error = NotFoundError(tried, said=said, next_step="check the path, and the backing file that the image names")
    elif _BAD_IMAGE.search(words):
        error = ImageError(
            tried, said=said, next_step="see what it is with vmsnap_nb.chain(path); `qemu-img check` tells of damage"
        )
    else:
        return process.command_error(done, tried)
    error.add_note("command: " + shlex.join(done.argv))
    return error


def _holders(words: str) -> list[str]:
    match = _HELD_IMAGE.search(words)
    if match is None:
        return []
    try:
        status = os.stat(match[1])
    except OSError:
        return []
    return [f"{command} (process {pid})" for pid, command in locks.holders((status.st_dev, status.st_ino))]
