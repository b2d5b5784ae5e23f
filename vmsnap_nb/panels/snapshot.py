"""Snapshots by mouse: the list, new ones, going back, deleting, putting records right."""

from __future__ import annotations

from html import escape
from typing import Any

import ipywidgets as widgets

from vmsnap_nb.errors import InvalidRequestError, NotFoundError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.model.snapshot import Snapshot
from vmsnap_nb.panels.call import Call
from vmsnap_nb.panels.panel import Panel, group, heading, heading_text, row
from vmsnap_nb.panels.select_table import SelectTable
from vmsnap_nb.panels.source import Reading
from vmsnap_nb.views.snapshot_tree import STATE_WORDS
from vmsnap_nb.views.words import shown

__all__ = ["SnapshotPanel"]

_KINDS = {
    "": "What fits the guest's state and disks; the plan says why.",
    "internal-disk": "The disk alone, inside the same qcow2 file; the guest is shut off.",
    "internal-checkpoint": "Memory, devices and disk, inside the same qcow2 file; the guest runs.",
    "external-disk": "The old file becomes a read-only backing file, and writes go to a new overlay.",
    "external-checkpoint": "Memory in a file of its own, and the disk as with external-disk; the guest runs.",
}
_ENDS = [
    ("as it was taken", "as-taken"),
    ("running", "running"),
    ("paused", "paused"),
    ("off, the disks alone", "off"),
]
_CHILDREN = [("this one alone", False), ("with all that stand on it", "also"), ("only what stands on it", "only")]


