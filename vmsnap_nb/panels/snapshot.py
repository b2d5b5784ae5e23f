"""Snapshots by mouse: the list, new ones, going back, deleting, putting records right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import ipywidgets as widgets

from vmsnap_nb.errors import InvalidRequestError, NotFoundError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.model.snapshot import Snapshot
from vmsnap_nb.panels.panel import Panel, choose
from vmsnap_nb.panels.source import Reading

__all__ = ["SnapshotPanel"]

_KINDS = {
    "": "What fits the guest's state and disks; the plan says why.",
    "internal-disk": "The disk alone, inside the same qcow2 file; the guest is shut off.",
    "internal-checkpoint": "Memory, devices and disk, inside the same qcow2 file; the guest runs.",
    "external-disk": "The old file becomes a read-only backing file, and writes go to a new overlay.",
    "external-checkpoint": "Memory in a file of its own, and the disk as with external-disk; the guest runs.",
}


class SnapshotPanel(Panel):
    """The snapshots of one guest."""

    def build(self) -> None:
        """Make the controls."""
        self.table = widgets.Select(description="Snapshots", options=[], value=None, rows=8)
        self.table.layout.width = "auto"
        self.name = widgets.Text(description="Name", placeholder="snap1, snap2, …")
        self.kind = widgets.Dropdown(
            description="Kind", options=[(kind or "(chosen for you)", kind) for kind in _KINDS], value=""
        )
        self.explained = widgets.HTML(_KINDS[""])
        self.description_text = widgets.Text(description="Description")
        self.disks = widgets.SelectMultiple(description="Disks", options=[], rows=3)
        self.quiesce = widgets.Checkbox(description="Quiesce by the guest agent", indent=False)
        self.kind.observe(lambda change: setattr(self.explained, "value", _KINDS[change["new"]]), "value")
        self.create_button = widgets.Button(description="Plan snapshot")
        self.revert_button = widgets.Button(description="Plan revert")
        self.delete_button = widgets.Button(description="Plan delete")
        self.reconcile_button = widgets.Button(description="Put right")
        for button, act in (
            (self.create_button, self.create),
            (self.revert_button, self.revert),
            (self.delete_button, self.delete),
            (self.reconcile_button, self.reconcile),
        ):
            button.on_click(lambda _, act=act: self.flow.guarded(act))
        actions = widgets.HBox(
            [self.revert_button, self.delete_button, self.reconcile_button], layout={"flex_flow": "row wrap"}
        )
        form = widgets.VBox(
            [self.name, self.kind, self.explained, self.description_text, self.disks, self.quiesce, self.create_button]
        )
        self.children = (self.time_line, self.chain, self.table, actions, form, self.flow)

    def update(self, reading: Reading) -> None:
        """Show what was read."""
        snapshots = reading.snapshots or ()
        if reading.snapshots is None:
            super().update(reading)
        else:
            self.chain.show(reading.snapshots if len(reading.snapshots) else reading.shown)
        choose(self.table, [(_row(snapshot), snapshot.name) for snapshot in snapshots])
        disks = [disk.target for domain in reading.domains for disk in domain.disks if disk.source]
        if list(self.disks.options) != disks:
            self.disks.options = disks
        self.reconcile_button.disabled = all(snapshot.status == "ok" for snapshot in snapshots)

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
            raise InvalidRequestError(tried, said="no snapshot is selected", next_step="select one in the list")
        if name not in self._guest(tried).snapshots():
            raise NotFoundError(tried, said=f"{name} is not there any more", next_step="select another")
        return cast(str, name)

    def create(self) -> None:
        """Plan a new snapshot."""
        guest = self._guest("plan a snapshot")
        arguments: dict[str, Any] = {
            "name": self.name.value.strip() or None,
            "kind": self.kind.value or None,
            "description": self.description_text.value,
            "disks": list(self.disks.value) or None,
            "quiesce": self.quiesce.value,
        }
        arguments = {key: value for key, value in arguments.items() if value}
        code = f"guest.snapshot({', '.join(f'{key}={value!r}' for key, value in arguments.items())}).run()"
        self.flow.propose(lambda: guest.snapshot(**arguments), code)

    def revert(self) -> None:
        """Plan to go back to the selected snapshot."""
        self._on_selected("revert")

    def delete(self) -> None:
        """Plan to delete the selected snapshot."""
        self._on_selected("delete_snapshot")

    def _on_selected(self, verb: str) -> None:
        name = self._selected(f"plan to {verb.partition('_')[0]} a snapshot")
        make: Callable[[str], LivePlan] | None = getattr(self._guest(verb), verb, None)
        if make is None:
            raise InvalidRequestError(f"guest.{verb}({name!r})", said="this version of the package cannot do it yet")
        found = make
        self.flow.propose(lambda: found(name), f"guest.{verb}({name!r}).run()")

    def reconcile(self) -> None:
        """Plan to put libvirt's records right."""
        self.flow.propose(self._guest("put the records right").reconcile, "guest.reconcile().run()")


def _row(snapshot: Snapshot) -> str:
    record = snapshot.record
    at = f"{record.created:%Y-%m-%d %H:%M:%S} UTC" if record.created else ""
    here = "← you are here" if record.current else ""
    return "   ".join(part for part in (snapshot.name, snapshot.kind, at, snapshot.status, here) if part)
