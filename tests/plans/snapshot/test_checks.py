"""What speaks against a snapshot: names, kinds that libvirt does not take, files, room, jobs, chains."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import forest, image
from support.snapshots import RAW, VDA, domain, plan, record, refusals, step_of, world

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.guest import Disk, State, Use
from vmsnap_nb.model.image import Bitmap, Image, InternalSnapshot
from vmsnap_nb.model.internal_snapshots import next_id, restored_by
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.facts import FolderFacts
from vmsnap_nb.plans.plan import CONCERNS
from vmsnap_nb.plans.save.request import saved_record


@pytest.mark.parametrize("name", ["", " ", "a/b", ".x", "x" * 300, "虚" * 67, "a\nb", "a\x00", "\ud800"])
def test_names_that_libvirt_or_files_cannot_have(name: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        plan(domain(), name=name)
    assert refused.value.reason
    assert refused.value.next_step == "choose another name"


@pytest.mark.parametrize(
    "request_",
    [
        {"kind": "internal"},
        {"kind": "vm-state"},
        {"disks": {"vdq": "external"}},
        {"disks": {"vdc": "maybe"}},
        {"description": "bell \x07"},
        {"kind": "external-disk", "memory_file": "/i/m"},
        {"kind": "internal-checkpoint", "quiesce": True},
        {"kind": "internal-disk", "quiesce": True},
        {"kind": "external-disk", "name": "x" * 190, "disks": {"vda": "/i/" + "y" * 256}},
    ],
)
def test_what_cannot_be_meant_says_what_can(request_: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        plan(domain("running", VDA, Disk("vdc", "nbd://h/x", "raw")), **request_)
    assert refused.value.next_step


@pytest.mark.parametrize(
    ("state", "request_", "refused"),
    [
        ("running", {"kind": "internal-disk"}, "not-supported"),
        ("shut off", {"kind": "internal-checkpoint"}, "not-supported"),
        ("shut off", {"kind": "external-checkpoint"}, "not-supported"),
        ("shut off", {"disks": {"vda": "no", "vdb": "no"}}, "not-supported"),
        ("shut off", {"kind": "internal-disk", "disks": {"vdb": "internal"}}, "not-supported"),
        ("shut off", {"disks": {"vda": "internal", "vdb": "external"}}, "mixed-kinds"),
        ("shut off", {"kind": "internal-disk", "disks": {"vda": "/i/x.qcow2"}}, "mixed-kinds"),
        ("shut off", {"kind": "external-disk", "quiesce": True}, "no-agent"),
        ("running", {"kind": "external-disk", "quiesce": True}, "no-agent"),
        ("shut off", {"kind": "external-disk", "name": "a,b"}, "not-supported"),
        ("shut off", {"kind": "external-disk", "reuse": True}, "missing-base"),
    ],
)
def test_what_libvirt_would_refuse_is_refused_before(state: State, request_: dict[str, object], refused: str) -> None:
    made = plan(domain(state, VDA, RAW), **request_)
    assert refused in refusals(made)
    for concern in made.concerns:
        assert concern.name in CONCERNS
        assert concern.remedy or concern.level == "note"


def test_a_taken_name_a_taken_file_and_a_file_left_by_a_snapshot_cut_short() -> None:
    guest = domain()
    assert refusals(plan(guest, world(guest, record("a"), tags=("a",)), name="a")) == ["name-taken"]
    untracked = plan(guest, world(guest, tags=("a",)), name="a")
    assert refusals(untracked) == ["name-taken"]
    assert "reconcile()" in untracked.concerns[0].remedy
    facts = {"folders": FolderFacts(frozenset({"/i/top.a.qcow2"}))}
    taken = plan(guest, facts=facts, name="a", kind="external-disk")
    assert refusals(taken) == ["file-exists"]
    assert "interrupted" not in taken.concerns[0].remedy
    left = world(guest).edited(put=[image("top.a.qcow2", "top.qcow2")])
    assert "interrupted" in plan(guest, left, facts, name="a", kind="external-disk").concerns[0].remedy
    memory = {"folders": FolderFacts(frozenset({"/i/m"}))}
    assert refusals(plan(domain("running"), facts=memory, memory_file="/i/m")) == ["file-exists"]


def test_want_of_room_or_permission_is_refused() -> None:
    small = {"folders": FolderFacts(free={"/i": 1000}), "memory": 1 << 28}
    assert refusals(plan(domain(), facts=small)) == []
    assert refusals(plan(domain(), facts=small, kind="external-disk")) == ["no-space"]
    checkpoint = plan(domain("running"), facts=small)
    assert refusals(checkpoint) == ["no-space"]
    assert checkpoint.concerns[0].waivable  # memory that was never written takes no room
    closed = {"folders": FolderFacts(closed={"/i": "Read-only file system"})}
    assert refusals(plan(domain(), facts=closed, kind="external-disk")) == ["no-permission"]


def test_memory_is_not_written_where_others_could_have_another_file_overwritten() -> None:
    """libvirt follows links, and overwrites what is there."""
    shared = {"folders": FolderFacts(shared={"/i": "/i"})}
    refused = plan(domain("running"), facts=shared, memory_file="/i/m")
    assert refusals(refused) == ["not-supported"]
    assert "other users can change /i" in refused.concerns[0].what
    assert refusals(plan(domain("running"), facts=shared, memory_file="/own/m")) == []
    assert refusals(plan(domain("running"), facts=shared, kind="external-disk")) == []


def test_an_active_job_stands_in_the_way_of_its_disk() -> None:
    guest = domain("running", VDA, RAW)
    busy = {"jobs": {"vdb": "pull"}}
    assert refusals(plan(guest, facts=busy)) == ["active-job"]
    assert refusals(plan(guest, facts=busy, disks={"vda": "external", "vdb": "no"})) == []
    assert refusals(plan(guest, facts={"jobs": {"": "saving"}})) == ["active-job"]


def test_saved_memory_and_overlays_do_not_go_together() -> None:
    guest = domain()
    saved = world(guest, saved_record("demo", None))
    assert refusals(plan(guest, saved, kind="external-disk")) == ["managed-save"]
    inside = plan(guest, saved)
    assert [(c.name, c.level) for c in inside.concerns] == [("managed-save", "warn")]


def test_images_that_are_not_in_order_are_refused() -> None:
    guest = domain()
    before = world(guest)
    gone = before.edited(put=[replace(before["/i/base.qcow2"], status="missing", problem="the file does not exist")])
    assert refusals(plan(guest, gone)) == ["missing-base"]
    protected = before.edited(put=[replace(before["/i/top.qcow2"], writable=False)])
    assert refusals(plan(guest, protected)) == ["read-only"]
    assert refusals(plan(guest, protected, kind="external-disk")) == []
    held = before.edited(put=[replace(before["/i/top.qcow2"], held="write")])
    assert refusals(plan(guest, held)) == ["in-use"]
    other = before.edited(uses=(*before.uses, Use("other", "vda", "/i/top.qcow2", "running")))
    made = plan(guest, other)
    assert refusals(made) == ["in-use"]
    assert made.concerns[0].holders == ("other",)


def test_a_chain_of_200_layers_is_deep_enough() -> None:
    layers = [image("l0"), *(image(f"l{n}", f"l{n - 1}") for n in range(1, 200))]
    for depth, refused in ((199, []), (200, ["not-supported"])):
        guest = domain("running", Disk("vda", f"/i/l{depth - 1}", "qcow2"))
        made = plan(guest, forest(*layers[:depth], uses=guest.uses), kind="external-disk")
        assert refusals(made) == refused


def test_a_file_to_be_reused_must_stand_on_the_disks_image() -> None:
    guest = domain("running")
    for backing, refused in (("top.qcow2", []), ("base.qcow2", ["backing-format-wrong"])):
        before = world(guest).edited(put=[image("mine.qcow2", backing)])
        made = plan(guest, before, reuse=True, disks={"vda": "/i/mine.qcow2"})
        assert refusals(made) == refused
        assert made.creates == ()
        assert made.writes == ("/i/mine.qcow2",)
        assert made.after.writers("/i/mine.qcow2")


@pytest.mark.parametrize(
    ("version", "state", "nvram", "level"),
    [
        ((9, 0, 0), "shut off", "raw", "refuse"),
        ((9, 3, 0), "shut off", "raw", "note"),
        ((10, 9, 0), "shut off", "qcow2", "note"),
        ((10, 9, 0), "running", "qcow2", "refuse"),
        ((10, 10, 0), "running", "raw", "refuse"),
        ((10, 10, 0), "running", "qcow2", None),
        ((10, 10, 0), "shut off", "qcow2", None),
    ],
)
def test_inside_with_uefi_as_each_libvirt_takes_it(
    version: tuple[int, int, int], state: State, nvram: str, level: str | None
) -> None:
    facts = {"pflash": True, "nvram": "/i/nvram", "nvram_format": nvram, "libvirt_version": version}
    kind = "internal-checkpoint" if state == "running" else "internal-disk"
    made = plan(domain(state), facts=facts, kind=kind)
    assert [c.level for c in made.concerns if "UEFI" in c.what] == ([] if level is None else [level])


def test_a_floppy_goes_into_no_internal_snapshot_of_a_guest_that_is_off() -> None:
    floppy = Disk("fda", "/i/floppy", "qcow2", device="floppy")
    off, running = (domain(state, VDA, floppy) for state in ("shut off", "running"))
    images = world(off).edited(put=[image("floppy")])
    assert refusals(plan(off, images, kind="internal-disk")) == ["not-supported"]
    assert refusals(plan(running, images, kind="internal-checkpoint")) == []
    assert {disk.held for disk in step_of(plan(off, images)).disks} == {"external"}


@pytest.mark.parametrize("id", ["²", "9" * 5000, "", "-1", "x"])
def test_an_id_inside_an_image_can_be_any_text(id: str) -> None:
    there = image("0.qcow2", snapshots=(InternalSnapshot(id, "odd"), InternalSnapshot("3", "three")))
    assert next_id(there.snapshots) == "4"
    assert restored_by(there.snapshots, "3") == restored_by(there.snapshots, "three") == there.snapshots[1]
    assert restored_by(there.snapshots, "odd") == there.snapshots[0]
    assert restored_by(there.snapshots, "none") is None


@pytest.mark.parametrize(("name", "warned"), [("3", True), ("2", False), ("02", False), ("three", False)])
def test_a_name_that_becomes_the_id_of_a_later_snapshot_is_warned_of(name: str, warned: bool) -> None:
    off = domain("shut off", VDA)
    there = world(off)
    images = there.edited(put=[replace(there[VDA.source or ""], snapshots=(InternalSnapshot("1", "one"),))])
    made = plan(off, images, kind="internal-disk", name=name)
    assert [c.name for c in made.concerns if c.level == "warn" and "a later snapshot" in c.what] == [
        "name-taken" for _ in range(warned)
    ]


def on(state: State, top: Image, **asked: object) -> list[tuple[str, str]]:
    """Plan a snapshot of a guest with that image; return what speaks against it, and what helps."""
    guest = domain(state)
    made = plan(guest, forest(image("base.qcow2", writable=False), top, uses=guest.uses), **asked)
    return [(concern.name, str(concern.remedy)) for concern in made.concerns]


def test_what_helps_against_what_an_image_holds() -> None:
    bitmaps = image("top.qcow2", "base.qcow2", bitmaps=(Bitmap("b", 65536, ("auto",)),))
    remedies = dict(on("shut off", bitmaps, name="a", kind="external-disk"))
    assert "take the snapshot while the guest is running" in remedies["backup-chain"]
    assert "qemu-img bitmap --add" in remedies["backup-chain"]
    assert "backup-chain" not in dict(on("running", bitmaps, name="a", kind="external-disk"))

    apart = image("top.qcow2", "base.qcow2", data_file=Reference("/i/top.raw", "absolute", "/i/top.raw", "raw"))
    remedy = dict(on("shut off", apart, name="a", kind="external-disk"))["not-supported"]
    assert remedy == "copy it into one file first: qemu-img convert -O qcow2 /i/top.qcow2 NEW.qcow2"
    assert "not-supported" not in dict(on("shut off", image("top.qcow2", "base.qcow2"), name="a", kind="external-disk"))

    numbers = image("top.qcow2", "base.qcow2", snapshots=(InternalSnapshot("2", "b"),))
    remedy = dict(on("shut off", numbers, name="2", kind="internal-disk"))["name-taken"]
    assert remedy == "choose another name. Or use kind='external-disk'"
    assert "name-taken" not in dict(on("shut off", numbers, name="c", kind="internal-disk"))
    assert "name-taken" not in dict(on("shut off", numbers, name="2", kind="external-disk"))


def test_what_helps_where_no_disk_would_be_included() -> None:
    raw = domain("shut off", RAW)
    made = plan(raw, name="a", kind="internal-disk", disks={"vdb": "no"})
    remedies = [str(concern.remedy) for concern in made.concerns if concern.name == "not-supported"]
    assert any("name the disks" in remedy for remedy in remedies)
    assert "not-supported" not in refusals(plan(raw, name="a", kind="external-disk", disks={"vdb": "external"}))
