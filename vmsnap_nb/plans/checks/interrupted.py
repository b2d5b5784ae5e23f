"""What is left where a merge was cut short: what its entry says, and what the images say of it."""

from __future__ import annotations

import posixpath
from dataclasses import replace

from vmsnap_nb.model.aliases import is_among
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.plans.journal import Began, MergeEntry, PullEntry
from vmsnap_nb.words.message import Message, t

__all__ = [
    "finishing",
    "is_chain",
    "is_done",
    "is_gone",
    "is_torn",
    "may_lack",
    "overlays_of_base",
    "read_before",
    "reads_otherwise",
    "settled",
    "who",
]


def is_gone(forest: Forest, path: str) -> bool:
    """Return whether an image is not there, though something may refer to it."""
    return path not in forest.images or forest[path].status == "missing"


def settled(forest: Forest, entry: MergeEntry) -> MergeEntry:
    """Return an entry as the images show it: a layer is marked as invalid only when all data is in the base.

    Then, too, a guest that wrote to the layer gets the base as its disk.
    """
    marked = entry.top in forest.images and forest[entry.top].status == "invalid"
    switched = entry.active and any(use.path in forest.same_file(entry.base) for use in forest.uses)
    return replace(entry, phase="copied") if marked or switched else entry


def is_chain(forest: Forest, entry: MergeEntry) -> bool:
    """Return whether what is merged is there and is still based on the base."""
    below = forest.known_lineage(entry.top)[1:]
    return not is_gone(forest, entry.top) and is_among(forest, entry.base, below)


def is_done(forest: Forest, entry: MergeEntry) -> bool:
    """Return whether libvirt has gone on alone with a deletion of its own, to the end of this disk.

    It removes the layer when QEMU has written all, and the record when it has done so with all disks. A layer that is
    missed for another reason, as a file system that is not mounted, still has its record.
    """
    named = any(entry.top in (disk.source, disk.file) for record in forest.records for disk in record.disks)
    # Where the entry was read, the layer would be as well.
    beside = posixpath.dirname(entry.top) == posixpath.dirname(entry.base)
    return (
        entry.by_libvirt
        and is_gone(forest, entry.top)
        and not forest.known_children(entry.top)
        and (beside or not named)
    )


def reads_otherwise(forest: Forest, entry: MergeEntry, path: str) -> bool:
    """Return whether an image may read otherwise than it should: it is based on the base, without what was merged."""
    if settled(forest, entry).phase == "copied" or is_done(forest, entry) or path not in forest.images:
        return False
    if any(use.path in forest.same_file(entry.base) for use in forest.uses):
        return False  # a guest has it as its disk, as it is
    lineage = set(forest.known_lineage(path))
    return is_among(forest, entry.base, lineage) and not any(is_among(forest, one, lineage) for one in entry.merged)


def is_torn(forest: Forest, entry: MergeEntry) -> bool:
    """Return whether overlays are based on the base although nobody knows whether all data is in it.

    QEMU ends a commit by writing into the overlay that it is based on the base, and only then the base's last tables.
    """
    return any(reads_otherwise(forest, entry, child) for child in overlays_of_base(forest, entry))


def overlays_of_base(forest: Forest, entry: MergeEntry) -> tuple[str, ...]:
    """Return the overlays of what is merged that are based on the base."""
    bases = forest.same_file(entry.base)
    return tuple(path for path in entry.children if path in forest.images and forest.parent(path) in bases)


def may_lack(forest: Forest, entry: PullEntry, path: str) -> bool:
    """Return whether an image may lack data: it is one into which a pull was interrupted, or is based on it."""
    return is_among(forest, entry.image, forest.known_lineage(path) or (path,))


def read_before(forest: Forest, entry: PullEntry) -> tuple[str, ...]:
    """Return what the image of an interrupted pull was based on, which it reads again once the pull is finished."""
    below = entry.before.key
    return tuple(name for layer in forest.known_lineage(below) or (below,) for name in forest.same_file(layer))


def who(began: Began) -> Message:
    """Return who has begun what an entry is about, and when."""
    return t(
        "{user} (uid {uid}, process {pid} on {host}) at {time}",
        user=began.user or t("an unknown user"),
        uid=began.uid,
        pid=began.pid,
        host=began.host,
        time=began.at.replace("T", " ").replace("+00:00", " UTC"),
    )


def finishing(entry: MergeEntry, guest: Domain | None = None) -> str:
    """Return the call whose plans finish a merge, for one who calls `guest` so: of the guest whose verb began it.

    That may have another name, or another UUID, by now.
    """
    if guest is not None and (entry.guest in ("", guest.name) or entry.uuid == guest.uuid):
        return "guest.unfinished()"
    return f"host.guest({entry.guest!r}).unfinished()" if entry.guest else "forest.unfinished()"
