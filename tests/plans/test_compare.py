"""What has changed between two forests."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from support.forests import MIB, forest, image
from support.snapshots import WHEN, domain, record, world

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Bitmap, InternalSnapshot
from vmsnap_nb.model.snapshot import SnapshotDisk
from vmsnap_nb.plans.compare import differences


def test_a_snapshot_that_came_or_went_makes_a_plan_stale() -> None:
    guest = domain()
    before = world(guest, record("a"), record("b", parent="a", current=True), tags=("a", "b"))
    assert differences(before, before) == ()
    assert differences(before, before.edited(records=before.records[:1])) == (
        "libvirt no longer has a record of snapshot b of demo",
    )
    assert differences(before.edited(records=()), before) == (
        "demo now has a snapshot named a",
        "demo now has a snapshot named b",
    )
    moved = (before.records[0], replace(before.records[1], parent=None))
    assert differences(before, before.edited(records=moved)) == ("the parent of snapshot b of demo is none, not a",)
    later = tuple(replace(one, created=None, memory_size=1) for one in before.records)
    assert differences(before, before.edited(records=later)) == ()


def test_another_snapshot_of_the_same_name_makes_a_plan_stale() -> None:
    guest, later = domain(), WHEN + timedelta(seconds=1)
    before = world(guest, record("a"), tags=("a",))
    assert differences(before, before.edited(records=[record("a", created=later)])) == (
        "snapshot a of demo was deleted and created again",
    )
    # libvirt records whole seconds.
    assert differences(before, before.edited(records=[record("a", created=WHEN + timedelta(microseconds=9))])) == ()

    def tree(created: datetime | None) -> Forest:
        return forest(image("top", snapshots=(InternalSnapshot("1", "a", created),)))

    (one,) = differences(tree(WHEN), tree(WHEN + timedelta(microseconds=9)))
    assert one == "snapshot a in /i/top was deleted and created again"
    assert differences(tree(None), tree(WHEN)) == ()  # one that is only planned has no time


def test_what_is_missing_before_and_after_is_no_difference() -> None:
    tree = world(domain()).edited(put=[image("gone", status="missing")])
    assert differences(tree, tree) == ()
    assert differences(tree, tree.edited(put=[image("gone")])) == ("/i/gone was missing, but now exists",)


def test_a_bitmap_that_was_in_the_memory_of_qemu_may_come_and_none_may_go() -> None:
    without, held = image("a"), image("a", bitmaps=(Bitmap("kept", 65536),))
    assert differences(forest(without), forest(held)) == ()
    assert differences(forest(held), forest(without)) == ("/i/a has no dirty bitmaps (expected kept)",)


def test_differences_are_words() -> None:
    guest = domain()
    before = world(guest, record("a"), tags=("a",))
    (one,) = before.records
    outside = replace(one, current=True, disks=(SnapshotDisk("vda", "external", "/i/base", "/i/top"),))
    assert differences(before, before.edited(records=(outside,))) == (
        "snapshot a of demo is now the current snapshot",
        "disk vda of snapshot a of demo is in /i/base, below the overlay /i/top, not in /i/top.qcow2",
    )
    was = forest(image("a", identity=(1, 2)))
    assert differences(was, forest(image("a", identity=(1, 3)))) == ("/i/a is now a different file",)
    assert differences(was, forest(image("a", identity=(1, 2), virtual_size=MIB))) == (
        "/i/a has virtual size 1 MiB (expected 64 MiB)",
    )
    assert differences(was, forest(image("a", identity=(1, 2), virtual_size=64 * MIB + 512))) == (
        "/i/a has virtual size 67109376 B (expected 67108864 B)",
    )


def test_states_are_said_in_words() -> None:
    (said,) = differences(forest(image("a")), forest(image("a", status="invalid")))
    assert (said, said.in_language("zh")) == (
        "/i/a has status invalid (expected ok)",
        "/i/a 的状况为已失效（预期为正常）",
    )
    before = world(domain(), record("a"), tags=("a",))
    after = before.edited(records=[replace(before.records[0], state="running", memory="external")])
    assert [one.in_language("zh") for one in differences(before, after)] == [
        "demo 的快照 a：“状态”是运行中，而不是已关机",
        "demo 的快照 a：“内存”是在单独的文件中，而不是未包含",
    ]
