"""XFS, read by libfsxfs; and the names in its folders that are no UTF-8, which that refuses to give."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from struct import Struct
from typing import Any

import pyfsxfs

from vmsnap_nb.model.files import FileKind
from vmsnap_nb.system.filesystems.node import FileSystem, Node, Span
from vmsnap_nb.system.filesystems.region import Region

__all__ = ["XfsFileSystem"]

_KINDS: dict[int, FileKind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}
_SPARSE = 1
_MOST_FOLDER = 64 << 20
"""Bytes of one folder in which names are looked for that are no UTF-8."""
_BLOCK_MAGICS = {b"XD2B": 16, b"XD2D": 16, b"XDB3": 64, b"XDD3": 64}
"""What the blocks of a folder begin with, and where the first entry is."""
_FREE = 0xFFFF
_ENTRY = Struct(">QB")


class _Stream:
    """A volume as libfsxfs reads it: an object like a file."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        found = self._region.pread(self._at, self._region.size - self._at if size < 0 else size)
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int = 0) -> None:
        self._at = offset + (0, self._at, self._region.size)[whence]

    def tell(self) -> int:
        return self._at

    def get_size(self) -> int:
        return self._region.size


class XfsFileSystem(FileSystem):
    """An XFS file system."""

    kind = "XFS"

    def __init__(self, region: Region) -> None:
        self._region = region
        self._volume = pyfsxfs.volume()
        self._volume.open_file_object(_Stream(region))
        self._layout = _Layout(region.pread(0, 512))
        self._linear: bool | None = None

    def root(self) -> Node:
        """Return its first folder."""
        return self._node(self._volume.get_root_directory())

    def entries(self, folder: int) -> Iterator[tuple[bytes, Node | None]]:
        """Yield what is in a folder."""
        entry = self._entry(folder)
        nameless: list[Node] = []
        for number in range(entry.number_of_sub_file_entries):
            inside = entry.get_sub_file_entry(number)
            node = self._node(inside)
            try:
                name = inside.name
            except OSError:
                nameless.append(node)
                continue
            if name not in (None, ".", ".."):
                yield name.encode(errors="surrogatepass"), node
        if nameless:
            yield from self._other_names(folder, nameless)

    def _other_names(self, folder: int, nodes: list[Node]) -> Iterator[tuple[bytes, Node | None]]:
        """Yield the entries of a folder whose names are no UTF-8."""
        wanted = {node.number: node for node in nodes}
        found = self._layout.names(self._region, folder, self.spans(folder) or [])
        for number, name in found:
            if number in wanted and not _is_utf8(name):
                yield name, wanted[number]

    def _entry(self, number: int) -> Any:
        return self._volume.get_file_entry_by_inode(number)

    @staticmethod
    def _node(entry: Any) -> Node:
        mode = int(entry.file_mode)
        return Node(
            number=int(entry.inode_number),
            kind=_KINDS.get(stat.S_IFMT(mode), "other"),
            size=int(entry.size),
            mtime=entry.get_modification_time_as_integer(),
            ctime=entry.get_inode_change_time_as_integer(),
            born=entry.get_creation_time_as_integer(),
            mode=stat.S_IMODE(mode),
            uid=int(entry.get_owner_identifier()),
            gid=int(entry.get_group_identifier()),
            links=int(entry.number_of_links),
        )

    def spans(self, number: int) -> list[Span] | None:
        """Return where the content of a file lies."""
        entry = self._entry(number)
        try:
            count = entry.number_of_extents
        except OSError:
            return None  # it lies in its inode
        spans: list[Span] = []
        start = 0
        for extent in range(count):
            offset, length, flags = entry.get_extent(extent)
            place = None if flags & _SPARSE else self._place(entry, start, offset)
            spans.append(Span(start, length, place))
            start += length
        return spans if spans or not entry.size else None

    def _place(self, entry: Any, start: int, offset: int) -> int:
        """Return where in the volume an extent lies.

        What libfsxfs gives has the number of the allocation group in its upper bits. Should a version give the place
        itself, that is seen by the first extent for which it makes a difference.
        """
        place = self._layout.linear(offset)
        if place == offset or self._linear is True:
            return offset
        if self._linear is None:
            length = min(512, int(entry.size) - start)
            content = entry.read_buffer_at_offset(length, start) if length > 0 else b""
            if not content.strip(b"\0"):
                return place
            self._linear = self._region.pread(place, length) != content
        return offset if self._linear else place

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Return a part of the content of a file."""
        entry = self._entry(number)
        length = min(length, int(entry.size) - offset)
        return bytes(entry.read_buffer_at_offset(length, offset)) if length > 0 else b""

    def target(self, number: int) -> bytes:
        """Return what a symbolic link leads to."""
        text = self._entry(number).symbolic_link_target
        return b"" if text is None else str(text).encode(errors="surrogatepass")


class _Layout:
    """Where XFS has its inodes and the entries of its folders (kernel, Documentation of the on-disk format)."""

    def __init__(self, superblock: bytes) -> None:
        self._block = int.from_bytes(superblock[4:8], "big")
        self._group_blocks = int.from_bytes(superblock[84:88], "big")
        version = int.from_bytes(superblock[100:102], "big")
        self._inode = int.from_bytes(superblock[104:106], "big")
        self._inodes_bits = superblock[123]
        self._group_bits = superblock[124]
        self._folder_block = self._block << superblock[192]
        incompatible = int.from_bytes(superblock[216:220], "big")
        features = int.from_bytes(superblock[200:204], "big")
        # Each entry has the type of its file as well since version 5, and where an older one has a feature for it.
        self._typed = bool(incompatible & 1) if version & 15 == 5 else bool(features & 0x200)
        self._core = 176 if version & 15 == 5 else 100

    def linear(self, offset: int) -> int:
        """Return the place of a byte in the volume by that of an extent, whose upper bits are its group."""
        block, within = divmod(offset, self._block)
        group = block >> self._group_bits
        return (group * self._group_blocks + (block & ((1 << self._group_bits) - 1))) * self._block + within

    def names(self, region: Region, folder: int, spans: list[Span]) -> Iterator[tuple[int, bytes]]:
        """Yield the entries of a folder."""
        if not spans:
            yield from self._short(self._read_inode(region, folder))
            return
        done = 0
        for span in spans:
            # Behind this place folders have no entries, but tables of their hashes.
            if span.place is None or span.start >= 32 << 30 or done > _MOST_FOLDER:
                continue
            content = region.pread(span.place, min(span.length, _MOST_FOLDER - done))
            done += len(content)
            for at in range(0, len(content), self._folder_block or len(content)):
                yield from self._in_block(content[at : at + self._folder_block])

    def _read_inode(self, region: Region, number: int) -> bytes:
        bits = self._group_bits + self._inodes_bits
        group, within = number >> bits, number & ((1 << bits) - 1)
        block, index = within >> self._inodes_bits, within & ((1 << self._inodes_bits) - 1)
        place = (group * self._group_blocks + block) * self._block + index * self._inode
        return region.pread(place, self._inode)

    def _short(self, inode: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the entries of a folder that lies in its inode."""
        data = inode[self._core :]
        if len(data) < 6:
            return
        count, wide = data[0] or data[1], 8 if data[1] else 4
        at = 2 + wide
        for _ in range(count):
            length = data[at] if at < len(data) else 0
            name = data[at + 3 : at + 3 + length]
            end = at + 3 + length + int(self._typed)
            yield int.from_bytes(data[end : end + wide], "big"), name
            at = end + wide

    def _in_block(self, block: bytes) -> Iterator[tuple[int, bytes]]:
        at = _BLOCK_MAGICS.get(block[:4], len(block))
        end = len(block)
        if block[:4] in {b"XD2B", b"XDB3"} and end >= 8:  # a table of hashes follows, and counts its entries at the end
            end -= 8 + 8 * int.from_bytes(block[-8:-4], "big")
        while at + _ENTRY.size <= end:
            if int.from_bytes(block[at : at + 2], "big") == _FREE:
                at += max(8, int.from_bytes(block[at + 2 : at + 4], "big"))
                continue
            number, length = _ENTRY.unpack_from(block, at)
            yield number, block[at + 9 : at + 9 + length]
            at += -(-(9 + length + int(self._typed) + 2) // 8) * 8


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
