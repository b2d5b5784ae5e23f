"""The files on a guest's disk, now or at the time of a snapshot, and what changed since one."""

from __future__ import annotations

import posixpath
import threading
from datetime import UTC, datetime
from html import escape
from typing import Any

import ipywidgets as widgets

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.files import FileEntry
from vmsnap_nb.panels.row_list import Row, RowList
from vmsnap_nb.views.words import human_size, shown
from vmsnap_nb.words.message import t

__all__ = ["FilesView"]

_MOST_ROWS = 500
_MOST_SHOWN = 64 * 1024
"""Bytes of a file that are shown."""
_SIGNS = {"folder": "▸", "link": "↪"}


class FilesView(widgets.VBox):
    """Look through the folders of a guest's disk; the guest may run, be off, or not boot at all.

    Of one `moment` there is no choice of the state: `show_moment` sets it.
    """

    def __init__(self, guest: Guest, *, moment: bool = False) -> None:
        self.guest = guest
        self.path = "/"
        self.at = widgets.Dropdown(description=t("State"), options=[(t("now"), "")], value="")
        self.since = widgets.Dropdown(description=t("Changes since"), options=[(t("(not compared)"), "")], value="")
        self.up_button = widgets.Button(description=t("Up"), layout=widgets.Layout(width="auto"))
        self.again_button = widgets.Button(description=t("Read again"), layout=widgets.Layout(width="auto"))
        self.where = widgets.HTML()
        self.list = RowList(label=t("Files"), empty=t("This folder is empty."))
        self.content = widgets.HTML()
        self.said = widgets.HTML()
        self._entries: dict[str, FileEntry] = {}
        self._reading = threading.Lock()
        for control in (self.at, self.since):
            control.observe(lambda _: self.read(), "value")
        self.up_button.on_click(lambda _: self.go(posixpath.dirname(self.path)))
        self.again_button.on_click(lambda _: self.read())
        self.list.observe(self._chosen, "value")
        states = [] if moment else [self.at, self.since]
        head = widgets.HBox([*states, self.up_button, self.again_button]).add_class("vmsnap-row")
        super().__init__([head, self.where, self.said, self.list, self.content])
        self.add_class("vmsnap-files")

    def show_snapshots(self, names: tuple[str, ...]) -> None:
        """Offer these snapshots; what is chosen stays so, if it is still there."""
        for control, first in ((self.at, t("now")), (self.since, t("(not compared)"))):
            options = [(first, ""), *((shown(name), name) for name in names)]
            if list(control.options) != options:
                value = control.value if control.value in names else ""
                control.options = options
                control.value = value

    def show_moment(self, name: str) -> None:
        """Show the files at the time of one snapshot."""
        if self.at.value == name:
            self.read()
        else:
            self.at.options = [(shown(name), name)]  # this chooses it, and so reads

    def go(self, path: str) -> None:
        """Show another folder."""
        self.path = path or "/"
        self.read()

    def _chosen(self, change: Any) -> None:
        entry = self._entries.get(change["new"] or "")
        if entry is None:
            self.content.value = ""
        elif entry.kind == "folder":
            self.go(entry.path)
        else:
            self._in_thread(lambda: self._show(entry))

    def read(self) -> None:
        """Read the folder, or the changes, in a thread."""
        self._in_thread(self._read)

    def _in_thread(self, act: Any) -> None:
        def go() -> None:
            with self._reading:
                try:
                    act()
                    self.said.value = ""
                except VmsnapError as error:
                    self.said.value = f'<pre role="alert">{escape(str(error))}</pre>'

        said = escape(t("Reading …"))
        self.said.value = f'<p role="status">{said}</p>'
        threading.Thread(target=go, name="vmsnap files", daemon=True).start()

    def _read(self) -> None:
        self.content.value = ""
        at, since = self.at.value or None, self.since.value
        self.where.value = f"<p><code>{escape(shown(self.path))}</code></p>"
        self.up_button.disabled = self.path == "/"
        if since and since != at:
            self.list.show(())
            changes = self.guest.diff(since, at, path=self.path)
            self.content.value = changes._repr_mimebundle_()["text/html"]
            return
        found = self.guest.files(self.path, at=at)
        entries = sorted(found, key=lambda entry: (entry.kind != "folder", entry.path))
        self._entries = {entry.path: entry for entry in entries[:_MOST_ROWS]}
        self.list.show(_row(entry) for entry in entries[:_MOST_ROWS])
        more = len(entries) - _MOST_ROWS
        notes = [*found.notes, *([t("{count} more files", count=more)] if more > 0 else [])]
        self.content.value = "".join(f"<p>{escape(shown(note))}</p>" for note in notes)

    def _show(self, entry: FileEntry) -> None:
        if entry.size > _MOST_SHOWN:
            said = t("{path} is too large to be shown: {size}", path=shown(entry.path), size=human_size(entry.size))
            self.content.value = f"<p>{escape(said)}</p>"
            return
        text = self.guest.read(entry.path, at=self.at.value or None).decode(errors="backslashreplace")
        lines = "\n".join(shown(line) for line in text.split("\n"))
        self.content.value = (
            f'<p><code>{escape(shown(entry.path))}</code></p><div class="vmsnap-output" tabindex="0"><pre>'
            f"{escape(lines)}</pre></div>"
        )


def _row(entry: FileEntry) -> Row:
    name = posixpath.basename(entry.path) or entry.path
    folder = entry.kind == "folder"
    changed = "" if entry.mtime_ns is None else datetime.fromtimestamp(entry.mtime_ns / 1e9, UTC).isoformat()
    return Row(
        key=entry.path,
        title=name + ("/" if folder else f" → {entry.target}" if entry.target else ""),
        sign=_SIGNS.get(entry.kind, "·"),
        cells=() if folder else ((human_size(entry.size), ""),),
        when=changed,
    )
