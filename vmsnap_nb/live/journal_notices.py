"""What the journal says beside the images of a forest: what is going on with them, or was not completed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from vmsnap_nb.live.forest import LiveForest
from vmsnap_nb.live.journal import read_all
from vmsnap_nb.model.aliases import names_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.journal import InsideEntry, MergeEntry, PullEntry, SnapshotEntry, UnknownEntry
from vmsnap_nb.plans.merge.request import unfinished_needs
from vmsnap_nb.system.files.locks import is_claimed
from vmsnap_nb.words.message import Message, t

__all__ = ["Begun", "begun"]


@dataclass(frozen=True, slots=True)
class Begun:
    """What was begun with images; one that a plan performs now needs nobody to complete it."""

    what: Message
    is_running: bool = False


def begun(forest: LiveForest, guest: str = "") -> Iterator[Begun]:
    """Yield what was begun with the images of a forest, or of a guest, where they are files of this machine.

    What this process performs now is left out: its progress is shown where it was asked for.
    """
    if not forest.place.here:
        return
    tops = (use.path for use in forest.uses if use.guest == guest)
    layers = names_of(forest, (layer for top in tops for layer in forest.known_lineage(top)))
    for entry in read_all(unfinished_needs(forest, guest).journal):
        if isinstance(entry, SnapshotEntry) and guest == entry.guest:
            what = t("snapshot {name} of {guest} is being taken, or was interrupted", name=entry.name, guest=guest)
            yield Begun(what)
        if isinstance(entry, UnknownEntry):  # of a later version, or begun under another name of the folder
            yield Begun(t("{path} records an operation that is running, or was interrupted", path=entry.path))
        if not isinstance(entry, MergeEntry | PullEntry | InsideEntry):
            continue
        image = entry.base if isinstance(entry, MergeEntry) else entry.image
        if guest and image not in layers:
            continue
        is_running = _is_running(forest, image)
        if is_running and entry.began is not None and entry.began.pid == os.getpid():
            continue
        yield Begun(_said(entry, is_running), bool(is_running))


def _is_running(forest: Forest, image: str) -> bool | None:
    """Return whether a plan has an image for itself; None where that is unknown, or where only QEMU writes to it."""
    try:
        fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        claimed = is_claimed(fd)
    finally:
        os.close(fd)
    writes = image in forest.images and forest[image].held == "write"
    return None if claimed is False and writes else claimed


def _said(entry: MergeEntry | PullEntry | InsideEntry, is_running: bool | None) -> Message:
    if isinstance(entry, MergeEntry):
        return _merge_said(entry.top, entry.base, is_running)
    if isinstance(entry, PullEntry):
        if is_running:
            return t("a pull into {path} is running", path=entry.image)
        return t("a pull into {path} is running, or was interrupted", path=entry.image)
    if is_running:
        return t("a change to an internal snapshot of {path} is running", path=entry.image)
    return t("a change to an internal snapshot of {path} is running, or was interrupted", path=entry.image)


def _merge_said(top: str, base: str, is_running: bool | None) -> Message:
    if is_running:
        return t("the merge of {top} into {base} is running", top=top, base=base)
    if is_running is None:
        return t("the merge of {top} into {base} is running, or was interrupted", top=top, base=base)
    return t(
        "the merge of {top} into {base} was cancelled or interrupted; {base} may already contain some of the data",
        top=top,
        base=base,
    )
