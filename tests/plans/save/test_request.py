"""Memory that is saved alone, and restored."""

from __future__ import annotations

from dataclasses import replace

from support.forests import image
from support.readings import reading
from support.snapshots import UUID, domain, refusals, restore, save, world

from vmsnap_nb.model.guest import Disk
from vmsnap_nb.model.need import Need
from vmsnap_nb.model.snapshot import MANAGED_SAVE
from vmsnap_nb.plans.facts import FolderFacts, SavedState
from vmsnap_nb.plans.save.request import SaveRequest, saved_record

READ = (Need("managed save", "/i/top.qcow2", "demo"),)
"""What is known of a managed save that libvirt can read."""


def test_memory_is_saved_by_a_guest_that_runs_and_restored_by_one_that_is_off() -> None:
    guest = domain("running")
    made = save(guest, uri="qemu:///system")
    assert made.commands == ("virsh -c qemu:///system managedsave --domain demo",)
    assert [one.name for one in made.after.records] == [MANAGED_SAVE]
    assert [use.state for use in made.after.uses] == ["saved"]
    off = domain()
    assert refusals(save(off)) == ["not-supported"]
    back = restore(replace(made.after, needs=READ), off)
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
    unknown = restore(tree, off, "/i/f", SavedState("demo", UUID, {"vda": "/i/top.qcow2"}, None))
    assert [(one.name, one.level) for one in unknown.concerns if one.level != "note"] == [("disk-changed", "warn")]
    assert refused(mtime_ns=99) == ["disk-changed"]
    assert refused(uuid="another") == ["not-supported"]
    assert refused(guest="old-name") == ["not-supported"]
    assert refused(sources={"vda": "/i/gone"}) == ["missing-base"]
    assert refused(sources={"vda": None}, mtime_ns=99) == [], "a disk without a medium"
    assert refused(uuid="another", sources={"vda": "/i/gone"}) == ["not-supported"], "and its disks are another's"
    assert refusals(restore(before, off, "/i/f", SavedState("demo", UUID, {"vda": "/i/top.qcow2"}, 1))) == []
    closed = before.edited(put=[replace(before["/i/top.qcow2"], status="unreadable")])
    assert refusals(restore(closed, off, "/i/f", SavedState("demo", UUID, {"vda": "/i/top.qcow2"}, 1))) == [
        "unknown-image"
    ]
    moved = domain("shut off", Disk("vda", "/i/over.qcow2", "qcow2"))
    over = tree.edited(put=[image("over.qcow2", "top.qcow2")], uses=moved.uses)
    saved = SavedState("demo", UUID, {"vda": "/i/top.qcow2"}, 100)
    assert refusals(restore(over, moved, "/i/f", saved)) == ["disk-changed"]
    beside = tree.edited(put=[image("over.qcow2", "top.qcow2")])
    assert refusals(restore(beside, off, "/i/f", saved)) == [], "that overlay is nobody's disk"


def test_memory_is_not_saved_where_it_could_not_be_restored() -> None:
    transient = replace(domain("running"), persistent=False)
    assert refusals(save(transient)) == ["not-supported"]
    assert refusals(save(transient, "/i/memory")) == []
    assert refusals(save(domain("running"), jobs={"vda": "pull"})) == ["active-job"]
    held = domain("running")
    other = world(held).edited(uses=[replace(held.uses[0], deleted=("/i/top.qcow2",))])
    assert "deleted-image" in refusals(SaveRequest().plan(reading(other, held)))


def test_the_file_of_saved_memory_must_be_new_and_have_room() -> None:
    guest = domain("running")
    there = FolderFacts(frozenset({"/i/memory"}))
    assert refusals(save(guest, "/i/memory", folders=there)) == ["file-exists"]
    assert refusals(save(guest, folders=there)) == []
    small = FolderFacts(free={"/i": 1000})
    assert refusals(save(guest, "/i/memory", folders=small, memory=1 << 30)) == ["no-space"]
    closed = FolderFacts(closed={"/i": "Read-only file system"})
    assert refusals(save(guest, "/i/memory", folders=closed)) == ["no-permission"]
    shared = FolderFacts(shared={"/i": "/i"})
    refused = save(guest, "/i/memory", folders=shared)
    assert refusals(refused) == ["not-supported"]
    assert "chmod +t -- /i" in refused.concerns[0].remedy
    assert refusals(save(guest, folders=shared)) == []


def test_what_is_restored_from_a_file_makes_a_managed_save_stale() -> None:
    off = domain()
    tree = replace(world(off, saved_record("demo", None)), needs=READ)
    told = [(one.name, one.level) for one in restore(tree, off, "/i/f").concerns]
    assert ("managed-save", "warn") in told
    assert [one.name for one in restore(tree, off, "/i/f").after.records] == [MANAGED_SAVE]
    assert "managed-save" not in [one.name for one in restore(tree, off).concerns]


def test_memory_that_libvirt_cannot_read_is_not_restored() -> None:
    off = domain()
    assert refusals(restore(world(off, saved_record("demo", None)), off)) == ["managed-save"]
