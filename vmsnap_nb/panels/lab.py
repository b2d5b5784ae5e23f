"""A host or a lab by mouse: its guests, a console, and all panels of the guest that is selected."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as widgets

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.panels.call import Call
from vmsnap_nb.panels.command_line import CommandLine
from vmsnap_nb.panels.merge import MergePanel
from vmsnap_nb.panels.overlay import OverlayPanel
from vmsnap_nb.panels.panel import Panel, choose, in_thread
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
        self.doing = widgets.HTML()
        self.command = CommandLine(lambda line: self.flow.guarded(lambda: self.execute(line)))
        self.output = widgets.HTML()
        self.name = widgets.Text(description="New guest", placeholder="name of the guest")
        self.base = widgets.Dropdown(description="Stands on", options=[], value=None)
        self.count = widgets.BoundedIntText(description="How many", value=1, min=1, max=200)
        self.guest_button = widgets.Button(description="Plan guest")
        self.guest_button.on_click(lambda _: self.flow.guarded(self.propose))
        self.tabs = widgets.Tab()
        self._parts: tuple[Panel, ...] = ()
        self._parts_of: str | None = None
        self._choosing = False
        self._doing: tuple[str, ...] = ()
        self.start_button.on_click(lambda _: self._in_thread("start()", lambda guest: guest.start()))
        self.stop_button.on_click(lambda _: self._in_thread("shutdown()", lambda guest: guest.shutdown()))
        self.guests.observe(self._chosen, "value")
        buttons = widgets.HBox([self.start_button, self.stop_button], layout={"flex_flow": "row wrap"})
        console = widgets.VBox([self.command, self.output])
        new = [self.name, self.base, self.count, self.guest_button]
        self._whole = widgets.VBox([self.chain, *(new if self._makes_guests else [])])
        self.children = (
            self.time_line,
            self.used,
            self.guests,
            buttons,
            self.doing,
            console,
            self._whole,
            self.flow,
            self.tabs,
            self.activity,
        )

    def update(self, reading: Reading) -> None:
        """Show what was read."""
        super().update(reading)
        self._choosing = True
        choose(self.guests, [(f"{domain.name}: {domain.state}", domain.name) for domain in reading.domains])
        self._choosing = False
        self._chosen()
        choose(self.base, [(image.name, image.path) for image in reading.forest if image.status != "missing"])
        disk = sum(image.allocated or 0 for image in reading.forest)
        bases = ", ".join(escape(reading.forest[path].name) for path in reading.forest.roots[:20])
        taken = f"{len(reading.forest)} images take {human_size(disk)} on disk"
        self.used.value = f"<p>{taken}; bases: {bases or 'none'}</p>"

    @property
    def _makes_guests(self) -> bool:
        return hasattr(self.source.host, "plan_guests")  # a lab does; a host has its own tools for that

    def propose(self) -> None:
        """Plan new guests, each on an overlay of its own.

        Raises
        ------
        InvalidRequestError
            No base or no name was given.
        """
        name, base, count = self.name.value.strip(), self.base.value, self.count.value
        if not name or not base:
            raise InvalidRequestError(
                "plan a guest",
                said="it has no name" if not name else "nothing to stand on was chosen",
                next_step="type a name, and choose an image in the list",
            )
        names = [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]
        call = Call(self.source.host, "lab", "plan_guests", {"names": names, "backing": base})
        self.flow.propose(call.plan, str(call))

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

    def execute(self, line: str) -> None:
        """Run a line in the selected guest; what it prints appears below.

        Parameters
        ----------
        line : str
            For its shell.
        """

        def run(guest: Guest) -> None:
            done = guest.execute(line)
            status = [f"(exit status {done.exit_status})"] if done.exit_status else []
            printed = "\n".join([f"{guest.name}# {line}", done.stdout + done.stderr, *status])
            self.output.value = f"<pre>{escape(printed)}</pre>"

        self._in_thread(f"execute({line!r})", run)

    def _in_thread(self, what: str, act: Callable[[Guest], Any]) -> None:
        def go() -> None:
            guest = self._guest()
            self._doing = (*self._doing, f"{guest.name}: {what} …")
            self._show_doing()
            try:
                act(guest)
            finally:
                self._doing = tuple(one for one in self._doing if one != f"{guest.name}: {what} …")
                self._show_doing()
            self.activity.add(f"{guest.name}: {what}", "done", f"guest.{what}")
            self.refresh()

        in_thread(self.flow, go)

    def _show_doing(self) -> None:
        self.doing.value = "".join(f'<p role="status">{escape(one)}</p>' for one in self._doing)

    def close(self) -> None:
        """Close it with all its parts."""
        for part in self._parts:
            part.close()
        super().close()
