"""Files that are slow to open, as on a network, are read by many threads at once; others are not, which is faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from vmsnap_nb.system.threads import in_threads

__all__ = ["Pace"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_FEW = 16
"""Files that are read one after the other before it is looked how long that took."""
_SLOW = 300e-6
"""Seconds for a file; from a local disk it takes a tenth of that."""
_THREADS = 64
_FOLDERS = 8


class Pace:
    """Reads files of one folder, and of those in it, and finds out whether they are slow.

    They are if reading them takes long *and* this thread has given up the processor meanwhile: it waited for somebody.
    A machine that is only busy takes the processor away, which the kernel counts apart.
    """

    def __init__(self) -> None:
        self.slow = False
        self._read, self._took, self._waited = 0, 0.0, 0

    @property
    def folders(self) -> int:
        """Folders to be listed at the same time: each of them may have any number of names."""
        return _FOLDERS if self.slow else 1

    def each(self, work: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
        """Return the result for each item, in order."""
        answers: list[Answer] = []
        while len(answers) < len(items) and not self.slow:
            some = items[len(answers) : len(answers) + _FEW - self._read]
            began, waits = time.perf_counter(), _waits()
            answers += map(work, some)
            self._read += len(some)
            self._took += time.perf_counter() - began
            self._waited += _waits() - waits
            if self._read == _FEW:  # of one or two, in a small folder, chance says too much
                self.slow = self._took > _FEW * _SLOW and self._waited >= _FEW / 2
                self._read, self._took, self._waited = 0, 0.0, 0
        return answers + in_threads(work, items[len(answers) :], _THREADS)


def _waits() -> int:
    """Return how often this thread has waited so far; a Python in a browser does not tell, and has no threads."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
