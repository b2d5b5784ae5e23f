"""Files on the disks of guests: what is there, what changed between two states, and in which image it lies."""

from __future__ import annotations

import stat
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, SupportsIndex

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.model.moment import moment
from vmsnap_nb.model.names import there_are
from vmsnap_nb.model.number import check_above_zero
from vmsnap_nb.model.shown import Carded, Tabled
from vmsnap_nb.model.text import plural
from vmsnap_nb.words.message import t

if TYPE_CHECKING:
    import graphviz

__all__ = [
    "NOW",
    "Change",
    "DiskLayer",
    "FileChange",
    "FileChanges",
    "FileEntry",
    "FileKind",
    "FilePart",
    "FileParts",
    "FileRead",
    "Files",
    "LostFile",
    "LostFiles",
]

NOW = "now"
"""What the state is called in which a disk is."""

FileKind = Literal["file", "folder", "link", "device", "pipe", "socket", "other"]

Change = Literal[
    "added",
    "changed",  # its content, what a link leads to, or its kind
    "removed",
    "renamed",
    "metadata",  # time, mode or owner alone
]
_MOST_NAMES = 3


@dataclass(frozen=True, slots=True, repr=False)
class FileEntry(Carded):
    """A file, folder or link on a guest's disk.

    Attributes
    ----------
    path : str
        The path in the guest; ``volume:/path`` for a volume that the guest's ``/etc/fstab`` does not mount. Bytes that
        are not valid UTF-8 become surrogate escapes, as in `os.listdir`.
    kind : str
        A value of `FileKind`.
    size : int
        The size of the content, in bytes.
    mtime_ns : int or None
        The time of the last change of the content, in nanoseconds since 1970 (UTC).
    ctime_ns : int or None
        The time of the last change of the inode, in the same unit.
    mode : int or None
        The permission bits; None on NTFS and FAT.
    uid : int or None
        The ID of the owner; None on NTFS and FAT.
    gid : int or None
        The ID of the group; None on NTFS and FAT.
    inode : int
        The inode number in the file system.
    links : int
        The number of hard links.
    target : str
        The target of a symbolic link.
    volume : str
        The file's volume: ``disk`` (the whole disk), ``p1`` (the first partition), ``group/volume`` (an LVM volume).
    """

    path: str
    kind: FileKind = "file"
    size: int = 0
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    inode: int = 0
    links: int = 1
    target: str = ""
    volume: str = "disk"

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rstrip("/").rpartition("/")[2] or self.path

    @property
    def mtime(self) -> datetime | None:
        """The time of the last change of the content, in UTC; None if Python cannot represent the time."""
        return moment(self.mtime_ns)

    @property
    def permissions(self) -> str | None:
        """The kind and permission bits in the format of `ls -l`, such as ``-rw-r--r--``; None on NTFS and FAT."""
        return None if self.mode is None else stat.filemode(self.mode | _TYPES.get(self.kind, 0))

    @property
    def owner(self) -> str | None:
        """The IDs of the owner and the group, such as ``0:0``; None on NTFS and FAT."""
        return None if self.uid is None else f"{self.uid}:{self.gid}"

    def __repr__(self) -> str:
        return f"<FileEntry {self.path!r}: {self.kind}, {plural(self.size, 'byte')}>"


_TYPES = {
    "file": stat.S_IFREG,
    "folder": stat.S_IFDIR,
    "link": stat.S_IFLNK,
    "pipe": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "device": stat.S_IFCHR,
}


