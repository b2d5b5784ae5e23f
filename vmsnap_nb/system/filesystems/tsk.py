"""ext2, ext3, ext4, NTFS, FAT and exFAT, read by The Sleuth Kit: names come as the bytes that they are."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Any

import pytsk3

from vmsnap_nb.model.files import FileKind
from vmsnap_nb.system.filesystems.node import FileSystem, Node, Span
from vmsnap_nb.system.filesystems.region import Region

__all__ = ["TskFileSystem", "TskImage"]

_KINDS: dict[Any, FileKind] = {
    pytsk3.TSK_FS_META_TYPE_REG: "file",
    pytsk3.TSK_FS_META_TYPE_DIR: "folder",
    pytsk3.TSK_FS_META_TYPE_LNK: "link",
    pytsk3.TSK_FS_META_TYPE_CHR: "device",
    pytsk3.TSK_FS_META_TYPE_BLK: "device",
    pytsk3.TSK_FS_META_TYPE_FIFO: "pipe",
    pytsk3.TSK_FS_META_TYPE_SOCK: "socket",
}
_VIRTUAL = {pytsk3.TSK_FS_META_TYPE_VIRT, pytsk3.TSK_FS_META_TYPE_VIRT_DIR}
_OWN = {
    pytsk3.TSK_FS_ATTR_TYPE_DEFAULT,
    pytsk3.TSK_FS_ATTR_TYPE_NTFS_DATA,
}
_DELETED = int(pytsk3.TSK_FS_NAME_FLAG_UNALLOC)
_NTFS_ROOT = 5
_FIRST_OF_NTFS = 24
"""Entries of the MFT before this one are the file system's own."""
_LABEL = b" (Volume Label Entry)"
_ENTRY = Struct("<IHB")
_MOST_FOLDER = 256 << 20
"""Bytes of one folder: a million long names take less."""
_LONGEST_LINK = 4096
_LATEST = 1 << 34
"""Seconds since 1970 after which a time is damage: ext4 has 34 bits."""


