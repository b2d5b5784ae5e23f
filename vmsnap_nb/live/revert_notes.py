"""The notes of reverts that are going on, or were cut short: one file beside the guest's images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from vmsnap_nb.live.notes import read_note
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans.revert_note import RevertNote

if TYPE_CHECKING:
    from vmsnap_nb.live.guest import Guest

__all__ = ["read_revert_note", "revert_notes"]


def read_revert_note(folder: str, uuid: str) -> RevertNote | None:
    """Read the note of a guest in a folder; None where there is none, or where it is not in its own place."""
    return read_note(RevertNote.place(folder, uuid), RevertNote.from_json)


def revert_notes(guest: Guest, records: Iterable[SnapshotRecord]) -> Iterator[RevertNote]:
    """Read the notes of a guest, wherever it has or had images; one revert leaves one.

    Parameters
    ----------
    guest : Guest
        The guest.
    records : iterable of SnapshotRecord
        Of its snapshots.

    Yields
    ------
    RevertNote
    """
    sources = [use.path for use in guest.domain().uses]
    named = [path for record in records for disk in record.disks for path in (disk.source, disk.file) if path]
    for folder in dict.fromkeys(map(os.path.dirname, (*sources, *named))):
        note = read_revert_note(folder, guest.uuid) if folder.startswith("/") else None
        if note is not None:
            yield note
