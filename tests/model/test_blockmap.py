"""The block map: who owns what, what is hidden, and what a merge has to copy; against counting block by block."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.maps import UNIT, blockmap

from vmsnap_nb.errors import ImageError
from vmsnap_nb.model.blockmap import BlockMap, Extent, LayerMap
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.reference import parse_reference
from vmsnap_nb.system.qemu.blockmap import LayerParser, MapParser, map_argv

BLOCKS = 8


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


IMAGE = Image("/i/a", "qcow2", virtual_size=2048, cluster_size=512, file_size=1 << 20)


def parsed(
    answer: bytes, image: Image = IMAGE, piece: int = 100, room: Callable[[int], None] = lambda _: None
) -> LayerMap:
    layer = LayerParser(image, "map /i/a", room)
    parser = MapParser("map /i/a", layer.take)
    for start in range(0, len(answer), piece):
        parser.take(answer[start : start + piece])
        layer.check()
    parser.end()
    return layer.layer()


@pytest.mark.parametrize("piece", [1, 7, 100, 10000])
def test_the_answer_of_qemu_img(piece: int) -> None:
    found = parsed(ANSWER, piece=piece)
    assert (found.path, found.size, found.cluster_size) == ("/i/a", 2048, 512)
    assert found.extents == (Extent(0, 1024), Extent(1536, 512, zero=True))
    assert found.data == 1024


@pytest.mark.parametrize("answer", [b"", b"{}x", b'{"start": 1}', b"[1]", b'[{"start": "x"}]', b"null", b"\xff", b"]"])
def test_an_answer_that_is_none_is_an_error(answer: bytes) -> None:
    with pytest.raises(ImageError, match=r"output of qemu-img"):
        parsed(answer)


@given(
    st.binary() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(lambda x: json.dumps([x]).encode())
)
def test_any_answer_is_a_map_or_a_named_error(answer: bytes) -> None:
    with contextlib.suppress(ImageError):
        parsed(answer)


def test_a_line_without_an_end_is_not_kept() -> None:
    with pytest.raises(ImageError, match="line of more than 1 MiB"):
        parsed(b"[" + b" " * (3 << 20), piece=1 << 16)


def entries(count: int, kind: str) -> bytes:
    lines = (f'{{"start": {n * 1024}, "length": 512, "depth": 0, "present": true, {kind}}}' for n in range(count))
    return ("[" + ",\n".join(lines) + "]\n").encode()


DATA = '"zero": false, "data": true, "offset": 65536'
ZERO = '"zero": true, "data": false'


def test_tables_that_name_more_than_the_file_holds_are_an_error() -> None:
    small = replace(IMAGE, file_size=4096)
    assert len(parsed(entries(9, DATA), small).extents) == 9
    with pytest.raises(ImageError, match="A file of 4 KiB cannot hold that"):
        parsed(entries(10, DATA), small)
    assert len(parsed(entries(513, ZERO), small).extents) == 513
    with pytest.raises(ImageError, match="514 parts"):
        parsed(entries(514, ZERO), small)
    # Each of these may hold more: with subclusters, written meanwhile, with its data elsewhere, or packed.
    assert parsed(entries(8000, ZERO), replace(small, extended_l2=True))
    assert parsed(entries(18 - 1, DATA), replace(small, held="write", path=os.devnull))
    assert parsed(entries(500, DATA), replace(small, data_file=parse_reference("/i/data", folder="/i")))
    assert parsed(entries(500, DATA.removesuffix(', "offset": 65536')), small)
    assert parsed(entries(5000, DATA), replace(small, format="vmdk"))


def test_a_name_that_is_no_text_is_given_in_the_other_form() -> None:
    assert map_argv("/i/a\udcff,b", "qcow2")[-2:] == (
        "--image-opts",
        "driver=qcow2,file.driver=file,file.filename=/i/a\udcff,,b,backing=",
    )
    assert '"backing": null' in map_argv("/i/\u865a", "qcow2")[-1]
    assert "backing" not in map_argv("/i/a", "raw")[-1]
