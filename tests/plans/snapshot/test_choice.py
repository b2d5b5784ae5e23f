"""What is chosen where nothing was said: kind, name, overlays, and the disks that are left out."""

from __future__ import annotations

import pytest
from support.forests import forest, image
from support.snapshots import RAW, VDA, domain, plan, record, refusals, step_of, world

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain, State, Use
from vmsnap_nb.model.snapshot import Kind

CDROM = Disk("sda", "/i/tools.iso", "raw", device="cdrom", readonly=True)


@pytest.mark.parametrize(
    ("state", "disks", "request_", "kind", "why"),
    [
        ("shut off", (VDA,), {}, "internal-disk", "off"),
        ("shut off", (VDA, CDROM), {}, "internal-disk", "off"),
        ("running", (VDA,), {}, "internal-checkpoint", "running"),
        ("paused", (VDA,), {}, "internal-checkpoint", "paused"),
        ("running", (VDA, RAW), {}, "external-disk", "vdb is raw"),
        ("shut off", (VDA, RAW), {}, "external-disk", "vdb is raw"),
        ("shut off", (VDA, RAW), {"disks": {"vdb": "no"}}, "external-disk", "vdb is left out"),
        ("running", (VDA,), {"memory_file": "/i/m"}, "external-checkpoint", "memory file"),
        ("running", (VDA,), {"quiesce": True}, "external-disk", "quiesce"),
        ("running", (VDA,), {"disks": {"vda": "external"}}, "external-disk", "external"),
        ("running", (VDA,), {"disks": {"vda": "/i/x.qcow2"}}, "external-disk", "external"),
        ("running", (VDA,), {"reuse": True}, "external-disk", "reused"),
    ],
)
def test_the_kind_follows_from_state_and_disks_and_is_explained(
    state: State, disks: tuple[Disk, ...], request_: dict[str, object], kind: Kind, why: str
) -> None:
    made = plan(domain(state, *disks), facts={"agent": True}, **request_)
    assert step_of(made).kind == kind
    assert made.way.startswith(f"{kind}, because ")
    assert why in made.way


def test_uefi_firmware_is_a_reason_for_an_external_one() -> None:
    made = plan(domain("running"), facts={"pflash": True})
    assert step_of(made).kind == "external-disk"
    assert "UEFI" in made.way
    asked = plan(domain("running"), facts={"pflash": True}, kind="internal-checkpoint")
    assert refusals(asked) == ["not-supported"]


def test_names_are_the_first_free_ones() -> None:
    guest = domain()
    assert step_of(plan(guest)).name == "snap1"
    assert step_of(plan(guest, world(guest, record("snap1"), tags=("snap1", "snap2")))).name == "snap3"
    before = world(guest).edited(put=[image("top.snap1.qcow2", "top.qcow2")])
    assert step_of(plan(guest, before, kind="external-disk")).name == "snap2"
    named = plan(guest, before, kind="external-disk", disks={"vda": "/i/top.snap1.qcow2"})
    assert (step_of(named).name, refusals(named)) == ("snap1", ["file-exists"])


def test_overlays_are_called_after_image_and_snapshot_and_do_not_grow() -> None:
    guest = domain("shut off", Disk("vda", "/i/top.snap1.qcow2", "qcow2"), Disk("vdb", "/j/data.img", "raw"))
    before = world(guest, record("snap1", "external"))
    assert step_of(plan(guest, before)).overlays == ("/i/top.snap2.qcow2", "/j/data.snap2.qcow2")
    same = domain("shut off", Disk("vda", "/i/d.qcow2", "qcow2"), Disk("vdb", "/i/d.img", "raw"))
    assert step_of(plan(same, name="a")).overlays == ("/i/d.a.vda.qcow2", "/i/d.a.vdb.qcow2")
    checkpoint = plan(domain("running"), kind="external-checkpoint", name="a")
    assert checkpoint.creates == ("/i/top.a.qcow2", "/i/top.a.mem")


