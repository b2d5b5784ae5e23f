"""Work that goes on in a thread: its progress, its end, and how to end it early.

What performs a step needs no job to be handed to it: `tell_fraction` and `stop_asked` speak to the job in whose thread
they are called, and do nothing where there is none.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmsnap_nb.live.report import LiveReport

__all__ = ["Job", "Progress", "StepStopped", "stop_asked", "tell_fraction"]

_current: ContextVar[Job | None] = ContextVar("job", default=None)


class StepStopped(Exception):  # noqa: N818 - no error, but the end that was asked for
    """A step has ended because it was asked to; what guests read is what it was before."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    Attributes
    ----------
    done, total : int
        In `unit`; total is 0 as long as it is not known.
    unit : str
        ``steps`` or ``bytes``.
    text : str
        What is being done.
    rate : float or None
        Units a second since the first of them; None as long as that is not known.
    """

    done: int = 0
    total: int = 0
    unit: str = "steps"
    text: str = ""
    rate: float | None = None

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rest takes at this rate; None where that is not known."""
        return (self.total - self.done) / self.rate if self.rate and self.total else None


class Job:
    """A plan that is running.

    Parameters
    ----------
    title : str
        The plan's title.
    work : callable
        Takes the job, reports to it with `tell`, obeys `cancelled`, and gives the report.
    """

    def __init__(self, title: str, work: Callable[[Job], LiveReport]) -> None:
        self.title = title
        self._progress = Progress()
        self._began: tuple[float, int] | None = None
        self._part = (0, 0)
        self._report: LiveReport | None = None
        self._error: BaseException | None = None
        self._cancel = threading.Event()
        self._ended = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._go, args=(work,), name=f"vmsnap: {title}", daemon=True)
        self._thread.start()

    def _go(self, work: Callable[[Job], LiveReport]) -> None:
        _current.set(self)
        try:
            self._report = work(self)
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            self._error = error
        finally:
            self._ended.set()
            with self._changed:
                self._changed.notify_all()

    def tell(self, progress: Progress) -> None:
        """Say how far the work is: called by the work itself."""
        now = time.monotonic()
        if self._began is None or progress.unit != self._progress.unit:
            self._began = now, progress.done
        began, first = self._began
        rate = (progress.done - first) / (now - began) if now > began and progress.done > first else None
        self._progress = replace(progress, rate=rate)
        with self._changed:
            self._changed.notify_all()

    def begin_part(self, progress: Progress, size: int) -> None:
        """Say that a part begins, and how many units it is: `tell_fraction` then goes on from there."""
        self._part = progress.done, size
        self.tell(progress)

    def tell_part(self, fraction: float) -> None:
        """Say how much of that part is done, from 0 to 1."""
        first, size = self._part
        if size:
            self.tell(replace(self._progress, done=first + int(size * min(max(fraction, 0.0), 1.0))))

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._progress

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return not self._ended.is_set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancel.is_set()

    @property
    def report(self) -> LiveReport | None:
        """What was done, also of a job that failed; None as long as it goes on."""
        return self._report

    def cancel(self) -> None:
        """End it as soon as that leaves everything valid; `wait` then gives the report of what was done."""
        self._cancel.set()

    def watch(self, seconds: float) -> bool:
        """Wait until there is news or the time is over; tell whether the job goes on."""
        with self._changed:
            if self.running:
                self._changed.wait(seconds)
        return self.running

    def wait(self, timeout: float | None = None) -> LiveReport:
        """Wait for the end.

        Parameters
        ----------
        timeout : float, optional
            Seconds; without it as long as it takes.

        Returns
        -------
        LiveReport

        Raises
        ------
        TimeoutError
            It goes on after that time.
        VmsnapError
            Why it failed.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError(f"{self.title}: still going on after {timeout} s")
        if self._error is not None:
            raise self._error
        assert self._report is not None
        if self._report.error is not None:
            raise self._report.error
        return self._report

    def __await__(self) -> Generator[Any, None, LiveReport]:
        return asyncio.to_thread(self.wait).__await__()

    def __repr__(self) -> str:
        state = "running" if self.running else "ended"
        return f"<Job: {self.title}, {state}, {self.progress.done} of {self.progress.total} {self.progress.unit}>"


def tell_fraction(fraction: float) -> None:
    """Say how much of the step that is being performed is done, from 0 to 1."""
    job = _current.get()
    if job is not None:
        job.tell_part(fraction)


def stop_asked() -> bool:
    """Tell whether the step that is being performed should end, and leave what was there before."""
    job = _current.get()
    return job is not None and job.cancelled
