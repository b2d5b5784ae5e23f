"""The snapshot panel, driven from Python as a click would, without booting a guest."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.labs import start_paused
from support.waiting import eventually

import vmsnap_nb as vs
from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image
from vmsnap_nb.panels import SnapshotPanel
from vmsnap_nb.system.libvirt.library import library

pytestmark = pytest.mark.system


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
    guest.handle.domain.snapshotCreateXML("<domainsnapshot><name>outside</name></domainsnapshot>")
    assert eventually(lambda: panel.table.names == ["outside"])
    panel.table.value = "outside"
    guest.handle.domain.snapshotLookupByName("outside").delete()
    assert eventually(lambda: panel.table.value is None)


def test_a_row_that_is_gone_deletes_nothing(guest: Guest) -> None:
    panel = SnapshotPanel(guest, every=0)
    guest.snapshot("one", kind="internal-disk").run(progress=False)
    panel.refresh()
    guest.delete_snapshot("one").run(progress=False)
    panel.table.act("delete", "one")
    assert isinstance(panel.last_error, NotFoundError)
    assert "no longer exists" in panel.flow.message.value
    panel.close()


def test_the_history_has_the_newest_first_with_times_and_sizes(guest: Guest) -> None:
    for name in ("one", "two"):
        guest.snapshot(name, kind="external-disk", description="with <b>").run(progress=False)
    panel = SnapshotPanel(guest, every=0)
    two, one = panel.table.shown_rows
    assert (one.key, two.title) == ("one", "two ← you are here")
    assert (one.sign, one.meaning) == ("□", "external disk")
    assert datetime.fromisoformat(one.when) <= datetime.now(UTC)
    assert "with <b>" in one.notes
    assert eventually(lambda: " B" in str(panel.table.shown_rows) or "KiB" in str(panel.table.shown_rows))
    panel.close()


def test_each_record_is_read_once_and_the_list_is_that_of_the_guest(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, kind in (("one", "internal-disk"), ("two", "external-disk"), ("three", "internal-disk")):
        guest.snapshot(name, kind=kind).run(progress=False)
    panel = SnapshotPanel(guest, every=0)
    read = list[tuple[str, str]]()
    ask = library().virDomainSnapshot.getXMLDesc

    def count(snapshot: Any, *given: Any) -> str:
        if threading.current_thread() is threading.main_thread():  # what measures the snapshots reads them as well
            read.append((snapshot.getDomain().name(), snapshot.getName()))
        return str(ask(snapshot, *given))

    with monkeypatch.context() as patch:
        patch.setattr(library().virDomainSnapshot, "getXMLDesc", count)
        reading = panel.source.read()
    assert len(read) == len(set(read)), "each of every guest, and once"
    assert {name for of_guest, name in read if of_guest == guest.name} == {"one", "two", "three"}
    listed = guest.snapshots()
    assert reading.snapshots is not None
    assert replace(reading.snapshots, read_at=None) == replace(listed, read_at=None)
    assert reading.snapshots.costs == listed.costs
    panel.close()


def test_without_snapshots_the_figure_is_the_chain_of_this_guest_alone(guest: Guest, lab: Lab, base: Image) -> None:
    other = lab.guest(f"{guest.name}-other", backing=base)
    panel = SnapshotPanel(guest, every=0)
    assert list(panel.chain.boxes.values()) == [image.path for image in guest.chain()]
    assert "other overlay" in panel.chain.text
    panel.close()
    other.undefine()


def test_a_moment_has_its_chain_files_and_map_and_offers_the_revert(guest: Guest) -> None:
    chain = [image.name for image in guest.chain()]
    guest.snapshot("one", kind="external-disk").run(progress=False)
    guest.snapshot("two", kind="internal-disk").run(progress=False)
    panel = SnapshotPanel(guest, every=0)
    moment = panel.moment
    assert moment is not None
    assert [stop["key"] for stop in panel.slider.stops] == ["one", "two"]
    assert moment.layout.display == "none"  # it is now
    panel.slider.value = "one"
    assert (panel.table.value, panel.chain.selected, moment.layout.display) == ("one", "one", None)
    assert eventually(lambda: moment.said.value == "" and chain[0] in moment.figure.text)
    assert [name in moment.figure.text for name in (*chain, f"{guest.name}.one")] == [True, True, False]
    moment.part.value = "map"
    assert eventually(lambda: "guest reads" in moment.figure.text)
    moment.part.value = "changes"
    assert eventually(lambda: "Reading" not in moment.said.value and moment.view.value)
    assert "alert" not in moment.said.value
    moment.part.value = "files"
    assert eventually(lambda: moment.files is not None and "/etc" in moment.files.list.names)
    panel.table.value = "two"
    assert panel.slider.value == "two"
    moment.part.value = "layers"
    assert eventually(lambda: "inside" in moment.said.value)
    moment.revert_button.click()
    panel.flow.wait()
    assert panel.flow.plan is not None
    assert "revert" in panel.flow.plan.title
    panel.slider.value = None
    assert (panel.table.value, moment.layout.display) == (None, "none")
    panel.table.value = "gone"  # a page that is older than the list
    assert (moment.layout.display, panel.last_error) == ("none", None)
    panel.close()


def test_drift_can_be_put_right(panel: SnapshotPanel, guest: Guest) -> None:
    assert panel.reconcile_button.disabled
    guest.snapshot("lost", kind="internal-disk").run(progress=False)
    guest.handle.domain.snapshotLookupByName("lost").delete(2)
    assert eventually(lambda: not panel.reconcile_button.disabled)
    assert panel._records.unfolded
    panel.reconcile_button.click()
    panel.flow.wait()
    panel.flow.understood.value = True
    panel.flow.confirm_button.click()
    panel.flow.wait()
    assert panel.last_error is None
    assert [snapshot.status for snapshot in guest.snapshots()] == ["ok"]
    assert eventually(lambda: not panel._records.unfolded)


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
    panel.table.act("revert", "one")
    panel.flow.wait()
    assert panel.flow.plan is not None
    assert "state-lost" in [concern.name for concern in panel.flow.plan.concerns]
    panel.flow.discard()
    panel.table.act("delete", "one")
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
    panel.table.act("delete", "one")
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
    start_paused(guest)
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


def test_what_a_guest_that_is_off_cannot_do_is_disabled_and_says_why(guest: Guest) -> None:
    panel = SnapshotPanel(guest, every=0)
    assert panel.save_button.disabled
    assert panel.save_button.tooltip == "the guest is off"
    assert panel.quiesce.disabled
    assert not panel.restore_button.disabled
    start_paused(guest)
    try:
        panel.refresh()
        assert not panel.save_button.disabled
        assert panel.restore_button.disabled
        assert "shut it down first" in panel.restore_button.tooltip
    finally:
        panel.close()
        guest.destroy()
