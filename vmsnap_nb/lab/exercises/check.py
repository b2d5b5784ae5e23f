"""The result of looking at an exercise: each aim, whether it is met, and what was seen instead."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from vmsnap_nb.lab.exercises.exercise import Aim
from vmsnap_nb.model.shown import Listed
from vmsnap_nb.views.frames import frame_of_table
from vmsnap_nb.views.shown_text import capital, shown, width
from vmsnap_nb.views.tables import Column, Table
from vmsnap_nb.words.message import Message, t

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Check"]

_LEFT = 'style="text-align: left"'
# Half transparent, so that the text keeps the colour of its theme.
_GREEN, _AMBER, _RED = "rgba(46,160,67,.18)", "rgba(210,153,34,.2)", "rgba(218,54,51,.18)"
_COLUMNS = (Column("aim"), Column("met", "yes or no"), Column("kept", "yes or no"), Column("seen"))


@dataclass(frozen=True)
class Check(Listed):
    """The result of checking an exercise. A check is true if all aims are met.

    Attributes
    ----------
    exercise : str
        The name of the exercise.
    title : str
        The title of the exercise.
    aims : tuple of Aim
        The conditions that must be met at the end, in the order in which you work on them.
    why : str
        The reason why the result is right; shown when all aims are met.
    other : str
        Another solution; shown when all aims are met.

    Examples
    --------
    >>> from vmsnap_nb.lab.exercises.exercise import Aim
    >>> from vmsnap_nb.words.message import Message
    >>> aims = (Aim(Message("A exists"), True), Aim(Message("A is based on B"), False, Message("A is based on C")))
    >>> check = Check("x", "An example", aims)
    >>> print(check.to_text())
    x: An example: 1 of 2 done
      done     A exists
      not yet  A is based on B
               found: A is based on C
    >>> bool(check), check.points(4)
    (False, 2.0)
    """

    exercise: str
    title: str
    aims: tuple[Aim, ...]
    why: str = ""
    other: str = ""

    @property
    def done(self) -> bool:
        """Whether every aim is met."""
        return all(aim.met for aim in self.aims)

    @property
    def missing(self) -> tuple[Aim, ...]:
        """The aims that are not met, or no longer met."""
        return tuple(aim for aim in self.aims if not aim.met)

    def __bool__(self) -> bool:
        return self.done

    def points(self, most: float) -> float:
        """Return the points for the exercise; nbgrader reads them from the last value of a cell.

        Parameters
        ----------
        most : float
            The number of points if all aims are met.

        Returns
        -------
        float
            The points, rounded to two digits, in proportion to the aims that are met now and were not met at the start.
            The result is 0 if an image or guest that had to stay intact is damaged.
        """
        if any(aim.kept and not aim.met for aim in self.aims):
            return 0.0
        own = [aim.met for aim in self.aims if not aim.kept]
        return round(float(most) * sum(own) / len(own), 2)

    def _summary(self) -> Message:
        if self.done:
            return t("{exercise}: {title}: done", exercise=self.exercise, title=self.title)
        own = [aim.met for aim in self.aims if not aim.kept]
        fields = {"exercise": self.exercise, "title": self.title, "done": sum(own), "count": len(own)}
        if any(aim.kept for aim in self.missing):
            return t("{exercise}: {title}: {done} of {count} done, and something is broken", **fields)
        return t("{exercise}: {title}: {done} of {count} done", **fields)

    def to_text(self) -> str:
        """Return the result as lines of text.

        Returns
        -------
        str
            Aims that were met at the start are shown only if they are no longer met.
        """
        lines: list[str] = [self._summary()]
        for aim in self.aims:
            if aim.kept and aim.met:
                continue
            word = t("done") if aim.met else t("broken") if aim.kept else t("not yet")
            lines.append(f"  {word}{' ' * (8 - width(word))} {shown(aim.what)}")
            if not aim.met:
                lines.append(" " * 11 + t("found: {found}", found=shown(aim.seen or "")))
        lines += [f"  {line}" for line in self._after_success()]
        return "\n".join(lines)

    def _after_success(self) -> list[Message]:
        if not self.done or not self.why:
            return []
        why = t("Why: {reason}", reason=self.why)
        return [why, t("Another way: {solution}", solution=self.other)] if self.other else [why]

    def to_frame(self) -> pd.DataFrame:
        """Return the aims as a table.

        Returns
        -------
        pandas.DataFrame
            A table with index ``aim`` and columns ``met``, ``kept`` and ``seen``. ``kept`` is whether the aim was met
            at the start. ``seen`` is what was found instead, or ``<NA>`` if the aim is met.
        """
        rows = tuple((aim.what, aim.met, aim.kept, None if aim.met else aim.seen) for aim in self.aims)
        return frame_of_table(Table(_COLUMNS, rows))

    def __repr__(self) -> str:
        return f"<Check of {self._summary()}>"

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        bundle = {"text/plain": self.to_text(), "text/html": self._html()}
        return {k: v for k, v in bundle.items() if (not include or k in include) and (not exclude or k not in exclude)}

    def _html(self) -> str:
        told = [aim for aim in self.aims if not (aim.kept and aim.met)]
        parts = [f"<p><strong>{escape(self._summary())}</strong></p>"]
        if told:
            heads = "".join(
                f'<th scope="col" {_LEFT}>{escape(head)}</th>' for head in (t("met"), t("aim"), t("found instead"))
            )
            caption = t("Aims")
            rows = "\n".join(_row(aim) for aim in told)
            parts.append(
                f"<table><caption {_LEFT}>{escape(caption)}</caption><thead><tr>{heads}</tr></thead>"
                f"<tbody>\n{rows}\n</tbody></table>"
            )
        parts += [f"<p>{escape(line)}</p>" for line in self._after_success()]
        return "\n".join(parts)


def _row(aim: Aim) -> str:
    """Return a row: green, amber or red, and the same as a word."""
    word, tint = (t("… not yet"), _AMBER)
    if aim.met:
        word, tint = (t("✓ done"), _GREEN)
    elif aim.kept:
        word, tint = (t("✗ broken"), _RED)
    seen = "" if aim.met else capital(aim.seen or "")
    mark = f'<td style="text-align: left; white-space: nowrap">{escape(word)}</td>'
    cells = f'{mark}<th scope="row" {_LEFT}>{escape(capital(aim.what))}</th>'
    return f'<tr style="background: {tint}">{cells}<td {_LEFT}>{escape(seen)}</td></tr>'
