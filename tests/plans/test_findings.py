"""What is found on a host, from forests that tests make up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import MIB, forest, handout, image
from support.readings import reading

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain, Use
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.need import Need
from vmsnap_nb.model.snapshot import Snapshot, SnapshotDisk, SnapshotList, SnapshotRecord
from vmsnap_nb.plans.concern import refuse, sorted_concerns
from vmsnap_nb.plans.facts import FolderFacts, GuestFacts
from vmsnap_nb.plans.findings import Findings, find_all, findings_needs
from vmsnap_nb.plans.journal import MergeEntry, PullEntry
from vmsnap_nb.words.message import t

GIB = 1 << 30


def found(tree: Forest, **facts: object) -> dict[str, tuple[str, str]]:
    every = find_all(reading(tree, **facts))
    return {one.name: (one.severity, one.where) for one in reversed(tuple(every))}


def protected(tree: Forest) -> Forest:
    return tree.edited(put=[replace(one, writable=False) for one in tree])


def test_nothing_is_wrong() -> None:
    empty = find_all(reading(protected(handout())))
    assert len(empty) == 0
    assert repr(empty) == "<Findings: no problems found in what could be checked>"
    assert empty.to_text() == "No problems found in what could be checked"
    assert list(empty.to_frame().columns) == ["severity", "where", "what", "help"]


BASE = {"writable": False}


def unformatted(path: str, backing: str) -> Image:
    one = image(path, backing)
    assert one.backing is not None
    return replace(one, backing=replace(one.backing, format=None))


@pytest.mark.parametrize(
    ("images", "name", "severity", "where"),
    [
        ([image("a", "gone"), image("gone", status="missing")], "missing-base", "error", "/i/gone"),
        ([image("a", "b"), image("b", "a")], "loop", "error", "/i/a"),
        (
            [unformatted("a", "b"), image("b", "c"), image("c", **BASE)],
            "backing-format-missing",
            "error",
            "/i/a",
        ),
        ([unformatted("a", "b"), image("b", **BASE)], "backing-format-missing", "warning", "/i/a"),
        ([image("a", "b", backing_format="raw"), image("b", **BASE)], "backing-format-wrong", "error", "/i/a"),
        ([image("a", status="invalid", problem="merged")], "invalid", "note", "/i/a"),
        ([image("b", status="invalid"), image("a", "b")], "missing-base", "error", "/i/b"),
        ([image("a", "b"), image("b")], "writable-base", "note", "/i/b"),
        ([image("a", corrupt=True)], "damaged-image", "error", "/i/a"),
        ([image("a", dirty=True)], "dirty", "note", "/i/a"),
        ([image("a", status="unreadable", problem="no permission")], "unknown-image", "error", "/i/a"),
        ([image("a", status="unsupported", problem="bit 7")], "not-supported", "error", "/i/a"),
        ([image("a", "b", virtual_size=MIB), image("b", **BASE)], "smaller-size", "warning", "/i/a"),
        (
            [image("a", "b", mtime_ns=1), image("b", mtime_ns=10**15, **BASE)],
            "disk-changed",
            "warning",
            "/i/a",
        ),
        ([image("a", held="write")], "in-use", "note", "/i/a"),
    ],
)
def test_each_fault_of_images(images: list[object], name: str, severity: str, where: str) -> None:
    assert found(forest(*images))[name] == (severity, where)  # type: ignore[arg-type]


def test_a_chain_that_is_too_long() -> None:
    def chain(length: int) -> Forest:
        images = [image("l0", writable=False)]
        images += [image(f"l{n}", f"l{n - 1}") for n in range(1, length)]
        return forest(*images)

    assert found(chain(49)) == {}
    assert found(chain(50)) == {"deep-chain": ("warning", "/i/l49")}
    assert found(chain(200)) == {"deep-chain": ("error", "/i/l199")}


def disks(*sizes: tuple[int, int]) -> Forest:
    """Guests with disks of these virtual sizes, of which so much is allocated."""
    images = [
        image(f"d{number}", virtual_size=size, allocated=allocated, identity=(7, number))
        for number, (size, allocated) in enumerate(sizes)
    ]
    return forest(*images, uses=tuple(Use(f"g{number}", "vda", one.path) for number, one in enumerate(images)))


@pytest.mark.parametrize(("free", "wrong"), [(900 * GIB, True), (1006 * GIB, False), (1005 * GIB, True)])
def test_overcommitted_storage_counts_what_can_still_be_written(free: int, wrong: bool) -> None:
    tree = disks((512 * GIB, 10 * GIB), (512 * GIB, 8 * GIB))  # 1024 promised, 1006 to come
    assert ("overcommitted" in found(tree, folders=FolderFacts(free={"/i": free}))) is wrong


def test_layers_below_and_disks_that_are_only_read_do_not_grow() -> None:
    tree = forest(
        image("base", virtual_size=GIB, writable=False),
        image("top", "base", virtual_size=GIB, allocated=MIB),
        image("cd", virtual_size=GIB, writable=False),
        uses=(Use("g", "vda", "/i/top"), Use("g", "sda", "/i/cd", readonly=True)),
    )
    assert "overcommitted" not in found(tree, folders=FolderFacts(free={"/i": GIB - MIB}))
    assert "overcommitted" in found(tree, folders=FolderFacts(free={"/i": GIB - 2 * MIB}))


def test_an_overlay_that_more_may_read_than_what_is_below() -> None:
    tree = protected(handout())
    modes = {"/i/Snap-1": 0o600, "/i/Snap-2": 0o644, "/i/Snap-3": 0o644}
    assert found(tree, modes=modes) == {"world-readable": ("warning", "/i/Snap-2")}


def test_an_overlay_that_no_record_names() -> None:
    use = Use("g", "vda", "/i/b")
    tree = forest(image("root", writable=False), image("a", "root"), image("b", "a"), uses=(use,))
    assert found(tree)["unrecorded-overlay"] == ("note", "/i/b")
    assert [one.help for one in find_all(reading(tree)) if one.where == "/i/b"] == ["host.guest('g').commit(top='b')"]
    disk = SnapshotDisk("vda", "external", "/i/a", "/i/b")
    assert "unrecorded-overlay" not in found(tree.edited(records=(SnapshotRecord("g", "s", disks=(disk,)),)))


def test_what_was_interrupted() -> None:
    tree = protected(handout(uses=(Use("g", "vda", "/i/Snap-4"),)))
    entry = MergeEntry(base="/i/Snap-1", top="/i/Snap-2", merged=("/i/Snap-2",))
    every = find_all(reading(tree, entries=(entry,)))
    assert [(one.name, one.severity, one.help) for one in every if one.where == "/i/Snap-1"] == [
        ("active-job", "error", "host.guest('g').unfinished()[0].run()")
    ]
    pull = PullEntry(image="/i/Snap-4", written="Snap-3")
    assert found(tree, entries=(pull,))["active-job"] == ("warning", "/i/Snap-4")
    assert found(tree, leftovers={"/i/.x.partial": (1, 2)})["never-completed"] == ("note", "/i/.x.partial")


def test_memory_that_is_of_no_use() -> None:
    tree = protected(handout()).edited(stale_memory=(Need("saved memory", "/i/Snap-4", "g", "/i/g.save"),))
    assert found(tree) == {"stale-memory": ("note", "/i/g.save")}
    helps = [[one.help for one in find_all(reading(tree), uri=uri)] for uri in ("", "qemu:///system")]
    assert helps == [[""], ["forest.cleanup()"]], "a snapshot of a guest that is not known may need it"


def guest(state: str = "shut off", source: str = "/i/Snap-3") -> GuestFacts:
    return GuestFacts(domain=Domain("g", "u", state, disks=(Disk("vda", source),)))  # type: ignore[arg-type]


@pytest.mark.parametrize("state", ["running", "shut off"])
def test_a_guest_that_writes_to_a_base(state: str) -> None:
    owner = guest(state)
    tree = protected(handout()).edited(uses=owner.domain.uses)
    (one,) = (one for one in find_all(reading(tree), [owner]) if one.severity == "error")
    assert (one.name, one.where) == ("shared-base", "/i/Snap-3")
    assert ("cannot start" in one.what) is (state == "shut off")


def test_what_keeps_a_guest_from_starting() -> None:
    owner = guest(source="/i/a")
    tree = forest(image("a", "gone"), image("gone", status="missing"), uses=owner.domain.uses)
    (one,) = find_all(reading(tree), [owner])
    assert (one.name, one.severity) == ("missing-base", "error")
    assert one.what.startswith("cannot start g")


def test_records_that_do_not_agree() -> None:
    row = Snapshot(SnapshotRecord("g", "monday"), "stale", "there is no snapshot monday inside /i/a")
    listed = SnapshotList("g", (row,), going_back_to="sunday")
    every = find_all(reading(Forest()), lists=[listed])
    assert [(one.severity, one.where, one.help) for one in every] == [
        ("error", "g", "host.guest('g').revert('sunday')"),
        ("warning", "g", "host.guest('g').reconcile()"),
    ]


def test_each_row_is_there_once_and_the_gravest_first() -> None:
    tree = forest(image("a", "gone"), image("b", "gone"), image("gone", status="missing"), image("快照", dirty=True))
    every = find_all(reading(tree))
    assert [one.severity for one in every] == ["error", "note"]
    assert isinstance(every, Findings)
    assert "快照" in every.to_text()
    assert repr(every) == "<Findings: 1 error, 1 note>"
    assert "快照" in every._repr_mimebundle_()["text/html"]


def test_what_is_read_for_it() -> None:
    needs = findings_needs(handout())
    assert needs.journal == ("/i",)
    assert set(needs.modes) == set(handout().images)


def test_a_file_that_qemu_still_has_open_is_found_once() -> None:
    gone = image("top", "base", status="missing")
    use = Use("demo", "vda", "/i/top", "running", deleted=("/i/top",))
    domain = Domain("demo", "u", "running", disks=(Disk("vda", "/i/top", "qcow2", "virtio"),))
    tree = forest(image("base", **BASE), gone, uses=(use,))
    every = find_all(reading(tree), [GuestFacts(domain=domain, uri="", xml="<domain/>")])
    assert [one.name for one in every if one.where == "/i/top"] == ["deleted-image"]
    assert [one.name for one in find_all(reading(tree.edited(uses=[]))) if one.where == "/i/top"] == ["missing-base"]


def test_what_helps_a_guest_that_runs_is_no_start() -> None:
    use = Use("g", "vda", "/i/base", "running")
    tree = forest(image("base"), image("top", "base"), uses=(use,))
    domain = Domain("g", "u", "running", disks=(Disk("vda", "/i/base", "qcow2"),))
    [row] = [one for one in find_all(reading(tree), [GuestFacts(domain=domain)]) if one.name == "shared-base"]
    assert "start" not in row.help
    assert "host.leftovers()" in row.help


def test_a_disk_of_two_guests_is_found_once() -> None:
    one = replace(image("a"), identity=(1, 1))
    uses = (Use("x", "vda", "/i/a"), Use("y", "vda", "/j/a"), Use("z", "vda", "/i/a", readonly=True))
    tree = forest(one, replace(one, path="/j/a"), uses=uses)
    [row] = find_all(reading(tree))
    assert (row.name, row.severity, row.where) == ("shared-disk", "warning", "/i/a")
    assert "the disk of x (vda) and y (vda), also under the name /j/a" in row.what
    migrated = tree.edited(uses=(Use("x", "vda", "/i/a"), Use("b/x", "vda", "/i/a")))
    assert "shared-disk" not in found(migrated)
    raw = "<domain><devices><disk><shareable/><target dev='vda'/></disk></devices></domain>"
    guests = [GuestFacts(domain=Domain(name, name), xml=raw) for name in "xy"]
    assert "shared-disk" not in {one.name for one in find_all(reading(tree), guests)}


def test_two_names_of_a_file_are_one_finding() -> None:
    base, top = replace(image("base"), identity=(1, 1)), replace(image("top", "base"), identity=(1, 2))
    other = (replace(base, path="/j/base"), replace(image("/j/top", "/j/base"), identity=(1, 2)))
    tree = forest(base, top, *other)
    [row] = [one for one in find_all(reading(tree)) if one.name == "writable-base"]
    assert row.where == "/i/base"
    assert "1 overlay is based on it" in row.what


@pytest.mark.parametrize(("waivable", "left"), [(False, ["deleted-image"]), (True, ["deleted-image", "missing-base"])])
def test_a_plan_does_not_say_to_restore_what_qemu_still_has_open(waivable: bool, left: list[str]) -> None:
    deleted = refuse("deleted-image", t("a"), t("b"), images=("/i/top",), waivable=waivable)
    missing = refuse("missing-base", t("c"), t("d"), images=("/i/top",))
    other = refuse("missing-base", t("c"), t("d"), images=("/i/base",))
    assert [one.name for one in sorted_concerns([deleted, missing])] == left
    assert sorted_concerns([deleted, other]) == (deleted, other)
