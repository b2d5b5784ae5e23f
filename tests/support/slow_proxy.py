"""A TCP proxy with a delay, which counts the requests that go through it: a network between a laptop and a host."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

__all__ = ["SlowProxy", "slow_proxy"]

_CALL, _REPLY = 0, 1


class SlowProxy:
    """A proxy that runs in a thread; get one from `slow_proxy`."""

    def __init__(self, port: int, delay: float) -> None:
        self.calls = 0
        self.trips = 0  # calls that were made while no answer was waited for
        self._open = 0
        self.port = 0
        self.silent = False  # whether nothing goes through any more, as with a network that is down
        self._target, self._delay = port, delay
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._writers: list[asyncio.StreamWriter] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def close(self) -> None:
        """End it, with all connections."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += (writer, far_writer)
        await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Hand on message by message (https://libvirt.org/kbase/internals/rpc.html): length, then a header."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                length = await source.readexactly(4)
                message = await source.readexactly(int.from_bytes(length, "big") - 4)
                self._count(kind=int.from_bytes(message[12:16], "big"))
                if not self.silent:
                    self._loop.call_later(self._delay, target.write, length + message)
        self._loop.call_later(self._delay, target.close)

    def _count(self, kind: int) -> None:
        if kind == _CALL:
            self.calls += 1
            self.trips += self._open == 0
            self._open += 1
        elif kind == _REPLY:
            self._open -= 1


@contextlib.contextmanager
def slow_proxy(port: int, *, delay: float = 0.01) -> Iterator[SlowProxy]:
    """Run a proxy before a port of this machine; `delay` is in seconds, for each direction."""
    proxy = SlowProxy(port, delay)
    try:
        yield proxy
    finally:
        proxy.close()
