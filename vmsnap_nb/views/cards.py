"""Cards: what a notebook shows of a single thing, as facts by name, tables below them, and text that it wrote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from functools import singledispatch
from html import escape

from vmsnap_nb.model.completed import Completed
from vmsnap_nb.model.image import Bitmap, Image, found_beyond
from vmsnap_nb.model.snapshot import Snapshot
from vmsnap_nb.plans.concern import Concern, Concerns
from vmsnap_nb.views.html import scrolling, table_html
from vmsnap_nb.views.labels import kind_text, state_text
from vmsnap_nb.views.shown_text import human_size, isolate, shown
from vmsnap_nb.views.tables import Column, Table
from vmsnap_nb.words.message import N_, Message, counted, joined, t
from vmsnap_nb.words.states import state_words

__all__ = ["DOCS", "Card", "card_html", "card_of"]

DOCS = ""
"""Where the documentation is published, with a slash at its end; empty as long as it has no address."""
_MOST_LINES = 200
_LEFT = ' style="text-align: left"'  # JupyterLab sets all cells to the right
_NAME = ' style="text-align: left; white-space: nowrap"'
_LOCKED = {"read": N_("for reading"), "write": N_("for writing")}
_CONCERNS = (Column("concern"), Column("level"), Column("what"), Column("remedy"))


@dataclass(frozen=True)
class Card:
    """What is shown."""

    title: str
    facts: tuple[tuple[str, str], ...] = ()  # names and values; empty values are left out
    tables: tuple[tuple[str, Table], ...] = ()  # each after its caption
    texts: tuple[tuple[str, str], ...] = ()  # captions, and texts of many lines
    pages: tuple[str, ...] = ()  # places in the documentation, relative to its first page


def card_html(card: Card) -> str:
    """Return a card as HTML: one ``<div>``."""
    parts = ['<div class="vmsnap">', f"<p><strong>{_safe(card.title)}</strong></p>"]
    if rows := [_fact(name, value) for name, value in card.facts if value]:
        parts += ["<table><tbody>", *rows, "</tbody></table>"]
    parts += [scrolling(table_html(table, caption), caption) for caption, table in card.tables if table.rows]
    for caption, text in card.texts:
        parts.append(f'<pre aria-label="{_safe(caption)}">{_lines(text)}</pre>')
    if card.pages:
        name, value = _safe(t("Documentation")), joined(map(_page, card.pages))
        said = t("{name}: {value}", name=name, value=value)
        parts.append(f"<p>{said}</p>")
    parts.append("</div>")
    return "\n".join(parts)


def _page(place: str) -> str:
    return f'<a href="{escape(DOCS + place)}">{_safe(place)}</a>' if DOCS else _safe(place)


def _safe(text: str) -> str:
    return escape(isolate(shown(text)))


def _fact(name: str, value: str) -> str:
    lines = "<br>".join(_safe(line) for line in value.split("\n"))
    return f'<tr><th scope="row"{_NAME}>{_safe(name)}</th><td{_LEFT}>{lines}</td></tr>'


def _lines(text: str) -> str:
    lines = text.removesuffix("\n").split("\n")
    if (hidden := len(lines) - _MOST_LINES) > 0:
        lines = [counted("… {count} earlier line", "… {count} earlier lines", hidden), *lines[hidden:]]
    return "\n".join(escape(shown(line.replace("\t", "        "))) for line in lines)


@singledispatch
def card_of(thing: object) -> Card:
    """Return the card of a thing; where its kind has none of its own, that of a dataclass names its fields."""
    named = [field for field in fields(thing) if field.repr] if is_dataclass(thing) else []
    facts = tuple((field.name.replace("_", " "), _value(getattr(thing, field.name))) for field in named)
    return Card(type(thing).__name__, facts)


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return "\n".join(map(_value, value))
    if isinstance(value, bool):
        return t("yes") if value else t("no")
    return "" if value is None else str(value)


@card_of.register
def _(image: Image) -> Card:
    backing, data_file, state = image.backing, image.data_file, state_words(image.status)
    facts = (
        (t("path"), image.path),
        (
            t("status"),
            t("{status}: {problem}", status=state, problem=image.problem) if found_beyond(image) else state,
        ),
        (
            t("format"),
            _joined([image.format, image.compat and t("version {number}", number=image.compat), image.encryption]),
        ),
        (t("virtual size"), _size(image.virtual_size)),
        (t("allocated"), _size(image.allocated)),
        (t("backing file"), "" if backing is None else backing.written),
        (t("backing format"), "" if backing is None else backing.format or t("not recorded")),
        (t("data file"), "" if data_file is None else data_file.written),
        (t("internal snapshots"), joined(snapshot.name for snapshot in image.snapshots)),
        (t("dirty bitmaps"), joined(map(_bitmap, image.bitmaps))),
        (t("writable"), t("yes") if image.writable else t("no: it is write-protected")),
        (t("locked"), t(_LOCKED[image.held]) if image.held else ""),
    )
    return Card(t("Image {name}", name=image.name), facts)


def _bitmap(bitmap: Bitmap) -> Message:
    state = t("recording") if bitmap.recording else t("disabled")
    return t(
        "{name} ({state}, one bit for {size})",
        name=bitmap.name,
        state=state if bitmap.consistent else t("not saved by QEMU"),
        size=human_size(bitmap.granularity),
    )


def _size(size: int | None) -> str:
    return "" if size is None else human_size(size)


def _joined(words: Iterable[str | None]) -> Message:
    return joined(word for word in words if word)


@card_of.register
def _(snapshot: Snapshot) -> Card:
    record = snapshot.record
    facts = (
        (t("kind"), kind_text(snapshot.kind)),
        (t("guest's state"), state_text(record.state)),
        (t("created"), "" if record.created is None else f"{record.created:%Y-%m-%d %H:%M:%S} UTC"),
        (t("parent"), record.parent or ""),
        (t("current"), t("yes") if record.current else ""),
        (t("disks"), joined(f"{disk.target} ({disk.held})" for disk in record.held_disks)),
        (t("files"), joined(record.files)),
        (t("memory file"), record.memory_file or ""),
        (t("description"), record.description),
        (t("status"), _joined([snapshot.status, snapshot.problem])),
    )
    return Card(t("Snapshot {name} of {guest}", name=snapshot.name, guest=record.guest), facts)


@card_of.register
def _(concern: Concern) -> Card:
    waivable = t("yes") if concern.waivable else ""
    facts = ((t("what"), concern.what), (t("remedy"), concern.remedy), (t("waivable"), waivable))
    return Card(f"{concern.level}: {concern.name}", facts, pages=(concern.docs,))


@card_of.register
def _(concerns: Concerns) -> Card:
    rows = tuple((concern.name, concern.level, concern.what, concern.remedy or None) for concern in concerns)
    title = counted("{count} concern", "{count} concerns", len(rows)) if rows else t("No concerns")
    pages = tuple(dict.fromkeys(concern.docs for concern in concerns))
    return Card(title, tables=((t("Concerns"), Table(_CONCERNS, rows)),), pages=pages)


@card_of.register
def _(completed: Completed) -> Card:
    texts = tuple(
        (caption, text)
        for caption, text in ((t("standard output"), completed.stdout), (t("standard error"), completed.stderr))
        if text
    )
    return Card(t("exit status {status}", status=completed.exit_status), texts=texts)
