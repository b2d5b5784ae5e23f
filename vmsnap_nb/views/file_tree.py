"""Files, and what changed in them, as a tree of text, and as what a notebook shows of it."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from functools import singledispatch
from html import escape

from vmsnap_nb.model.files import (
    Change,
    FileChange,
    FileChanges,
    FileEntry,
    FileParts,
    FileRead,
    Files,
    LostFile,
    LostFiles,
)
from vmsnap_nb.views.html import table_html
from vmsnap_nb.views.tables import table_of
from vmsnap_nb.views.words import human_size, isolate, shown, width, wrap
from vmsnap_nb.words.message import N_, Message, counted, joined, t

__all__ = ["change_mark", "change_text", "file_bundle", "file_text", "lost_heading"]

_MOST_LINES = 200
_MOST_INDENT = 40
_NAME = 40
"""Columns up to which what is said of files is set in line."""
_MARKS: dict[Change, tuple[str, str]] = {
    "added": ("+", N_("added")),
    "changed": ("~", N_("changed")),
    "removed": ("-", N_("removed")),
    "renamed": (">", N_("renamed")),
    "metadata": ("*", N_("metadata")),
}


def file_text(thing: FileRead) -> str:
    """Return files as a tree, with what is to be noted below it; no line ends in white space."""
    heading, lines, count = _parts_of(thing)
    kept = list(lines)[:_MOST_LINES]
    rest = count - _MOST_LINES
    if rest > 0:
        kept.append(counted("… {count} more row; to_frame() has all", "… {count} more rows; to_frame() has all", rest))
    notes = [line for note in thing.notes for line in wrap(shown(note), 100, "* ", "  ")]
    blocks = [[heading, *kept], notes] if notes else [[heading, *kept]]
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks)


def file_bundle(
    thing: FileRead, include: Container[str] | None = None, exclude: Container[str] | None = None
) -> dict[str, str]:
    """Return what a notebook shows: the tree, the table below it, and the notes."""
    text, table = file_text(thing), table_of(thing)
    heading, _, tree = text.partition("\n")
    parts = [f'<div class="vmsnap"><pre class="vmsnap-text" aria-label="{escape(heading)}">{escape(text)}</pre>']
    if tree and table.rows:
        html = table_html(table, t("Files"), left_out=frozenset())
        summary = t("{caption} ({count})", caption=t("Table"), count=len(table.rows))
        parts.append(f"<details><summary>{escape(summary)}</summary>\n{html}\n</details>")
    bundle = {"text/plain": text, "text/html": "\n".join([*parts, "</div>"])}
    return {
        kind: value
        for kind, value in bundle.items()
        if (not include or kind in include) and (not exclude or kind not in exclude)
    }


@singledispatch
def _parts_of(thing: FileRead) -> tuple[str, Iterable[str], int]:
    """Return the heading, the lines, and how many rows there are."""
    raise NotImplementedError(f"no tree is known for a {type(thing).__name__}")


@_parts_of.register
def _(files: Files) -> tuple[str, Iterable[str], int]:
    rows = ((entry.path, entry.kind == "folder", "", _of_entry(entry)) for entry in files)
    heading = counted("{count} file on {disk}", "{count} files on {disk}", len(files), disk=shown(files.disk))
    return heading, _tree(rows), len(files)


@_parts_of.register
def _(changes: FileChanges) -> tuple[str, Iterable[str], int]:
    rows = ((one.path, one.kind == "folder", _MARKS[one.change][0] + " ", _with_layer(one)) for one in changes)
    there = {change.change for change in changes}
    legend = "  ".join(f"{mark} {t(name)}" for change, (mark, name) in _MARKS.items() if change in there)
    heading = counted(
        "From {before} to {after}: {count} change",
        "From {before} to {after}: {count} changes",
        len(changes),
        before=shown(changes.before),
        after=shown(changes.after),
    )
    return f"{heading}  ({legend})" if legend else heading, _tree(rows), len(changes)


@_parts_of.register
def _(lost: LostFiles) -> tuple[str, Iterable[str], int]:
    several = len(lost.states) > 1
    files = sorted(lost, key=lambda one: one.path)
    rows = ((one.path, False, "- ", _of_lost(one, several=several)) for one in files)
    return lost_heading(lost), _tree(rows), len(files)


def lost_heading(lost: LostFiles) -> Message:
    """Return how many files of which state can no longer be restored."""
    if not lost.states:
        return t("No state of a disk becomes unreadable")
    states = joined(map(shown, lost.states))
    if not lost.files:
        return t("All files of {states} can still be restored", states=states)
    return counted(
        "{count} file of {states} can no longer be restored",
        "{count} files of {states} can no longer be restored",
        len(lost),
        states=states,
    )


def _of_lost(lost: LostFile, *, several: bool) -> str:
    said = _of_entry(lost.entry)
    return f"{said}  [{shown(lost.state)}]" if several else said


@_parts_of.register
def _(parts: FileParts) -> tuple[str, Iterable[str], int]:
    lines = (
        f"  {human_size(part.start):>10} + {human_size(part.length):>10}  {part.kind:7}  {isolate(shown(part.image))}"
        for part in parts
    )
    return t("{file} on {disk}", file=shown(parts.path), disk=shown(parts.disk)), lines, len(parts)


def _tree(rows: Iterable[tuple[str, bool, str, str]]) -> Iterator[str]:
    """Yield a line for each row, and for the folders above it that have none: sorted by path, so without recursion."""
    above: list[list[str]] = [[]]
    for path, is_folder, mark, said in rows:
        parts = _split(path)
        while above[-1] != parts[: len(above[-1])] or len(above[-1]) >= len(parts) > 0:
            above.pop()
        folder, known = parts[:-1], above[-1]
        if len(folder) > len(known):
            first = "" if known else "/" if path.startswith("/") else ""
            yield _line(len(above) - 1, "", first + "/".join(folder[len(known) :]) + "/", "")
            above.append(folder)
        name = (parts[-1] if parts else path) + ("/" if is_folder and parts else "")
        yield _line(len(above) - 1, mark, ("/" if len(parts) == 1 and path.startswith("/") else "") + name, said)
        if is_folder and parts:
            above.append(parts)


def _split(path: str) -> list[str]:
    volume, colon, rest = ("", "", path) if path.startswith("/") else path.partition(":")
    parts = [part for part in rest.split("/") if part]
    return [f"{volume}{colon}", *parts] if colon else parts


def _line(depth: int, mark: str, name: str, said: str) -> str:
    text = " " * min(2 * depth, _MOST_INDENT) + mark + isolate(shown(name))
    return f"{text}{' ' * max(1, _NAME - width(text))} {said}" if said else text


def _of_entry(entry: FileEntry) -> str:
    moment = f"{entry.mtime:%Y-%m-%d %H:%M:%S}" if entry.mtime else ""
    size = "" if entry.kind == "folder" else human_size(entry.size)
    target = f" -> {shown(entry.target)}" if entry.kind == "link" else ""
    return f"{size:>10}  {entry.permissions or '':10}  {moment}{target}".rstrip()


def change_mark(change: Change) -> tuple[str, Message]:
    """Return the sign of a change, and what it means."""
    mark, name = _MARKS[change]
    return mark, t(name)


def change_text(change: FileChange) -> str:
    """Return what is said of a change beside its path: sizes, rights, or the former path."""
    before, after = change.before, change.after
    said = _DIFFERENCES[change.change](before, after) if before and after else ""
    entry = after or before
    if not said and entry is not None and entry.kind == "file":
        said = human_size(entry.size)
    return said


def _with_layer(change: FileChange) -> str:
    said = change_text(change)
    return f"{said}  [{shown(change.layer)}]" if change.layer else said


def _sizes(before: FileEntry, after: FileEntry) -> str:
    if before.kind != after.kind:
        return f"{before.kind} -> {after.kind}"
    if before.target != after.target:
        return f"{shown(before.target)} -> {shown(after.target)}"
    return (
        human_size(after.size)
        if before.size == after.size
        else f"{human_size(before.size)} -> {human_size(after.size)}"
    )


def _metadata(before: FileEntry, after: FileEntry) -> str:
    pairs = ((before.permissions, after.permissions), (before.owner, after.owner))
    found = [f"{one} -> {other}" for one, other in pairs if one != other]
    if not found and before.mtime_ns != after.mtime_ns and before.mtime and after.mtime:
        found.append(f"{before.mtime:%Y-%m-%d %H:%M:%S} -> {after.mtime:%Y-%m-%d %H:%M:%S}")
    return ", ".join(found)


_DIFFERENCES: dict[Change, Callable[[FileEntry, FileEntry], str]] = {
    "added": lambda _, after: human_size(after.size),
    "removed": lambda before, _: human_size(before.size),
    "changed": _sizes,
    "renamed": lambda before, _: t("before {path}", path=shown(before.path)),
    "metadata": _metadata,
}
