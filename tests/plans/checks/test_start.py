"""What speaks against a start, one thing at a time: each is refused, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import MIB, forest, image
from support.readings import reading

from vmsnap_nb.model.blockmap import Extent, LayerMap
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain, Use
from vmsnap_nb.model.image import Image, InternalSnapshot
from vmsnap_nb.model.need import Need
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.model.snapshot import MANAGED_SAVE, SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.checks.start import held_images, missing_formats, start_concerns
from vmsnap_nb.plans.journal import (
    Entry,
    InsideEntry,
    MergeEntry,
    PullEntry,
    RevertEntry,
    SnapshotEntry,
    Switch,
    UnknownEntry,
)
from vmsnap_nb.plans.merge.request import unfinished

DOMAIN = Domain("demo", "u", "shut off", True, (Disk("vda", "/i/top", "qcow2"), Disk("vdb", "/i/data", "qcow2")))
READING = replace(DOMAIN, disks=(Disk("vda", "/i/top", "qcow2", readonly=True),))
INSIDE = (InternalSnapshot("1", "s"),)
UNRECORDED = replace(image("top"), backing=Reference("low", "relative", "/i/low"))


def world(*others: Image, **changes: object) -> Forest:
    """A guest, off, on low <- top and on data; `others` take the place of these, or are there, too."""
    tree = forest(image("low"), image("top", "low"), image("data"), uses=DOMAIN.uses)
    return tree.edited(put=others, **changes)  # type: ignore[arg-type]


def said(tree: Forest, *entries: Entry | UnknownEntry, domain: Domain = DOMAIN) -> list[tuple[str, str]]:
    strangers = tuple(one for one in entries if isinstance(one, UnknownEntry))
    known = tuple(one for one in entries if not isinstance(one, UnknownEntry))
    found = start_concerns(reading(tree, domain, entries=known, strangers=strangers))
    return [(one.name, one.level) for one in found]


def other(path: str, **fields: object) -> Use:
    return Use("other", "vda", path, **fields)  # type: ignore[arg-type]


def record(guest: str, source: str, held: str = "external") -> SnapshotRecord:
    return SnapshotRecord(guest, "s", disks=(SnapshotDisk("vda", held, source, "/i/gone"),))  # type: ignore[arg-type]


def test_nothing_speaks_against_a_chain_that_is_whole() -> None:
    assert said(world()) == []


REVERT = RevertEntry(folder="/i", guest="demo", uuid="u", name="s", to="off")
COMMIT = MergeEntry(base="/i/low", top="/i/mid", merged=("/i/mid",), children=("/i/top",))


@pytest.mark.parametrize(
    ("tree", "entry"),
    [
        (world(), InsideEntry(image="/i/top", name="s", change="delete", table=0)),
        (world(), InsideEntry(image="/i/low", name="s", change="create", table=0)),
        (world(image("top", snapshots=INSIDE), image("data", snapshots=INSIDE)), REVERT),
        (world(image("mid", "low")), COMMIT),
        (world(image("mid", "low")), replace(COMMIT, top="/i/top", merged=("/i/top",), children=(), phase="ready")),
        (world(), UnknownEntry(path="/i/.vmsnap-merge-00.json", version=9, folder="/i")),
    ],
    ids=["inside", "inside below", "revert", "torn commit", "pivot", "unknown"],
)
def test_what_was_interrupted_comes_first(tree: Forest, entry: Entry | UnknownEntry) -> None:
    assert said(tree, entry) == [("active-job", "refuse")]


def test_an_interrupted_pull_counts_for_all_that_is_based_on_its_image() -> None:
    for path in ("/i/top", "/i/low"):
        assert said(world(), PullEntry(image=path, written="low")) == [("active-job", "refuse")]
    assert said(world(), PullEntry(image="/i/other", written="low")) == []


def test_what_an_interrupted_snapshot_left_above_a_disk_comes_first() -> None:
    switch = Switch(target="vda", source="/i/top", file="/i/new")
    entry = SnapshotEntry(guest="demo", uuid="u", name="s", disks=(switch,))
    tree = world(image("new", "top"))
    maps = {"/i/new": LayerMap("/i/new", 1 << 20, (Extent(0, 65536),))}
    found = start_concerns(reading(tree, DOMAIN, entries=(entry,), maps=maps))
    assert ("other-image", "refuse") in [(one.name, one.level) for one in found]
    none = start_concerns(reading(world(), DOMAIN, entries=(entry,), maps=maps))
    assert list(none) == []


def test_an_overlay_that_may_not_belong_to_its_base_is_warned_of() -> None:
    assert said(world(image("low", virtual_size=96 * MIB))) == [("smaller-size", "warn")]


def test_an_interrupted_revert_is_of_the_guest_with_that_uuid_or_name() -> None:
    tree = world(image("top", "low", snapshots=INSIDE), image("data", snapshots=INSIDE))
    refused = [("active-job", "refuse")]
    assert said(tree, replace(REVERT, guest="renamed")) == said(tree, replace(REVERT, uuid="anew")) == refused
    assert said(tree, replace(REVERT, guest="another", uuid="another")) == []


def test_a_pivot_does_not_matter_to_who_is_on_neither_image_and_a_revert_not_to_one_disk() -> None:
    assert said(world(), replace(COMMIT, base="/i/x", top="/i/y", merged=("/i/y",), phase="pivoting")) == []
    assert said(world(image("top", snapshots=INSIDE)), REVERT) == []
    assert said(world(), replace(COMMIT, phase="copied")) == []
    top = replace(COMMIT, top="/i/top", merged=("/i/top",), children=())
    assert said(world(), top) == [], "nothing but the base was written to"


def test_a_revert_counts_where_only_libvirt_says_what_is_inside() -> None:
    """The images cannot be read by this user, but libvirt has recorded a snapshot in both."""
    disks = tuple(SnapshotDisk(disk.target, "internal", disk.source) for disk in DOMAIN.disks)
    held = (SnapshotRecord("demo", "s", disks=disks),)
    closed = (image("top", status="unreadable"), image("data", status="unreadable"))
    assert ("active-job", "refuse") in said(world(*closed, records=held), REVERT)
    assert ("active-job", "refuse") not in said(world(*closed), REVERT)


def test_an_entry_counts_by_whatever_name_its_image_is_known() -> None:
    top, low = image("top", "low", identity=(1, 1)), image("low", identity=(1, 2))
    twice = world(top, low, replace(top, path="/other/top"), replace(low, path="/other/low"))
    inside = InsideEntry(image="/other/low", name="s", change="delete", table=0)
    commit = replace(COMMIT, base="/other/low")
    for entry in (inside, commit):
        assert ("active-job", "refuse") in said(twice, entry)
        [request] = unfinished(reading(twice, DOMAIN, entries=(entry,)), "demo")
        assert request.entry == entry


@pytest.mark.parametrize(
    ("holder", "refused"),
    [
        (other("/i/top", state="running"), True),
        (other("/i/top"), False),
        (other("/i/top", state="running", readonly=True), True),
        (other("/i/low", state="running"), True),
        (other("/i/low", state="running", readonly=True), False),
    ],
)
def test_who_runs_on_the_images(holder: Use, refused: bool) -> None:
    tree = world(uses=(*DOMAIN.uses, holder))
    found = [one for one in start_concerns(reading(tree, DOMAIN)) if one.name == "in-use"]
    assert [(one.level, one.waivable, one.holders) for one in found] == [("refuse", True, ("other",))] * refused


@pytest.mark.parametrize(
    ("path", "held", "refused"), [("top", "read", True), ("low", "read", False), ("low", "write", True)]
)
def test_a_process_that_has_the_images_open(path: str, held: str, refused: bool) -> None:
    below = {} if path == "low" else {"backing": "low"}
    assert said(world(image(path, **below, held=held))) == ([("in-use", "refuse")] if refused else [])  # type: ignore[arg-type]


def test_a_read_only_disk_is_shared_with_others_that_read_it() -> None:
    held = world(image("top", "low", held="read"), uses=READING.uses)
    also = world(uses=(*READING.uses, other("/i/top", state="running", readonly=True)))
    assert said(held, domain=READING) == said(also, domain=READING) == []
    written = world(image("top", "low", held="write"), uses=READING.uses)
    assert said(written, domain=READING) == [("in-use", "refuse")]


def test_a_disk_that_is_in_no_forest_has_nothing_that_speaks_against_it() -> None:
    elsewhere = replace(DOMAIN, disks=(Disk("vda", "/elsewhere/top", "qcow2"),))
    assert said(world(uses=elsewhere.uses), domain=elsewhere) == []
    assert held_images(world(uses=elsewhere.uses), "demo") == ()


def test_the_layers_that_somebody_holds_are_those_of_the_guest() -> None:
    held = world(image("low", held="write"), image("data"), image("beside", held="write"))
    assert held_images(held, "demo") == ("/i/low",)
    assert held_images(held, "other") == ()


def test_an_overlay_on_what_it_would_write_to() -> None:
    assert said(world(image("above", "top"))) == [("shared-base", "refuse")]
    assert said(world(image("above", "top", status="invalid"))) == []
    assert said(world(image("beside", "low"))) == []
    assert said(world(image("above", "top"), uses=READING.uses), domain=READING) == []


def test_a_snapshot_of_another_guest_in_what_it_would_write_to() -> None:
    assert said(world(records=(record("other", "/i/top"),))) == [("shared-base", "refuse")]
    for harmless in (record("other", "/i/low"), record("other", "/i/top", "internal"), record("demo", "/i/top")):
        assert said(world(records=(harmless,))) == []
    assert said(world(records=(record("other", "/i/top"),), uses=READING.uses), domain=READING) == []
    linked = image("top", "low", identity=(1, 2))
    twice = world(linked, replace(linked, path="/i/link"), records=(record("other", "/i/link"),))
    assert said(twice) == [("shared-base", "refuse")]
    need = Need("nvdimm", "/i/top", "other")
    assert said(world(needs=(need,))) == [("shared-base", "refuse")]
    assert said(world(needs=(need,), uses=READING.uses), domain=READING) == []


@pytest.mark.parametrize("status", ["missing", "invalid"])
def test_a_layer_of_its_saved_memory_that_is_gone(status: str) -> None:
    gone = image("old", status=status)
    need = Need("managed save", "/i/top", "demo", layers=("/i/old",))
    assert said(world(gone, needs=(need,))) == [("managed-save", "refuse")]
    [concern] = start_concerns(reading(world(gone, needs=(need,)), DOMAIN))
    assert concern.images == ("/i/old",)
    for none in (replace(need, guest="other"), replace(need, kind="saved memory")):
        assert ("managed-save", "refuse") not in said(world(gone, needs=(none,)))


def test_saved_memory_that_libvirt_cannot_read_and_would_delete() -> None:
    saved = SnapshotRecord("demo", MANAGED_SAVE, "", memory="external")
    tree = replace(world(), records=(saved,))
    assert ("managed-save", "refuse") in said(tree)
    assert ("managed-save", "refuse") in said(replace(tree, needs=(Need("managed save", "/i/top", "other"),)))
    for fine in (
        replace(tree, needs=(Need("managed save", "/i/top", "demo"),)),
        replace(tree, records=(replace(saved, guest="other"),)),
    ):
        assert ("managed-save", "refuse") not in said(fine)


def test_layers_that_its_definition_lists_otherwise_than_the_headers_do() -> None:
    need = Need("definition", "/i/top", "demo", "vda", layers=("/i/top", "/i/other", ""))
    assert [name for name, level in said(world(image("other"), needs=(need,))) if level == "refuse"] == ["other-image"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (image("low", status="missing"), ("missing-base", "refuse")),
        (image("low", status="invalid"), ("missing-base", "refuse")),
        (image("data", status="corrupt"), ("damaged-image", "refuse")),
        (image("data", status="unsupported"), ("not-supported", "refuse")),
        (image("data", "data"), ("loop", "refuse")),
        (UNRECORDED, ("backing-format-missing", "warn")),
    ],
)
def test_chains_that_it_could_not_read(changed: Image, expected: tuple[str, str]) -> None:
    assert expected in said(world(changed))


def test_a_layer_that_qemu_marked_corrupt_is_read_below_others_but_is_no_disk() -> None:
    damaged = ("damaged-image", "refuse")
    assert damaged not in said(world(image("low", status="corrupt", corrupt=True)))
    assert damaged in said(world(image("low", status="corrupt")))
    assert damaged in said(world(image("top", "low", status="corrupt", corrupt=True)))


def test_a_guest_starts_without_a_read_only_disk_that_cannot_be_opened() -> None:
    gone = world(image("low", status="missing"), uses=READING.uses)
    assert said(gone, domain=READING) == []


@pytest.mark.parametrize(
    ("format", "among", "told"), [("qcow2", True, True), ("qed", True, False), ("qcow2", False, False)]
)
def test_formats_are_missed_in_headers_of_qcow2_that_lead_to_one_of_the_images(
    format: str, among: bool, told: bool
) -> None:
    tree = world(replace(UNRECORDED, format=format))
    found = missing_formats(tree, ["/i/top", "/i/low"] if among else ["/i/top"])
    assert [one.name for one in found] == ["backing-format-missing"] * told
