"""What is left where a merge or a pull was cut short, on made-up images."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import forest, image

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain, Use
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.snapshot import SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.checks.interrupted import (
    finishing,
    is_chain,
    is_done,
    is_gone,
    is_torn,
    may_lack,
    overlays_of_base,
    read_before,
    reads_otherwise,
    settled,
    who,
)
from vmsnap_nb.plans.journal import Began, MergeEntry, PullEntry

MERGE = MergeEntry(base="/i/base", top="/i/top", merged=("/i/mid", "/i/top"), children=("/i/over",))
CHAIN = forest(image("base"), image("mid", "base"), image("top", "mid"), image("over", "top"))
GONE = {"status": "missing"}


def tree(*put: Image, without: tuple[str, ...] = (), used: str | None = None) -> Forest:
    uses = () if used is None else (Use("demo", "vda", used),)
    return CHAIN.edited(put=put, drop=without, uses=uses)


def test_an_image_is_gone_that_is_missing_or_was_never_read() -> None:
    there = tree(image("mid", "base", **GONE))
    assert [is_gone(there, path) for path in ("/i/base", "/i/mid", "/i/never")] == [False, True, True]


def test_a_mark_or_a_guest_on_the_base_says_that_all_was_copied() -> None:
    assert settled(CHAIN, MERGE).phase == "copying"
    assert settled(tree(image("top", "mid", status="invalid")), MERGE).phase == "copied"
    assert settled(tree(without=("/i/top",)), MERGE).phase == "copying"
    at_base = tree(used="/i/base")
    assert settled(at_base, MERGE).phase == "copying"
    assert settled(at_base, replace(MERGE, active=True)).phase == "copied"
    assert settled(tree(used="/i/top"), replace(MERGE, active=True)).phase == "copying"


def test_a_merge_can_go_on_while_its_layers_are_based_on_the_base() -> None:
    assert is_chain(CHAIN, MERGE)
    assert not is_chain(tree(image("mid")), MERGE)
    assert not is_chain(tree(image("top", "mid", **GONE)), MERGE)
    assert not is_chain(tree(without=("/i/top",)), MERGE)


def test_a_deletion_of_libvirt_is_done_when_the_layer_and_its_record_are_gone() -> None:
    entry = replace(MERGE, by_libvirt=True)
    done = tree(image("over", "base"), without=("/i/top",))
    assert is_done(done, entry)
    assert not is_done(done, MERGE)
    assert not is_done(CHAIN, entry)
    assert not is_done(tree(image("over", "base")), entry)
    assert not reads_otherwise(done, entry, "/i/over")
    assert not is_done(tree(without=("/i/top",)), entry), "an overlay still needs it"
    for disk in (SnapshotDisk("vda", "external", "/i/top"), SnapshotDisk("vda", "external", "/i/mid", "/i/top")):
        assert is_done(done.edited(records=[SnapshotRecord("demo", "a", disks=(disk,))]), entry)
        far = replace(entry, base="/j/base")
        moved = done.edited(put=[image("over", "/j/base"), image("/j/base")])
        assert is_done(moved, far)
        assert not is_done(moved.edited(records=[SnapshotRecord("demo", "a", disks=(disk,))]), far)


@pytest.mark.parametrize(
    ("there", "entry", "torn"),
    [
        (CHAIN, MERGE, False),
        (tree(image("over", "base")), MERGE, True),
        (tree(image("over", "base")), replace(MERGE, phase="copied"), False),
        (tree(image("over", "base"), used="/i/base"), MERGE, False),
        (tree(image("over", "mid")), MERGE, False),
        (tree(image("over")), MERGE, False),
        (tree(without=("/i/over",)), MERGE, False),
    ],
)
def test_an_overlay_that_is_based_on_the_base_too_early_reads_otherwise(
    there: Forest, entry: MergeEntry, torn: bool
) -> None:
    assert reads_otherwise(there, entry, "/i/over") == torn
    assert is_torn(there, entry) == torn
    assert not is_torn(there, replace(entry, children=()))
    assert not reads_otherwise(there, entry, "/i/never")


def test_overlays_are_found_by_every_name_of_the_base() -> None:
    there = tree(image("base", identity=(1, 1)), image("link", identity=(1, 1)), image("over", "link"))
    assert overlays_of_base(there, MERGE) == ("/i/over",)
    assert overlays_of_base(CHAIN, MERGE) == overlays_of_base(tree(without=("/i/over",)), MERGE) == ()


def test_what_a_pull_may_have_left_without_data_and_what_it_read_before() -> None:
    pull = PullEntry(image="/i/top", written="/i/mid", base="/i/base")
    assert [path for path in (*CHAIN.images, "/i/top", "/never") if may_lack(CHAIN, pull, path)] == [
        "/i/top",
        "/i/over",
        "/i/top",
    ]
    assert may_lack(forest(), pull, "/i/top")
    assert read_before(CHAIN, pull) == ("/i/mid", "/i/base")
    assert read_before(forest(), pull) == ("/i/mid",)
    linked = tree(image("mid", "base", identity=(1, 1)), image("link", "base", identity=(1, 1)))
    assert set(read_before(linked, pull)) == {"/i/mid", "/i/link", "/i/base"}


def test_who_began_it_and_who_can_finish_it() -> None:
    began = Began(user="ann", uid=1000, pid=7, host="lab", at="2026-11-28T10:00:00+00:00")
    assert who(began) == "ann (uid 1000, process 7 on lab) at 2026-11-28 10:00:00 UTC"
    assert who(replace(began, user="")).startswith("an unknown user (uid 1000")
    of_guest = replace(MERGE, guest="it's", uuid="u")
    assert finishing(MERGE) == "forest.unfinished()"
    assert finishing(of_guest) == 'host.guest("it\'s").unfinished()'
    demo = Domain("demo", "v", "shut off")
    assert finishing(MERGE, demo) == "guest.unfinished()"
    assert finishing(of_guest, demo) == 'host.guest("it\'s").unfinished()'
    assert finishing(of_guest, replace(demo, uuid="u")) == "guest.unfinished()"
    assert finishing(of_guest, replace(demo, name="it's")) == "guest.unfinished()"
