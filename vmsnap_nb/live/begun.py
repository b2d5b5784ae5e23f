"""What the journal says beside the images of a forest: what is going on with them, or was interrupted."""

from __future__ import annotations

from collections.abc import Iterator

from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.journal import read_all
from vmsnap_nb.plans.journal import InsideEntry, MergeEntry, PullEntry, SnapshotEntry
from vmsnap_nb.plans.merge.request import unfinished_needs
from vmsnap_nb.words.message import Message, t

__all__ = ["begun"]


def begun(forest: LiveForest, guest: str = "") -> Iterator[Message]:
    """Yield what was begun with the images of a forest, or of a guest, where they are files of this machine."""
    if not forest.place.here:
        return
    layers = {layer for use in forest.uses if use.guest == guest for layer in forest.known_lineage(use.path)}
    for entry in read_all(unfinished_needs(forest, guest).journal):
        if isinstance(entry, MergeEntry) and (not guest or entry.base in layers):
            yield t("the merge of {top} into {base} is running, or was interrupted", top=entry.top, base=entry.base)
        elif isinstance(entry, PullEntry) and (not guest or entry.image in layers):
            yield t("a pull into {path} is running, or was interrupted", path=entry.image)
        elif isinstance(entry, InsideEntry) and (not guest or entry.image in layers):
            yield t("a change to an internal snapshot of {path} is running, or was interrupted", path=entry.image)
        elif isinstance(entry, SnapshotEntry) and guest == entry.guest:
            yield t("snapshot {name} of {guest} is being taken, or was interrupted", name=entry.name, guest=guest)
