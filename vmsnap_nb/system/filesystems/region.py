"""A part of a disk that holds one volume: bytes at offsets of its own, and where on the disk these are."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vmsnap_nb.system.sources.source import Source

__all__ = ["Cache", "Piece", "Region"]

_BLOCK = 128 << 10
_MOST_BLOCKS = 256


class Piece(NamedTuple):
    """A part of a volume that lies in one place of the disk: all three in bytes."""

    start: int
    length: int
    place: int


class Cache(Source):
    """A source whose last blocks are kept: libraries read the same few bytes again and again."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._source = source
        self._size = source.size
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    @property
    def size(self) -> int:
        """Bytes of the source, as it was opened."""
        return self._size

    def pread(self, offset: int, length: int) -> bytes:
        """Return the bytes at an offset, fewer only at the end."""
        end = min(offset + length, self._size)
        if offset >= end:
            return b""
        first, last = offset // _BLOCK, (end - 1) // _BLOCK
        if last - first > 8:
            return self._source.pread(offset, end - offset)
        parts = [self._block(number) for number in range(first, last + 1)]
        found = parts[0] if len(parts) == 1 else b"".join(parts)
        return found[offset - first * _BLOCK : end - first * _BLOCK]

    def _block(self, number: int) -> bytes:
        block = self._blocks.get(number)
        if block is None:
            block = self._source.pread(number * _BLOCK, _BLOCK)
            self._blocks[number] = block
            if len(self._blocks) > _MOST_BLOCKS:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(number)
        return block


class Region:
    """A volume: pieces of a disk, in order of their start and without gaps."""

    def __init__(self, disk: Source, pieces: Sequence[Piece]) -> None:
        self.disk = disk
        self._pieces = [piece for piece in pieces if piece.length > 0]
        self._starts = [piece.start for piece in self._pieces]
        last = self._pieces[-1] if self._pieces else Piece(0, 0, 0)
        self.size = last.start + last.length

    @classmethod
    def part(cls, disk: Source, place: int = 0, length: int | None = None) -> Region:
        """Return the volume of one piece; what is behind the end of the disk is cut off."""
        length = disk.size - place if length is None else min(length, disk.size - place)
        return cls(disk, [Piece(0, max(0, length), place)])

    def places(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Return where on the disk a range of the volume lies: offset and length of each part, in order."""
        end = min(offset + length, self.size)
        number = max(0, bisect_right(self._starts, offset) - 1)
        while offset < end:
            piece = self._pieces[number]
            skip = offset - piece.start
            count = min(piece.length - skip, end - offset)
            yield piece.place + skip, count
            offset += count
            number += 1

    def pread(self, offset: int, length: int) -> bytes:
        """Return the bytes at an offset of the volume, fewer only at its end."""
        parts = [self.disk.pread(place, count) for place, count in self.places(max(0, offset), length)]
        return parts[0] if len(parts) == 1 else b"".join(parts)
