"""Tables that stand alone, without a figure: for terminals as lines of text, for notebooks as HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from datetime import datetime
from functools import singledispatch

from vmsnap_nb.model.by_host import TablesByHost
from vmsnap_nb.model.guest import Domains
from vmsnap_nb.model.leftovers import Leftovers
from vmsnap_nb.model.shown import Tabled
from vmsnap_nb.model.space import Space
from vmsnap_nb.plans.findings import Findings
from vmsnap_nb.views.html import lines_html, scrolling, table_html
from vmsnap_nb.views.labels import head_text, term_text
from vmsnap_nb.views.shown_text import clip, human_size, isolate, shown, width
from vmsnap_nb.views.tables import Cell, Column, Table, table_of
from vmsnap_nb.words.message import counted, joined, lines, t

__all__ = ["caption_of", "listing_bundle", "listing_text", "table_text"]

_WIDEST = 60
"""Columns that a cell of a text may take; what is longer has lines of its own below the row."""
_MOST_FOLDERS = 4
_RIGHT = {"bytes", "count", "seconds"}


def listing_bundle(
    thing: Tabled, include: Container[str] | None = None, exclude: Container[str] | None = None
) -> dict[str, str]:
    """Return what a notebook may show of a table, by MIME type."""
    table = table_of(thing)
    caption = caption_of(thing)
    html = f"<p>{lines_html(caption)}</p>"
    if table.rows:
        html = scrolling(table_html(table, caption), caption)
    bundle = {"text/html": f'<div class="vmsnap">\n{html}\n</div>', "text/plain": listing_text(thing)}
    return {
        kind: value
        for kind, value in bundle.items()
        if (not include or kind in include) and (not exclude or kind not in exclude)
    }


@singledispatch
def caption_of(thing: Tabled) -> str:
    """Return the caption of a table; a new kind registers itself."""
    return repr(thing)[1:-1]


@caption_of.register(TablesByHost)
def _(found: TablesByHost[Tabled]) -> str:
    answers = (t("{host}: {note}", host=host, note=caption_of(part)) for host, part in found.items())
    missing = (
        t("{host} did not respond: {why}", host=host, why=error.reason) for host, error in found.problems.items()
    )
    return lines((*answers, *missing))


@caption_of.register
def _(findings: Findings) -> str:
    if not findings:
        return t("No problems found in what could be checked")
    number = Counter(one.severity for one in findings)
    parts = [
        counted("{count} error", "{count} errors", number["error"]),
        counted("{count} warning", "{count} warnings", number["warning"]),
        counted("{count} note", "{count} notes", number["note"]),
    ]
    return counted("{count} finding: {parts}", "{count} findings: {parts}", len(findings), parts=joined(parts))


@caption_of.register
def _(domains: Domains) -> str:
    return counted("{count} guest", "{count} guests", len(domains))


@caption_of.register
def _(leftovers: Leftovers) -> str:
    if leftovers:
        return counted(
            "{count} unneeded file, as far as was checked: {size}",
            "{count} unneeded files, as far as was checked: {size}",
            len(leftovers),
            size=human_size(sum(one.allocated or 0 for one in leftovers)),
        )
    if leftovers.folders:
        found = t("No unneeded files were found in {folders}", folders=joined(leftovers.folders, most=_MOST_FOLDERS))
    else:
        found = t("No folder was searched for unneeded files. Pass folders, or define and start a storage pool")
    if not leftovers.unseen:
        return found
    return counted(
        "{found}. {count} image or folder could not be read",
        "{found}. {count} images or folders could not be read",
        len(leftovers.unseen),
        found=found,
    )


@caption_of.register
def _(space: Space) -> str:
    parts = [t("{size} allocated", size=human_size(space.total("allocated")))]
    if hidden := space.total("hidden"):
        parts.append(t("{size} hidden", size=human_size(hidden)))
    if internal := space.total("internal"):
        parts.append(t("{size} in internal snapshots", size=human_size(internal)))
    if memory := space.total("memory_files"):
        parts.append(t("{size} in memory files", size=human_size(memory)))
    return counted(
        "Space of {count} image: {parts}", "Space of {count} images: {parts}", len(space), parts=joined(parts)
    )


def listing_text(thing: Tabled) -> str:
    """Return a table as lines of text: a path by its last part, and long texts below their row."""
    table = table_of(thing)
    return table_text(table) if table.rows else caption_of(thing)


def table_text(table: Table, most: int | None = None) -> str:
    """Return any table so; if `most` is given, no more columns of text stand side by side than fit into it."""
    rows = [[_cell(column, value) for column, value in zip(table.columns, row, strict=True)] for row in table.rows]
    places = [
        number
        for number in range(len(table.columns))
        if all(width(row[number]) <= _WIDEST for row in rows) and any(row[number] for row in rows)
    ]
    wide = {n: max(width(head_text(table.columns[n].name)), *(width(row[n]) for row in rows)) for n in places}
    while most is not None and len(places) > 1 and sum(wide[n] + 2 for n in places) - 2 > most:
        places.remove(max(places[1:], key=wide.__getitem__))
    heads = [head_text(table.columns[number].name) for number in places]
    widths = [wide[number] for number in places]

    def line(cells: list[str]) -> str:
        padded = []
        for cell, number, room in zip(cells, places, widths, strict=True):
            space = " " * (room - width(cell))
            padded.append(space + cell if table.columns[number].kind in _RIGHT else cell + space)
        return "  ".join(padded).rstrip()

    lines = [line(heads)]
    for row in rows:
        lines.append(line([row[number] for number in places]))
        long = (
            "    " + t("{name}: {value}", name=head_text(column.name), value=row[number])
            for number, column in enumerate(table.columns)
            if number not in places and row[number]
        )
        lines += long
    return "\n".join(lines)


def _cell(column: Column, value: Cell) -> str:
    if value is None:
        return ""
    if column.kind == "path":
        return isolate(clip(shown(str(value).rstrip("/").rpartition("/")[2])))
    if column.kind == "bytes" and isinstance(value, int):
        return human_size(value)
    if column.kind == "yes or no":
        return t("yes") if value else ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M} UTC"
    return isolate(shown(term_text(column.kind, str(value))))
