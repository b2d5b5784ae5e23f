"""Exercises in a lab: set up, set up anew, looked at, and listed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from vmsnap_nb.errors import ImageError, LabError, NotFoundError
from vmsnap_nb.lab import by_hand
from vmsnap_nb.lab.closing import forget
from vmsnap_nb.lab.exercises.capstone import CAPSTONE
from vmsnap_nb.lab.exercises.check import Check
from vmsnap_nb.lab.exercises.exercise import Exercise, Seen
from vmsnap_nb.lab.exercises.faded import FADED_MERGES, FADED_OVERLAYS
from vmsnap_nb.lab.exercises.hand_help import HELP
from vmsnap_nb.lab.exercises.hint import MOST, Hint, hint_of
from vmsnap_nb.lab.exercises.lines import Lines
from vmsnap_nb.lab.exercises.merging import MERGING
from vmsnap_nb.lab.exercises.ordering import ORDERING, another_order
from vmsnap_nb.lab.exercises.overlays import OVERLAYS
from vmsnap_nb.lab.exercises.place import ANSWER, ExercisePlace
from vmsnap_nb.lab.exercises.progress import Progress, read_progress, with_check, with_hint, write_progress
from vmsnap_nb.lab.exercises.reading import READING
from vmsnap_nb.lab.exercises.repair import REPAIR
from vmsnap_nb.lab.exercises.snapshots import SNAPSHOTS
from vmsnap_nb.lab.exercises.stage import Stage
from vmsnap_nb.lab.exercises.states import STATES
from vmsnap_nb.lab.exercises.without_package import HAND_MERGES, HAND_OVERLAYS, HAND_REPAIRS, HAND_SNAPSHOTS
from vmsnap_nb.lab.workdir import is_working_in, leave_removed
from vmsnap_nb.live.confined import files_of_chain
from vmsnap_nb.live.forbidden_folders import allow_verbs, forbid_verbs
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.model.image import NOT_READ, Image, reason
from vmsnap_nb.model.names import there_are
from vmsnap_nb.system.confine import only
from vmsnap_nb.system.disk.open import open_disk
from vmsnap_nb.system.files.atomic import write_whole
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.system.qemu.content import content_digest
from vmsnap_nb.views.frames import frame_of_table
from vmsnap_nb.views.tables import Column, Table
from vmsnap_nb.words.message import N_, Message, joined, t

if TYPE_CHECKING:
    import pandas as pd

    from vmsnap_nb.lab.exercises.exercise_lab import ExerciseLab
    from vmsnap_nb.lab.machine import Machine

__all__ = [
    "EXERCISES",
    "answer",
    "begin_again",
    "check",
    "clear",
    "find_exercise",
    "hint",
    "lines",
    "progress",
    "set_up",
    "table",
]

EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise
    for exercises in (
        *(FADED_OVERLAYS, OVERLAYS, HAND_OVERLAYS, READING, ORDERING, SNAPSHOTS, STATES, HAND_SNAPSHOTS),
        *(FADED_MERGES, MERGING, HAND_MERGES, REPAIR, HAND_REPAIRS, CAPSTONE),
    )
    for exercise in exercises
}
"""By name, in the order of learning."""

_BEGIN = 4096
"""Bytes of an image that an exercise may look at."""
_COLUMNS = (
    Column("exercise"),
    Column("title"),
    Column("topic"),
    Column("level"),
    Column("guests"),
    Column("begun", "yes or no"),
    Column("task"),
)

_AGAIN = N_("restore the image, or set up the exercise again")
_FORMATS = frozenset({"qcow2", "raw"})
"""Formats of the images in exercises."""
_NOT_READ = NOT_READ | {"not-a-file"}
_PROGRESS = (
    Column("exercise"),
    Column("title"),
    Column("status"),
    Column("passed", "count"),
    Column("of", "count"),
    Column("checks", "count"),
    Column("hints", "count"),
    Column("when", "time"),
)


def find_exercise(name: str) -> Exercise:
    """Return an exercise; the error lists those that there are."""
    try:
        return EXERCISES[name]
    except KeyError as error:
        raise NotFoundError(
            t("find the exercise {exercise!r}", exercise=name),
            why=t("no exercise has that name"),
            next_step=there_are(name, EXERCISES),
        ) from error


def set_up(lab: ExerciseLab, machine: Machine, name: str) -> LiveForest:
    """Set up an exercise if it is not, and return its images as they are now."""
    exercise, stage = find_exercise(name), Stage(lab, name, machine)
    if not stage.is_set:
        clear(lab, name)  # what a process that was killed has left half done
        try:
            if exercise.virsh:
                by_hand.begin(lab.root)
            exercise.build(stage)
            stage.finish()
        except BaseException:
            clear(lab, name)
            raise
    elif exercise.virsh:
        by_hand.use(lab.root)
    _forbid(exercise, stage)
    return stage.forest()


def _forbid(exercise: Exercise, place: ExercisePlace) -> None:
    if exercise.by_hand:
        forbid_verbs(place.folder, t("the exercise {exercise} must be done without vmsnap_nb", exercise=exercise.name))


def begin_again(lab: ExerciseLab, machine: Machine, name: str) -> LiveForest:
    """Set up an exercise anew; a working directory in its folder is that of the new one."""
    folder = ExercisePlace(lab, name).folder
    inside = is_working_in(folder)
    clear(lab, name)
    images = set_up(lab, machine, name)
    if inside:
        os.chdir(folder)
    return images


def clear(lab: ExerciseLab, name: str) -> None:
    """Remove an exercise's guests and its folder, unless another guest uses an image in it."""
    exercise, place = find_exercise(name), ExercisePlace(lab, name)
    used = {use.guest for use in place.forest().uses}
    if others := sorted(used - set(exercise.guests)):
        raise LabError(
            t("clear the folder of the exercise {exercise}", exercise=name),
            why=t("other guests use its images: {guests}", guests=joined(others)),
            next_step=t("undefine those guests first"),
        )
    for guest in lab.guests():
        if guest.name in used:
            forget(guest, lab.root if lab.driver == "embed" else None)
    if exercise.virsh and place.is_set:
        by_hand.end(lab.root)
    allow_verbs(place.folder)
    try:
        if place.folder.exists():
            shutil.rmtree(place.folder)
            leave_removed(lab.root)
    except OSError as error:
        raise from_os_error(error, t("clear the folder of the exercise {exercise}", exercise=name)) from error


