"""What becomes of dirty bitmaps where layers become one image: carried over, or lost for a reason that is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.forests import MIB, UNIT, forest, image

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Bitmap
from vmsnap_nb.plans.checks.bitmaps import Merged, enlarged, lost, merged_down, merged_up, removed

AUTO = Bitmap("b", UNIT, ("auto",))
OFF = Bitmap("b", UNIT, ())
UNSAVED = Bitmap("b", UNIT, ("auto", "in-use"))


def chain(base: tuple[Bitmap, ...] = (), middle: tuple[Bitmap, ...] = (), top: tuple[Bitmap, ...] = ()) -> Forest:
    return forest(
        image("base", bitmaps=base), image("middle", "base", bitmaps=middle), image("top", "middle", bitmaps=top)
    )


def down(tree: Forest, *, size: int | None = 64 * MIB, live: bool = False, checkpoints: tuple[str, ...] = ()) -> Merged:
    return merged_down(tree, "/i/base", ("/i/middle", "/i/top"), size, live=live, checkpoints=checkpoints)


def carried(made: Merged) -> list[tuple[tuple[str, ...], bool, bool]]:
    return [(one.sources, one.new, one.recording) for one in made.carried]


def test_a_commit_carries_the_bitmap_of_the_top_with_those_below_of_that_name() -> None:
    both = ("/i/top", "/i/middle")
    assert carried(down(chain(top=(AUTO,)))) == [(("/i/top",), True, True)]
    assert carried(down(chain(middle=(AUTO,), top=(AUTO,)))) == [(both, True, True)]
    assert carried(down(chain((AUTO,), (AUTO,), (AUTO,)))) == [(both, False, True)]
    assert carried(down(chain(middle=(OFF,), top=(OFF,)))) == [(both, True, False)]


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        (chain(middle=(AUTO,)), "has no bitmap with that name"),
        (chain(middle=(OFF,), top=(AUTO,)), "but not both"),
        (chain(base=(OFF,), top=(AUTO,)), "but not both"),
        (chain(base=(UNSAVED,), top=(AUTO,)), "in base was not saved"),
        (chain(middle=(UNSAVED,), top=(AUTO,)), "in middle was not saved"),
    ],
)
def test_a_bitmap_that_does_not_go_with_the_others_is_lost_and_said(tree: Forest, why: str) -> None:
    made = down(tree)
    assert made.carried == ()
    [concern] = [one for one in lost(tree, made, "/i/base") if one.level == "refuse"]
    assert (concern.name, concern.waivable) == ("backup-chain", True)
    assert why in concern.what


@pytest.mark.parametrize("fields", [{"format": "raw"}, {"format": None}, {"compat": "0.10"}])
def test_a_base_that_can_hold_no_bitmap(fields: dict[str, object]) -> None:
    tree = chain(top=(AUTO,))
    tree = tree.edited(put=[replace(tree["/i/base"], **fields)])  # type: ignore[arg-type]
    assert down(tree).carried == ()
    assert set(down(tree).lost) == {("/i/top", "b")}


def test_bitmaps_of_other_sizes_are_merged_by_libvirt_alone() -> None:
    tree = chain(top=(AUTO,))
    assert set(down(tree, size=65 * MIB).lost) == {("/i/top", "b")}
    assert carried(down(tree, size=None)) == carried(down(tree, size=65 * MIB, live=True)) == carried(down(tree))


def test_what_was_not_saved_was_of_no_use_before() -> None:
    tree = chain(top=(UNSAVED,))
    made = down(tree)
    assert (made.carried, dict(made.lost), made.worthless) == ((), {}, (("/i/top", "b"),))
    assert [one.level for one in lost(tree, made, "/i/base")] == ["note"]


def test_of_a_qemu_that_writes_the_file_says_nothing() -> None:
    tree = chain(top=(UNSAVED,))
    tree = tree.edited(put=[replace(tree["/i/top"], held="write")])
    assert carried(down(tree, live=True, checkpoints=("b", "c"))) == [(("/i/top",), True, True)] * 2
    assert down(tree, checkpoints=("c",)).worthless == (("/i/top", "b"),)
    assert carried(down(chain(), live=True, checkpoints=("c",))) == [], "it does not write to that image"


def test_a_pull_loses_what_the_layers_below_had_recorded() -> None:
    def up(tree: Forest, *, live: bool = False) -> Merged:
        return merged_up(tree, ("/i/top", "/i/middle"), 64 * MIB, live=live)

    assert carried(up(chain(middle=(AUTO,), top=(AUTO,)))) == [(("/i/middle",), False, True)]
    assert up(chain(top=(AUTO,))) == up(chain(middle=(AUTO,))) == Merged()
    assert up(chain(middle=(AUTO,), top=(UNSAVED,))) == Merged()
    tree = chain(middle=(OFF,), top=(AUTO,))
    [concern] = lost(tree, up(tree), "/i/top", up=True)
    assert (concern.level, concern.waivable) == ("refuse", False), "a backup would miss changes and nobody would know"
    held = tree.edited(
        put=[replace(tree["/i/top"], held="write", bitmaps=(UNSAVED,)), replace(tree["/i/middle"], bitmaps=(AUTO,))]
    )
    assert carried(up(held, live=True)) == [(("/i/middle",), False, True)]


def test_a_removed_file_takes_its_bitmaps_along() -> None:
    tree = chain(top=(AUTO,))
    assert [(one.level, one.waivable) for one in removed(tree, "/i/top")] == [("refuse", True)]
    assert list(removed(tree, "/i/top", {("/i/top", "b")})) == []
    assert list(removed(chain(top=(UNSAVED,)), "/i/top")) == list(removed(chain(), "/i/top")) == []
    merged = tree.edited(put=[replace(tree["/i/top"], status="invalid")])
    assert list(removed(merged, "/i/top")) == []


def test_a_bitmap_of_the_base_records_what_is_copied_into_it() -> None:
    def told(tree: Forest) -> list[str]:
        return [one.level for one in enlarged(tree, "/i/base", down(tree))]

    assert told(chain(base=(AUTO,))) == ["note"]
    assert told(chain(base=(AUTO,), top=(AUTO,))) == told(chain(base=(OFF,))) == told(chain(base=(UNSAVED,))) == []
