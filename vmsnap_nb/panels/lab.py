"""A host or a lab by mouse: its guests at the left, and at the right the one that is selected, or all images."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from html import escape
from typing import Any

import ipywidgets as widgets

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.phases import Tail, listener
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import OFF, Domain
from vmsnap_nb.panels.console import Console
from vmsnap_nb.panels.flow import Remedy
from vmsnap_nb.panels.guest_page import GuestPage, count_snapshots
from vmsnap_nb.panels.new_guests import NewGuests
from vmsnap_nb.panels.panel import Fold, Panel, heading, in_thread, row
from vmsnap_nb.panels.practice import PracticeList, PracticePage
from vmsnap_nb.panels.row_list import Action, Row, RowList
from vmsnap_nb.panels.source import Reading
from vmsnap_nb.views.labels import state_text
from vmsnap_nb.views.shown_text import human_size, natural, shown
from vmsnap_nb.words.message import Message, counted, joined, t

__all__ = ["LabPanel"]

_TAIL = 0.5
"""Seconds between two looks at what a guest writes while it boots."""
_SIGNS = {"running": "●", "paused": "❚❚", "saved": "◐", "off": "○"}


class LabPanel(Panel):
    """The guests of a host with their states and, beside this list, tabs for the selected guest."""

    def build(self) -> None:
        """Make the controls."""
        nothing = t("No guests yet: create the first one.") if self._makes_guests else t("No guests.")
        self.guests = RowList(self._act, label=t("Guests"), empty=nothing)
        self.new_button = _button(t("+ New"))
        self.images_button = _button(t("All images"))
        for button in (self.new_button, self.images_button):
            button.on_click(lambda _: self._show_images())
        self.used = widgets.HTML()
        self.new = NewGuests(self, self._select_later) if self._makes_guests else None
        self.flow.home = self.new_button if self.new else self.images_button  # on every page
        if self.new:  # for code, which has them of the panel
            self.name, self.base, self.count = self.new.name, self.new.base, self.new.count
            self.guest_button = self.new.guest_button
        self.practice = PracticeList(self.source.host) if self._makes_guests else None
        self.practice_page: PracticePage | None = None
        self.log_fold = Fold(t("Log"), [self.activity]).add_class("vmsnap-log-fold")
        self.activity.observe(lambda _: self._tell_log(), "count")
        self.guests.observe(lambda _: self.flow.guarded(self._show_page), "value")
        if self.practice:
            self.practice.list.observe(lambda _: self.flow.guarded(self._show_practice), "value")
        self.chain.observe(self._clicked, "selected")
        self.guest_page: GuestPage | None = None
        self._domains: dict[str, Domain] = {}
        self._consoles: dict[str, Console] = {}
        self._doing: dict[str, Message] = {}
        self._phases: dict[str, Message] = {}
        self._wanted: str | None = None
        self._seen: set[str] = set()
        images = [self.new] if self.new else []
        self.images_page = widgets.VBox([heading(t("All images")), *images, self.chain, self.flow])
        self.images_page.add_class("vmsnap-page")
        self.page = widgets.VBox([self.images_page]).add_class("vmsnap-right")
        head = widgets.HBox([heading(t("Guests")), *([self.new_button] if self.new else [])]).add_class("vmsnap-title")
        practice = [self.practice] if self.practice else []
        side = widgets.VBox([head, self.guests, self.images_button, *practice]).add_class("vmsnap-side")
        self.children = (
            row(self.used, self.time_line).add_class("vmsnap-time"),
            widgets.HBox([side, self.page]).add_class("vmsnap-lab"),
            self.log_fold,
            self.flow.decision,
        )

    @property
    def tabs(self) -> Any:
        """The tabs of the selected guest; None if none is selected."""
        return None if self.guest_page is None else self.guest_page.tabs

    @property
    def _makes_guests(self) -> bool:
        return hasattr(self.source.host, "plan_guests")  # a lab does; a host has its own tools for that

    @property
    def is_shown(self) -> bool:
        """Whether a page shows it: the figure may be hidden."""
        return self.guests.views > 0

    def update(self, reading: Reading) -> None:
        """Show what was read."""
        super().update(reading)
        first = self.reading is None
        self._domains = {domain.name: domain for domain in reading.domains}
        self._show_rows(reading)
        if self.new:
            self.new.show(reading)
        if self._wanted in self._domains:
            self.guests.value, self._wanted = self._wanted, None
        elif first and self._domains and self.guests.value is None:
            self.guests.value = next(iter(self.guests.names))
        self.used.value = _chips(reading, getattr(self.source.host, "root", None))
        self.images_button.description = t("All images ({count})", count=len(reading.forest))
        self.images_button.layout.display = None if len(reading.forest) or reading.domains else "none"

    def refresh(self) -> None:
        """Read again now, and what the open tab shows."""
        super().refresh()
        page, reading = self.guest_page, self.reading
        domain = self._domains.get(page.guest.name) if page else None
        if page is not None and reading is not None and domain is not None:
            page.update(reading, domain)
            self._tell_begun(reading)
            self._tell(domain)  # the first reading had no page yet

    def _tell_begun(self, reading: Reading) -> None:
        """Say what was begun with all images; what the open tab says of its guest is not said twice."""
        inner = self.guest_page.reading if self.guest_page is not None else None
        told = () if inner is None else inner.begun
        super()._tell_begun(replace(reading, begun=tuple(one for one in reading.begun if one not in told)))

    def _show_rows(self, reading: Reading) -> None:
        domains = sorted(reading.domains, key=lambda domain: natural(domain.name))
        self.guests.show(self._row(domain, reading.forest) for domain in domains)
        if self.guest_page is not None and (domain := self._domains.get(self.guest_page.guest.name)):
            self._tell(domain)

    def _tell(self, domain: Domain) -> None:
        """Show on the page of the selected guest what its row shows."""
        if self.guest_page is not None and self.guest_page.guest.name == domain.name:
            self.guest_page.tell(domain, _state(domain), self._doing.get(domain.name), self._phases.get(domain.name))

    def _row(self, domain: Domain, forest: Forest) -> Row:
        state, doing = _state(domain), self._doing.get(domain.name)
        read = [disk.source for disk in domain.disks if disk.source in forest.images and not disk.readonly]
        layers = joined(str(len(forest.known_lineage(path))) for path in read if path)
        text = state_text(domain.state) if doing is None else doing
        notes = (text, t("{count} layers", count=layers)) if read else (text,)
        mark = state if doing is None else "busy"
        actions = tuple(self._actions(domain, state, forest)) if doing is None else ()
        sign = _SIGNS[state if doing is None else "running"]  # while it starts it is paused for a moment
        return Row(key=domain.name, title=domain.name, notes=notes, sign=sign, mark=mark, actions=actions)

    def _actions(self, domain: Domain, state: str, forest: Forest) -> Iterator[Action]:
        if domain.state == "paused":
            yield Action("resume", t("Resume"), "▶\ufe0e")
        elif domain.running:
            yield Action("stop", t("Shut down"), "■\ufe0e")
        else:
            yield Action("start", t("Start"), "▶\ufe0e")
        pause = "" if domain.state == "running" else t("it is not running")
        yield Action("pause", t("Pause"), why_not=pause, in_menu=True)
        yield Action("off", t("Force off…"), why_not="" if domain.running else t("it is off"), in_menu=True)
        snapshots = count_snapshots(forest, domain.name)
        why = t("it is running: shut it down first") if domain.running else ""
        if state == "paused":
            why = t("it is paused: force it off first")
        elif state == "saved":
            why = t("its saved memory would be lost: start the guest and shut it down first")
        elif snapshots:
            why = counted("delete its snapshot first", "delete its {count} snapshots first", snapshots)
        yield Action("remove", t("Remove guest…"), why_not=why, in_menu=True)

    def reset(self) -> None:
        """Set the controls to their defaults."""
        if self.new:
            self.new.reset()

    def _select_later(self, name: str) -> None:
        """Select a guest as soon as it is there."""
        self._wanted = name

    def _show_practice(self) -> None:
        """Show at the right the exercise or scenario that is selected."""
        key = None if self.practice is None else self.practice.list.value
        if self.practice_page is not None and self.practice_page.key == key:
            return
        old, self.practice_page = self.practice_page, None
        if key is not None and self.practice is not None:
            self.guests.value = None
            self.practice_page = PracticePage(self.source.host, key, self.flow, self.practice.read_in_thread)
        self._show_right()
        if old is not None:
            old.close()

    def _show_right(self) -> None:
        self.page.children = (self.guest_page or self.practice_page or self.images_page,)

    def _show_images(self) -> None:
        self.guests.value = None
        self._leave_practice()
        self._show_page()
        if self.new:
            self.new.name.focus()

    def _show_page(self) -> None:
        """Show at the right what is selected at the left."""
        name = self.guests.value
        if self.guest_page is not None and self.guest_page.guest.name == name:
            return
        old, self.guest_page = self.guest_page, None
        if name is not None and self.source.host is not None:
            guest = self.source.host.guest(name)
            act = partial(self._act, name=guest.name)
            self.guest_page = GuestPage(guest, self.activity, self._console(guest), act)
            self._leave_practice()
        self._show_right()
        if old is not None:
            old.close()
        if self.guest_page is not None and self.reading is not None:
            domain = self._domains[guest.name]
            self.guest_page.update(self.reading, domain)
            self._tell(domain)

    def _leave_practice(self) -> None:
        if self.practice is not None:
            self.practice.list.value = None

    def _console(self, guest: Guest) -> Console:
        console = self._consoles.get(guest.name)
        if console is None or console.guest.uuid != guest.uuid:

            def ended(line: str, badge: str) -> None:
                code = f"execute({line!r})"
                self.activity.add(
                    t("{guest}: {what}", guest=guest.name, what=code),
                    badge,
                    f"{self.source.guest_called(guest)}.{code}",
                )

            console = self._consoles[guest.name] = Console(guest, ended)
        return console

    def _clicked(self, change: Any) -> None:
        """Choose for a new guest the image that was selected in the figure."""
        if self.new:
            self.new.choose(change["new"])

    # -- what is done with a guest ------------------------------------------------------------------------------

    def _act(self, action: str, name: str) -> None:
        """Do what was clicked in a row."""
        if self.source.host is not None:
            guest = self.source.host.guest(name)
            self.guests.value = name
            {
                "start": partial(self._power, guest, "start()", t("starting …"), guest.start),
                "resume": partial(self._power, guest, "resume()", t("resuming …"), guest.resume),
                "stop": partial(self._power, guest, "shutdown()", t("shutting down …"), guest.shutdown),
                "pause": partial(self._power, guest, "suspend()", t("pausing …"), guest.suspend),
                "off": partial(self._ask_off, guest),
                "remove": partial(self._ask_remove, guest),
            }[action]()

    def _power(self, guest: Guest, called: str, doing: Message, act: Callable[[], object]) -> None:
        """Do something with a guest in a thread; its row says what."""

        def work() -> None:
            self._doing[guest.name] = doing
            self._refresh_rows()
            listener.set(partial(self._reached, guest))
            what, code = (
                t("{guest}: {what}", guest=guest.name, what=called),
                f"{self.source.guest_called(guest)}.{called}",
            )
            try:
                act()
            except VmsnapError as error:
                self.flow.fail(error, self._instead(guest) if called == "start()" else ())
            else:
                self.activity.add(what, t("done"), code)
            finally:
                self._doing.pop(guest.name, None)
                self._phases.pop(guest.name, None)
                self.refresh()
                self._refresh_rows()

        in_thread(self.flow, work)

    def _reached(self, guest: Guest, phase: Message, tail: Tail | None) -> None:
        self._phases[guest.name] = phase
        self._refresh_rows()
        if tail is not None:
            args = (guest, phase, tail)
            threading.Thread(target=self._show_tail, args=args, name="vmsnap boot", daemon=True).start()

    def _show_tail(self, guest: Guest, phase: Message, tail: Tail) -> None:
        """Show in the console of a guest what it writes itself during a phase."""
        console = self._console(guest)
        while self._phases.get(guest.name) is phase:
            console.booting = tail()
            time.sleep(_TAIL)
        console.booting = ""

    def _refresh_rows(self) -> None:
        if self.reading is not None:
            self._show_rows(self.reading)

    def _instead(self, guest: Guest) -> Iterator[Remedy]:
        """Return what can be done where a guest does not start because overlays are based on its image."""
        shared = [concern for concern in guest.concerns() if concern.name == "shared-base" and concern.images]
        if shared and self.new:
            name = f"{guest.name}-overlay"
            self._select_later(name)
            yield t("Create an overlay instead"), partial(self.new.plan, [name], shared[0].images[0])

    def _ask_off(self, guest: Guest) -> None:
        lost = t("Data that the guest has not written to its disk may be lost")
        self.flow.ask(t("force {guest} off", guest=guest.name), lost, t("Force off"), guest.destroy)

    def _ask_remove(self, guest: Guest) -> None:
        paths = [use.path for use in guest.domain().uses]
        images = joined(path.rpartition("/")[2] for path in paths)
        lost = t("the definition of {guest}; its images are kept: {images}", guest=guest.name, images=images)

        # What was its disks, and the layers below them, is offered next as far as nothing else needs it.
        then = (partial(self._remove_images, paths), t("Remove images"))
        self.flow.ask(t("remove guest {guest}", guest=guest.name), lost, t("Remove guest"), guest.undefine, then)

    def _remove_images(self, paths: list[str]) -> LivePlan | None:
        """Plan to remove images, and those below them, that nothing needs and that nobody marked as to be kept."""
        assert self.source.host is not None
        forest = self.source.host.survey()
        layers = {layer for path in paths if path in forest.images for layer in forest.known_lineage(path)}
        found = forest.leftovers()
        going = [one.path for one in found.files if one.path in layers and not one.doubt]
        return found.remove(*going) if going else None

    def _tell_log(self) -> None:
        self.log_fold.title = t("Log ({count})", count=self.activity.count)

    def close(self) -> None:
        """Close it with all its parts."""
        for part in (self.guest_page, self.practice_page, *self._consoles.values()):
            if part is not None:
                part.close()
        super().close()


def _button(text: str) -> Any:
    return widgets.Button(description=text, layout=widgets.Layout(width="auto"))


def _state(domain: Domain) -> str:
    """Return running, paused, saved or off: what the sign of a guest shows."""
    if domain.state in OFF:
        return "saved" if domain.state == "saved" else "off"
    return "paused" if domain.state in {"paused", "pmsuspended"} else "running"


def _chips(reading: Reading, root: object) -> str:
    running = sum(domain.state == "running" for domain in reading.domains)
    disk = sum(image.allocated or 0 for image in reading.forest)
    texts: list[str] = [str(root)] if root else []
    if reading.domains:
        texts.append(t("{running} of {guests} running", running=running, guests=len(reading.domains)))
    if disk:
        texts.append(t("{size} on disk", size=human_size(disk)))
    return "".join(f'<span class="vmsnap-chip">{escape(shown(text))}</span> ' for text in texts)
