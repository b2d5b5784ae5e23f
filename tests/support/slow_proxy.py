"""A TCP proxy with a delay, which counts the requests that go through it: a network between a laptop and a host."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

__all__ = ["SlowProxy", "slow_proxy"]


class SlowProxy:
    """A proxy that runs in a thread; get one from `slow_proxy`."""

    def __init__(self, port: int, delay: float) -> None:
        self.trips = 0
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
        turn = [""]  # who has sent last: a request that follows an answer is another round trip
        await asyncio.gather(
            self._copy(reader, far_writer, "request", turn), self._copy(far_reader, writer, "answer", turn)
        )

    async def _copy(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, what: str, turn: list[str]
    ) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while data := await source.read(1 << 16):
                if what == "request" and turn[0] != what:
                    self.trips += 1
                turn[0] = what
                if not self.silent:
                    self._loop.call_later(self._delay, target.write, data)
            self._loop.call_later(self._delay, target.close)


@contextlib.contextmanager
def slow_proxy(port: int, *, delay: float = 0.01) -> Iterator[SlowProxy]:
    """Run a proxy before a port of this machine; `delay` is in seconds, for each direction."""
    proxy = SlowProxy(port, delay)
    try:
        yield proxy
    finally:
        proxy.close()
