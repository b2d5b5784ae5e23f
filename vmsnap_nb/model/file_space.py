"""What one image takes in its file: the data of its disk, and what its internal snapshots hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from vmsnap_nb.model.blockmap import Extent, LayerMap

__all__ = ["FileSpace", "Stored"]


class Stored(NamedTuple):
    """A part of the disk that an image has data for, and what that takes."""

    # Both in bytes, as the guest counts them.
    start: int
    length: int
    size: int  # bytes in the file: fewer where it is compressed, or where the file has holes

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class FileSpace:
    """What one image takes in its file, whatever it is based on.

    `layer` says what it has, `stored` which data of the disk no internal snapshot has as well. `held` has the bytes
    that are there for internal snapshots alone, by the IDs of all those that have them. `below` are the parts of the
    backing file that internal snapshots read.
    """

    layer: LayerMap
    stored: tuple[Stored, ...]
    held: Mapping[frozenset[str], int] = field(default_factory=lambda: MappingProxyType({}))
    below: tuple[Extent, ...] = ()

    @property
    def internal(self) -> int:
        """Bytes that would be free without any internal snapshot."""
        return sum(self.held.values())

    def exclusive(self, *ids: str) -> int:
        """Return the bytes that are free as soon as all of these internal snapshots are deleted."""
        going = frozenset(ids)
        return sum(size for holders, size in self.held.items() if holders <= going)

    @property
    def own(self) -> tuple[Extent, ...]:
        """Parts of the disk that can be written in place: no internal snapshot keeps what was there before."""
        return tuple(Extent(part.start, part.length) for part in self.stored)

    def unread(self, read: Collection[tuple[int, int]]) -> int:
        """Return the bytes of the disk's data that are outside of these parts of it, which are in order."""
        total, parts = 0, list(read)
        place = 0
        for start, length, size in self.stored:
            while place < len(parts) and parts[place][1] <= start:
                place += 1
            seen, at = 0, place
            while at < len(parts) and parts[at][0] < start + length:
                seen += min(parts[at][1], start + length) - max(parts[at][0], start)
                at += 1
            total += size - size * seen // length
        return total
