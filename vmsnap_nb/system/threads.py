"""The same work on many things in threads, where this Python can start any."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["TOTAL", "Threads", "in_threads", "shared_by"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")

TOTAL = 256
"""Threads of all that share them."""
_SHARES: ContextVar[int] = ContextVar("shares", default=1)
"""How many share the threads with what is read now."""


@contextlib.contextmanager
def shared_by(number: int) -> Iterator[None]:
    """Let what is read within, as one of so many hosts at the same time, take only its share of the threads."""
    token = _SHARES.set(number)
    try:
        yield
    finally:
        _SHARES.reset(token)


class Threads(Executor):
    """Does work in at most so many threads. They end with the process, which waits for none of them.

    The threads of `ThreadPoolExecutor` hold up the end of the process, for example while one waits for a network.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._started = 0
        self._closed = False

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Do the work when a thread is free; return what will have its result."""
        future: Future[Any] = Future()

        def do() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work(*arguments, **named))
            except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
                future.set_exception(error)

        with self._lock:
            if self._closed:
                raise RuntimeError("it was shut down")
            self._queue.put(do)
            if self._started < self._most:
                self._started += 1
                threading.Thread(target=self._work, name=f"{self._name} {self._started}", daemon=True).start()
        return future

    def _work(self) -> None:
        while (do := self._queue.get()) is not None:
            do()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - none is waited for
        """Take no more work; the threads end after what they do now."""
        with self._lock:
            self._closed = True
            for _ in range(self._started):
                self._queue.put(None)


def in_threads(work: Callable[[Item], Answer], items: Sequence[Item], most: int) -> list[Answer]:
    """Return the result for each item, in order, with at most so many at once; an error is that of the first item.

    A process that is about to end starts no thread any more, and a Python in a browser never does: then the work is
    done one after the other.
    """
    if len(items) < 2:
        return [work(item) for item in items]
    number = min(most, len(items), max(1, TOTAL // _SHARES.get()))
    with ThreadPoolExecutor(number, thread_name_prefix="vmsnap-each") as threads:
        try:
            threads.submit(len, ())
        except RuntimeError:
            return [work(item) for item in items]
        return list(threads.map(work, items))
