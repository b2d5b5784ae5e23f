"""The progress of a class: one table from many labs, of which only the counts of checks and hints are read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from vmsnap_nb.lab.exercises.practice import EXERCISES
from vmsnap_nb.lab.exercises.progress import Progress, read_progress
from vmsnap_nb.model.arguments import checked
from vmsnap_nb.views.frames import frame_of_table
from vmsnap_nb.views.tables import Cell, Column, Table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["class_progress"]

PathLike = str | os.PathLike[str]
_COUNTS = (
    Column("student"),
    Column("done", "count"),
    Column("checks", "count"),
    Column("hints", "count"),
    Column("last", "time"),
)


@checked
def class_progress(labs: Mapping[str, PathLike] | Iterable[PathLike]) -> pd.DataFrame:
    """Show the progress of all students of a class, as `Lab.progress` does for one student.

    Parameters
    ----------
    labs : mapping or iterable of path
        The folders of the students' labs, by student name. Without names, a student is named after the folder that
        contains the lab: ``/home/ann/.vmsnap`` belongs to ``ann``.

    Returns
    -------
    pandas.DataFrame
        A table with index ``student``. The columns ``done``, ``checks`` and ``hints`` contain the numbers of completed
        exercises, checks and hints. ``last`` is the time of the last check, in UTC. A further column for each exercise
        contains its status. For a student without a lab, each status is ``new``. The labs are only read, so you can
        create the table while the students work.

    Examples
    --------
    >>> import vmsnap_nb as vs
    >>> table = vs.class_progress(["/home/ann/.vmsnap", "/home/ben/.vmsnap"])
    >>> list(table.index), table["done"].tolist()
    (['ann', 'ben'], [0, 0])
    """
    named = labs if isinstance(labs, Mapping) else {Path(lab).absolute().parent.name: lab for lab in labs}
    columns = (*_COUNTS, *(Column(name) for name in EXERCISES))
    return frame_of_table(Table(columns, tuple(_row(name, Path(lab) / "exercises") for name, lab in named.items())))


def _row(student: str, folder: Path) -> tuple[Cell, ...]:
    known, none = read_progress(folder, of_anyone=True), Progress()
    rows = [known.get(name, none) for name in EXERCISES]
    statuses = [row.status(begun=os.path.isdir(folder / name)) for name, row in zip(EXERCISES, rows, strict=True)]
    times: list[datetime] = [row.when for row in rows if row.when is not None]
    checks, hints = sum(row.checks for row in rows), sum(row.hints for row in rows)
    return (student, statuses.count("done"), checks, hints, max(times, default=None), *statuses)
