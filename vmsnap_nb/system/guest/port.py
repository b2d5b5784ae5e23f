"""Runs commands in a guest through a virtio serial port on which ``lab/boot/listen.sh`` listens.

The port is reached through libvirt's streams, so that it works on other hosts as well.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Iterator
from typing import Any

from vmsnap_nb.errors import GuestError, GuestNotReadyError, InvalidRequestError
from vmsnap_nb.model.completed import Completed
from vmsnap_nb.system.guest.stream import GuestStream
from vmsnap_nb.words.message import Message, t

__all__ = [
    "COMMAND_PORT",
    "MAX_COMMAND",
    "MAX_OUTPUT",
    "Port",
    "ask_port",
    "check_command",
    "grace",
    "odd_answer",
    "run_on_port",
    "too_late",
]

COMMAND_PORT = "org.vmsnap_nb.0"
"""Name of the virtio serial port on which lab guests take commands; ``listen.sh`` looks for it."""

MAX_COMMAND = 96 * 1024
"""Bytes that a command may have: Linux takes no argument of more than 128 KiB."""

MAX_OUTPUT = 3 << 20
"""Bytes of each of the two outputs of a command that are kept; the guest sends a little more, which shows that it is
cut. Of the agent's answers libvirt takes 10 MiB, in which both are written in base64."""

