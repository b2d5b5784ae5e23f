"""Which layer of a guest's chain holds which part of its disk, read again and again while it is looked at."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from html import escape
from typing import Any

import ipywidgets as widgets

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.blockmap import BlockMap, LayerMap
from vmsnap_nb.model.number import check_seconds
from vmsnap_nb.panels.chain_view import ChainView, with_static
from vmsnap_nb.panels.local_time import LocalTimes, time_html
from vmsnap_nb.words.message import t

__all__ = ["BlockMapPanel"]

_PAUSE = 5
"""How many times longer than a reading the pause after it is, at least: maps of large disks take their time."""


class BlockMapPanel(widgets.VBox):
    """The live block map of a guest's disk. While the panel is displayed, it repeatedly reads the map and marks new
    data.

    Parameters
    ----------
    guest : Guest
        The guest whose disk is shown.
    every : float
        The number of seconds between two readings. If 0, only `read` reads the map.

    Attributes
    ----------
    map : BlockMap
        The last map.
    live : Checkbox
        The checkbox that controls whether the map is read repeatedly.
    """

    def __init__(self, guest: Guest, *, every: float = 1.0) -> None:
        self.guest = guest
        self.map = BlockMap((LayerMap("", 0),))
        self.is_open = True  # False in a tab that is not the selected one
        self._before: tuple[datetime, BlockMap] | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        targets = [disk.target for disk in guest.domain().disks if disk.source]
        self.disk = widgets.Dropdown(description=t("Disk"), options=targets, value=targets[0] if targets else None)
        self.disk.layout.display = None if len(targets) > 1 else "none"  # of one there is nothing to choose
        self.live = widgets.Checkbox(
            description=t("Live"), value=True, indent=False, layout=widgets.Layout(width="auto")
        )
        self.again_button = _button(t("Read again"))
        self.mark_button = _button(t("Highlight data written from now on"))
        self.said = LocalTimes()
        self.view = ChainView(can_propose=False)
        self.again_button.on_click(lambda _: self._in_thread())
        self.mark_button.on_click(lambda _: self.begin())
        self.disk.observe(lambda _: self.begin(), "value")
        head = widgets.HBox([self.disk, self.live, self.again_button, self.mark_button]).add_class("vmsnap-row")
        super().__init__([head, self.said, self.view])
        self.add_class("vmsnap-panel")
        self.read()
        if every > 0:
            seconds = check_seconds(every, "every")
            threading.Thread(target=self._watch, args=(seconds,), name="vmsnap block map", daemon=True).start()

    def begin(self) -> None:
        """From now on, mark only data that is newer than this call."""
        self._before = None
        self._in_thread()

    def read(self) -> None:
        """Read the map now, and show it."""
        with self._lock:
            self._read()

    def _read(self) -> None:
        try:
            found = self.guest.blockmap(self.disk.value)
        except VmsnapError as error:
            self.said.value = f'<pre role="alert">{escape(str(error))}</pre>'
            return
        now = datetime.now(UTC)
        if self._before is None:
            self._before = now, found
        since, before = self._before
        found = found.since(before)
        if found != self.map:
            self.map = found
            self.view.show_map(found)
        self.said.value = f"<small>{_said_html(since, now)}</small>"

    def _in_thread(self) -> None:
        threading.Thread(target=self.read, name="vmsnap block map", daemon=True).start()

    def _watch(self, every: float) -> None:
        pause = every
        while not self._closed.wait(pause):
            with self._lock:  # another may have read meanwhile, and the panel been left
                if self.live.value and self.is_open and self.view.views > 0:
                    began = time.monotonic()
                    self._read()
                    pause = max(every, _PAUSE * (time.monotonic() - began))

    def close(self) -> None:
        """Stop reading, and remove the panel from the page."""
        self._closed.set()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return with_static(super()._repr_mimebundle_(**kwargs), self.map)


def _said_html(since: datetime, now: datetime) -> str:
    said = t(
        "Read at {time}; new data was written to the files after {since}. Data of a running guest is written when the "
        "guest flushes its disk.",
        time="{time}",
        since="{since}",
    )
    return escape(said).format(time=time_html(now), since=time_html(since))


def _button(text: str) -> Any:
    return widgets.Button(description=text, layout=widgets.Layout(width="auto"))
