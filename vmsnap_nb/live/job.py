"""Work that goes on in a thread: its progress, its end, and how to end it early.

What performs a step needs no job to be handed to it: `tell_fraction` and `stop_asked` speak to the job in whose thread
they are called, and do nothing where there is none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vmsnap_nb.live.cards import job_card, read_card
from vmsnap_nb.model.arguments import checked_methods
from vmsnap_nb.model.number import check_seconds
from vmsnap_nb.model.shown import Carded, Listed
from vmsnap_nb.system.files.errors import named_error
from vmsnap_nb.words.message import Message, t

if TYPE_CHECKING:
    from vmsnap_nb.live.report import LiveReport

__all__ = ["Job", "Progress", "StepStopped", "stop_asked", "tell_fraction"]

_current: ContextVar[Job | None] = ContextVar("job", default=None)


class StepStopped(Exception):  # noqa: N818 - no error, but the end that was asked for
    """A step has ended because it was asked to; what guests read is what it was before."""


@dataclass(frozen=True, slots=True)
class Progress(Carded):
    """The progress of a job.

    Attributes
    ----------
    done : int
        The number of completed units.
    total : int
        The total number of units; 0 while the total is unknown.
    unit : str
        ``steps`` or ``bytes``.
    text : str
        A description of the current step.
    rate : float or None
        The number of units per second, measured from the first unit; None while the rate is unknown.
    """

    done: int = 0
    total: int = 0
    unit: str = "steps"
    text: str = ""
    rate: float | None = None

    @property
    def seconds_left(self) -> float | None:
        """The estimated number of seconds remaining; None if the rate is unknown."""
        return (self.total - self.done) / self.rate if self.rate and self.total else None


@checked_methods
class Job(Listed):
    """A plan that is running.

    Parameters
    ----------
    title : str
        The plan's title.
    work : callable
        A function that takes the job as its argument and returns the report. The function calls `tell` to report its
        progress, and stops when `cancelled` is True.
    """

    _unlisted = frozenset({"begin_part", "tell", "tell_part"})

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
        try:
            self._thread.start()
        except BaseException as error:  # an interrupt: the thread may have begun, and nobody gets the job to end it
            self.cancel()
            if isinstance(error, Exception):
                raise named_error(error, Message("{title}", title=title)) from error
            raise

    def _go(self, work: Callable[[Job], LiveReport]) -> None:
        _current.set(self)
        try:
            self._report = work(self)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            self._error = named_error(error, Message("{title}", title=self.title))
        except BaseException as error:  # noqa: BLE001 - handed over as well
            self._error = error
        finally:
            self._ended.set()
            with self._changed:
                self._changed.notify_all()

    def tell(self, progress: Progress) -> None:
        """Report the progress; called by `work`."""
        now = time.monotonic()
        if self._began is None or progress.unit != self._progress.unit:
            self._began = now, progress.done
        began, first = self._began
        rate = (progress.done - first) / (now - began) if now > began and progress.done > first else None
        self._progress = replace(progress, rate=rate)
        with self._changed:
            self._changed.notify_all()

    def begin_part(self, progress: Progress, size: int) -> None:
        """Report that a part of the given size begins; `tell_part` then reports how much of the part is done."""
        self._part = progress.done, size
        self.tell(progress)

    def tell_part(self, fraction: float) -> None:
        """Report how much of the current part is done, from 0 to 1."""
        first, size = self._part
        if size:
            self.tell(replace(self._progress, done=first + int(size * min(max(fraction, 0.0), 1.0))))

    @property
    def progress(self) -> Progress:
        """The progress of the job."""
        return self._progress

    @property
    def running(self) -> bool:
        """Whether the job is running."""
        return not self._ended.is_set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancel.is_set()

    @property
    def report(self) -> LiveReport | None:
        """The report, which a failed job has as well; None while the job is running."""
        return self._report

    def cancel(self) -> None:
        """Stop the job as soon as all images are valid; `wait` then returns a report of the completed steps."""
        self._cancel.set()

    def watch(self, seconds: float) -> bool:
        """Wait until the progress changes or the time is up, and return whether the job is still running."""
        seconds = check_seconds(seconds, "seconds")
        with self._changed:
            if self.running:
                self._changed.wait(seconds)
        return self.running

    def wait(self, timeout: float | None = None) -> LiveReport:
        """Wait until the job ends.

        Parameters
        ----------
        timeout : float, optional
            The maximum number of seconds to wait. Default: no limit.

        Returns
        -------
        LiveReport

        Raises
        ------
        TimeoutError
            The job is still running after `timeout`.
        VmsnapError
            The job failed.
        """
        if not self._ended.wait(None if timeout is None else check_seconds(timeout)):
            raise TimeoutError(t("{title}: still running after {seconds} s", title=self.title, seconds=timeout))
        if self._error is not None:
            raise self._error
        assert self._report is not None
        if self._report.error is not None:
            raise self._report.error
        return self._report

    def __await__(self) -> Generator[Any, None, LiveReport]:
        import asyncio  # it is loaded already by whoever waits in this way

        return asyncio.to_thread(self.wait).__await__()

    def __repr__(self) -> str:
        state = "running" if self.running else "ended"
        return f"<Job: {self.title}, {state}, {self.progress.done} of {self.progress.total} {self.progress.unit}>"

    def _repr_html_(self) -> str:
        return read_card(lambda: job_card(self), self.title)


def tell_fraction(fraction: float) -> None:
    """Say how much of the step that is being performed is done, from 0 to 1."""
    job = _current.get()
    if job is not None:
        job.tell_part(fraction)


def stop_asked() -> bool:
    """Return whether the step that is being performed should end, and leave what was there before."""
    job = _current.get()
    return job is not None and job.cancelled
