"""Runs commands in a guest through a virtio serial port on which ``lab/boot/listen.sh`` listens.

The port is reached through libvirt's streams, so that it works on other hosts as well.
"""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

from vmsnap_nb.errors import GuestError, GuestNotReadyError, InvalidRequestError, VmsnapError
from vmsnap_nb.model.completed import Completed
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.library import library
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
_PIECE = 1 << 16
_MOST_WAITING = 1 << 18
"""Bytes that wait to be read; as long as there are so many, the guest has to wait."""
_LONGEST_LINE = 1 << 16
"""Bytes that a line of an answer may have; the listener's have 77."""
_MOST_IN_BASE64 = (MAX_OUTPUT // 3 + 1) * 4
_EXCERPT = 4000
"""Characters of a command's output that an error shows."""


def grace(timeout: float) -> float:
    """Return the seconds in which a guest must have answered after the time of a command is over."""
    return min(max(0.8, timeout / 20), 5.0)


class Port:
    """A virtio serial port of a running guest, opened by this process.

    For another process that has it open it waits `wait` seconds.
    """

    def __init__(self, connection: Any, domain: Any, name: str, *, wait: float = 5.0) -> None:
        self._libvirt = library()
        self._what = t("open the port {port} of {guest}", port=name, guest=domain.name())
        self._arrived = threading.Condition()
        self._buffer = bytearray()
        self._ended = ""
        self._full = self._stopped = False
        self._stream = self._open(connection, domain, name, time.monotonic() + wait)
        self._events = (
            self._libvirt.VIR_STREAM_EVENT_READABLE
            | self._libvirt.VIR_STREAM_EVENT_HANGUP
            | self._libvirt.VIR_STREAM_EVENT_ERROR
        )
        with libvirt_errors(self._what):
            self._stream.eventAddCallback(self._events, self._on_event, None)

    def _open(self, connection: Any, domain: Any, name: str, deadline: float) -> Any:
        while True:
            with libvirt_errors(self._what):
                stream = connection.newStream(self._libvirt.VIR_STREAM_NONBLOCK)
            try:
                with libvirt_errors(self._what):
                    domain.openChannel(name, stream, 0)
                return stream
            except VmsnapError as error:
                # libvirt says so only in words: "Active channel stream exists for this domain".
                if "stream exists" not in (error.quoted or ""):
                    raise GuestNotReadyError(
                        self._what, said=error.quoted, next_step=t("start the guest, or wait until it is running")
                    ) from error
                if time.monotonic() >= deadline:
                    raise GuestNotReadyError(
                        self._what,
                        said=error.quoted,
                        next_step=t("wait until the other process has finished its command"),
                    ) from error
            time.sleep(0.05)

    def _on_event(self, stream: Any, events: int, _: object) -> None:
        """Take what has come; runs in the event loop's thread, which must never see an exception.

        A guest can write without an end: no more is taken than somebody reads, and the guest then has to wait.
        """
        with self._arrived:
            try:
                while len(self._buffer) < _MOST_WAITING:
                    data = stream.recv(_PIECE)
                    if data == -2:  # nothing more at present
                        break
                    if not data:
                        self._ended = t("the guest closed its end of the port")
                        break
                    self._buffer += data
                else:
                    self._full = True
                    stream.eventUpdateCallback(self._events & ~self._libvirt.VIR_STREAM_EVENT_READABLE)
            except self._libvirt.libvirtError as error:
                self._ended = str(error)
            if events & (self._libvirt.VIR_STREAM_EVENT_HANGUP | self._libvirt.VIR_STREAM_EVENT_ERROR):
                self._ended = self._ended or t("the guest closed its end of the port")
            if self._ended:
                self._forget_events()
            self._arrived.notify_all()

    def _forget_events(self) -> None:
        try:
            self._stream.eventRemoveCallback()
        except self._libvirt.libvirtError:
            return  # removed already

    def send(self, data: bytes, deadline: float) -> None:
        """Write all of `data` before `deadline` (of `time.monotonic`)."""
        rest = memoryview(data)
        while rest:
            with libvirt_errors(self._what):
                count = self._stream.send(bytes(rest[:4096]))
            if count > 0:
                rest = rest[count:]
            elif self._ended or time.monotonic() >= deadline:
                raise self._over(self._ended or t("the guest did not accept the data"))
            else:
                time.sleep(0.02)

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
                raise self._over(t("the guest did not answer in time"))
            if not self._buffer:
                raise self._over(self._ended)
            data = bytes(self._buffer)
            self._buffer.clear()
            if self._full and not self._ended:
                self._full = False
                with libvirt_errors(self._what):
                    self._stream.eventUpdateCallback(self._events)
            return data

    def _over(self, ended: str) -> GuestNotReadyError:
        """Return the error of a port that gives no more: for a reason of our own, or in libvirt's words."""
        if isinstance(ended, Message):
            return GuestNotReadyError(self._what, why=ended)
        return GuestNotReadyError(self._what, said=ended)

    def stop_waiting(self) -> None:
        """Have the thread that waits for the guest give up; that one closes the port, since a stream has one owner."""
        with self._arrived:
            self._stopped = True
            self._arrived.notify_all()

    def close(self) -> None:
        """Let go of the port."""
        with self._arrived:
            if not self._ended:
                self._forget_events()
            self._ended = self._ended or t("the port was closed")
        try:
            self._stream.abort()
        except self._libvirt.libvirtError:
            return  # it has ended by itself

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_command(command: str) -> bytes:
    """Return a command's bytes if a shell can take them."""
    data = command.encode(errors="surrogateescape")
    if len(data) > MAX_COMMAND or b"\0" in data:
        raise InvalidRequestError(
            t("run a command of {size} bytes in the guest", size=len(data)),
            why=t("a shell accepts at most {most} bytes, and no null byte", most=MAX_COMMAND),
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
            why=t("the guest did not answer in time: the command took longer than {seconds:g} s", seconds=timeout),
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
        why=t("the guest's answer is not understood: {answer}", answer=what),
        next_step=t("check the guest on its console(); do not trust its answers"),
    )


def too_late(tried: Message, timeout: float, completed: Completed | None = None) -> GuestError:
    """Return the error of a command that was ended, with what it wrote."""
    wrote = "" if completed is None else completed.stdout + completed.stderr
    return GuestError(
        tried,
        why=t("the command took longer than {seconds:g} s and was ended", seconds=timeout),
        said=wrote[:_EXCERPT] + ("…" if len(wrote) > _EXCERPT else "") or None,
        next_step=t("allow more time: execute(…, timeout=…), or run it in the background with &"),
    )
