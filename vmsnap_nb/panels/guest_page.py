"""One guest of a lab or host: its state, and tabs with its console, snapshots, layers, files and block map."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as widgets

from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.panels.activity import Activity
from vmsnap_nb.panels.block_map import BlockMapPanel
from vmsnap_nb.panels.console import Console
from vmsnap_nb.panels.files import FilesView
from vmsnap_nb.panels.layers import LayersPanel
from vmsnap_nb.panels.panel import Panel, heading
from vmsnap_nb.panels.snapshot import SnapshotPanel
from vmsnap_nb.panels.source import Reading
from vmsnap_nb.panels.terminal import TerminalSwitch
from vmsnap_nb.views.labels import state_text
from vmsnap_nb.views.shown_text import capital, shown
from vmsnap_nb.words.message import Message, t

__all__ = ["GuestPage", "count_snapshots"]

_CONSOLE, _SNAPSHOTS, _LAYERS, _FILES, _MAP = range(5)


def _waiting() -> Any:
    """Return what a tab shows from the click that opens it until its content is there."""
    reading = t("Reading …")
    return widgets.HTML(f'<p role="status">{escape(reading)}</p>').add_class("vmsnap-waiting")


class GuestPage(widgets.VBox):
    """What is in a tab is made, and read, when the tab is opened.

    `act` starts or resumes the guest, without which its console is of no use.
    """

    def __init__(self, guest: Guest, activity: Activity, console: Console, act: Callable[[str], None]) -> None:
        self.guest = guest
        self._activity = activity
        self.console = console
        self.badge = widgets.HTML()
        self.snapshot_button = widgets.Button(
            description=t("Take snapshot…"), button_style="primary", layout=widgets.Layout(width="auto")
        )
        self.snapshot_button.on_click(lambda _: self.take_snapshot())
        self.tabs = widgets.Tab([widgets.VBox([_waiting()]).add_class("vmsnap-tab") for _ in range(5)])
        self.tabs.titles = (t("Console"), t("Snapshots"), t("Disk layers"), t("Files"), t("Block map"))
        self.switch = TerminalSwitch(guest, console)
        self._way = "start"
        self.power_button = widgets.Button(button_style="primary", layout=widgets.Layout(width="auto", display="none"))
        self.power_button.on_click(lambda _: act(self._way))
        self.tabs.children[_CONSOLE].children = (self.power_button, self.switch)
        self.tabs.observe(lambda _: self.open_tab(), "selected_index")
        self._parts: dict[int, Any] = {}
        head = widgets.HBox([heading(shown(guest.name)), self.badge, self.snapshot_button]).add_class("vmsnap-title")
        super().__init__([head, self.tabs])
        self.add_class("vmsnap-page")

    def part(self, number: int) -> Any:
        """Return what is in a tab; it is made if it is not there yet."""
        makers: dict[int, Callable[[], Any]] = {
            _SNAPSHOTS: lambda: SnapshotPanel(self.guest, activity=self._activity, every=0),
            _LAYERS: lambda: LayersPanel(self.guest, activity=self._activity, every=0),
            _FILES: lambda: FilesView(self.guest),
            _MAP: lambda: BlockMapPanel(self.guest),
        }
        if number not in self._parts:
            self._parts[number] = part = makers[number]()
            self.tabs.children[number].children = (part,)
        return self._parts[number]

    @property
    def reading(self) -> Reading | None:
        """What the open tab has read of the guest; None if it reads none of it."""
        part = self._parts.get(self.tabs.selected_index or 0)
        return part.reading if isinstance(part, Panel) else None

    def open_tab(self) -> None:
        """Make what the open tab has, and read it."""
        number = self.tabs.selected_index
        if _MAP in self._parts:
            self._parts[_MAP].is_open = number == _MAP
        if number in (None, _CONSOLE):
            return
        is_new = number not in self._parts  # then it has just been read
        part = self.part(number)
        if isinstance(part, Panel):
            if not is_new:
                part.refresh()
            return
        if isinstance(part, FilesView):
            part.show_snapshots(self.guest.snapshots().names)
            part.read()

    def take_snapshot(self) -> None:
        """Plan a snapshot with all that is chosen for the user."""
        self.tabs.selected_index = _SNAPSHOTS
        part = self.part(_SNAPSHOTS)
        part.flow.guarded(part.create)

    def tell(self, domain: Domain, state: str, doing: Message | None = None, phase: Message | None = None) -> None:
        """Show the state of the guest, or what is being done with it; offer to start or resume one that does not run.

        While something is being done, `phase` is how far that is.
        """
        mark, text = (state, state_text(domain.state)) if doing is None else ("busy", doing)
        self.badge.value = f'<span class="vmsnap-chip vmsnap-is-{mark}">{escape(text)}</span>'
        if doing is not None:
            hint: str = t("{what} …", what=capital(phase)) if phase else ""
        else:
            why = t("The console accepts commands while the guest is running.")
            hint = "" if domain.state == "running" else why
        self.console.hint = hint
        self.console.closed = doing is None and domain.state != "running"  # one that starts takes lines already
        paused = domain.state == "paused"
        self.power_button.disabled = doing is not None
        if doing is None:  # a guest that is started is paused for a moment
            self._way = "resume" if paused else "start"
            name = shown(domain.name)
            resume, start = t("Resume {guest}", guest=name), t("Start {guest}", guest=name)
            self.power_button.description = resume if paused else start
        self.power_button.layout.display = None if paused or not domain.running else "none"

    def update(self, reading: Reading, domain: Domain) -> None:
        """Show how many snapshots there are, and read again what the open tab shows."""
        self.switch.update(domain.running)
        number = count_snapshots(reading.forest, domain.name)
        title = t("Snapshots {count}", count=number) if number else t("Snapshots")
        titles = (*self.tabs.titles[:_SNAPSHOTS], title, *self.tabs.titles[_SNAPSHOTS + 1 :])
        if titles != tuple(self.tabs.titles):
            self.tabs.titles = titles
        part = self._parts.get(self.tabs.selected_index or 0)
        if isinstance(part, Panel):
            part.refresh()

    def close(self) -> None:
        """Close it with all that is in its tabs; the console stays."""
        self.tabs.children[_CONSOLE].children = ()
        self.switch.close()
        for part in self._parts.values():
            part.close()
        super().close()


def count_snapshots(forest: Forest, guest: str) -> int:
    """Return how many snapshots a guest has; saved memory is none."""
    return sum(record.guest == guest and not record.saved for record in forest.records)
