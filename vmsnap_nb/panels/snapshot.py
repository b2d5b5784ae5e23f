"""Snapshots by mouse: their history, new ones, reverts, deletions, repaired records."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from html import escape
from typing import Any

import ipywidgets as widgets
import traitlets

from vmsnap_nb.errors import InvalidRequestError, NotFoundError, VmsnapError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.model.snapshot import Snapshot, SnapshotCost
from vmsnap_nb.panels.call import Call
from vmsnap_nb.panels.decision import brief, brief_html
from vmsnap_nb.panels.moment import MomentView
from vmsnap_nb.panels.panel import Panel, fold, group, row
from vmsnap_nb.panels.row_list import Action, Row, RowList
from vmsnap_nb.panels.source import Reading
from vmsnap_nb.panels.time_slider import TimeSlider
from vmsnap_nb.views.labels import kind_text, state_text
from vmsnap_nb.views.shown_text import human_size, shown
from vmsnap_nb.words.message import N_, Message, t

__all__ = ["SnapshotPanel"]

_KINDS = {
    "": N_("The kind that suits the guest's state and disks; the plan gives the reason."),
    "internal-disk": N_("The disk only, inside the same qcow2 file; the guest is shut off."),
    "internal-checkpoint": N_("Memory, device state and disk, inside the same qcow2 file; the guest is running."),
    "external-disk": N_("The old file becomes a read-only backing file, and writes go to a new overlay."),
    "external-checkpoint": N_(
        "Memory in a separate file, the disk as in an external disk snapshot; the guest is running."
    ),
}
_SIGNS = {  # a square is a file of its own, a diamond lies in the same file; a filled one has the memory, too
    "internal-disk": "◇",
    "internal-checkpoint": "◆",
    "external-disk": "□",
    "external-checkpoint": "■",
    "vm-state": "●",
}
_ENDS = [
    (N_("as in the snapshot"), "as-taken"),
    (N_("running"), "running"),
    (N_("paused"), "paused"),
    (N_("off, disks only"), "off"),
]
_CHILDREN = [
    (N_("this snapshot only"), False),
    (N_("with its descendants"), "also"),
    (N_("its descendants only"), "only"),
]


class SnapshotPanel(Panel):
    """The snapshots of one guest."""

    _measured: tuple[str, ...] = ()
    _drifted = False  # whether the controls for records were opened for that

    def build(self) -> None:
        """Make the controls."""
        self.table = RowList(
            self._act,
            label=t("Snapshots"),
            empty=t("No snapshots yet. Take the first one below. No data is lost."),
        )
        self.slider = TimeSlider()
        self.table.observe(self._chosen, "value")
        traitlets.link((self.table, "value"), (self.slider, "value"))
        self.chain.observe(self._clicked, "selected")
        self._costs: Mapping[str, SnapshotCost] = {}
        folded = widgets.VBox([self._options_group(), self._memory_group(), self._records_group()])
        groups = row(self._new_group(), folded.add_class("vmsnap-beside"))
        self.flow.home = self.create_button
        guest = self.source.guest
        self.moment = (
            None if guest is None else MomentView(guest, lambda name: self.flow.guarded(partial(self.revert, name)))
        )
        moment = () if self.moment is None else (self.moment,)
        self.children = (
            self.time_line,
            self.chain,
            self.slider,
            *moment,
            self.table,
            groups,
            self.flow,
            self.flow.decision,
        )

    def _button(self, description: str, act: Callable[[], None]) -> Any:
        button = widgets.Button(description=description)
        button.on_click(lambda _: self.flow.guarded(act))
        return button

    def _new_group(self) -> Any:
        """Return the controls for a new snapshot."""
        self.name = widgets.Text(description=t("Name"), placeholder="snap1, snap2, …")
        kinds = [(kind_text(kind) if kind else t("(chosen for you)"), kind) for kind in _KINDS]
        self.kind = widgets.Dropdown(description=t("Kind"), options=kinds, value="")
        self.explained = widgets.HTML(_explained(""))
        self.kind.observe(lambda change: setattr(self.explained, "value", _explained(change["new"])), "value")
        self.description_text = widgets.Text(description=t("Description"))
        self.disks = widgets.SelectMultiple(
            description=t("Disks"),
            options=[],
            rows=3,
            tooltip=t("no selection means all disks; use Ctrl or Shift to select several"),
        )
        self.quiesce = widgets.Checkbox(description=t("Quiesce with the guest agent"), indent=False)
        self.create_button = self._button(t("Take snapshot…"), self.create)
        return group(
            t("Take a snapshot"),
            self.name,
            self.kind,
            self.explained,
            self.description_text,
            self.disks,
            self.quiesce,
            self.create_button,
        )

    def _options_group(self) -> Any:
        """Return what can be said of a revert and of a deletion; the buttons for them are in the rows."""
        self.to = widgets.Dropdown(description=t("Revert to"), options=_translated(_ENDS), value="as-taken")
        self.keep_current = _box(t("First keep the current state as a snapshot"), value=True)
        self.with_children = widgets.Dropdown(description=t("Delete"), options=_translated(_CHILDREN), value=False)
        self.metadata_only = _box(t("Remove only the record (no files are changed and no data is lost)"))
        return fold(
            t("Options for Revert and Delete"), self.to, self.keep_current, self.with_children, self.metadata_only
        )

    def _memory_group(self) -> Any:
        """Return the controls for the memory alone."""
        self.memory_file = widgets.Text(description=t("Memory file"), placeholder=t("path; empty: managed save"))
        self.save_button = self._button(t("Save memory…"), self.save)
        self.restore_button = self._button(t("Restore memory…"), self.restore)
        buttons = row(self.save_button, self.restore_button)
        return fold(t("Memory only, without the disks"), self.memory_file, buttons)

    def _records_group(self) -> Any:
        """Return the controls for libvirt's records."""
        self.agreement = widgets.HTML()
        self.reconcile_button = self._button(t("Repair records…"), self.reconcile)
        self._records = fold(t("Records"), self.agreement, self.reconcile_button)
        return self._records

    def update(self, reading: Reading) -> None:
        """Show what was read."""
        snapshots = reading.snapshots or ()
        if reading.snapshots is None:
            super().update(reading)
        else:
            self.draw(reading.snapshots if len(reading.snapshots) else _layers(reading))
        self._show_rows(reading)
        disks = [disk.target for domain in reading.domains for disk in domain.disks if disk.source]
        if list(self.disks.options) != disks:
            self.disks.options = disks
            self.disks.layout.display = None if len(disks) > 1 else "none"  # of one there is nothing to choose
        self._allow(running=any(domain.running for domain in reading.domains))
        drifted = [snapshot for snapshot in snapshots if snapshot.status != "ok"]
        self.reconcile_button.disabled = not drifted
        problems = [t("{snapshot}: {problem}", snapshot=shown(one.name), problem=one.problem) for one in drifted]
        items = "".join(f"<li>{brief_html(problem)}</li>" for problem in problems)
        if bool(drifted) != self._drifted:  # folded again when all is in order, unless the user has opened it
            self._drifted = self._records.unfolded = bool(drifted)
        agree = escape(t("libvirt's records match the files."))
        self.agreement.value = f"<ul>{items}</ul>" if items else f"<p>{agree}</p>"

    def _allow(self, *, running: bool) -> None:
        """Disable what the state of the guest makes impossible, with the reason."""
        off, on = t("the guest is off"), t("the guest is running: shut it down first")
        self.quiesce.disabled = self.save_button.disabled = not running
        self.restore_button.disabled = running
        self.quiesce.tooltip = off if not running else ""
        saves = t("saves the memory only and stops the guest; its disks are not saved")
        goes_on = t("the guest resumes from the saved memory")
        self.save_button.tooltip = saves if running else off
        self.restore_button.tooltip = on if running else goes_on

    def reset(self) -> None:
        """Set the controls to their defaults."""
        self.name.value = self.kind.value = self.description_text.value = self.memory_file.value = ""
        self.disks.value, self.quiesce.value, self.keep_current.value = (), False, True
        self.to.value, self.with_children.value, self.metadata_only.value = "as-taken", False, False

    @property
    def shown(self) -> Shown:
        """The tree of snapshots, or the chain if there are no snapshots."""
        reading = self.reading
        return super().shown if reading is None else reading.snapshots or _layers(reading)

    def _guest(self, tried: Message) -> Guest:
        if self.source.guest is None:
            raise InvalidRequestError(
                tried,
                why=t("this is not the panel of a guest"),
                next_step=t("create a panel for a guest: vs.panel(guest)"),
            )
        return self.source.guest

    def _show_rows(self, reading: Reading) -> None:
        rows = [_row(snapshot, self._costs.get(snapshot.name)) for snapshot in reading.snapshots or ()]
        self.table.show(reversed(rows))
        self.slider.show(rows)

    def _measure(self, reading: Reading) -> None:
        """Read what each snapshot takes, which reads the tables of the images, beside all else."""
        assert reading.snapshots is not None
        with suppress(VmsnapError):
            self._costs = reading.snapshots.costs
        if self.reading is reading:
            self._show_rows(reading)

    def refresh(self) -> None:
        """Read again now, and measure what is new."""
        super().refresh()
        reading = self.reading
        if reading is not None and reading.snapshots and reading.snapshots.names != self._measured:
            self._measured = reading.snapshots.names
            threading.Thread(target=self._measure, args=(reading,), name="vmsnap measure", daemon=True).start()

    def _act(self, action: str, name: str) -> None:
        """Do what was clicked in a row."""
        self.flow.guarded(partial(self.revert if action == "revert" else self.delete, name))

    def _revert(self, name: str) -> None:
        self._act("revert", name)

    def _check(self, tried: Message, name: str) -> str:
        """Check again whether it exists."""
        if name not in self._guest(tried).snapshots():
            raise NotFoundError(
                tried, why=t("snapshot {name} no longer exists", name=name), next_step=t("select another snapshot")
            )
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

    def revert(self, name: str) -> None:
        """Plan to revert to a snapshot."""
        options = {"to": self.to.value, "keep_current": self.keep_current.value}
        self._propose("revert", {"name": self._check(t("plan a revert"), name), **options})

    def delete(self, name: str) -> None:
        """Plan to delete a snapshot."""
        name = self._check(t("plan a deletion"), name)
        options = {"children": self.with_children.value, "metadata_only": self.metadata_only.value}
        self._propose("delete_snapshot", {"name": name, **{key: value for key, value in options.items() if value}})

    def _propose(self, verb: str, options: dict[str, Any]) -> None:
        words = {
            "snapshot": t("Take snapshot"),
            "revert": t("Revert"),
            "delete_snapshot": t("Delete"),
            "save": t("Save memory"),
            "restore": t("Restore memory"),
            "reconcile": t("Repair records"),
        }
        call = Call(self._guest(t("plan {verb}()", verb=verb)), self.source.called, verb, options)
        self.flow.propose(call.plan, str(call), words[verb])

    def _chosen(self, change: Any) -> None:
        """Mark in the tree what was selected, unless it is folded away there, and show that moment."""
        name = change["new"]
        self.chain.selected = name if name in self.chain.boxes.values() else None
        if self.moment is None:
            return
        row = self.table[name] if name in self.table.names else None
        if row is None:
            self.moment.show(None)
        else:
            why = next(action.why_not for action in row.actions if action.name == "revert")
            self.moment.show(row.key, row.meaning, why)

    def _clicked(self, change: Any) -> None:
        """Select in the list what was selected in the tree."""
        shown_there = self.table.value in self.chain.boxes.values()
        if change["new"] in self.table.names or (change["new"] is None and shown_there):
            self.table.value = change["new"]

    def save(self) -> None:
        """Plan to write the guest's memory and to end it."""
        self._propose("save", self._memory_file())

    def restore(self) -> None:
        """Plan to resume the guest from its saved memory."""
        self._propose("restore", self._memory_file())

    def _memory_file(self) -> dict[str, str]:
        path = self.memory_file.value.strip()
        return {"path": path} if path else {}

    def reconcile(self) -> None:
        """Plan to correct libvirt's records."""
        self._propose("reconcile", {})


