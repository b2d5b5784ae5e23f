"""Rows for files and for what changed in them: the folders above them, a sign, and what is said of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

from vmsnap_nb.model.files import Change, FileChange, FileChanges, FileEntry
from vmsnap_nb.views.labels import moment_text
from vmsnap_nb.views.shown_text import human_size, isolate, shown
from vmsnap_nb.words.message import N_, Message, counted, t

__all__ = ["MARKS", "Row", "change_mark", "change_text", "changes_heading", "row_of", "tree_rows"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

MARKS: dict[Change, tuple[str, str]] = {
    "added": ("+", N_("added")),
    "changed": ("~", N_("changed")),
    "removed": ("-", N_("removed")),
    "renamed": (">", N_("renamed")),
    "metadata": ("*", N_("metadata")),
}


class Row(NamedTuple, Generic[T_co]):
    """One row, before it has its place or with it."""

    name: str  # the whole path before
    is_folder: bool
    item: T_co | None  # None for a folder that is only there for what is in it
    said: str = ""
    depth: int = 0


def changes_heading(changes: FileChanges) -> Message:
    """Return which states are compared, and how many files differ."""
    return counted(
        "From {before} to {after}: {count} change",
        "From {before} to {after}: {count} changes",
        len(changes),
        before=moment_text(changes.before),
        after=moment_text(changes.after),
    )


def row_of(change: FileChange) -> Row[FileChange]:
    """Return the row of a change."""
    said = change_text(change)
    said = f"{said}  [{shown(change.layer)}]" if change.layer else said
    return Row(change.path, change.kind == "folder", change, said)


def tree_rows(rows: Iterable[Row[T]]) -> Iterator[Row[T]]:
    """Yield each row at its depth, and the folders above it that have none: sorted by path, so without recursion."""
    above: list[list[str]] = [[]]
    for row in rows:
        parts = _split(row.name)
        rooted = row.name.startswith("/")
        while above[-1] != parts[: len(above[-1])] or len(above[-1]) >= len(parts) > 0:
            above.pop()
        folder, known = parts[:-1], above[-1]
        if len(folder) > len(known):
            first = "/" if rooted and not known else ""
            name = first + "/".join(folder[len(known) :]) + "/"
            yield Row(isolate(shown(name)), True, None, depth=len(above) - 1)
            above.append(folder)
        name = (parts[-1] if parts else row.name) + ("/" if row.is_folder and parts else "")
        name = ("/" if len(parts) == 1 and rooted else "") + name
        yield row._replace(name=isolate(shown(name)), depth=len(above) - 1)
        if row.is_folder and parts:
            above.append(parts)


def _split(path: str) -> list[str]:
    volume, colon, rest = ("", "", path) if path.startswith("/") else path.partition(":")
    parts = [part for part in rest.split("/") if part]
    return [f"{volume}{colon}", *parts] if colon else parts


def change_mark(change: Change) -> tuple[str, Message]:
    """Return the sign of a change, and what it means."""
    mark, name = MARKS[change]
    return mark, t(name)


def change_text(change: FileChange) -> str:
    """Return what is said of a change beside its path: sizes, rights, or the former path."""
    before, after = change.before, change.after
    said = _DIFFERENCES[change.change](before, after) if before and after else ""
    entry = after or before
    if not said and entry is not None and entry.kind == "file":
        said = human_size(entry.size)
    return said


def _sizes(before: FileEntry, after: FileEntry) -> str:
    if before.kind != after.kind:
        return f"{before.kind} → {after.kind}"
    if before.target != after.target:
        return f"{shown(before.target)} → {shown(after.target)}"
    return (
        human_size(after.size) if before.size == after.size else f"{human_size(before.size)} → {human_size(after.size)}"
    )


def _metadata(before: FileEntry, after: FileEntry) -> str:
    pairs = ((before.permissions, after.permissions), (before.owner, after.owner))
    found = [f"{one} → {other}" for one, other in pairs if one != other]
    if not found and before.mtime_ns != after.mtime_ns and before.mtime and after.mtime:
        found.append(f"{before.mtime:%Y-%m-%d %H:%M:%S} → {after.mtime:%Y-%m-%d %H:%M:%S}")
    return ", ".join(found)


_DIFFERENCES: dict[Change, Callable[[FileEntry, FileEntry], str]] = {
    "added": lambda _, after: human_size(after.size),
    "removed": lambda before, _: human_size(before.size),
    "changed": _sizes,
    "renamed": lambda before, _: t("before {path}", path=shown(before.path)),
    "metadata": _metadata,
}
