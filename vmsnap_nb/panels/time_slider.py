"""A slider over the moments of a guest: its snapshots in the order of time, and now."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from vmsnap_nb.panels.row_list import Row
from vmsnap_nb.views.shown_text import shown
from vmsnap_nb.words.language import language
from vmsnap_nb.words.message import t

__all__ = ["TimeSlider"]


class TimeSlider(anywidget.AnyWidget):
    """One stop for each snapshot, and the last one for now."""

    _esm = Path(__file__).parent / "time_slider.js"
    stops: Any = traitlets.List([]).tag(sync=True)  # see `Row.told`; oldest first, without now
    # The key of the chosen moment, None for now. To be observed.
    value = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    words: Any = traitlets.Dict({}).tag(sync=True)  # what the JavaScript says

    def __init__(self, **options: Any) -> None:
        words = {"label": t("Point in time"), "now": t("now"), "language": language()}
        super().__init__(words=words, **options)

    def show(self, rows: Iterable[Row]) -> None:
        """Show these moments instead; the chosen one stays so, if it is still there."""
        stops = [{**row.told(), "title": shown(row.key)} for row in rows]
        if stops != self.stops:
            self.stops = stops
        if self.value not in {stop["key"] for stop in stops}:
            self.value = None
