"""Checks of the places of new files, on made-up forests."""

from __future__ import annotations

from support.forests import forest, image

from vmsnap_nb.plans.checks.folders import free_name, room
from vmsnap_nb.plans.concern import warn
from vmsnap_nb.plans.facts import FolderFacts
from vmsnap_nb.words.message import t


def test_a_file_and_an_image_that_is_there_stand_in_the_way() -> None:
    tree = forest(image("base"), image("gone", status="missing"), image("top", "gone"))
    taken = FolderFacts(frozenset({"/i/notes"}))
    for path in ("/i/notes", "/i/base"):
        [concern] = free_name(tree, taken, path, t("remove it"))
        assert (concern.name, concern.level, concern.remedy) == ("file-exists", "refuse", "remove it")
        assert concern.what == f"{path} already exists and will not be overwritten"
    assert list(free_name(tree, taken, "/i/new")) == []


def test_a_file_that_would_become_a_backing_file_is_refused_or_warned_of() -> None:
    tree = forest(image("gone", status="missing"), image("top", "gone"))
    [refused] = free_name(tree, FolderFacts(), "/i/gone")
    [warned] = free_name(tree, FolderFacts(), "/i/gone", shared=warn)
    assert (refused.name, refused.level, warned.level) == ("shared-base", "refuse", "warn")
    assert refused.images == ("/i/gone", "/i/top")


def test_room_that_is_an_estimate_may_be_waived() -> None:
    folders = FolderFacts(free={"/i": 10, "/j": 10}, closed={"/k": "it is not a folder"})
    concerns = list(room(folders, {"/i": 11, "/j": 11, "/k": 1, "/l": 99, "/m": 0}, {"/j": t("mostly for x")}))
    assert [(concern.name, concern.waivable) for concern in concerns] == [
        ("no-space", False),
        ("no-space", True),
        ("no-permission", False),
    ]
    assert concerns[1].what == "/j has 10 bytes free, but up to 11 are needed, mostly for x"
