"""Where two states of a disk differ, and so which files can: what both have in one place of one image is the same."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from vmsnap_nb.system.disk.disk import Disk
from vmsnap_nb.system.filesystems.node import Span
from vmsnap_nb.system.filesystems.region import Region
from vmsnap_nb.system.filesystems.tree import Place, Tree
from vmsnap_nb.system.qcow2.tables import COMPRESSED, NONE, ZERO
from vmsnap_nb.words.message import N_, t

__all__ = ["Differing"]

_PIECE = 1 << 20
_MOST_COMPARED = 1 << 30
"""Bytes that are read to compare content; of more files it is only said that they may have changed."""
_NOT_ALL = N_("more than 1 GiB of content may have changed. The rest was not compared and is listed as changed")
_MOST_PARTS = 4_000_000

_SECOND = 1_000_000_000

_Range = tuple[int, int]


class Differing:
    """Two states of a disk, with the trees of their files."""

    def __init__(self, disks: Sequence[Disk], trees: Sequence[Tree], identities: Sequence[Sequence[str]]) -> None:
        self.notes: list[str] = []
        self._disks = disks
        self._identities = identities
        self._regions: list[dict[str, Region]] = [
            {volume.name: volume.region for volume in tree.volumes if volume.region is not None} for tree in trees
        ]
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in self._ranges():
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(end, self._ends[-1])
            else:
                self._starts.append(start)
                self._ends.append(end)
        self._left = _MOST_COMPARED
        self._own = _own_layers(*identities)

    # -- which parts of the disk differ ----------------------------------------------------------------------

    def _ranges(self) -> Iterator[_Range]:
        """Yield the parts of the disk that the two states do not read from one place of one image, in order."""
        shared = len(self._identities[0])
        if self._identities[1][:shared] == self._identities[0]:
            # All layers of one state are below the other: what those above have is what differs.
            yield from sorted(
                (part.start, part.start + part.length)
                for layer, part in self._disks[1].parts()
                if layer is not None and layer >= shared
            )
            yield (min(disk.size for disk in self._disks), max(disk.size for disk in self._disks))
            return
        yield from _different(self._places(0), self._places(1), max(disk.size for disk in self._disks))

    def _places(self, state: int) -> list[tuple[int, int, str, int]]:
        """Return start, end, image and place of all that a state reads from an image; zeros are from none."""
        found = []
        for layer, part in self._disks[state].parts():
            if layer is not None and part.kind not in {NONE, ZERO}:
                # An image is told by its file: an internal snapshot has the same clusters as the image itself.
                name = self._identities[state][layer].partition("@")[0]
                name += " compressed" if part.kind == COMPRESSED else ""
                found.append((part.start, part.start + part.length, name, part.place))
            if len(found) > _MOST_PARTS:
                raise ValueError(f"the disk is in more than {_MOST_PARTS} parts")
        return sorted(found)

    def _touches(self, region: Region, spans: Sequence[Span]) -> bool:
        for span in spans:
            if span.place is not None:
                for place, length in region.places(span.place, span.length):
                    number = bisect_right(self._starts, place + length - 1) - 1
                    if number >= 0 and self._ends[number] > place:
                        return True
        return False

    # -- files -----------------------------------------------------------------------------------------------

    def content(self, before: Place, after: Place) -> bool:
        """Return whether the content of two files of one size differs."""
        one, other = before.node, after.node
        same_volume = before.volume == after.volume
        untouched = same_volume and one.number == other.number
        if untouched:
            spans = after.files.spans(other.number)
            if spans is not None and not self._touches(self._regions[1][after.volume], spans):
                # Nothing was written where it lies. Its inode could name other places only if it was written to.
                if one == other or before.files.spans(one.number) == spans:
                    return False
            elif spans is None and one == other:
                return False
        return self._compare(before, after)

    def _compare(self, before: Place, after: Place) -> bool:
        size = after.node.size
        if size > self._left:
            if not self.notes:
                self.notes.append(t(_NOT_ALL))
            return True
        self._left -= size
        for offset in range(0, size, _PIECE):
            length = min(_PIECE, size - offset)
            one = before.files.read(before.node.number, offset, length)
            other = after.files.read(after.node.number, offset, length)
            if one != other:
                return True
            if len(other) < length:
                break
        return False

    def is_same_file(self, before: Place, after: Place) -> bool:
        """Return whether two files of one number are one, and the number was not given to another one meanwhile."""
        one, other = before.node, after.node
        if not after.files.lasting_numbers:
            return False
        if one.born is not None and one.born % _SECOND:
            return one.born == other.born
        # Nothing but whole seconds, or nothing at all: only one that has not changed is taken for the same one.
        same = (one.born, one.size, one.mtime) == (other.born, other.size, other.mtime)
        return same and (one.kind != "file" or not self.content(before, after))

    def layer(self, place: Place | None) -> int:
        """Return the number of the layer that holds what changed, or -1 where it may be any of several."""
        if len(self._own) == 1:
            return self._own[0]
        if place is None or place.node.kind != "file":
            return -1
        try:
            spans = place.files.spans(place.node.number) or []
        except (OSError, ValueError):
            return -1
        region, highest = self._regions[1][place.volume], -1
        for span in spans[:64]:
            for at, length in region.places(span.place, span.length) if span.place is not None else ():
                layers = (seen.layer for seen in self._disks[1].parts(at, at + length) if seen.layer is not None)
                highest = max(highest, max(layers, default=-1))
        return highest


def _own_layers(before: Sequence[str], after: Sequence[str]) -> list[int]:
    """Return which layers of the later state hold all that changed: none can be told if the earlier has others."""
    images = {name.partition("@")[0] for name in after}
    if any(name.partition("@")[0] not in images for name in before):
        return []
    return [number for number, name in enumerate(after) if name not in before]


def _different(
    ones: Sequence[tuple[int, int, str, int]], others: Sequence[tuple[int, int, str, int]], size: int
) -> Iterator[_Range]:
    """Yield the ranges in which two lists of places do not say the same."""
    i = j = at = 0
    while at < size:
        one, i = _at(ones, i, at)
        other, j = _at(others, j, at)
        end = min(size, _end(ones, i, one), _end(others, j, other))
        end = max(end, at + 1)
        if (one is None) != (other is None):
            yield at, end
        elif one is not None and other is not None:
            compressed = one[2].endswith(" compressed")
            same = one[2] == other[2] and (
                (one[3], one[0]) == (other[3], other[0]) if compressed else one[3] - one[0] == other[3] - other[0]
            )
            if not same:
                yield at, end
        at = end


def _at(
    parts: Sequence[tuple[int, int, str, int]], number: int, at: int
) -> tuple[tuple[int, int, str, int] | None, int]:
    """Return the part at a place, if there is one, and the number of the first part that ends behind it."""
    while number < len(parts) and parts[number][1] <= at:
        number += 1
    found = parts[number] if number < len(parts) and parts[number][0] <= at else None
    return found, number


def _end(parts: Sequence[tuple[int, int, str, int]], number: int, found: tuple[int, int, str, int] | None) -> int:
    if found is not None:
        return found[1]
    return parts[number][0] if number < len(parts) else 1 << 63
