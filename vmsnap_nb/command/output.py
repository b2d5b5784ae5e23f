"""What a command prints: text at the terminal's width, or JSON of one form; and its errors."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.words.message import Message, t
from vmsnap_nb.words.printable import printable

if TYPE_CHECKING:
    from vmsnap_nb.model.shown import Shown, Tabled
    from vmsnap_nb.plans.concern import Concern
    from vmsnap_nb.plans.plan import Plan
    from vmsnap_nb.plans.report import Report

__all__ = ["SCHEMA", "Output", "error_json", "facts_of_plan", "facts_of_report", "painted"]

SCHEMA = 1
"""The number of the form of JSON; it changes when a name in it changes its meaning."""
_LEAST, _MOST = 40, 200
_KEPT = "\n\t\u2068\u2069"
"""Line ends, and the marks by which figures keep a name that is written from right to left apart."""
_COLOURS = {"red": "31", "yellow": "33", "green": "32"}


class Output:
    """Where one command prints."""

    def __init__(self, command: str, *, as_json: bool) -> None:
        self.command, self.as_json = command, as_json
        self._remarked: set[str] = set()

    @property
    def columns(self) -> int:
        """How wide a text may be."""
        return min(max(shutil.get_terminal_size((100, 24)).columns, _LEAST), _MOST)

    def line(self, text: str = "", *, label: str = "", colour: str = "") -> None:
        """Print text for people, after a label that has a colour on a terminal; nothing if JSON is asked for."""
        if not self.as_json:
            head = painted(printable(label), colour, sys.stdout) if label else ""
            print(f"{head}{printable(text, keep=_KEPT)}")  # noqa: T201

    def text_only(self, text: str) -> None:
        """Print a text for other programs, as it is."""
        print(text)  # noqa: T201

    def remark(self, text: Message) -> None:
        """Print a remark beside the result, for people, once."""
        if not self.as_json and text not in self._remarked:
            self._remarked.add(text)
            print(printable(text, keep=_KEPT), file=sys.stderr)  # noqa: T201

    def records(self, records: Iterable[Mapping[str, Any]], facts: Mapping[str, Any] | None = None) -> None:
        """Print JSON: rows, and what is true of all of them."""
        whole = {"schema": SCHEMA, "command": self.command, **(facts or {}), "records": list(records)}
        print(json.dumps(whole, indent=2))  # noqa: T201

    def show(self, thing: Shown | Tabled, *, table: bool = False, facts: Mapping[str, Any] | None = None) -> None:
        """Print an object: its figure or its table, or the records of that."""
        from vmsnap_nb.views.records import records_of
        from vmsnap_nb.views.tables import table_of

        if self.as_json:
            self.records(records_of(table_of(thing)), facts)
        else:
            self.line(self.text(thing, table=table))

    def text(self, thing: Shown | Tabled, *, table: bool = False) -> str:
        """Return the figure or the table of an object, as wide as the terminal."""
        from vmsnap_nb.command.fitted import fitted_figure
        from vmsnap_nb.model.shown import Shown
        from vmsnap_nb.views.listing import caption_of, table_text
        from vmsnap_nb.views.tables import table_of

        if isinstance(thing, Shown) and not table:
            return fitted_figure(thing, self.columns)
        rows = table_of(thing)
        if not isinstance(thing, Shown):
            return f"{table_text(rows, self.columns)}\n\n{caption_of(thing)}" if rows.rows else caption_of(thing)
        return table_text(rows, self.columns) if rows.rows else str(t("no results"))


def facts_of_plan(plan: Plan) -> dict[str, Any]:
    """Return what JSON has of a plan beside its steps."""
    return {
        "title": str(plan.title),
        "way": str(plan.way),
        "refused": plan.refused,
        "bytes_to_copy": plan.bytes_to_copy,
        "frees": plan.frees.total,
        "creates": list(plan.creates),
        "writes": list(plan.writes),
        "removes": list(plan.unlinks),
        "invalidates": list(plan.invalid),
        "concerns": [_concern(concern) for concern in plan.concerns],
    }


def _concern(concern: Concern) -> dict[str, Any]:
    return {
        "name": concern.name,
        "level": concern.level,
        "what": str(concern.what),
        "remedy": str(concern.remedy),
        "images": list(concern.images),
        "holders": list(concern.holders),
        "waivable": concern.waivable,
    }


def facts_of_report(report: Report) -> dict[str, Any]:
    """Return what JSON has of a report beside its steps."""
    return {
        "title": str(report.plan.title),
        "as_predicted": report.as_predicted,
        "cancelled": report.cancelled,
        "differences": [str(difference) for difference in report.differences],
        "freed": sum(report.freed.values()),
        "said": list(report.said),
    }


def error_json(command: str, error: VmsnapError) -> str:
    """Return an error as JSON, with the reports of what was done before it."""
    parts = {"kind": type(error).__name__, "tried": error.tried, "why": error.why, "said": error.quoted}
    texts = {name: None if text is None else str(text) for name, text in (*parts.items(), ("next", error.next_step))}
    concerns = [_concern(concern) for concern in getattr(error, "concerns", ())]
    found = {"error": {**texts, **({"concerns": concerns} if concerns else {})}}
    done = {"reports": [facts_of_report(report) for report in error.reports]} if error.reports else {}
    return json.dumps({"schema": SCHEMA, "command": command, **done, **found}, indent=2)


def painted(text: str, colour: str, stream: Any) -> str:
    """Return a text in a colour, if it is printed on a terminal that may have some (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"