def _layers(reading: Reading) -> Shown:
    """Return the chain of a guest with one disk: of the images, those of other guests are beside the point here."""
    paths = {disk.source for domain in reading.domains for disk in domain.disks if disk.source in reading.shown.images}
    only = paths.pop() if len(paths) == 1 else None
    return reading.shown if only is None else reading.forest.chain(only)


def _explained(kind: str) -> str:
    return escape(t(_KINDS[kind]))


def _translated(options: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(t(label), value) for label, value in options]


def _box(text: str, *, value: bool = False) -> Any:
    return widgets.Checkbox(description=text, value=value, indent=False, layout=widgets.Layout(width="auto"))


def _row(snapshot: Snapshot, cost: SnapshotCost | None) -> Row:
    record, problem = snapshot.record, brief(snapshot.problem) if snapshot.status != "ok" else ""
    size = None if cost is None else cost.exclusive
    return Row(
        key=snapshot.name,
        title=t("{name} ← you are here", name=snapshot.name) if record.current else snapshot.name,
        notes=(kind_text(snapshot.kind), state_text(record.state), record.description, problem),
        sign=_SIGNS.get(snapshot.kind, "◫"),
        meaning=kind_text(snapshot.kind),
        cells=() if size is None else ((human_size(size), t("only in this snapshot")),),
        when=f"{record.created:%Y-%m-%dT%H:%M:%SZ}" if record.created else "",
        actions=(
            Action("revert", t("Revert…"), why_not=problem if snapshot.status == "missing-file" else ""),
            Action("delete", t("Delete…")),
        ),
    )
