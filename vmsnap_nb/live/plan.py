"""A plan that is bound to where it would run: re-read, check, perform, re-read, compare."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from vmsnap_nb.errors import InvalidRequestError, ReadOnlyError, StalePlanError, VmsnapError
from vmsnap_nb.live.alone import Claim
from vmsnap_nb.live.job import Job, Progress, StepStopped
from vmsnap_nb.live.progress import wait_with_bar
from vmsnap_nb.live.report import LiveReport
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.compare import differences
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.report import StepDone
from vmsnap_nb.plans.steps import Step

__all__ = ["Action", "LivePlan", "World"]

Undo = Callable[[], None]
Action = Callable[[Any], Undo]
"""Performs one kind of step and gives the function that takes it back.

One that takes long says how far it is (`vmsnap_nb.live.job.tell_fraction`), and ends with
`vmsnap_nb.live.job.StepStopped` when that is asked for (`stop_asked`) and the old chain is intact.
"""


@dataclass(frozen=True)
class World:
    """Where plans run.

    Attributes
    ----------
    read : callable
        Reads the forest as it is now.
    actions : mapping of type to Action
        How each kind of step is performed here.
    readonly : str
        Why nothing may be changed here, or empty.
    guest : str
        UUID of the guest whose snapshots are changed here, by one plan at a time; or empty.
    """

    read: Callable[[], Forest]
    actions: Mapping[type[Step], Action]
    readonly: str = ""
    guest: str = ""


@dataclass(frozen=True, repr=False)
class LivePlan(Plan):
    """A plan that can be run.

    Attributes
    ----------
    make : callable
        The pure function that made it, from a forest and the options.
    world : World
        Where it runs.
    options : mapping of str to bool
        What it was made with and can be run with otherwise: ``remove`` and ``verify`` of a plan that merges.
    """

    make: Callable[..., Plan] = field(kw_only=True, compare=False)
    world: World = field(kw_only=True, compare=False)
    options: Mapping[str, bool] = field(default_factory=dict, kw_only=True, compare=False)

    @classmethod
    def bind(cls, make: Callable[..., Plan], world: World, before: Forest | None = None, **options: bool) -> LivePlan:
        """Make a plan from what is there now (or from what was read before), and bind it.

        Parameters
        ----------
        make : callable
            From a Forest, and the options, to a Plan; it is called again before the plan runs.
        world : World
            Where it will run.
        before : Forest, optional
            What was read already.
        **options
            What `make` takes beside the forest.

        Returns
        -------
        LivePlan
        """
        plan = make(world.read() if before is None else before, **options)
        return cls(**{f.name: getattr(plan, f.name) for f in fields(plan)}, make=make, world=world, options=options)

    def start(self, *, waive: Iterable[str] = (), remove: bool | None = None, verify: bool | None = None) -> Job:
        """Check the plan against what is there now, and begin.

        Parameters
        ----------
        waive : iterable of str
            Names of concerns that the user takes upon themselves.
        remove : bool, optional
            Of a plan that merges: whether to remove the files that are not needed any more. If left out, as it was
            planned.
        verify : bool, optional
            Of a plan that merges: whether to read every disk that survives before and after, and to compare. If left
            out, as it was planned.

        Returns
        -------
        Job

        Raises
        ------
        InvalidRequestError
            The plan has no such option, or cannot be run with it.
        ReadOnlyError
            The connection is for reading only.
        StalePlanError
            Something has changed since the plan was made, or another plan is changing it.
        PlanRefusedError
            A concern of level "refuse" stands and was not waived.
        """
        waive = (waive,) if isinstance(waive, str) else tuple(waive)
        if self.world.readonly:
            next_step = "connect without readonly=True, on the machine that has the images"
            raise ReadOnlyError(self.title, said=self.world.readonly, next_step=next_step)
        options = self._options(remove=remove, verify=verify)
        self.check(waive)
        claim = Claim(self.title, self.world.guest, (*self.writes, *self.unlinks, *self.invalid))
        try:
            plan = self._fresh(waive, options)
            return Job(plan.title, lambda job: plan._work_alone(job, claim))
        except BaseException:
            claim.release()
            raise

    def run(
        self,
        *,
        waive: Iterable[str] = (),
        remove: bool | None = None,
        verify: bool | None = None,
        progress: bool = True,
    ) -> LiveReport:
        """Do it, and wait for the end; an interrupt cancels it.

        Parameters
        ----------
        waive, remove, verify
            As in `start`.
        progress : bool
            Whether to show a progress bar when it takes longer than half a second.

        Returns
        -------
        LiveReport
            `Report.as_predicted` says whether all is as the plan predicted.

        Raises
        ------
        InvalidRequestError, ReadOnlyError, StalePlanError, PlanRefusedError
            As in `start`: nothing was done.
        VmsnapError
            Why a step failed; what had been done before it was taken back.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> report = vs.Lab().scenario("template").overlay("third.qcow2", backing="FedoraBase").run(progress=False)
        >>> report.as_predicted, len(report.to_frame())
        (True, 1)
        """
        job = self.start(waive=waive, remove=remove, verify=verify)
        return wait_with_bar(job, shown=progress)

    def _options(self, **asked: bool | None) -> dict[str, bool]:
        """Give the options to run with: those that were asked for, else those that it was made with."""
        wanted = {name: value for name, value in asked.items() if value is not None}
        if unknown := sorted(wanted.keys() - self.options.keys()):
            raise InvalidRequestError(
                f"{self.title}, with {', '.join(unknown)}",
                said="this plan has no such option: "
                + ("it has " + ", ".join(sorted(self.options)) if self.options else "it does not merge images"),
                next_step="leave it out",
            )
        return {**self.options, **wanted}

    def _fresh(self, waive: Iterable[str], options: dict[str, bool]) -> LivePlan:
        """Give what is to be run: this plan, or with other options the one that they make of it."""
        now = self.world.read()
        changed = list(differences(self.before.tree(*self.subjects), now))
        # What has changed may make the request itself impossible; so that is said first.
        again: Plan = self if changed else self.make(now, **self.options)
        if again.steps != self.steps:
            changed.append("the steps would be others now")
        if changed:
            raise StalePlanError(
                self.title,
                said="changed since the plan was made: " + "; ".join(changed),
                next_step="make the plan again, look at it, and run that",
            )
        plan = self if options == self.options else self.bind(self.make, self.world, now, **options)
        (again if plan is self else plan).check(waive)
        return plan

    def _work_alone(self, job: Job, claim: Claim) -> LiveReport:
        try:
            return self._work(job)
        finally:
            claim.release()

    def _work(self, job: Job) -> LiveReport:
        done: list[StepDone] = []
        undo: list[Undo] = []
        error: Exception | None = None
        stopped = False
        sizes = [step.size or 0 for step in self.steps]
        for number, step in enumerate(self.steps):
            if job.cancelled:
                break
            text = f"{step.action} {step.image}"
            if any(sizes):
                job.begin_part(Progress(sum(sizes[:number]), sum(sizes), "bytes", text), sizes[number])
            else:
                job.begin_part(Progress(number, len(self.steps), "steps", text), 0)
            began = time.perf_counter()
            try:
                undo.append(self.world.actions[type(step)](step))
            except StepStopped:
                stopped = True
                done.append(StepDone(step, "undone", time.perf_counter() - began))
                break
            except Exception as failure:  # noqa: BLE001 - taken back, then raised by Job.wait
                error = failure
                done.append(StepDone(step, "failed", time.perf_counter() - began))
                break
            done.append(StepDone(step, "done", time.perf_counter() - began, step.size or 0))
        undone = len(done) < len(self.steps) or error is not None or stopped
        if undone:
            done = self._take_back(done, undo, error)
        job.tell(replace(job.progress, text="read again") if undone else _all_of(job.progress))
        missing = tuple(StepDone(step, "not run") for step in self.steps[len(done) :])
        return LiveReport(self, (*done, *missing), self.world.read(), error, cancelled=undone and error is None)

    @staticmethod
    def _take_back(done: list[StepDone], undo: list[Undo], error: Exception | None) -> list[StepDone]:
        result = list(done)
        for number in reversed(range(len(undo))):
            try:
                undo[number]()
            except (VmsnapError, OSError) as failure:
                if error is not None:
                    error.add_note(f"could not take back: {done[number].step.what}: {failure}")
                continue
            result[number] = StepDone(done[number].step, "undone", done[number].seconds)
        if error is not None and undo:
            error.add_note("what had been done before was taken back")
        return result


def _all_of(progress: Progress) -> Progress:
    return replace(progress, done=progress.total, text="read again")
