"""What a plan frees on disk, file by file, and what it has freed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from vmsnap_nb.model.shown import Tabled
from vmsnap_nb.model.size import human_size
from vmsnap_nb.model.text import plural

__all__ = ["Freed"]


@dataclass(frozen=True)
class Freed(Tabled):
    """The disk space that becomes free, by path. A file that grows has a negative number; new files are not counted.

    `to_frame` returns: index ``path``, columns ``foreseen freed``, in bytes. ``foreseen`` is the space that the plan
    predicted to free. ``freed`` is the space that its run really freed, computed from the blocks that the files take
    before and after. ``<NA>`` if not known, or not known yet.

    Attributes
    ----------
    foreseen : mapping of str to int or None
        Bytes by path.
    found : mapping of str to int
        Bytes that were really freed, by path; empty before the plan has run.
    """

    foreseen: Mapping[str, int | None] = field(default_factory=dict)
    found: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __getitem__(self, path: str) -> int | None:
        return self.foreseen[path]

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the files, predicted files first."""
        return tuple(dict.fromkeys((*self.foreseen, *self.found)))

    @property
    def total(self) -> int | None:
        """Predicted bytes; None if the number of a file is not known."""
        sizes = list(self.foreseen.values())
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def found_total(self) -> int | None:
        """Bytes that were really freed; None before the plan has run, or if they could not be measured."""
        return sum(self.found.values()) if self.found or not self.foreseen else None

    def __repr__(self) -> str:
        of = f" in {plural(len(self), 'file')}"
        if self.found:
            return f"<Freed {_size(self.found_total)}{of}; foreseen: {_size(self.total)}>"
        return f"<Frees {_size(self.total)}{of}>"


def _size(size: int | None) -> str:
    if size is None:
        return "an unknown size"
    return human_size(size) if size >= 0 else f"-{human_size(-size)}"
