"""The one place that starts programs: an argument vector in, bytes out, within limits, or a named error."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from vmsnap_nb.errors import CommandError, MissingPartError
from vmsnap_nb.model.size import human_size
from vmsnap_nb.system.confine import handed_over, is_confined, start
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.system.packages import install_sentence
from vmsnap_nb.words.message import Message, clauses, lines, t

__all__ = ["COPY_LIMITS", "Limits", "ProcessResult", "command_error", "hearing", "run", "set_limits"]

_PIECE = 1 << 16
_LOOK = 0.1
"""Seconds between two looks whether a program should end."""
_TOO_MUCH = {signal.SIGABRT, signal.SIGSEGV, signal.SIGTRAP, signal.SIGKILL, signal.SIGXCPU}
"""How programs end that are refused memory, or have used up their time of the processor."""
_MOST_HEARD = 4096
"""Characters of what a program says that are kept where it has ended well."""
_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)
_DIES = 5.0
"""Seconds that a killed program may take: one that waits for a disk that does not answer cannot end, and is left."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may take.

    For a chain of many layers QEMU reserves about 40 MiB of address space a layer (libvirt allows 200 of them), and
    for its threads up to 5 GiB: most of that is never used.
    """

    seconds: float | None = 600.0  # time by the clock; None for what copies data, and can be stopped
    cpu_seconds: int | None = None  # time of the processor
    memory: int = 16 << 30  # address space in bytes
    output: int = 64 << 20  # bytes of its output that are kept
    errors: int = 1 << 20  # bytes of its messages that are kept


COPY_LIMITS = Limits(seconds=None)
"""For what writes to images, or reads whole disks: nobody can say how long that takes."""


@contextlib.contextmanager
def hearing() -> Iterator[list[str]]:
    """Collect what programs that this thread runs say on their standard error though they end well."""
    said: list[str] = []
    token = _heard.set(said)
    try:
        yield said
    finally:
        _heard.reset(token)


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """A program that has ended."""

    argv: tuple[str, ...]
    exit_status: int  # 0 for success; minus the number of the signal that ended it
    stdout: bytes
    stderr: str
    limits: Limits = field(default_factory=Limits)
    cut: bool = False  # whether it wrote more than `limits.output`, so that `stdout` is not all of it
    stopped: bool = False  # whether it was ended because it was asked to


def run(
    argv: Sequence[str],
    *,
    tried: Message,
    limits: Limits | None = None,
    check: bool = True,
    environment: Mapping[str, str] | None = None,
    take: Callable[[bytes], None] | None = None,
    stop: Callable[[], bool] | None = None,
    descriptors: Sequence[int] = (),
) -> ProcessResult:
    """Run a program to its end, without a shell, without input, and with messages in English.

    `tried` is what this is for, as a sentence without a full stop. With `check` an exit status other than 0 is an
    error. The variables of `environment` come beside those of this process. With `take` its output is handed over
    piece by piece, and not kept. Where `stop` says so it is killed. It gets some descriptors of this process, by the
    same numbers.
    """
    limits = limits or Limits()
    argv = tuple(argv)
    process = _start(argv, tried, environment, descriptors)
    talk = _Talk(process, limits, take)
    try:
        set_limits(process.pid, limits)
        in_time = talk.follow(stop)
    finally:
        if process.poll() is None:
            _end(process)
        talk.close()
    if not in_time:
        raise CommandError(
            tried,
            why=t("{program} took longer than {seconds} s and was stopped", program=argv[0], seconds=limits.seconds),
            next_step=t("check that the disk or network that stores the files still responds"),
            argv=argv,
            stderr=talk.errors,
        )
    done = ProcessResult(
        argv=argv,
        exit_status=process.returncode,
        stdout=bytes(talk.out),
        stderr=talk.errors,
        limits=limits,
        cut=talk.cut,
        stopped=talk.stopped,
    )
    if check and not done.stopped and done.exit_status != 0:
        raise command_error(done, tried)
    heard, words = _heard.get(), done.stderr.strip()
    if heard is not None and words and done.exit_status == 0:
        heard.append(words if len(words) <= _MOST_HEARD else f"{words[:_MOST_HEARD]} …")
    return done


def command_error(done: ProcessResult, tried: Message) -> CommandError:
    """Return the error of a program that has failed."""
    words = done.stderr.strip()
    why: list[Message] = []
    if done.exit_status < 0:
        why.append(t("{program} was terminated by signal {signal}", program=done.argv[0], signal=-done.exit_status))
    elif not words:
        why.append(t("{program} ended with exit status {status}", program=done.argv[0], status=done.exit_status))
    if -done.exit_status in _TOO_MUCH or "allocate" in words:
        why.append(_limited_to(done.argv[0], done.limits))
    return CommandError(
        tried,
        said=words or None,
        why=clauses(why) or None,
        next_step=t("to examine the failure, run the command in a shell: {command}", command=shlex.join(done.argv)),
        argv=done.argv,
        exit_status=done.exit_status,
        stderr=done.stderr,
    )


def set_limits(pid: int, limits: Limits) -> None:
    """Limit a program that was started.

    From outside, since code between fork and exec is not safe in a program with threads.
    """
    import resource  # a Python that starts no programs has none

    wanted = ((resource.RLIMIT_AS, limits.memory), (resource.RLIMIT_CPU, limits.cpu_seconds))
    with contextlib.suppress(ProcessLookupError):
        for what, most in wanted:
            if most is None:
                continue
            _, hard = resource.prlimit(pid, what)
            lower = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.prlimit(pid, what, (lower, lower))


def _limited_to(program: str, limits: Limits) -> Message:
    memory = human_size(limits.memory)
    if limits.cpu_seconds is None:
        return t("{program} may use up to {memory} of memory", program=program, memory=memory)
    return t(
        "{program} may use up to {seconds} s of processor time and {memory} of memory",
        program=program,
        seconds=limits.cpu_seconds,
        memory=memory,
    )


def _start(
    argv: tuple[str, ...], tried: Message, environment: Mapping[str, str] | None, descriptors: Sequence[int]
) -> subprocess.Popen[bytes]:
    confined = is_confined(argv)
    words, own = handed_over(argv) if confined else (argv, ())

    def begin() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **(environment or {}), "LC_ALL": "C.UTF-8"},
            pass_fds=(*descriptors, *own),
            start_new_session=True,  # an interrupt (Ctrl-C, the notebook's stop button) is for us to hear, not for it
        )

    try:
        return start(begin, argv) if confined else begin()
    except FileNotFoundError as error:
        raise MissingPartError(
            tried,
            why=t("the program {program} is not installed", program=argv[0]),
            next_step=t("install it: {commands}", commands=install_sentence(argv[0])),
        ) from error
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise from_os_error(error, tried) from error
        raise MissingPartError(
            tried,
            why=t("this Python environment, such as a browser, cannot start programs"),
            next_step=t("do this on a machine with {program}", program=argv[0]),
        ) from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program, with all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_DIES)


class _Talk:
    """What a program writes, as much of it as is kept."""

    def __init__(self, process: subprocess.Popen[bytes], limits: Limits, take: Callable[[bytes], None] | None) -> None:
        self.out = bytearray()
        self.cut = False
        self.stopped = False
        self._process = process
        self._limits = limits
        self._take = take or self._keep
        self._said = bytearray()
        self._lost = False
        self._deadline = None if limits.seconds is None else time.monotonic() + limits.seconds

    @property
    def errors(self) -> str:
        """What it has said on its standard error."""
        words = self._said.decode(errors="replace")
        if not self._lost:
            return words
        return lines([words, t("(truncated after {size})", size=human_size(self._limits.errors))])

    def follow(self, stop: Callable[[], bool] | None) -> bool:
        """Read until it has ended, or should stop; return False if that takes too long."""
        with selectors.DefaultSelector() as selector:
            for stream, take in ((self._process.stdout, self._take), (self._process.stderr, self._complain)):
                assert stream is not None
                selector.register(stream, selectors.EVENT_READ, take)
            while selector.get_map():
                if (left := self._left()) == 0:
                    return False
                if stop is not None and stop():
                    self.stopped = True
                    return True
                for key, _ in selector.select(left if stop is None else min(left or _LOOK, _LOOK)):
                    piece = os.read(key.fd, _PIECE)
                    if piece:
                        key.data(piece)
                    else:
                        selector.unregister(key.fileobj)
        try:
            self._process.wait(self._left())
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Let go of its streams: another process may have them open for longer."""
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _keep(self, piece: bytes) -> None:
        room = self._limits.output - len(self.out)
        self.out += piece[:room]
        self.cut = self.cut or len(piece) > room

    def _complain(self, piece: bytes) -> None:
        room = self._limits.errors - len(self._said)
        self._said += piece[:room]
        self._lost = self._lost or len(piece) > room
