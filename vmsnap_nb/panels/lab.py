"""A host or a lab by mouse: its guests, a console, and all panels of the guest that is selected."""

from __future__ import annotations

import threading
from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as widgets

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.panels.merge import MergePanel
from vmsnap_nb.panels.overlay import OverlayPanel
from vmsnap_nb.panels.panel import Panel, choose
from vmsnap_nb.panels.snapshot import SnapshotPanel
from vmsnap_nb.panels.source import Reading
from vmsnap_nb.views.words import human_size

__all__ = ["LabPanel"]


class LabPanel(Panel):
    """The guests of a host with their states; below, the panels of the selected one as tabs."""

    def build(self) -> None:
        """Make the controls."""
        self.guests = widgets.Select(description="Guests", options=[], value=None, rows=5)
        self.guests.layout.width = "auto"
        self.start_button = widgets.Button(description="Start")
        self.stop_button = widgets.Button(description="Shut down")
        self.used = widgets.HTML()
        self.command = widgets.Text(description="Command", placeholder="a line for the guest's shell")
        self.send_button = widgets.Button(description="Run in guest")
        self.output = widgets.HTML()
        self.tabs = widgets.Tab()
        self._parts: tuple[Panel, ...] = ()
        self._parts_of: str | None = None
        self._choosing = False
        self.start_button.on_click(lambda _: self._in_thread("start", lambda guest: guest.start()))
        self.stop_button.on_click(lambda _: self._in_thread("shutdown", lambda guest: guest.shutdown()))
        self.send_button.on_click(lambda _: self.execute())
        self.guests.observe(self._chosen, "value")
        buttons = widgets.HBox([self.start_button, self.stop_button], layout={"flex_flow": "row wrap"})
        console = widgets.VBox([widgets.HBox([self.command, self.send_button]), self.output])
        self._whole = widgets.VBox([self.chain])
        self.children = (
            self.time_line,
            self.used,
            self.guests,
            buttons,
            console,
            self._whole,
            self.tabs,
            self.flow,
            self.activity,
        )

    def update(self, reading: Reading) -> None:
        """Show what was read."""
        super().update(reading)
        self._choosing = True
        choose(self.guests, [(f"{domain.name}: {domain.state}", domain.name) for domain in reading.domains])
        self._choosing = False
        self._chosen()
        disk = sum(image.allocated or 0 for image in reading.forest)
        bases = ", ".join(escape(reading.forest[path].name) for path in reading.forest.roots[:20])
        taken = f"{len(reading.forest)} images take {human_size(disk)} on disk"
        self.used.value = f"<p>{taken}; bases: {bases or 'none'}</p>"

    def _guest(self) -> Guest:
        name = self.guests.value
        if name is None or self.source.host is None:
            raise InvalidRequestError("use a guest", said="none is selected", next_step="select one in the list")
        return self.source.host.guest(name)

    def _chosen(self, _: Any = None) -> None:
        if not self._choosing and self.guests.value != self._parts_of:
            self._parts_of = self.guests.value
            self.flow.guarded(self._show_parts)

    def _show_parts(self) -> None:
        for part in self._parts:
            part.close()
        self._parts = ()
        if self.guests.value is not None:
            guest = self._guest()
            kinds: tuple[type[Panel], ...] = (SnapshotPanel, MergePanel, OverlayPanel)
            self._parts = tuple(kind(guest, activity=self.activity) for kind in kinds)
        self.tabs.children = self._parts
        self.tabs.titles = ("Snapshots", "Merge", "Overlays") if self._parts else ()

    def execute(self) -> None:
        """Run the line in the selected guest; what it prints appears below."""
        line = self.command.value

        def run(guest: Guest) -> None:
            done = guest.execute(line)
            printed = "\n".join([f"# {line}", done.stdout + done.stderr])
            self.output.value = f"<pre>{escape(printed)}</pre>"

        self._in_thread(f"execute({line!r})", run)

    def _in_thread(self, what: str, act: Callable[[Guest], Any]) -> None:
        def go() -> None:
            guest = self._guest()
            act(guest)
            call = what if "(" in what else f"{what}()"
            self.activity.add(f"{guest.name}: {what}", "done", f"guest.{call}")
            self.refresh()

        thread = threading.Thread(target=lambda: self.flow.guarded(go), name="vmsnap panel", daemon=True)
        thread.start()

    def close(self) -> None:
        """Close it with all its parts."""
        for part in self._parts:
            part.close()
        super().close()
