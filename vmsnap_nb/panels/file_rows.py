"""Rows for files, and for what changed in them, and which of them a filter leaves."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterable
from datetime import UTC

from vmsnap_nb.model.files import FileChange, FileEntry
from vmsnap_nb.panels.row_list import Row
from vmsnap_nb.views.file_rows import change_mark, change_text
from vmsnap_nb.views.shown_text import human_size

__all__ = ["change_row", "entry_row", "filtered"]

_SIGNS = {"folder": "▸", "link": "↪"}


def entry_row(entry: FileEntry) -> Row:
    """Return the row of a file in its folder."""
    name = posixpath.basename(entry.path) or entry.path
    folder = entry.kind == "folder"
    return Row(
        key=entry.path,
        title=name + ("/" if folder else f" → {entry.target}" if entry.target else ""),
        sign=_SIGNS.get(entry.kind, "·"),
        cells=() if folder else ((human_size(entry.size), ""),),
        when=_moment(entry),
    )


def change_row(change: FileChange) -> Row:
    """Return the row of a file that two states do not have alike."""
    sign, meaning = change_mark(change.change)
    entry = change.after or change.before
    return Row(
        key=change.path,
        title=change.path + ("/" if change.kind == "folder" else ""),
        notes=(change.layer,) if change.layer else (),
        sign={"-": "−"}.get(sign, sign),
        meaning=meaning,
        cells=((text, ""),) if (text := change_text(change)) else (),
        when="" if entry is None else _moment(entry),
    )


def filtered(rows: Iterable[Row], words: str) -> list[Row]:
    """Return the rows whose path has the words in it, in any case, or matches them as a pattern."""
    wanted = words.strip().casefold()
    if not wanted:
        return list(rows)
    pattern = any(sign in wanted for sign in "*?[")

    def matches(row: Row) -> bool:
        path = row.key.casefold()
        if pattern:
            return fnmatch.fnmatchcase(path, wanted) or fnmatch.fnmatchcase(posixpath.basename(path), wanted)
        return wanted in path

    return [row for row in rows if matches(row)]


def _moment(entry: FileEntry) -> str:
    return "" if entry.mtime is None else entry.mtime.astimezone(UTC).isoformat()
