"""The same work on many things in threads, where this Python can start any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_threads"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def in_threads(work: Callable[[Item], Answer], items: Sequence[Item], most: int) -> list[Answer]:
    """Return the result for each item, in order, with at most so many at once; an error is that of the first item.

    A process that is about to end starts no thread any more, and a Python in a browser never does: then the work is
    done one after the other.
    """
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(most, len(items)), thread_name_prefix="vmsnap-each") as threads:
        try:
            threads.submit(len, ())
        except RuntimeError:
            return [work(item) for item in items]
        return list(threads.map(work, items))
