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
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_library import library

__all__ = ["COMMAND_PORT", "MAX_COMMAND", "Port", "check_command", "run_on_port"]

COMMAND_PORT = "org.vmsnap_nb.0"
"""Name of the virtio serial port on which lab guests take commands; ``listen.sh`` looks for it."""

MAX_COMMAND = 96 * 1024
"""Bytes that a command may have: Linux takes no argument of more than 128 KiB."""

_GRACE = 30.0
"""Seconds that a guest may take to answer after a command's own time is over: the emulated ones are slow."""


class Port:
    """A virtio serial port of a running guest, opened by this process.

    Parameters
    ----------
    connection : libvirt.virConnect
        The connection that `domain` belongs to.
    domain : libvirt.virDomain
        The guest.
    name : str
        The port's name.
    wait : float
        Seconds to wait for another process that has it open.

    Raises
    ------
    GuestNotReadyError
        The guest is off, or another process keeps the port open.
    """

    def __init__(self, connection: Any, domain: Any, name: str, *, wait: float = 5.0) -> None:
        self._libvirt = library()
        self._what = f"reach the port {name} of {domain.name()}"
        self._arrived = threading.Condition()
        self._buffer = bytearray()
        self._ended = ""
        self._stream = self._open(connection, domain, name, time.monotonic() + wait)
        events = (
            self._libvirt.VIR_STREAM_EVENT_READABLE
            | self._libvirt.VIR_STREAM_EVENT_HANGUP
            | self._libvirt.VIR_STREAM_EVENT_ERROR
        )
        with libvirt_errors(self._what):
            self._stream.eventAddCallback(events, self._on_event, None)

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
                if "stream exists" not in (error.said or ""):
                    raise GuestNotReadyError(
                        self._what, said=error.said, next_step="start the guest, or wait until it runs"
                    ) from error
                if time.monotonic() >= deadline:
                    raise GuestNotReadyError(
                        self._what, said=error.said, next_step="wait until the other process has finished its command"
                    ) from error
            time.sleep(0.05)

    def _on_event(self, stream: Any, events: int, _: object) -> None:
        """Take what has come; runs in the event loop's thread, which must never see an exception."""
        with self._arrived:
            try:
                while True:
                    data = stream.recv(65536)
                    if data == -2:  # nothing more at present
                        break
                    if not data:
                        self._ended = "the guest's end of the port was closed"
                        break
                    self._buffer += data
            except self._libvirt.libvirtError as error:
                self._ended = str(error)
            if events & (self._libvirt.VIR_STREAM_EVENT_HANGUP | self._libvirt.VIR_STREAM_EVENT_ERROR):
                self._ended = self._ended or "the guest's end of the port was closed"
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
                raise GuestNotReadyError(self._what, said=self._ended or "the guest does not take what is sent")
            else:
                time.sleep(0.02)

    def lines(self, deadline: float) -> Iterator[bytes]:
        """Give complete lines as they come, until `deadline` (of `time.monotonic`).

        Raises
        ------
        GuestNotReadyError
            The guest went away, or the time is over.
        """
        while True:
            with self._arrived:
                while b"\n" not in self._buffer and not self._ended:
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._arrived.wait(left):
                        raise GuestNotReadyError(self._what, said="the guest did not answer in time")
                if b"\n" not in self._buffer:
                    raise GuestNotReadyError(self._what, said=self._ended)
                complete, _, rest = bytes(self._buffer).rpartition(b"\n")
                self._buffer = bytearray(rest)
            yield from complete.split(b"\n")

    def close(self) -> None:
        """Let go of the port."""
        with self._arrived:
            if not self._ended:
                self._forget_events()
            self._ended = self._ended or "closed"
        try:
            self._stream.abort()
        except self._libvirt.libvirtError:
            return  # it has ended by itself

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_command(command: str) -> bytes:
    """Give a command's bytes.

    Raises
    ------
    InvalidRequestError
        A shell cannot take it.
    """
    data = command.encode(errors="surrogateescape")
    if len(data) > MAX_COMMAND or b"\0" in data:
        raise InvalidRequestError(
            f"run a command of {len(data)} bytes in the guest",
            said=f"at most {MAX_COMMAND} bytes, and no null byte, can be passed to a shell",
        )
    return data


def run_on_port(port: Port, command: str, *, timeout: float, patience: float = _GRACE) -> Completed:
    """Run a command by the guest's ``/bin/sh`` and wait for its end.

    What it leaves running in the background goes on. The guest writes all its data to the disk before it answers.

    Parameters
    ----------
    port : Port
        Freshly opened.
    command : str
        For ``/bin/sh -c``; its standard input is empty.
    timeout : float
        Seconds after which the guest kills it, with all that it started.
    patience : float
        Further seconds after which the guest itself is given up.

    Returns
    -------
    Completed

    Raises
    ------
    GuestError
        The command took too long.
    GuestNotReadyError
        The guest does not answer.
    InvalidRequestError
        The command is too long, or has a null byte in it.
    """
    data = check_command(command)
    deadline = time.monotonic() + timeout + patience
    name = secrets.token_hex(8)
    request = f"{name} {max(1, round(timeout))} {base64.b64encode(data).decode()}\n"
    # The line feed ends whatever a client that died in the middle may have left.
    port.send(b"\n" + request.encode(), deadline)
    parts: dict[str, list[bytes]] = {}
    lines: list[bytes] = []
    for line in port.lines(deadline):
        if not line.startswith(b"@"):
            lines.append(line)
            continue
        words = line[1:].decode(errors="replace").split()
        if len(words) < 2 or words[0] != name:
            lines = []  # the rest of an answer to somebody who has gone
        elif words[1] == "end":
            return _completed(parts, int(words[2]), late=words[3] == "1", command=command, timeout=timeout)
        else:
            lines = parts[words[1]] = []
    raise AssertionError("lines() ends by an exception only")


def _completed(parts: dict[str, list[bytes]], status: int, *, late: bool, command: str, timeout: float) -> Completed:
    out, err = (base64.b64decode(b"".join(parts.get(part, []))) for part in ("out", "err"))
    completed = Completed.of(status, out, err)
    if late:
        raise GuestError(
            f"run in the guest: {command.strip()[:200]}",
            said=f"it took longer than {timeout:g} s and was ended"
            + (f"; so far it wrote:\n{completed.stdout}{completed.stderr}" if out or err else ""),
            next_step="give it more time: execute(…, timeout=…), or put it into the background with &",
        )
    return completed
