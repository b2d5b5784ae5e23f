"""What the plan of a merge must know beyond the forest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vmsnap_nb.model.blockmap import BlockMap, LayerMap
from vmsnap_nb.plans.ground import Ground
from vmsnap_nb.plans.merge_note import MergeNote

__all__ = ["MergeFacts"]


@dataclass(frozen=True)
class MergeFacts:
    """Facts about images and places.

    Attributes
    ----------
    maps : mapping of str to LayerMap
        By path, what each image holds itself. Without it a plan does not know its bytes beforehand.
    ground : Ground
        Free space by folder.
    notes : tuple of MergeNote
        Merges that were cut short.
    """

    maps: Mapping[str, LayerMap] = field(default_factory=dict)
    ground: Ground = field(default_factory=Ground)
    notes: tuple[MergeNote, ...] = ()

    def block_map(self, layers: Sequence[str]) -> BlockMap | None:
        """Lay the maps of some layers over each other, base first; None where one of them is not known."""
        if not all(path in self.maps for path in layers):
            return None
        return BlockMap(tuple(self.maps[path] for path in layers))
