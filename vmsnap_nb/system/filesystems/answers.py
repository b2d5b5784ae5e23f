"""What is answered to a request: files of one state of a disk, or what differs between two."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from typing import Any

from vmsnap_nb.errors import ImageError, InvalidRequestError
from vmsnap_nb.model.file_compare import compare
from vmsnap_nb.model.files import FileEntry
from vmsnap_nb.model.size import human_size
from vmsnap_nb.system.disk.disk import Disk
from vmsnap_nb.system.filesystems.differing import Differing
from vmsnap_nb.system.filesystems.journals import is_dirty
from vmsnap_nb.system.filesystems.messages import DAMAGED, MOST_DATA, encode, encode_entry
from vmsnap_nb.system.filesystems.node import Span
from vmsnap_nb.system.filesystems.region import Cache
from vmsnap_nb.system.filesystems.tree import Place, Tree
from vmsnap_nb.system.filesystems.volumes import Volume
from vmsnap_nb.system.qcow2.tables import NONE, ZERO
from vmsnap_nb.words.message import Message, joined, t

__all__ = ["answer"]

Say = Callable[[bytes], None]


def answer(request: dict[str, Any], disks: list[Disk], say: Say) -> None:
    """Answer one request."""
    trees = [Tree.of(Cache(disk), name) for disk, name in zip(disks, request["names"], strict=True)]
    for tree in trees[-1:]:
        for volume in tree.volumes:
            say(encode("volume", _described(volume, tree)))
    _DO[request["do"]](request, disks, trees, say)
    for tree, name in zip(trees, request["names"], strict=True):
        for note in _notes(tree):
            say(encode("note", t("{where}: {problem}", where=name, problem=note) if len(trees) > 1 else note))


def _described(volume: Volume, tree: Tree) -> str:
    folder = next((folder for folder, name in tree.mounts.items() if name == volume.name), None)
    parts: list[str] = [volume.content.kind or volume.problem or t("unknown content")]
    if volume.region is not None:
        parts.append(human_size(volume.region.size))
    if folder:
        parts.append(t("mounted on {folder}", folder=folder))
    return t("{where}: {problem}", where=volume.name, problem=joined(parts))


def _notes(tree: Tree) -> Iterator[str]:
    for volume in tree.volumes:
        if volume.name in tree.systems and volume.region is not None:
            yield from _of_journal(volume, tree)
        elif volume.problem:
            yield t("{volume} was not read: {why}", volume=volume.where, why=volume.problem)
        elif volume.content.kind not in {"", "swap"}:
            yield t("{volume} was not read: it contains {kind}", volume=volume.where, kind=volume.content.kind)
    yield from tree.problems


def _of_journal(volume: Volume, tree: Tree) -> Iterator[str]:
    """Say whether changes can be in a journal alone; what XFS has only in its log is not read, even after a sync."""
    assert volume.region is not None
    kind = volume.content.kind
    dirty = is_dirty(kind, volume.region)
    if kind != "XFS":
        if dirty:
            yield t(
                "the {kind} file system on {volume} was in use. The latest changes may be only in its journal, which "
                "was not read",
                kind=kind,
                volume=volume.where,
            )
        return
    if dirty is None:
        yield t(
            "cannot tell whether the log of the XFS file system on {volume} is empty. Changes that are only in the "
            "log were not read",
            volume=volume.where,
        )
    elif dirty:
        folder = next((folder for folder, name in tree.mounts.items() if name == volume.name), "FOLDER")
        yield t(
            "the XFS file system on {volume} was in use, and its log is not empty. Changes that are only in the log "
            "were not read, even after a sync. To include them, take a snapshot with quiesce=True, or run `fsfreeze "
            "-f {folder}; fsfreeze -u {folder}` in the guest",
            volume=volume.where,
            folder=folder,
        )


def _entry(place: Place) -> FileEntry:
    node, target = place.node, ""
    if node.kind == "link":
        try:
            target = place.files.target(node.number).decode(errors="surrogateescape")
        except (OSError, ValueError):
            target = ""
    return FileEntry(
        path=place.path,
        kind=node.kind,
        size=node.size,
        mtime_ns=node.mtime,
        ctime_ns=node.ctime,
        mode=node.mode,
        uid=node.uid,
        gid=node.gid,
        inode=node.number,
        links=node.links,
        target=target,
        volume=place.volume,
    )


# -- one state -----------------------------------------------------------------------------------------------


def _list(request: dict[str, Any], _disks: list[Disk], trees: list[Tree], say: Say) -> None:
    pattern, newer = request.get("pattern"), request.get("newer")
    wanted = [
        place
        for place in trees[0].walk(request["path"], recursive=request["recursive"])
        if (pattern is None or _matches(place.path, pattern)) and (newer is None or (place.node.mtime or 0) > newer)
    ]
    for place in sorted(wanted, key=lambda place: place.path):
        say(encode("file", encode_entry(_entry(place))))


def _matches(path: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(path if "/" in pattern else path.rpartition("/")[2], pattern)


def _file(tree: Tree, path: str, tried: Message) -> Place:
    place = tree.find(path)
    if place.node.kind != "file":
        raise InvalidRequestError(
            tried,
            why=t("it is not a regular file: its type is {kind}", kind=place.node.kind),
            next_step=t("the guest may not have written it to disk yet: run sync in the guest, then read it again")
            if place.node.kind == "other"
            else t("pass the path of a file; files() lists the content of a folder"),
        )
    return place


def _read(request: dict[str, Any], _disks: list[Disk], trees: list[Tree], say: Say) -> None:
    tried = t("read {path}", path=request["path"])
    place = _file(trees[0], request["path"], tried)
    size, most = place.node.size, request["most"]
    if most is not None and size > most:
        raise InvalidRequestError(
            tried,
            why=t(
                "its size is {size}, but at most {most} can be read into memory",
                size=human_size(size),
                most=human_size(most),
            ),
            next_step=t("copy the file instead: copy_out(path, to)"),
        )
    say(encode("file", encode_entry(_entry(place))))
    done = 0
    while done < size:
        data = place.files.read(place.node.number, done, min(MOST_DATA, size - done))
        if not data:
            raise ImageError(
                tried,
                why=t("its content ends after {done} of {size} bytes", done=done, size=size),
                next_step=t(DAMAGED),
            )
        say(encode("data", len(data)))
        say(data)
        done += len(data)


def _where(request: dict[str, Any], disks: list[Disk], trees: list[Tree], say: Say) -> None:
    place, disk = _file(trees[0], request["path"], t("find {path}", path=request["path"])), disks[0]
    region = next(volume.region for volume in trees[0].volumes if volume.name == place.volume)
    spans = place.files.spans(place.node.number)
    if spans is None:
        kind = "inode" if place.node.size < 64 << 10 else "unknown"
        say(encode("part", 0, place.node.size, None, kind, None))
        return
    assert region is not None
    done = 0
    for span in sorted(spans):
        if done < span.start:
            say(encode("part", done, span.start - done, None, "zero", None))
        if span.place is None:
            say(encode("part", span.start, span.length, None, "zero", None))
        else:
            _layers_of(disk, span, list(region.places(span.place, span.length)), say)
        done = span.start + span.length
    if done < place.node.size:
        say(encode("part", done, place.node.size - done, None, "zero", None))


def _layers_of(disk: Disk, span: Span, places: list[tuple[int, int]], say: Say) -> None:
    """Say which layers have a part of a file; neighbours in one layer are one part."""
    start = span.start
    last: tuple[int, int, int | None, str, int] | None = None
    for place, length in places:
        for layer, part in sorted(disk.parts(place, place + length), key=lambda seen: seen.part.start):
            kind = "zero" if layer is None or part.kind in {NONE, ZERO} else "data"
            row = (start + part.start - place, part.length, layer, kind, part.start)
            if last and last[2:4] == row[2:4] and last[4] + last[1] == row[4] and last[0] + last[1] == row[0]:
                last = (last[0], last[1] + row[1], *last[2:])
                continue
            if last:
                say(encode("part", *last))
            last = row
        start += length
    if last:
        say(encode("part", *last))


# -- two states ----------------------------------------------------------------------------------------------


def _diff(request: dict[str, Any], disks: list[Disk], trees: list[Tree], say: Say) -> None:
    differing = Differing(disks, trees, request["identities"])
    states = [{place.path: place for place in _all(tree, request["path"])} for tree in trees]
    if not any(states):
        trees[1].find(request["path"])
    entries = [{path: _entry(place) for path, place in places.items()} for places in states]
    found = compare(
        entries[0],
        entries[1],
        content_differs=lambda before, after: differing.content(states[0][before.path], states[1][after.path]),
        is_same_file=lambda before, after: differing.is_same_file(states[0][before.path], states[1][after.path]),
        unread={*trees[0].unread, *trees[1].unread},
    )
    for path, change, before, after in found:
        place = states[1][after.path] if after is not None else None
        layer = differing.layer(place)
        say(encode("change", path, change, encode_entry(before), encode_entry(after), layer))
    for note in differing.notes:
        say(encode("note", note))


def _all(tree: Tree, path: str) -> Iterator[Place]:
    """Yield what is below a path; of all that a disk has, also the file systems that nothing mounts."""
    if tree.mounts or path.strip("/"):
        try:
            yield from tree.walk(path)
        except LookupError:
            return  # it is not there in this state
    if not path.strip("/"):
        for name in tree.systems:
            if name not in tree.mounts.values():
                for place in tree.walk(f"{name}:/"):
                    yield place._replace(path=place.path)


_DO: dict[str, Callable[[dict[str, Any], list[Disk], list[Tree], Say], None]] = {
    "list": _list,
    "read": _read,
    "where": _where,
    "diff": _diff,
}
