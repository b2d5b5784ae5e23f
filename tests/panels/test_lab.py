"""The panels of a lab and of a guest, driven from Python as a click would, without booting one."""

from __future__ import annotations

import pytest
from support.waiting import eventually

import vmsnap_nb as vs
from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.journal import begun, drop_entry, write_entry
from vmsnap_nb.live.phases import listener
from vmsnap_nb.model.image import Image
from vmsnap_nb.panels import LabPanel
from vmsnap_nb.panels.guest_page import count_snapshots
from vmsnap_nb.plans.journal import MergeEntry

pytestmark = pytest.mark.system


def state(panel: LabPanel, guest: Guest) -> tuple[str, str, list[str]]:
    """What the row of a guest shows: its sign, its state, and what can be done."""
    row = panel.guests[guest.name]
    return row.mark, row.notes[0], [action.name for action in row.actions if action]


def test_a_lab_shows_its_guests_and_all_about_the_selected_one(lab: Lab, guest: Guest) -> None:
    panel = vs.panel(lab)
    assert isinstance(panel, LabPanel)
    try:
        assert panel.guests.value is not None  # one is selected from the beginning
        assert panel.guest_page is not None
        assert panel.guest_page.power_button.layout.display != "none"  # and can be started where it is waited for
        panel.guests.value = guest.name
        assert panel.tabs.titles == ("Console", "Snapshots", "Disk layers", "Files", "Block map")
        panel.guest_page.console.execute("true").join()
        assert panel.guest_page.console.entries[-1]["state"] == "failed"
        assert "not running" in panel.guest_page.console.entries[-1]["text"]
        assert state(panel, guest) == ("off", "shut off", ["start", "remove"])
        panel.guests.act("stop", guest.name)  # as from a page that is older
        assert panel.activity.count == 1  # of the command
        assert all("Reading …" in tab.children[0].value for tab in panel.tabs.children[1:])
        for number in range(1, 5):
            panel.tabs.selected_index = number
        assert not any("Reading …" in getattr(tab.children[0], "value", "") for tab in panel.tabs.children)
        files, blocks = panel.guest_page.part(3), panel.guest_page.part(4)
        assert eventually(lambda: "/etc" in files.list.names and "<svg" in blocks.view.svg)
        files.list.value = "/etc"
        assert eventually(lambda: "/etc/fstab" in files.list.names)
        files.filter.value = "FSTAB"
        assert files.list.names == ["/etc/fstab"]
        files.filter.value = "fs*"
        assert files.list.names == ["/etc/fstab"]
        files.filter.value = ""
        layers = panel.guest_page.part(2)
        panel.guests.value = None
        assert panel.tabs is None
        assert layers._closed.is_set()
    finally:
        panel.close()


def test_a_snapshot_takes_two_clicks(lab: Lab, guest: Guest) -> None:
    panel = LabPanel(lab, every=0)
    try:
        panel.guests.value = guest.name
        assert panel.guest_page is not None
        panel.guest_page.snapshot_button.click()
        snapshots = panel.guest_page.part(1)
        snapshots.flow.wait()
        snapshots.flow.confirm_button.click()
        snapshots.flow.wait()
        assert guest.snapshots().names == ("snap1",)
        panel.refresh()
        assert panel.tabs.titles[1] == "Snapshots 1"
        assert panel.guests[guest.name].actions[-1].why_not == "delete its snapshot first"
        guest.delete_snapshot("snap1", metadata_only=True).run(progress=False)  # no image changes
        panel.refresh()
        assert panel.tabs.titles[1] == "Snapshots"
        assert not panel.guests[guest.name].actions[-1].why_not
    finally:
        panel.close()


def test_what_was_interrupted_is_said_once(lab: Lab, guest: Guest) -> None:
    guest.snapshot("s", kind="external-disk").run(progress=False)
    base, top = (image.path for image in list(guest.chain())[-2:])
    entry = begun(MergeEntry(base=base, top=top, merged=(top,), guest=guest.name))
    write_entry(entry)
    panel = LabPanel(lab, every=0)
    try:
        panel.guests.value = guest.name
        assert panel.guest_page is not None
        assert "was cancelled or interrupted" in panel.begun.value
        panel.tabs.selected_index = 2
        panel.refresh()
        inner = panel.guest_page.part(2)
        assert "was cancelled or interrupted" in inner.begun.value
        assert panel.unfinished.layout.display == "none"
    finally:
        panel.close()
        drop_entry(entry)


