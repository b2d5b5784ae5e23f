"""Memory that is saved alone, and restored."""

from __future__ import annotations

from dataclasses import replace

from support.forests import image
from support.snapshots import UUID, domain, refusals, restore, save, world

from vmsnap_nb.model.guest import Disk
from vmsnap_nb.model.snapshot import MANAGED_SAVE
from vmsnap_nb.plans.facts import SavedState


def test_memory_is_saved_by_a_guest_that_runs_and_restored_by_one_that_is_off() -> None:
    guest = domain("running")
    made = save(guest, uri="qemu:///system")
    assert made.commands == ("virsh -c qemu:///system managedsave --domain demo",)
    assert [one.name for one in made.after.records] == [MANAGED_SAVE]
    assert [use.state for use in made.after.uses] == ["saved"]
    off = domain()
    assert refusals(save(off)) == ["not-supported"]
    back = restore(made.after, off)
    assert (back.refused, back.after.records) == (False, ())
    assert refusals(restore(world(off), off)) == ["not-supported"]
    assert "in-use" in refusals(restore(world(guest), guest))


def test_a_disk_that_changed_since_does_not_go_with_the_memory() -> None:
    off = domain()
    before = world(off)
    tree = before.edited(put=[replace(before["/i/top.qcow2"], mtime_ns=100)])

    def refused(**fields: object) -> list[str]:
        given = {"guest": "demo", "uuid": UUID, "sources": {"vda": "/i/top.qcow2"}, "mtime_ns": 100, **fields}
        return refusals(restore(tree, off, "/i/f", SavedState(**given)))  # type: ignore[arg-type]

    assert refused() == []
    assert refused(mtime_ns=99) == ["disk-changed"]
    assert refused(uuid="another") == ["not-supported"]
    assert refused(guest="old-name") == ["not-supported"]
    assert refused(sources={"vda": "/i/gone"}) == ["missing-base"]
    moved = domain("shut off", Disk("vda", "/i/over.qcow2", "qcow2"))
    over = tree.edited(put=[image("over.qcow2", "top.qcow2")], uses=moved.uses)
    saved = SavedState("demo", UUID, {"vda": "/i/top.qcow2"}, 100)
    assert refusals(restore(over, moved, "/i/f", saved)) == ["disk-changed"]
