"""The progress bar of a job that is waited for: tqdm's, in a notebook as in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmsnap_nb.live.job import Job

if TYPE_CHECKING:
    from vmsnap_nb.live.report import LiveReport

__all__ = ["wait_with_bar"]

_DELAY = 0.5
"""Seconds before a bar appears: what is done sooner needs none."""


def wait_with_bar(job: Job) -> LiveReport:
    """Wait for a job and show how far it is; an interrupt (the notebook's stop button) cancels it.

    Returns
    -------
    LiveReport
        Also of a job that was cancelled.

    Raises
    ------
    VmsnapError
        Why it failed.
    """
    from tqdm.auto import tqdm
    from tqdm.notebook import tqdm_notebook

    # Outside notebooks tqdm itself keeps quiet where nobody looks: in a pipe, in a log.
    quiet = False if issubclass(tqdm, tqdm_notebook) else None
    job.watch(_DELAY)
    bar = None
    try:
        while job.running:
            try:
                progress = job.progress
                if bar is None and progress.total:
                    bytes_ = progress.unit == "bytes"
                    bar = tqdm(
                        total=progress.total,
                        initial=progress.done,
                        unit="B" if bytes_ else " " + progress.unit,
                        unit_scale=bytes_,
                        unit_divisor=1024,
                        desc=job.title,
                        disable=quiet,
                    )
                if bar is not None:
                    bar.total = progress.total
                    bar.n = progress.done
                    bar.refresh()
                job.watch(0.2)
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
