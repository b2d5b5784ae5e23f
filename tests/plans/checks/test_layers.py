"""Checks of whether QEMU can open the images of a chain, on made-up forests."""

from __future__ import annotations

import pytest
from support.forests import forest, image

from vmsnap_nb.model.image import Status
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.checks.layers import broken, missing, unreadable, usable
from vmsnap_nb.plans.concern import warn
from vmsnap_nb.words.message import t


def test_each_layer_that_is_missing_or_damaged_is_named() -> None:
    tree = forest(
        image("base", status="missing", problem="the file does not exist"),
        image("middle", "base", status="corrupt", problem="QEMU says so"),
        image("top", "middle"),
    )
    assert [(concern.name, concern.what) for concern in broken(tree, "/i/top", t("fix it"))] == [
        ("missing-base", "/i/middle is corrupt: QEMU says so"),
        ("missing-base", "/i/base is missing: the file does not exist"),
    ]
    assert [concern.remedy for concern in broken(tree, "/i/middle", t("fix it"))] == [t("fix it")] * 2


def test_an_image_that_is_unknown_is_missing() -> None:
    assert list(broken(forest(), "/i/top")) == [missing("/i/top")]
    assert missing("/i/top", concern=warn).level == "warn"


@pytest.mark.parametrize("status", ["outside", "remote", "unknown"])
def test_data_that_was_not_read_is_said_of_every_layer(status: Status) -> None:
    data = Reference("/etc/shadow", "absolute", "/etc/shadow", "raw")
    tree = forest(image("base", data_file=data, data_status=status), image("top", "base"))
    found = [*broken(tree, "/i/top"), *usable(tree, "/i/top", layers=())]
    assert [(one.name, one.level) for one in found] == [("untrusted-backing", "warn"), ("untrusted-backing", "refuse")]
    assert all("/etc/shadow" in one.what for one in found)
    assert list(broken(forest(image("base", data_file=data, data_status="ok")), "/i/base")) == []


def test_images_that_are_based_on_themselves_are_a_loop() -> None:
    tree = forest(image("a", "b"), image("b", "a"), image("top", "a"))
    assert [(concern.name, concern.images) for concern in broken(tree, "/i/top")] == [
        ("loop", ("/i/a",)),
        ("loop", ("/i/b",)),
    ]


@pytest.mark.parametrize(
    ("status", "name", "waivable"),
    [
        ("outside", "untrusted-backing", True),
        ("remote", "untrusted-backing", True),
        ("unknown", "backing-format-missing", False),
        ("unreadable", "unknown-image", False),
        ("invalid", "missing-base", False),
    ],
)
def test_an_image_that_cannot_be_read_says_why(status: Status, name: str, *, waivable: bool) -> None:
    [concern] = unreadable(image("top"), status, waivable=True)
    assert (concern.name, concern.level, concern.waivable) == (name, "refuse", waivable)
    assert list(unreadable(image("top"), "ok")) == []
    # What was not read may be in order: that alone stops no snapshot.
    assert list(broken(forest(image("top", status="outside")), "/i/top")) == []
