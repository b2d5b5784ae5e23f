"""Checks of what needs an image besides disks and overlays, on made-up forests."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import forest, image

from vmsnap_nb.model import need as needs
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.need import Need
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.checks.needed import beyond, needed, other_chains, written_by
from vmsnap_nb.words.message import t

KINDS = {
    "managed save": None,
    "saved memory": "virsh restore '/save me'",
    "next start": "virsh edit web",
    "block job": "virsh blockjob web '/save me' --abort",
    "firmware": "virsh edit web",
    "boot": "virsh edit web",
    "nvdimm": "virsh edit web",
    "named": "virsh edit web",
    "definition": "virsh edit web",
    "data": "qemu-img convert -f raw -O qcow2 /i/base NEW.qcow2",
    "snapshot": "delete_snapshot('/save me')",
}
"""Each kind of need but disks and overlays, and what its remedy names."""


def tree(*found: Need, **fields: object) -> Forest:
    """Return a chain of two images, of which something needs the base."""
    return forest(image("base", **fields), image("top", "base")).edited(needs=found)


def need(kind: str, path: str = "/i/base", guest: str = "web", name: str = "/save me", **fields: object) -> Need:
    return Need(kind, path, guest, name, **fields)  # type: ignore[arg-type]


def test_every_kind_of_need_is_tried_here() -> None:
    with open(needs.__file__, encoding="utf-8") as source:
        listed = source.read().partition("NeedKind = Literal[")[2].partition("]")[0]
    assert {line.split('"')[1] for line in listed.splitlines() if '"' in line} == {*KINDS, "disk", "overlay"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_changes_or_goes_is_refused_with_what_needs_it(kind: str) -> None:
    there = tree(need(kind))
    if kind == "snapshot":
        disk = SnapshotDisk("vda", "external", "/i/base", "/i/top")
        there = there.edited(records=[SnapshotRecord("web", "/save me", disks=(disk,))])
    for given, why in (
        ({"changed": ("/i/base",)}, t("the content of that image would change")),
        ({"lost": ("/i/base",)}, t("that image would no longer be valid")),
    ):
        (found,) = needed(there, **given)
        assert (found.name, found.level, found.waivable) == ("state-lost", "refuse", True)
        assert (found.images, found.holders) == (("/i/base",), ("web",))
        assert found.what.endswith(f": {why}")
        assert "/i/base" in found.what
        assert (KINDS[kind] or "start web") in found.remedy
    assert list(needed(there, changed=("/i/top",), lost=("/i/other",))) == []


def test_what_is_lost_is_not_said_to_change_as_well() -> None:
    (found,) = needed(tree(need("firmware")), changed=("/i/base",), lost=("/i/base",))
    assert found.what.endswith(t("that image would no longer be valid"))


def test_a_disk_and_the_disk_itself_in_a_definition_have_checks_of_their_own() -> None:
    itself = need("definition", layers=("/i/base", ""))
    for one in (need("disk"), itself):
        assert list(needed(tree(one), changed=("/i/base",), lost=())) == []
    below = need("definition", layers=("/i/top", "/i/base"))
    assert [found.name for found in needed(tree(below), changed=("/i/base",))] == ["state-lost"]


@pytest.mark.parametrize("kind", ["snapshot", "block job"])
def test_snapshots_and_jobs_of_the_guest_whose_chain_is_merged_change_with_it(kind: str) -> None:
    there = tree(need(kind))
    assert list(needed(there, lost=("/i/base",), own="web")) == []
    assert [found.name for found in needed(there, lost=("/i/base",), own="other")] == ["state-lost"]


def test_the_managed_save_of_the_guest_itself_has_a_name_of_its_own() -> None:
    there = tree(need("managed save"))
    assert [found.name for found in needed(there, changed=("/i/base",), own="web")] == ["managed-save"]
    assert [found.name for found in needed(there, changed=("/i/base",), own="other")] == ["state-lost"]
    assert [found.name for found in needed(tree(need("firmware")), changed=("/i/base",), own="web")] == ["state-lost"]


def test_an_overlay_of_a_snapshot_may_change_but_not_go() -> None:
    disk = SnapshotDisk("vda", "external", "/i/base", "/i/top")
    record = SnapshotRecord("web", "/save me", disks=(disk,))
    there = tree(need("snapshot", "/i/top")).edited(records=[record])
    assert list(needed(there, changed=("/i/top",))) == []
    assert [found.images for found in needed(there, lost=("/i/top",))] == [("/i/top",)]


@pytest.mark.parametrize(
    "record",
    [
        SnapshotRecord("web", "/save me", disks=(SnapshotDisk("vda", "external", "/i/base"),)),
        SnapshotRecord("web", "/save me", also=("/i/base",)),
    ],
)
def test_what_a_snapshot_goes_back_to_must_not_change(record: SnapshotRecord) -> None:
    there = tree(need("snapshot"))
    assert [found.name for found in needed(there.edited(records=[record]), changed=("/i/base",))] == ["state-lost"]
    inside = replace(record, disks=(SnapshotDisk("vda", "internal", "/i/base"),), also=())
    assert list(needed(there.edited(records=[inside]), changed=("/i/base",))) == []
    for other in (replace(record, guest="other"), replace(record, name="other")):
        (found,) = needed(there.edited(records=[other]), changed=("/i/base",))
        assert "other" in found.what


def test_only_saved_memory_needs_the_time_of_an_image_that_keeps_its_content() -> None:
    found = [need(kind) for kind in KINDS]
    (concern,) = needed(tree(*found), written=("/i/base", "/i/base"))
    assert (concern.name, concern.images, concern.waivable) == ("state-lost", ("/i/base",), True)
    assert "virsh restore" in concern.remedy
    assert list(needed(tree(*found), written=("/i/top",))) == []


@pytest.mark.parametrize("given", [{"lost": ("/i/base",)}, {"changed": ("/i/base",)}])
def test_saved_memory_is_named_once(given: dict[str, tuple[str]]) -> None:
    assert len(list(needed(tree(need("saved memory")), written=("/i/base",), **given))) == 1


def test_saved_memory_does_not_mind_a_write_to_a_layer_below_or_above() -> None:
    same = forest(image("base", identity=(1, 1)), image("link", identity=(1, 1)), image("top", "base"))
    there = same.edited(needs=[need("saved memory", "/i/link")])
    assert [found.name for found in needed(there, written=("/i/base",))] == ["state-lost"]
    assert list(needed(there, written=("/i/top",))) == []
    assert list(needed(same.edited(needs=[need("saved memory", "/i/top")]), written=("/i/base",))) == []


@pytest.mark.parametrize(
    ("kind", "names"),
    [("snapshot", False), ("next start", False), ("block job", False)]
    + [(kind, True) for kind in KINDS if kind not in {"snapshot", "next start", "block job"}],
)
def test_a_guest_that_starts_must_not_write_to_what_others_need(kind: str, names: bool) -> None:
    found = list(written_by(tree(need(kind)), "db", "/i/base"))
    assert [(one.name, one.images, one.holders, one.waivable) for one in found] == (
        [("shared-base", ("/i/base",), ("web",), True)] if names else []
    )
    own = list(written_by(tree(need(kind)), "web", "/i/base"))
    assert [one.name for one in own] == (["shared-base"] if kind == "data" else [])


def test_data_of_an_image_that_no_guest_has_names_nobody() -> None:
    (found,) = written_by(tree(need("data", guest="", name="/i/q")), "db", "/i/base")
    assert found.holders == ()
    (other,) = needed(tree(need("data", guest="", name="/i/q")), changed=("/i/base",))
    assert "of the image /i/q" in found.what
    assert "of the image /i/q" in other.what
    (of_guest,) = needed(tree(need("data", name="vda")), changed=("/i/base",))
    assert "of disk vda of web" in of_guest.what


def test_a_definition_that_lists_only_the_disk_itself_does_not_hinder_a_start() -> None:
    assert list(written_by(tree(need("definition", layers=("/i/base", ""))), "db", "/i/base")) == []
    below = need("definition", layers=("/i/top", "/i/base"))
    assert [found.name for found in written_by(tree(below), "db", "/i/base")] == ["shared-base"]
    named = need("named", layers=("/i/base", ""))
    assert [found.name for found in written_by(tree(named), "db", "/i/base")] == ["shared-base"]


def test_what_is_beyond_disks_and_snapshots() -> None:
    found = [need(kind) for kind in (*KINDS, "disk")]
    kinds = {one.kind for one in beyond(tree(*found), "/i/base")}
    assert kinds == set(KINDS) - {"snapshot"}


def test_a_chain_that_libvirt_lists_otherwise_is_refused_with_both_ways_out() -> None:
    listed = need("definition", "/i/other", name="vda", layers=("/i/top", "/i/other"))
    there = forest(image("base"), image("top", "base"), image("other", format="raw")).edited(needs=[listed])
    (found,) = other_chains(there, "web", ["vda"])
    assert (found.name, found.level, found.waivable) == ("other-image", "refuse", False)
    assert (found.images, found.holders) == (("/i/top",), ("web",))
    assert "virsh edit web" in found.remedy
    assert "qemu-img rebase -u -F raw -b /i/other /i/top" in found.remedy
    assert list(other_chains(there, "web", ["vdb"])) == list(other_chains(there, "db", ["vda"])) == []


def test_the_header_that_is_to_be_written_is_the_first_that_differs() -> None:
    listed = need("definition", "/i/other", name="vda", layers=("/i/top", "/i/base", "/i/other"))
    there = forest(image("base"), image("top", "base")).edited(needs=[listed])
    (found,) = other_chains(there, "web", ["vda"])
    assert "qemu-img rebase -u -F FORMAT -b /i/other /i/base" in found.remedy


def test_where_the_headers_go_on_below_the_list_no_header_is_to_be_written() -> None:
    listed = need("definition", "/i/middle", name="vda", layers=("/i/top", "/i/middle", ""))
    there = forest(image("base"), image("middle", "base"), image("top", "middle")).edited(needs=[listed])
    (found,) = other_chains(there, "web", ["vda"])
    assert "virsh edit web" in found.remedy
    assert "rebase" not in found.remedy


def test_a_list_that_ends_at_once_is_said_to_hide_what_the_headers_name() -> None:
    ended = need("definition", "/i/top", name="vda", layers=("/i/top", ""))
    (found,) = other_chains(tree(ended), "web", ["vda"])
    assert (found.name, found.images, found.holders) == ("other-image", ("/i/top",), ("web",))
    assert "web does not read /i/base" in found.what
    assert "rebase" not in found.remedy
    assert list(other_chains(tree(ended), "web", [])) == []
    others = (need("named", "/i/top", name="vda", layers=("/i/top", "")), need("definition", "/i/top", name="vda"))
    for other in others:
        assert list(other_chains(tree(other), "web", ["vda"])) == []
