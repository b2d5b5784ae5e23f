"""Exercises in a lab: set up, set up anew, looked at, and listed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from vmsnap_nb.errors import LabError, NotFoundError
from vmsnap_nb.lab.exercises.check import Check
from vmsnap_nb.lab.exercises.exercise import Exercise, Seen
from vmsnap_nb.lab.exercises.merging import MERGING
from vmsnap_nb.lab.exercises.overlays import OVERLAYS
from vmsnap_nb.lab.exercises.repair import REPAIR
from vmsnap_nb.lab.exercises.snapshots import SNAPSHOTS
from vmsnap_nb.lab.exercises.stage import Stage
from vmsnap_nb.live.folders import LiveForest
from vmsnap_nb.system.content import content_digest
from vmsnap_nb.system.os_errors import from_os_error
from vmsnap_nb.views.frames import frame_of_table
from vmsnap_nb.views.tables import Column, Table

if TYPE_CHECKING:
    import pandas as pd

    from vmsnap_nb.lab.lab import Lab

__all__ = ["EXERCISES", "check", "clear", "find_exercise", "set_up", "table"]

EXERCISES: dict[str, Exercise] = {one.name: one for one in (*OVERLAYS, *SNAPSHOTS, *MERGING, *REPAIR)}
"""By name, in the order of learning."""

_COLUMNS = (
    Column("exercise"),
    Column("title"),
    Column("topic"),
    Column("level"),
    Column("guests"),
    Column("begun", "yes or no"),
    Column("task"),
)


def find_exercise(name: str) -> Exercise:
    """Give an exercise.

    Raises
    ------
    NotFoundError
        There is none of that name; the error lists those that there are.
    """
    try:
        return EXERCISES[name]
    except KeyError as error:
        raise NotFoundError(
            f"find the exercise {name!r}",
            said="there is none of that name",
            next_step="there are: " + ", ".join(EXERCISES),
        ) from error


def set_up(lab: Lab, name: str) -> LiveForest:
    """Set up an exercise if it is not, and give its images as they are now."""
    exercise, stage = find_exercise(name), Stage(lab, name)
    if not stage.is_set:
        clear(lab, name)  # what a process that was killed has left half done
        try:
            exercise.build(stage)
            stage.finish()
        except BaseException:
            clear(lab, name)
            raise
    return stage.forest()


def clear(lab: Lab, name: str) -> None:
    """Remove an exercise's guests and its folder, unless somebody else's guest uses an image in it."""
    exercise, stage = find_exercise(name), Stage(lab, name)
    used = {use.guest for use in stage.forest().uses}
    if others := sorted(used - set(exercise.guests)):
        raise LabError(
            f"clear the folder of the exercise {name}",
            said=f"guests use its images that are not its own: {', '.join(others)}",
            next_step="undefine those guests first",
        )
    for guest in lab.guests():
        if guest.name in used:
            lab._forget(guest)
    try:
        if stage.folder.exists():
            shutil.rmtree(stage.folder)
    except OSError as error:
        raise from_os_error(error, f"clear the folder of the exercise {name}") from error


def check(lab: Lab, name: str) -> Check:
    """Look at the images and guests of an exercise."""
    exercise, stage = find_exercise(name), Stage(lab, name)
    if not stage.is_set:
        raise NotFoundError(
            f"check the exercise {name}", said="it has not been set up", next_step=f"begin: lab.exercise({name!r})"
        )
    there = [guest for guest in lab.guests() if guest.name in exercise.guests]
    seen = Seen(
        str(stage.folder),
        stage.forest(),
        stage.start(),
        content_digest,
        domains={domain.name: domain for domain in lab.domains()},
        snapshots={guest.name: guest.snapshots() for guest in there},
        runs=stage.runs(),
    )
    return Check(name, exercise.title, tuple(exercise.aims(seen)))


def table(lab: Lab) -> pd.DataFrame:
    """List the exercises."""
    rows = tuple(
        (one.name, one.title, one.topic, one.level, ", ".join(one.guests), Stage(lab, one.name).is_set, one.task)
        for one in EXERCISES.values()
    )
    return frame_of_table(Table(_COLUMNS, rows))
