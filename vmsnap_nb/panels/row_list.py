"""A list of which one row can be selected, with the actions of each row in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from vmsnap_nb.views.shown_text import shown
from vmsnap_nb.words.language import language
from vmsnap_nb.words.message import t

__all__ = ["Action", "Row", "RowList"]


@dataclass(frozen=True, slots=True)
class Action:
    """What can be done with a row: a button, or an entry of its menu."""

    name: str  # what Python is told
    label: str  # what it does: the text in a menu, and the tooltip of a button with a sign
    sign: str = ""  # what the button shows instead of the text
    why_not: str = ""  # why it cannot be done now: the button is disabled, and says so
    in_menu: bool = False

    def __bool__(self) -> bool:
        return not self.why_not


@dataclass(frozen=True, slots=True)
class Row:
    """One row."""

    key: str  # which row it is; need not be shown
    title: str
    notes: tuple[str, ...] = ()  # below the title, smaller
    sign: str = ""  # before the title, with what it means
    meaning: str = ""
    mark: str = ""  # a class of the sign: running, paused, saved, off
    cells: tuple[tuple[str, str], ...] = ()  # at the right, each with its tooltip
    when: str = ""  # a time in ISO format, shown as local time and how long ago
    actions: tuple[Action, ...] = field(default=())

    def told(self) -> dict[str, Any]:
        """Return it as the JavaScript takes it; each text from outside is made harmless to look at."""
        return {
            "key": self.key,
            "title": shown(self.title),
            "notes": [shown(note) for note in self.notes if note],
            "sign": self.sign,
            "meaning": self.meaning,
            "mark": self.mark,
            "cells": [[shown(text), shown(tip)] for text, tip in self.cells],
            "when": self.when,
            "actions": [
                {"name": a.name, "label": a.label, "sign": a.sign, "why": a.why_not, "menu": a.in_menu}
                for a in self.actions
            ],
        }


class RowList(anywidget.AnyWidget):
    """Rows; one can be selected by mouse or by keyboard, and once more gives it up."""

    _esm = Path(__file__).parent / "row_list.js"
    label = traitlets.Unicode("").tag(sync=True)  # what it lists
    rows: Any = traitlets.List([]).tag(sync=True)  # see `Row.told`
    # The key of the selected row; it clears when that is no longer there. To be observed.
    value = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    views = traitlets.Int(0).tag(sync=True)  # how many pages, or places on a page, show it now
    empty = traitlets.Unicode("").tag(sync=True)  # what is said where there is no row
    words: Any = traitlets.Dict({}).tag(sync=True)  # what the JavaScript says

    def __init__(self, acted: Callable[[str, str], None] = lambda *_: None, **options: Any) -> None:
        words = {
            "menu": t("More for {row}", row="{row}"),
            "act": t("{act}: {row}", act="{act}", row="{row}"),
            "language": language(),
        }
        super().__init__(words=words, **options)
        self.shown_rows: tuple[Row, ...] = ()
        self.on_msg(lambda _, content, __: self._told(acted, content))

    @property
    def names(self) -> list[str]:
        """The keys of the rows, in their order."""
        return [row.key for row in self.shown_rows]

    def __getitem__(self, key: str) -> Row:
        return next(row for row in self.shown_rows if row.key == key)

    def act(self, name: str, key: str) -> None:
        """Do what a click on an action of a row does."""
        self._handle_custom_msg({"action": name, "key": key}, [])

    def _told(self, acted: Callable[[str, str], None], content: Any) -> None:
        """Pass an action on if its row has it, and it can be done: the page may be older than the rows."""
        name, key = content.get("action"), content.get("key")
        rows = (row for row in self.shown_rows if row.key == key)
        if any(action.name == name and action for row in rows for action in row.actions):
            acted(name, key)

    def show(self, rows: Iterable[Row]) -> None:
        """Show these rows instead. What is selected stays so, if it is still there."""
        self.shown_rows = tuple(rows)
        told = [row.told() for row in self.shown_rows]
        if told != self.rows:
            self.rows = told
        if self.value not in self.names:
            self.value = None
