"""Which layer of a guest's chain holds which part of its disk, read when it is looked at."""

from __future__ import annotations

import threading
from html import escape

import ipywidgets as widgets

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.words.message import t

__all__ = ["BlockMapView"]


class BlockMapView(widgets.VBox):
    """The block map of one disk."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        targets = [disk.target for disk in guest.domain().disks if disk.source]
        self.disk = widgets.Dropdown(description=t("Disk"), options=targets, value=targets[0] if targets else None)
        self.disk.layout.display = None if len(targets) > 1 else "none"  # of one there is nothing to choose
        self.again_button = widgets.Button(description=t("Read again"), layout=widgets.Layout(width="auto"))
        self.said = widgets.HTML()
        self.map = widgets.HTML()
        self.again_button.on_click(lambda _: self.read())
        self.disk.observe(lambda _: self.read(), "value")
        head = widgets.HBox([self.disk, self.again_button]).add_class("vmsnap-row")
        super().__init__([head, self.said, self.map])

    def read(self) -> None:
        """Read it in a thread."""
        said = escape(t("Reading …"))
        self.said.value = f'<p role="status">{said}</p>'
        threading.Thread(target=self._read, name="vmsnap block map", daemon=True).start()

    def _read(self) -> None:
        try:
            self.map.value = self.guest.blockmap(self.disk.value)._repr_mimebundle_()["text/html"]
            self.said.value = ""
        except VmsnapError as error:
            self.said.value = f'<pre role="alert">{escape(str(error))}</pre>'