@dataclass(frozen=True, repr=False)
class FileRead(Tabled):
    """The attributes that all results of reading files have in addition to their rows.

    Attributes
    ----------
    disk : str
        The disk that was read: an image, or an image and a snapshot.
    volumes : tuple of str
        The contents of the disk, one sentence for each volume.
    notes : tuple of str
        Data that may be missing or outdated, and why; empty if no file system was in use and all data could be read.
    """

    disk: str
    volumes: tuple[str, ...] = field(default=(), kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    def to_text(self) -> str:
        """Return the result as lines of text, with paths as a tree of folders.

        Returns
        -------
        str
            The lines, without trailing white space.
        """
        from vmsnap_nb.views.file_tree import file_text

        return file_text(self)

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        from vmsnap_nb.views.file_tree import file_bundle

        return file_bundle(self, include, exclude)


@dataclass(frozen=True, repr=False)
class Files(FileRead):
    """Files on a guest's disk, sorted by path and accessible by index or path.

    `to_frame` returns a table with index ``path`` and columns ``kind size mtime mode owner inode links target volume``.
    ``mtime`` is a time in UTC, and ``size`` is in bytes. ``mode`` is a string such as ``-rw-r--r--``. ``owner``
    contains the owner's ID and the group's ID.
    """

    entries: tuple[FileEntry, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[FileEntry]:
        return iter(self.entries)

    def __contains__(self, path: object) -> bool:
        return any(path in (entry, entry.path) for entry in self.entries)

    def __getitem__(self, wanted: int | str) -> FileEntry:
        if isinstance(wanted, SupportsIndex):
            return self.entries[wanted]
        for entry in self.entries:
            if entry.path == wanted:
                return entry
        names = [entry.path for entry in self.entries]
        raise NotFoundError(
            t("find {path} in {files}", path=wanted, files=repr(self)),
            why=t("it is not in this list"),
            next_step=there_are(wanted, names, most=20),
        )

    def _ipython_key_completions_(self) -> list[str]:
        return [entry.path for entry in self.entries]

    def __repr__(self) -> str:
        return f"<Files of {self.disk}: {_names([entry.path for entry in self.entries])}>"


@dataclass(frozen=True, slots=True, repr=False)
class FileChange(Carded):
    """A file that differs between two states of a disk.

    Attributes
    ----------
    path : str
        The path in the later state; for a removed file, the former path.
    change : str
        A value of `Change`.
    before : FileEntry or None
        The file in the earlier state, under its former path if it was renamed; None if it does not exist there.
    after : FileEntry or None
        The file in the later state; None if it does not exist there.
    layer : str
        The name of the image that holds the change; empty if several images are possible.
    """

    path: str
    change: Change
    before: FileEntry | None = None
    after: FileEntry | None = None
    layer: str = ""

    @property
    def kind(self) -> str:
        """A value of `FileKind`."""
        entry = self.after or self.before
        return "other" if entry is None else entry.kind

    def __repr__(self) -> str:
        former = f", before {self.before.path!r}" if self.change == "renamed" and self.before else ""
        return f"<FileChange {self.path!r}: {self.change}{former}>"


@dataclass(frozen=True, slots=True)
class DiskLayer(Carded):
    """An image from which at least one of two compared states of a disk is read.

    Attributes
    ----------
    name : str
        The name of the image.
    path : str
        The path of the image.
    states : tuple of str
        ``before``, ``after``, or both.
    allocated : int or None
        The number of bytes that the image file takes on disk.
    virtual_size : int or None
        The number of bytes that the guest sees.
    """

    name: str
    path: str
    states: tuple[Literal["before", "after"], ...] = ("before", "after")
    allocated: int | None = None
    virtual_size: int | None = None


@dataclass(frozen=True, repr=False)
class FileChanges(FileRead):
    """The files that changed on a guest's disk between two states, sorted by path.

    `to_frame` returns a table with index ``path`` and columns ``change kind size_before size_after mtime_before
    mtime_after mode owner layer``. Times are in UTC, sizes in bytes; ``mode`` and ``owner`` are from the later state
    or, for a removed file, from the earlier state.

    Attributes
    ----------
    before : str
        The earlier state.
    after : str
        The later state.
    changes : tuple of FileChange
        One change for each file.
    layers : tuple of DiskLayer
        The images from which the states are read. Images of both states come first, then the images of only `before`,
        and then the images of only `after`. Each image comes after its lower layers.
    """

    before: str = ""
    after: str = ""
    changes: tuple[FileChange, ...] = ()
    layers: tuple[DiskLayer, ...] = field(default=(), kw_only=True)

    def to_svg(self) -> str:
        """Return the changes as a picture: layers on the left, and a tree with a sign, a size and a bar for each file.

        In a folder with many changes, the last changes are only counted, as are the middle layers of a long chain.

        Returns
        -------
        str
            An ``<svg>`` element in the colours of its page. A notebook cell that ends with this value shows the
            picture.

        Examples
        --------
        >>> from vmsnap_nb import FileChange, FileChanges, FileEntry
        >>> motd = FileChange("/etc/motd", "added", after=FileEntry("/etc/motd", size=6))
        >>> svg = FileChanges("web", "monday", "now", (motd,)).to_svg()
        >>> svg.startswith("<svg"), svg.count('class="row added"')
        (True, 1)
        """
        from vmsnap_nb.views.changes_svg import changes_svg
        from vmsnap_nb.views.pictures import Svg

        return Svg(changes_svg(self))

    def to_png(self, *, zoom: float = 2.0) -> bytes:
        """Return the picture as PNG, for viewers and documents without SVG.

        Parameters
        ----------
        zoom : float
            Number of pixels in the picture for each pixel of the SVG.

        Returns
        -------
        bytes
            The content of a PNG file, on a white background. A notebook cell that ends with this value shows the
            picture.

        Raises
        ------
        MissingPartError
            The Python package resvg_py is not installed: ``pip install "vmsnap_nb[png]"``.
        """
        from vmsnap_nb.views.pictures import png_of

        return png_of(self.to_svg(), zoom=check_above_zero(zoom, "zoom"))

    def to_graphviz(self) -> graphviz.Digraph:
        """Return the picture as a Graphviz graph.

        Returns
        -------
        graphviz.Digraph
            The layers and the tree, at the same positions as in `to_svg`.

        Raises
        ------
        MissingPartError
            The Python package graphviz is not installed.
        """
        from vmsnap_nb.views.changes_dot import changes_graph

        return changes_graph(self)

    def __len__(self) -> int:
        return len(self.changes)

    def __iter__(self) -> Iterator[FileChange]:
        return iter(self.changes)

    def __getitem__(self, wanted: int | str) -> FileChange:
        if isinstance(wanted, SupportsIndex):
            return self.changes[wanted]
        for change in self.changes:
            if change.path == wanted:
                return change
        raise NotFoundError(
            t("find {path} in {files}", path=wanted, files=repr(self)),
            why=t("the file is the same in both states, or exists in neither"),
            next_step=t("choose a path from the list"),
        )

    def _ipython_key_completions_(self) -> list[str]:
        return [change.path for change in self.changes]

    def __repr__(self) -> str:
        counts: dict[str, int] = {}
        for change in self.changes:
            counts[change.change] = counts.get(change.change, 0) + 1
        text = ", ".join(f"{number} {name}" for name, number in counts.items()) or "nothing changed"
        return f"<FileChanges from {self.before} to {self.after}: {text}>"


@dataclass(frozen=True, slots=True, repr=False)
class LostFile(Carded):
    """A file with content that exists in `state` but in no remaining state.

    Attributes
    ----------
    state : str
        The state that contains the file: a snapshot, an image, or ``now``.
    entry : FileEntry
        The file.
    """

    state: str
    entry: FileEntry

    @property
    def path(self) -> str:
        """The path in the guest."""
        return self.entry.path

    def __repr__(self) -> str:
        return f"<LostFile {self.path!r} of {self.state}: {plural(self.entry.size, 'byte')}>"


@dataclass(frozen=True, repr=False)
class LostFiles(FileRead):
    """Files that can no longer be restored after a plan has run: no remaining state contains their content.

    `to_frame` returns a table with index ``path`` and columns ``state kind size mtime mode owner``. If several states
    can no longer be read, each state has its own rows. Folders, and changes to metadata alone, are not listed.

    Attributes
    ----------
    states : tuple of str
        The names of the states that can no longer be read; if there are several disks, each name includes the disk.
    files : tuple of LostFile
        One entry for each file and state.
    """

    states: tuple[str, ...] = ()
    files: tuple[LostFile, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[LostFile]:
        return iter(self.files)

    def __getitem__(self, number: int) -> LostFile:
        return self.files[number]

    def __repr__(self) -> str:
        return f"<LostFiles of {', '.join(self.states) or 'no state'}: {_names([one.path for one in self.files])}>"


class FilePart(NamedTuple):
    """A part of a file: `start` and `length` are bytes of its content, `place` is where on the disk it lies."""

    start: int
    length: int
    layer: int | None  # 0 is the base; None where no layer has it
    image: str  # the layer's name
    kind: Literal["data", "zero", "inode", "unknown"]
    place: int | None = None


@dataclass(frozen=True, repr=False)
class FileParts(FileRead):
    """The parts of a file, and the layer of the chain that holds each part.

    `to_frame` returns a table with index ``start`` and columns ``length layer image kind place``. All numbers except
    ``layer`` are in bytes. ``kind`` is ``data``, ``zero``, ``inode`` or ``unknown``. ``zero`` is a hole, or zeros in a
    layer; ``inode`` is content in the file system's own tables; ``unknown`` is compressed or encrypted content.

    Attributes
    ----------
    path : str
        The file.
    parts : tuple of FilePart
        The parts in the order of the content, without gaps.
    """

    path: str = ""
    parts: tuple[FilePart, ...] = ()

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[FilePart]:
        return iter(self.parts)

    def __getitem__(self, number: int) -> FilePart:
        return self.parts[number]

    def __repr__(self) -> str:
        images = list(dict.fromkeys(part.image for part in self.parts if part.image))
        return f"<FileParts of {self.path!r}: {', '.join(images) or 'no layer has data of it'}>"


def _names(paths: list[str]) -> str:
    rest = f" and {len(paths) - _MOST_NAMES} more" if len(paths) > _MOST_NAMES else ""
    return ", ".join(paths[:_MOST_NAMES]) + rest if paths else "none"
