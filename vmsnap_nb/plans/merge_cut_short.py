"""What is left where a commit was cut short: what its note says, and what the images say of it."""

from __future__ import annotations

import posixpath
from dataclasses import replace

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.merge_note import MergeNote

__all__ = ["is_chain", "is_done", "is_gone", "is_torn", "settled", "spoils", "standing_on_base"]


def is_gone(forest: Forest, path: str) -> bool:
    """Tell whether an image is not there, though something may refer to it."""
    return path not in forest or forest[path].status == "missing"


def settled(forest: Forest, note: MergeNote) -> MergeNote:
    """Give a note as the images show it: a layer is marked as invalid only when all data is in the base.

    Then, too, a guest that wrote to the layer gets the base as its disk.

    Parameters
    ----------
    forest : Forest
        The images, with the guests' disks where they are known.
    note : MergeNote
        As it was read.

    Returns
    -------
    MergeNote
    """
    marked = note.top in forest and forest[note.top].status == "invalid"
    switched = note.active and any(use.path in forest.same_file(note.base) for use in forest.uses)
    return replace(note, phase="copied") if marked or switched else note


def is_chain(forest: Forest, note: MergeNote) -> bool:
    """Tell whether what is merged is there and still stands on the base."""
    below = forest.lineage(note.top)[1:]
    return not is_gone(forest, note.top) and not set(forest.same_file(note.base)).isdisjoint(below)


def is_done(forest: Forest, note: MergeNote) -> bool:
    """Tell whether libvirt has gone on alone with a deletion of its own, to the end of this disk.

    It removes the layer when QEMU has written all, and the record when it has done so with all disks. A layer that is
    missed for another reason, as a file system that is not mounted, still has its record.

    Parameters
    ----------
    forest : Forest
        The images, with the guest's records.
    note : MergeNote
        Of a commit.

    Returns
    -------
    bool
    """
    named = any(note.top in (disk.source, disk.file) for record in forest.records for disk in record.disks)
    # Where the note was read, the layer would be as well.
    beside = posixpath.dirname(note.top) == posixpath.dirname(note.base)
    return note.by_libvirt and is_gone(forest, note.top) and not forest.children(note.top) and (beside or not named)


def spoils(forest: Forest, note: MergeNote, path: str) -> bool:
    """Tell whether an image may read otherwise than it did, or should: it stands on the base, without what was merged.

    Parameters
    ----------
    forest : Forest
        The images, with the guest's records.
    note : MergeNote
        Of a commit.
    path : str
        The image.

    Returns
    -------
    bool
    """
    if settled(forest, note).phase == "copied" or is_done(forest, note) or path not in forest:
        return False
    bases = set(forest.same_file(note.base))
    if any(use.path in bases for use in forest.uses):
        return False  # a guest has it as its disk, as it is
    lineage = set(forest.lineage(path))
    return bool(lineage & bases) and not any(lineage & set(forest.same_file(layer)) for layer in note.merged)


def is_torn(forest: Forest, note: MergeNote) -> bool:
    """Tell whether overlays stand on the base although nobody knows whether all data is in it.

    QEMU ends a commit by writing into the overlay that it stands on the base, and only then the base's last tables.

    Parameters
    ----------
    forest : Forest
        The images.
    note : MergeNote
        Of a commit.

    Returns
    -------
    bool
    """
    return any(spoils(forest, note, child) for child in standing_on_base(forest, note))


def standing_on_base(forest: Forest, note: MergeNote) -> tuple[str, ...]:
    """Give the overlays of what is merged that stand on the base."""
    bases = forest.same_file(note.base)
    return tuple(path for path in note.children if path in forest and forest.parent(path) in bases)
