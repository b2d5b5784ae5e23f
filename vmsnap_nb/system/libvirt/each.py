"""The same question about many objects of a libvirt that is far away, asked without waiting for each answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from vmsnap_nb.system.threads import in_threads

__all__ = ["ask_each"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_NEAR = 0.003
"""Seconds that an answer of this machine's libvirt takes at most: then threads would only cost time."""
_SLOW = 4
"""Answers that take longer than that, after which the average counts: on a busy machine, some can take long."""
_THREADS = 64
"""Requests on the way at once. libvirt serves five of a client at a time; the others wait beside it, not here."""


def ask_each(question: Callable[[Item], Answer], items: Sequence[Item], *, far: bool = False) -> list[Answer]:
    """Return the answer of each item, in order; an error is that of the first item that has one.

    Without `far` it is found out whether an answer takes long.
    """
    if far:
        return in_threads(question, items, _THREADS)
    answers: list[Answer] = []
    slow = 0
    began = last = time.monotonic()
    for number, item in enumerate(items, 1):
        answers.append(question(item))
        before, last = last, time.monotonic()
        slow += last - before > _NEAR
        if slow >= _SLOW and len(items) > number + 1 and last - began > _NEAR * number:
            return answers + in_threads(question, items[number:], _THREADS)
    return answers
