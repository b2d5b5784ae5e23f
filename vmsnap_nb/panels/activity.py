"""What was done in the panels: each with the code for a cell and the commands for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anywidget
import traitlets

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


class Activity(anywidget.AnyWidget):
    """The log that panels share; `entries` has all, the newest last."""

    _esm = Path(__file__).parent / "activity.js"
    told: Any = traitlets.List([]).tag(sync=True)
    count = traitlets.Int(0).tag(sync=True)

    def __init__(self, **options: Any) -> None:
        self.entries: list[Entry] = []
        super().__init__(**options)

    def add(self, what: str, state: str, code: str = "", commands: Sequence[str] = ()) -> None:
        """Note what was done."""
        self.entries.append(Entry(datetime.now(UTC), what, state, code, tuple(commands)))
        with self.hold_sync():  # both in one message
            self.count = len(self.entries)
            self.told = [_told(entry) for entry in self.entries[-100:]]


def _told(entry: Entry) -> dict[str, Any]:
    parts = [("In a cell", entry.code), ("In a terminal", "\n".join(entry.commands))]
    return {
        "head": f"{entry.at:%H:%M:%S} UTC, {entry.what}",
        "state": entry.state,
        "parts": [part for part in parts if part[1]],
    }
