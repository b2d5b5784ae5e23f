"""New overlays by mouse: on what, called what, how large, how many."""

from __future__ import annotations

import os

import ipywidgets as widgets

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.live.forest import scan
from vmsnap_nb.panels.call import Call
from vmsnap_nb.panels.panel import Panel, choose, group, names_of, paragraph, row
from vmsnap_nb.panels.source import Reading
from vmsnap_nb.words.message import t

__all__ = ["OverlayPanel"]


class OverlayForm(widgets.VBox):
    """Which image, what name, size and number: the controls for new overlays of any panel."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self.base = widgets.Dropdown(description=t("Base"), options=[], value=None)
        self.file = widgets.Text(description=t("or a file"), placeholder=t("path of an image elsewhere"))
        self.name = widgets.Text(description=t("Name"), placeholder=t("name of the overlay"))
        self.size = widgets.IntText(description=t("Size, MiB"), value=0, tooltip=t("0: as large as the base"))
        self.count = widgets.BoundedIntText(description=t("How many"), value=1, min=1, max=1000)
        self.plan_button = widgets.Button(description=t("Create overlay…"))
        self.plan_button.on_click(lambda _: panel.flow.guarded(self.propose))
        super().__init__([row(self.base, self.file), row(self.name, self.size, self.count), self.plan_button])

    def show(self, reading: Reading) -> None:
        """Offer what was read; for the first time, what is meant if nothing is chosen."""
        first = not self.base.options
        choose(self.base, names_of(image for image in reading.forest if image.status != "missing"))
        if first:
            self.base.value = self._usual_base(reading)

    def reset(self) -> None:
        """Set the controls to their defaults."""
        self.file.value, self.name.value, self.size.value, self.count.value = "", "", 0, 1
        reading = self._panel.reading
        self.base.value = None if reading is None else self._usual_base(reading)

    def choose(self, path: str | None) -> None:
        """Choose an image that was selected in a figure."""
        if path in [option for _, option in self.base.options]:
            self.base.value, self.file.value = path, ""

    def _usual_base(self, reading: Reading) -> str | None:
        """Return the image that is meant where none was chosen: the only base."""
        roots = [path for path in reading.shown.roots if path in [option for _, option in self.base.options]]
        return roots[0] if len(roots) == 1 else None

    def propose(self) -> None:
        """Plan it."""
        file, name, count = self.file.value.strip(), self.name.value.strip(), self.count.value
        base, reading, flow, source = file or self.base.value, self._panel.reading, self._panel.flow, self._panel.source
        if not base or not name or reading is None:
            raise InvalidRequestError(
                t("plan an overlay"),
                why=t("no base is selected") if not base else t("the name is empty"),
                next_step=t("select a base in the figure or in the list, and enter a name"),
            )
        stem, verb = name.removesuffix(".qcow2"), t("Create overlay")
        paths = [f"{stem}.qcow2"] if count == 1 else [f"{stem}-{number}.qcow2" for number in range(1, count + 1)]
        size = {"size": self.size.value * 1024 * 1024} if self.size.value else {}
        options = {"path": paths, "backing": base, **size}
        if not file:
            call = Call(reading.forest, source.forest_called, "overlay", options)
            flow.propose(call.plan, str(call), verb)
            return
        options["backing"] = os.path.abspath(os.path.expanduser(file))
        folder, host = os.path.dirname(options["backing"]), source.host
        read, called = (scan, "vs.scan") if host is None else (host.survey, f"{source.host_called}.survey")
        code = Call(None, f"{called}({folder!r})", "overlay", options)
        flow.propose(lambda: read(folder).overlay(**options), str(code), verb)


class OverlayPanel(Panel):
    """A panel for new overlays. Choose a base from the list or by clicking it, name the overlay, review the plan, and
    confirm it.
    """

    def build(self) -> None:
        """Make the controls."""
        self.form = form = OverlayForm(self)
        self.base, self.file, self.name, self.size, self.count = form.base, form.file, form.name, form.size, form.count
        self.flow.home = self.plan_button = form.plan_button
        self.chain.observe(lambda change: self.form.choose(change["new"]), "selected")
        hint = paragraph(t("Click an image above, or choose the base of the overlay here."))
        controls = group(t("New overlay"), hint, form)
        self.children = (self.time_line, self.chain, controls, self.flow, self.flow.decision)

    def update(self, reading: Reading) -> None:
        """Show what was read."""
        super().update(reading)
        self.form.show(reading)

    def reset(self) -> None:
        """Set the controls to their defaults."""
        self.form.reset()
