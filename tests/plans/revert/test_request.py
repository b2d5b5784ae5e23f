"""What a revert must read, and which revert finishes one that was interrupted."""

from __future__ import annotations

from dataclasses import replace

from support.forests import forest, image

from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.journal import RevertEntry
from vmsnap_nb.plans.revert.request import RevertRequest
from vmsnap_nb.plans.step import GuestRef

DEMO = GuestRef("demo", "0c0c0c0c-1111-2222-3333-444444444444", "")
TAKEN = SnapshotRecord(
    "demo",
    "a",
    memory="external",
    memory_file="/m/a.mem",
    disks=(SnapshotDisk("vda", "external", "/i/one", "/o/two"),),
)
READ = forest(
    image("/t/base"),
    image("/i/one", "/t/base"),
    image("/o/two", "/i/one"),
    image("/n/now", "/i/one"),
    image("/x/theirs"),
    uses=(Use("demo", "vda", "/n/now"), Use("other", "vda", "/x/theirs")),
).edited(records=[TAKEN])
INTERRUPTED = RevertEntry(
    folder="/e", guest="demo", uuid=DEMO.uuid, name="a", to="paused", kept="kept1", discards=("/d/left",)
)


def test_folders_where_files_may_come_are_listed_and_those_of_layers_searched_for_entries() -> None:
    needs = RevertRequest(guest=DEMO, name="a").needs(READ)
    assert set(needs.listed) == {"/n", "/i", "/o"}
    assert set(needs.journal) == {"/n", "/i", "/t"}
    assert needs.times == ("/m/a.mem",)
    assert (needs.maps, needs.compared, needs.disk) == ((), (), None)


def test_a_snapshot_without_a_record_needs_the_images_of_the_guest() -> None:
    needs = RevertRequest(guest=DEMO, name="inside").needs(READ)
    assert (set(needs.listed), needs.times) == ({"/n"}, ())


def test_an_interrupted_revert_needs_what_it_was_to_throw_away() -> None:
    request = RevertRequest.finishing(DEMO, INTERRUPTED)
    assert {"/e", "/d"} <= set(request.needs(READ).listed)
    assert "/d/left" in request.files


def test_how_an_interrupted_revert_is_finished() -> None:
    again = RevertRequest.finishing(DEMO, INTERRUPTED)
    assert (again.name, again.to, again.keep_current) == ("a", "paused", True)
    assert not RevertRequest.finishing(DEMO, replace(INTERRUPTED, kept=None)).keep_current
    assert again.needs(READ).maps == ("/n/now", "/i/one")
