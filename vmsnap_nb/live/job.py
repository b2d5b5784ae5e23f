"""Work that goes on in a thread: its progress, its end, and how to end it early."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from vmsnap_nb.plans.report import Report

__all__ = ["Job", "Progress"]


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
    """

    done: int = 0
    total: int = 0
    unit: str = "steps"
    text: str = ""


class Job:
    """A plan that is running.

    Parameters
    ----------
    title : str
        The plan's title.
    work : callable
        Takes the job, reports to it with `tell`, obeys `cancelled`, and gives the report.
    """

    def __init__(self, title: str, work: Callable[[Job], Report]) -> None:
        self.title = title
        self._progress = Progress()
        self._report: Report | None = None
        self._error: BaseException | None = None
        self._cancel = threading.Event()
        self._ended = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._go, args=(work,), name=f"vmsnap: {title}", daemon=True)
        self._thread.start()

    def _go(self, work: Callable[[Job], Report]) -> None:
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
        self._progress = progress
        with self._changed:
            self._changed.notify_all()

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
    def report(self) -> Report | None:
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

    def wait(self, timeout: float | None = None) -> Report:
        """Wait for the end.

        Parameters
        ----------
        timeout : float, optional
            Seconds; without it as long as it takes.

        Returns
        -------
        Report

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

    def __await__(self) -> Generator[Any, None, Report]:
        return asyncio.to_thread(self.wait).__await__()

    def __repr__(self) -> str:
        state = "running" if self.running else "ended"
        return f"<Job: {self.title}, {state}, {self.progress.done} of {self.progress.total} {self.progress.unit}>"
