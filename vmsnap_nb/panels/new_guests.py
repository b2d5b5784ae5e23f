"""New guests and bases of a lab: the controls, and the first step where there is nothing yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.panels.call import Call
from vmsnap_nb.panels.panel import Panel, choose, fold, group, names_of, paragraph, row
from vmsnap_nb.panels.source import Reading
from vmsnap_nb.words.message import Message, t

__all__ = ["NewGuests"]

_BASE, _GUEST = "RootBase", "demo"
_NO_BASES = frozenset({"missing", "unreadable", "not-a-file", "corrupt", "invalid"})
"""Statuses of images that nothing can be based on."""


class NewGuests(widgets.VBox):
    """Which name, base and number; and a base of one's own."""

    def __init__(self, panel: Panel, made: Callable[[str], None]) -> None:
        self._panel = panel
        self._made = made
        self.first_button = widgets.Button(button_style="primary", layout=widgets.Layout(width="auto"))
        self.first_button.on_click(lambda _: panel.flow.guarded(self.make_first))
        hint = paragraph(t("A guest is a small virtual machine. Its overlay is based on a read-only base image."))
        self._first = widgets.VBox([hint, self.first_button]).add_class("vmsnap-first")
        self.name = widgets.Text(description=t("New guest"), placeholder=t("name of the guest"))
        self.base = widgets.Dropdown(description=t("Based on"), options=[], value=None)
        self.count = widgets.BoundedIntText(description=t("How many"), value=1, min=1, max=200)
        self.guest_button = widgets.Button(description=t("Create guest…"))
        self.guest_button.on_click(lambda _: panel.flow.guarded(self.propose))
        self.base_name = widgets.Text(description=t("New base"), value=_BASE)
        self.base_file = widgets.Text(description=t("Copy of"), placeholder=t("path of an image; empty: Alpine Linux"))
        self.base_button = widgets.Button(description=t("Create base"))
        self.base_button.on_click(lambda _: panel.flow.guarded(self.make_base))
        self._form = group(t("New guests"), row(self.name, self.base, self.count), self.guest_button)
        super().__init__(
            [self._first, self._form, fold(t("New base image"), self.base_name, self.base_file, self.base_button)]
        )

    def show(self, reading: Reading) -> None:
        """Offer what was read; for the first time, the base that is meant if nothing is chosen."""
        first = not self.base.options
        choose(self.base, names_of(image for image in reading.forest if image.status not in _NO_BASES))
        if first:
            self.base.value = self._usual_base(reading)
        self._first.layout.display = "none" if reading.domains else None
        self._form.layout.display = None if self.base.options else "none"  # no guest without a base
        base = any(image.name == _BASE for image in reading.forest)
        said = t("Create a first guest on {base}", base=_BASE)
        more = t("Create {base} (61 MiB) and a first guest", base=_BASE)
        self.first_button.description = said if base else more

    def reset(self) -> None:
        """Set the controls to their defaults."""
        self.name.value, self.count.value, self.base_name.value, self.base_file.value = "", 1, _BASE, ""
        self.base.value = None if self._panel.reading is None else self._usual_base(self._panel.reading)

    def choose(self, path: str | None) -> None:
        """Choose an image that was selected in the figure."""
        if path in [option for _, option in self.base.options]:
            self.base.value = path

    def _usual_base(self, reading: Reading) -> str | None:
        roots = [path for path in reading.forest.roots if path in [option for _, option in self.base.options]]
        named = [path for path in roots if reading.forest[path].name == _BASE]
        return next(iter(named or roots), None)

    def propose(self) -> None:
        """Plan new guests, each on an overlay of its own."""
        name, base, count = self.name.value.strip(), self.base.value, self.count.value
        if not name or not base:
            raise InvalidRequestError(
                t("plan a guest"),
                why=t("the name is empty") if not name else t("no base is selected"),
                next_step=t("enter a name, and select an image in the list"),
            )
        names = [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]
        self.plan(names, base)
        self._made(names[0])

    def plan(self, names: list[str], base: str) -> None:
        """Plan guests of these names on an image."""
        source = self._panel.source
        call = Call(source.host, source.host_called, "plan_guests", {"names": names, "backing": base})
        self._panel.flow.propose(call.plan, str(call), t("Create guest"))

    def make_first(self) -> None:
        """Make the base, if it is not there, and a guest on it: nothing can be lost by that."""
        lab: Any = self._panel.source.host

        def work() -> None:
            lab.guest(_GUEST, backing=lab.base(_BASE))

        self._made(_GUEST)
        self._do(t("create guest {guest} on {base}", guest=_GUEST, base=_BASE), work)

    def make_base(self) -> None:
        """Put a base image into the lab."""
        lab: Any = self._panel.source.host
        name, file = self.base_name.value.strip(), self.base_file.value.strip()
        if not name:
            raise InvalidRequestError(t("create a base image"), why=t("the name is empty"), next_step=t("enter a name"))
        self._do(t("create the base image {name}", name=name), lambda: lab.base(name, file or None))

    def _do(self, what: Message, work: Callable[[], object]) -> None:
        self._panel.flow.resolve(what, work, again=False)
