"""What a deletion must read, and that it keeps the directions which its first plan chose."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import forest, image
from support.readings import reading

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.blockmap import Extent, LayerMap
from vmsnap_nb.model.guest import Disk, Domain
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.delete.request import DeleteRequest
from vmsnap_nb.plans.request import Needs
from vmsnap_nb.plans.step import GuestRef

MIB = 1 << 20
DEMO = GuestRef("demo", "0" * 8, "")
DOMAIN = Domain("demo", DEMO.uuid, disks=(Disk("vda", "/i/c", "qcow2"),))


def taken(name: str, source: str, file: str, parent: str | None = None) -> SnapshotRecord:
    return SnapshotRecord("demo", name, parent=parent, disks=(SnapshotDisk("vda", "external", source, file),))


READ = forest(
    image("/t/base"),
    image("/i/own", "/t/base"),
    image("/i/a", "/i/own"),
    image("/i/b", "/i/a"),
    image("/i/c", "/i/b"),
    uses=DOMAIN.uses,
).edited(records=[taken("a", "/i/own", "/i/a"), taken("b", "/i/a", "/i/b", "a"), taken("c", "/i/b", "/i/c", "b")])


def held(path: str, mib: int) -> LayerMap:
    return LayerMap(path, 64 * MIB, (Extent(0, mib * MIB),))


@pytest.mark.parametrize(
    ("children", "mapped"),
    [
        (False, {"/i/own", "/i/a"}),
        ("also", {"/i/own", "/i/a", "/i/b", "/i/c"}),
        ("only", {"/i/own", "/i/a", "/i/b", "/i/c"}),
    ],
)
def test_maps_are_read_of_what_may_be_merged(children: object, mapped: set[str]) -> None:
    needs = DeleteRequest(guest=DEMO, name="a", children=children).needs(READ)  # type: ignore[arg-type]
    assert set(needs.maps) == mapped
    assert set(needs.journal) == {"/i", "/t"}
    assert set(needs.places) == set(READ.images)


def test_only_a_record_needs_nothing() -> None:
    assert DeleteRequest(guest=DEMO, name="a", metadata_only=True).needs(READ) == Needs()


def test_images_are_compared_only_where_one_may_go() -> None:
    moved = READ.edited(put=[image("/i/c", "/i/a")])
    assert DeleteRequest(guest=DEMO, name="b").needs(moved).compared == (("/i/b", "/i/a"),)
    assert DeleteRequest(guest=DEMO, name="a").needs(moved).compared == ()


def test_a_direction_that_was_chosen_stays_though_the_bytes_change() -> None:
    def after(a: int, b: int) -> dict[str, object]:
        return {"maps": {path: held(path, size) for path, size in (("/i/a", a), ("/i/b", b))}}

    request = DeleteRequest(guest=DEMO, name="b")
    first = request.plan(reading(READ, DOMAIN, **after(8, 1)))
    assert [way.what for way in first.alternatives if way.chosen] == ["commit b into a (disk vda)"]
    later = reading(READ, DOMAIN, **after(1, 8))
    assert request.plan(later).steps != first.steps
    settled = request.settled(first)
    assert settled == replace(request, prefer=("commit b into a (disk vda)",))
    assert [type(step) for step in settled.plan(later).steps] == [type(step) for step in first.steps]


def test_what_is_meant_by_children() -> None:
    with pytest.raises(InvalidRequestError, match="choose from: False, 'also', 'only'"):
        DeleteRequest(guest=DEMO, name="a", children="all")  # type: ignore[arg-type]
