"""Read and write cpio archives of the "newc" kind, of which a Linux initial file system is made.

Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vmsnap_nb.errors import ImageError
from vmsnap_nb.words.message import t

__all__ = ["Entry", "pack", "unpack"]

_MAGIC = b"070701"
_HEADER = 110
_END = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder, symbolic link or device of an archive."""

    name: str  # path without a leading slash
    mode: int  # type and permissions, as in ``st_mode``
    data: bytes = b""  # content of a file, or target of a symbolic link
    device: tuple[int, int] = (0, 0)  # major and minor number of a device

    @classmethod
    def file(cls, name: str, data: bytes, *, executable: bool = False) -> Entry:
        """Return a regular file."""
        return cls(name, stat.S_IFREG | (0o755 if executable else 0o644), data)

    @classmethod
    def folder(cls, name: str) -> Entry:
        """Return a folder."""
        return cls(name, stat.S_IFDIR | 0o755)


def pack(entries: Iterable[Entry]) -> bytes:
    """Make an archive; folders must come before what is in them.

    Examples
    --------
    >>> [entry.name for entry in unpack(pack([Entry.folder("run"), Entry.file("run/a", b"1")]))]
    ['run', 'run/a']
    """
    parts: list[bytes] = []
    for number, entry in enumerate((*entries, Entry(_END, 0)), start=1):
        name = entry.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
        head = _MAGIC + b"".join(b"%08X" % field for field in fields) + name
        parts += [head, _padding(len(head)), entry.data, _padding(len(entry.data))]
    return b"".join(parts)


def unpack(archive: bytes) -> Iterator[Entry]:
    """Return the entries of an archive up to its end mark."""
    at = 0
    while True:
        head = archive[at : at + _HEADER]
        if len(head) < _HEADER or head[:6] != _MAGIC:
            raise ImageError(
                t("read a cpio archive at byte {place}", place=at), why=t("there is no header of the kind 'newc'")
            )
        try:
            fields = [int(head[i : i + 8], 16) for i in range(6, _HEADER, 8)]
        except ValueError as error:
            raise ImageError(t("read a cpio archive at byte {place}", place=at), said=str(error)) from error
        mode, size, major, minor, name_size = fields[1], fields[6], fields[9], fields[10], fields[11]
        start = at + _HEADER + name_size
        start += len(_padding(start))
        name = archive[at + _HEADER : at + _HEADER + name_size - 1].decode(errors="surrogateescape")
        if name == _END:
            return
        if start + size > len(archive):
            raise ImageError(t("read {name!r} from a cpio archive", name=name), why=t("the archive is truncated"))
        yield Entry(name, mode, archive[start : start + size], (major, minor))
        at = start + size
        at += len(_padding(at))


def _padding(size: int) -> bytes:
    return b"\0" * (-size % 4)
