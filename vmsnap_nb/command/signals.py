"""The signals that ask a process to end: they act like Ctrl-C, so that what runs is cancelled and undone."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["interrupting"]

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_TOGETHER = 1.0
"""Seconds in which several signals count as one: a service manager can send both, one right after the other."""


@contextmanager
def interrupting() -> Iterator[list[int]]:
    """Let these signals raise KeyboardInterrupt; yield a list that gets their numbers."""
    received: list[int] = []
    last = float("-inf")

    def interrupt(number: int, _frame: object) -> None:
        nonlocal last
        since, last = time.monotonic() - last, time.monotonic()
        again = number == signal.SIGHUP and number in received  # the kernel may send it twice for one terminal
        received.append(number)
        if number == signal.SIGHUP:
            _leave_terminal()
        if since >= _TOGETHER and not again:
            raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():  # no other thread may set a handler
        for number in _SIGNALS:
            if signal.getsignal(number) not in {signal.SIG_IGN, None}:  # nohup ignores SIGHUP
                before[number] = signal.signal(number, interrupt)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_terminal() -> None:
    """Discard output to a terminal that is gone: an error when it is written would stop the undoing."""
    for stream in (1, 2):
        try:
            os.tcgetpgrp(stream)
        except OSError as error:
            if error.errno == errno.EIO:
                null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
                os.dup2(null, stream)
                os.close(null)
