"""The chain of an image, with what can be read of its content."""

from __future__ import annotations

from dataclasses import dataclass

from vmsnap_nb.live.merge_files import blockmap
from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.model.forest import Chain

__all__ = ["LiveChain"]


@dataclass(frozen=True, repr=False)
class LiveChain(Chain):
    """A chain whose images are at hand."""

    def blockmap(self) -> BlockMap:
        """Look which layer owns which part of the disk, and what lies hidden below; a guest may be writing to it.

        Returns
        -------
        BlockMap

        Raises
        ------
        ImageError
            A layer cannot be read.
        """
        return blockmap(self)
