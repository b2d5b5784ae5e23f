"""What a guest's disk was at the time of a snapshot: its chain, its files, what changed since, and its block map."""

from __future__ import annotations

import threading
from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as widgets

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.panels.chain_view import ChainView
from vmsnap_nb.panels.files import FilesView
from vmsnap_nb.views.shown_text import shown
from vmsnap_nb.words.message import Message, t

__all__ = ["MomentView"]


class MomentView(widgets.VBox):
    """One moment, of which one part is shown and read at a time; hidden while it is now.

    `revert` is called with the name of the snapshot when the button is clicked.
    """

    def __init__(self, guest: Guest, revert: Callable[[str], None]) -> None:
        self.guest = guest
        self.name: str | None = None
        self.title = widgets.HTML().add_class("vmsnap-heading")
        layout = widgets.Layout(width="auto")
        self.revert_button = widgets.Button(description=t("Revert to this moment…"), layout=layout)
        self.revert_button.on_click(lambda _: self._ask(revert))
        self.part = widgets.ToggleButtons(
            options=[
                (t("Disk layers"), "layers"),
                (t("Files"), "files"),
                (t("Changes since then"), "changes"),
                (t("Block map"), "map"),
            ],
            value="layers",
            style={"button_width": "auto"},
        )
        self.part.observe(lambda _: self._turn(), "value")
        self.files: FilesView | None = None
        self.said = widgets.HTML()
        self.view = widgets.HTML()  # of the changes
        self.figure = ChainView(can_propose=False)  # of the chain, and of the block map
        self._body = widgets.VBox([self.figure])
        self._question = 0
        head = widgets.HBox([self.title, self.revert_button]).add_class("vmsnap-title")
        super().__init__([head, self.part, self.said, self._body])
        self.add_class("vmsnap-moment")
        self.layout.display = "none"

    def show(self, name: str | None, meaning: str = "", why_not: str = "") -> None:
        """Show a snapshot; None hides it all. `why_not` is why nothing can be reverted to it."""
        if name == self.name:
            return
        self.name = name
        self.layout.display = None if name is not None else "none"
        if name is None:
            return
        self.revert_button.disabled, self.revert_button.tooltip = bool(why_not), why_not or None
        title = shown(t("State at {snapshot}", snapshot=name))
        kind = f'<span class="vmsnap-chip">{escape(shown(meaning))}</span>' if meaning else ""
        self.title.value = f'<div role="heading" aria-level="3">{escape(title)} {kind}</div>'
        self._read()

    def _ask(self, revert: Callable[[str], None]) -> None:
        if self.name is not None:
            revert(self.name)

    def _turn(self) -> None:
        self._body.children = ()  # another part than was chosen is no answer
        self._read()

    def _read(self) -> None:
        """Read the chosen part in a thread; an answer that is too late is dropped."""
        self._question = question = self._question + 1
        name, part = self.name, self.part.value
        if name is None:
            return
        if part == "files":
            self._show_files(name)
            return
        said = escape(t("Reading …"))
        self.said.value = f'<p role="status">{said}</p>'

        def work() -> None:
            said, draw = "", None
            try:
                said, draw = self._found(part, name)
            except VmsnapError as error:
                said = f'<pre role="alert">{escape(str(error))}</pre>'
            if question == self._question:
                self.said.value = said
                self._body.children = () if draw is None else (draw(),)

        threading.Thread(target=work, name="vmsnap moment", daemon=True).start()

    def _found(self, part: str, name: str) -> tuple[str, Callable[[], Any]]:
        """Read a part; return what is said of it, and what shows it in a widget."""
        if part == "map":
            blocks = self.guest.blockmap(at=name)
            return "", lambda: self._drawn(self.figure.show_map, blocks)
        if part == "changes":
            html = self.guest.diff(name)._repr_mimebundle_()["text/html"]
            return "", lambda: self._told(html)
        chain = self.guest.chain(at=name)
        note = "" if chain.inside is None else t("The snapshot is inside {image}.", image=chain[chain.top].name)
        return _paragraph(note), lambda: self._drawn(self.figure.show, chain)

    def _drawn(self, show: Callable[[Any], None], thing: Any) -> Any:
        show(thing)
        return self.figure

    def _told(self, html: str) -> Any:
        self.view.value = html
        return self.view

    def _show_files(self, name: str) -> None:
        if self.files is None:
            self.files = FilesView(self.guest, moment=True)
        self.said.value = ""
        self._body.children = (self.files,)
        self.files.show_moment(name)

    def close(self) -> None:
        """Close it with all its parts."""
        if self.files is not None:
            self.files.close()
        super().close()


def _paragraph(text: Message | str) -> Any:
    return f"<p>{escape(shown(text))}</p>" if text else ""
