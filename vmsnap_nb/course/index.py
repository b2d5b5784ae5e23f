"""The questions of each lesson, by name."""

from __future__ import annotations

from vmsnap_nb.course.lessons import (
    backing_files,
    external_snapshots,
    knowledge,
    merging,
    offline_repair,
    panels,
    quickstart,
    real_host,
    snapshots,
)
from vmsnap_nb.course.question import Asked
from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.model.names import there_are
from vmsnap_nb.words.message import t

__all__ = ["LESSONS", "SCORE_ONLY", "TESTS", "find_question", "find_quiz"]

_HOMES = {
    "quickstart": quickstart,
    "backing-files": backing_files,
    "snapshots": snapshots,
    "external-snapshots": external_snapshots,
    "merging": merging,
    "panels": panels,
    "offline-repair": offline_repair,
    "real-host": real_host,
}
LESSONS: dict[str, tuple[tuple[Asked, ...], tuple[Asked, ...]]] = {
    name: (home.PREDICTIONS, home.QUIZ) for name, home in _HOMES.items()
}
"""By name, in the order of the course: what is predicted in a lesson, and its quiz."""
TESTS: dict[str, tuple[Asked, ...]] = {"before": knowledge.BEFORE, "after": knowledge.AFTER}
"""The tests before and after the course."""
SCORE_ONLY = frozenset({"before"})
"""Tests that show no answers: the answers of this one are what the lessons ask students to predict."""


def find_question(name: str) -> Asked | None:
    """Return the prediction with this name, or None."""
    return next((row for rows, _ in LESSONS.values() for row in rows if row.name == name), None)


def find_quiz(lesson: str) -> tuple[Asked, ...]:
    """Return the quiz of a lesson, or a test; the error lists them."""
    quizzes = {name: questions for name, (_, questions) in LESSONS.items()} | TESTS
    try:
        return quizzes[lesson]
    except KeyError as error:
        raise NotFoundError(
            t("find the quiz {lesson!r}", lesson=lesson),
            why=t("no lesson has that name"),
            next_step=there_are(lesson, quizzes),
        ) from error
