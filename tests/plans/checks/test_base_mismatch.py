"""Overlays that may not belong to the images that they name: sizes and times tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from support.forests import MIB, forest, image

from vmsnap_nb.model.base_record import BaseRecord
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.checks.layers import broken, doubts, usable

SECOND = 10**9


def names(*images: object) -> list[str]:
    return [concern.name for concern in doubts(forest(*images), "/i/top")]  # type: ignore[arg-type]


def test_an_overlay_that_is_smaller_than_its_base_is_named() -> None:
    assert names(image("base"), image("top", "base", virtual_size=32 * MIB)) == ["smaller-size"]
    assert names(image("base"), image("top", "base", virtual_size=96 * MIB)) == []
    assert names(image("base"), image("top", "base", virtual_size=None)) == []
    assert names(image("base", virtual_size=None), image("top", "base", virtual_size=MIB)) == []
    written = 'json:{"driver": "raw", "offset": 0, "file": {"driver": "file", "filename": "/i/base"}}'
    part = Reference(written, "absolute", "/i/base", "raw")
    assert names(image("base"), replace(image("top", virtual_size=MIB), backing=part)) == [], "it reads a part of it"


def test_a_base_that_was_written_to_after_its_overlay_is_named() -> None:
    top = image("top", "base", mtime_ns=100 * SECOND)
    assert names(image("base", mtime_ns=99 * SECOND), top) == []
    assert names(image("base", mtime_ns=101 * SECOND), top) == [], "QEMU closes it somewhat later"
    (concern,) = doubts(forest(image("base", mtime_ns=4000 * SECOND), top), "/i/top")
    assert (concern.name, concern.level, concern.images) == ("disk-changed", "warn", ("/i/top", "/i/base"))
    assert "base was modified at 1970-01-01 01:06:40 UTC" in concern.what
    assert names(image("base", mtime_ns=4000 * SECOND), image("top", "base", mtime_ns=1, held="write")) == []
    assert names(image("base", mtime_ns=4000 * SECOND, status="corrupt"), top) == []
    for no_doubt in ("corrupt", "invalid"):
        assert names(image("base", mtime_ns=4000 * SECOND), replace(top, status=no_doubt)) == []  # type: ignore[arg-type]
    assert names(image("base"), top) == names(image("base", mtime_ns=4000 * SECOND), image("top", "base")) == []


def test_a_chain_is_doubted_at_each_layer_wherever_it_is_checked() -> None:
    tree = forest(image("base", virtual_size=96 * MIB), image("low", "base"), image("top", "low", virtual_size=MIB))
    both = [("smaller-size", ("/i/top", "/i/low")), ("smaller-size", ("/i/low", "/i/base"))]
    for found in (doubts(tree, "/i/top"), broken(tree, "/i/top"), usable(tree, "/i/top", layers=())):
        assert [(one.name, one.images) for one in found] == both


def test_a_base_that_is_not_the_one_on_which_the_overlay_was_created_is_named() -> None:
    def found(record: BaseRecord | None, **now: Any) -> list[str]:
        base = image("base", **({"identity": (1, 2), "file_size": MIB, "mtime_ns": 50 * SECOND + 1} | now))
        return names(base, image("top", "base", mtime_ns=100 * SECOND, base_record=record))

    written = image("top", "base").backing
    assert written is not None
    record = BaseRecord(written.written, (1, 2), MIB, 50, b"")
    assert found(None, file_size=2 * MIB) == []
    assert found(record) == []
    assert found(record, identity=(1, 3)) == ["disk-changed"]
    assert found(record, file_size=2 * MIB) == ["disk-changed"]
    assert found(record, mtime_ns=40 * SECOND) == ["disk-changed"], "an older file"
    assert found(replace(record, mtime=10**30)) == ["disk-changed"], "forged"
    assert found(replace(record, written="other"), file_size=2 * MIB) == [], "the overlay has another base by now"
    assert found(record, file_size=2 * MIB, held="write") == []
    assert found(record, file_size=2 * MIB, status="corrupt") == []
    assert found(record, file_size=None) == found(record, mtime_ns=None) == []
    remembered = {"mtime_ns": 4000 * SECOND}
    assert found(replace(record, mtime=4000), **remembered) == [], "a plan wrote to it, and let the overlay know"
    assert found(replace(record, mtime=4000, written="other"), **remembered) == ["disk-changed"]
