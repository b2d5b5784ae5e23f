"""Who else may need what a plan changes: what is not known of disks, folders, references and names is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from support.forests import forest, image
from support.merges import commit

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.reference import parse_reference
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.checks.access import on_other_machine, unresolved
from vmsnap_nb.plans.concern import refuse, remark
from vmsnap_nb.plans.journal import MergeEntry
from vmsnap_nb.plans.merge.steps import MarkInvalid, RemoveFile
from vmsnap_nb.words.message import t

OTHER = Use("other", "vdb", "/other/disk")


def world(*others: Image, uses: tuple[Use, ...] = ()) -> Forest:
    return forest(image("base"), image("top", "base"), image("leaf", "top"), *others, uses=uses)


def found(tree: Forest, *, here: bool = True) -> list[tuple[str, ...]]:
    """What a merge of top into base is refused for; each can be waived, and none where nothing is changed."""
    plan = replace(commit(world(), "/i/top"), before=tree, concerns=())
    concerns = list(unresolved(plan, here=here))
    assert {(one.name, one.level, one.waivable) for one in concerns} <= {("unknown-image", "refuse", True)}
    nothing = replace(plan, steps=())
    assert list(unresolved(replace(nothing, after=tree), here=here)) == []
    return [one.holders or one.images[-1:] for one in concerns]


def test_a_merge_whose_users_are_all_known_is_in_order() -> None:
    assert found(world(image("beside", "base"), image("/other/disk"), uses=(OTHER,))) == []


def test_a_disk_whose_file_libvirt_does_not_report_may_be_what_changes() -> None:
    assert found(world(uses=(replace(OTHER, volume="v in pool p"),))) == [("other",)]


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"status": "unreadable", "format": None}, True),
        ({"status": "outside", "format": "qcow2"}, True),
        ({"status": "outside", "format": "raw"}, False),
        ({"status": "unreadable", "backing": "/other/base"}, False),
        ({"status": "missing", "format": None}, False),
        ({}, False),
    ],
)
def test_a_disk_of_which_nobody_knows_on_what_it_is_based(fields: Mapping[str, object], refused: bool) -> None:
    disk = image("/other/disk", **fields)  # type: ignore[arg-type]
    assert found(world(disk, uses=(OTHER,))) == ([("other",)] if refused else [])
    two = (OTHER, replace(OTHER, guest="more"))
    assert found(world(disk, uses=two)) == ([("other", "more")] if refused else [])


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"status": "unreadable"}, True),
        ({"status": "ok"}, False),
        ({"status": "unreadable", "known_from": "volume"}, False),
    ],
)
def test_a_folder_that_cannot_be_listed_may_hold_overlays(fields: Mapping[str, object], refused: bool) -> None:
    folder = image("/i", format=None, **fields)
    assert (("/i/top",) in [one[-1:] for one in found(world(folder))]) is refused
    assert found(world(replace(folder, path="/elsewhere"))) == []


@pytest.mark.parametrize(
    ("fields", "hides", "hides_there"),
    [
        ({"status": "unreadable", "format": None, "identity": (1, 9)}, True, True),
        ({"status": "outside", "format": None, "identity": (1, 9)}, True, True),
        ({"status": "outside", "format": "vmdk", "identity": (1, 9)}, True, True),
        ({"status": "unreadable", "format": "vmdk", "identity": (1, 9)}, False, True),
        ({"status": "outside", "format": "raw", "identity": (1, 9)}, False, False),
        ({"status": "unreadable", "format": None}, False, True),  # a folder has no identity
        ({"status": "ok", "format": None, "identity": (1, 9)}, False, False),
        ({"status": "missing", "format": None, "identity": (1, 9)}, False, False),
        ({"status": "unreadable", "format": None, "identity": (1, 9), "device": True}, False, False),
        ({"status": "unreadable", "format": None, "identity": (1, 9), "backing": "/other/base"}, False, False),
        ({"status": "unreadable", "format": None, "known_from": "definition"}, True, True),
        ({"status": "unreadable", "format": None, "known_from": "volume"}, False, True),
        ({"status": "unreadable", "format": "raw", "known_from": "definition"}, False, False),
    ],
)
def test_a_file_that_was_not_read_may_be_an_overlay(
    fields: Mapping[str, object], hides: bool, hides_there: bool
) -> None:
    tree = world(image("/other/file", **fields))  # type: ignore[arg-type]
    assert found(tree) == ([("/other/file",)] if hides else [])
    assert found(tree, here=False) == ([("/other/file",)] if hides_there else [])
    if hides:
        taken = [image("/other/above", "/other/file", backing_format=format) for format in ("raw", "qcow2")]
        assert found(tree.edited(put=taken[:1])) == [], "its overlay takes it for raw, which is based on nothing"
        assert found(tree.edited(put=taken[1:])) == found(tree)


def test_what_is_below_what_changes_is_no_overlay_of_it() -> None:
    unread = image("base", status="unreadable", format=None, identity=(1, 9))
    assert found(world(unread)) == []
    linked = replace(unread, path="/other/link")
    assert found(world(unread, linked)) == []


@pytest.mark.parametrize(
    ("source", "refused"), [("pool/top", True), ("pool/base", True), ("pool/other", False), ("/x/top", False)]
)
def test_a_snapshot_on_a_volume_that_is_not_reported_may_need_what_changes(source: str, refused: bool) -> None:
    record = SnapshotRecord("other", "s", disks=(SnapshotDisk("vda", "external", source, "/x/above"),))
    assert found(world().edited(records=[record])) == ([("other",)] if refused else [])


@pytest.mark.parametrize(("named", "refused"), [("base", True), ("other", False)])
def test_a_reference_that_only_qemu_resolves_may_lead_to_what_changes(named: str, refused: bool) -> None:
    reference = parse_reference(f"blkdebug::{named}", folder="/i", format=None)
    assert not reference.is_certain
    assert found(world(replace(image("/other/x"), backing=reference))) == ([("/other/x",)] if refused else [])


@pytest.mark.parametrize(
    ("fields", "refused"),
    [({}, True), ({"virtual_size": 7}, False), ({"format": "raw"}, False), ({"mtime_ns": 7}, False)],
)
def test_another_path_may_lead_to_what_changes_where_only_libvirt_knows(
    fields: Mapping[str, object], refused: bool
) -> None:
    seen = {"known_from": "volume", "mtime_ns": 1, "file_size": 1}
    tree = world().edited(put=[image("base", **seen), image("/link/base", **{**seen, **fields})])
    assert found(tree) == [], "nobody needs it"
    needed = tree.edited(put=[image("/link/above", "/link/base", **seen)])
    assert found(needed) == ([("/link/base",)] if refused else [])
    used = tree.edited(uses=(Use("other", "vda", "/link/base", readonly=True),))
    assert found(used) == ([("other",)] if refused else [])


def test_a_libvirt_of_another_machine_may_have_other_files_under_these_paths() -> None:
    plan = commit(world(), "/i/top")
    [concern] = on_other_machine(plan, "box", "container")
    assert (concern.name, concern.level, concern.waivable) == ("unknown-image", "refuse", True)
    assert "/i/base" in concern.images
    assert list(on_other_machine(replace(plan, steps=()), "box", "container")) == []


def told(tree: Forest, *, here: bool = True) -> list[tuple[str, str]]:
    plan = replace(commit(world(), "/i/top"), before=tree, concerns=())
    return [(str(one.what), str(one.remedy)) for one in unresolved(plan, here=here)]


def test_what_can_be_done_about_a_disk_depends_on_who_could_read_it() -> None:
    disk = image("/other/disk", status="unreadable", format=None, problem="not mounted")
    ((what, remedy),) = told(world(disk, uses=(OTHER,)))
    assert what.startswith("disk vdb of other is /other/disk")
    assert "mount its file system" in remedy
    assert "so that libvirt reads the image" in told(world(disk, uses=(OTHER,)), here=False)[0][1]
    known = replace(disk, known_from="definition")
    assert "so that libvirt reads the image" in told(world(known, uses=(OTHER,)))[0][1]
    ((what, _),) = told(world(disk, uses=(OTHER, replace(OTHER, guest="more"))))
    assert what.startswith("2 disks")
    assert "other (vdb), more (vdb)" in what


@pytest.mark.parametrize(
    ("fields", "here", "remedy"),
    [
        ({"status": "outside"}, True, "also read its folder"),
        ({"status": "unreadable"}, True, "use an account that can read it"),
        ({"status": "outside", "known_from": "definition"}, True, "so that libvirt reads the image"),
        ({"status": "outside"}, False, "so that libvirt reads the image"),
    ],
)
def test_what_can_be_done_about_a_file_depends_on_why_it_was_not_read(
    fields: Mapping[str, object], here: bool, remedy: str
) -> None:
    tree = world(image("/other/file", format=None, identity=(1, 9), **fields))  # type: ignore[arg-type]
    assert [remedy in one for _, one in told(tree, here=here)] == [True]


def test_files_that_are_removed_or_marked_count_as_changed() -> None:
    hidden = image("/other/file", status="outside", format=None, identity=(1, 9))
    tree = world(hidden)
    for step in (RemoveFile(path="/i/leaf"), MarkInvalid(path="/i/leaf", into="/i/top")):
        plan = replace(commit(world(), "/i/top"), before=tree, concerns=(), steps=(step,))
        assert [one.images for one in unresolved(plan)] == [("/i/leaf", "/other/file")]


def test_an_entry_for_which_the_plan_is_refused_is_no_overlay_as_well() -> None:
    entry = f"/i/{MergeEntry(base='/i/x', top='/i/y', merged=('/i/y',), children=()).path.rpartition('/')[2]}"
    tree = world(image(entry, status="unreadable", format=None, identity=(1, 9)))
    plan = replace(commit(world(), "/i/top"), before=tree, concerns=())
    for concern, hides in (
        (refuse("active-job", t("x"), t("y"), images=(entry,)), False),
        (remark("active-job", t("x"), t("y"), images=(entry,)), True),
        (refuse("active-job", t("x"), t("y"), images=("/i/base",)), True),
    ):
        assert bool(list(unresolved(replace(plan, concerns=(concern,))))) is hides
    other = world(image("/other/file", status="outside", format=None, identity=(1, 9)))
    named = refuse("active-job", t("x"), t("y"), images=("/other/file",))
    assert list(unresolved(replace(plan, before=other, concerns=(named,)))), "it is none of ours"


def test_a_data_file_that_only_qemu_finds_may_be_what_changes() -> None:
    reference = parse_reference("blkdebug::base", folder="/i", format=None)
    assert found(world(replace(image("/other/x"), data_file=reference))) == [("/other/x",)]
    below = replace(image("base"), backing=reference)
    assert found(world().edited(put=[below])) == [], "it is below what changes"


def test_a_file_taken_for_raw_that_is_an_overlay_of_what_changes() -> None:
    base = image("base", identity=(1, 2))
    taken = image("/other/raw", format="raw", hidden_base=(1, 2), problem="its content is a qcow2 header")
    assert found(world(taken).edited(put=[base])) == [("/other/raw",)]
    assert found(world(replace(taken, hidden_base=(1, 3))).edited(put=[base])) == []
