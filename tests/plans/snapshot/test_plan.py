"""Plans of snapshots on made-up guests: what is predicted and shown. Needs no machine."""

from __future__ import annotations

import doctest

from support.snapshots import domain, plan, record, save, world

from vmsnap_nb.model import drift, snapshot
from vmsnap_nb.model.snapshot import SnapshotDisk
from vmsnap_nb.plans.snapshot import choice as snapshot_choice


def test_the_examples_of_snapshots_are_right() -> None:
    for module in (snapshot, drift, snapshot_choice):
        assert doctest.testmod(module).failed == 0


def test_an_external_snapshot_moves_the_guest_and_keeps_the_old_image() -> None:
    guest = domain("running")
    made = plan(guest, world(guest, record("old", current=True)), name="a", kind="external-disk", description="d")
    assert made.after.lineage("/i/top.a.qcow2") == ("/i/top.a.qcow2", "/i/top.qcow2", "/i/base.qcow2")
    assert [use.path for use in made.after.uses] == ["/i/top.a.qcow2"]
    assert not made.after.active("/i/top.qcow2")
    old, new = made.after.records
    assert (old.current, new.current, new.parent, new.state, new.kind) == (
        False,
        True,
        "old",
        "disk-snapshot",
        "external-disk",
    )
    assert new.disks == (SnapshotDisk("vda", "external", "/i/top.qcow2", "/i/top.a.qcow2"),)
    unrecorded = plan(guest, name="a", kind="external-disk", metadata=False)
    assert unrecorded.after.records == ()


def test_an_internal_snapshot_is_a_mark_inside_the_box() -> None:
    made = plan(domain(), name="a")
    assert [one.name for one in made.after["/i/top.qcow2"].snapshots] == ["a"]
    assert made.writes == ("/i/top.qcow2",)
    before, after = made.to_text().split("after\n", 1)
    assert "(internal snapshots: + a)" in after
    assert "internal snapshots" not in before


def test_the_figures_of_the_external_kinds() -> None:
    text = plan(domain("running"), name="a", kind="external-checkpoint").to_text()
    before, after = text.split("after\n", 1)
    assert "read-only" not in before
    assert "(now read-only)" in after
    assert "+=" in after  # the new overlay
    assert "(~" in after  # the memory file, in its own shape
    assert "(memory of demo)" in after
    assert "top.a.mem" in after
    saved = save(domain("running"), "/i/demo.sav").to_text()
    assert "demo.sav" in saved.split("after\n", 1)[1]
