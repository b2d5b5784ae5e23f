"""What a guest reads through the layers of a chain, without a process and without a lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vmsnap_nb.errors import ImageError
from vmsnap_nb.system.disk.layer import Layer, Part
from vmsnap_nb.system.qcow2.tables import NONE, ZERO
from vmsnap_nb.system.sources.source import Source, new_buffer
from vmsnap_nb.words.message import t

__all__ = ["Disk", "Seen"]

_TRIES = 8
_LARGE = 64 << 10
_PIECE = 4 << 20
"""Bytes that are read at once: so much is read again if an image was changed meanwhile."""


class Seen(NamedTuple):
    """A part of the disk that comes from one layer; with None for `layer` none has anything, and it reads as zeros."""

    layer: int | None  # 0 is the base
    part: Part


class Disk(Source):
    """The layers of a chain, base first, as one disk; itself a source, of the bytes that the guest reads.

    A guest may be writing to the images. If tables change while they are used, they are read again, so that what is
    read is what the files say at one time: it is like a disk after a power failure. QEMU keeps changes of the tables in
    memory for a while; until it writes them, what the guest has discarded can read as anything that the guest has
    written since. A disk is used by one thread at a time.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = tuple(layers)
        self.name = self._layers[-1].name

    @property
    def size(self) -> int:
        """Bytes of the disk, as the top layer has it."""
        return self._layers[-1].size

    def parts(self, start: int = 0, end: int | None = None) -> Iterator[Seen]:
        """Return which layer the guest reads each part of a range from: all of it, but not in order."""
        end = self.size if end is None else min(end, self.size)
        todo = [(start, end)] if start < end else []
        for number in range(len(self._layers) - 1, -1, -1):
            if not todo:
                return
            below: list[tuple[int, int]] = []
            layer = self._layers[number]
            for begin, stop in todo:
                if stop > layer.size:  # what is above a shorter layer reads as zeros, whatever lies below it
                    ended = max(begin, layer.size)
                    yield Seen(None, Part(ended, stop - ended, NONE, 0))
                    stop = ended
                for part in layer.parts(begin, stop) if begin < stop else ():
                    if part.kind != NONE:
                        yield Seen(number, part)
                    elif below and below[-1][1] == part.start:
                        below[-1] = (below[-1][0], part.start + part.length)
                    else:
                        below.append((part.start, part.start + part.length))
            todo = below
        for begin, stop in todo:
            yield Seen(None, Part(begin, stop - begin, NONE, 0))

    def pread(self, offset: int, length: int) -> bytes:
        """Return what the guest reads at an offset, fewer bytes only at the end of the disk."""
        length = max(0, min(length, self.size - offset))
        buffer = new_buffer(length) if length >= _LARGE else memoryview(bytearray(length))
        self.pread_into(offset, buffer)
        return bytes(buffer)

    def pread_into(self, offset: int, buffer: memoryview) -> int:
        """Read into a buffer; return how many bytes there were."""
        length = max(0, min(len(buffer), self.size - offset))
        for start in range(0, length, _PIECE):
            self._piece(offset + start, buffer[start : min(start + _PIECE, length)])
        return length

    def _piece(self, offset: int, buffer: memoryview) -> None:
        for _ in range(_TRIES):
            damage: ImageError | None = None
            try:
                self._read(offset, buffer)
            except ImageError as error:
                damage = error
            settled = [layer.settle() for layer in self._layers]
            if all(settled):
                if damage is not None:  # it is not the reading of an old table that made it seem damaged
                    raise damage
                return
        raise changing(self.name)

    def _read(self, offset: int, buffer: memoryview) -> None:
        for layer, part in self.parts(offset, offset + len(buffer)):
            within = buffer[part.start - offset : part.start - offset + part.length]
            if layer is None or part.kind == ZERO:
                within[:] = bytes(part.length)
            else:
                self._layers[layer].read_part(part, within)

    def data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Return the parts of a range that a layer has data for, in order."""
        place = start
        while place < end:
            stop = min(place + (_PIECE << 4), end)
            found = sorted(
                (part.start, part.length)
                for layer, part in self.parts(place, stop)
                if layer is not None and part.kind != ZERO
            )
            for begin, length in found:
                yield begin, begin + length
            place = stop

    def close(self) -> None:
        """Close all layers."""
        for layer in self._layers:
            layer.close()


def changing(name: str) -> ImageError:
    """Return the error of an image that changes again and again while it is read."""
    return ImageError(
        t("read {image}", image=name),
        why=t("its tables changed during each of {tries} reads, because a guest is writing to it", tries=_TRIES),
        next_step=t(
            "pause the guest with guest.suspend() and read the image again. Or take an external snapshot and read "
            "the image below the new overlay"
        ),
    )
