"""To which image a guest writes after a pivot, and whether a base holds all that was merged: what counts as known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from support.forests import UNIT, forest, image
from support.readings import identified, reading, recorded

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain, State, Use
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.facts import LOST_JOB
from vmsnap_nb.plans.journal import FileFact, MergeEntry, PullEntry
from vmsnap_nb.plans.merge import evidence
from vmsnap_nb.plans.request import Reading

BASE, TOP = "/i/base", "/i/top"
ALIKE = frozenset({(TOP, BASE)})
ENTRY = MergeEntry(base=BASE, top=TOP, merged=("/i/mid", TOP), active=True, guest="g", uuid="u")


def world(
    at: str = TOP, state: State = "running", base: Mapping[str, object] = {}, top: Mapping[str, object] = {}
) -> Forest:
    """A guest on `at`; `base` and `top` change these images, None in `status` removes one."""
    images = [image(BASE, **base), image("/i/mid", BASE), image(TOP, "/i/mid", **top)]
    return forest(*(one for one in images if one.status != "unknown"), uses=(Use("g", "vda", at, state),))


def now(tree: Forest, **facts: object) -> Reading:
    state = tree.uses[0].state if tree.uses else "shut off"
    return reading(tree, Domain("g", "u", state), **facts)


WRITE, READ = {"held": "write"}, {"held": "read"}
GONE, LOST, MARKED = {"status": "missing"}, {"status": "unknown"}, {"status": "invalid"}


@pytest.mark.parametrize(
    ("at", "base", "top", "pivoted"),
    [
        (TOP, WRITE, {}, True),
        (BASE, WRITE, {}, True),
        (TOP, WRITE, GONE, True),
        (TOP, WRITE, READ, False),
        (TOP, WRITE, WRITE, False),
        (TOP, READ, {}, False),
        (TOP, {}, {}, False),
        (TOP, GONE, {}, False),
        ("/i/other", WRITE, {}, False),
    ],
)
def test_qemu_has_pivoted_where_it_writes_to_the_base_and_has_not_the_top(
    at: str, base: dict[str, object], top: dict[str, object], pivoted: bool
) -> None:
    tree = world(at, "running", base, top)
    assert evidence.has_pivoted(tree, ENTRY) is pivoted
    assert not evidence.has_pivoted(tree, replace(ENTRY, active=False))
    assert not evidence.has_pivoted(world(at, "shut off", base, top), ENTRY)


def test_what_qemu_says_of_its_disks_counts_before_its_locks() -> None:
    tree = world(TOP, "running", READ, READ)
    assert evidence.has_pivoted(tree, ENTRY, frozenset({BASE}))
    assert not evidence.has_pivoted(world(TOP, "running", WRITE), ENTRY, frozenset({TOP}))
    assert not evidence.has_pivoted(tree, replace(ENTRY, active=False), frozenset({BASE}))
    linked = identified(tree)
    linked = linked.edited(put=[replace(linked[BASE], path="/i/link")])
    assert evidence.has_pivoted(linked, ENTRY, frozenset({"/i/link"}))


@pytest.mark.parametrize("phase", ["ready", "pivoting"])
@pytest.mark.parametrize(
    ("tree", "alike", "known"),
    [
        (world(TOP, "shut off"), True, "base"),
        (world(TOP, "shut off"), False, "unknown"),
        (world(TOP, "shut off", top=MARKED), False, "base"),
        (world(TOP, "shut off", top=GONE), False, "base"),
        (world(TOP, "shut off", top=LOST), False, "base"),
        (world(TOP, "shut off", base=GONE), False, "base"),  # which is then refused: there is none
        (world(TOP, "running", READ, WRITE), True, "top"),
        (world(TOP, "running", READ, WRITE), False, "unknown"),
        (world(TOP, "running", WRITE, WRITE), True, "unknown"),
        (world(TOP, "running", WRITE, {}), False, "base"),
        (world(TOP, "running", {}, READ), True, "unknown"),
        (world(TOP, "running", {}, {}), True, "unknown"),
    ],
)
def test_after_all_was_copied_the_newest_image_is_told_by_locks_and_content(
    tree: Forest, alike: bool, known: str, phase: str
) -> None:
    at = now(tree, alike=ALIKE if alike else frozenset())
    entry = replace(ENTRY, phase=phase)  # type: ignore[arg-type]
    assert evidence.pivot(at, entry, live=tree.uses[0].running) == known


@pytest.mark.parametrize(("job", "known"), [("active commit", "job"), (LOST_JOB, "job"), ("pull", "unknown")])
def test_who_writes_to_both_is_a_job_that_libvirt_knows(job: str, known: str) -> None:
    at = now(world(TOP, "running", WRITE, WRITE), jobs={"vda": job})
    assert evidence.pivot(at, replace(ENTRY, phase="ready"), live=True) == known
    alone = replace(at, guest=None)
    assert evidence.pivot(alone, replace(ENTRY, phase="ready"), live=True) == "unknown"


def test_nothing_is_asked_of_a_pivot_before_all_was_copied_or_after_the_guest_has_left_the_top() -> None:
    off = now(world(TOP, "shut off"))
    assert evidence.pivot(off, ENTRY, live=False) == ""
    copied = replace(ENTRY, phase="copied")
    assert evidence.pivot(off, copied, live=False) == "unknown"
    assert evidence.pivot(off, replace(copied, active=False), live=False) == ""
    assert evidence.pivot(now(world("/i/leaf", "shut off")), copied, live=False) == ""


@pytest.mark.parametrize(
    ("tree", "alike", "all_of_it"),
    [
        (world(), True, True),
        (world(), False, False),
        (world(top=MARKED), False, True),
        (world(base=GONE, top=MARKED), True, False),
        (world(base=LOST, top=MARKED), True, False),
        (world(top=GONE), True, False),
        (world(top=LOST), True, False),
    ],
)
def test_a_base_holds_all_where_both_read_alike_or_the_top_is_marked(
    tree: Forest, alike: bool, all_of_it: bool
) -> None:
    at = now(tree, alike=ALIKE if alike else frozenset())
    assert evidence.holds_all(at, ENTRY) is all_of_it


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        (world(), ["disk-changed"]),
        (world(top=MARKED), []),
        (world(base=GONE), ["missing-base"]),
        (world(base=LOST, top=MARKED), ["missing-base"]),
        (world(top=GONE), ["disk-changed"]),  # /i/mid, which was merged with it, is not marked
        (world(top=GONE).edited(put=[image("/i/mid", BASE, status="invalid")]), []),
        (world(top=GONE).edited(put=[image("/i/mid", BASE, status="missing")]), []),
    ],
)
def test_before_layers_are_marked_the_base_must_hold_what_they_held(tree: Forest, names: list[str]) -> None:
    found = list(evidence.content(now(tree), ENTRY))
    assert [(one.name, one.level) for one in found] == [(name, "refuse") for name in names]
    assert [one.name for one in evidence.content(now(tree, alike=ALIKE), ENTRY)] == ([] if tree == world() else names)
    if tree == world():
        assert "could not be compared" in found[0].what
        assert " differ, " in next(evidence.content(now(tree, unlike=ALIKE), ENTRY)).what


@pytest.mark.parametrize(
    ("tree", "changes", "compared"),
    [
        (world(TOP, "shut off"), {}, False),
        (world(TOP, "shut off"), {"phase": "ready"}, True),
        (world(TOP, "running", READ, WRITE), {"phase": "ready"}, True),
        (world(TOP, "running", WRITE), {"phase": "ready"}, False),
        (world(TOP, "shut off", base=GONE), {"phase": "ready"}, False),
        (world(TOP, "shut off", top=GONE), {"phase": "ready"}, False),
        (world(TOP, "shut off", top=MARKED), {"phase": "ready"}, False),
        (world(BASE, "shut off"), {"active": False}, True),
        (world(BASE, "shut off"), {"active": False, "children": ("/i/leaf",)}, False),
    ],
)
def test_base_and_top_are_compared_where_that_decides(tree: Forest, changes: dict[str, object], compared: bool) -> None:
    assert evidence.is_compared(tree, replace(ENTRY, **changes), "g") is compared  # type: ignore[arg-type]


@pytest.mark.parametrize(("state", "compared"), [("running", True), ("shut off", False)])
def test_overlays_that_qemu_has_based_on_the_base_are_a_reason_only_while_it_runs(state: State, compared: bool) -> None:
    tree = world("/i/leaf", state).edited(put=[image("/i/leaf", BASE)])
    entry = replace(ENTRY, active=False, children=("/i/leaf",))
    assert evidence.is_compared(tree, entry, "g") is compared
    assert not evidence.is_compared(tree, entry, "another")


def test_a_guest_or_a_snapshot_of_it_that_may_name_what_was_merged_is_asked_of() -> None:
    def names(tree: Forest, entry: MergeEntry = ENTRY) -> list[tuple[str, bool]]:
        return [(one.name, one.waivable) for one in evidence.defined(tree, entry)]

    asked = [("other-image", True)]
    off = world(BASE, "shut off", top=READ)
    assert names(off) == []
    assert names(world(BASE, "running")) == asked, "its definition is not known"
    assert names(world(BASE, "running", top=MARKED)) == names(world(BASE, "running", top=GONE)) == []
    assert names(world(TOP, "shut off")) == names(world("/i/mid", "shut off")) == asked
    assert names(off.edited(uses=())) == asked, "nobody knows of the guest"
    assert names(off.edited(uses=()), replace(ENTRY, guest="")) == asked
    assert names(off.edited(uses=()), replace(ENTRY, guest="", active=False)) == []
    for disk in (SnapshotDisk("vda", "external", TOP), SnapshotDisk("vda", "external", "/i/x", TOP)):
        record = SnapshotRecord("g", "s", disks=(disk,))
        assert names(off.edited(records=[record])) == asked
        assert names(off.edited(records=[replace(record, guest="another")])) == []


def test_the_files_that_are_finished_are_those_that_were_merged() -> None:
    tree = identified(world(TOP, "shut off"))
    entry = recorded(tree, ENTRY)

    def found(now: Forest, entry: MergeEntry = entry) -> list[tuple[str, tuple[str, ...]]]:
        return [(one.level, one.images[-1:]) for one in evidence.originals(now, entry)]

    def top(**fields: object) -> Forest:
        return tree.edited(put=[replace(tree[TOP], **fields)])  # type: ignore[arg-type]

    refused, warned = [("refuse", (TOP,))], [("warn", (TOP,))]
    assert found(tree) == []
    assert found(top(identity=(1, 99))) == refused
    assert found(top(identity=None)) == refused
    assert found(top(identity=(2, 3))) == [], "devices are numbered anew when the machine starts"
    assert found(top(identity=(2, 3), mtime_ns=7)) == found(top(identity=(2, 3), file_size=7 * UNIT)) == refused
    assert found(top(mtime_ns=7)) == warned
    assert found(top(mtime_ns=7, status="invalid")) == [], "the mark is written into it"
    assert found(top(status="missing", identity=(1, 99))) == []
    assert found(tree.edited(put=[replace(tree[BASE], mtime_ns=7)])) == [], "the merge writes to it"
    none = replace(entry, files=tuple(fact for fact in entry.files if fact.path != TOP))
    assert found(tree, none) == refused
    device = FileFact(path=TOP, device=0, inode=3, size=UNIT, mtime_ns=3)
    numbered = replace(entry, files=(*none.files, device))
    assert found(top(identity=("device", 3), file_size=7), numbered) == []
    assert found(top(identity=("device", 4)), numbered) == refused


def test_other_files_can_be_accepted_once_it_is_known_what_they_hold() -> None:
    tree = identified(world(TOP, "shut off"))
    other = tree.edited(put=[replace(tree[TOP], identity=(1, 99))])

    def remedy(entry: MergeEntry | PullEntry) -> str:
        (found,) = evidence.originals(other, entry)
        assert (found.name, found.level, found.waivable) == ("disk-changed", "refuse", True)
        return found.remedy

    merge = recorded(tree, ENTRY)
    pull = PullEntry(image=TOP, written="/i/mid", files=merge.files)
    assert "only if /i/base holds all of it" in remedy(replace(merge, phase="copied"))
    assert len({remedy(replace(merge, phase="copying")), remedy(replace(merge, phase="ready")), remedy(pull)}) == 3


def test_what_lies_on_a_network_is_not_compared_with_a_file() -> None:
    tree = identified(world(TOP, "shut off")).edited(put=[Image("nbd://host/x", "qcow2", "remote")])
    files = recorded(tree, ENTRY).files
    assert list(evidence.originals(tree, PullEntry(image=TOP, written="nbd://host/x", files=files))) == []


def test_a_merge_of_another_guest_is_left_to_that_guest() -> None:
    def asked(entry: MergeEntry, name: str = "g", uuid: str = "u") -> list[tuple[str, bool, bool]]:
        found = evidence.others(Domain(name, uuid, "shut off"), entry)
        return [(one.name, one.waivable, "redefined" in one.remedy) for one in found]

    assert asked(ENTRY) == asked(ENTRY, "renamed") == []
    assert asked(ENTRY, uuid="anew") == [("other-image", True, True)]
    assert asked(ENTRY, "another", "anew") == [("other-image", True, False)]
    assert asked(replace(ENTRY, guest="", uuid=""), "another") == []


def test_a_base_with_damaged_tables_is_not_written_to() -> None:
    at = now(world(), damaged={BASE: "3 errors"})
    assert [(one.name, one.level, one.waivable) for one in evidence.damaged(at, BASE)] == [
        ("damaged-image", "refuse", False)
    ]
    assert list(evidence.damaged(at, TOP)) == []


def test_the_times_of_both_images_are_said_as_people_read_them() -> None:
    known = evidence.unknown(world(TOP, "shut off", base={"mtime_ns": 10**18}), ENTRY)
    assert known.endswith("Last write to /i/base: 2001-09-09 01:46:40 UTC. Last write to /i/top: unknown")
