"""Graded hints: the idea, then the verb, then the first line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

from vmsnap_nb.lab.exercises.hand_help import HELP
from vmsnap_nb.model.shown import Listed
from vmsnap_nb.words.message import joined, t

__all__ = ["MOST", "Hint", "hint_of"]

MOST = 3
"""Hints of each exercise."""


@dataclass(frozen=True)
class Hint(Listed):
    """A hint for an exercise.

    Attributes
    ----------
    exercise : str
        The name of the exercise.
    number : int
        1 for the idea, 2 for the verb, 3 for the first line.
    text : str
        The text of the hint.
    """

    exercise: str
    number: int
    text: str

    def to_text(self) -> str:
        """Return the hint with its number."""
        return t("Hint {number} of {count}: {text}", number=self.number, count=MOST, text=self.text)

    def __repr__(self) -> str:
        return f"<Hint {self.number} of {self.exercise}>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        text = self.to_text()
        return {"text/plain": text, "text/html": f"<p>{escape(text)}</p>"}


def hint_of(exercise: str, number: int, folder: Path) -> Hint:
    """Return a hint by its number; after the last it stays the last. `folder` is the exercise's."""
    help_ = HELP[exercise]
    number = min(number, MOST)
    if number == 1:
        text = t(help_.idea)
    elif number == 2:
        verbs = joined(re.split(r", (?![^(]*\))", help_.verb))
        text = t("Use {verb}", verb=verbs) if verbs.endswith("…") else t("Use {verb}.", verb=verbs)
    else:
        text = t("Begin with: {line}", line=help_.first.replace("{folder}", str(folder)))
    return Hint(exercise, number, text)
