"""The notes of merges that are going on, or were cut short: files beside the image that is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TypeVar

from vmsnap_nb.live.notes import Note, drop_note, read_note
from vmsnap_nb.plans.merge_note import NOTE_PREFIX, MergeNote
from vmsnap_nb.plans.pull_note import PULL_PREFIX, PullNote

__all__ = ["drop_unless_begun", "is_begun", "is_untouched", "read_notes", "read_pull_notes"]

_N = TypeVar("_N", bound=Note)


def read_notes(folders: Iterable[str]) -> tuple[MergeNote, ...]:
    """Read the notes of commits in some folders.

    Parameters
    ----------
    folders : iterable of str
        Absolute paths; what cannot be read has no notes.

    Returns
    -------
    tuple of MergeNote
    """
    return tuple(_read(folders, NOTE_PREFIX, MergeNote.from_json))


def read_pull_notes(folders: Iterable[str]) -> tuple[PullNote, ...]:
    """Read the notes of pulls into the images of running guests, as `read_notes` does."""
    return tuple(_read(folders, PULL_PREFIX, PullNote.from_json))


def is_untouched(note: MergeNote) -> bool:
    """Tell whether nobody has written to the layers of a commit since its note was written."""
    try:
        return all(os.stat(path).st_mtime_ns <= os.stat(note.path).st_mtime_ns for path in note.merged)
    except OSError:
        return False


def is_begun(note: MergeNote) -> bool:
    """Tell whether a part of a commit may be in its base: that was written to since the note was."""
    try:
        return os.stat(note.base).st_mtime_ns >= os.stat(note.path).st_mtime_ns
    except OSError:
        return True


def drop_unless_begun(note: MergeNote, *, known: bool) -> bool:
    """Drop the note of a commit that wrote nothing, unless it was there before; tell whether it stays."""
    if known or is_begun(note):
        return True
    drop_note(note)
    return False


def _read(folders: Iterable[str], prefix: str, parse: Callable[[str], _N | None]) -> list[_N]:
    found: list[_N] = []
    for folder in sorted(set(folders)):
        try:
            names = sorted(name for name in os.listdir(folder) if name.startswith(prefix))
        except OSError:
            continue
        notes = (read_note(os.path.join(folder, name), parse) for name in names)
        found += [note for note in notes if note is not None]
    return found
