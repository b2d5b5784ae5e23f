"""The block map: who owns what, what is hidden, and what a merge has to copy; against counting block by block."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmsnap_nb.errors import ImageError
from vmsnap_nb.model.blockmap import BlockMap, Extent, LayerMap
from vmsnap_nb.system.blockmap import map_argv, parse_map

UNIT = 4096
BLOCKS = 8


def layer(number: int, kinds: str) -> LayerMap:
    """Make a layer of a text: one character a block, `d` for data, `0` for said to be zero, `.` for nothing."""
    extents = [Extent(i * UNIT, UNIT, kind == "0") for i, kind in enumerate(kinds) if kind != "."]
    return LayerMap(f"/i/{number}", len(kinds) * UNIT, tuple(extents), UNIT)


def blockmap(*texts: str) -> BlockMap:
    return BlockMap(tuple(layer(number, text) for number, text in enumerate(texts)))


def seen(texts: list[str], block: int, last: int) -> tuple[int | None, str]:
    """Which layer the guest reads a block from when `last` is the last layer, and of what kind: by the rule itself."""
    for number in range(last, -1, -1):
        if block >= len(texts[number]):
            return number, "0"  # this layer has ended: the ones above read zeros
        if texts[number][block] != ".":
            return number, texts[number][block]
    return None, "."


chains = st.lists(st.text("d0.", min_size=1, max_size=BLOCKS), min_size=1, max_size=6)


@given(chains)
def test_every_block_has_the_owner_that_the_rule_gives(texts: list[str]) -> None:
    blocks = blockmap(*texts)
    last = len(texts) - 1
    visible = {}
    for run in blocks.visible:
        for block in range(run.start // UNIT, (run.start + run.length) // UNIT):
            assert block not in visible
            visible[block] = (run.layer, run.kind[0].replace("z", "0"))
    for block in range(len(texts[last])):
        owner, kind = seen(texts, block, last)
        if owner is not None and block < len(texts[owner]):
            assert visible[block] == (owner, kind)
        else:
            assert block not in visible
        assert blocks.owner(block * UNIT) == owner
    for number, (own, hidden) in enumerate(blocks.totals):
        assert own + hidden == blocks.layers[number].data


@given(chains, st.data())
def test_bytes_of_a_merge_are_those_counted_block_by_block(texts: list[str], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(texts) - 1))
    last = data.draw(st.integers(first, len(texts) - 1))
    into = data.draw(st.integers(first, last))
    blocks = blockmap(*texts)
    copied: dict[int, int] = {}
    wanted: list[tuple[int, bool]] = []
    group = texts[first : last + 1]
    for block in range(len(texts[last])):
        owner, kind = seen(group, block, last - first)
        if owner is not None and owner + first != into:
            wanted.append((block, kind == "0"))
            if kind == "d":
                copied[owner + first] = copied.get(owner + first, 0) + UNIT
    assert blocks.to_copy(first, last, into) == copied
    found = [
        (block, extent.zero)
        for extent in blocks.extents_to_copy(first, last, into)
        for block in range(extent.start // UNIT, extent.end // UNIT)
    ]
    assert found == wanted


@given(chains, st.data())
def test_a_merged_layer_reads_as_the_layers_did(texts: list[str], data: st.DataObject) -> None:
    into = data.draw(st.integers(0, len(texts) - 1))
    merged = blockmap(*texts).merged(into)
    kinds = ["."] * len(texts[-1])
    for extent in merged.extents:
        for block in range(extent.start // UNIT, extent.end // UNIT):
            kinds[block] = "0" if extent.zero else "d"
    assert kinds == [seen(texts, block, len(texts) - 1)[1] for block in range(len(texts[-1]))]


def test_room_counts_new_clusters_once() -> None:
    blocks = blockmap("dd......", ".dd.....", "..dd....")
    # blocks 1, 2 and 3 go into the base, which holds block 1 already
    assert blocks.to_copy(0, 2, 0) == {1: UNIT, 2: 2 * UNIT}
    room = blocks.room_to_copy(0, 2, 0)
    fresh = blocks.room_to_copy(0, 2, 0, fresh=True)
    assert fresh - room == UNIT
    assert blockmap("dd", "..").room_to_copy(0, 1, 0) == 0


def test_neighbouring_runs_are_one() -> None:
    assert [(run.start, run.length) for run in blockmap("dddd").runs] == [(0, 4 * UNIT)]
    assert blockmap("d", ".").owner(5 * UNIT) is None
    assert BlockMap(()).size == 0
    assert BlockMap(()).runs == ()


ANSWER = b"""[{"start": 0, "length": 512, "depth": 0, "present": true, "zero": false, "data": true, "offset": 1},
{"start": 512, "length": 512, "depth": 0, "present": true, "zero": false, "data": true, "compressed": true},
{"start": 1024, "length": 512, "depth": 0, "present": false, "zero": true, "data": false},
{"start": 1536, "length": 512, "depth": 0, "present": true, "zero": true, "data": false}]"""


def test_the_answer_of_qemu_img() -> None:
    found = parse_map(ANSWER, "/i/a", 2048, 512)
    assert found.extents == (Extent(0, 1024), Extent(1536, 512, zero=True))
    assert found.data == 1024


@pytest.mark.parametrize("answer", [b"", b"{}x", b'{"start": 1}', b"[1]", b'[{"start": "x"}]', b"null", b"\xff"])
def test_an_answer_that_is_none_is_an_error(answer: bytes) -> None:
    with pytest.raises(ImageError, match="not understood"):
        parse_map(answer, "/i/a", 2048, 512)


def test_a_name_that_is_no_text_is_given_in_the_other_form() -> None:
    assert map_argv("/i/a\udcff,b", "qcow2")[-2:] == (
        "--image-opts",
        "driver=qcow2,file.driver=file,file.filename=/i/a\udcff,,b,backing=",
    )
    assert '"backing": null' in map_argv("/i/\u865a", "qcow2")[-1]
    assert "backing" not in map_argv("/i/a", "raw")[-1]
