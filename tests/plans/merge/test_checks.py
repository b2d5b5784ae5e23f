"""What speaks against a merge: who reads or holds its images, what would be lost, room and permission."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import UNIT, figure_2, forest, handout, image
from support.merges import FACTS, commit, pull, remove
from support.refusals import refused

from vmsnap_nb.errors import InvalidRequestError, PlanRefusedError
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import InternalSnapshot
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.facts import FolderFacts


@pytest.mark.parametrize("stands_on", ["RootBase", "Snap-1"])
def test_a_base_that_somebody_else_reads_is_refused(stands_on: str) -> None:
    uses = (Use("guest-2", "vda", "/i/Other-A"),)
    plan = commit(handout(image("Other", stands_on), image("Other-A", "Other"), uses=uses), "/i/Snap-2", "/i/RootBase")
    (concern,) = [c for c in plan.concerns if c.name == "shared-base" and c.level == "refuse"]
    assert concern.images == ("/i/RootBase", "/i/Other", "/i/Other-A")
    assert concern.holders == ("guest-2",)
    assert "Other (used by guest-2)" in concern.what
    with pytest.raises(PlanRefusedError, match="Other"):
        plan.check()
    plan.check(waive="shared-base")


@pytest.mark.parametrize(
    ("top", "into"), [("Snap-2", "into the overlays of Snap-2"), ("Snap-4", "below Snap-4 into Snap-4")]
)
def test_a_pull_is_advised_into_what_is_there(top: str, into: str) -> None:
    plan = commit(handout(image("Other", "RootBase")), f"/i/{top}", "/i/RootBase")
    (concern,) = [c for c in plan.concerns if c.level == "refuse"]
    assert str(concern.remedy).startswith(f"pull the layers {into} instead. Or pull RootBase into Other first")


def test_figure_2_is_refused_because_of_the_other_guests() -> None:
    plan = commit(figure_2(), "/i/Overlay-1", "/i/RootBase")
    (concern,) = [c for c in plan.concerns if c.level == "refuse"]
    assert {"/i/Overlay-2", "/i/Overlay-2A", "/i/Overlay-3", "/i/Overlay-3A"} <= set(concern.images)


@pytest.mark.parametrize("name", ["/elsewhere/link", "/elsewhere/hard-link"])
def test_a_base_that_is_read_under_another_name_is_refused(name: str) -> None:
    same = handout()
    base = replace(same["/i/RootBase"], identity=(1, 2))
    other = image("/j/Other", name)
    plan = commit(same.edited(put=[base, replace(base, path=name), other]), "/i/Snap-1")
    assert refused(plan) == {"shared-base"}


def test_an_overlay_that_was_marked_invalid_does_not_count() -> None:
    spoilt = image("Old", "RootBase", status="invalid")
    assert not commit(handout(spoilt), "/i/Snap-1").refused
    assert commit(handout(image("Other", "Old"), spoilt), "/i/Snap-1").before["/i/Old"].status == "invalid"


@pytest.mark.parametrize("source", ["RootBase", "Snap-1"])
def test_a_guest_on_a_lower_layer_is_refused(source: str) -> None:
    plan = commit(handout(uses=(Use("g", "vda", f"/i/{source}"),)), "/i/Snap-2", "/i/RootBase")
    assert refused(plan) == {"shared-base"}


def test_a_guest_on_what_is_merged_away_is_refused() -> None:
    plan = commit(handout(uses=(Use("g", "vda", "/i/Snap-4"),)), "/i/Snap-4")
    (concern,) = [c for c in plan.concerns if c.level == "refuse"]
    assert (concern.name, concern.holders) == ("in-use", ("g",))
    plan.check(waive="in-use")


def test_a_running_guest_is_refused_and_no_waiver_helps() -> None:
    running = handout(uses=(Use("g", "vda", "/i/Snap-4", "running"),))
    for plan in (
        commit(running, "/i/Snap-2"),
        pull(running, "/i/Snap-4", "/i/Snap-1"),
        pull(running, "/i/Snap-2"),
    ):
        assert refused(plan) == {"in-use"}
        with pytest.raises(PlanRefusedError, match="shut g down"):
            plan.check(waive="in-use")


@pytest.mark.parametrize(("path", "held"), [("RootBase", "read"), ("Snap-2", "read"), ("Snap-3", "write")])
def test_another_process_that_has_it_open_is_refused(path: str, held: str) -> None:
    one = handout()
    plan = commit(one.edited(put=[replace(one[f"/i/{path}"], held=held)]), "/i/Snap-2", "/i/RootBase")  # type: ignore[arg-type]
    assert refused(plan) == {"in-use"}


def test_a_base_that_is_only_read_may_be_open_for_reading() -> None:
    one = handout()
    reading = one.edited(put=[replace(one["/i/RootBase"], held="read")])
    assert not commit(reading, "/i/Snap-2", "/i/Snap-1").refused
    writing = one.edited(put=[replace(one["/i/RootBase"], held="write")])
    assert refused(commit(writing, "/i/Snap-2", "/i/Snap-1")) == {"in-use"}


def test_internal_snapshots_would_be_lost_or_spoilt() -> None:
    with_snapshot = handout()
    held = replace(with_snapshot["/i/Snap-2"], snapshots=(InternalSnapshot("1", "before-update"),))
    one = with_snapshot.edited(put=[held])
    assert refused(commit(one, "/i/Snap-3", "/i/Snap-1")) == {"state-lost"}
    assert refused(pull(one, "/i/Snap-2", "/i/RootBase")) == {"state-lost"}
    assert refused(pull(one, "/i/Snap-3", "/i/Snap-1", remove=True)) == {"state-lost"}
    assert not pull(one, "/i/Snap-3", "/i/Snap-1").refused
    assert not commit(one, "/i/Snap-3", "/i/Snap-2").refused, "the base keeps its own"
    assert "before-update" in commit(one, "/i/Snap-2").concerns[0].what


def test_internal_snapshots_are_known_from_records_where_the_header_was_not_read() -> None:
    unread = handout()
    unread = unread.edited(put=[replace(unread["/i/Snap-2"], known_from="definition")])
    recorded = SnapshotDisk("vda", "internal", source="/i/Snap-2")
    held = unread.edited(records=[SnapshotRecord("demo", "inside", "running", disks=(recorded,))])
    assert (
        "the internal snapshot inside of Snap-2 would read"
        in next(c for c in pull(held, "/i/Snap-2").concerns if c.level == "refuse").what
    )
    plan = pull(unread, "/i/Snap-2")
    assert not plan.refused
    assert "qemu-img snapshot -U -l /i/Snap-2" in next(c for c in plan.concerns if c.name == "unknown-image").remedy


def test_want_of_room_or_permission_is_refused() -> None:
    facts = replace(FACTS, folders=FolderFacts(free={"/i": 3 * UNIT}))
    plan = commit(handout(), "/i/Snap-3", "/i/Snap-1", facts=facts)
    assert refused(plan) == {"no-space"}
    assert plan.space_needed > 2 * UNIT
    closed = replace(FACTS, folders=FolderFacts(closed={"/i": "Read-only file system"}))
    assert refused(commit(handout(), "/i/Snap-3", facts=closed)) == {"no-permission"}


@pytest.mark.parametrize(
    ("path", "fields", "name"),
    [
        ("RootBase", {"status": "missing", "format": None}, "missing-base"),
        ("Snap-1", {"status": "corrupt"}, "missing-base"),
        ("Snap-2", {"status": "invalid"}, "missing-base"),
        ("RootBase", {"status": "outside", "format": None}, "untrusted-backing"),
        ("Snap-1", {"status": "unknown", "format": None}, "backing-format-missing"),
        ("Snap-1", {"encryption": "luks"}, "not-supported"),
        ("Snap-1", {"format": "qed"}, "not-supported"),
        ("Snap-2", {"format": "vmdk"}, "not-supported"),
        ("Snap-2", {"data_file": Reference("/d", "absolute", "/d", "raw")}, "not-supported"),
    ],
)
def test_images_that_cannot_be_merged_are_refused(path: str, fields: dict[str, object], name: str) -> None:
    one = handout()
    other = replace(one[f"/i/{path}"], **fields)  # type: ignore[arg-type]
    plan = commit(one.edited(put=[other]), "/i/Snap-2", "/i/Snap-1")
    assert name in refused(plan)


def test_a_backing_format_that_is_missing_or_wrong() -> None:
    one = handout()
    for written, name in ((None, "backing-format-missing"), ("raw", "backing-format-wrong")):
        reference = Reference("/i/RootBase", "absolute", "/i/RootBase", written)
        plan = commit(one.edited(put=[replace(one["/i/Snap-1"], backing=reference)]), "/i/Snap-2")
        assert refused(plan) == {name}
        assert "rebase -u -f qcow2 -F qcow2" in plan.concerns[0].remedy
        plan.check(waive=name)


def test_a_loop_is_refused() -> None:
    loop = forest(image("a", "b"), image("b", "a"), image("c", "b"))
    assert refused(commit(loop, "/i/c")) >= {"loop"}
    assert refused(pull(loop, "/i/c")) >= {"loop"}
    own = forest(image("a", "a"), image("b", "a"))
    for tree, path in ((loop, "/i/a"), (loop, "/i/b"), (own, "/i/a")):
        for method in (None, 1, 2):
            with pytest.raises(InvalidRequestError, match="form a loop"):
                remove(tree, path, method=method)
