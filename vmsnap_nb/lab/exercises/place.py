"""The place of an exercise in a lab: its folder, its guests, and what was written down of its start."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from vmsnap_nb.errors import LabError
from vmsnap_nb.lab.exercises.exercise import Start
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.system.files.small import read_small
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.words.message import t

if TYPE_CHECKING:
    from vmsnap_nb.lab.exercises.exercise_lab import ExerciseLab

__all__ = ["ANSWER", "START", "ExercisePlace"]

_MOST = 16 << 20
_MOST_ANSWER = 4096
ANSWER = "answer.txt"
"""Name of the file of a student's answer."""
START = ".start.json"
"""Name of the file in which the start is written down."""


class ExercisePlace:
    """One exercise's place in a lab, to be read."""

    def __init__(self, lab: ExerciseLab, name: str) -> None:
        self.lab = lab
        self.name = name
        self.folder = lab.root / "exercises" / name

    def forest(self) -> LiveForest:
        """Read its images and their users; plans of this forest run in the lab."""
        place = self.lab.place(self.folder)
        inside = f"{self.folder}/"

        def survey() -> Reading:
            now = place.survey()
            own = (path for path in now.forest.images if path.startswith(inside))
            return replace(now, forest=now.forest.tree(*own))

        return LiveForest.of(replace(place, survey=survey))

    def runs(self) -> dict[str, int]:
        """Return libvirt's number of each guest that runs; it changes when the guest is started again."""
        with libvirt_errors(t("list the running guests")):
            running = (guest.handle.domain for guest in self.lab.guests() if guest.running)
            return {str(domain.name()): int(domain.ID()) for domain in running}

    def answer(self) -> str:
        """Return the student's answer; an empty text where there is none, or none that can be read."""
        try:
            return read_small(self.folder / ANSWER, _MOST_ANSWER).decode(errors="replace").strip()
        except OSError:
            return ""

    def modes(self) -> dict[str, int]:
        """Return the permissions of all images that are there."""
        found: dict[str, int] = {}
        for image in self.forest():
            with contextlib.suppress(OSError):
                found[image.path] = stat.S_IMODE(os.stat(image.path).st_mode)
        return found

    def others(self, forest: Forest) -> frozenset[str]:
        """Return the paths of the files in its folder that are none of these images."""
        found: set[str] = set()
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            found.update(entry.path for entry in entries if entry.is_file(follow_symlinks=False))
        return frozenset(found - forest.images.keys())

    @property
    def is_set(self) -> bool:
        """Whether it is set up."""
        return (self.folder / START).exists()

    def start(self) -> Start:
        """Read what was written down when it was set up."""
        try:
            return Start(**json.loads(read_small(self.folder / START, _MOST)))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise LabError(
                t("read the initial state of the exercise {exercise}", exercise=self.name),
                said=str(error),
                next_step=t("start again: lab.reset_exercise({exercise!r})", exercise=self.name),
            ) from error

    def path(self, name: str) -> str:
        """Return the path of an image."""
        return str(self.folder / f"{name}.qcow2")

    def call(self, path: str) -> str:
        """Return the name of an image."""
        return path.removeprefix(f"{self.folder}/").removesuffix(".qcow2")
