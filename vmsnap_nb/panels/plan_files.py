"""What a plan changes in the files of a guest: which come back, and which can no longer be restored."""

from __future__ import annotations

import threading
from html import escape

import ipywidgets as widgets

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.files import FileChanges, FileRead, LostFiles
from vmsnap_nb.plans.lost_states import lost_states
from vmsnap_nb.plans.revert.request import RevertRequest
from vmsnap_nb.views.file_tree import lost_heading
from vmsnap_nb.views.labels import moment_text
from vmsnap_nb.views.shown_text import shown
from vmsnap_nb.words.message import counted, t

__all__ = ["PlanFiles"]

_AT_ONCE = 0.3
"""Seconds that it may take without being asked for."""
_NAMED = 3


class PlanFiles(widgets.VBox):
    """The card "What this changes" of a plan: shown by itself if that is quick, otherwise by its button."""

    def __init__(self) -> None:
        self.button = widgets.Button(
            description=t("What this changes"), layout=widgets.Layout(width="auto", align_self="flex-start")
        )
        self.said = widgets.HTML()
        self.card = widgets.HTML()
        self._plan: LivePlan | None = None
        self._thread: threading.Thread | None = None
        self.button.on_click(lambda _: self.read())
        super().__init__([self.button, self.said, self.card])
        self.show(None)

    def show(self, plan: LivePlan | None) -> None:
        """Offer the card of a plan; with None, or for one that changes no file, nothing is shown."""
        self._plan = plan if plan is not None and _changes_files(plan) else None
        self.said.value = self.card.value = ""
        self.layout.display = "none" if self._plan is None else None
        if self._plan is not None:
            self._start(self._plan, _AT_ONCE)

    def read(self) -> None:
        """Read the files in a thread, as long as it takes."""
        if self._plan is not None:
            reading = t("Reading …")
            self.said.value = f'<p role="status">{escape(reading)}</p>'
            self._start(self._plan, None)

    def wait(self, timeout: float = 60.0) -> None:
        """Wait until nothing is read any more."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _start(self, plan: LivePlan, seconds: float | None) -> None:
        self._thread = threading.Thread(target=self._read, args=(plan, seconds), name="vmsnap files", daemon=True)
        self._thread.start()

    def _read(self, plan: LivePlan, seconds: float | None) -> None:
        card = said = ""
        try:
            card = _card(plan, seconds)
        except VmsnapError as error:
            if seconds is not None:
                return  # the button reads them
            said = f'<pre role="alert">{escape(str(error))}</pre>'
        if plan is self._plan:
            self.card.value, self.said.value = card or self.card.value, said


def _changes_files(plan: LivePlan) -> bool:
    return isinstance(plan.request, RevertRequest) or bool(lost_states(plan, plan.request))


def _card(plan: LivePlan, seconds: float | None) -> str:
    parts = []
    if isinstance(plan.request, RevertRequest):
        parts.append(_reverted(plan.diff(seconds=seconds)))
    lost = plan.lost_files(seconds=seconds)
    if lost.states:
        parts.append(_part(lost_heading(lost), [one.path for one in lost], lost))
    label = escape(t("What this changes"))
    return f'<div class="vmsnap-changes" role="region" aria-label="{label}">{"".join(parts)}</div>'


def _reverted(found: FileChanges) -> str:
    if not found.changes:
        return _part(t("All files are identical in {state}", state=moment_text(found.after)), [], found)
    heading = counted(
        "{count} file is reverted to {state}",
        "{count} files are reverted to {state}",
        len(found),
        state=moment_text(found.after),
    )
    return _part(heading, [one.path for one in found], found)


def _part(heading: str, paths: list[str], found: FileChanges | LostFiles) -> str:
    named = [f"<code>{escape(shown(path))}</code>" for path in dict.fromkeys(paths[:_NAMED])]
    if (more := len(paths) - _NAMED) > 0:
        named.append(escape(t("{count} more", count=more)))
    first = f"<strong>{escape(heading)}</strong>{': ' if named else ''}{', '.join(named)}"
    return f"<p>{first}</p>{_details(found) if paths or found.notes else ''}"


def _details(found: FileRead) -> str:
    html = found._repr_mimebundle_()["text/html"]
    summary = t("All of them")
    return f"<details><summary>{escape(summary)}</summary>{html}</details>"
