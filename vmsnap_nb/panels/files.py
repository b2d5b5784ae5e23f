"""The files on a guest's disk, now or at the time of a snapshot, and what changed since one."""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Callable, Iterable
from html import escape
from typing import Any

import ipywidgets as widgets

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.chain import LiveChain
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.files import FileChange, FileChanges, FileEntry, Files
from vmsnap_nb.model.image import Image
from vmsnap_nb.panels.file_rows import change_row, entry_row, filtered
from vmsnap_nb.panels.panel import heading
from vmsnap_nb.panels.row_list import Row, RowList
from vmsnap_nb.views.file_rows import changes_heading
from vmsnap_nb.views.shown_text import capital, human_size, shown
from vmsnap_nb.words.message import counted, t

__all__ = ["FilesView"]

_MOST_ROWS = 500
_MOST_SHOWN = 64 * 1024
"""Bytes of a file that are shown."""


class FilesView(widgets.VBox):
    """Browse the folders of a guest's disk; the guest may run, be off, or not boot at all.

    Of one `moment` there is no choice of the state: `show_moment` sets it.
    """

    def __init__(self, guest: Guest, *, moment: bool = False) -> None:
        self.guest, self._moment = guest, moment
        self.path = "/"
        self.at = widgets.Dropdown(description=t("State"), options=[(t("now"), "")], value="")
        self.since = widgets.Dropdown(description=t("Changes since"), options=[(t("(not compared)"), "")], value="")
        self.layers = RowList(label=t("Layers"))
        self._counts: dict[str, int] = {}  # by the path of a layer: how many files it changed, where that was read
        self._counted: list[str] = []  # the chain that they are of
        self.filter = widgets.Text(description=t("Filter"), placeholder=t("name or pattern"))
        self.up_button = widgets.Button(description=t("Up"), layout=widgets.Layout(width="auto"))
        self.again_button = widgets.Button(description=t("Read again"), layout=widgets.Layout(width="auto"))
        self.where = widgets.HTML()
        self.list = RowList(label=t("Files"))
        self.content = widgets.HTML()
        self.said = widgets.HTML()
        self._entries: dict[str, FileEntry | FileChange] = {}
        self._rows: list[Row] | None = None  # nothing was read yet
        self._reading = threading.Lock()
        self.layers.observe(lambda _: self.read(), "value")
        for control in (self.at, self.since):
            control.observe(lambda _: self._other_state(), "value")
        self.filter.observe(lambda _: self._show_rows(), "value")
        self.up_button.on_click(lambda _: self.go(posixpath.dirname(self.path)))
        self.again_button.on_click(lambda _: self.read())
        self.list.observe(self._chosen, "value")
        states = [] if moment else [self.at, self.since]
        head = widgets.HBox([*states, self.filter, self.up_button, self.again_button]).add_class("vmsnap-row")
        self.content.add_class("vmsnap-said")
        tree = widgets.VBox([self.where, self.said, self.list, self.content]).add_class("vmsnap-tree")
        hint = escape(t("Select a layer to see what it changed."))
        layers = widgets.VBox([heading(t("Layers")), widgets.HTML(f"<small>{hint}</small>"), self.layers]).add_class(
            "vmsnap-layers"
        )
        parts = [tree] if moment else [layers, tree]
        super().__init__([head, widgets.HBox(parts).add_class("vmsnap-split")])
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
        elif isinstance(entry, FileChange):
            self._in_thread(lambda: self._show_change(entry))
        elif entry.kind == "folder":
            self.go(entry.path)
        else:
            self._in_thread(lambda: self._show(entry, self._reader()))

    def _other_state(self) -> None:
        """Read another state, instead of the layer that is chosen."""
        if self.layers.value is None:
            self.read()
        else:
            self.layers.value = None  # this reads

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
        chain = None if self._moment else self.guest.chain()
        name = self.layers.value
        if chain is not None:
            self._forget_counts(chain)
        layer = None if chain is None or name is None or name not in chain else chain[name]
        if chain is not None and layer is not None:
            self._read_layer(chain, layer)
        elif since and since != at:
            self._show_changes(self.guest.diff(since, at, path=self.path))
        else:
            self._show_entries(self.guest.files(self.path, at=at))
        if chain is not None:
            self._offer_layers(chain)

    def _read_layer(self, chain: LiveChain, layer: Image) -> None:
        """Read what a layer changed; of the base, which changed nothing, what it holds."""
        if layer == chain[0]:
            self._show_entries(chain.files(self.path, at=layer.path))
            return
        changes = chain.changes(layer, path=self.path)
        if self.path == "/":
            self._counts[layer.path] = len(changes)
        self._show_changes(changes)

    def _forget_counts(self, chain: LiveChain) -> None:
        """Forget what no longer holds: of the layer that the guest writes to, and after a merge of all."""
        paths = [image.path for image in chain]
        if paths != self._counted:
            self._counts.clear()
        self._counted = paths
        self._counts.pop(paths[-1], None)

    def _offer_layers(self, chain: LiveChain) -> None:
        """Offer the layers of the disk, the newest first; the one that is chosen stays so."""
        self.layers.show(self._layer_row(chain, image) for image in reversed(chain.layers))

    def _layer_row(self, chain: LiveChain, image: Image) -> Row:
        kind = t("base") if image == chain[0] else t("active layer") if image == chain[-1] else t("overlay")
        count = self._counts.get(image.path)
        changed = counted("{count} change", "{count} changes", count) if count is not None else ""
        return Row(key=image.path, title=image.name, notes=(kind, human_size(image.allocated or 0), changed))

    def _show_entries(self, found: Files) -> None:
        entries = sorted(found, key=lambda entry: (entry.kind != "folder", entry.path))
        self._entries = {entry.path: entry for entry in entries}
        self._rows = [entry_row(entry) for entry in entries]
        self._show_rows(found.notes)

    def _show_changes(self, changes: FileChanges) -> None:
        self._entries = {change.path: change for change in changes}
        self._rows = [change_row(change) for change in changes]
        self.where.value += f"<p><strong>{escape(shown(changes_heading(changes)))}</strong></p>"
        self._show_rows(changes.notes)

    def _show_rows(self, notes: Iterable[str] = ()) -> None:
        """Show the rows that the filter leaves."""
        if self._rows is None:
            return
        rows = filtered(self._rows, self.filter.value)
        self.list.empty = t("No file matches.") if self._rows else t("This folder is empty.")
        self.list.show(rows[:_MOST_ROWS])
        more = len(rows) - _MOST_ROWS
        notes = [*notes, *([t("{count} more files", count=more)] if more > 0 else [])]
        self.content.value = "".join(f"<p>{escape(capital(note))}</p>" for note in notes)

    def _reader(self, *, later: bool = True) -> Callable[[str], bytes]:
        """Return what reads a file in the state that is shown; of two that are compared, in the later or earlier."""
        name = self.layers.value
        if name is None:
            at = (self.at.value if later else self.since.value) or None
            return lambda path: self.guest.read(path, at=at)
        chain = self.guest.chain()
        below = chain.layers.index(chain[name]) - (not later)
        return lambda path: chain.read(path, at=chain[below].path)

    def _show_change(self, change: FileChange) -> None:
        """Show the content of a file that changed: in the later state, or where it is gone in the earlier one."""
        later = change.after is not None
        entry = change.after or change.before
        if entry is None or entry.kind != "file":
            self.content.value = f"<p>{escape(repr(change))}</p>"
            return
        self._show(entry, self._reader(later=later))

    def _show(self, entry: FileEntry, read: Callable[[str], bytes]) -> None:
        if entry.size > _MOST_SHOWN:
            said = t("{path} is too large to display: {size}", path=shown(entry.path), size=human_size(entry.size))
            self.content.value = f"<p>{escape(said)}</p>"
            return
        text = read(entry.path).decode(errors="backslashreplace")
        lines = "\n".join(shown(line) for line in text.split("\n"))
        self.content.value = (
            f'<p><code>{escape(shown(entry.path))}</code></p><div class="vmsnap-output" tabindex="0"><pre>'
            f"{escape(lines)}</pre></div>"
        )
