"""What was done in the panels: each with the code for a cell and the commands for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from vmsnap_nb.words.language import language
from vmsnap_nb.words.message import t

__all__ = ["Activity", "Entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done, or that failed."""

    at: datetime  # when, UTC
    what: str  # the title
    state: str  # how it ended
    code: str = ""  # the same in Python
    commands: tuple[str, ...] = ()  # the same in a shell


class Activity(anywidget.AnyWidget):
    """The log that panels share; `entries` has all, the newest last."""

    _esm = Path(__file__).parent / "activity.js"
    told: Any = traitlets.List([]).tag(sync=True)
    words: Any = traitlets.Dict({}).tag(sync=True)  # what the JavaScript says
    count = traitlets.Int(0).tag(sync=True)

    def __init__(self, **options: Any) -> None:
        self.entries: list[Entry] = []
        words = {
            "label": t("Activity"),
            "empty": t(
                "No activity yet. Each action appears here with its code for a notebook cell and its commands for a "
                "terminal."
            ),
            "copy": t("Copy"),
            "copied": t("Copied"),
            "press": t("Press Ctrl-C"),
        }
        super().__init__(words={**words, "language": language()}, **options)

    def add(self, what: str, state: str, code: str = "", commands: Sequence[str] = ()) -> None:
        """Note what was done."""
        self.entries.append(Entry(datetime.now(UTC), what, state, code=code, commands=tuple(commands)))
        with self.hold_sync():  # both in one message
            self.count = len(self.entries)
            self.told = [_told(entry) for entry in self.entries[-100:]]


def _told(entry: Entry) -> dict[str, Any]:
    commands = "\n".join(entry.commands)
    parts = [
        (t("In a cell"), t("Copy: In a cell"), entry.code),
        (t("In a terminal"), t("Copy: In a terminal"), commands),
    ]
    return {
        "at": entry.at.isoformat(),
        "head": t("{time}, {what}:", time="{time}", what=entry.what),
        "state": entry.state,
        "parts": [part for part in parts if part[-1]],
    }
