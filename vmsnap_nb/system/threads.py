"""The same work on many things in threads, where this Python can start any."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TypeVar

__all__ = ["TOTAL", "in_threads", "shared_by"]

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