def guests_of(panel: LabPanel) -> list[str]:
    """Return of which guests there are records, as the panel has read them."""
    return [] if panel.reading is None else [record.guest for record in panel.reading.forest.records]


def test_a_guest_is_paused_resumed_forced_off_and_saved(lab: Lab, guest: Guest) -> None:
    panel = LabPanel(lab, every=0.3)
    try:
        guest.start(wait=False)
        assert eventually(lambda: state(panel, guest) == ("running", "running", ["stop", "pause", "off"]))
        panel.guests.act("pause", guest.name)
        assert eventually(lambda: state(panel, guest) == ("paused", "paused", ["resume", "off"]))
        (remove,) = [action for action in panel.guests[guest.name].actions if action.name == "remove"]
        assert remove.why_not == "it is paused: force it off first"
        assert panel.guest_page is not None
        power = panel.guest_page.power_button
        assert eventually(lambda: (power.description, power.layout.display) == (f"Resume {guest.name}", None))
        power.click()
        assert eventually(lambda: state(panel, guest)[0] == "running" and power.layout.display == "none")
        panel.guests.act("off", guest.name)
        assert "may be lost" in panel.flow.lost.value
        panel.flow.confirm()  # nothing was acknowledged
        assert guest.state == "running"
        panel.flow.understood.value = True
        panel.flow.confirm_button.click()
        panel.flow.wait()
        assert guest.state == "shut off"
        assert eventually(lambda: state(panel, guest)[0] == "off")
        assert eventually(lambda: (power.description, power.layout.display) == (f"Start {guest.name}", None))
        assert panel.flow.decision.layout.display == "none"
        guest.start(wait=False)
        guest.suspend()
        guest.save().run(progress=False)
        assert eventually(lambda: state(panel, guest) == ("saved", "saved", ["start"]))
        assert eventually(lambda: guest.name in guests_of(panel))  # the managed save
        assert panel.reading is not None
        assert count_snapshots(panel.reading.forest, guest.name) == 0  # whatever the state is meanwhile
        phases: list[str] = []
        told = listener.set(lambda phase, _: phases.append(str(phase)))
        guest.start(wait=False)
        listener.reset(told)
        assert phases == ["checking its images", "restoring its saved memory"]
    finally:
        panel.close()
        guest.destroy()


def test_new_guests_are_planned_in_a_lab_and_removed(lab: Lab, base: Image) -> None:
    panel = vs.panel(lab)
    assert isinstance(panel, LabPanel)
    new = panel.new
    assert new is not None
    names = [f"panel-new-{number}" for number in (1, 2)]
    try:
        new.guest_button.click()
        assert isinstance(panel.last_error, InvalidRequestError)
        assert new.base.value is not None  # preselected
        new.name.value, new.base.value, new.count.value = "panel-new", base.path, 2
        new.guest_button.click()
        panel.flow.wait()
        panel.flow.confirm_button.click()
        panel.flow.wait()
        assert panel.last_error is None
        assert set(names) <= set(panel.guests.names)
        assert panel.guests.value == names[0]
        panel.flow.cancel_button.click()
        assert (new.name.value, new.count.value) == ("", 1)
        for name in names:
            panel.guests.act("remove", name)
            assert f"{name}.qcow2" in panel.flow.lost.value
            panel.flow.understood.value = True
            panel.flow.confirm_button.click()
            panel.flow.wait()
        assert not set(names) & {one.name for one in lab.guests()}
    finally:
        panel.close()
        for one in lab.guests():
            if one.name in names:
                one.undefine()


def test_a_base_that_others_need_offers_an_overlay_instead_of_a_start(lab: Lab, guest: Guest) -> None:
    lab.plan_guest(f"{guest.name}-above", backing=guest).run(progress=False)
    panel = LabPanel(lab, every=0)
    try:
        panel.guests.act("start", guest.name)
        assert eventually(lambda: bool(panel.flow._ways_out))
        (instead,) = panel.flow._ways_out
        assert instead.description == "Create an overlay instead"
        instead.click()
        panel.flow.wait()
        assert panel.flow.plan is not None
        assert panel.flow.plan.after.parent(panel.flow.plan.creates[0]) == guest.domain().disks[0].source
    finally:
        panel.close()
        lab.guest(f"{guest.name}-above").undefine()
