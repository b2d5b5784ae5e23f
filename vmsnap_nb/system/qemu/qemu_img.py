"""qemu-img: its command lines, its one caller, and its complaints as errors of vmsnap_nb."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vmsnap_nb.errors import (
    CommandError,
    ImageError,
    InUseError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    VmsnapError,
)
from vmsnap_nb.model.size import human_size
from vmsnap_nb.system import process
from vmsnap_nb.system.files import locks
from vmsnap_nb.system.files.devices import identity_of
from vmsnap_nb.system.process import COPY_LIMITS, Limits, ProcessResult
from vmsnap_nb.words.message import Message, joined, t

__all__ = ["INFO_LIMITS", "check_lost", "error_of", "info", "info_argv", "read_json", "run", "unreadable"]

INFO_LIMITS = Limits(seconds=20, cpu_seconds=10, memory=1 << 30, output=32 << 20)
"""What `qemu-img info` of an image of unknown origin may take."""

_IN_USE = re.compile(r'Failed to get .*"\w+" lock|Failed to lock byte \d+')
_HELD_IMAGE = re.compile(r"Is another process using the image \[(.*)\]\?", re.DOTALL)
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|File too large")
_NO_PERMISSION = re.compile(r"Permission denied|Operation not permitted|Read-only file system")
_NOT_FOUND = re.compile(r"No such file or directory")
_LOST = re.compile(r"Lost persistent bitmap|Failed to flush|[Ff]ailed to (?:store|write|save)[^\n]*bitmap")
"""What QEMU says of an image that it could not close as it should, and ends with 0 all the same."""
_BAD_IMAGE = re.compile(
    r"Image is not in|Could not open|Could not read|Unsupported|[Ii]nvalid magic|is corrupt|infinite loop"
)


def info_argv(path: str, format: str) -> tuple[str, ...]:
    """Return the command that describes one image, also while somebody writes to it, and opens no backing file."""
    return ("qemu-img", "info", "--output=json", "-U", "-f", format, "--", path)


def info(path: str, format: str) -> dict[str, Any]:
    """Ask qemu-img what an image is, within `INFO_LIMITS`: ``ImageInfo`` of QEMU's qapi/block-core.json.

    Nothing is guessed from the content: `format` is QEMU's name for the format.
    """
    tried = t("read {image} as {format}", image=path, format=format)
    answer = read_json(info_argv(path, format), tried=tried, limits=INFO_LIMITS)
    if not isinstance(answer, dict):
        raise unreadable(tried, t("the output of qemu-img does not describe an image"))
    return answer


def read_json(argv: Sequence[str], *, tried: Message, limits: Limits) -> Any:
    """Return the answer of a qemu-img command that only reads headers."""
    try:
        done = run(argv, tried=tried, limits=limits)
    except CommandError as error:
        if error.exit_status is not None and error.exit_status > 0:
            raise
        raise unreadable(tried, error.why, said=error.quoted) from error
    if done.cut:
        raise unreadable(tried, t("the output of qemu-img is longer than {size}", size=human_size(limits.output)))
    try:
        return json.loads(done.stdout)
    except (ValueError, RecursionError) as error:
        raise unreadable(tried, t("the output of qemu-img is not JSON ({error})", error=str(error))) from error


def unreadable(tried: Message, why: str | None, *, said: str | None = None) -> ImageError:
    """Return the error of an image that qemu-img could not read within its limits."""
    return ImageError(
        tried,
        why=why,
        said=said,
        next_step=t("run qemu-img check to find damage. If you did not create the image yourself, do not use it"),
    )


def run(
    argv: Sequence[str],
    *,
    tried: Message,
    limits: Limits | None = None,
    environment: Mapping[str, str] | None = None,
    take: Callable[[bytes], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> ProcessResult:
    """Run a command of QEMU's tools, as `process.run` does, and turn its complaints into named errors.

    Without `limits` there is none of time: to end what writes to an image does harm. In an
    `InUseError` `holders` names the processes that can be seen.
    """
    done = process.run(
        argv, tried=tried, limits=limits or COPY_LIMITS, check=False, environment=environment, take=take, stop=stop
    )
    if done.exit_status != 0 and not done.stopped:
        raise error_of(done, tried)
    check_lost(done, tried)
    return done


def check_lost(done: ProcessResult, tried: Message) -> None:
    """Raise if one of QEMU's tools has ended with 0 and says that something was lost."""
    if done.exit_status == 0 and _LOST.search(done.stderr):
        kind = NoSpaceError if _NO_SPACE.search(done.stderr) else ImageError
        error = kind(
            tried,
            said=done.stderr.strip().removeprefix("qemu-img: "),
            next_step=t(
                "free space on that file system, or check its disk. Then check the image with forest.check(image)"
            ),
        )
        error.add_note(_command(done))
        raise error


def _command(done: ProcessResult) -> Message:
    return t("command: {command}", command=shlex.join(done.argv))


def error_of(done: ProcessResult, tried: Message) -> VmsnapError:
    """Return the error of one of QEMU's tools that has failed."""
    words = done.stderr.strip()
    said = words.removeprefix("qemu-img: ") or None
    error: VmsnapError
    if done.exit_status < 0:
        return process.command_error(done, tried)
    if _IN_USE.search(words):
        names = _holders(words)
        how = t("shut down the guest that has it open, or wait until the other program has ended")
        if names:
            how = t(
                "shut down the guest that has it open, or wait until the other program has ended: {programs}",
                programs=joined(names),
            )
        error = InUseError(tried, said=said, next_step=how, holders=names)
    elif _NO_SPACE.search(words):
        error = NoSpaceError(tried, said=said, next_step=t("free space on that file system and try again"))
    elif _NO_PERMISSION.search(words):
        how = t("check the owner and mode of the file, its folders and the images below it")
        error = PermissionDeniedError(tried, said=said, next_step=how)
    elif _NOT_FOUND.search(words):
        how = t("check the path and the backing file that the image names")
        error = NotFoundError(tried, said=said, next_step=how)
    elif _BAD_IMAGE.search(words):
        how = t("inspect the image with vmsnap_nb.chain(path); to find damage, run qemu-img check")
        error = ImageError(tried, said=said, next_step=how)
    else:
        return process.command_error(done, tried)
    error.add_note(_command(done))
    return error


def _holders(words: str) -> list[str]:
    match = _HELD_IMAGE.search(words)
    if match is None:
        return []
    try:
        status = os.stat(match[1])
    except OSError:
        return []
    found = locks.holders(identity_of(status))
    return [t("{command} (process {pid})", command=command, pid=pid) for pid, command in found]
