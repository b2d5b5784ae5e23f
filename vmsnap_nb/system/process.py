"""The one place that starts programs: an argument vector in, bytes out, or a named error."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vmsnap_nb.errors import CommandError, MissingPartError
from vmsnap_nb.system.os_errors import from_os_error
from vmsnap_nb.system.packages import install_sentence

__all__ = ["Completed", "Limits", "run"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may take.

    Attributes
    ----------
    seconds : float or None
        Time by the clock.
    cpu_seconds : int or None
        Time of the processor.
    memory : int or None
        Address space in bytes.
    """

    seconds: float | None = None
    cpu_seconds: int | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that has ended.

    Attributes
    ----------
    argv : tuple of str
        What was run.
    exit_status : int
        0 for success; minus the number of the signal that ended it.
    stdout : bytes
        Its output.
    stderr : str
        Its complaints.
    """

    argv: tuple[str, ...]
    exit_status: int
    stdout: bytes
    stderr: str


def run(
    argv: Sequence[str],
    *,
    tried: str,
    limits: Limits | None = None,
    check: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Completed:
    """Run a program to its end, without a shell, without input, and with messages in English.

    Parameters
    ----------
    argv : sequence of str
        The program and its arguments.
    tried : str
        For the error: what this is for, as a sentence without a full stop.
    limits : Limits, optional
        What it may take; nothing is limited if left out.
    check : bool
        Whether an exit status other than 0 is an error.
    environment : mapping of str to str, optional
        Variables beside those of this process.

    Returns
    -------
    Completed

    Raises
    ------
    MissingPartError
        No such program; `next_step` says what to install.
    CommandError
        It failed, or went over a limit.
    """
    limits = limits or Limits()
    argv = tuple(argv)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {}), "LC_ALL": "C.UTF-8"},
            start_new_session=True,  # an interrupt (Ctrl-C, the notebook's stop button) is for us to hear, not for it
        )
    except FileNotFoundError as error:
        raise MissingPartError(
            tried,
            said=f"there is no program {argv[0]}",
            next_step=f"install it: {install_sentence(argv[0])}",
        ) from error
    except OSError as error:
        raise from_os_error(error, tried) from error
    with process:
        try:
            _limit(process.pid, limits)
            stdout, stderr = process.communicate(timeout=limits.seconds)
        except subprocess.TimeoutExpired as error:
            process.kill()
            _, stderr = process.communicate()
            raise CommandError(
                tried,
                said=f"{argv[0]} took longer than {limits.seconds} s and was ended",
                next_step="see whether the disk or the network below the files still answers",
                argv=argv,
                stderr=stderr.decode(errors="replace"),
            ) from error
        except BaseException:
            process.kill()
            raise
    done = Completed(argv, process.returncode, stdout, stderr.decode(errors="replace"))
    if check and done.exit_status != 0:
        raise command_error(done, tried)
    return done


def command_error(done: Completed, tried: str) -> CommandError:
    """Give the error of a program that has failed."""
    words = done.stderr.strip()
    if done.exit_status < 0:
        words = f"{done.argv[0]} was ended by signal {-done.exit_status}" + (f": {words}" if words else "")
    return CommandError(
        tried,
        said=words or f"{done.argv[0]} ended with exit status {done.exit_status}",
        argv=done.argv,
        exit_status=done.exit_status,
        stderr=done.stderr,
    )


def _limit(pid: int, limits: Limits) -> None:
    # From outside, since code between fork and exec is not safe in a program with threads.
    wanted = ((resource.RLIMIT_AS, limits.memory), (resource.RLIMIT_CPU, limits.cpu_seconds))
    with contextlib.suppress(ProcessLookupError):
        for what, most in wanted:
            if most is not None:
                resource.prlimit(pid, what, (most, most))