class SnapshotPanel(Panel):
    """The snapshots of one guest."""

    def build(self) -> None:
        """Make the controls."""
        self.table = SelectTable(
            label="Snapshots",
            columns=["Name", "Kind", "Taken (UTC)", "State", "Record", "Description"],
            empty="No snapshot yet: what is there now can be kept by the first one, below.",
        )
        self.table.observe(self._chosen, "value")
        self.chain.observe(self._clicked, "selected")
        self.to = widgets.Dropdown(description="Revert to", options=_ENDS, value="as-taken")
        self.keep_current = widgets.Checkbox(
            description="First keep what is there now, as a snapshot",
            value=True,
            indent=False,
            layout=widgets.Layout(width="auto"),
        )
        self.with_children = widgets.Dropdown(description="Delete", options=_CHILDREN, value=False)
        self.metadata_only = widgets.Checkbox(
            description="Forget the record alone: no file changes, no data goes",
            indent=False,
            layout=widgets.Layout(width="auto"),
        )
        self.name = widgets.Text(description="Name", placeholder="snap1, snap2, …")
        self.kind = widgets.Dropdown(
            description="Kind", options=[(kind or "(chosen for you)", kind) for kind in _KINDS], value=""
        )
        self.explained = widgets.HTML(_KINDS[""])
        self.description_text = widgets.Text(description="Description")
        self.disks = widgets.SelectMultiple(
            description="Disks", options=[], rows=3, tooltip="none marked: all; Ctrl or Shift marks several"
        )
        self.quiesce = widgets.Checkbox(description="Quiesce by the guest agent", indent=False)
        self.kind.observe(lambda change: setattr(self.explained, "value", _KINDS[change["new"]]), "value")
        self.memory_file = widgets.Text(description="Memory in", placeholder="a file; empty: managed save")
        self.create_button = widgets.Button(description="Plan snapshot")
        self.flow.home = self.create_button
        self.revert_button = widgets.Button(description="Plan revert")
        self.delete_button = widgets.Button(description="Plan delete")
        self.reconcile_button = widgets.Button(description="Put right")
        self.save_button = widgets.Button(
            description="Plan save", tooltip="the memory alone is written, and the guest is off; its disks are not kept"
        )
        self.restore_button = widgets.Button(
            description="Plan restore", tooltip="the guest goes on from the memory that was saved"
        )
        for button, act in (
            (self.create_button, self.create),
            (self.revert_button, self.revert),
            (self.delete_button, self.delete),
            (self.reconcile_button, self.reconcile),
            (self.save_button, self.save),
            (self.restore_button, self.restore),
        ):
            button.on_click(lambda _, act=act: self.flow.guarded(act))
        self.selected = heading("")
        self.agreement = widgets.HTML()
        new = group(
            "Take a snapshot",
            self.name,
            self.kind,
            self.explained,
            self.description_text,
            self.disks,
            self.quiesce,
            self.create_button,
        )
        chosen = widgets.VBox(
            [
                self.selected,
                row(self.to, self.revert_button),
                self.keep_current,
                row(self.with_children, self.delete_button),
                self.metadata_only,
            ]
        ).add_class("vmsnap-group")
        memory = group("Memory alone, without the disks", self.memory_file, row(self.save_button, self.restore_button))
        records = group("Records", self.agreement, self.reconcile_button)
        self.children = (self.time_line, self.chain, self.table, row(new, chosen, memory, records), self.flow)

    def update(self, reading: Reading) -> None:
        """Show what was read."""
        snapshots = reading.snapshots or ()
        if reading.snapshots is None:
            super().update(reading)
        else:
            self.chain.show(reading.snapshots if len(reading.snapshots) else reading.shown)
        self.table.show(_row(snapshot) for snapshot in snapshots)
        self._tell_selected()
        disks = [disk.target for domain in reading.domains for disk in domain.disks if disk.source]
        if list(self.disks.options) != disks:
            self.disks.options = disks
            self.disks.layout.display = None if len(disks) > 1 else "none"  # of one there is nothing to choose
        drifted = [snapshot for snapshot in snapshots if snapshot.status != "ok"]
        self.reconcile_button.disabled = not drifted
        told = "".join(f"<li>{escape(shown(f'{one.name}: {one.problem}'))}</li>" for one in drifted)
        self.agreement.value = f"<ul>{told}</ul>" if told else "<p>libvirt's records and the files agree.</p>"

    @property
    def shown(self) -> Shown:
        """The tree of snapshots, or the chain as long as there is none."""
        reading = self.reading
        return reading.snapshots if reading is not None and reading.snapshots else super().shown

    def _guest(self, tried: str) -> Guest:
        if self.source.guest is None:
            raise InvalidRequestError(tried, said="this panel is not about a guest", next_step="give it a guest")
        return self.source.guest

    def _selected(self, tried: str) -> str:
        """Give what is selected, after looking once more whether it is there."""
        name = self.table.value
        if name is None:
            raise InvalidRequestError(tried, said="no snapshot is selected", next_step="select one in the table")
        if name not in self._guest(tried).snapshots():
            raise NotFoundError(tried, said=f"{name} is not there any more", next_step="select another")
        return name

    def create(self) -> None:
        """Plan a new snapshot."""
        arguments: dict[str, Any] = {
            "name": self.name.value.strip() or None,
            "kind": self.kind.value or None,
            "description": self.description_text.value,
            "disks": list(self.disks.value) or None,
            "quiesce": self.quiesce.value,
        }
        self._propose("snapshot", {key: value for key, value in arguments.items() if value})

    def revert(self) -> None:
        """Plan to go back to the selected snapshot."""
        options = {"to": self.to.value, "keep_current": self.keep_current.value}
        self._propose("revert", {"name": self._selected("plan to revert to a snapshot"), **options})

    def delete(self) -> None:
        """Plan to delete the selected snapshot."""
        name = self._selected("plan to delete a snapshot")
        options = {"children": self.with_children.value, "metadata_only": self.metadata_only.value}
        self._propose("delete_snapshot", {"name": name, **{key: value for key, value in options.items() if value}})

    def _propose(self, verb: str, options: dict[str, Any]) -> None:
        call = Call(self._guest(f"plan to {verb}"), self.source.called, verb, options)
        self.flow.propose(call.plan, str(call))

    def _chosen(self, change: Any) -> None:
        """Mark in the tree what was selected in the table, unless it is folded away there."""
        self.chain.selected = change["new"] if change["new"] in self.chain.boxes.values() else None
        self._tell_selected()

    def _tell_selected(self) -> None:
        name = self.table.value
        title = "Revert or delete: select a snapshot above" if name is None else f"Selected: {shown(name)}"
        self.selected.value = heading_text(title)

    def _clicked(self, change: Any) -> None:
        """Select in the table what was selected in the tree."""
        shown_there = self.table.value in self.chain.boxes.values()
        if change["new"] in self.table.names or (change["new"] is None and shown_there):
            self.table.value = change["new"]

    def save(self) -> None:
        """Plan to write the guest's memory and to end it."""
        self._propose("save", self._memory_file())

    def restore(self) -> None:
        """Plan to let the guest go on from its saved memory."""
        self._propose("restore", self._memory_file())

    def _memory_file(self) -> dict[str, str]:
        path = self.memory_file.value.strip()
        return {"path": path} if path else {}

    def reconcile(self) -> None:
        """Plan to put libvirt's records right."""
        self._propose("reconcile", {})


def _row(snapshot: Snapshot) -> tuple[str, ...]:
    record = snapshot.record
    return (
        snapshot.name,
        f"{snapshot.name} ← you are here" if record.current else snapshot.name,
        snapshot.kind,
        f"{record.created:%Y-%m-%d %H:%M:%S}" if record.created else "",
        STATE_WORDS.get(record.state, record.state),
        snapshot.status,
        record.description,
    )
