"""The note that lies beside a guest's images while it is reverted: so that a revert cut short is known, and ended."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any

from vmsnap_nb.plans.note_text import note_of, text_of

__all__ = ["RevertNote"]


@dataclass(frozen=True, slots=True)
class RevertNote:
    """What a revert was about to do.

    Attributes
    ----------
    folder : str
        Where the note lies.
    guest, uuid : str
        The guest.
    name : str
        The snapshot.
    to : str
        As `Guest.revert` was asked.
    kept : str or None
        The snapshot of what was there before; None where that was to be thrown away.
    discards : tuple of str
        Overlays whose content was to be thrown away.
    """

    folder: str
    guest: str
    uuid: str
    name: str
    to: str
    kept: str | None = None
    discards: tuple[str, ...] = ()

    @staticmethod
    def place(folder: str, uuid: str) -> str:
        """Give the path of a guest's note in a folder."""
        return posixpath.join(folder, f".vmsnap-revert-{uuid}.json")

    @property
    def path(self) -> str:
        """Where it lies: a guest has at most one."""
        return self.place(self.folder, self.uuid)

    def to_json(self) -> str:
        """Write it down."""
        return text_of(self)

    @classmethod
    def from_json(cls, text: str) -> RevertNote | None:
        """Read it; None where this is no note, or one that was not written to its end.

        Examples
        --------
        >>> note = RevertNote("/i", "demo", "0c0c", "snap1", "off", "kept1", ("/i/top",))
        >>> RevertNote.from_json(note.to_json()) == note
        True
        >>> RevertNote.from_json("[]") is None
        True
        """
        note = note_of(text, cls, "discards")
        if note is None:
            return None
        texts: tuple[Any, ...] = (note.folder, note.guest, note.uuid, note.name, note.to, *note.discards)
        sound = all(isinstance(text, str) for text in texts) and isinstance(note.kept, str | None)
        return note if sound and note.to in ("as-taken", "running", "paused", "off") else None
