"""What a reader of images needs to know of a place that has bytes, and the simplest such place: memory."""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Self

__all__ = ["BytesSource", "Source", "new_buffer"]


class Source(ABC):
    """Bytes that can be read at any offset, and are never written.

    Others may write to them meanwhile. It is a context manager, which closes it.
    """

    name: str
    """What messages call it: a path, or a volume and its pool."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes that there are now."""

    @abstractmethod
    def pread(self, offset: int, length: int) -> bytes:
        """Return the bytes at an offset, fewer only where the source ends."""

    def pread_into(self, offset: int, buffer: memoryview) -> int:
        """Read into a buffer; return how many bytes there were, fewer than it takes only where the source ends."""
        found = self.pread(offset, len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Return the parts of a range that may be other than zeros, in order: all of it, unless holes can be seen."""
        if start < end:
            yield start, end

    @property
    def allocated(self) -> int | None:
        """Bytes that it takes where it lies, or None if nobody tells."""
        return None

    def stamp(self) -> object | None:
        """Return what differs from the last time if the bytes may have changed since; None if nobody tells.

        It is the same only where it is certain that nothing was written between the two calls.
        """
        return None

    def close(self) -> None:
        """Release what it holds open."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def new_buffer(length: int) -> memoryview:
    """Return a buffer of zeros that begins at a page.

    What Python allocates itself begins 16 bytes after one, where some processors copy three times as slowly.
    """
    return memoryview(mmap.mmap(-1, length))


class BytesSource(Source):
    """Bytes in memory."""

    def __init__(self, content: bytes | bytearray | memoryview, name: str = "bytes in memory") -> None:
        self._content = memoryview(content)
        self.name = name

    @property
    def size(self) -> int:
        """Bytes that there are."""
        return len(self._content)

    def pread(self, offset: int, length: int) -> bytes:
        """Return the bytes at an offset."""
        return bytes(self._content[offset : offset + length])
