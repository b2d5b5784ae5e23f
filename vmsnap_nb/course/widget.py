"""Questions to answer by mouse, keyboard or screen reader: ipywidgets around the values."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from vmsnap_nb.course.question import Outcome, Question
from vmsnap_nb.course.shown import marked_up, outcome_html
from vmsnap_nb.words.message import t

if TYPE_CHECKING:
    from vmsnap_nb.course.ask import Quiz

__all__ = ["QuestionBox", "QuizBox"]

# ipywidgets gives each option one line; a longer one would run into the next.
_STYLE = """<style>
.vmsnap-options .widget-radio-box { margin-left: 4px; }
.vmsnap-options .widget-radio-box label {
  display: flex; flex-direction: row-reverse; justify-content: flex-end; gap: 6px;
  height: auto; line-height: 1.4; padding: 2px 0; white-space: normal;
}
.vmsnap-options input { flex: none; }
</style>"""


class QuestionBox:
    """One question with radio buttons, and a place for what happened."""

    def __init__(self, question: Question, chosen: Callable[[int], None], *, label: str = "") -> None:
        head = escape(label or t("Predict"))
        self.text = widgets.HTML(f"{_STYLE}<strong>{head}</strong> {marked_up(question.text)}")
        self.options = widgets.RadioButtons(
            options=[(option.text.replace("`", ""), index) for index, option in enumerate(question.options)],
            index=None,
            description=t("Your answer"),
            layout=widgets.Layout(width="auto"),
            style={"description_width": "initial"},
        ).add_class("vmsnap-options")
        self.result = widgets.HTML()
        self.root = widgets.VBox([self.text, self.options, self.result])
        self.options.observe(lambda change: chosen(change["new"]), "value")

    def select(self, index: int) -> None:
        """Show a choice that was made by code."""
        self.options.index = index

    def tell(self, outcome: Outcome) -> None:
        """Show what happened; a screen reader says it."""
        self.result.value = f'<div role="status">{outcome_html(outcome, below=True)}</div>'

    def bundle(self, **options: Any) -> dict[str, Any]:
        """Return the widget for a notebook."""
        return _bundle(self.root, **options)


class QuizBox:
    """All questions of a quiz, one button, and the score."""

    def __init__(self, quiz: Quiz) -> None:
        self._quiz = quiz
        boxes = []
        for number, one in enumerate(quiz.questions, 1):
            one._box = QuestionBox(one.question, one._chosen, label=f"{number}.")  # noqa: SLF001 - the two are one thing
            boxes.append(one._box.root)  # noqa: SLF001
        self.button = widgets.Button(
            description=t("Check answers"), button_style="primary", layout=widgets.Layout(width="auto")
        )
        self.button.on_click(lambda _: self.check())
        self.score = widgets.HTML()
        self.root = widgets.VBox([*boxes, widgets.HBox([self.button, self.score])])

    def check(self) -> None:
        """Compare all answers and show the score."""
        result = self._quiz.check()
        self.score.value = f'<strong role="status">{escape(result.summary)}</strong>'

    def bundle(self, **options: Any) -> dict[str, Any]:
        """Return the widget for a notebook."""
        return _bundle(self.root, **options)


def _bundle(root: widgets.Widget, **options: Any) -> dict[str, Any]:
    made = root._repr_mimebundle_(**options)
    return dict((made[0] if isinstance(made, tuple) else made) or {})
