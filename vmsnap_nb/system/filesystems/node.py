"""What every reader of a file system gives: nodes with what they say of themselves, content, and where it lies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

from vmsnap_nb.model.files import FileKind

__all__ = ["FileSystem", "Node", "Span"]


class Node(NamedTuple):
    """A file, folder or link: an inode of ext and XFS, an entry of the MFT or of a FAT folder."""

    number: int
    kind: FileKind
    size: int  # bytes
    mtime: int | None  # all times in nanoseconds since 1970, UTC
    ctime: int | None
    born: int | None
    mode: int | None  # permission bits, or None where the file system has none
    uid: int | None
    gid: int | None
    links: int


class Span(NamedTuple):
    """A part of a file's content: bytes of the file, and where they lie in the volume, or None for zeros."""

    start: int
    length: int
    place: int | None


class FileSystem(ABC):
    """One file system of a volume."""

    kind: str
    lasting_numbers = True  # whether a file that is renamed keeps its number
    any_case = False  # whether names are found in any case

    @abstractmethod
    def root(self) -> Node:
        """Return its first folder."""

    @abstractmethod
    def entries(self, folder: int) -> Iterator[tuple[bytes, Node | None]]:
        """Yield what is in a folder; None for what cannot be read."""

    @abstractmethod
    def spans(self, number: int) -> list[Span] | None:
        """Return where the content of a file lies; None where it lies in its inode, or is compressed or encrypted."""

    @abstractmethod
    def read(self, number: int, offset: int, length: int) -> bytes:
        """Return a part of the content of a file."""

    @abstractmethod
    def target(self, number: int) -> bytes:
        """Return what a symbolic link leads to."""
