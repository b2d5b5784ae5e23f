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
    """The disk space that becomes free, by path. For a file that grows, the number is negative; new files are not
    counted.

    `to_frame` returns a table with index ``path`` and columns ``foreseen freed``, in bytes. ``foreseen`` is the space
    that was predicted to become free. ``freed`` is the space that actually became free, computed from the blocks that
    the files take before and after the run. Values that are not known, or not known yet, are ``<NA>``.

    Attributes
    ----------
    foreseen : mapping of str to int or None
        The number of bytes that were predicted to become free, by path; None if not known.
    found : mapping of str to int
        The number of bytes that were actually freed, by path; empty before the plan has run.
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
        """The paths of the files; files with a prediction come first."""
        return tuple(dict.fromkeys((*self.foreseen, *self.found)))

    @property
    def total(self) -> int | None:
        """The predicted number of bytes for all files; None if the number for a file is not known."""
        sizes = list(self.foreseen.values())
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def found_total(self) -> int | None:
        """The number of bytes actually freed; None if the plan has not run or the number could not be measured."""
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
