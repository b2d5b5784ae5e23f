"""The map of one image from its own tables: what `qemu-img map` gives for the image alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from vmsnap_nb.system.disk.disk import changing
from vmsnap_nb.system.disk.layer import Layer
from vmsnap_nb.system.disk.qcow2_layer import Qcow2Layer
from vmsnap_nb.system.qcow2.tables import COMPRESSED, DATA, ZERO, Runs
from vmsnap_nb.system.qemu.blockmap import Piece
from vmsnap_nb.system.qemu.qemu_img import unreadable
from vmsnap_nb.words.message import t

__all__ = ["map_layer"]

_TRIES = 8
_SECONDS = 300
"""What one map may take: that of an image of 256 TiB takes about one second."""


def map_layer(layer: Layer, begin: Callable[[], object], take: Callable[[Iterator[Piece]], object]) -> None:
    """Pass to `take` what a layer holds itself, in order and table by table; `begin` is called before the first one.

    If the image was changed meanwhile, so that this would not be a map of one state of it, both are called again.
    """
    for _ in range(_TRIES):
        begin()
        if not isinstance(layer, Qcow2Layer):
            take(((start, length, kind == ZERO, kind == DATA) for start, length, kind, _ in layer.parts(0, layer.size)))
            return
        _take_tables(layer, take)
        if layer.still_holds():
            return
        layer.reload()
    raise changing(layer.name)


def _take_tables(layer: Qcow2Layer, take: Callable[[Iterator[Piece]], object]) -> None:
    deadline = time.monotonic() + _SECONDS
    holes = bool(layer.tables) and layer.preallocated
    for number in layer.tables:
        take(_pieces(layer, layer.read_table(number), holes=holes))
        if time.monotonic() > deadline:
            why = t("it did not finish within {seconds} s", seconds=_SECONDS)
            raise unreadable(t("map {image}", image=layer.name), why)


def _pieces(layer: Qcow2Layer, runs: Runs, *, holes: bool) -> Iterator[Piece]:
    """Return what a table says."""
    if holes:
        yield from _without_holes(layer, runs)
        return
    for start, length, kind, _ in zip(*runs, strict=True):
        yield start, length, kind == ZERO, kind == DATA


def _without_holes(layer: Qcow2Layer, runs: Runs) -> Iterator[Piece]:
    """Return the same for an image whose clusters were allocated without being written: holes of its file are zeros."""
    for start, length, kind, place in zip(*runs, strict=True):
        if kind == COMPRESSED:
            yield start, length, False, False
        elif kind == ZERO:
            yield start, length, True, False
        elif kind == DATA:
            done = place
            for begin, end in layer.stored(place, place + length):
                if done < begin:
                    yield start + done - place, begin - done, True, False
                yield start + begin - place, end - begin, False, True
                done = end
            if done < place + length:
                yield start + done - place, place + length - done, True, False