class TskImage(pytsk3.Img_Info):  # type: ignore[misc]
    """A volume as libtsk reads it."""

    def __init__(self, region: Region) -> None:
        self._region = region
        super().__init__(url="", type=pytsk3.TSK_IMG_TYPE_EXTERNAL)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes, with zeros behind the end."""
        return self._region.pread(offset, size).ljust(size, b"\0")

    def get_size(self) -> int:
        """Return how many bytes there are."""
        return self._region.size


class TskFileSystem(FileSystem):
    """A file system that libtsk knows."""

    def __init__(self, region: Region, kind: str) -> None:
        self.kind = kind
        self._image = TskImage(region)
        self._files = pytsk3.FS_Info(self._image)
        self._block = int(self._files.info.block_size)
        self.lasting_numbers = kind != "FAT"
        self.any_case = kind in {"FAT", "NTFS"}

    def root(self) -> Node:
        """Return its first folder."""
        number = int(self._files.info.root_inum)
        node = self._node(self._files.open_meta(number).info.meta)
        return node or Node(
            number=number,
            kind="folder",
            size=0,
            mtime=None,
            ctime=None,
            born=None,
            mode=None,
            uid=None,
            gid=None,
            links=1,
        )

    def entries(self, folder: int) -> Iterator[tuple[bytes, Node | None]]:
        """Yield what is in a folder, without what was deleted."""
        if self.kind == "ext":
            file = self._files.open_meta(folder)
            size = int(file.info.meta.size)
            if size >= self._block and size % self._block == 0:  # else it lies in its inode
                yield from self._ext_entries(bytes(file.read_random(0, min(size, _MOST_FOLDER))))
                return
        yield from self._listed(folder)

    def _ext_entries(self, content: bytes) -> Iterator[tuple[bytes, Node | None]]:
        """Yield what the blocks of an ext folder say (kernel, Documentation/filesystems/ext4/directory.rst).

        libtsk looks for deleted names in the space that they have left, and then misses some of the names behind it.
        """
        damaged = len(content) == _MOST_FOLDER
        for start in range(0, len(content), self._block):
            at, end = start, min(start + self._block, len(content))
            while at + 8 <= end:
                number, length, wide = _ENTRY.unpack_from(content, at)
                if length < 8 or at + length > end:
                    damaged = True  # what follows in this block cannot be found
                    break
                name = content[at + 8 : at + 8 + wide]
                if number and name not in {b"", b".", b".."}:
                    yield name, self._known(number)
                at += length
        if damaged:
            raise ValueError("a block of the folder is damaged")

    def _known(self, number: int) -> Node | None:
        try:
            return self._node(self._files.open_meta(number).info.meta)
        except OSError:
            return None

    def _listed(self, folder: int) -> Iterator[tuple[bytes, Node | None]]:
        for file in self._files.open_dir(inode=folder):
            name, meta = file.info.name, file.info.meta
            if name is None or name.name in (None, b".", b"..") or int(name.flags) & _DELETED:
                continue
            if meta is not None and (meta.type in _VIRTUAL or self._is_own(int(meta.addr), name.name)):
                continue
            yield name.name, None if meta is None else self._node(meta)

    def _is_own(self, number: int, name: bytes) -> bool:
        if self.kind == "NTFS":
            return number < _FIRST_OF_NTFS and number != _NTFS_ROOT
        return self.kind == "FAT" and name.endswith(_LABEL)

    def _node(self, meta: Any) -> Node | None:
        if meta is None:
            return None
        has_owner = self.kind == "ext"
        return Node(
            number=int(meta.addr),
            kind=_KINDS.get(meta.type, "other"),
            size=max(0, int(meta.size)),
            mtime=_time(meta.mtime, meta.mtime_nano),
            ctime=_time(meta.ctime, meta.ctime_nano) if self.kind != "FAT" else None,
            born=_time(meta.crtime, meta.crtime_nano),
            mode=int(meta.mode) & 0o7777 if has_owner else None,
            uid=int(meta.uid) if has_owner else None,
            gid=int(meta.gid) if has_owner else None,
            links=int(meta.nlink),
        )

    def spans(self, number: int) -> list[Span] | None:
        """Return where the content of a file lies."""
        file = self._files.open_meta(number)
        size = max(0, int(file.info.meta.size))
        spans: list[Span] = []
        for attribute in file:
            info = attribute.info
            if info.type not in _OWN or info.name:
                continue
            flags = int(info.flags)
            special = (pytsk3.TSK_FS_ATTR_RES, pytsk3.TSK_FS_ATTR_COMP, pytsk3.TSK_FS_ATTR_ENC)
            if any(flags & int(flag) for flag in special):
                return None
            for run in attribute:
                start, length = int(run.offset) * self._block, int(run.len) * self._block
                if start < size:
                    hole = int(run.flags) & int(pytsk3.TSK_FS_ATTR_RUN_FLAG_SPARSE)
                    place = None if hole or not run.addr else int(run.addr) * self._block  # none is in the first
                    spans.append(Span(start, min(length, size - start), place))
        return spans if spans or not size else None

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Return a part of the content of a file."""
        file = self._files.open_meta(number)
        length = min(length, int(file.info.meta.size) - offset)
        return bytes(file.read_random(offset, length)) if length > 0 else b""

    def target(self, number: int) -> bytes:
        """Return what a symbolic link leads to."""
        file = self._files.open_meta(number)
        link = file.info.meta.link
        if link is not None:
            return bytes(link)
        size = min(_LONGEST_LINK, int(file.info.meta.size))  # one that is too long for the inode
        return bytes(file.read_random(0, size)) if size > 0 else b""


def _time(seconds: Any, nanoseconds: Any) -> int | None:
    if not seconds or not -_LATEST < seconds < _LATEST:
        return None
    return int(seconds) * 1_000_000_000 + (int(nanoseconds) if 0 <= nanoseconds < 1_000_000_000 else 0)
