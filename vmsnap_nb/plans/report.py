"""What was done: the plan, the forest read afterwards, and whether the two agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import NOT_READ
from vmsnap_nb.model.shown import Carded, Shown
from vmsnap_nb.plans.compare import differences
from vmsnap_nb.plans.freed import Freed
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.step import Step
from vmsnap_nb.words.message import Message

__all__ = ["Report", "StepDone"]


@dataclass(frozen=True, slots=True)
class StepDone(Carded):
    """A step of a plan, and its result.

    Attributes
    ----------
    step : Step
        The step.
    state : str
        ``done``, ``failed``, ``undone`` (undone after a later step failed) or ``not run``.
    seconds : float or None
        The duration of the step; None if the step was not run.
    size : int
        The number of bytes that were copied.
    said : str
        Messages that the step's successful programs printed to standard error.
    """

    step: Step
    state: Literal["done", "failed", "undone", "not run"]
    seconds: float | None = None
    size: int = 0
    said: str = ""


@dataclass(frozen=True)
class Report(Shown):
    """The result of running a plan.

    `to_frame` returns a table with one row for each step, with index ``step`` and columns ``action image state bytes
    seconds command``.

    Attributes
    ----------
    plan : Plan
        The plan that was run.
    steps : tuple of StepDone
        The steps of the plan, with their results.
    after : Forest
        The forest that was read afterwards.
    error : Exception or None
        The reason why the run ended early.
    cancelled : bool
        Whether the user cancelled the run.
    freed : mapping of str to int
        The number of bytes that each file has freed, by path; negative if the file has grown. Data that other files
        share (reflinks), or that another hard link keeps, is not counted.
    """

    plan: Plan
    steps: tuple[StepDone, ...]
    after: Forest
    error: Exception | None = None
    cancelled: bool = False
    freed: Mapping[str, int] = field(default_factory=dict)

    @property
    def ended_early(self) -> bool:
        """Whether the run ended before its last step, because a step failed or the user cancelled the run."""
        return self.error is not None or self.cancelled

    @property
    def differences(self) -> tuple[Message, ...]:
        """Sentences that describe the differences from the prediction or, if the run ended early, from the initial
        state.
        """
        expected = self.plan.before if self.ended_early else self.plan.after
        return differences(expected, self.after, self.plan.about, self.plan.changes)

    @property
    def performed(self) -> Plan:
        """A plan for the same images with only the steps and moves that were performed and not undone."""
        if not self.ended_early:
            return self.plan
        steps = tuple(done.step for done in self.steps if done.state == "done")
        written = {path for step in steps for path in (*step.creates, *step.writes)}
        moves = tuple(move for move in self.plan.moves if move.target in written)
        return replace(self.plan, steps=steps, moves=moves, subjects=self.plan.subjects or self.plan.about)

    @property
    def invalid(self) -> tuple[str, ...]:
        """Files that the plan made invalid and that still exist."""
        there = [path for path in self.plan.invalid if path in self.after.images]
        doubt = NOT_READ if not self.ended_early else frozenset[str]()
        return tuple(path for path in there if self.after.status(path) in {"invalid", *doubt})

    @property
    def frees(self) -> Freed:
        """The disk space that the plan was predicted to free, and the space that it freed."""
        return Freed(self.plan.frees.foreseen, self.freed)

    @property
    def said(self) -> tuple[str, ...]:
        """Messages that successful programs printed to standard error, without duplicates."""
        return tuple(dict.fromkeys(step.said for step in self.steps if step.said))

    @property
    def as_predicted(self) -> bool:
        """Whether all steps were performed and the files match the prediction."""
        return not self.ended_early and not self.differences

    def __repr__(self) -> str:
        done = sum(step.state == "done" for step in self.steps)
        end = "as predicted" if self.as_predicted else "cancelled" if self.cancelled else "not as predicted"
        return f"<Report: {self.plan.title}, {done} of {len(self.steps)} steps done, {end}>"
