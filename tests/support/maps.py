"""Block maps made of texts: which layer has what."""

from __future__ import annotations

from vmsnap_nb.model.blockmap import BlockMap, Extent, LayerMap

UNIT = 4096


def layer(number: int, kinds: str) -> LayerMap:
    """Make a layer of a text: one character a block, `d` for data, `0` for said to be zero, `.` for nothing."""
    extents = [Extent(i * UNIT, UNIT, kind == "0") for i, kind in enumerate(kinds) if kind != "."]
    return LayerMap(f"/i/{number}", len(kinds) * UNIT, tuple(extents), UNIT)


def blockmap(*texts: str) -> BlockMap:
    return BlockMap(tuple(layer(number, text) for number, text in enumerate(texts)))
