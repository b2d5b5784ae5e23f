"""All file systems of one disk as one tree of paths, as the guest has them mounted."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from vmsnap_nb.errors import ImageError, NotFoundError
from vmsnap_nb.model.names import there_are
from vmsnap_nb.system.filesystems.messages import DAMAGED
from vmsnap_nb.system.filesystems.node import FileSystem, Node
from vmsnap_nb.system.filesystems.tsk import TskFileSystem
from vmsnap_nb.system.filesystems.volumes import Volume, find_volumes
from vmsnap_nb.system.filesystems.xfs import XfsFileSystem
from vmsnap_nb.system.mount_table import mount_points
from vmsnap_nb.system.sources.source import Source
from vmsnap_nb.words.message import Message, clauses, joined, t

__all__ = ["Place", "Tree"]

MOST_ENTRIES = 1_000_000
_MOST_PATH = 16 << 10
_MOST_LINKS = 40
_MOST_PROBLEMS = 20
_FSTAB = 64 << 10
_OF_VOLUME = re.compile(r"([^/:]+(?:/[^/:]+)?):(/?.*)", re.DOTALL)
_ROOTS = ((b"etc", b"usr"), (b"etc", b"bin"), (b"Windows", b"Users"))
"""What the file system of a whole system has in its first folder."""
_PARTITION = re.compile(r"/dev/(?:vd|sd|xvd|hd)[a-z](\d+)|/dev/nvme\d+n\d+p(\d+)")


class Place(NamedTuple):
    """A file of one of the file systems, under the path that leads to it."""

    volume: str
    files: FileSystem
    node: Node
    path: str


@dataclass
class Tree:
    """The file systems of a disk."""

    disk: Source
    volumes: list[Volume]
    systems: dict[str, FileSystem]
    mounts: dict[str, str] = field(default_factory=dict)  # volumes by the path of the folder that they are mounted on
    problems: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)  # folders that could not be read, or not all of them

    @classmethod
    def of(cls, disk: Source, name: str) -> Tree:
        """Open all file systems of a disk that can be read."""
        tree = cls(disk, find_volumes(disk), {})
        for volume in tree.volumes:
            if volume.readable and volume.region is not None:
                try:
                    tree.systems[volume.name] = _open(volume)
                except (OSError, ValueError) as error:
                    tree.problems.append(
                        t(
                            "{volume}: {kind} cannot be opened: {why}",
                            volume=volume.name,
                            kind=volume.content.kind,
                            why=_words(error),
                        )
                    )
        if not tree.systems:
            raise ImageError(
                t("read the files of {name}", name=name),
                why=clauses([*map(_found, tree.volumes), *tree.problems]) or t("its disk is empty"),
                next_step=t(
                    "supported file systems are ext2, ext3, ext4, XFS, NTFS and FAT, in MBR and GPT partitions and "
                    "linear or striped LVM volumes on one disk. For others, ask the guest itself: {call}",
                    call="guest.execute('ls -l /')",
                ),
            )
        tree._mount()
        return tree

    # -- where each file system is mounted ----------------------------------------------------------------

    def _mount(self) -> None:
        root = self._root()
        if root is None:
            return
        self.mounts["/"] = root
        for device, folder in self._table():
            volume = self._named(device)
            if volume in self.systems and volume not in self.mounts.values():
                self.mounts.setdefault(posixpath.normpath(folder), volume)

    def _root(self) -> str | None:
        """Return the volume that "/" is on: the only one, or that of a whole system."""
        if len(self.systems) == 1:
            return next(iter(self.systems))
        for name, files in self.systems.items():
            try:
                names = {entry for entry, _ in files.entries(files.root().number)}
            except (OSError, ValueError):
                continue
            if any(names.issuperset(some) for some in _ROOTS):
                return name
        return None

    def _table(self) -> Iterator[tuple[str, str]]:
        """Yield devices and folders of /etc/fstab."""
        try:
            place = self.find("/etc/fstab")
            text = place.files.read(place.node.number, 0, _FSTAB).decode(errors="surrogateescape")
        except (OSError, ValueError, NotFoundError):
            return
        for device, folder in mount_points(text):
            yield device.replace('"', ""), folder

    def _named(self, device: str) -> str | None:
        """Return the volume that a mount table means."""
        kind, _, value = device.partition("=")
        for volume in self.volumes:
            content = volume.content
            if kind == "UUID" and value and content.uuid.lower() == value.lower():
                return volume.name
            if kind == "LABEL" and value and content.label == value:
                return volume.name
            if kind == "PARTUUID" and value and volume.part.uuid.lower() == value.lower():
                return volume.name
            if kind == "PARTLABEL" and value and volume.part.label == value:
                return volume.name
            mapped = volume.name.replace("-", "--").replace("/", "-")
            if "/" in volume.name and device in {f"/dev/{volume.name}", f"/dev/mapper/{mapped}"}:
                return volume.name
            number = _PARTITION.fullmatch(device)
            if number and volume.name == f"p{number[1] or number[2]}":
                return volume.name
        return None

    # -- paths ----------------------------------------------------------------------------------------------

    def find(self, path: str, *, follow: bool = True) -> Place:
        """Return the file that a path leads to; symbolic links in it are followed, within the disk."""
        start, parts = self._split(path)
        stack = [start]
        links = 0
        while parts:
            name = parts.pop()
            if name in {"", "."}:
                continue
            if name == "..":
                stack = stack[:-1] or stack
                continue
            here = stack[-1]
            if here.node.kind != "folder":
                raise NotFoundError(
                    t("find {path}", path=path),
                    why=t("{path} is not a folder", path=here.path),
                    next_step=t("check the path"),
                )
            place = self._child(here, name, path)
            if place.node.kind == "link" and (parts or follow):
                links += 1
                target = place.files.target(place.node.number).decode(errors="surrogateescape")
                if links > _MOST_LINKS or not target:
                    raise NotFoundError(
                        t("find {path}", path=path),
                        why=t("there are too many symbolic links"),
                        next_step=t("check the path"),
                    )
                parts += reversed(target.split("/"))
                if target.startswith("/"):
                    stack = stack[:1] if self.mounts.get("/") is None else [self._first(self.mounts["/"], "/")]
                continue
            stack.append(place)
        return stack[-1]

    def _split(self, path: str) -> tuple[Place, list[str]]:
        named = None if path.startswith("/") else _OF_VOLUME.fullmatch(path)
        volume = named[1] if named else self.mounts.get("/")
        rest = named[2] if named else path
        if volume is None:
            raise NotFoundError(
                t("find {path}", path=path),
                why=t(
                    "none of the file systems contains an operating system, so the file system mounted on / is unknown"
                ),
                next_step=t("specify one of them: {names}", names=joined(f"{name}:/…" for name in self.systems)),
            )
        if volume not in self.systems:
            found = next((_found(one) for one in self.volumes if one.name == volume), None)
            raise NotFoundError(t("find {path}", path=path), why=found, next_step=there_are(volume, self.systems))
        return self._first(volume, f"{volume}:/" if named else "/"), list(reversed(rest.split("/")))

    def _first(self, volume: str, path: str) -> Place:
        files = self.systems[volume]
        try:
            return Place(volume, files, files.root(), path)
        except (OSError, ValueError) as error:
            tried = t("read the first folder of {volume}", volume=volume)
            raise ImageError(tried, said=_words(error), next_step=t(DAMAGED)) from error

    def _child(self, here: Place, name: str, wanted: str) -> Place:
        path = here.path.rstrip("/") + "/" + name
        if path in self.mounts:
            return self._first(self.mounts[path], path)
        raw, close = name.encode(errors="surrogateescape"), []
        try:
            for found, node in here.files.entries(here.node.number):
                if found == raw and node is not None:
                    return Place(here.volume, here.files, node, path)
                text = found.decode(errors="surrogateescape")
                if here.files.any_case and node is not None and text.casefold() == name.casefold():
                    return Place(here.volume, here.files, node, here.path.rstrip("/") + "/" + text)
                close.append(text)
        except (OSError, ValueError) as error:
            raise ImageError(t("read {path}", path=here.path), said=_words(error), next_step=t(DAMAGED)) from error
        raise NotFoundError(
            t("find {path}", path=wanted),
            why=t("{folder} does not contain {name!r}", name=name, folder=here.path),
            next_step=there_are(name, sorted(close), most=20, none=t("that folder is empty")),
        )

    def walk(self, path: str, *, recursive: bool = True) -> Iterator[Place]:
        """Yield what is in a folder and below it; each folder of a file system once."""
        start = self.find(path)
        if start.node.kind != "folder":
            yield start
            return
        waiting, seen, count = [start], {(start.volume, start.node.number)}, 0
        while waiting:
            here = waiting.pop()
            inner = []
            for place in self._entries(here):
                count += 1
                if count > MOST_ENTRIES:
                    raise ImageError(
                        t("list {path}", path=path),
                        why=t("it has more than {count} files", count=MOST_ENTRIES),
                        next_step=t("pass one of its subfolders"),
                    )
                yield place
                if place.node.kind == "folder" and recursive:
                    key = place.volume, place.node.number
                    if key in seen or len(place.path) > _MOST_PATH:
                        self._skip(place.path, t("the folder contains itself, or is nested too deeply"))
                    else:
                        seen.add(key)
                        inner.append(place)
            waiting += reversed(inner)

    def _entries(self, here: Place) -> Iterator[Place]:
        names = set()
        try:
            for raw, node in here.files.entries(here.node.number):
                name = raw.decode(errors="surrogateescape")
                if not name or "/" in name or "\0" in name or name in names:
                    self._skip(here.path, t("it contains an invalid name: {name!r}", name=name[:40]))
                    continue
                names.add(name)
                path = here.path.rstrip("/") + "/" + name
                if path in self.mounts:
                    yield self._first(self.mounts[path], path)
                elif node is None:
                    self._skip(path, t("its file type cannot be read"))
                else:
                    yield Place(here.volume, here.files, node, path)
        except (OSError, ValueError, ImageError) as error:
            self._skip(here.path, _words(error))

    def _skip(self, path: str, why: str) -> None:
        self.unread.append(path)
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(t("{path} was not read, or not read completely: {why}", path=path, why=why))


def _open(volume: Volume) -> FileSystem:
    assert volume.region is not None
    kind = volume.content.kind
    files = XfsFileSystem(volume.region) if kind == "XFS" else TskFileSystem(volume.region, kind)
    files.root()
    return files


def _found(volume: Volume) -> Message:
    where = volume.where
    if volume.problem:
        return t("{where}: {problem}", where=where, problem=volume.problem)
    if volume.region is not None and not volume.content.kind:
        empty = not volume.region.pread(0, 1 << 20).strip(b"\0")
        return (
            t("{where} is empty", where=where) if empty else t("the content of {where} is not recognized", where=where)
        )
    return t("{where} contains {kind}", where=where, kind=volume.content.kind)


def _words(error: BaseException) -> str:
    """Return what a library says, on one short line."""
    said = getattr(error, "said", None) or str(error) or type(error).__name__
    return " ".join(str(said).split())[:300]
