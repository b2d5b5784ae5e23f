"""Lines of commands to put in order: shown as a list to work with, or as text, and kept as the exercise's answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from vmsnap_nb.lab.exercises.check import Check
from vmsnap_nb.lab.exercises.exercise import Line
from vmsnap_nb.lab.exercises.ordering import right_order
from vmsnap_nb.model.shown import Listed
from vmsnap_nb.words.message import joined, t

__all__ = ["Lines"]


class Lines(Listed):
    """The lines of an ordering exercise. In a notebook, you can move the lines with the mouse or the keyboard.

    Attributes
    ----------
    exercise : str
        The name of the exercise.
    lines : tuple of Line
        All given lines, some of which are not needed; each has a ``letter`` and a ``text``.
    """

    def __init__(self, exercise: str, lines: Sequence[Line], keep: Callable[[str], Check]) -> None:
        self.exercise = exercise
        self.lines = tuple(lines)
        self._keep = keep
        self._box: Any = None

    def order(self, letters: str) -> Check:
        """Submit an order of the lines as the answer, and check it, as the button does.

        Parameters
        ----------
        letters : str
            The letters of the lines in order, such as ``"c a d"``. Leave out lines that are not needed.

        Returns
        -------
        Check
        """
        return self._keep(letters)

    def to_text(self) -> str:
        """Return the lines with their letters, and instructions for answering.

        Returns
        -------
        str
        """
        rows = [f"  {line.letter}  {line.text}" for line in self.lines]
        return "\n".join([*rows, t("Answer with: {code}", code=self._code("…"))])

    def _code(self, letters: str) -> str:
        return f'lab.answer("{self.exercise}", "{letters}")'

    def __repr__(self) -> str:
        return f"<Lines of {self.exercise}>"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        static = {"text/plain": self.to_text(), "text/html": self._html()}
        try:
            return {**self._made().bundle(**options), **static}
        except ModuleNotFoundError:  # without ipywidgets
            return static

    def to_widget(self) -> Any:
        """Return the list as a widget, for a page of your own widgets.

        Returns
        -------
        ipywidgets.VBox
            The list and its buttons. All widgets of one object show the same order.
        """
        return self._made().root

    def _made(self) -> Any:
        if self._box is None:
            from vmsnap_nb.lab.exercises.lines_widget import LinesBox

            self._box = LinesBox(self.lines, self._keep, self._code)
        return self._box

    def _html(self) -> str:
        """Return the lines for a page without a kernel; a right order is folded."""
        cell = "<tr><th scope='row'>{}</th><td style='text-align: left'><code>{}</code></td></tr>"
        rows = "".join(cell.format(line.letter, escape(line.text)) for line in self.lines)
        right = joined(line.letter for line in right_order(self.lines))
        answer = t("Answer")
        folded = f"<details><summary>{escape(answer)}</summary><p>{escape(right)}</p></details>"
        return f"<table><tbody>{rows}</tbody></table>{folded}"
