"""One flow for everything that is done in a panel: plan, confirm, progress, report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from html import escape
from typing import Any, Literal

import ipywidgets as widgets
import traitlets

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.job import Job, Progress
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.number import check_seconds
from vmsnap_nb.panels.activity import Activity
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.report import Report
from vmsnap_nb.views.bundle import mimebundle
from vmsnap_nb.views.words import human_size
from vmsnap_nb.words.message import Message, clauses, joined, t

__all__ = ["Flow", "Remedy"]

Remedy = tuple[str, Callable[[], None]]
"""The label of a button that would resolve a concern, and what it does; see `Flow.resolve` for what takes time."""


class Flow(widgets.VBox):
    """Shows a plan, has it confirmed, follows it and shows its report.

    Reading and running go on in a thread, so that the kernel stays free.

    Parameters
    ----------
    activity : Activity
        Where it is noted.
    done : callable
        Called after each run, in the thread.
    remedies : callable
        Gives the remedies of a plan that is refused.

    Attributes
    ----------
    plan : LivePlan or None
        What waits to be confirmed.
    report : Report or None
        Of the last run.
    last_error : Exception or None
        The last one; also shown, and in the log.
    home : Widget or None
        A control outside that takes the focus of the keyboard when a click takes away the button that had it.
    """

    last_error = traitlets.Instance(Exception, allow_none=True)

    def __init__(
        self,
        activity: Activity,
        done: Callable[[], None] = lambda: None,
        remedies: Callable[[LivePlan], Iterable[Remedy]] = lambda _: (),
    ) -> None:
        self.activity = activity
        self._remedies = remedies
        self.plan: LivePlan | None = None
        self.home: Any = None
        self.job: Job | None = None
        self.report: Report | None = None
        self._done = done
        self._make: Callable[[], LivePlan] | None = None
        self._mending: list[Any] = []
        self._waivers: dict[str, Any] = {}
        self._code = ""
        self._run_is: Literal["", "on", "to be cancelled", "over"] = ""
        self._thread: threading.Thread | None = None
        self.message = widgets.HTML()
        self.view = widgets.HTML()
        self.danger = widgets.HTML()
        self.understood = widgets.Checkbox(
            description=t("I have read which files change"), indent=False, layout=widgets.Layout(width="auto")
        )
        self.confirm_button = widgets.Button(description=t("Confirm"), button_style="primary")
        self.again_button = widgets.Button(description=t("Plan again"))
        self.discard_button = widgets.Button(description=t("Discard"))
        self.bar = widgets.HTML()
        # One button from the click on Confirm until the report is closed: so the focus of the keyboard stays there.
        self.cancel_button = widgets.Button(description=t("Cancel"))
        self.result = widgets.HTML()
        self.understood.observe(lambda _: self._offer(), "value")
        self.confirm_button.on_click(lambda _: self.guarded(self.confirm))
        self.again_button.on_click(lambda _: self.guarded(self.again))
        self.discard_button.on_click(lambda _: self.guarded(self.discard))
        self.cancel_button.on_click(lambda _: self.guarded(self.cancel))
        self._boxes = widgets.VBox()
        self._buttons = widgets.HBox().add_class("vmsnap-row")
        # What is said stands beside the buttons, and what comes of a click stands below: nothing jumps out of sight.
        said = [self.message, self._boxes, self._buttons, self.cancel_button, self.bar]
        super().__init__([self.view, self.danger, *said, self.result])
        self.add_class("vmsnap-flow")
        self._offer()

    # -- errors -----------------------------------------------------------------------------------------------

    def guarded(self, act: Callable[[], Any]) -> None:
        """Do something; an error appears here with its next step, and in the log, and goes no further."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - shown to the user, whatever it is
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Show an error."""
        self.last_error = error
        # Our own errors say all in words; of another one its class is a part of what it says.
        known = isinstance(error, VmsnapError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        words = "\n".join([text, *getattr(error, "__notes__", ())])
        head = escape(t("Failed"))
        self.message.value = (
            f'<div role="alert" class="vmsnap-failed"><strong>{head}</strong>'
            f'<pre style="white-space: pre-wrap">{escape(words)}</pre></div>'
        )
        tried = error.tried if isinstance(error, VmsnapError) else t("unexpected error")
        self.activity.add(tried, words.removeprefix(f"{tried}\n"))

    # -- plan -------------------------------------------------------------------------------------------------

    def propose(self, make: Callable[[], LivePlan], code: str = "") -> None:
        """Make a plan in a thread, and show it.

        Parameters
        ----------
        make : callable
            Gives the plan; an error that it raises is shown.
        code : str
            The same in Python, for the log, which adds the run.
        """
        if self._is_busy():
            return
        self._make, self._code = make, code
        self._clear()
        self._say(t("Reading …"))
        self._background(self._propose)

    def resolve(self, what: Message, act: Callable[[], None]) -> None:
        """Do in a thread what a plan wants first, then make the plan again.

        Parameters
        ----------
        what : Message
            What is done, in a few words.
        act : callable
            Does it; an error that it raises is shown.
        """
        if self._is_busy():
            return

        def work() -> None:
            act()
            self.activity.add(what, t("done"))
            self._done()
            self._propose()

        self._clear()
        self._say(t("{what} …", what=what))
        self._background(work)

    def _is_busy(self) -> bool:
        if self.busy:
            self._say(t("This panel is busy: wait until it has finished, or cancel it."))
        return self.busy

    def _propose(self) -> None:
        assert self._make is not None
        plan = self._make()
        self.plan = plan
        self._mending = [self._button(*remedy) for remedy in self._remedies(plan)] if plan.refused else []
        self._waivers = {name: self._waiver(name, risks) for name, risks in _waivable(plan).items()}
        files = [
            (t("These files will be written:"), plan.writes),
            (t("These files become invalid:"), plan.invalid),
            (t("These files will be removed:"), plan.unlinks),
        ]
        lists = "".join(
            f"<p><strong>{escape(what)}</strong></p>"
            f"<ul>{''.join(f'<li><code>{escape(path)}</code></li>' for path in paths)}</ul>"
            for what, paths in files
            if paths
        )
        self.danger.value = f'<div class="vmsnap-danger">{lists}</div>' if lists else ""
        self.confirm_button.button_style = "danger" if lists else "primary"
        self.view.value = mimebundle(plan)["text/html"]
        if plan.refused:
            self._say(t("This plan is refused; its concerns give the reasons."), "vmsnap-failed")
        else:
            self._say(t("Nothing has been changed yet."))

    @property
    def waived(self) -> tuple[str, ...]:
        """Names of the concerns that the user overrides."""
        return tuple(name for name, box in self._waivers.items() if box.value)

    @property
    def _hopeless(self) -> bool:
        """Whether the plan is refused by what no box can waive."""
        return self.plan is not None and self.plan.refused and not self._waivers

    @property
    def destructive(self) -> bool:
        """Whether the plan writes to, invalidates or removes a file that is there."""
        return bool(self.plan and (self.plan.writes or self.plan.invalid or self.plan.unlinks))

    @property
    def busy(self) -> bool:
        """Whether a thread of this flow is at work."""
        return self._thread is not None and self._thread.is_alive()

    def _offer(self) -> None:
        """Show those controls that mean something now."""
        self.cancel_button.layout.display = None if self._run_is else "none"
        labels = {"on": t("Cancel"), "to be cancelled": t("Cancelling …")}
        self.cancel_button.description = labels.get(self._run_is, t("Close"))
        if self._run_is in labels:
            self._boxes.children = self._buttons.children = ()
            return
        if self.plan is None:
            self._boxes.children = ()
            self._buttons.children = (self.again_button,) if self._make is not None and self.last_error else ()
            return
        asked = (self.understood,) if self.destructive and not self._hopeless else ()
        boxes = (*self._waivers.values(), *asked)
        self.confirm_button.disabled = self._hopeless or not all(box.value for box in boxes)
        self._boxes.children = boxes
        self._buttons.children = (self.confirm_button, *self._mending, self.again_button, self.discard_button)

    def _waiver(self, name: str, risks: list[str]) -> Any:
        text = t("Override {name}: I accept the risk. {risks}", name=name, risks=clauses(risks))
        box = widgets.Checkbox(description=text, indent=False, layout=widgets.Layout(width="auto"))
        box.observe(lambda _: self._offer(), "value")
        return box

    def _button(self, text: str, act: Callable[[], None]) -> Any:
        button = widgets.Button(description=text, layout=widgets.Layout(width="auto"))
        button.on_click(lambda _: self._go_home())
        button.on_click(lambda _: self.guarded(act))
        return button

    def _go_home(self) -> None:
        if self.home is not None:
            self.home.focus()

    def again(self) -> None:
        """Make the same plan again, from what is there now."""
        self._go_home()
        if self._make is not None:
            self.propose(self._make, self._code)

    def discard(self) -> None:
        """Forget the plan."""
        self._go_home()
        self._make = None
        self._clear()
        self._offer()

    def _clear(self) -> None:
        self.plan = self.job = self.last_error = None
        self._waivers = {}
        self._run_is = ""
        self.understood.value = False
        for part in (self.message, self.view, self.danger, self.bar, self.result):
            part.value = ""

    def _say(self, text: str, mark: str = "vmsnap-said") -> None:
        self.message.value = f'<p role="status" class="{mark}">{escape(text)}</p>'

    # -- run --------------------------------------------------------------------------------------------------

    def confirm(self) -> None:
        """Run the plan that is shown; one that is refused, or whose files were not acknowledged, does not run."""
        if self.plan is None or self.busy:
            return
        if self.destructive and not self.understood.value and not self._hopeless:
            self._say(t("First confirm that you have read which files change."))
            return
        self._say(t("Reading again …"))
        self._run_is = "on"
        self.result.value, self.view.value, self.danger.value = self.view.value, "", ""
        self._offer()
        self.cancel_button.focus()  # the click has taken away the button that had it
        self._background(self._run)

    def _run(self) -> None:
        plan, waived = self.plan, self.waived
        assert plan is not None
        self.report = None
        code = self._code and f"{self._code}.run({f'waive={waived!r}' if waived else ''})"
        try:
            self.job = job = plan.start(waive=waived)
            if self._run_is == "to be cancelled":
                job.cancel()
            else:
                self._say("")
            self._follow(job)
            self.report = job.report
            report = job.wait()
        except Exception as error:
            self.activity.add(plan.title, t("failed: {error}", error=error), code, plan.commands)
            raise
        finally:
            self.plan = self.job = None
            self._run_is = "over"
            self.danger.value = self.bar.value = ""
            if self.report is not None:
                self.result.value = mimebundle(self.report)["text/html"]
            self._done()
        if report.cancelled:
            state, said, mark = t("cancelled"), t("Cancelled."), "vmsnap-said"
        elif report.as_predicted:
            state, said, mark = t("done"), t("Done, as the plan predicted."), "vmsnap-done"
        else:
            state, mark = t("not as predicted"), "vmsnap-failed"
            said = t("Done, but not as the plan predicted: {differences}", differences=clauses(report.differences))
        self.activity.add(plan.title, state, code, plan.commands)
        self._say(said, mark)

    def _follow(self, job: Job) -> None:
        while job.running:
            now = job.progress
            part = 100 * now.done / now.total if now.total else 0.0
            self.bar.value = (
                f'<div role="progressbar" aria-label="{escape(job.title)}" aria-valuemin="0" aria-valuemax="100" '
                f'aria-valuenow="{part:.0f}" style="border: 1px solid var(--jp-border-color1, #767676)"><div '
                f'style="width: {part:.1f}%; height: 12px; background: #0072b2"></div></div>'
                f"<p>{escape(_progress(now))}</p>"
            )
            job.watch(0.2)

    def cancel(self) -> None:
        """End what is running, as soon as that leaves everything valid; if it is over, close what came of it."""
        if self._run_is == "on":
            self._run_is = "to be cancelled"
            if self.job is not None:
                self.job.cancel()
            self._say(t("Cancelling …"))
        elif self._run_is == "over" and not self.busy:
            self._run_is = self.result.value = ""
            self._go_home()
        self._offer()

    def _background(self, work: Callable[[], None]) -> None:
        def go() -> None:
            self.guarded(work)
            self._thread = None
            self._offer()

        self._boxes.children = self._buttons.children = ()  # until it is known what comes of this, none means anything
        self._thread = threading.Thread(target=go, name="vmsnap panel", daemon=True)
        self._thread.start()

    def wait(self, timeout: float = 60.0) -> None:
        """Wait until nothing goes on here: for code, which a click need not do.

        Raises
        ------
        TimeoutError
            It goes on after that time, in seconds.
        """
        thread = self._thread
        if thread is not None:
            thread.join(check_seconds(timeout))
            if thread.is_alive():
                raise TimeoutError(t("the panel is still busy after {seconds} s", seconds=timeout))


def _waivable(plan: Plan) -> dict[str, list[str]]:
    """Return what each concern risks that refuses the plan, by name; nothing where one of them cannot be waived."""
    refusing = [concern for concern in plan.concerns if concern.level == "refuse"]
    found: dict[str, list[str]] = {}
    for concern in refusing:
        found.setdefault(concern.name, []).append(concern.what)
    return found if all(concern.waivable for concern in refusing) else {}


def _progress(now: Progress) -> Message:
    if now.unit != "bytes":
        return t("{what}: {done} of {total} steps", what=now.text, done=now.done, total=now.total)
    words = [t("{done} of {total}", done=human_size(now.done), total=human_size(now.total))]
    if now.rate:
        words.append(t("{size}/s", size=human_size(int(now.rate))))
    if now.seconds_left is not None:
        words.append(t("{seconds:.0f} s left", seconds=now.seconds_left))
    return t("{what}: {amount}", what=now.text, amount=joined(words))
