"""Records of snapshots against what is in the images."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import forest, image
from support.snapshots import WHEN, domain, drifted, record, world

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.model.drift import corrected, list_snapshots
from vmsnap_nb.model.guest import Disk
from vmsnap_nb.model.snapshot import SnapshotDisk


def test_records_and_files_are_compared() -> None:
    guest, tree = drifted()
    found = list_snapshots(guest, tree, gone={"/i/top.d.qcow2", "/i/d.mem"})
    assert {s.name: s.status for s in found} == {
        "a": "ok",
        "b": "stale",
        "c": "ok",
        "d": "missing-file",
        "wild": "untracked",
        "ram": "untracked",
    }
    assert "/i/d.mem is missing" in found["d"].problem
    assert "/i/top.qcow2 does not contain the internal snapshot b" in found["b"].problem
    assert found["ram"].kind == "internal-checkpoint"
    assert found.managed_save
    assert found.current is not None
    assert found.current.name == "d"
    assert [s.name for s in found.descendants("a")] == ["b", "c", "d"]
    with pytest.raises(NotFoundError, match="available: a, b, c, d"):
        found["theirs"]
    # Pulled up to the base: the overlay of c does not stand on the snapshot any more.
    pulled = tree.edited(put=[image("top.c.qcow2", "base.qcow2")])
    assert list_snapshots(guest, pulled)["c"].status == "stale"
    # Merged down: the image says so itself.
    merged = tree.edited(put=[replace(tree["/i/top.qcow2"], status="invalid", problem="merged into base")])
    assert list_snapshots(guest, merged)["a"].status == "stale"
    assert (
        list_snapshots(guest, tree.edited(drop=["/i/top.qcow2"]), gone={"/i/top.qcow2"})["a"].status == "missing-file"
    )


def test_a_parent_comes_before_its_children_whatever_their_times() -> None:
    early, late = WHEN, WHEN.replace(year=2027)
    records = (
        record("child", parent="root", created=early),
        record("root", created=late),
        record("lone", created=early),
        record("ring1", parent="ring2"),
        record("ring2", parent="ring1"),
    )
    guest = domain()
    found = list_snapshots(guest, world(guest, *records, tags=("child", "root", "lone", "ring1", "ring2")))
    names = list(found.names)
    assert names.index("root") < names.index("child")
    assert set(names) == {one.name for one in records}
    assert found["ring1"].record.parent is None


def test_a_record_that_names_an_image_further_below() -> None:
    guest, disks = domain(), (SnapshotDisk("vda", "external", "/i/base.qcow2", "/i/over.qcow2"),)
    there = record("far", "external", disks=disks)
    tree = forest(image("base.qcow2"), image("top.qcow2", "base.qcow2"), image("over.qcow2", "top.qcow2"))
    row = list_snapshots(guest, tree.edited(records=(there,)))["far"]
    assert (row.status, "is based on /i/top.qcow2, but its record names /i/base.qcow2" in row.problem) == (
        "stale",
        True,
    )
    right = corrected(there, tree)
    assert right.disks == (replace(disks[0], source="/i/top.qcow2"),)
    assert list_snapshots(guest, tree.edited(records=(right,)))["far"].status == "ok"
    assert corrected(right, tree) == right
    # One whose overlay is on something else, or not there, names what it names.
    for other in (forest(image("base.qcow2"), image("over.qcow2")), forest(image("base.qcow2"))):
        assert corrected(there, other) == there


def test_an_image_that_was_the_disk_again() -> None:
    guest = domain("shut off", Disk("vda", "/i/new.qcow2", "qcow2"))
    tree = forest(image("base.qcow2"), image("old.qcow2", "base.qcow2"), image("new.qcow2", "base.qcow2"))
    old, new = (
        record(
            name,
            "external",
            created=WHEN.replace(year=year),
            disks=(SnapshotDisk("vda", "external", "/i/base.qcow2", f"/i/{name}.qcow2"),),
        )
        for name, year in (("old", 2025), ("new", 2026))
    )
    # As after virsh blockcommit --active --pivot of the overlay of the first one.
    rows = list_snapshots(guest, tree.edited(records=(new, old)))
    assert (rows["new"].status, rows["old"].status) == ("ok", "stale")
    assert "again before snapshot new was taken" in rows["old"].problem
    assert list_snapshots(guest, tree.edited(records=(old,)))["old"].status == "ok"
