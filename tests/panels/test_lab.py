"""The panels of a lab and of a guest, driven from Python as a click would, without booting one."""

from __future__ import annotations

import pytest
from support.waiting import eventually

import vmsnap_nb as vs
from vmsnap_nb.errors import GuestNotReadyError, InvalidRequestError
from vmsnap_nb.lab.lab import Lab
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.model.image import Image
from vmsnap_nb.panels import LabPanel

pytestmark = pytest.mark.system


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
