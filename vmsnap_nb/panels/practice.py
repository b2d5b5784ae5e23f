"""Exercises and scenarios of a lab: a list of them, and a page for one, with its task, its images and its check."""

from __future__ import annotations

import threading
from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as widgets

from vmsnap_nb.errors import NotFoundError, VmsnapError
from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.panels.flow import Flow
from vmsnap_nb.panels.layers import LayersPanel
from vmsnap_nb.panels.panel import Fold, heading
from vmsnap_nb.panels.row_list import Row, RowList
from vmsnap_nb.views.shown_text import shown
from vmsnap_nb.words.message import N_, Message, t

__all__ = ["PracticeList", "PracticePage"]

_SIGNS = {  # for each status of an exercise
    "new": ("○", N_("not started")),
    "begun": ("◔", N_("started")),
    "partly": ("◑", N_("partly done")),
    "broken": ("✗", N_("something is damaged")),
    "done": ("✓", N_("done")),
}
_SCENARIO = "scenario "  # before the name of one: exercises have names without spaces


class PracticeList(Fold):
    """The exercises with how far each is, and the scenarios; read when it is unfolded."""

    def __init__(self, lab: Any) -> None:
        self._lab = lab
        self.list = RowList(label=t("Exercises and scenarios"), empty=t("Reading …"))
        super().__init__(t("Exercises and scenarios"), [self.list])
        self.add_class("vmsnap-practice")
        self.observe(lambda _: self.read_in_thread(), "unfolded")

    def read_in_thread(self) -> None:
        """Read how far each exercise is, if that is to be seen."""
        if self.unfolded:
            threading.Thread(target=self.read, name="vmsnap exercises", daemon=True).start()

    def read(self) -> None:
        """Read how far each exercise is."""
        progress = self._lab.progress()
        rows = []
        for name, title, status in zip(progress.index, progress["title"], progress["status"], strict=True):
            sign, meaning = _SIGNS[status]
            rows.append(Row(key=name, title=title, notes=(name,), sign=sign, meaning=t(meaning)))
        rows += [Row(key=_SCENARIO + one, title=one, sign="▤", meaning=t("scenario")) for one in self._lab.scenarios]
        self.list.show(rows)


class PracticePage(widgets.VBox):
    """One exercise or scenario, with the panel of its images once it is set up.

    `changed` is called when it is further than it was.
    """

    def __init__(self, lab: Any, key: str, flow: Flow, changed: Callable[[], None]) -> None:
        self._lab, self._flow, self._changed = lab, flow, changed
        self.key = key
        self.is_scenario = key.startswith(_SCENARIO)
        self.name = key.removeprefix(_SCENARIO)
        self.layers: LayersPanel | None = None
        self._closed = threading.Event()
        self.task = widgets.HTML()
        self.hints = widgets.HTML()
        self.result = widgets.HTML().add_class("vmsnap-aims")
        self.answer = widgets.Text(description=t("Answer"), layout=widgets.Layout(width="auto"))
        self.answer.add_class("vmsnap-answer")
        self.set_up_button = self._button(t("Set up"), self.set_up, style="primary")
        self.check_button = self._button(t("Check"), self.check, style="primary")
        self.hint_button = self._button(t("Hint"), self.hint)
        self.reset_button = self._button(t("Start over…"), self.reset)
        self._buttons = widgets.HBox().add_class("vmsnap-row")
        self._to_order = widgets.VBox()
        self._images = widgets.VBox().add_class("vmsnap-tab")
        title, begun, self._asks = self.name, True, False
        self.order = None if self.is_scenario else self._lines()  # of commands, where that is the task
        if not self.is_scenario:
            about = lab.exercises().loc[self.name]
            title, begun = about["title"], bool(about["begun"])
            self._asks = "lab.answer" in about["task"]  # so do its words say it
            lines = "".join(f"<p>{escape(line)}</p>" for line in about["task"].split("\n\n"))
            self.task.value = lines
        parts = [self.task, self._buttons, self.hints, self._to_order, self.result, self._images]
        super().__init__([heading(shown(title)), *parts])
        self.add_class("vmsnap-page")
        self._offer(begun=begun)
        if begun:
            self._in_thread(self._open)

    def _button(self, text: str, act: Callable[[], None], *, style: str = "") -> Any:
        made = widgets.Button(description=text, button_style=style, layout=widgets.Layout(width="auto"))
        made.on_click(lambda _: self._flow.guarded(act))
        return made

    def _offer(self, *, begun: bool) -> None:
        if self.is_scenario:
            self._buttons.children = (self.reset_button,)
        elif begun:
            checks: tuple[Any, ...] = (self.answer, self.check_button) if self._asks else (self.check_button,)
            if self.order is not None:  # it has a button of its own
                checks = ()
            self._buttons.children = (*checks, self.hint_button, self.reset_button)
            self._to_order.children = () if self.order is None else (self.order,)
        else:
            self._buttons.children = (self.set_up_button, self.hint_button)

    def _lines(self) -> Any:
        """Return the commands to put in order as a list to work with; None for any other task."""
        try:
            made = self._lab.lines(self.name).to_widget()
        except NotFoundError:
            return None
        made.children[-1].observe(lambda _: self._changed(), "value")  # what a check found
        return made

    def _in_thread(self, act: Callable[[], None]) -> None:
        threading.Thread(target=lambda: self._flow.guarded(act), name="vmsnap exercise", daemon=True).start()

    def _open(self) -> None:
        self._show(self._lab.scenario(self.name) if self.is_scenario else self._lab.exercise(self.name))

    def _show(self, forest: LiveForest) -> None:
        """Show the panel of its images, whose plans run here too."""
        old, self.layers = self.layers, LayersPanel(forest, activity=self._flow.activity)
        self._images.children = (self.layers,)
        if old is not None:
            old.close()
        if self._closed.is_set():  # it was left while its images were made
            self.layers.close()
        self._offer(begun=True)
        self._changed()

    def set_up(self) -> None:
        """Make its images and guests."""
        self._flow.resolve(t("set up {exercise}", exercise=self.name), self._open, again=False)

    def reset(self) -> None:
        """Begin it again, once that is confirmed."""
        lost = t("everything in the folder of {exercise}, and its guests", exercise=self.name)
        if self.is_scenario:
            lost = t("all changes to the images of the scenario {scenario}", scenario=self.name)
        self._flow.ask(t("start {exercise} over", exercise=self.name), lost, t("Start over"), self._reset)

    def _reset(self) -> None:
        again = self._lab.reset_scenario if self.is_scenario else self._lab.reset_exercise
        self.result.value = self.hints.value = ""
        self._show(again(self.name))

    def check(self) -> None:
        """Check it in a thread; an answer that was entered is given first."""
        self.result.value = _status(t("Checking …"))
        self._in_thread(self._check)

    def _check(self) -> None:
        try:
            text = self.answer.value.strip()
            if text:
                self._lab.answer(self.name, text)
            self.result.value = self._lab.check(self.name)._repr_mimebundle_()["text/html"]
        except VmsnapError:
            self.result.value = ""
            raise
        self._changed()

    def hint(self) -> None:
        """Show the next hint, beside what the last check found."""
        self.hints.value = _status(self._lab.hint(self.name).to_text())

    def close(self) -> None:
        """Close it with the panel of its images, also if that is only being made."""
        self._closed.set()
        if self.layers is not None:
            self.layers.close()
        super().close()


def _status(text: Message) -> str:
    return f'<p role="status">{escape(shown(text))}</p>'
