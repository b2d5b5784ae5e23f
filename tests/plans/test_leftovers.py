"""What nothing needs: found with all that is based on it, and refused wherever something may need it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import forest, image
from support.readings import reading

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.need import Need
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.checks.access import Access, with_access
from vmsnap_nb.plans.facts import FolderFacts
from vmsnap_nb.plans.journal import Entry, InsideEntry, MergeEntry, PullEntry, RevertEntry, SnapshotEntry, Switch
from vmsnap_nb.plans.leftovers.find import find_leftovers
from vmsnap_nb.plans.leftovers.request import LeftoversRequest
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Reading

URI = "qemu:///system"


def world(*others: object, **changes: object) -> Forest:
    """A guest on top of base, and beside it a chain of two that nothing needs."""
    tree = forest(
        image("base", writable=False),
        image("top", "base"),
        image("old", "base"),
        image("older", "old", mtime_ns=1_700_000_000 * 10**9),
        *others,  # type: ignore[arg-type]
        uses=(Use("web", "vda", "/i/top"),),
    )
    return tree.edited(**changes)  # type: ignore[arg-type]


def left(tree: Forest, **facts: object) -> list[str]:
    return [one.path.removeprefix("/i/") for one in find_leftovers(reading(tree, **facts), URI)]


def test_a_chain_that_nothing_needs_is_found_from_its_end() -> None:
    found = find_leftovers(reading(world()), URI)
    assert [one.path for one in found] == ["/i/older", "/i/old"]
    first, second = found
    assert first.evidence == (
        "no disk, snapshot or saved memory of a guest on qemu:///system refers to it; none of the images that "
        "were read is based on it; last written on 2023-11-14"
    )
    assert "its only overlay is not needed either (older)" in second.evidence
    assert "certain" not in first.evidence
    assert repr(found).startswith("<Leftovers: 2 unneeded files, as far as was checked")


ENTRIES: list[Entry] = [
    MergeEntry(base="/i/other", top="/i/older", merged=("/i/older",)),
    PullEntry(image="/i/older", written="old"),
    RevertEntry(folder="/i", guest="web", uuid="u", name="s", to="off", discards=("/i/older",)),
    SnapshotEntry(guest="web", uuid="u", name="s", disks=(Switch(target="vda", source="/i/old", file="/i/older"),)),
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.kind)
def test_what_was_interrupted_is_needed(entry: Entry) -> None:
    assert left(world(), entries=(entry,)) == []


@pytest.mark.parametrize(
    "kind",
    ["next start", "managed save", "saved memory", "block job", "firmware", "boot", "nvdimm", "named", "definition"],
)
def test_each_need_keeps_an_image_and_all_below(kind: str) -> None:
    assert left(world(needs=(Need(kind, "/i/older", "db", "vda"),))) == []  # type: ignore[arg-type]


def test_snapshots_and_open_files_keep_them_too() -> None:
    disk = SnapshotDisk("vda", "external", "/i/old", "/i/gone")
    assert left(world(records=(SnapshotRecord("db", "s", disks=(disk,)),))) == ["older"]
    also = SnapshotDisk("vdb", "no", "/i/older")  # a revert restores the whole definition
    assert left(world(records=(SnapshotRecord("db", "s", disks=(disk, also)),))) == []
    held = replace(world()["older"], held="read")
    assert left(world(put=[held])) == []


@pytest.mark.parametrize("status", ["missing", "unreadable", "outside", "remote", "not-a-file", "unknown"])
def test_what_is_not_known_is_no_leftover(status: str) -> None:
    assert "x" not in left(world(image("x", status=status, format=None)))


def test_what_only_libvirt_knows_and_devices_are_none() -> None:
    assert left(world(image("x", known_from="definition"), image("y", device=True))) == ["older", "old"]


def test_merged_layers_memory_and_incomplete_files() -> None:
    tree = world(
        image("merged", "top", status="invalid"),
        stale_memory=(Need("saved memory", "/i/top", "web", "/i/web.one.mem"),),
        needs=(Need("saved memory", "/i/top", "web", "/i/web.two.mem"), Need("saved memory", "/i/top", "w", "/i/own")),
    )
    found = find_leftovers(reading(tree, leftovers={"/i/.x.partial": (1, 2)}), URI)
    assert {one.path: one.kind for one in found if one.kind != "image"} == {
        "/i/merged": "merged image",
        "/i/web.one.mem": "memory",
        "/i/web.two.mem": "memory",
        "/i/.x.partial": "incomplete file",
    }


def test_of_another_machine_volumes_are_listed_and_each_is_in_doubt() -> None:
    tree = world(
        image(".x.partial", format="raw"),
        image("iso", format="raw"),
        image("known", status="outside"),
        image("disk", "base", known_from="definition"),
    )
    far = tree.edited(
        put=(replace(one, known_from="volume") for one in tree if one.known_from == "file"), needs=(), records=()
    )
    found = {one.path.removeprefix("/i/"): one.doubt for one in find_leftovers(reading(far), "qemu+ssh://box/system")}
    assert list(found) == ["older", "old", "iso"]
    assert all(
        "it is unknown whether a process has the file open, or whether an operation on it was interrupted" in one
        for one in found.values()
    )
    assert "may hold internal snapshots" in found["old"]
    assert "files that are not images" in found["iso"]
    made = plan(far, "older", uri="qemu+ssh://box/system")
    assert ("unknown-image", True) in refused(made)
    volumes = frozenset({"/i/older"})
    access = Access(is_root=False, closed={"/i": "only libvirt can"}, volumes=volumes, uri="qemu+ssh://box/system")
    assert with_access(made, access).steps[0].performer == "libvirt"


# -- plans ------------------------------------------------------------------------------------------------------


def plan(tree: Forest, *names: str, folder: str | None = None, uri: str = URI, **facts: object) -> Plan:
    request = LeftoversRequest(paths=tuple(f"/i/{name}" for name in names), folder=folder, uri=uri)
    needs = request.needs(tree)
    assert needs.places == tuple(f"{folder}/{name}" for name in names if folder)
    return request.plan(reading(tree, **facts))


def refused(made: Plan) -> set[tuple[str, bool]]:
    return {(one.name, one.waivable) for one in made.concerns if one.level == "refuse"}


def test_overlays_go_before_what_they_are_based_on() -> None:
    made = plan(world(), "old", "older")
    assert refused(made) == set()
    assert made.commands == ("rm -f -- /i/older", "rm -f -- /i/old")
    assert set(made.before.images) - set(made.after.images) == {"/i/old", "/i/older"}
    assert made.frees.total == 2 << 20
    assert any("another libvirt" in one.what for one in made.concerns)  # it never claims certainty


def test_moved_files_free_nothing_in_total() -> None:
    made = plan(world(), "older", folder="/j")
    assert refused(made) == set()
    assert made.commands == ("mv --no-clobber -- /i/older /j/older",)
    assert made.frees.foreseen == {"/i/older": 1 << 20, "/j/older": -1 << 20}
    assert made.frees.total == 0


def test_a_layer_below_others_goes_only_with_them() -> None:
    assert refused(plan(world(), "old")) == {("shared-base", False)}


def test_what_is_needed_meanwhile_is_refused() -> None:
    uses = (*world().uses, Use("new", "vda", "/i/older"))
    assert refused(plan(world(uses=uses), "older", "old")) >= {("state-lost", False)}
    running = (*world().uses, Use("new", "vda", "/i/older", "running"))
    assert ("in-use", False) in refused(plan(world(uses=running), "older"))
    assert refused(plan(world(), "unheard-of")) == {("state-lost", False)}


def test_what_cannot_be_read_may_need_it() -> None:
    tree = world(image("secret", status="unreadable", problem="no permission"))
    assert refused(plan(tree, "older")) == {("unknown-image", True)}
    assert refused(plan(tree, "older", folder="/j")) == {("unknown-image", True)}


def test_without_libvirt_nothing_is_known_of_guests() -> None:
    assert refused(plan(world(), "older", uri="")) == {("unknown-image", True)}


def test_a_template_is_moved_with_a_warning_and_removed_only_on_demand() -> None:
    tree = world(image("template", writable=False))
    assert refused(plan(tree, "template")) == {("unknown-image", True)}
    moved = plan(tree, "template", folder="/j")
    assert refused(moved) == set()
    assert [one.name for one in moved.concerns if one.level == "warn"] == ["unknown-image"]


def test_nothing_is_overwritten() -> None:
    taken = FolderFacts(frozenset({"/j/older"}))
    assert refused(plan(world(), "older", folder="/j", folders=taken)) == {("file-exists", False)}
    closed = FolderFacts(closed={"/j": "there is no such folder"})
    assert refused(plan(world(), "older", folder="/j", folders=closed)) == {("no-permission", False)}
    twice = world(image("/k/older"))
    request = LeftoversRequest(paths=("/i/older", "/k/older"), folder="/j", uri=URI)
    assert ("file-exists", False) in refused(request.plan(Reading(forest=twice)))


def test_merges_that_go_on_keep_their_images() -> None:
    entry = MergeEntry(base="/i/old", top="/i/older", merged=("/i/older",))
    assert ("active-job", False) in refused(plan(world(), "older", "old", entries=(entry,)))


def test_libvirt_never_removes_what_was_to_be_moved() -> None:
    access = Access(is_root=False, closed={"/i": "no permission"}, volumes=frozenset({"/i/older"}))
    made = with_access(plan(world(), "older", folder="/j"), access)
    assert [step.action for step in made.steps] == ["move"]
    assert ("no-permission", False) in refused(made)
    removed = with_access(plan(world(), "older"), access)
    assert [type(step).__name__ for step in removed.steps] == ["RemoveVolume"]


def test_no_file_is_an_error() -> None:
    with pytest.raises(InvalidRequestError, match="the file does not exist"):
        plan(world())


def test_what_an_unclear_reference_or_a_lost_volume_may_mean_is_needed() -> None:
    unclear = image("unclear")
    reference = Reference("blkdebug::/i/old", "remote", None)
    tree = world(
        replace(unclear, backing=reference), uses=(Use("web", "vda", "/i/top"), Use("db", "vda", "/i/unclear"))
    )
    assert left(tree) == ["older"]
    volume = SnapshotRecord("web", "s", disks=(SnapshotDisk("vda", "external", "pool/older"),))
    assert left(world(records=(volume,))) == []


def test_files_that_an_interrupted_snapshot_made_and_images_changed_inside_are_needed() -> None:
    made = SnapshotEntry(guest="web", uuid="u", name="s", disks=(), made=("/i/older",))
    inside = InsideEntry(image="/i/older", name="s", change="create", table=0)
    for entry in (made, inside):
        assert left(world(), entries=(entry,)) == []
