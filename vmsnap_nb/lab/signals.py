"""A process with a lab that is told to end (SIGTERM, SIGHUP): it stops its guests first, and waits for none.

JupyterLab sends SIGTERM to a kernel that has not ended 2.5 seconds after it was asked to, and SIGKILL after 2.5 more.
Python itself ends at once at such a signal, and the guests would go on.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from types import FrameType

from vmsnap_nb.errors import VmsnapError

__all__ = ["stop_guests_first", "told_to_end"]

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_SECONDS = 8.0
"""How long guests may take to end; nobody who sends such a signal waits longer."""

told_to_end = threading.Event()
"""Whether this process was told to end: nothing waits for guests that shut down any more."""


def stop_guests_first() -> None:
    """Close the labs of this process before such a signal ends it, unless the program has its own way to end.

    At the exit, which closes them after this, such a signal only means that there is no time.
    """
    _replace({signal.SIG_DFL}, _stop_and_end)
    atexit.register(_replace, {signal.SIG_DFL, _stop_and_end}, _hurry)


def _replace(before: set[object], handler: object) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # no other thread may
    for number in _SIGNALS:
        if signal.getsignal(number) in before:
            signal.signal(number, handler)  # type: ignore[arg-type]


def _reset() -> None:
    # A copy of the process made by fork has no labs.
    atexit.unregister(_replace)
    told_to_end.clear()
    _replace({_stop_and_end, _hurry}, signal.SIG_DFL)


os.register_at_fork(after_in_child=_reset)


def _hurry(number: int, _frame: FrameType | None) -> None:
    told_to_end.set()
    signal.signal(number, signal.SIG_DFL)  # who says it twice does not want to wait at all


def _stop_and_end(number: int, frame: FrameType | None) -> None:
    """Work in another thread: what this one was doing at that moment may hold a lock."""
    _hurry(number, frame)
    closing = threading.Thread(target=_close_labs, name="vmsnap: end", daemon=True)
    closing.start()
    closing.join(_SECONDS)
    os.kill(os.getpid(), number)


def _close_labs() -> None:
    from vmsnap_nb.lab.opened import open_labs  # whoever opens a lab needs this module before

    for lab in open_labs():
        with contextlib.suppress(VmsnapError):  # one that cannot be closed keeps no other one open
            lab.close()
