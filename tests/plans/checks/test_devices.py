"""What a guest's definition says of its devices: which of them keep a snapshot from being taken, without a machine."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.snapshots import RAW, UUID, VDA, domain, plan, record, refusals, save, world

from vmsnap_nb.model.guest import State
from vmsnap_nb.model.reference import parse_reference
from vmsnap_nb.plans.plan import Plan


def xml(*devices: str, beside: str = "") -> str:
    return f"<domain><devices>{''.join(devices)}</devices>{beside}</domain>"


def disk(target: str, more: str = "", **attributes: str) -> str:
    given = "".join(f" {name}='{value}'" for name, value in {"type": "file", "device": "disk", **attributes}.items())
    return f"<disk{given}><target dev='{target}'/>{more}</disk>"


def of(made: Plan, words: str) -> list[tuple[str, bool]]:
    return [(concern.level, concern.waivable) for concern in made.concerns if words in concern.what]


PART = "<slices><slice type='storage' offset='4096' size='8192'/></slices>"
REFUSED, PERHAPS, WARNED = [("refuse", False)], [("refuse", True)], [("warn", False)]


@pytest.mark.parametrize(
    ("definition", "words", "level"),
    [
        (xml("<filesystem><driver type='virtiofs'/><target dir='x'/></filesystem>"), "folder x (virtiofs)", REFUSED),
        (xml("<filesystem><target dir='x'/></filesystem>"), "has the host folder x mounted", WARNED),
        (xml("<shmem name='mine' role='peer'/>"), "shared memory mine", REFUSED),
        (xml("<shmem name='mine'/>"), "shared memory mine", REFUSED),
        (xml("<shmem name='mine' role='master'/>"), "shared memory mine", []),
        (xml("<interface type='vdpa'/>"), "a vdpa network device", REFUSED),
        (xml("<interface type='network'/>"), "network device", []),
        (xml(disk("vdb", "<transient/>")), "the transient disk vdb", REFUSED),
        (xml("<hostdev type='pci'/>"), "a host PCI device", PERHAPS),
        (xml("<tpm><backend type='passthrough'/></tpm>"), "the host's TPM", PERHAPS),
        (xml(beside="<cpu><feature name='invtsc' policy='require'/></cpu>"), "feature invtsc", PERHAPS),
        (xml(beside="<cpu><feature name='invtsc' policy='disable'/></cpu>"), "feature invtsc", []),
    ],
)
def test_memory_that_qemu_cannot_write_out_is_not_asked_for(
    definition: str, words: str, level: list[tuple[str, bool]]
) -> None:
    facts = {"xml": definition}
    running = domain("running", VDA)
    for made in (
        plan(running, facts=facts, kind="internal-checkpoint"),
        plan(running, facts=facts, kind="external-checkpoint"),
        save(running, **facts),
    ):
        assert of(made, words) == level
    assert of(plan(running, facts=facts, kind="external-disk"), "cannot save the memory") == []
    assert of(plan(domain("shut off", VDA), facts=facts), "cannot save the memory") == []


@pytest.mark.parametrize("format", ["parallels", "qcow", "vdi", "vhdx", "vmdk", "vpc", "raw"])
def test_memory_is_not_saved_above_an_image_of_these_formats(format: str) -> None:
    running = domain("running", VDA)
    images = world(running)
    images = images.edited(put=[replace(images["/i/base.qcow2"], format=format)])
    made = plan(running, images, kind="external-checkpoint")
    assert of(made, f"/i/base.qcow2 has the format {format}") == (REFUSED if format != "raw" else [])
    assert of(plan(running, images, kind="external-disk"), "has the format") == []


@pytest.mark.parametrize(
    ("state", "vdb", "words"),
    [
        ("running", disk("vdb", "<transient/>"), "vdb is transient"),
        ("shut off", disk("vdb", "<transient/>"), ""),
        ("running", disk("vdb", "<shareable/>"), "vdb is shareable"),
        ("shut off", disk("vdb", "<shareable/>"), "vdb is shareable"),
        ("shut off", disk("vdb", type="network"), "vdb is on the network"),
        ("running", disk("vdb", type="network"), ""),
        ("shut off", disk("vdb", device="lun", type="block"), "vdb is a SCSI device"),
        ("running", disk("vdb", type="vhostuser"), "vdb is a vhost-user device"),
        ("running", disk("vdb", "<readonly/><shareable/>"), ""),
        ("shut off", disk("vdb", f"<source>{PART}</source>"), "vdb of demo uses only part of a file (<slices>). An"),
        ("running", disk("vdb", f"<source>{PART}</source>"), "It would not be possible to revert to the snapshot or"),
        ("running", disk("vdb"), ""),
    ],
)
def test_a_disk_that_can_have_no_overlay_is_refused_only_where_it_would_get_one(
    state: State, vdb: str, words: str
) -> None:
    facts = {"xml": xml(disk("vda"), vdb)}
    guest = domain(state, VDA, RAW)
    asked = plan(guest, facts=facts, kind="external-disk", disks={"vda": "external", "vdb": "/i/new.qcow2"})
    assert refusals(asked) == (["not-supported"] if words else [])
    assert of(asked, words or "vdb ") == (REFUSED if words else [])
    out = plan(guest, facts=facts, kind="external-disk", disks={"vda": "external", "vdb": "no"})
    assert refusals(out) == []


@pytest.mark.parametrize(("state", "refused"), [("shut off", ["not-supported"]), ("running", [])])
def test_an_internal_snapshot_of_a_network_disk_needs_a_guest_that_runs(state: State, refused: list[str]) -> None:
    kind = "internal-checkpoint" if state == "running" else "internal-disk"
    made = plan(domain(state, VDA), facts={"xml": xml(disk("vda", type="network"))}, kind=kind)
    assert refusals(made) == refused
    assert of(made, "vda is on the network") == (REFUSED if refused else [])


@pytest.mark.parametrize(
    ("state", "offset", "refused"), [("running", 4096, False), ("running", 0, True), ("shut off", 4096, True)]
)
def test_a_part_of_a_file_below_the_image_is_no_obstacle_where_the_headers_name_it_too(
    state: State, offset: int, refused: bool
) -> None:
    guest = domain(state, VDA)
    below = f"<backingStore type='file'><format type='raw'/><source file='/i/base.qcow2'>{PART}</source></backingStore>"
    facts = {"xml": xml(disk("vda", f"<source file='/i/top.qcow2'/>{below}"))}
    options = {"driver": "raw", "offset": offset, "size": 8192, "file": {"driver": "file", "filename": "/i/base.qcow2"}}
    before = world(guest)
    backing = parse_reference("json:" + json.dumps(options), folder="/i", format="raw")
    before = before.edited(put=[replace(before["/i/top.qcow2"], backing=backing)])
    words = of(plan(guest, before, facts, kind="external-disk"), "uses only part of a file")
    assert words == (REFUSED if refused else [])


@pytest.mark.parametrize(("kind", "with_memory"), [("external-disk", False), ("external-checkpoint", True)])
def test_the_state_of_a_tpm_is_said_to_be_in_the_memory_alone(kind: str, with_memory: bool) -> None:
    facts = {"xml": xml("<tpm><backend type='emulator'/></tpm>")}
    [said] = [one for one in plan(domain("running", VDA), facts=facts, kind=kind).concerns if "TPM" in one.what]
    assert said.level == "note"
    assert said.what.startswith("the snapshot includes" if with_memory else "the snapshot does not include")
    assert (f"/swtpm/{UUID}" in said.what) is not with_memory
    none = plan(domain("running", VDA), facts={"xml": xml()}, kind=kind)
    assert of(none, "TPM") == []


@pytest.mark.parametrize(
    ("parent", "asked", "told"),
    [
        ("internal", {"kind": "external-disk"}, True),
        ("internal", {"kind": "external-disk", "metadata": False}, False),
        ("internal", {"kind": "internal-disk"}, False),
        ("external", {"kind": "external-disk"}, False),
    ],
)
def test_an_internal_parent_of_an_external_snapshot_is_told(parent: str, asked: dict[str, object], told: bool) -> None:
    guest = domain("shut off", VDA)
    records = record("first"), record("current", parent, current=True)
    made = plan(guest, world(guest, *records), **asked)
    assert of(made, "the parent will be the internal snapshot current") == ([("note", False)] if told else [])
    another = replace(records[1], guest="another")
    assert of(plan(guest, world(guest, records[0], another), **asked), "the parent will be") == []
