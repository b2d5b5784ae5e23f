"""A stream of libvirt to a port or console of a running guest; it works with other hosts as well."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Self

from vmsnap_nb.errors import GuestNotReadyError, VmsnapError
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.words.message import N_, Message, t

__all__ = ["GuestStream"]

_PIECE = 1 << 16
_CONNECT_AGAIN = N_("make sure that the guest is running, and try again")
_MOST_WAITING = 1 << 18
"""Bytes that wait to be read; as long as there are so many, the guest has to wait."""
_TAKEN = ("stream exists", "session exists")
"""libvirt says only in words that another stream has it: "Active channel stream exists for this domain"."""


class GuestStream:
    """What `attach` connects to a new stream, opened by this process.

    Where another process has it, it is waited for until `deadline` (of `time.monotonic`); `when_taken` is the next step
    where that is too late.
    """

    def __init__(
        self,
        connection: Any,
        what: Message,
        attach: Callable[[Any], object],
        *,
        deadline: float,
        when_taken: Message,
    ) -> None:
        self._libvirt = library()
        self._what = what
        self._when_taken = when_taken
        self._arrived = threading.Condition()
        self._buffer = bytearray()
        self._ended = ""
        self._full = self._stopped = False
        self.has_heard = False  # whether anything has come
        self._stream = self._open(connection, attach, deadline)
        self._events: int = (
            self._libvirt.VIR_STREAM_EVENT_READABLE
            | self._libvirt.VIR_STREAM_EVENT_HANGUP
            | self._libvirt.VIR_STREAM_EVENT_ERROR
        )
        with libvirt_errors(self._what):
            self._stream.eventAddCallback(self._events, self._on_event, None)

    def _open(self, connection: Any, attach: Callable[[Any], object], deadline: float) -> Any:
        while True:
            with libvirt_errors(self._what):
                stream = connection.newStream(self._libvirt.VIR_STREAM_NONBLOCK)
            try:
                with libvirt_errors(self._what):
                    attach(stream)
                return stream
            except VmsnapError as error:
                taken = any(words in (error.quoted or "") for words in _TAKEN)
                if not taken or time.monotonic() >= deadline:
                    next_step = self._when_taken if taken else t("start the guest, or wait until it is running")
                    raise GuestNotReadyError(self._what, said=error.quoted, next_step=next_step) from error
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
                    self.has_heard = True
                else:
                    self._full = True
                    self._renew_events()
            except self._libvirt.libvirtError as error:
                self._ended = str(error)
            if events & (self._libvirt.VIR_STREAM_EVENT_HANGUP | self._libvirt.VIR_STREAM_EVENT_ERROR):
                self._ended = self._ended or t("the guest closed its end of the port")
            if self._ended:
                self._forget_events()
            self._arrived.notify_all()

    def _renew_events(self) -> None:
        self._stream.eventUpdateCallback(self._wanted_events())

    def _wanted_events(self) -> int:
        readable: int = self._libvirt.VIR_STREAM_EVENT_READABLE
        return self._events & ~readable if self._full else self._events

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

    def _taken(self) -> bytes:
        """Return what waits to be read; the caller has the lock."""
        data = bytes(self._buffer)
        self._buffer.clear()
        if self._full and not self._ended:
            self._full = False
            with libvirt_errors(self._what):
                self._renew_events()
        return data

    def _over(self, ended: str) -> GuestNotReadyError:
        """Return the error of a stream that gives no more: for a reason of our own, or in libvirt's words."""
        if isinstance(ended, Message):
            return GuestNotReadyError(self._what, why=ended, next_step=t(_CONNECT_AGAIN))
        return GuestNotReadyError(self._what, said=ended, next_step=t(_CONNECT_AGAIN))

    def stop_waiting(self) -> None:
        """Have the thread that waits for the guest give up; that one closes the stream, since it has one owner."""
        with self._arrived:
            self._stopped = True
            self._arrived.notify_all()

    def close(self) -> None:
        """Let go of it."""
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
