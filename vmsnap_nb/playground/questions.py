"""The questions of the course that need no guest: each is answered by the images of the page, or by a plan for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vmsnap_nb.course.index import find_question
from vmsnap_nb.course.question import Asked
from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.lab.exercises.help import HELP, Help
from vmsnap_nb.lab.exercises.reading import READING
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.words.message import N_, t

__all__ = ["PREDICTIONS", "TASKS", "Prediction", "Task"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A question of a lesson, and what answers it here."""

    name: str
    scene: str
    answer: Callable[[LiveForest], object]
    context: str = ""  # what the lesson has just done; a template

    @property
    def asked(self) -> Asked:
        """Return the question as the lesson asks it."""
        found = find_question(self.name)
        if found is None:
            raise NotFoundError(t("ask {name}", name=self.name), why=t("no lesson has this question"))
        return found


def _who_is_read_first(forest: LiveForest) -> str:
    chain = forest.chain("Overlay-1B")
    seen = next(run for run in chain.blockmap().runs if run.start == 0 and not run.hidden)
    return forest[seen.path].name


def _new_overlay(forest: LiveForest) -> str:
    return "little" if forest.overlay("new", "Overlay-1B").space_needed < 1 << 20 else "disk"


def _invalid(forest: LiveForest) -> str:
    invalid = {forest[path].name for path in forest.commit("Snap-3", "Snap-1").invalid}
    return "merged" if invalid == {"Snap-2", "Snap-3"} else "none"


_COMMIT = N_("The plan commits `Snap-3` into `Snap-1`.")

PREDICTIONS = (
    Prediction(name="backing-files/offset-0", scene="figure-1", answer=_who_is_read_first),
    Prediction(
        name="backing-files/depend",
        scene="figure-2",
        answer=lambda forest: len(forest.descendants("RootBase")),
    ),
    Prediction(
        name="quickstart/new-overlay",
        scene="figure-1",
        answer=_new_overlay,
        context=N_("The plan creates an overlay on `Overlay-1B`."),
    ),
    Prediction(
        name="merging/commit-kib",
        scene="merge",
        answer=lambda forest: (forest.commit("Snap-3", "Snap-1").bytes_to_copy or 0) >> 10,
    ),
    Prediction(name="merging/invalid", scene="merge", answer=_invalid, context=_COMMIT),
    Prediction(
        name="merging/pull-invalid",
        scene="merge",
        answer=lambda forest: len(forest.pull("Snap-4", "Snap-1").invalid),
        context=_COMMIT,
    ),
    Prediction(
        name="panels/drop",
        scene="figure-2",
        answer=lambda forest: "refuse" if forest.commit("Overlay-1A", "RootBase").refused else "run",
    ),
    Prediction(
        name="offline-repair/on-missing",
        scene="broken",
        answer=lambda forest: not forest.overlay("new", "Overlay-1B").refused,
    ),
)
"""In the order of the course."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """An exercise in reading, and the names that answer it here."""

    name: str  # of the exercise, and of the folder with its images
    task: str  # a template
    answer: Callable[[LiveForest], set[str]]

    @property
    def title(self) -> str:
        """Return the title of the exercise; a template."""
        return next(one.title for one in READING if one.name == self.name)

    @property
    def help(self) -> Help:
        """Return what helps with the exercise."""
        return HELP[self.name]


def _needed(forest: LiveForest) -> set[str]:
    return {image.name for image in forest.chain("disk-f")}


def _monday(forest: LiveForest) -> set[str]:
    return {forest[parent].name for parent in [forest.parent("monday")] if parent is not None}


TASKS = (
    Task(
        name="read-needed",
        task=N_("Which files must a backup contain so that `disk-f.qcow2` can be read from it? Name all of them."),
        answer=_needed,
    ),
    Task(
        name="read-monday",
        task=N_(
            "A guest has two external snapshots, `monday` and `tuesday`, each with a new file of the same name. "
            "Which file holds the state at the time of the snapshot `monday`?"
        ),
        answer=_monday,
    ),
)
