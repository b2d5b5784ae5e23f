"""One layer of a chain, whatever its format: what it has at a place of the disk, and the raw ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple, Self

from vmsnap_nb.system.qcow2.tables import DATA, ZERO
from vmsnap_nb.system.sources.source import Source

__all__ = ["Layer", "Part", "RawLayer", "read_or_zeros"]

_SECTOR = 512


class Part(NamedTuple):
    """A part of the disk that is of one kind in a layer: ``NONE``, ``ZERO``, ``DATA`` or ``COMPRESSED``."""

    start: int
    length: int
    kind: int
    place: int  # as in `Runs`


class Layer(ABC):
    """One image: a disk that has something of its own at some places.

    It is a context manager, which closes it, and is used by one thread at a time.
    """

    name: str
    size: int  # of the disk, in bytes

    @abstractmethod
    def parts(self, start: int, end: int) -> Iterator[Part]:
        """Return what there is in a range that lies within the disk: parts in order, without gaps."""

    @abstractmethod
    def read_part(self, part: Part, buffer: memoryview) -> None:
        """Read a part that is data, compressed or not, or a piece of it, into a buffer of its length."""

    def settle(self) -> bool:
        """Return whether what was read since the last call is what one state of the image says.

        If not, it was changed meanwhile; what was remembered of it is forgotten, and reading again may do.
        """
        return True

    @abstractmethod
    def close(self) -> None:
        """Close its sources."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RawLayer(Layer):
    """A raw image: the bytes themselves, up to the end of the last sector."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._source = source
        self.size = -(-source.size // _SECTOR) * _SECTOR

    def parts(self, start: int, end: int) -> Iterator[Part]:
        """Return what is stored in a range, and what its file has holes for."""
        place = start
        for begin, stop in self._source.data(start, end):
            if place < begin:
                yield Part(place, begin - place, ZERO, 0)
            yield Part(begin, stop - begin, DATA, begin)
            place = stop
        if place < end:
            yield Part(place, end - place, ZERO, 0)

    def read_part(self, part: Part, buffer: memoryview) -> None:
        """Read a part into a buffer."""
        read_or_zeros(self._source, part.place, buffer)

    def close(self) -> None:
        """Close its source."""
        self._source.close()


def read_or_zeros(source: Source, offset: int, buffer: memoryview) -> None:
    """Fill a buffer; after the end of the source there are zeros, as for QEMU."""
    found = source.pread_into(offset, buffer)
    if found < len(buffer):
        buffer[found:] = bytes(len(buffer) - found)
