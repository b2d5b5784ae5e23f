"""What all panels have in common: a reading that is kept fresh, a flow for plans, an activity log."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from typing import Any

import ipywidgets as widgets
import traitlets

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.panels.activity import Activity
from vmsnap_nb.panels.chain_view import ChainView, with_static
from vmsnap_nb.panels.flow import Flow
from vmsnap_nb.panels.source import Reading, Source, Subject

__all__ = ["Panel", "choose"]


class Panel(widgets.VBox):
    """A panel reads its subject again and again in a thread, until it is closed.

    Parameters
    ----------
    subject : Guest, Host or LiveForest
        What it is about.
    activity : Activity, optional
        A log that is shared; its own if left out.
    every : float
        Seconds between two readings; 0 for none but `refresh`.

    Attributes
    ----------
    flow : Flow
        Its plan, confirmation, progress and report.
    chain : ChainView
        Its figure.
    last_error : Exception or None
        That of the flow, or of the last reading.
    """

    last_error = traitlets.Instance(Exception, allow_none=True)
    children: Any  # the trait of the box, which has no type

    def __init__(self, subject: Subject, *, activity: Activity | None = None, every: float = 1.0) -> None:
        self.source = Source(subject)
        self.activity = Activity() if activity is None else activity
        self.flow = Flow(self.activity, self.refresh)
        self.flow.observe(lambda change: setattr(self, "last_error", change["new"]), "last_error")
        self.chain = ChainView()
        self.reading: Reading | None = None
        self.time_line = widgets.HTML()
        self._reading_lock = threading.Lock()
        self._closed = threading.Event()
        super().__init__()
        self.add_class("vmsnap-panel")
        self.build()
        self.refresh()
        if every > 0:
            threading.Thread(target=self._watch, args=(every,), name="vmsnap panel watch", daemon=True).start()

    def build(self) -> None:
        """Make the controls: each panel has its own."""
        self.children = (self.time_line, self.chain, self.flow)

    def update(self, reading: Reading) -> None:
        """Show what was read: each panel adds its own."""
        self.chain.show(reading.shown)

    def refresh(self) -> None:
        """Read again now; an error is shown in the place of the time."""
        with self._reading_lock:
            try:
                reading = self.source.read()
                if reading.differs(self.reading):
                    self.update(reading)
                self.reading = reading
            except Exception as error:  # noqa: BLE001 - shown to the user, whatever it is
                if str(error) != str(self.last_error):
                    self.last_error = error
                self.time_line.value = f'<pre role="alert">{escape(str(error))}</pre>'
                return
            self.time_line.value = f"<small>read at {datetime.now(UTC):%H:%M:%S} UTC</small>"

    def _watch(self, every: float) -> None:
        while not self._closed.wait(every):
            self.refresh()

    def close(self) -> None:
        """End its reading, and take it from the page."""
        self._closed.set()
        super().close()

    @property
    def shown(self) -> Shown:
        """What a reader without a kernel is shown."""
        return Forest() if self.reading is None else self.reading.shown

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return with_static(super()._repr_mimebundle_(**kwargs), self.shown)


def choose(control: Any, options: Iterable[tuple[str, str]]) -> None:
    """Give a list new options; the chosen one stays chosen if it is still there, and nothing is chosen in its place."""
    options = list(options)
    if list(control.options) == options:
        return
    value = control.value if control.value in [key for _, key in options] else None
    control.options = options  # this chooses the first one
    control.value = value
