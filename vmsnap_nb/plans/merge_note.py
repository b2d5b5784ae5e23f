"""The note that lies beside a base while layers are merged into it: so that a merge cut short is known, and ended."""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass
from typing import Any, Literal

from vmsnap_nb.plans.note_text import note_of, text_of

__all__ = ["NOTE_PREFIX", "MergeNote"]

NOTE_PREFIX = ".vmsnap-merge-"
"""How the names of such files begin."""


@dataclass(frozen=True, slots=True)
class MergeNote:
    """What a merge was about to do.

    Attributes
    ----------
    base : str
        The image that takes the data.
    top : str
        The highest of the layers that are merged.
    merged : tuple of str
        All of them, lowest first.
    children : tuple of str
        The overlays of `top`, which will stand on `base`.
    phase : str
        ``copying``: the data may be in `base` partly; at the end of that QEMU lets an overlay stand on `base`.
        ``copied``: all of it is there, and it must never be copied again, since from now on overlays may stand on
        `base` itself.
    remove : bool
        Whether the merged files are to be removed in the end.
    active : bool
        Whether a guest that runs writes to `top`; in the end it writes to `base`.
    by_libvirt : bool
        Whether it is a deletion by libvirt, which may go on alone, and then removes the merged file itself.
    """

    base: str
    top: str
    merged: tuple[str, ...]
    children: tuple[str, ...] = ()
    phase: Literal["copying", "copied"] = "copying"
    remove: bool = False
    active: bool = False
    by_libvirt: bool = False

    @property
    def path(self) -> str:
        """Where it lies: beside the base, under a name that the same merge finds again."""
        digest = hashlib.sha256("\0".join((self.base, *self.merged)).encode(errors="surrogateescape")).hexdigest()
        return posixpath.join(posixpath.dirname(self.base), f"{NOTE_PREFIX}{digest[:16]}.json")

    def to_json(self) -> str:
        """Write it down."""
        return text_of(self)

    @classmethod
    def from_json(cls, text: str) -> MergeNote | None:
        """Read it; None where this is no note, or one that was not written to its end.

        Examples
        --------
        >>> note = MergeNote("/i/base", "/i/top", ("/i/top",), ("/i/active",))
        >>> MergeNote.from_json(note.to_json()) == note
        True
        >>> MergeNote.from_json("[]") is None
        True
        """
        note = note_of(text, cls, "merged", "children")
        if note is None:
            return None
        paths: tuple[Any, ...] = (note.base, note.top, *note.merged, *note.children)
        sound = all(isinstance(path, str) and path.startswith("/") for path in paths)
        sound = sound and note.phase in ("copying", "copied")
        sound = sound and {type(one) for one in (note.remove, note.active, note.by_libvirt)} == {bool}
        return note if sound and note.merged and note.merged[-1] == note.top else None
