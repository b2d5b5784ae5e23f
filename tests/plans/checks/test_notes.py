"""What the journal's entries refuse, on made-up images."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import figure_2, forest, image
from support.readings import reading

from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans.checks.notes import merging, note_folders, pulling, strangers, unsettled
from vmsnap_nb.plans.concern import Concern
from vmsnap_nb.plans.journal import InsideEntry, MergeEntry, PullEntry, RecordEntry, Stranger, UnknownEntry, UnreadEntry
from vmsnap_nb.plans.merge.steps import EndPull

CHAIN = forest(image("base"), image("mid", "base"), image("top", "mid"), image("over", "top"), image("other"))
MERGE = MergeEntry(base="/i/base", top="/i/top", merged=("/i/mid", "/i/top"), children=("/i/over",), guest="demo")
PULL = PullEntry(image="/i/top", written="/i/mid", base="/i/base")


def told(concerns: list[Concern]) -> list[tuple[str, str, bool]]:
    return [(one.name, one.level, one.waivable) for one in concerns]


def test_entries_lie_in_the_folders_of_all_layers() -> None:
    tree = forest(image("/a/base"), image("/b/mid", "/a/base"), image("top", "/b/mid"))
    assert note_folders(tree, ["/i/top", "/c/new", "/b/mid", "nbd://host/x"]) == ("/i", "/b", "/a", "/c")
    assert note_folders(figure_2(), ["/i/Overlay-3A"]) == ("/i",)


def test_nothing_is_built_on_what_is_being_merged() -> None:
    now = reading(CHAIN, entries=(MERGE,))
    for path in ("/i/base", "/i/mid", "/i/top"):
        (found,) = merging(now, [path, path])
        assert (found.name, found.level, found.waivable) == ("active-job", "refuse", False)
        assert found.images == tuple(dict.fromkeys((path, "/i/base", "/i/top")))
        assert "host.guest('demo').unfinished()[0].run()" in found.remedy
    assert list(merging(now, ["/i/over", "/i/other"])) == []
    own = reading(CHAIN, Domain("demo", "u", "shut off"), entries=(MERGE,))
    assert "guest.unfinished()[0].run()" in next(merging(own, ["/i/base"])).remedy
    other_name = reading(CHAIN, Domain("new", "u", "shut off"), entries=(replace(MERGE, uuid="u"),))
    assert "with guest.unfinished()" in next(merging(other_name, ["/i/base"])).remedy
    other_uuid = reading(CHAIN, Domain("demo", "v", "shut off"), entries=(replace(MERGE, uuid="u"),))
    assert "with guest.unfinished()" in next(merging(other_uuid, ["/i/base"])).remedy
    another = reading(CHAIN, Domain("x", "v", "shut off"), entries=(replace(MERGE, uuid="u"),))
    assert "host.guest('demo').unfinished()" in next(merging(another, ["/i/base"])).remedy
    nobody = reading(CHAIN, entries=(replace(MERGE, guest=""),))
    assert "forest.unfinished()[0].run()" in next(merging(nobody, ["/i/base"])).remedy


def test_an_overlay_that_skips_what_was_merged_reads_otherwise() -> None:
    torn = CHAIN.edited(put=[image("over", "base")])
    now = reading(torn, entries=(MERGE,))
    assert told(list(merging(now, ["/i/over"]))) == [("active-job", "refuse", False)]
    assert list(merging(now, ["/i/over"], through=False)) == []
    assert list(merging(reading(torn, entries=(replace(MERGE, phase="copied"),)), ["/i/over"])) == []


@pytest.mark.parametrize(
    ("path", "lower", "refused"),
    [
        ("/i/top", False, True),
        ("/i/over", False, True),
        ("/i/mid", False, False),
        ("/i/mid", True, True),
        ("/i/base", True, True),
        ("/i/other", True, False),
    ],
)
def test_an_image_into_which_a_pull_was_interrupted_may_lack_data(path: str, lower: bool, refused: bool) -> None:
    found = list(pulling(reading(CHAIN, entries=(MERGE, PULL)), [path], lower=lower))
    assert told(found) == [("active-job", "refuse", False)] * refused
    for one in found:
        assert one.images == ("/i/top",)
        assert "guest.unfinished()" in one.remedy


def test_a_plan_that_ends_the_pull_is_not_refused_because_of_it() -> None:
    now = reading(CHAIN, entries=(PULL,))
    assert list(pulling(now, ["/i/top"], steps=[EndPull(entry=PULL)])) == []
    other = replace(PULL, image="/i/over", written="/i/top")
    assert [one.images for one in pulling(now, ["/i/top"], steps=[EndPull(entry=other)])] == [("/i/top",)]


def test_nothing_writes_where_a_snapshot_was_cut_short_under_any_name() -> None:
    same = forest(image("disk", identity=(1, 1)), image("link", identity=(1, 1)), image("other"))
    entry = InsideEntry(image="/i/disk", name="a", change="create", table=0, names=())
    for now, call in (
        (reading(same, entries=(entry,)), "forest.unfinished()"),
        (reading(same, Domain("demo", "u", "shut off"), entries=(entry,)), "guest.unfinished()"),
    ):
        for path in ("/i/disk", "/i/link"):
            (found,) = unsettled(now, [path])
            assert (found.name, found.level, found.images) == ("active-job", "refuse", ("/i/disk",))
            assert call in found.remedy
        assert list(unsettled(now, ["/i/other"])) == []


E = "/i/.vmsnap-merge-x.json"
STRANGERS = {
    Stranger(path=E, why="mallory owns it"): ("untrusted-note", "note", False, "remove it if it is not yours"),
    UnknownEntry(path=E, version=99): ("active-job", "refuse", True, "with that version"),
    UnknownEntry(path=E, version=1, folder="/by link"): (
        "active-job",
        "refuse",
        True,
        "vmsnap_nb.scan('/by link').unfinished()",
    ),
    UnknownEntry(path=E, version=1, folder="/far", is_elsewhere=True): (
        "active-job",
        "refuse",
        True,
        "create a symbolic link",
    ),
    UnreadEntry(path=E, why="EIO"): ("active-job", "refuse", True, "make the file readable"),
    UnreadEntry(path="/i", why="EACCES", is_folder=True): ("active-job", "refuse", True, "make the folder readable"),
    UnreadEntry(path="/i", why="EACCES", is_folder=True, is_closed=True): (
        "active-job",
        "note",
        False,
        "ask the owner",
    ),
    UnreadEntry(path=E, why="old", is_unmarked=True): ("active-job", "refuse", True, f"chmod +t -- {E}"),
    UnreadEntry(path=E, why="cut", is_damaged=True): ("active-job", "refuse", True, "then remove the entry"),
}


@pytest.mark.parametrize("entry", STRANGERS)
def test_what_cannot_be_acted_on_is_named_with_what_to_do(entry: Stranger | UnknownEntry | UnreadEntry) -> None:
    name, level, waivable, words = STRANGERS[entry]
    (found,) = strangers(reading(CHAIN, strangers=(entry,)))
    assert (found.name, found.level, found.waivable) == (name, level, waivable)
    assert found.images == (entry.path,)
    assert entry.path in found.what
    assert getattr(entry, "why", "") in found.what
    assert words in found.remedy


def test_a_snapshot_that_libvirt_lists_no_more_is_written_again_first() -> None:
    lost = RecordEntry(folder="/i", guest="demo", uuid="u", name="a", xml="<domainsnapshot/>")
    demo = Domain("demo", "u", "shut off")
    (found,) = strangers(reading(CHAIN, demo, entries=(lost,)))
    assert (found.name, found.level, found.waivable) == ("active-job", "refuse", True)
    assert (found.images, found.holders) == ((lost.path,), ("demo",))
    assert list(strangers(reading(CHAIN, entries=(lost,)))) == []
    assert list(strangers(reading(CHAIN, replace(demo, uuid="v"), entries=(lost,)))) == []
    there = CHAIN.edited(records=[SnapshotRecord("demo", "a")])
    assert list(strangers(reading(there, demo, entries=(lost,)))) == []
    for other in (SnapshotRecord("demo", "b"), SnapshotRecord("x", "a")):
        assert len(list(strangers(reading(CHAIN.edited(records=[other]), demo, entries=(lost,))))) == 1
