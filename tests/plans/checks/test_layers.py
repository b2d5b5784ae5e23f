"""Checks of whether QEMU can open the images of a chain, on made-up forests."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import forest, image

from vmsnap_nb.model.image import Status
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.checks.layers import (
    backing_format,
    broken,
    exposure,
    locked,
    lower_keys,
    missing,
    new_overlay_exposes,
    unreadable,
    usable,
)
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
        ("missing-base", "/i/base does not exist"),
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


@pytest.mark.parametrize("status", ["missing", "unreadable", "not-a-file", "corrupt", "invalid", "unsupported"])
def test_a_guest_gets_no_chain_with_a_layer_that_qemu_cannot_open(status: Status) -> None:
    tree = forest(image("base", status=status), image("top", "base"))
    assert [(one.level, one.waivable, one.images) for one in broken(tree, "/i/top")] == [
        ("refuse", False, ("/i/base",))
    ]
    opened = [(one.level, one.images) for one in broken(tree, "/i/top", opened=True)]
    assert opened == [("note" if status == "unreadable" else "refuse", ("/i/base",))]
    itself = forest(image("top", status=status))
    assert [one.level for one in broken(itself, "/i/top", opened=True)] == ["refuse"]


@pytest.mark.parametrize(("known_from", "level"), [("definition", "note"), ("volume", "note"), ("file", "refuse")])
def test_what_libvirt_opens_alone_may_be_closed_to_this_process(known_from: str, level: str) -> None:
    tree = forest(image("top", status="unreadable", known_from=known_from))
    assert [one.level for one in broken(tree, "/i/top", by_libvirt=True)] == [level]
    assert [one.level for one in broken(tree, "/i/top")] == ["refuse"]


OTHERS = ("parallels", "qcow", "qed", "vdi", "vhdx", "vmdk", "vpc")
RAW_DATA = {"format": "raw", "problem": "it begins like a qcow2 image"}


@pytest.mark.parametrize(
    ("fields", "as_layer", "as_base", "as_source"),
    [
        ({}, [], [], []),
        ({"format": "raw"}, [False], [], []),
        (RAW_DATA, [False], [True], []),
        ({"format": "luks"}, [False], [], []),
        *(({"format": format}, [False], [True], []) for format in OTHERS),
        ({"format": "bochs"}, [False], [True], [True]),
        ({"data_file": Reference("d", "relative", "/i/d", "raw"), "data_status": "ok"}, [False], [False], [False]),
    ],
)
def test_data_is_merged_between_formats_that_were_tried(
    fields: dict[str, object], as_layer: list[bool], as_base: list[bool], as_source: list[bool]
) -> None:
    """Each list says of a refusal whether it can be waived."""
    tree = forest(image("one", **fields))
    for parts, layers, into, refused in (
        (("/i/one",), ("/i/one",), "", as_layer),
        (("/i/one",), (), "/i/one", as_base),
        (("/i/one",), (), "", as_source),
        ((), (), "", []),
    ):
        found = list(usable(tree, "/i/one", parts=parts, layers=layers, into=into))
        assert [(one.level, one.waivable) for one in found] == [("refuse", waivable) for waivable in refused]


@pytest.mark.parametrize(
    ("recorded", "real", "name"),
    [
        ("qcow2", "qcow2", None),
        (None, "qcow2", "backing-format-missing"),
        (None, None, None),
        ("raw", "qcow2", "backing-format-wrong"),
        ("raw", None, None),
    ],
)
def test_the_recorded_format_must_be_that_of_the_backing_file(
    recorded: str | None, real: str | None, name: str | None
) -> None:
    top = replace(image("top"), backing=Reference("/i/base", "absolute", "/i/base", recorded))
    found = [(one.name, one.level, one.waivable) for one in backing_format(top, image("base", format=real))]
    assert found == ([] if name is None else [(name, "refuse", True)])


def test_what_is_encrypted_needs_its_key_and_stays_encrypted() -> None:
    tree = forest(
        image("base", format="raw", encryption="luks"), image("top", "base", encryption="luks"), image("plain", "base")
    )
    assert [(one.images, one.waivable) for one in locked(tree, tree.images)] == [
        (("/i/base",), True),
        (("/i/top",), False),
    ]
    assert [(one.level, one.images) for one in exposure(tree, ["/i/top", "/i/plain"], "/i/plain")] == [
        ("refuse", ("/i/plain", "/i/top"))
    ]
    assert list(exposure(tree, ["/i/top"], "/i/base")) == list(exposure(tree, ["/i/plain"], "/i/plain")) == []
    found = [(one.images, one.level, one.waivable) for one in lower_keys(tree, "/i/top", "g", t("wait"))]
    assert found == [(("/i/top",), "refuse", False), (("/i/base",), "refuse", True)]
    assert [one.level for one in new_overlay_exposes(tree["/i/top"])] == ["warn"]
    assert list(new_overlay_exposes(tree["/i/plain"])) == []
    unlocked = usable(tree, "/i/top", layers=(), keys=True)
    assert [one.name for one in unlocked if one.level == "refuse" and "key" in one.what] == []
