"""What the plan of a merge must know beyond the forest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vmsnap_nb.model.blockmap import BlockMap, LayerMap
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.ground import Ground
from vmsnap_nb.plans.merge_note import MergeNote

__all__ = ["MergeFacts", "commit_needs", "finish_needs", "pull_needs"]


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


def commit_needs(forest: Forest, top: str, base: str | None = None) -> tuple[str, ...]:
    """Give the images whose maps the plan of a commit is made with: those that it copies between, in most cases.

    Each map is a program that has to be run, so a long chain below the base is left alone.

    Parameters
    ----------
    forest : Forest
        Where the images are.
    top, base : str
        As in `vmsnap_nb.plans.merge.plan_commit`.

    Returns
    -------
    tuple of str
        Paths.
    """
    lineage, children = forest.lineage(top), forest.children(top)
    size = forest[top].virtual_size or 0
    if any((forest[child].virtual_size or 0) > size for child in children):
        return (*lineage, *children)  # what is behind the end of the top might come to light
    if base is None:
        return lineage[:2]
    return lineage[: lineage.index(base) + 1] if base in lineage else lineage


def pull_needs(forest: Forest, image: str, base: str | None = None) -> tuple[str, ...]:
    """Give the images whose maps the plan of a pull is made with: those above the base.

    Parameters
    ----------
    forest : Forest
        Where the images are.
    image, base : str
        As in `vmsnap_nb.plans.merge.plan_pull`.

    Returns
    -------
    tuple of str
        Paths.
    """
    lineage = forest.lineage(image)
    return lineage[: lineage.index(base)] if base in lineage else lineage


def finish_needs(forest: Forest, note: MergeNote) -> tuple[str, ...]:
    """Give the images whose maps are needed to finish a commit that was cut short: those of the commit, if it is one.

    Parameters
    ----------
    forest : Forest
        Where the images are.
    note : MergeNote
        What the commit left behind.

    Returns
    -------
    tuple of str
        Paths.
    """
    again = commit_needs(forest, note.top, note.base) if note.top in forest else ()
    return (*note.merged, *note.children, note.base, *again)
