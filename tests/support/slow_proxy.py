"""A TCP proxy with a delay, which counts the requests that go through it: a network between a laptop and a host.

It is a process of its own (``python -m support.slow_proxy PORT DELAY``), so that it takes no time from who is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator

from support import TESTS

__all__ = ["SlowProxy", "slow_proxy"]

_CALL, _REPLY, _STREAM = 0, 1, 3
_OK = 0


class SlowProxy:
    """A proxy that runs beside this process; get one from `slow_proxy`."""

    def __init__(self, port: int, delay: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.slow_proxy", str(port), str(delay)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=TESTS,
        )
        self.port: int = self._answer()["port"]

    def close(self) -> None:
        """End it, with all connections."""
        self._process.communicate(timeout=10)

    @property
    def calls(self) -> int:
        """Requests so far."""
        return int(self._asked("count")["calls"])

    @property
    def trips(self) -> int:
        """Requests that were made while no answer was waited for: so often the delay was waited for at least."""
        return int(self._asked("count")["trips"])

    def silence(self, silent: bool) -> None:
        """Let nothing go through any more, as with a network that is down; or everything again."""
        self._asked("silent" if silent else "open")

    def _asked(self, order: str) -> dict[str, int]:
        assert self._process.stdin is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, int]:
        assert self._process.stdout is not None
        found: dict[str, int] = json.loads(self._process.stdout.readline())
        return found


@contextlib.contextmanager
def slow_proxy(port: int, *, delay: float = 0.01) -> Iterator[SlowProxy]:
    """Run a proxy before a port of this machine; `delay` is in seconds, for each direction."""
    proxy = SlowProxy(port, delay)
    try:
        yield proxy
    finally:
        proxy.close()


# -- the process ---------------------------------------------------------------------------------------------


class _Proxy:
    def __init__(self, target: int, delay: float) -> None:
        self.calls, self.trips, self.open = 0, 0, 0
        self.silent = False
        self._target, self._delay = target, delay

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(self._copy(reader, far_writer, out=True), self._copy(far_reader, writer, out=False))

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, out: bool) -> None:
        """Hand on message by message (https://libvirt.org/kbase/internals/rpc.html): length, then a header."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                length = await source.readexactly(4)
                message = await source.readexactly(int.from_bytes(length, "big") - 4)
                kind, status = (int.from_bytes(message[at : at + 4], "big") for at in (12, 20))
                self._count(kind, status, out=out)
                if not self.silent:
                    loop.call_later(self._delay, target.write, length + message)
        loop.call_later(self._delay, target.close)

    def _count(self, kind: int, status: int, *, out: bool) -> None:
        """Count a message; the end of a stream is answered, too, while what comes in it is not."""
        if out and (kind == _CALL or (kind == _STREAM and status == _OK)):
            self.calls += 1
            self.trips += self.open == 0
            self.open += 1
        elif not out and (kind == _REPLY or (kind == _STREAM and status == _OK)):
            self.open -= 1


async def _main(port: int, delay: float) -> None:
    proxy = _Proxy(port, delay)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    loop = asyncio.get_running_loop()
    while order := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        if order != "count":
            proxy.silent = order == "silent"
        print(json.dumps({"calls": proxy.calls, "trips": proxy.trips}), flush=True)
    server.close()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2])))
