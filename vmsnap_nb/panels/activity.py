"""What was done in the panels: each with the code for a cell and the commands for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any

import ipywidgets as widgets

__all__ = ["Activity", "Entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done, or that failed.

    Attributes
    ----------
    at : datetime.datetime
        When, UTC.
    what, state : str
        The title, and how it ended.
    code : str
        The same in Python.
    commands : tuple of str
        The same in a shell.
    """

    at: datetime
    what: str
    state: str
    code: str = ""
    commands: tuple[str, ...] = ()


class Activity(widgets.VBox):
    """The log that panels share; `entries` has all, the newest last."""

    def __init__(self, **options: Any) -> None:
        self.entries: list[Entry] = []
        self._html = widgets.HTML("<p>Nothing was done yet.</p>")
        super().__init__([self._html], **options)

    def add(self, what: str, state: str, code: str = "", commands: Sequence[str] = ()) -> None:
        """Note what was done."""
        self.entries.append(Entry(datetime.now(UTC), what, state, code, tuple(commands)))
        self._html.value = "\n".join(_html(entry) for entry in reversed(self.entries[-100:]))


def _html(entry: Entry) -> str:
    head = f"{entry.at:%H:%M:%S} UTC, {escape(entry.what)}: <strong>{escape(entry.state)}</strong>"
    parts = [("In a cell", entry.code), ("In a terminal", "\n".join(entry.commands))]
    body = "".join(f"<p>{name}</p><pre>{escape(text)}</pre>" for name, text in parts if text)
    return f"<details><summary>{head}</summary>{body}</details>" if body else f"<p>{head}</p>"
