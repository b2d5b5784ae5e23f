"""Overlays that may not belong to the images that they name: sizes and times tell."""

from __future__ import annotations

from support.forests import MIB, forest, image

from vmsnap_nb.plans.checks.layers import doubts

SECOND = 10**9


def names(*images: object) -> list[str]:
    return [concern.name for concern in doubts(forest(*images), "/i/top")]  # type: ignore[arg-type]


def test_an_overlay_that_is_smaller_than_its_base_is_named() -> None:
    assert names(image("base"), image("top", "base", virtual_size=32 * MIB)) == ["smaller-size"]
    assert names(image("base"), image("top", "base", virtual_size=96 * MIB)) == []


def test_a_base_that_was_written_to_after_its_overlay_is_named() -> None:
    top = image("top", "base", mtime_ns=100 * SECOND)
    assert names(image("base", mtime_ns=99 * SECOND), top) == []
    assert names(image("base", mtime_ns=101 * SECOND), top) == [], "QEMU closes it somewhat later"
    (concern,) = doubts(forest(image("base", mtime_ns=4000 * SECOND), top), "/i/top")
    assert (concern.name, concern.level, concern.images) == ("disk-changed", "warn", ("/i/top", "/i/base"))
    assert "base was modified at 1970-01-01 01:06:40 UTC" in concern.what
    assert names(image("base", mtime_ns=4000 * SECOND), image("top", "base", mtime_ns=1, held="write")) == []
