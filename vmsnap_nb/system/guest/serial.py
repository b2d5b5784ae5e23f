"""The serial console of a running guest, as a terminal: what is typed, and what the guest answers."""

from __future__ import annotations

import time
from typing import Any

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.system.guest.stream import GuestStream
from vmsnap_nb.words.message import counted, t

__all__ = ["SerialConsole"]

_MOST_TYPED = 1 << 20
"""Bytes that wait until the guest takes them."""
_PIECE = 4096


class SerialConsole(GuestStream):
    """The first serial console of a running guest, opened by this process; libvirt gives it to one at a time."""

    def __init__(self, connection: Any, domain: Any) -> None:
        self._typed = bytearray()
        super().__init__(
            connection,
            t("open the serial console of {guest}", guest=domain.name()),
            lambda stream: domain.openConsole(None, stream, 0),
            deadline=time.monotonic() + 1.0,
            when_taken=t("close the other terminal of this guest, for example virsh console"),
        )

    @property
    def ended(self) -> str:
        """Why it gives no more; empty as long as it does."""
        return self._ended

    def read(self) -> bytes:
        """Wait for what the guest writes, and return it; nothing means that it has ended, or is to be closed."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._buffer or self._ended or self._stopped)
            return b"" if self._stopped else self._taken()

    def type(self, data: bytes) -> None:
        """Write to the guest as soon as it takes it, without waiting for that."""
        with self._arrived:
            if self._ended or self._stopped:
                return
            if len(self._typed) + len(data) > _MOST_TYPED:
                raise InvalidRequestError(
                    counted("write {count} byte to the console", "write {count} bytes to the console", len(data)),
                    why=t("at most {most} bytes can wait until the guest accepts them", most=_MOST_TYPED),
                    next_step=t("write the data in smaller parts"),
                )
            self._typed += data
            self._renew_events()

    def _wanted_events(self) -> int:
        writable: int = self._libvirt.VIR_STREAM_EVENT_WRITABLE
        return super()._wanted_events() | (writable if self._typed else 0)

    def _on_event(self, stream: Any, events: int, opaque: object) -> None:
        with self._arrived:
            if events & self._libvirt.VIR_STREAM_EVENT_WRITABLE and self._typed:
                self._pass_on(stream)
        super()._on_event(stream, events, opaque)

    def _pass_on(self, stream: Any) -> None:
        try:
            count = stream.send(bytes(self._typed[:_PIECE]))
            if count > 0:
                del self._typed[:count]
            self._renew_events()
        except self._libvirt.libvirtError as error:
            self._typed.clear()
            self._ended = str(error)
