"""The progress bar of a job that is waited for: tqdm's, in a notebook as in a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from vmsnap_nb.live.job import Job
from vmsnap_nb.words.message import t

if TYPE_CHECKING:
    from tqdm import tqdm

    from vmsnap_nb.live.report import LiveReport

__all__ = ["wait_with_bar"]

_DELAY = 0.5
"""Seconds before a bar appears: what is done sooner needs none."""


def wait_with_bar(job: Job, *, shown: bool = True) -> LiveReport:
    """Wait for a job and show how far it is; an interrupt (the notebook's stop button) cancels it.

    Return the report, also of a job that was cancelled, or raise why it failed.
    """
    began = time.monotonic()
    bar: tqdm[Any] | None = None
    try:
        while job.running:
            try:
                job.watch(0.2)
                if not shown or time.monotonic() < began + _DELAY:
                    continue
                if bar is None and job.progress.total:
                    bar = _bar_of(job, began)
                if bar is not None:
                    progress = job.progress
                    bar.total = progress.total
                    bar.n = progress.done
                    bar.refresh()
            except KeyboardInterrupt:
                job.cancel()
        report = job.wait()
        if bar is not None and not report.cancelled:
            bar.n = job.progress.total
            bar.refresh()
        return report
    finally:
        if bar is not None:
            bar.close()


def _bar_of(job: Job, began: float) -> tqdm[Any]:
    from tqdm.auto import tqdm
    from tqdm.notebook import tqdm_notebook

    # Outside notebooks tqdm itself keeps quiet where nobody looks: in a pipe, in a log.
    quiet = False if issubclass(tqdm, tqdm_notebook) else None
    progress = job.progress
    bytes_ = progress.unit == "bytes"
    bar = tqdm(
        total=progress.total,
        unit="B" if bytes_ else " " + t("steps"),
        unit_scale=bytes_,
        unit_divisor=1024,
        desc=job.title,
        disable=quiet,
    )
    if not bar.disable:
        bar.start_t -= time.monotonic() - began  # so that rate and time left are right from the first
    return bar