def check(lab: ExerciseLab, name: str) -> Check:
    """Check the images and guests of an exercise."""
    exercise, place = find_exercise(name), ExercisePlace(lab, name)
    if not place.is_set:
        raise _not_set(t("check the exercise {exercise}", exercise=name), name)
    _forbid(exercise, place)
    there = [guest for guest in lab.guests() if guest.name in exercise.guests]
    forest = place.forest()
    seen = Seen(
        str(place.folder),
        forest,
        place.start(),
        partial(_content, forest),
        domains={domain.name: domain for domain in lab.domains()},
        snapshots={guest.name: guest.snapshots() for guest in there},
        runs=place.runs(),
        answer=place.answer(),
        modes=place.modes(),
        others=place.others(forest),
        begins=lambda image: _begin(forest, image),
        typed=by_hand.guests(lab.root, exercise.guests) if exercise.virsh else {},
    )
    other = HELP[name].other.replace("{folder}", str(place.folder))
    if exercise.lines and other.startswith("lab.answer("):  # the answer that was given is no other way
        order = another_order(exercise.lines, seen.answer)
        other = f'lab.answer("{name}", "{order}")' if order else ""
    made = Check(name, t(exercise.title), tuple(exercise.aims(seen)), why=t(HELP[name].why), other=other)
    _keep(lab, name, lambda row: with_check(row, made, time.time()))
    return made


