"""A host or a lab by mouse: its guests, a console, and all panels of the guest that is selected."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as widgets

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import OFF, Domain
from vmsnap_nb.panels.call import Call
from vmsnap_nb.panels.command_line import CommandLine
from vmsnap_nb.panels.merge import MergePanel
from vmsnap_nb.panels.overlay import OverlayPanel
from vmsnap_nb.panels.panel import Panel, choose, group, heading, heading_text, in_thread, names_of, paragraph, row
from vmsnap_nb.panels.select_table import SelectTable
from vmsnap_nb.panels.snapshot import SnapshotPanel
from vmsnap_nb.panels.source import Reading
from vmsnap_nb.views.labels import state_text
from vmsnap_nb.views.words import human_size, shown
from vmsnap_nb.words.message import Message, counted, joined, t

__all__ = ["LabPanel"]


class LabPanel(Panel):
    """The guests of a host with their states; below, the panels of the selected one as tabs."""

    def build(self) -> None:
        """Make the controls."""
        self.guests = SelectTable(
            label=t("Guests"),
            columns=[t("Name"), t("State"), t("Writes to"), t("Layers")],
            empty=t("No guests yet. Plan the first one under New guests.") if self._makes_guests else t("No guests."),
        )
        self.start_button = widgets.Button(description=t("Start"))
        self.stop_button = widgets.Button(description=t("Shut down"))
        self.plug_known = widgets.Checkbox(
            description=t("Data that the guest has not written to its disk may be lost"),
            indent=False,
            layout=widgets.Layout(width="auto"),
        )
        self.plug_button = widgets.Button(description=t("Force off"), button_style="danger")
        self.used = widgets.HTML()
        self.doing = widgets.HTML()
        self.command = CommandLine(lambda line: self.flow.guarded(lambda: self.execute(line)))
        self.output = widgets.HTML()
        self.name = widgets.Text(description=t("New guest"), placeholder=t("name of the guest"))
        self.base = widgets.Dropdown(description=t("Based on"), options=[], value=None)
        self.count = widgets.BoundedIntText(description=t("How many"), value=1, min=1, max=200)
        self.guest_button = widgets.Button(description=t("Create guest…"))
        self.guest_button.on_click(lambda _: self.flow.guarded(self.propose))
        self.flow.home = self.guest_button if self._makes_guests else self.start_button
        self.tabs = widgets.Tab()
        self._parts: tuple[Panel, ...] = ()
        self._parts_of: str | None = None
        self._states: dict[str, str] = {}
        self._doing: tuple[str, ...] = ()
        self._printed: list[str] = []
        self.start_button.on_click(lambda _: self.flow.guarded(self._go_on))
        self.stop_button.on_click(lambda _: self.flow.guarded(self._shut_off))
        self.plug_known.observe(lambda _: self._tell_buttons(), "value")
        self.plug_button.on_click(lambda _: self.flow.guarded(self._pull_plug))
        self.guests.observe(self._chosen, "value")
        self.chain.observe(self._clicked, "selected")
        self._asleep = paragraph(t("The console accepts commands while the guest is running."))
        self._console = widgets.VBox([self._asleep, self.output, self.command]).add_class("vmsnap-console")
        self._nothing = paragraph(
            t("Select a guest in the table to open its console, snapshots, merges and overlays here.")
        )
        self._title, self._plug = heading(""), row(self.plug_known, self.plug_button)
        guests = group(t("Guests"), self.guests, row(self.start_button, self.stop_button), self._plug, self.doing)
        new = (
            [group(t("New guests"), self.name, self.base, self.count, self.guest_button)] if self._makes_guests else []
        )
        self.children = (
            row(self.time_line, self.used).add_class("vmsnap-time"),
            row(guests, *new),
            self.flow,
            self._title,
            self._nothing,
            self.tabs,
            heading(t("All images")),
            self.chain,
            heading(t("Activity")),
            self.activity,
            self.flow.decision,
        )
        self._show_parts()

    def update(self, reading: Reading) -> None:
        """Show what was read."""
        super().update(reading)
        self._states = {domain.name: domain.state for domain in reading.domains}
        self.guests.show(_row(domain, reading.forest) for domain in reading.domains)
        self._tell_buttons()
        choose(self.base, names_of(image for image in reading.forest if image.status != "missing"))
        if self.reading is None and len(reading.forest.roots) == 1:  # for the first time
            self.base.value = reading.forest.roots[0]
        disk = human_size(sum(image.allocated or 0 for image in reading.forest))
        running = sum(domain.state == "running" for domain in reading.domains)
        words = t(
            "{guests}, {running} running; {images}, {size} on disk; base images: {bases}",
            guests=counted("{count} guest", "{count} guests", len(reading.domains)),
            running=running,
            images=counted("{count} image", "{count} images", len(reading.forest)),
            size=disk,
            bases=_bases(reading.forest),
        )
        self.used.value = f"<small>{escape(words)}</small>"

    def reset(self) -> None:
        """Set the controls to their defaults."""
        self.name.value, self.count.value = "", 1

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
                t("plan a guest"),
                why=t("the name is empty") if not name else t("no base is selected"),
                next_step=t("enter a name, and select an image in the list"),
            )
        names = [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]
        call = Call(self.source.host, self.source.host_called, "plan_guests", {"names": names, "backing": base})
        self.flow.propose(call.plan, str(call), t("Create guest"))

    def _guest(self) -> Guest:
        name = self.guests.value
        if name is None or self.source.host is None:
            raise InvalidRequestError(
                t("use a guest"), why=t("no guest is selected"), next_step=t("select a guest in the table")
            )
        return self.source.host.guest(name)

    def _chosen(self, _: Any = None) -> None:
        if self.guests.value != self._parts_of:
            self._parts_of = self.guests.value
            self.plug_known.value = False
            self.flow.guarded(self._show_parts)
            self._tell_buttons()

    def _clicked(self, change: Any) -> None:
        """Choose for a new guest the image that was selected in the figure."""
        if change["new"] in [path for _, path in self.base.options]:
            self.base.value = change["new"]

    def _tell_buttons(self) -> None:
        """Let those buttons be pressed that mean something for the selected guest."""
        state = self._states.get(self.guests.value or "")
        runs = state is not None and state not in OFF
        self.start_button.description = t("Resume") if state == "paused" else t("Start")
        self.start_button.disabled = state is None or (runs and state != "paused")
        self.stop_button.disabled = not runs or state == "paused"
        if not runs:
            self.plug_known.value = False
        self.plug_button.disabled = not self.plug_known.value
        self._plug.layout.display = None if runs else "none"
        self._asleep.layout.display = "none" if state == "running" else None

    def _go_on(self) -> None:
        if self._states.get(self.guests.value or "") == "paused":
            self._in_thread("resume()", lambda guest: guest.resume())
        else:
            self._in_thread("start()", lambda guest: guest.start())

    def _shut_off(self) -> None:
        self._in_thread("shutdown()", lambda guest: guest.shutdown())

    def _pull_plug(self) -> None:
        """End the selected guest at once, once the user has said to know what that means."""
        if not self.plug_known.value:
            raise InvalidRequestError(
                t("force a guest off"),
                why=t("data that the guest has not written to its disk may be lost"),
                next_step=t("shut it down instead, or select the checkbox beside the button first"),
            )
        self.plug_known.value = False
        self._in_thread("destroy()", lambda guest: guest.destroy())

    def _show_parts(self) -> None:
        for part in self._parts:
            part.close()
        self._parts = ()
        guest = None if self.guests.value is None else self._guest()
        if guest is not None:
            kinds: tuple[type[Panel], ...] = (SnapshotPanel, MergePanel, OverlayPanel)
            self._parts = tuple(kind(guest, activity=self.activity) for kind in kinds)
        self.tabs.children = (self._console, *self._parts) if self._parts else ()
        self.tabs.titles = (t("Console"), t("Snapshots"), t("Merge"), t("Overlays")) if self._parts else ()
        title = t("Selected guest") if guest is None else t("Guest {name}", name=shown(guest.name))
        self._title.value = heading_text(title)
        self._nothing.layout.display = "none" if self._parts else None
        self.tabs.layout.display = None if self._parts else "none"

    def execute(self, line: str) -> None:
        """Run a line in the selected guest; what it prints appears below.

        Parameters
        ----------
        line : str
            For its shell.
        """

        def run(guest: Guest) -> None:
            done = guest.execute(line)
            status = [t("(exit status {status})", status=done.exit_status)] if done.exit_status else []
            printed = "\n".join([f"{guest.name}# {line}", (done.stdout + done.stderr).rstrip("\n"), *status])
            self._printed = [*self._printed[-49:], printed]
            self.output.value = f'<div class="vmsnap-output"><pre>{escape(chr(10).join(self._printed))}</pre></div>'

        self._in_thread(f"execute({line!r})", run)

    def _in_thread(self, what: str, act: Callable[[Guest], Any]) -> None:
        guest = self._guest()  # before the thread begins: another one may be selected then

        doing = t("{guest}: {what} …", guest=guest.name, what=what)

        def go() -> None:
            self._doing = (*self._doing, doing)
            self._show_doing()
            try:
                act(guest)
            finally:
                self._doing = tuple(line for line in self._doing if line is not doing)
                self._show_doing()
            called = t("{guest}: {what}", guest=guest.name, what=what)
            self.activity.add(called, t("done"), f"{self.source.guest_called(guest)}.{what}")
            self.refresh()

        in_thread(self.flow, go)

    def _show_doing(self) -> None:
        self.doing.value = "".join(f'<p role="status">{escape(line)}</p>' for line in self._doing)

    def close(self) -> None:
        """Close it with all its parts."""
        for part in self._parts:
            part.close()
        super().close()


def _bases(forest: Forest) -> Message:
    bases = [
        t("{name} ({size})", name=shown(forest[path].name), size=human_size(forest[path].allocated or 0))
        for path in forest.roots
    ]
    if not bases:
        return t("none")
    first, more = joined(bases[:20]), len(bases) - 20
    return t("{names} and {count} more", names=first, count=more) if more > 0 else first


def _row(domain: Domain, forest: Forest) -> tuple[str, ...]:
    written = [disk.source for disk in domain.disks if disk.source and not disk.readonly]
    read = [path for path in written if path in forest.images]
    names = ", ".join(forest[path].name if path in forest.images else path for path in written)
    return (
        domain.name,
        domain.name,
        state_text(domain.state),
        names,
        ", ".join(str(len(forest.known_lineage(path))) for path in read),
    )
