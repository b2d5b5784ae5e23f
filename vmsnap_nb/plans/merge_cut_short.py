"""What is left where a commit was cut short: what its note says, and what the images say of it."""

from __future__ import annotations

from dataclasses import replace

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.merge_note import MergeNote

__all__ = ["is_done", "is_gone", "is_torn", "settled", "spoils"]


def is_gone(forest: Forest, path: str) -> bool:
    """Tell whether an image is not there, though something may refer to it."""
    return path not in forest or forest[path].status == "missing"


def settled(forest: Forest, note: MergeNote) -> MergeNote:
    """Give a note as the images show it: a layer is marked as invalid only when all data is in the base.

    Parameters
    ----------
    forest : Forest
        The images.
    note : MergeNote
        As it was read.

    Returns
    -------
    MergeNote
    """
    marked = note.top in forest and forest[note.top].status == "invalid"
    return replace(note, phase="copied") if marked else note


def is_done(forest: Forest, note: MergeNote) -> bool:
    """Tell whether libvirt has gone on alone with a deletion of its own, to the end.

    It removes the layer when QEMU has written all, and then the record. A layer that is missed for another reason, as
    a file system that is not mounted, still has its record.

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
    return note.by_libvirt and is_gone(forest, note.top) and not forest.children(note.top) and not named


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
    bases = _names(forest, note.base)
    if not note.children and any(use.path in bases for use in forest.uses):
        return False  # a guest gets the base as its disk when all is there
    lineage = set(forest.lineage(path))
    return bool(lineage & bases) and not any(lineage & _names(forest, layer) for layer in note.merged)


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
    return any(spoils(forest, note, child) for child in note.children)


def _names(forest: Forest, path: str) -> set[str]:
    return {path, *forest.same_file(path)} if path in forest else {path}
