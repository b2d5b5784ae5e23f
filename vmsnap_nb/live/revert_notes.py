"""The notes of reverts that are going on, or were cut short: one file beside the guest's images."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans.revert_note import RevertNote
from vmsnap_nb.system.os_errors import from_os_error

if TYPE_CHECKING:
    from vmsnap_nb.live.guest import Guest

__all__ = ["drop_revert_note", "read_revert_note", "revert_notes", "write_revert_note"]

_MOST = 1 << 20


def read_revert_note(folder: str, uuid: str) -> RevertNote | None:
    """Read the note of a guest in a folder; None where there is none, or where it is not in its own place."""
    try:
        with open(RevertNote.place(folder, uuid), encoding="utf-8", errors="surrogateescape") as file:
            note = RevertNote.from_json(file.read(_MOST))
    except OSError:
        return None
    return note if note is not None and (note.folder, note.uuid) == (folder, uuid) else None


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


def write_revert_note(note: RevertNote) -> None:
    """Write a note so that it is there as a whole, or not at all."""
    partial = f"{note.path}.partial"
    try:
        try:
            with open(partial, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(note.to_json())
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, note.path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
    except OSError as error:
        raise from_os_error(error, f"note that {note.guest} goes back to {note.name}") from error


def drop_revert_note(note: RevertNote) -> None:
    """Remove a note."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(note.path)
