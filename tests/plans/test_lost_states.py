"""Which states of a disk a plan makes unreadable, and which ones stay that are nearest to them."""

from __future__ import annotations

import pytest
from support.forests import forest, handout, image
from support.readings import reading

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.delete.request import DeleteRequest
from vmsnap_nb.plans.lost_states import lost_states
from vmsnap_nb.plans.merge.request import CommitRequest, PullRequest, RemoveRequest
from vmsnap_nb.plans.request import Request
from vmsnap_nb.plans.step import GuestRef

DEMO = GuestRef("demo", "0" * 8, "")
Lost = list[tuple[str, set[str]]]


def lost(tree: Forest, request: Request, domain: Domain | None = None) -> Lost:
    plan = request.plan(reading(tree, domain))
    assert not plan.refused, plan.concerns

    def name(state: object) -> str:
        return state.name or state.image.removeprefix("/i/")

    return [(name(one.state), {name(kept) for kept in one.kept}) for one in lost_states(plan, request)]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (CommitRequest(top="Snap-2", base="Snap-1"), [("Snap-1", {"RootBase", "Snap-2"})]),
        (
            CommitRequest(top="Snap-3", base="Snap-1"),
            [("Snap-1", {"RootBase", "Snap-3"}), ("Snap-2", {"RootBase", "Snap-3"})],
        ),
        (CommitRequest(top="Snap-1", base="RootBase"), [("RootBase", {"Snap-1"})]),
        (PullRequest(into="Snap-3", base="Snap-1"), []),
        (
            PullRequest(into="Snap-4", base="Snap-1", remove=True),
            [("Snap-2", {"Snap-1", "Snap-4"}), ("Snap-3", {"Snap-1", "Snap-4"})],
        ),
        (RemoveRequest(top="Snap-2", method=1), [("Snap-1", {"RootBase", "Snap-2"})]),
    ],
)
def test_merges(request_: Request, expected: Lost) -> None:
    assert lost(handout(), request_) == expected


def test_deletions() -> None:
    """Nearest to a deleted snapshot are the one before it, those after it in each branch, and what it is based on."""
    domain = Domain("demo", DEMO.uuid, "shut off", disks=(Disk("vda", "/i/c", "qcow2"),))

    def taken(name: str, source: str, parent: str | None, **more: bool) -> SnapshotRecord:
        disk = SnapshotDisk("vda", "external", f"/i/{source}", f"/i/{name}")
        return SnapshotRecord("demo", name, parent=parent, disks=(disk,), **more)

    images = [image("base"), image("own", "base"), image("a", "own"), image("b", "a"), image("c", "b")]
    records = (taken("a", "own", None), taken("b", "a", "a"), taken("c", "b", "b", current=True))
    tree = forest(*images, uses=domain.uses).edited(records=records)
    assert lost(tree, DeleteRequest(guest=DEMO, name="a"), domain) == [("a", {"b", "base"})]
    assert lost(tree, DeleteRequest(guest=DEMO, name="c"), domain) == [("c", {"b", "now", "a"})]
    every = lost(tree, DeleteRequest(guest=DEMO, name="a", children="also"), domain)
    assert every == [("a", {"now", "base"}), ("b", {"now", "base"}), ("c", {"now", "base"})]
    assert lost(tree, DeleteRequest(guest=DEMO, name="a", metadata_only=True), domain) == []
