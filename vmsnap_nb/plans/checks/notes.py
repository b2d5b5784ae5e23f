"""What the journal's entries say to whoever builds on images, and files that are only named like entries."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Iterator

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.checks.interrupted import reads_otherwise
from vmsnap_nb.plans.concern import Concern, refuse, remark
from vmsnap_nb.plans.journal import UnknownEntry
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.words.message import t

__all__ = ["merging", "note_folders", "strangers"]


def note_folders(forest: Forest, paths: Iterable[str]) -> tuple[str, ...]:
    """Return the folders in which entries about these images, and about what they are based on, may lie."""
    layers = (layer for path in paths for layer in forest.known_lineage(path) or (path,))
    return tuple(dict.fromkeys(os.path.dirname(layer) for layer in layers if layer.startswith("/")))


def merging(reading: Reading, paths: Iterable[str], *, through: bool = True) -> Iterator[Concern]:
    """Check that nothing is built on images that a merge is writing, that it will invalidate, or has left half done.

    With `through` also on those that read otherwise, since an interrupted merge has left them based on its base.
    """
    forest = reading.forest
    for path in dict.fromkeys(paths):
        names = {path, *forest.same_file(path)}
        for entry in reading.merges:
            if names & {entry.base, *entry.merged} or (through and reads_otherwise(forest, entry, path)):
                yield refuse(
                    "active-job",
                    t(
                        "a merge of {top} into {base} is running or was interrupted: a new overlay on {path} would "
                        "read a mixture of old and new data",
                        top=entry.top,
                        base=entry.base,
                        path=path,
                    ),
                    t("wait for it; or finish it with unfinished()[0].run() of the guest or of the forest"),
                    images=tuple(dict.fromkeys((path, entry.base, entry.top))),
                )


def strangers(reading: Reading) -> Iterator[Concern]:
    """Check for entries that may be somebody else's, and for those of a later version: something goes on there."""
    for entry in reading.strangers:
        if isinstance(entry, UnknownEntry) and entry.folder:
            yield refuse(
                "active-job",
                t(
                    "{path} records an interrupted operation, which was begun under another name of this folder: "
                    "{folder}",
                    path=entry.path,
                    folder=entry.folder,
                ),
                t(
                    "finish it under that name: {call}, or unfinished() of the guest whose disk has that path",
                    call=f"vmsnap_nb.scan({entry.folder!r}).unfinished()",
                ),
                images=(entry.path,),
                waivable=True,
            )
        elif isinstance(entry, UnknownEntry):
            yield refuse(
                "active-job",
                t(
                    "{path} records an interrupted operation of a later version of this package, which this version "
                    "cannot read",
                    path=entry.path,
                ),
                t("finish it with that version: unfinished()"),
                images=(entry.path,),
                waivable=True,
            )
        else:
            yield remark(
                "untrusted-note",
                t("{path} has the name of a journal entry, and is ignored: {why}", path=entry.path, why=entry.why),
                t("inspect it, and remove it if it is not yours"),
                images=(entry.path,),
            )
