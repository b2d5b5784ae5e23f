"""The notes of merges that are going on, or were cut short: files beside the image that is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from vmsnap_nb.plans.merge_note import NOTE_PREFIX, MergeNote
from vmsnap_nb.plans.pull_note import PULL_PREFIX, PullNote
from vmsnap_nb.system.os_errors import from_os_error

__all__ = ["drop_note", "read_notes", "read_pull_notes", "write_note"]

_MOST = 4 << 20


class _Note(Protocol):
    @property
    def path(self) -> str: ...

    def to_json(self) -> str: ...


_N = TypeVar("_N", bound=_Note)


def read_notes(folders: Iterable[str]) -> tuple[MergeNote, ...]:
    """Read the notes of commits in some folders.

    Parameters
    ----------
    folders : iterable of str
        Absolute paths; what cannot be read has no notes.

    Returns
    -------
    tuple of MergeNote
        What is no note of a merge in its own place is left out, so that nobody is led to other files by one.
    """
    return _read(folders, NOTE_PREFIX, MergeNote.from_json)


def read_pull_notes(folders: Iterable[str]) -> tuple[PullNote, ...]:
    """Read the notes of pulls into the images of running guests, as `read_notes` does."""
    return _read(folders, PULL_PREFIX, PullNote.from_json)


def _read(folders: Iterable[str], prefix: str, parse: Callable[[str], _N | None]) -> tuple[_N, ...]:
    found: list[_N] = []
    for folder in sorted(set(folders)):
        try:
            names = sorted(name for name in os.listdir(folder) if name.startswith(prefix))
        except OSError:
            continue
        for name in names:
            path = os.path.join(folder, name)
            try:
                with open(path, encoding="utf-8", errors="surrogateescape") as file:
                    note = parse(file.read(_MOST))
            except OSError:
                continue
            if note is not None and note.path == path:
                found.append(note)
    return tuple(found)


def write_note(note: MergeNote | PullNote) -> None:
    """Write a note so that it is there as a whole, or not at all, also after a power cut."""
    tried = f"write the note {note.path}"
    partial = f"{note.path}.partial"
    try:
        with open(partial, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(note.to_json())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, note.path)
        _sync(os.path.dirname(note.path))
    except OSError as error:
        raise from_os_error(error, tried) from error


def drop_note(note: MergeNote | PullNote) -> None:
    """Remove a note."""
    try:
        os.unlink(note.path)
        _sync(os.path.dirname(note.path))
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, f"remove the note {note.path}") from error


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
