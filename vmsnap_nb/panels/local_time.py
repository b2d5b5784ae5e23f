"""A line of HTML with times in it, which the page shows as its reader's clock has them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from vmsnap_nb.words.language import language

__all__ = ["LocalTimes", "time_html"]


class LocalTimes(anywidget.AnyWidget):
    """HTML; its times are in UTC, and a page puts them into the time zone of its reader."""

    _esm = Path(__file__).parent / "local_time.js"
    value = traitlets.Unicode("").tag(sync=True)
    language = traitlets.Unicode("").tag(sync=True)

    def __init__(self, **options: Any) -> None:
        super().__init__(language=language(), **options)


def time_html(at: datetime, *, zone: bool = False) -> str:
    """Return a time of day as HTML; `zone` names the reader's time zone, which one line of a panel does for all."""
    at = at.astimezone(UTC)
    named = " data-zone" if zone else ""
    return f'<time datetime="{at:%Y-%m-%dT%H:%M:%SZ}"{named}>{at:%H:%M:%S} UTC</time>'
