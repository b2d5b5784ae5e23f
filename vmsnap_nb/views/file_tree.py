"""Files, and what changed in them, as a tree of text, and as what a notebook shows of it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from functools import singledispatch
from html import escape
from typing import Any

from vmsnap_nb.model.files import (
    FileChange,
    FileChanges,
    FileEntry,
    FileParts,
    FileRead,
    Files,
    LostFile,
    LostFiles,
)
from vmsnap_nb.views.changes_svg import changes_svg
from vmsnap_nb.views.disk_layers import fold_text, layer_rows
from vmsnap_nb.views.file_rows import MARKS, Row, changes_heading, row_of, tree_rows
from vmsnap_nb.views.html import UNWRAPPED, picture_html, picture_style, table_html
from vmsnap_nb.views.labels import moment_text
from vmsnap_nb.views.shown_text import clip, human_size, isolate, shown, sizes_text, width, wrap
from vmsnap_nb.views.svg import scope_of
from vmsnap_nb.views.tables import table_of
from vmsnap_nb.words.message import Message, counted, listed, t

__all__ = ["file_bundle", "file_text", "lost_heading"]

_MOST_LINES = 200
_MOST_INDENT = 40
_NAME = 40
"""Columns up to which what is said of files is set in line."""


def file_text(thing: FileRead) -> str:
    """Return files as a tree, with what is to be noted below it; no line ends in white space."""
    heading, lines, count = _parts_of(thing)
    kept = list(lines)[:_MOST_LINES]
    rest = count - _MOST_LINES
    if rest > 0:
        kept.append(
            counted("… {count} more row; to_frame() lists all", "… {count} more rows; to_frame() lists all", rest)
        )
    notes = [line for note in thing.notes for line in wrap(shown(note), 100, "* ", "  ")]
    layers = list(_layer_lines(thing)) if isinstance(thing, FileChanges) else []
    blocks = [block for block in ([heading, *kept], layers, notes) if block]
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks)


def file_bundle(
    thing: FileRead, include: Container[str] | None = None, exclude: Container[str] | None = None
) -> dict[str, str]:
    """Return what a notebook shows: the tree, the table below it, and the notes."""
    text, table = file_text(thing), table_of(thing)
    heading, _, tree = text.partition("\n")
    parts, bundle = ['<div class="vmsnap">'], {"text/plain": text}
    if isinstance(thing, FileChanges) and thing.changes:
        svg, narrow = changes_svg(thing), changes_svg(thing, narrow=True)
        scope = scope_of(svg)
        parts = [f'<div class="vmsnap {scope}"><style>{picture_style(scope, svg, narrow)}</style>']
        parts.append(picture_html(svg, narrow))
        bundle["image/svg+xml"] = svg
    parts.append(f'<pre class="vmsnap-text" aria-label="{escape(heading)}"{UNWRAPPED}>{escape(text)}</pre>')
    if tree and table.rows:
        html = table_html(table, t("Files"), left_out=frozenset())
        summary = t("{caption} ({count})", caption=t("Table"), count=len(table.rows))
        parts.append(f"<details><summary>{escape(summary)}</summary>\n{html}\n</details>")
    bundle["text/html"] = "\n".join([*parts, "</div>"])
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
    rows = (Row(entry.path, entry.kind == "folder", entry, _of_entry(entry)) for entry in files)
    heading = counted("{count} file on {disk}", "{count} files on {disk}", len(files), disk=shown(files.disk))
    return heading, _tree(rows), len(files)


@_parts_of.register
def _(changes: FileChanges) -> tuple[str, Iterable[str], int]:
    there = {change.change for change in changes}
    legend = "  ".join(f"{mark} {t(name)}" for change, (mark, name) in MARKS.items() if change in there)
    heading = changes_heading(changes)
    return f"{heading}  ({legend})" if legend else heading, _tree(map(row_of, changes)), len(changes)


def _layer_lines(changes: FileChanges) -> Iterator[str]:
    """Yield a line for each layer that the two states are read from; a sign is before those with what changed."""
    rows = list(reversed(layer_rows(changes)))
    if rows:
        yield t("Layers, base first")
    names = [fold_text(row) if row.folded else isolate(clip(shown(row.layers[0].name))) for row in rows]
    most = max(map(width, names), default=0)
    for row, name in zip(rows, names, strict=True):
        size = "" if row.folded else sizes_text(row.layers[0].virtual_size, row.layers[0].allocated)
        count = counted("{count} change", "{count} changes", row.changes) if row.changes else ""
        said = "  ".join(filter(None, (size, *row.moments, count)))
        yield f"{'>' if row.marked else ' '} {name}{' ' * (most - width(name) + 2)}{said}"


@_parts_of.register
def _(lost: LostFiles) -> tuple[str, Iterable[str], int]:
    several = len(lost.states) > 1
    files = sorted(lost, key=lambda one: one.path)
    rows = (Row(one.path, False, one, _of_lost(one, several=several)) for one in files)
    return lost_heading(lost), _tree(rows), len(files)


def lost_heading(lost: LostFiles) -> Message:
    """Return how many files of which state can no longer be restored."""
    if not lost.states:
        return t("No state of a disk becomes unreadable")
    states = listed(map(moment_text, lost.states))
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
    return f"{said}  [{moment_text(lost.state)}]" if several else said


@_parts_of.register
def _(parts: FileParts) -> tuple[str, Iterable[str], int]:
    lines = (
        f"  {human_size(part.start):>10} + {human_size(part.length):>10}  {part.kind:7}  {isolate(shown(part.image))}"
        for part in parts
    )
    return t("{file} on {disk}", file=shown(parts.path), disk=shown(parts.disk)), lines, len(parts)


def _tree(rows: Iterable[Row[Any]]) -> Iterator[str]:
    for row in tree_rows(rows):
        mark = "- " if isinstance(row.item, LostFile) else ""
        mark = f"{MARKS[row.item.change][0]} " if isinstance(row.item, FileChange) else mark
        text = " " * min(2 * row.depth, _MOST_INDENT) + mark + row.name
        yield f"{text}{' ' * max(1, _NAME - width(text))} {row.said}" if row.said else text


def _of_entry(entry: FileEntry) -> str:
    moment = f"{entry.mtime:%Y-%m-%d %H:%M:%S}" if entry.mtime else ""
    size = "" if entry.kind == "folder" else human_size(entry.size)
    target = f" → {shown(entry.target)}" if entry.kind == "link" else ""
    return f"{size:>10}  {entry.permissions or '':10}  {moment}{target}".rstrip()
