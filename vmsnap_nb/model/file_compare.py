"""What changed between two states of a tree of files, from what the file systems say of each file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from vmsnap_nb.model.files import Change, FileEntry

__all__ = ["Difference", "compare"]

_RANK: tuple[Change, ...] = ("added", "changed", "removed", "renamed", "metadata")


class Difference(NamedTuple):
    """One file that is not the same in both states."""

    path: str
    change: Change
    before: FileEntry | None
    after: FileEntry | None


def compare(
    before: Mapping[str, FileEntry],
    after: Mapping[str, FileEntry],
    *,
    content_differs: Callable[[FileEntry, FileEntry], bool],
    is_same_file: Callable[[FileEntry, FileEntry], bool],
    unread: Iterable[str] = (),
) -> Iterator[Difference]:
    """Yield what differs, sorted by path.

    `content_differs` is asked of two files of one path and size; `is_same_file` whether one that is gone and one that
    is new are one, under another name. What is in folders that could not be read in one of the states is left out.
    """
    folders = tuple(path.rstrip("/") + "/" for path in unread)
    removed = {path: entry for path, entry in before.items() if path not in after and not path.startswith(folders)}
    added = {path: entry for path, entry in after.items() if path not in before and not path.startswith(folders)}
    renamed = dict(_renamed(removed, added, is_same_file))
    found: list[Difference] = []
    for path, entry in after.items():
        if path in before and not path.startswith(folders):
            if change := _change(before[path], entry, content_differs):
                found.append(Difference(path, change, before[path], entry))
        elif path in renamed:
            found += _of_renamed(path, entry, renamed, content_differs)
        elif path in added:
            found.append(Difference(path, "added", None, entry))
    former = {entry.path for entry in renamed.values()}
    found += [Difference(path, "removed", entry, None) for path, entry in removed.items() if path not in former]
    yield from sorted(found, key=lambda difference: (difference.path, _RANK.index(difference.change)))


def _renamed(
    removed: Mapping[str, FileEntry], added: Mapping[str, FileEntry], is_same: Callable[[FileEntry, FileEntry], bool]
) -> Iterator[tuple[str, FileEntry]]:
    """Yield new paths of files that were there under another one."""
    gone = {(entry.volume, entry.inode): entry for entry in removed.values()}
    for path, entry in sorted(added.items()):
        former = gone.get((entry.volume, entry.inode))
        if former is not None and former.kind == entry.kind and is_same(former, entry):
            del gone[entry.volume, entry.inode]
            yield path, former


def _of_renamed(
    path: str,
    entry: FileEntry,
    renamed: Mapping[str, FileEntry],
    content_differs: Callable[[FileEntry, FileEntry], bool],
) -> Iterator[Difference]:
    """Yield a renamed file; of one that only moved along with its folder, what changed beside that."""
    former = renamed[path]
    folder = renamed.get(path.rpartition("/")[0])
    if folder is None or f"{folder.path}/{entry.name}" != former.path:
        yield Difference(path, "renamed", former, entry)
    elif change := _change(former, entry, content_differs):
        yield Difference(path, change, former, entry)


def _change(
    before: FileEntry, after: FileEntry, content_differs: Callable[[FileEntry, FileEntry], bool]
) -> Change | None:
    if before.kind != after.kind or before.target != after.target:
        return "changed"
    rights = (before.mode, before.uid, before.gid) != (after.mode, after.uid, after.gid)
    if after.kind == "folder":  # its times change with each file in it, which has a row of its own
        return "metadata" if rights else None
    if after.kind == "file" and (before.size != after.size or content_differs(before, after)):
        return "changed"
    times = (before.mtime_ns, before.ctime_ns) != (after.mtime_ns, after.ctime_ns)
    return "metadata" if rights or times else None