def _content(forest: LiveForest, path: str, format: str) -> str:
    """Return the checksum of what an image reads; the exercise may be out of an archive, and lead anywhere."""
    tried = t("read the content of {image}", image=path)
    for layer in map(forest.images.__getitem__, forest.known_lineage(path)):
        if layer.status in _NOT_READ:
            raise ImageError(tried, why=t("{image}: {why}", image=layer.path, why=reason(layer)), next_step=t(_AGAIN))
    if format not in _FORMATS:
        raise ImageError(tried, why=t("its format is {format}", format=format), next_step=t(_AGAIN))
    with only(files_of_chain(forest, path)):
        return content_digest(path, format)


def _begin(forest: LiveForest, image: Image) -> bytes:
    """Return the first bytes that are read from an image through its chain."""
    with open_disk(forest[path] for path in reversed(forest.known_lineage(image.path))) as disk:
        return disk.pread(0, _BEGIN)


def hint(lab: ExerciseLab, name: str) -> Hint:
    """Return the next hint of an exercise, and count it."""
    find_exercise(name)
    number = _keep(lab, name, lambda row: with_hint(row, MOST)).hints
    return hint_of(name, number, ExercisePlace(lab, name).folder)


def answer(lab: ExerciseLab, name: str, text: str) -> None:
    """Keep a student's answer."""
    find_exercise(name)
    place = ExercisePlace(lab, name)
    if not place.is_set:
        raise _not_set(t("answer the exercise {exercise}", exercise=name), name)
    try:
        write_whole(place.folder / ANSWER, f"{text}\n".encode())
    except OSError as error:
        raise from_os_error(error, t("answer the exercise {exercise}", exercise=name)) from error


def lines(lab: ExerciseLab, name: str) -> Lines:
    """Return the commands of an exercise in ordering."""
    exercise = find_exercise(name)
    if not exercise.lines:
        raise NotFoundError(
            t("show the lines of the exercise {exercise!r}", exercise=name),
            why=t("it is not an ordering exercise"),
            next_step=there_are(name, [one.name for one in EXERCISES.values() if one.lines]),
        )

    def keep(letters: str) -> Check:
        answer(lab, name, letters)
        return check(lab, name)

    return Lines(name, exercise.lines, keep)


def _not_set(tried: Message, name: str) -> NotFoundError:
    return NotFoundError(
        tried,
        why=t("it has not been set up"),
        next_step=t("set it up: lab.exercise({exercise!r})", exercise=name),
    )


def _keep(lab: ExerciseLab, name: str, change: Callable[[Progress], Progress]) -> Progress:
    folder = lab.root / "exercises"
    rows = read_progress(folder)
    rows[name] = change(rows.get(name, Progress()))
    write_progress(folder, rows)
    return rows[name]


def progress(lab: ExerciseLab) -> pd.DataFrame:
    """List the progress of each exercise."""
    known, none = read_progress(lab.root / "exercises"), Progress()
    rows = []
    for exercise in EXERCISES.values():
        row = known.get(exercise.name, none)
        status = row.status(begun=ExercisePlace(lab, exercise.name).is_set)
        told = (exercise.name, t(exercise.title), status, row.passed, row.of, row.checks, row.hints, row.when)
        rows.append(told)
    return frame_of_table(Table(_PROGRESS, tuple(rows)))


def table(lab: ExerciseLab) -> pd.DataFrame:
    """List the exercises."""
    rows = tuple(
        (
            exercise.name,
            t(exercise.title),
            exercise.topic,
            exercise.level,
            ", ".join(exercise.guests),
            ExercisePlace(lab, exercise.name).is_set,
            t(exercise.task),
        )
        for exercise in EXERCISES.values()
    )
    return frame_of_table(Table(_COLUMNS, rows))
