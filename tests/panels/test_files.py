"""The files of a guest in a panel: changes as rows with marks, by state and by layer, and the filter."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.filesystems import change, debugfs
from support.waiting import eventually

from vmsnap_nb.live.guest import Guest
from vmsnap_nb.panels.files import FilesView

pytestmark = pytest.mark.system


def test_changes_are_rows_with_marks(guest: Guest) -> None:
    guest.snapshot("monday", kind="external-disk").run(progress=False)
    top = guest.chain()[-1]
    change(Path(top.path), lambda raw: debugfs(raw, "rm /etc/motd", "symlink /etc/new motd"))
    view = FilesView(guest)
    view.filter.value = "x"
    assert view.list.empty == ""  # nothing was read, so nothing is said of it
    view.filter.value = ""
    view.show_snapshots(("monday",))
    view.since.value = "monday"
    assert eventually(lambda: view.list.names == ["/etc/motd", "/etc/new"])
    gone, new = view.list.shown_rows
    assert ((gone.sign, gone.meaning), (new.sign, new.meaning)) == (("−", "removed"), ("+", "added"))
    assert gone.cells == (("284 B", ""),)
    assert eventually(lambda: "From monday to now: 2 changes" in view.where.value)
    view.filter.value = "MOTD"
    assert view.list.names == ["/etc/motd"]
    view.list.value = "/etc/motd"
    assert eventually(lambda: "Alpine" in view.content.value)  # as it was on Monday
    view.filter.value = "*.none"
    assert (view.list.names, view.list.empty) == ([], "No file matches.")
    view.filter.value, view.since.value = "", ""
    assert eventually(lambda: "/etc" in view.list.names)
    layers = guest.chain().layers
    assert eventually(lambda: view.layers.names == [image.path for image in reversed(layers)])
    assert [row.notes[0] for row in view.layers.shown_rows] == ["active layer", "overlay", "base"]
    view.layers.value = top.path
    assert eventually(lambda: view.list.names == ["/etc/motd", "/etc/new"])
    assert eventually(lambda: view.layers[top.path].notes[2] == "2 changes")
    view.list.value = "/etc/motd"
    assert eventually(lambda: "Alpine" in view.content.value)  # as it was in the layers below
    view.layers.value = layers[0].path
    assert eventually(lambda: "/etc" in view.list.names)
    assert eventually(lambda: view.layers[top.path].notes[2] == "")  # the guest may have written more since
    view.list.value = "/etc"
    assert eventually(lambda: "/etc/motd" in view.list.names)
    view.list.value = "/etc/motd"
    assert eventually(lambda: "Alpine" in view.content.value)  # the base has it still
    view.since.value = "monday"
    assert view.layers.value is None  # another choice than a layer takes its place
    assert eventually(lambda: "From monday to now: 2 changes" in view.where.value)