_MOST_SECONDS = 2_000_000
"""The longest time for which a busybox waits in one call."""
_LONGEST_LINE = 1 << 16
"""Bytes that a line of an answer may have; the listener's have 77."""
_MOST_IN_BASE64 = (MAX_OUTPUT // 3 + 1) * 4
_EXCERPT = 4000
"""Characters of a command's output that an error shows."""


def grace(timeout: float) -> float:
    """Return the seconds in which a guest must have answered after the time of a command is over."""
    return min(max(0.8, timeout / 20), 5.0)


class Port(GuestStream):
    """A virtio serial port of a running guest, opened by this process.

    For another process that has it open it waits `wait` seconds.
    """

    def __init__(self, connection: Any, domain: Any, name: str, *, wait: float = 5.0) -> None:
        super().__init__(
            connection,
            t("open the port {port} of {guest}", port=name, guest=domain.name()),
            lambda stream: domain.openChannel(name, stream, 0),
            deadline=time.monotonic() + wait,
            when_taken=t("wait until the other process has finished its command"),
        )

    def lines(self, deadline: float) -> Iterator[bytes]:
        """Yield lines as they come, until `deadline` (of `time.monotonic`); those that are too long are left out."""
        rest = b""
        skipped = False
        while True:
            *complete, rest = (rest + self._take(deadline)).split(b"\n")
            if skipped and complete:
                del complete[0]
                skipped = False
            if len(rest) > _LONGEST_LINE:
                rest, skipped = b"", True
            yield from complete

    def _take(self, deadline: float) -> bytes:
        with self._arrived:
            while not self._buffer and not self._ended and not self._stopped:
                left = deadline - time.monotonic()
                if left <= 0 or not self._arrived.wait(left):
                    break
            if self._stopped:
                raise self._over(t("the command was interrupted"))
            if time.monotonic() >= deadline:
                raise self._over(t("the guest did not respond in time"))
            if not self._buffer:
                raise self._over(self._ended)
            return self._taken()


def check_command(command: str) -> bytes:
    """Return a command's bytes if a shell can take them."""
    data = command.encode(errors="surrogateescape")
    if len(data) > MAX_COMMAND or b"\0" in data:
        raise InvalidRequestError(
            t("run a command of {size} bytes in the guest", size=len(data)),
            why=t("a shell accepts at most {most} bytes and no null bytes", most=MAX_COMMAND),
            next_step=t("split the command into shorter ones, without null bytes"),
        )
    return data


def run_on_port(port: Port, command: str, *, timeout: float, deadline: float | None = None) -> Completed:
    """Run a command by the guest's ``/bin/sh``, with empty standard input, and wait for its end.

    The port must be freshly opened. After `timeout` seconds the guest kills it, with all that it started; at the
    `deadline` (of `time.monotonic`) the guest itself is given up. What it leaves running in the background goes on. The
    guest writes all its data to the disk before it answers. An answer that is none is a `GuestError`.
    """
    data = check_command(command)
    if deadline is None:
        deadline = time.monotonic() + timeout + grace(timeout)
    name = secrets.token_hex(8)
    seconds = max(1, round(min(timeout, deadline - grace(timeout) - time.monotonic(), _MOST_SECONDS)))
    request = f"{name} {seconds} {base64.b64encode(data).decode()}\n"
    # The line feed ends whatever a client that died in the middle may have left.
    port.send(b"\n" + request.encode(), deadline)
    answer = _Answer(name)
    tried = t("run in the guest: {command}", command=command.strip()[:200])
    try:
        next(line for line in port.lines(deadline) if answer.take(line))
    except GuestNotReadyError as error:
        if time.monotonic() < deadline:
            raise
        raise GuestNotReadyError(
            tried,
            why=t("the guest did not respond in time: the command took longer than {seconds:g} s", seconds=timeout),
            next_step=t("allow more time: execute(…, timeout=…), or check the guest on its console()"),
        ) from error
    return _completed(answer, tried, timeout)


def ask_port(port: Port, deadline: float) -> None:
    """Ask the guest whether it takes commands, and wait for its answer; the port must be freshly opened.

    A listener of an older version runs an empty command for it.
    """
    answer = _Answer(secrets.token_hex(8))
    port.send(f"\n{answer.name} 0 \n".encode(), deadline)
    next(line for line in port.lines(deadline) if answer.take(line))


class _Answer:
    """What the listener answers to one command, line by line; see ``lab/boot/listen.sh``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._parts: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}
        self._now: bytearray | None = None
        self.end: list[str] = []

    def take(self, line: bytes) -> bool:
        """Take a line; return whether it is the last one."""
        if not line.startswith(b"@"):
            if self._now is not None and len(self._now) <= _MOST_IN_BASE64:
                self._now += line
            return False
        name, part, *rest = (*line[1:].decode(errors="replace").split(), "", "")
        # What has another name is the rest of an answer to somebody who has gone.
        self._now = self._parts.get(part) if name == self.name else None
        if name == self.name and part == "end":
            self.end = rest
            return True
        return False

    def part(self, name: str) -> bytes:
        """Return what the command wrote; ValueError if that is no base64."""
        return base64.b64decode(self._parts[name][:_MOST_IN_BASE64], validate=True)


def _completed(answer: _Answer, tried: Message, timeout: float) -> Completed:
    match answer.end:
        case [status, ("0" | "1") as late, *_] if status.isascii() and status.isdigit() and len(status) <= 3:
            pass
        case _:
            raise odd_answer(tried, repr(" ".join(answer.end).strip()[:80]))
    try:
        out, err = answer.part("out"), answer.part("err")
    except ValueError as error:
        raise odd_answer(tried, str(error)) from error
    completed = Completed.of(int(status), out, err, most=MAX_OUTPUT)
    if late == "1":
        raise too_late(tried, timeout, completed)
    return completed


def odd_answer(tried: Message, what: str) -> GuestError:
    """Return the error of an answer that is none."""
    return GuestError(
        tried,
        why=t("the guest's response is not valid ({answer})", answer=what),
        next_step=t("check the guest on its console(); do not rely on its responses"),
    )


def too_late(tried: Message, timeout: float, completed: Completed | None = None) -> GuestError:
    """Return the error of a command that was ended, with what it wrote."""
    wrote = "" if completed is None else completed.stdout + completed.stderr
    return GuestError(
        tried,
        why=t("the command took longer than {seconds:g} s and was stopped", seconds=timeout),
        said=wrote[:_EXCERPT] + ("…" if len(wrote) > _EXCERPT else "") or None,
        next_step=t("allow more time: execute(…, timeout=…), or run it in the background with &"),
    )