def test_a_name_without_a_folder_goes_beside_the_image_of_its_disk() -> None:
    guest = domain("shut off", VDA, Disk("vdb", "/j/data.img", "raw"))
    made = plan(guest, disks={"vda": "new.qcow2", "vdb": "..new"})
    assert step_of(made).overlays == ("/i/new.qcow2", "/j/..new")


def test_disks_that_are_not_named_are_left_out() -> None:
    guest = domain("shut off", VDA, RAW)
    assert [disk.held for disk in step_of(plan(guest, disks=("vdb",))).disks] == ["no", "external"]
    with pytest.raises(InvalidRequestError, match="choose one of its disks: vda, vdb"):
        plan(guest, disks=("vda", "vdq"))


def overlay_named(before: Forest, guest: Domain, name: str) -> str:
    [path] = step_of(plan(guest, before, name=name, kind="external-disk")).overlays
    return path


def test_names_of_overlays_do_not_grow_once_the_records_are_gone() -> None:
    """As after a revert to a snapshot that was deleted then: the guest goes on with top.a-2."""
    guest = domain("shut off", Disk("vda", "/i/top.a-2.qcow2", "qcow2"))
    layers = image("top.qcow2"), image("top.a.qcow2", "top.qcow2"), image("top.a-2.qcow2", "top.a.qcow2")
    alone = forest(*layers, uses=guest.uses)
    assert overlay_named(alone, guest, "b") == "/i/top.b.qcow2"
    assert overlay_named(alone, guest, "a") == "/i/top.a-2.a.qcow2"  # and not that of a layer below
    # What others stand on, or what is protected, is no layer of this guest alone.
    shared = forest(*layers, uses=(*guest.uses, Use("other", "vda", "/i/top.qcow2", "shut off")))
    assert overlay_named(shared, guest, "b") == "/i/top.a-2.b.qcow2"
    template = forest(image("top.qcow2", writable=False), *layers[1:], uses=guest.uses)
    assert overlay_named(template, guest, "b") == "/i/top.a-2.b.qcow2"


def test_a_disk_that_is_no_image_is_not_an_empty_drive() -> None:
    guest = domain("shut off", VDA, Disk("vdb", None, "raw"))  # as NVMe devices and vhost-user disks
    assert plan(guest).concerns[0].level != "refuse"
    inside = [concern for concern in plan(guest, kind="internal-disk").concerns if concern.level == "refuse"]
    assert ["vdb would be left out (it is raw" in concern.what for concern in inside] == [True]
    said = [(c.level, c.what) for c in plan(guest, kind="external-disk").concerns if "disk vdb" in c.what]
    assert [level for level, _ in said] == ["warn"]


def test_disks_are_left_out_with_the_reason() -> None:
    guest = domain("shut off", VDA, RAW, CDROM, Disk("sdb", None, device="cdrom"), Disk("vdc", "nbd://h/x", "raw"))
    made = plan(guest, kind="internal-disk")
    assert {d.target: d.held for d in step_of(made).disks} == {
        "vda": "internal",
        "vdb": "no",
        "sda": "no",
        "sdb": "no",
        "vdc": "no",
    }
    assert {
        (c.level, c.what.fields.get("disk") or c.what.fields["disks"].partition(" ")[0]) for c in made.concerns
    } == {
        ("refuse", "vdb"),  # libvirt takes internal snapshots of all disks or none
        ("note", "sda"),
        ("note", "sdb"),
    }
    external = plan(guest, kind="external-disk")
    said = {(c.level, c.what.fields["disk"]) for c in external.concerns}
    assert said == {("warn", "vdc"), ("note", "sda"), ("note", "sdb")}
    assert [d.target for d in step_of(external).disks if d.held == "external"] == ["vda", "vdb"]
    assert "no default path" in next(c.what for c in external.concerns if c.what.startswith("disk vdc"))
    asked = plan(guest, disks={"vdb": "no", "vdc": "no"})
    assert {c.level for c in asked.concerns} == {"note"}
    assert not plan(domain("shut off", VDA, CDROM), kind="internal-disk").refused
