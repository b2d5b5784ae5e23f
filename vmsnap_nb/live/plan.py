"""A request that is bound to the place where it would run: read again, check, perform, read again, compare."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import partial
from threading import Event
from typing import Any

from vmsnap_nb.errors import InvalidRequestError, ReadOnlyError, StalePlanError, VmsnapError
from vmsnap_nb.live.base_records import renew_base_records
from vmsnap_nb.live.claim import Claim
from vmsnap_nb.live.confined import files_of
from vmsnap_nb.live.files import PathLike, changes, state_of
from vmsnap_nb.live.freed import Meter
from vmsnap_nb.live.job import Job, Progress, StepStopped
from vmsnap_nb.live.lost_files import lost_files
from vmsnap_nb.live.place import Place
from vmsnap_nb.live.progress import wait_with_bar
from vmsnap_nb.live.report import LiveReport
from vmsnap_nb.live.step_action import HalfDoneError, StaysError, Undo
from vmsnap_nb.model.arguments import checked_methods
from vmsnap_nb.model.files import FileChanges, LostFiles
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.shown import pickled_as
from vmsnap_nb.plans.compare import differences
from vmsnap_nb.plans.disk_states import compared_states
from vmsnap_nb.plans.merge.resume import plan_unread
from vmsnap_nb.plans.merge.steps import Unprotect
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.report import StepDone
from vmsnap_nb.plans.request import Reading, Request
from vmsnap_nb.plans.step import Protect, Step
from vmsnap_nb.system.confine import only
from vmsnap_nb.system.files.errors import named_error
from vmsnap_nb.system.libvirt.connection import connecting_soon
from vmsnap_nb.system.libvirt.errors import tells_of_loss
from vmsnap_nb.system.process import hearing
from vmsnap_nb.system.survey import Survey
from vmsnap_nb.words.message import Message, clauses, counted, joined, listed, t

__all__ = ["LivePlan"]

_APART = (Protect, Unprotect)
"""Steps that are undone in any case: what others need does not depend on them."""
_OPTIONS = ("remove", "verify")
"""What a request can be given as late as at the run."""


@checked_methods
@dataclass(frozen=True, repr=False)
class LivePlan(Plan):
    """A plan that can be run.

    Attributes
    ----------
    request : Request
        The request, with all choices that were made during planning.
    place : Place
        The place in which the plan runs.
    """

    _unlisted = frozenset({"bind", "bind_each"})

    request: Request = field(kw_only=True, compare=False)
    place: Place = field(kw_only=True, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return pickled_as(Plan, self)

    @classmethod
    def bind(cls, request: Request, place: Place, now: Reading | Forest | None = None) -> LivePlan:
        """Make the plan for a request from the current state or from an earlier survey, and bind the plan to a place.

        Parameters
        ----------
        request : Request
            The request.
        place : Place
            The place in which the plan will run.
        now : Reading, optional
            The survey.

        Returns
        -------
        LivePlan
        """
        if isinstance(now, Forest):
            now = Reading(forest=now)
        plan = place.plan(request, now)
        settled = getattr(request, "settled", None)
        if settled is not None:
            request = settled(plan)
        return cls(**{f.name: getattr(plan, f.name) for f in fields(plan)}, request=request, place=place)

    @classmethod
    def bind_each(cls, requests: Iterable[Request], place: Place, now: Reading) -> list[LivePlan]:
        """Make the plans that finish interrupted operations, or refused plans that state why this is not possible.

        Parameters
        ----------
        requests : iterable of Request
            The operations to finish.
        place : Place
            The place in which the plans will run.
        now : Reading
            The survey.

        Returns
        -------
        list of LivePlan
        """
        plans = []
        for request in requests:
            try:
                plans.append(cls.bind(request, place, now))
            except VmsnapError as error:
                plan = plan_unread(now.forest, request, error)
                plans.append(cls(**{f.name: getattr(plan, f.name) for f in fields(plan)}, request=request, place=place))
        return plans

    def start(self, *, waive: str | Iterable[str] = (), remove: bool | None = None, verify: bool | None = None) -> Job:
        """Check the plan against the current state, and start running it.

        Parameters
        ----------
        waive : str or iterable of str
            Names of concerns that you waive.
        remove : bool, optional
            For a plan that merges: whether to remove the files that are no longer needed. Default: as planned.
        verify : bool, optional
            For a plan that merges: whether to check that the content of every remaining disk has not changed. Default:
            as planned.

        Returns
        -------
        Job

        Raises
        ------
        InvalidRequestError
            The plan does not have this option, or cannot be run with it.
        ReadOnlyError
            The connection is read-only.
        StalePlanError
            An image or guest has changed since the plan was created, or another plan is changing it.
        PlanRefusedError
            The plan has a concern of level "refuse" that was not waived.
        """
        waive = (waive,) if isinstance(waive, str) else tuple(waive)
        if self.place.readonly:
            next_step = t("connect without readonly=True, on the machine that has the images")
            raise ReadOnlyError(self.title, why=self.place.readonly, next_step=next_step)
        request = self._with(remove=remove, verify=verify)
        self.check(waive)
        claim = self._claim()
        begun = Event()
        try:
            plan = self._fresh(waive, request)
            return Job(plan.title, partial(LivePlan._work_alone, plan, claim, begun))
        except BaseException:
            if not begun.is_set():  # an interrupt can come when the work has begun: it then ends by itself
                claim.release()
            raise

    def run(
        self,
        *,
        waive: str | Iterable[str] = (),
        remove: bool | None = None,
        verify: bool | None = None,
        progress: bool = True,
    ) -> LiveReport:
        """Run the plan and wait until it ends; an interrupt cancels it.

        Parameters
        ----------
        waive, remove, verify
            As in `start`.
        progress : bool
            Whether to show a progress bar if the run takes longer than half a second.

        Returns
        -------
        LiveReport
            `Report.as_predicted` is True if the result matches the prediction.

        Raises
        ------
        InvalidRequestError, ReadOnlyError, StalePlanError, PlanRefusedError
            As in `start`; nothing was changed.
        VmsnapError
            A step failed; the steps before it were undone.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> report = vs.Lab().scenario("template").overlay("third.qcow2", backing="FedoraBase").run(progress=False)
        >>> report.as_predicted, len(report.to_frame())
        (True, 1)
        """
        job = self.start(waive=waive, remove=remove, verify=verify)
        return wait_with_bar(job, shown=progress)

    def diff(self, *, path: PathLike = "/", target: str | None = None, seconds: float | None = None) -> FileChanges:
        """Compare the files of the two states that this plan involves; nothing is changed.

        Parameters
        ----------
        path : path
            The folder to search.
        target : str, optional
            The disk of the guest, such as ``vda``, for a revert or a deletion. Default: the first disk.
        seconds : float, optional
            The maximum number of seconds for reading. Default: the general limit for reading files.

        Returns
        -------
        FileChanges
            The changes between two states. For a merge, these are the state that can no longer be read afterwards and
            the state of the layers above it. For a revert, they are the current state and the snapshot. For a deletion,
            they are the snapshot and the state that follows it.

        Raises
        ------
        InvalidRequestError
            The plan neither reverts to a state nor makes a state unreadable; for example, the plan creates a snapshot.
        ImageError
            A layer cannot be read, or there is no supported file system; the error states what was found instead.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> vm = lab.guest("unchanged", backing=lab.base("RootBase"))
        >>> report = vm.snapshot("monday").run(progress=False)
        >>> vm.revert("monday").diff()
        <FileChanges from now to monday: nothing changed>
        """
        earlier, later = compared_states(self, self.request, target)
        before, after = (state_of(self.before, point, self.place.volume) for point in (earlier, later))
        return changes(before, after, path, seconds=seconds)

    def lost_files(self, *, path: PathLike = "/", seconds: float | None = None) -> LostFiles:
        """Find the files that can no longer be restored after this plan has run; nothing is changed.

        Parameters
        ----------
        path : path
            The folder to search.
        seconds : float, optional
            The maximum total number of seconds for reading. Default: the general limit for reading files.

        Returns
        -------
        LostFiles
            The files of each state that can no longer be read, except files that a remaining neighbouring state
            contains with the same content. The result is empty if the plan makes no state unreadable.

        Raises
        ------
        ImageError
            No disk can be read, there is no supported file system, or reading takes longer than `seconds`.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> lab = vs.Lab()
        >>> vm = lab.guest("nothing-lost", backing=lab.base("RootBase"))
        >>> report = vm.snapshot("monday").run(progress=False)
        >>> vm.delete_snapshot("monday").lost_files()
        <LostFiles of monday: none>
        """
        return lost_files(self, self.request, path, seconds=seconds, volume=self.place.volume)

    def _with(self, **asked: bool | None) -> Request:
        """Return the request with the options that were asked for; the others stay as it was planned with them."""
        wanted: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        known = {option for option in _OPTIONS if hasattr(self.request, option)}
        if unknown := sorted(wanted.keys() - known):
            why = t("this plan does not have that option, because it does not merge images")
            if known:
                why = t("this plan does not have that option. Its options: {options}", options=joined(sorted(known)))
            raise InvalidRequestError(
                counted(
                    "{plan}, with the option {options}",
                    "{plan}, with the options {options}",
                    len(unknown),
                    plan=self.title,
                    options=listed(sorted(unknown)),
                ),
                why=why,
                next_step=t("omit it"),
            )
        return replace(self.request, **wanted) if wanted else self.request  # type: ignore[type-var]

    def _claim(self) -> Claim:
        """Have for this plan what it changes, and keep others from changing what it builds on."""
        guest, before = self.place.guest, self.before
        uuid = "" if guest is None else guest.uuid
        if not self.place.here:
            return Claim(self.title, uuid, ())
        relies = (layer for path in self.creates for layer in self.after.known_lineage(path)[1:])
        built_on = (layer for layer in relies if before.images.get(layer) and before.status(layer) in ("ok", "dirty"))
        tops = [use.path for use in before.uses if guest is not None and use.guest == guest.name]
        own = (layer for path in (*tops, *self.about) for layer in before.known_lineage(path) if layer.startswith("/"))
        changed = (*self.writes, *self.unlinks, *self.invalid)
        return Claim(self.title, uuid, changed, relies=built_on, own=own)

    def _fresh(self, waive: str | Iterable[str], request: Request) -> LivePlan:
        """Return what is to be run: this plan, or the one of the same request with other options."""
        with self.place.one_pass():
            return self._read_again(waive, request)

    def _read_again(self, waive: str | Iterable[str], request: Request) -> LivePlan:
        now = self.place.survey()
        changed: list[str] = [*differences(self.before, now.forest, self.about, self.changes)]
        # What has changed may make the request itself impossible; so that is said first.
        again: Plan = self if changed else self.place.plan(self.request, now)
        if again.steps != self.steps:
            changed.append(t("the steps of the plan would now be different"))
        if changed:
            raise StalePlanError(
                self.title,
                why=t("the plan is stale, because {changes}", changes=listed(changed)),
                next_step=t("create the plan again, review it and run it"),
            )
        plan = self if request == self.request else self.bind(request, self.place, now)
        (again if plan is self else plan).check(waive)
        return plan

    def _work_alone(self, claim: Claim, begun: Event, job: Job) -> LiveReport:
        begun.set()
        try:
            with only(files_of(self) if self.place.here else None):
                return self._work(job)
        finally:
            claim.release()

    def _work(self, job: Job) -> LiveReport:
        done: list[StepDone] = []
        undo: list[Undo] = []
        error: Exception | None = None
        stopped = False
        sizes = [step.size or 0 for step in self.steps]
        files = [path for path in self.frees if path.startswith("/") and self.place.here]
        meter = Meter(files)
        for number, step in enumerate(self.steps):
            if job.cancelled:
                break
            text = _named(step)
            if any(sizes):
                job.begin_part(Progress(sum(sizes[:number]), sum(sizes), "bytes", text), sizes[number])
            else:
                job.begin_part(Progress(number, len(self.steps), "steps", text), 0)
            meter.look(step.unlinks)
            began = time.perf_counter()
            try:
                with hearing() as said:
                    undo.append(self.place.actions[type(step)](step))
            except StepStopped:
                stopped = True
                done.append(StepDone(step, "undone", time.perf_counter() - began))
                break
            except HalfDoneError as failure:
                error = failure.error
                done.append(StepDone(step, "failed", time.perf_counter() - began))
                if undo:
                    steps = clauses(_named(one.step) for one in done[:-1])
                    error.add_note(t("the steps before it were not undone: {steps}", steps=steps))
                    undo = []
                break
            except Exception as failure:  # noqa: BLE001 - taken back, then raised by Job.wait
                error = named_error(failure, t("perform the step “{step}”", step=_named(step)))
                done.append(StepDone(step, "failed", time.perf_counter() - began))
                break
            done.append(StepDone(step, "done", time.perf_counter() - began, step.size or 0, said="\n".join(said)))
        undone = len(done) < len(self.steps) or error is not None or stopped
        if undone:
            done = self._take_back(done, undo, error)
        elif self.place.here:
            renew_base_records(self)
        progress = replace(job.progress, text=t("read the images again"))
        job.tell(progress if undone else replace(progress, done=progress.total))
        missing = tuple(StepDone(step, "not run") for step in self.steps[len(done) :])
        after = self._read_after(done, error)
        cancelled = undone and error is None
        return LiveReport(self, (*done, *missing), after, error=error, cancelled=cancelled, freed=meter.freed())

    def _read_after(self, done: list[StepDone], error: Exception | None) -> Forest:
        """Read what is there after the steps; if that fails, an error still says what became of them."""
        lost = not self.place.here and isinstance(error, VmsnapError) and tells_of_loss(error)
        try:
            with connecting_soon() if lost else nullcontext():
                return self._with_made(self.place.forest())
        except Exception as raw:  # noqa: BLE001 - raised again, with what was done
            failure = named_error(raw, t("read the images again"))
            if error is not None:
                error.add_note(t("could not read the images again: {error}", error=str(failure)))
                raise error from error.__cause__
            steps = (one.step for one in done if one.state == "done")
            stay = clauses(map(_named, steps))
            failure.add_note(t("the images could not be read again. Completed steps: {steps}", steps=stay or "–"))
            raise failure from (raw if failure is not raw else raw.__cause__)

    def _with_made(self, after: Forest) -> Forest:
        """Return the forest with the images that were to be made where the place does not look."""
        made = {path: None for path in self.creates if path in self.after.images and path not in after.images}
        if not made or not self.place.here:
            return after
        read = Survey(images=made).read()
        return after.edited(put=[read[path] for path in made if path in read.images])

    @staticmethod
    def _take_back(done: list[StepDone], undo: list[Undo], error: Exception | None) -> list[StepDone]:
        """Undo what was done, the last first; what lies below a step whose undo fails stays.

        Each step was planned on what the ones before it leave behind, so to undo one below another that stays would
        take away what that needs: the snapshot that keeps a state, or the disk that a merged layer became.
        """
        result, stays = list(done), list[str]()
        for number in reversed(range(len(undo))):
            step = done[number].step
            if stays and not isinstance(step, _APART):
                stays.append(_named(step))
                continue
            try:
                undo[number]()
                result[number] = replace(done[number], state="undone", size=0)
            except Exception as failure:  # noqa: BLE001 - what was done before it must still be looked at
                if error is not None:
                    error.add_note(
                        t("could not undo the step “{step}”: {error}", step=_named(step), error=str(failure))
                    )
                if not isinstance(failure, StaysError):
                    stays.append(_named(step))
        if error is not None and len(stays) > 1:
            error.add_note(t("the steps before it were not undone either: {steps}", steps=clauses(stays[1:])))
        if error is not None and undo and not stays:
            error.add_note(t("the steps before it were undone"))
        return result


def _named(step: Step) -> Message:
    """Return what a step is called in an error: its action and its image."""
    action = t(step.action)
    return Message("{action} {image}", action=action, image=step.image) if step.image else action
