"""Lines to put in order by mouse, keyboard or screen reader: radio buttons, and buttons that move the selected one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import ipywidgets as widgets

from vmsnap_nb.lab.exercises.check import Check
from vmsnap_nb.lab.exercises.exercise import Line
from vmsnap_nb.words.message import t

__all__ = ["LinesBox"]

# ipywidgets gives each option one line; a longer one would run into the next.
_STYLE = """<style>
.vmsnap-lines .widget-radio-box label {
  display: flex; flex-direction: row-reverse; justify-content: flex-end; gap: 6px;
  height: auto; line-height: 1.4; padding: 2px 0; white-space: pre-wrap;
  font-family: var(--jp-code-font-family, monospace);
}
.vmsnap-lines input { flex: none; }
</style>"""


class LinesBox:
    """The list, the buttons, and a place for what the check found."""

    def __init__(self, lines: Sequence[Line], keep: Callable[[str], Check], code: Callable[[str], str]) -> None:
        self._texts = {line.letter: line.text for line in lines}
        self.used, self.left_out = list(self._texts), list[str]()
        self._keep, self._code = keep, code
        # Not a list box: JupyterLab takes the arrow keys in one, and moves to another cell.
        self.list = widgets.RadioButtons(
            description=t("Commands"),
            layout=widgets.Layout(width="auto"),
            style={"description_width": "initial"},
        ).add_class("vmsnap-lines")
        self.up = self._button(t("Up"), t("Move the selected line up"), lambda: self._move(-1))
        self.down = self._button(t("Down"), t("Move the selected line down"), lambda: self._move(1))
        self.use = self._button(t("Include or exclude"), t("Exclude or include the selected line"), self._across)
        self.done = self._button(t("Check this order"), t("Save this order as the answer, and check it"), self._check)
        self.done.button_style = "primary"
        self.said, self.result = widgets.HTML(), widgets.HTML().add_class("vmsnap-aims")
        buttons = widgets.HBox([self.up, self.down, self.use, self.done], layout=widgets.Layout(flex_flow="row wrap"))
        self.root = widgets.VBox([widgets.HTML(_STYLE), self.list, buttons, self.said, self.result])
        self._show(self.used[0])

    def _button(self, text: str, tooltip: str, act: Callable[[], None]) -> widgets.Button:
        made = widgets.Button(description=text, tooltip=tooltip, layout=widgets.Layout(width="auto"))
        made.on_click(lambda _: act())
        return made

    def _show(self, selected: str) -> None:
        rows = [(f"{number}. {letter}  {self._texts[letter]}", letter) for number, letter in enumerate(self.used, 1)]
        rows += [(t("excluded: {line}", line=f"{letter}  {self._texts[letter]}"), letter) for letter in self.left_out]
        self.list.options = rows
        self.list.value = selected

    def _move(self, by: int) -> None:
        letter = self.list.value
        if letter in self.left_out:
            return
        place = self.used.index(letter)
        self.used.insert(max(0, place + by), self.used.pop(place))
        self._told(letter)

    def _across(self) -> None:
        letter = self.list.value
        source, target = (self.used, self.left_out) if letter in self.used else (self.left_out, self.used)
        source.remove(letter)
        target.append(letter)
        self._told(letter)

    def _told(self, letter: str) -> None:
        self._show(letter)
        where = t("{line} is excluded", line=letter)
        if letter in self.used:
            where = t("{line} is number {number}", line=letter, number=self.used.index(letter) + 1)
        self.said.value = f'<div role="status">{escape(where)}</div>'

    def _check(self) -> None:
        letters = " ".join(self.used)
        check = self._keep(letters)
        keep = t("To keep this answer in the notebook, write: {code}", code=self._code(letters))
        html = check._repr_mimebundle_()["text/html"]
        self.result.value = f'<div role="status">{html}<p><code>{escape(keep)}</code></p></div>'

    def bundle(self, **options: Any) -> dict[str, Any]:
        """Return the widget for a notebook."""
        made = self.root._repr_mimebundle_(**options)
        return dict((made[0] if isinstance(made, tuple) else made) or {})
