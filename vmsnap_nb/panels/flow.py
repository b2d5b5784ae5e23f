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
from vmsnap_nb.panels.decision import (
    brief,
    changed_anything,
    decision_html,
    losses_html,
    lost_html,
    outcome_html,
    said_html,
    waivable,
)
from vmsnap_nb.panels.plan_files import PlanFiles
from vmsnap_nb.plans.report import Report
from vmsnap_nb.views.bundle import details_html
from vmsnap_nb.views.shown_text import capital, human_size, shown
from vmsnap_nb.words.message import Message, clauses, joined, t

__all__ = ["Flow", "Remedy"]

Remedy = tuple[str, Callable[[], None]]
"""The label of a button that would resolve a concern, and what it does; see `Flow.resolve` for what takes time."""

_Next = tuple[Callable[[], LivePlan | None], str]


class Flow(widgets.VBox):
    """The part of a panel that shows a plan, asks for confirmation, shows the progress of the run, and shows the
    report.

    Plans are made and run in a thread, so that the kernel stays free. The flow itself shows the details. The buttons
    for the decision stay in view: they are in `decision`, a bar at the end of the panel.

    Parameters
    ----------
    activity : Activity
        The log to which runs are added.
    done : callable
        A function that is called in the thread after each run.
    remedies : callable
        A function that returns the remedies for a refused plan.

    Attributes
    ----------
    plan : LivePlan or None
        The plan that is waiting for confirmation.
    report : Report or None
        The report of the last run.
    last_error : Exception or None
        The last error, which is also shown and logged.
    home : Widget or None
        A control of the surrounding panel. If a click removes the button that has the keyboard focus, this control
        receives the focus.
    draw : callable
        A function that is called with the plan that is now shown, or with None when no plan is shown.
    follow : callable
        A function that is called with the completed fraction of the run, from 0 to 1.
    closed : callable
        A function that is called with the report of a run when the user closes the report.
    """

    last_error = traitlets.Instance(Exception, allow_none=True)
    rate: float | None = None
    """Bytes per second of the last copy in any flow: an estimate for the next one."""

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
        self.draw: Callable[[LivePlan | None], None] = lambda _: None
        self.follow: Callable[[float], None] = lambda _: None
        self.closed: Callable[[Report], None] = lambda _: None
        self.job: Job | None = None
        self.report: Report | None = None
        self._done = done
        self._make: Callable[[], LivePlan | None] | None = None
        self._asked: tuple[Message, Callable[[], object], _Next | None] | None = None
        self._verb: str = t("Run")
        self._ways_out: list[Any] = []
        self._waivers: dict[str, Any] = {}
        self._code = ""
        self._run_is: Literal["", "on", "to be cancelled", "over"] = ""
        self._thread: threading.Thread | None = None
        self.message = widgets.HTML().add_class("vmsnap-message")
        self.view = widgets.HTML()
        self.danger = widgets.HTML()
        self.lost = widgets.HTML()
        self.understood = widgets.Checkbox(
            description=t("I understand what will be lost"), indent=False, layout=widgets.Layout(width="auto")
        )
        self.confirm_button = _button(self._verb, "primary")
        self.again_button = _button(t("Plan again"))
        self.discard_button = _button(t("Discard"))
        self.bar = widgets.HTML().add_class("vmsnap-progress")
        # One button from the click that confirms until the report is closed: so the focus of the keyboard stays there.
        self.cancel_button = _button(t("Cancel"))
        self.understood.observe(lambda _: self._offer(), "value")
        self.confirm_button.on_click(lambda _: self.guarded(self.confirm))
        self.again_button.on_click(lambda _: self.guarded(self.again))
        self.discard_button.on_click(lambda _: self.guarded(self.discard))
        self.cancel_button.on_click(lambda _: self.guarded(self.cancel))
        self._boxes = widgets.VBox().add_class("vmsnap-asked")
        self._buttons = widgets.HBox().add_class("vmsnap-buttons")
        parts = [self.message, self.lost, self.bar, self._boxes, self._buttons, self.cancel_button]
        self.decision = widgets.HBox(parts).add_class("vmsnap-bar")
        self.files = PlanFiles()
        super().__init__([self.danger, self.files, self.view])
        self.add_class("vmsnap-flow")
        self._offer()

    # -- errors -----------------------------------------------------------------------------------------------

    def guarded(self, act: Callable[[], Any]) -> None:
        """Call a function; an error is shown here with its next step, is logged, and is not raised."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - shown to the user, whatever it is
            self.fail(error)

    def fail(self, error: Exception, ways_out: Iterable[Remedy] = ()) -> None:
        """Show an error, with buttons for what can be done instead."""
        self.last_error = error
        self._ways_out = [self._way_out(*remedy) for remedy in ways_out]
        # Our own errors say all in words; of another one its class is a part of what it says.
        known = isinstance(error, VmsnapError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        words = "\n".join([text, *getattr(error, "__notes__", ())])
        self.message.value = said_html(t("Failed"), details=words, mark="vmsnap-failed", role="alert")
        headline = error.headline if isinstance(error, VmsnapError) else t("unexpected error")
        self.activity.add(headline, words.removeprefix(f"{headline}\n"))
        if not self.busy:
            self._offer()

    # -- plan -------------------------------------------------------------------------------------------------

    def propose(self, make: Callable[[], LivePlan | None], code: str = "", verb: str = "") -> None:
        """Make a plan in a thread, and show it.

        Parameters
        ----------
        make : callable
            A function that returns the plan; errors that the function raises are shown.
        code : str
            Python code that makes the same plan. The log shows this code, followed by the call of `run`.
        verb : str
            The label of the button that runs the plan.
        """
        if self._is_busy():
            return
        self._make, self._code, self._verb = make, code, verb or t("Run")
        self._clear()
        self._say(t("Reading …"))
        self._background(self._propose)

    def resolve(self, what: Message, act: Callable[[], object], *, again: bool = True) -> None:
        """Do in a thread what a plan requires first, then make the plan again, if there was one.

        Parameters
        ----------
        what : Message
            What is done, in a few words.
        act : callable
            Does it; an error that it raises is shown.
        again : bool
            Whether the plan is made again.
        """
        if self._is_busy():
            return

        def work() -> None:
            act()
            self.activity.add(what, t("done"))
            self._done()
            if again:
                self._propose()
            else:
                self._clear()

        self._clear()
        self._say(t("{what} …", what=what))
        self._background(work)

    def ask(
        self, what: Message, lost: Message, verb: str, act: Callable[[], object], then: _Next | None = None
    ) -> None:
        """Ask the user to confirm an operation that has no plan and loses something.

        Parameters
        ----------
        what : Message
            What is done, in a few words.
        lost : Message
            What is lost.
        verb : str
            The label of the button that does it.
        act : callable
            Does it, in a thread; an error that it raises is shown.
        then : tuple of callable and str, optional
            Returns the plan that is offered next, or None; and the label of the button that runs it.
        """
        if self._is_busy():
            return
        self._clear()
        self._make, self._asked = None, (what, act, then)
        self.message.value = said_html(shown(what), details=t("Nothing has been changed yet."))
        self.lost.value = losses_html([escape(capital(lost))])
        self.confirm_button.description, self.confirm_button.button_style = verb, "danger"
        self._offer()

    def _is_busy(self) -> bool:
        if self.busy:
            self._say(t("This panel is busy: wait until the operation has finished, or cancel it."))
        return self.busy

    def _propose(self) -> None:
        assert self._make is not None
        plan = self._make()
        if plan is None:
            self._make = None
            self._clear()
            return
        self.plan = plan
        self._ways_out = [self._way_out(*remedy) for remedy in self._remedies(plan)] if plan.refused else []
        self._waivers = {name: self._waiver(name, risks) for name, risks in waivable(plan).items()}
        files = [
            (t("These files will be written:"), plan.writes),
            (t("These files become invalid:"), plan.invalid),
            (t("These files will be removed:"), plan.unlinks),
        ]
        lists = "".join(
            f"<p><strong>{escape(what)}</strong></p>"
            f"<ul>{''.join(f'<li><code>{escape(shown(path))}</code></li>' for path in paths)}</ul>"
            for what, paths in files
            if paths
        )
        self.lost.value = "" if self._hopeless else lost_html(plan)
        self.danger.value = f'<div class="vmsnap-danger">{lists}</div>' if lists else ""
        self.confirm_button.description = self._verb
        self.confirm_button.button_style = "danger" if self._asks else "primary"
        self.draw(plan)  # first, as it is what the user looks at
        self.message.value = decision_html(plan, Flow.rate)
        self.view.value = details_html(plan)
        self.files.show(plan)

    @property
    def waived(self) -> tuple[str, ...]:
        """Names of the concerns that the user overrides."""
        return tuple(name for name, box in self._waivers.items() if box.value)

    @property
    def _hopeless(self) -> bool:
        """Whether the plan is refused by what no box can waive."""
        return self.plan is not None and self.plan.refused and not self._waivers

    @property
    def _asks(self) -> bool:
        """Whether the user must say to have read what the plan costs: something is lost, or a refusal is waived."""
        return bool(self.plan is not None and (self.lost.value or (self.plan.refused and self.plan.writes)))

    @property
    def busy(self) -> bool:
        """Whether a thread of this flow is running."""
        return self._thread is not None and self._thread.is_alive()

    def _offer(self) -> None:
        """Show those controls that mean something now."""
        labels = {"on": t("Cancel"), "to be cancelled": t("Cancelling …")}
        self.cancel_button.description = labels.get(self._run_is, t("Close"))
        boxes: tuple[Any, ...] = ()
        buttons: tuple[Any, ...] = ()
        again = (self.again_button,) if self._make is not None and self.last_error else ()
        closes = bool(self._run_is)
        if closes:
            buttons = again if self._run_is == "over" else ()
        elif self.plan is not None:
            asked = (self.understood,) if self._asks and not self._hopeless else ()
            boxes = (*self._waivers.values(), *asked)
            self._let_confirm(not self._hopeless and all(box.value for box in boxes))
            anew = (self.again_button,) if self.plan.refused else ()
            buttons = (*anew, self.discard_button, *self._ways_out, self.confirm_button)
        elif self._asked is not None:
            boxes = (self.understood,)
            self._let_confirm(self.understood.value)
            buttons = (self.discard_button, self.confirm_button)
        elif self.message.value and not self.busy:
            buttons, closes = (*again, *self._ways_out), True
        self.cancel_button.layout.display = None if closes else "none"
        self._boxes.children, self._buttons.children = boxes, buttons
        self._show_bar()

    def _let_confirm(self, allowed: bool) -> None:
        why = t("the plan is refused: see the reason on the left") if self._hopeless else t("tick the box first")
        self.confirm_button.disabled, self.confirm_button.tooltip = not allowed, None if allowed else why

    def _show_bar(self) -> None:
        """Show the bar where there is something to say or to decide."""
        said = self.message.value or self._buttons.children
        self.decision.layout.display = None if said else "none"

    def _waiver(self, name: str, risks: list[str]) -> Any:
        text = t("Override {name}: I accept the risk. {risks}", name=name, risks=clauses(risks))
        box = widgets.Checkbox(description=text, indent=False, layout=widgets.Layout(width="auto"))
        box.observe(lambda _: self._offer(), "value")
        return box

    def _way_out(self, text: str, act: Callable[[], None]) -> Any:
        button = _button(text, "primary")
        button.on_click(lambda _: self._go_home())
        button.on_click(lambda _: self.guarded(act))
        return button

    def _go_home(self) -> None:
        if self.home is not None:
            self.home.focus()

    def again(self) -> None:
        """Make the same plan again, from the current state."""
        self._go_home()
        if self._make is not None:
            self.propose(self._make, self._code, self._verb)

    def discard(self) -> None:
        """Forget the plan."""
        self._go_home()
        self._make = None
        self._clear()
        self._offer()

    def _clear(self) -> None:
        drawn = self.plan is not None
        self.plan = self.job = self.last_error = self._asked = None
        self._waivers, self._ways_out = {}, []
        self._run_is = ""
        self.understood.value = False
        for part in (self.message, self.view, self.danger, self.lost, self.bar):
            part.value = ""
        self.files.show(None)
        if drawn:
            self.draw(None)

    def _say(self, text: str) -> None:
        self.message.value = said_html(text)
        self._show_bar()

    # -- run --------------------------------------------------------------------------------------------------

    def confirm(self) -> None:
        """Run the plan that is shown. A refused plan, or a plan whose losses were not acknowledged, does not run."""
        if self._asked is not None and self.understood.value and not self.busy:
            what, act, then = self._asked
            self.discard()
            if then is not None:
                (self._make, self._verb), self._code = then, ""
            self.resolve(what, act, again=then is not None)
        if self.plan is None or self.busy:
            return
        if self._asks and not self.understood.value and not self._hopeless:
            self._say(t("First confirm that you understand what will be lost."))
            return
        self._say(shown(self.plan.title))
        self._run_is = "on"
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
            self._follow(job)
            self.report = job.report
            report = job.wait()
        except Exception as error:
            self.activity.add(plan.title, t("failed: {error}", error=error), code, plan.commands)
            raise
        finally:
            self.plan = self.job = None
            self._run_is = "over"
            self.files.show(None)
            self.danger.value = self.lost.value = self.bar.value = self.view.value = ""
            if self.report is not None and (not self.report.cancelled or changed_anything(self.report)):
                html, details = details_html(self.report), escape(t("Details"))
                self.view.value = f"<details><summary>{details}</summary>{html}</details>"
            self.draw(None)
            self._done()
        ended = t("done") if report.as_predicted else t("not as predicted")
        state = t("cancelled") if report.cancelled else ended
        self.activity.add(plan.title, state, code, plan.commands)
        self.message.value = outcome_html(report)

    def _follow(self, job: Job) -> None:
        while job.running:
            now = job.progress
            if now.unit == "bytes" and now.rate:
                Flow.rate = now.rate
            part = 100 * now.done / now.total if now.total else 0.0
            self.follow(part / 100)
            self.bar.value = (
                f'<div role="progressbar" aria-label="{escape(job.title)}" aria-valuemin="0" aria-valuemax="100" '
                f'aria-valuenow="{part:.0f}"><div style="width: {part:.1f}%"></div></div>'
                f'<p title="{escape(shown(now.text))}">{escape(_progress(now))}</p>'
            )
            job.watch(0.2)

    def cancel(self) -> None:
        """Stop the run as soon as all images are valid; if the run has ended, close its report."""
        if self._run_is == "on":
            self._run_is = "to be cancelled"
            if self.job is not None:
                self.job.cancel()
            self._say(t("Cancelling …"))
            self._offer()
        elif not self.busy:
            self.close_report()

    def close_report(self) -> None:
        """Close the result of the last run or of a failed plan."""
        report = self.report if self._run_is == "over" else None
        self.discard()
        if report is not None and not report.cancelled and report.error is None:
            self.closed(report)

    def _background(self, work: Callable[[], None]) -> None:
        def go() -> None:
            self.guarded(work)
            self._thread = None
            self._offer()

        self._boxes.children = self._buttons.children = ()  # until it is known what comes of this, none means anything
        self._show_bar()
        self._thread = threading.Thread(target=go, name="vmsnap panel", daemon=True)
        self._thread.start()

    def wait(self, timeout: float = 60.0) -> None:
        """Wait until no plan is being made or run; needed only in code, not after a click.

        Raises
        ------
        TimeoutError
            A plan is still being made or run after `timeout` seconds.
        """
        thread = self._thread
        if thread is not None:
            thread.join(check_seconds(timeout))
            if thread.is_alive():
                raise TimeoutError(t("the panel is still busy after {seconds} s", seconds=timeout))


def _button(text: str, style: Literal["", "primary"] = "") -> Any:
    return widgets.Button(description=text, button_style=style, layout=widgets.Layout(width="auto"))


def _progress(now: Progress) -> Message:
    if now.unit != "bytes":
        return t("{what}: {done} of {total} steps", what=brief(now.text), done=now.done, total=now.total)
    words = [t("{done} of {total}", done=human_size(now.done), total=human_size(now.total))]
    if now.rate:
        words.append(t("{size}/s", size=human_size(int(now.rate))))
    if now.seconds_left is not None:
        words.append(t("{seconds:.0f} s left", seconds=now.seconds_left))
    return t("{what}: {amount}", what=brief(now.text), amount=joined(words))
