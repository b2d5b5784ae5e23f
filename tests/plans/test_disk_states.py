"""Between which two states of a disk a plan's files differ, on made-up guests."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import forest, image
from support.readings import maps, reading

from vmsnap_nb.errors import ImageError, InvalidRequestError, NotFoundError
from vmsnap_nb.model.files import NOW
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import InternalSnapshot
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.delete.request import DeleteRequest
from vmsnap_nb.plans.disk_states import DiskPoint, compared_states, snapshot_state
from vmsnap_nb.plans.merge.request import CommitRequest, RemoveRequest
from vmsnap_nb.plans.merge.steps import RemoveFile
from vmsnap_nb.plans.overlay.request import OverlayRequest
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Request
from vmsnap_nb.plans.revert.request import RevertRequest
from vmsnap_nb.plans.step import GuestRef
from vmsnap_nb.words.message import t

DEMO = GuestRef("demo", "u", "")
TRIED = t("try it")


def taken(name: str, source: str, file: str, parent: str | None = None) -> SnapshotRecord:
    disks = (
        SnapshotDisk("vda", "external", f"/i/{source}", f"/i/{file}"),
        SnapshotDisk("vdb", "no", "/i/data"),
        SnapshotDisk("vdc", "internal", "/i/inner"),
    )
    return SnapshotRecord("demo", name, parent=parent, disks=disks)


TREE = forest(
    image("base"),
    image("a", "base"),
    image("b", "a"),
    image("data"),
    image("inner", snapshots=(InternalSnapshot("7", "first"), InternalSnapshot("9", "second"))),
    uses=(Use("demo", "vda", "/i/b"), Use("demo", "vdb", "/i/data")),
).edited(records=[taken("first", "base", "a"), taken("second", "a", "b", "first"), SnapshotRecord("other", "third")])


def states(request: Request, target: str | None = None, before: Forest = TREE) -> tuple[DiskPoint, DiskPoint]:
    return compared_states(Plan(title=t("a plan"), before=before, steps=(), after=before), request, target)


def held(name: str, image: str, inside: str | None = None) -> DiskPoint:
    return DiskPoint(image=f"/i/{image}", name=name, inside=inside)


def test_a_revert_goes_from_now_to_the_snapshot() -> None:
    request = RevertRequest(guest=DEMO, name="first")
    assert states(request) == (held(NOW, "b"), held("first", "base"))
    with pytest.raises(InvalidRequestError, match="the snapshot does not include the disk vdb") as said:
        states(request, "vdb")
    assert "vda, vdc" in str(said.value)
    with pytest.raises(NotFoundError, match="disk vdc of demo"):
        states(request, "vdc")
    with pytest.raises(NotFoundError, match="the snapshot gone of demo"):
        states(RevertRequest(guest=DEMO, name="gone"))
    with pytest.raises(NotFoundError):
        states(RevertRequest(guest=DEMO, name="third"))


def test_a_deletion_tells_a_snapshot_from_the_next_one_or_from_now() -> None:
    assert states(DeleteRequest(guest=DEMO, name="first")) == (held("first", "base"), held("second", "a"))
    assert states(DeleteRequest(guest=DEMO, name="second")) == (held("second", "a"), held(NOW, "b"))
    with pytest.raises(InvalidRequestError, match="does not revert to a state"):
        states(DeleteRequest(guest=DEMO, name="first", metadata_only=True))


def test_saved_memory_is_no_snapshot_to_compare_with() -> None:
    saved = SnapshotRecord("demo", "first", "", memory="external", parent="second", disks=())
    later = TREE.edited(records=[*TREE.records, replace(saved, name="managed save")])
    found = states(DeleteRequest(guest=DEMO, name="second"), before=later)
    assert found[0] == held("second", "a")


def test_what_a_snapshot_holds_of_a_disk() -> None:
    first = TREE.records[0]
    assert snapshot_state(TREE, first, "vda", TRIED) == held("first", "base")
    assert snapshot_state(TREE, first, "vdc", TRIED) == held("first", "inner", "7")
    assert snapshot_state(TREE, TREE.records[1], "vdc", TRIED) == held("second", "inner", "9")
    for disk, others in (
        (replace(first.disks[0], source=None), "target=…: vda$"),
        (replace(first.disks[0], held="no"), "target=…: none$"),
    ):
        with pytest.raises(InvalidRequestError, match=others):
            snapshot_state(TREE, replace(first, disks=(disk,)), "vda", TRIED)
    with pytest.raises(InvalidRequestError, match="vdx"):
        snapshot_state(TREE, first, "vdx", TRIED)
    with pytest.raises(ImageError, match="internal snapshot other"):
        snapshot_state(TREE, replace(first, name="other"), "vdc", TRIED)


def test_a_merge_tells_what_can_no_longer_be_read_from_what_remains() -> None:
    chain = forest(image("base"), image("one", "base"), image("two", "one"), image("top", "two"))
    facts = maps(base=(0,), one=(1,), two=(2,), top=(3,))
    request = CommitRequest(top="/i/two", base="/i/base")
    plan = request.plan(replace(reading(chain), maps=facts.maps))
    assert compared_states(plan, request) == (DiskPoint(image="/i/base"), DiskPoint(image="/i/two"))
    short = CommitRequest(top="/i/one", base="/i/base")
    plan = short.plan(replace(reading(chain), maps=facts.maps))
    assert compared_states(plan, short) == (DiskPoint(image="/i/base"), DiskPoint(image="/i/one"))
    alone = RemoveRequest(top="/i/two")
    plan = alone.plan(replace(reading(chain), maps=facts.maps))
    assert compared_states(plan, alone) == (DiskPoint(image="/i/one"), DiskPoint(image="/i/two"))


@pytest.mark.parametrize("below", [None, "elsewhere"])
def test_without_an_image_below_there_is_nothing_to_compare_with(below: str | None) -> None:
    chain = forest(image("base", below), image("top", "base"))
    request = RemoveRequest(top="/i/base", method=2)
    plan = Plan(
        title=t("a plan"), before=chain, steps=(RemoveFile(path="/i/base"),), after=chain.edited(drop=["/i/base"])
    )
    with pytest.raises(InvalidRequestError, match="does not revert to a state"):
        compared_states(plan, request)


def test_a_plan_that_loses_nothing_has_no_two_states() -> None:
    with pytest.raises(InvalidRequestError, match="a plan"):
        states(OverlayRequest(paths=("/i/new",), backing="/i/base"))
