"""Files that nothing on a host needs, as far as was checked, with what speaks for that and what is not known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from vmsnap_nb.model.shown import Carded, Tabled
from vmsnap_nb.model.size import human_size
from vmsnap_nb.model.text import plural

__all__ = ["Leftover", "Leftovers"]

if TYPE_CHECKING:
    LeftoverKind = Literal["image", "merged image", "memory", "incomplete file"]
else:
    LeftoverKind = str  # where a property's annotation is a Literal, jedi completes nothing of the whole object


@dataclass(frozen=True, slots=True)
class Leftover(Carded):
    """A file that nothing needs, as far as was checked.

    Attributes
    ----------
    path : str
        The file.
    kind : str
        ``image``, ``merged image`` (marked as invalid by a merge), ``memory`` (saved memory that is no longer usable)
        or ``incomplete file`` (not completed by a process of vmsnap_nb).
    allocated : int or None
        The number of bytes that the file takes on disk.
    last_written : datetime.datetime or None
        The time of the last write, in UTC.
    evidence : str
        The evidence that nothing needs the file.
    doubt : str
        A reason to keep the file; empty if there is none.
    """

    path: str
    kind: LeftoverKind
    allocated: int | None = None
    last_written: datetime | None = None
    evidence: str = ""
    doubt: str = ""


@dataclass(frozen=True)
class Leftovers(Tabled):
    """Files that nothing on a host needs, as far as was checked; each image comes after its overlays.

    `to_frame` returns a table with index ``path`` and columns ``kind allocated last_written evidence doubt``.

    Attributes
    ----------
    files : tuple of Leftover
        The rows.
    unseen : tuple of str
        Images and folders that could not be read, so they may need any of the files.
    folders : tuple of str
        The folders that were searched: the storage pools of the host, and the folders that were passed.
    """

    files: tuple[Leftover, ...] = ()
    unseen: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Leftover]:
        return iter(self.files)

    def __repr__(self) -> str:
        unseen = f"; {len(self.unseen)} could not be read" if self.unseen else ""
        if not self.files and not self.folders:
            return f"<Leftovers: no folder was searched{unseen}>"
        if not self.files:
            return f"<Leftovers: none in {plural(len(self.folders), 'folder')}, as far as was checked{unseen}>"
        size = human_size(sum(one.allocated or 0 for one in self.files))
        return f"<Leftovers: {plural(len(self), 'unneeded file')}, as far as was checked, {size}{unseen}>"
