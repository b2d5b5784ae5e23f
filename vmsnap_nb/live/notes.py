"""Files beside images that say what is going on with them, so that what was cut short is known."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Protocol, TypeVar

from vmsnap_nb.system.os_errors import from_os_error

__all__ = ["Note", "drop_note", "read_note", "write_note"]

_MOST = 4 << 20


class Note(Protocol):
    """What each kind of note has."""

    @property
    def path(self) -> str:
        """Where it lies."""
        ...

    def to_json(self) -> str:
        """Give its text."""
        ...


_N = TypeVar("_N", bound=Note)


def read_note(path: str, parse: Callable[[str], _N | None]) -> _N | None:
    """Read a note; None where there is none, or none that belongs there: nobody is led to other files by one."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            note = parse(file.read(_MOST))
    except OSError:
        return None
    return note if note is not None and note.path == path else None


def write_note(note: Note) -> None:
    """Write a note so that it is there as a whole, or not at all, also after a power cut."""
    partial = f"{note.path}.partial"
    try:
        try:
            with open(partial, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(note.to_json())
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, note.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise
        _sync(os.path.dirname(note.path))
    except OSError as error:
        raise from_os_error(error, f"write the note {note.path}") from error


def drop_note(note: Note) -> None:
    """Remove a note, if it is there."""
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
