"""The note that lies beside an image while the QEMU of a running guest copies data up into it.

In the end QEMU writes the new backing file's name into the header at once, but of the tables that say where the copied
data is it keeps a part in memory until the guest flushes its disk (seen with QEMU 7.2, not with 10.0). If it dies in
between, the image has lost what it read from below. The note tells the old backing file, with which the image reads the
same in any case.
"""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass

from vmsnap_nb.model.reference import Reference, parse_reference
from vmsnap_nb.plans.note_text import note_of, text_of

__all__ = ["PULL_PREFIX", "PullNote"]

PULL_PREFIX = ".vmsnap-pull-"
"""How the names of such files begin."""


@dataclass(frozen=True, slots=True)
class PullNote:
    """What a pull was about to do.

    Attributes
    ----------
    image : str
        The image that takes the data.
    written : str
        Its backing file before, as its header names it.
    format : str or None
        The format that the header gives for that.
    base : str or None
        Path of the image on which it will stand; None if it will stand alone.
    """

    image: str
    written: str
    format: str | None = None
    base: str | None = None

    @property
    def path(self) -> str:
        """Where it lies: beside the image, under a name that the next pull into it finds again."""
        digest = hashlib.sha256(self.image.encode(errors="surrogateescape")).hexdigest()
        return posixpath.join(posixpath.dirname(self.image), f"{PULL_PREFIX}{digest[:16]}.json")

    @property
    def before(self) -> Reference:
        """The backing file before, resolved."""
        return parse_reference(self.written, folder=posixpath.dirname(self.image), format=self.format)

    def to_json(self) -> str:
        """Write it down."""
        return text_of(self)

    @classmethod
    def from_json(cls, text: str) -> PullNote | None:
        """Read it; None where this is no note, or one that was not written to its end.

        Examples
        --------
        >>> note = PullNote("/i/active", "base.qcow2", "qcow2")
        >>> PullNote.from_json(note.to_json()) == note
        True
        >>> note.before.path
        '/i/base.qcow2'
        >>> PullNote.from_json("[]") is None
        True
        """
        note = note_of(text, cls)
        if note is None:
            return None
        texts = (note.image, note.written, note.format or "", note.base or "/")
        sound = all(isinstance(text, str) for text in texts)
        return note if sound and note.image.startswith("/") and (note.base or "/").startswith("/") else None
