"""The panels of a lab and of a guest, driven from Python as a click would, without booting one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from waiting import eventually

import vmsnap_nb as vs
from vmsnap_nb.errors import GuestNotReadyError, InvalidRequestError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image
from vmsnap_nb.panels import LabPanel, SnapshotPanel

pytestmark = pytest.mark.system


@pytest.fixture
def guest(lab: Lab, base: Image) -> Iterator[Guest]:
    guest = lab.guest(f"panel-{uuid4().hex[:6]}", backing=base)
    yield guest
    for snapshot in guest._domain.listAllSnapshots():
        snapshot.delete(2)  # VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY
    guest.undefine()


@pytest.fixture
def panel(guest: Guest) -> Iterator[SnapshotPanel]:
    panel = vs.panel(guest)
    assert isinstance(panel, SnapshotPanel)
    yield panel
    panel.close()


def test_a_snapshot_from_choice_to_list(panel: SnapshotPanel, guest: Guest) -> None:
    panel.name.value, panel.kind.value, panel.description_text.value = "one", "internal-disk", "with <b>"
    assert "shut off" in panel.explained.value
    panel.create_button.click()
    panel.flow.wait()
    assert guest.snapshots().names == ()
    panel.flow.understood.value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert guest.snapshots().names == ("one",)
    assert panel.table.names == ["one"]
    assert panel.table.value is None  # nothing is chosen for the user


def test_what_virsh_does_appears(panel: SnapshotPanel, guest: Guest) -> None:
    guest._domain.snapshotCreateXML("<domainsnapshot><name>outside</name></domainsnapshot>")
    assert eventually(lambda: panel.table.names == ["outside"])
    panel.table.value = "outside"
    guest._domain.snapshotLookupByName("outside").delete()
    assert eventually(lambda: panel.table.value is None)


def test_without_a_selection_nothing_is_deleted(panel: SnapshotPanel) -> None:
    panel.delete_button.click()
    assert isinstance(panel.last_error, InvalidRequestError)
    assert "no snapshot is selected" in panel.flow.message.value


def test_drift_can_be_put_right(panel: SnapshotPanel, guest: Guest) -> None:
    assert panel.reconcile_button.disabled
    guest.snapshot("lost", kind="internal-disk").run(progress=False)
    guest._domain.snapshotLookupByName("lost").delete(2)
    assert eventually(lambda: not panel.reconcile_button.disabled)
    panel.reconcile_button.click()
    panel.flow.wait()
    panel.flow.understood.value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert [snapshot.status for snapshot in guest.snapshots()] == ["ok"]


def test_a_lab_shows_its_guests_and_the_panels_of_the_selected_one(lab: Lab, guest: Guest) -> None:
    panel = vs.panel(lab)
    assert isinstance(panel, LabPanel)
    try:
        assert panel.guests.value is None
        panel.guests.value = guest.name
        assert panel.tabs.titles == ("Console", "Snapshots", "Merge", "Overlays")
        assert panel.tabs.children[1].source.guest.name == guest.name
        panel.command._handle_custom_msg({"line": "true"}, [])
        assert eventually(lambda: panel.last_error is not None)
        assert isinstance(panel.last_error, GuestNotReadyError)
        panel.stop_button.click()  # it is off, so nothing happens
        # The entry of the error may come after it.
        wanted = (f"{guest.name}: shutdown()", f"lab.guest({guest.name!r}).shutdown()")
        assert eventually(lambda: wanted in [(entry.what, entry.code) for entry in panel.activity.entries])
        parts = panel.tabs.children
        panel.guests.value = None
        assert panel.tabs.children == ()
        assert all(part._closed.is_set() for part in parts[1:])
    finally:
        panel.close()


def test_a_guest_is_paused_goes_on_and_has_its_plug_pulled(lab: Lab, guest: Guest) -> None:
    panel = vs.panel(lab)
    assert isinstance(panel, LabPanel)
    try:
        panel.guests.value = guest.name
        assert panel._plug.layout.display == "none"
        guest.start(wait=False)
        assert eventually(lambda: panel._plug.layout.display is None and panel.start_button.disabled)
        guest.suspend()
        assert eventually(lambda: panel.start_button.description == "Resume" and not panel.start_button.disabled)
        assert panel.stop_button.disabled
        panel.start_button.click()
        assert eventually(lambda: panel.start_button.description == "Start" and not panel.stop_button.disabled)
        assert guest.state == "running"
        assert panel.plug_button.disabled
        panel.plug_button.click()
        assert isinstance(panel.last_error, InvalidRequestError)
        assert guest.state == "running"
        panel.plug_known.value = True
        assert not panel.plug_button.disabled
        panel.plug_button.click()
        assert eventually(lambda: panel._plug.layout.display == "none")
        assert guest.state == "shut off"
        panel.plug_known.value = True  # said of one that is off, it counts for nothing when it runs again
        guest.start(wait=False)
        assert eventually(lambda: panel._plug.layout.display is None)
        assert not panel.plug_known.value
        assert panel.plug_button.disabled
        wanted = f"lab.guest({guest.name!r}).destroy()"
        assert eventually(lambda: wanted in [entry.code for entry in panel.activity.entries])
    finally:
        panel.close()
        guest.destroy()


def test_new_guests_are_planned_in_a_lab(lab: Lab, base: Image) -> None:
    panel = vs.panel(lab)
    assert isinstance(panel, LabPanel)
    names = [f"panel-new-{number}" for number in (1, 2)]
    try:
        panel.guest_button.click()
        assert isinstance(panel.last_error, InvalidRequestError)
        panel.name.value, panel.base.value, panel.count.value = "panel-new", base.path, 2
        panel.guest_button.click()
        panel.flow.wait()
        panel.flow.confirm_button.click()
        panel.flow.wait()
        assert panel.last_error is None
        assert set(names) <= set(panel.guests.names)
        assert panel.guests.value is None
    finally:
        panel.close()
        for name in names:
            lab.guest(name).undefine()


def test_a_snapshot_is_selected_in_the_tree_reverted_to_and_deleted(panel: SnapshotPanel, guest: Guest) -> None:
    guest.snapshot("one", kind="internal-disk").run(progress=False)
    panel.refresh()
    panel.chain.selected = "one"
    assert panel.table.value == "one"
    panel.table.value = None
    assert panel.chain.selected is None
    panel.chain.boxes = {}  # as in a long list: its box is folded away
    panel.chain.selected = "another"
    panel.table.value = "one"
    assert (panel.table.value, panel.chain.selected) == ("one", None)
    panel.table.value = "one"
    panel.keep_current.value = False
    panel.revert_button.click()
    panel.flow.wait()
    assert panel.flow.plan is not None
    assert "state-lost" in [concern.name for concern in panel.flow.plan.concerns]
    panel.flow.discard()
    panel.delete_button.click()
    panel.flow.wait()
    panel.flow.understood.value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert guest.snapshots().names == ()
    assert panel.chain.selected is None
    assert panel.activity.entries[-1].code == f"lab.guest({guest.name!r}).delete_snapshot(name='one').run()"


def test_a_record_alone_is_forgotten(panel: SnapshotPanel, guest: Guest) -> None:
    guest.snapshot("one", kind="internal-disk").run(progress=False)
    panel.refresh()
    panel.table.value, panel.metadata_only.value = "one", True
    panel.delete_button.click()
    panel.flow.wait()
    assert panel.flow.plan is not None
    assert panel.flow.plan.writes == panel.flow.plan.unlinks == ()
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert [(snapshot.name, snapshot.status) for snapshot in guest.snapshots()] == [("one", "untracked")]
    wanted = f"lab.guest({guest.name!r}).delete_snapshot(name='one', metadata_only=True).run()"
    assert panel.activity.entries[-1].code == wanted


def test_memory_is_saved_and_the_guest_goes_on_from_it(panel: SnapshotPanel, guest: Guest, tmp_path: Path) -> None:
    guest._domain.createWithFlags(1)  # VIR_DOMAIN_START_PAUSED: nothing in it runs
    try:
        panel.memory_file.value = str(tmp_path / "memory")
        for button, state in ((panel.save_button, "shut off"), (panel.restore_button, "paused")):
            button.click()
            panel.flow.wait()
            panel.flow.understood.value = True
            panel.flow.confirm_button.click()
            panel.flow.wait()
            assert panel.last_error is None
            assert guest.state == state
        wanted = f"lab.guest({guest.name!r}).restore(path={str(tmp_path / 'memory')!r}).run()"
        assert panel.activity.entries[-1].code == wanted
    finally:
        guest.destroy()
