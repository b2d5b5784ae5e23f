"""Figure and table as HTML, for notebooks and for what they are converted to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from html import escape

from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.model.guest import Disks
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.model.snapshot import SnapshotList, SnapshotLists
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.report import Report
from vmsnap_nb.views.figure import Figure
from vmsnap_nb.views.labels import head_text, term_text
from vmsnap_nb.views.shown_text import LONG_COMMAND, human_size, isolate, natural, shown, width
from vmsnap_nb.views.states import has_change, switch, switch_style
from vmsnap_nb.views.svg import least_width, narrow_style, scope_of
from vmsnap_nb.views.tables import Cell, Column, Table
from vmsnap_nb.words.message import counted, t

__all__ = [
    "UNWRAPPED",
    "details",
    "idle_columns",
    "lines_html",
    "page",
    "picture_html",
    "picture_style",
    "scrolling",
    "table_html",
]

UNWRAPPED = ' tabindex="0" style="white-space: pre; overflow-x: auto"'
"""Attributes of text whose columns lie below each other: JupyterLab would wrap its lines."""
_MOST_ROWS = 60
_LONG_WORD, _LONG_TEXT = 20, 30
"""Columns of text. Longer words, paths above all, may be broken anywhere, so that a table fits into a narrow cell; and
a longer text gets some room. A shorter name stays on its line: browsers would break it after each hyphen."""
_PATHS = frozenset({"backing", "files", "memory_file"})  # columns of text that may have a path
_WHOLE = frozenset({"bytes", "count", "seconds", "time"})
"""Kinds of columns whose cells are never broken: a number stays with its unit."""
_HEARD = "; position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%)"
"""The style of a caption that only a screen reader tells: the summary above the table says the same."""
_LEFT, _RIGHT = ' style="text-align: left"', ' style="text-align: right"'  # JupyterLab sets all cells to the right
_LEFT_OUT = frozenset({"path", "backing_path"})  # the row's tooltip has the path; `to_frame` has all

# The text figure is hidden only by a style sheet, and the picture shown only by one: a viewer that strips styles
# (GitHub, a notebook that JupyterLab does not trust) strips SVG as well, and shows the text figure instead. The picture
# has no attribute `hidden`: marimo's style sheet lets nothing show what has that. A picture that is wider than its
# column starts scrolled to its right end, where the active images are. In a narrow column the command of a step is
# below what it does.
_STYLE = """
.{0} .vmsnap-text {{ display: none; }}
.{0} .vmsnap-picture {{ display: block !important; }}
.{0} .vmsnap-scroll {{ overflow-x: auto; direction: rtl; }}
.{0} .vmsnap-refused {{
  margin: 4px 0 10px; padding: 8px 14px; border-left: 4px solid #d9363e; border-radius: 4px;
  background: rgba(217, 54, 62, .12);
}}
.{0} .vmsnap-refused ul {{ margin: 4px 0 0; padding-left: 20px; }}
.{0} summary {{ cursor: pointer; }}
.{0} .vmsnap-words {{ min-width: 9em; }}
.{0} .vmsnap-picture svg {{ display: block; direction: ltr; margin-right: auto; }}
.{0} details {{ container-type: inline-size; }}
@container (max-width: 560px) {{
  .{0} tr:has(> td > code) {{ display: flex; flex-flow: row wrap; gap: 0 8px; }}
  .{0} tr:has(> td > code) > .vmsnap-words {{ flex: 1 1 200px; min-width: 0; }}
  .{0} td:has(> code) {{ flex: 1 1 100%; min-width: 0; overflow-wrap: anywhere; }}
  .{0} table:has(td > code) thead {{ position: absolute; clip-path: inset(50%); }}
}}
"""


def page(thing: Shown, figure: Figure, text: str, table: Table, *, svg: str, narrow: str = "") -> str:
    """Return one ``<div>`` that shows an object; `narrow` is a picture for columns into which `svg` does not fit."""
    scope = scope_of(text)
    changes = has_change(figure)
    style = picture_style(scope, svg, narrow) + (switch_style(scope) if changes else "")
    parts = [f'<div class="vmsnap {scope}">', f"<style>{style}</style>", *_refusals(figure)]
    parts.append(picture_html(svg, narrow, switch(scope) if changes else ""))
    parts.append(f'<pre class="vmsnap-text" aria-label="{escape(figure.summary)}">{escape(text)}</pre>')
    return "\n".join([*parts, *_below(thing, figure, table), "</div>"])


def details(thing: Shown, figure: Figure, table: Table) -> str:
    """Return the same without a picture: for a panel, which has that already."""
    below = "\n".join([*_refusals(figure), *_below(thing, figure, table)])
    scope = scope_of(below)
    return f'<div class="vmsnap {scope}">\n<style>{_STYLE.format(scope)}</style>\n{below}\n</div>'


def _refusals(figure: Figure) -> list[str]:
    if not figure.refusals:
        return []
    refused = escape(t("Refused"))
    return [f'<div class="vmsnap-refused"><strong>{refused}</strong>', *_list(figure.refusals), "</div>"]


def _below(thing: Shown, figure: Figure, table: Table) -> list[str]:
    parts: list[str] = []
    for section in figure.sections:
        parts += [f"<p><strong>{escape(section.heading)}</strong></p>", *_list(section.items)]
    return [*parts, _table_below(thing, table)] if table.rows else parts


def picture_style(scope: str, svg: str, narrow: str) -> str:
    """Return the rules that show a picture, or where there is no room for it that for narrow columns, and hide text."""
    return _STYLE.format(scope) + (narrow_style(scope, least_width(svg)) if narrow else "")


def picture_html(svg: str, narrow: str, above: str = "") -> str:
    """Return a picture, and that for narrow columns if there is one, with what is above them."""
    parts = [f'<div class="vmsnap-picture" style="display:none">{above}']
    parts.append(f'<div class="vmsnap-scroll" tabindex="0">{svg}</div>')
    if narrow:
        parts.append(f'<div class="vmsnap-scroll vmsnap-narrow" tabindex="0" style="display:none">{narrow}</div>')
    return "\n".join([*parts, "</div>"])


def _list(items: Sequence[Sequence[str]]) -> list[str]:
    return ["<ul>", *(f"<li>{'<br>'.join(escape(line) for line in item)}</li>" for item in items), "</ul>"]


def _table_below(thing: Shown, table: Table) -> str:
    nouns = {
        Forest: t("Images"),
        Chain: t("Layers, base first"),
        Disks: t("Disks"),
        SnapshotList: t("Snapshots"),
        SnapshotLists: t("Snapshots"),
        Plan: t("Steps"),
        Report: t("Steps"),
    }
    caption = next((noun for kind, noun in nouns.items() if isinstance(thing, kind)), t("Table"))
    steps = isinstance(thing, Plan | Report)
    notes = _bookkeeping(table) if isinstance(thing, Plan) else ()
    if notes:
        table = replace(table, rows=tuple(row for row in table.rows if row not in notes))
    if isinstance(thing, Forest):
        table = replace(table, rows=tuple(sorted(table.rows, key=lambda row: natural(str(row[0])))))
    alone = isinstance(thing, Disks | SnapshotList)
    html = table_html(table, caption, brief=True, heard=not alone)
    if alone:
        return scrolling(html, caption)
    summary = t("{caption} ({count})", caption=caption, count=len(table.rows))
    if steps:
        summary = counted("{count} step · as commands", "{count} steps · as commands", len(table.rows))
    if notes:
        said = counted("and {count} bookkeeping step", "and {count} bookkeeping steps", len(notes))
        rows = replace(table, rows=notes)
        more = table_html(rows, said, left_out=_LEFT_OUT | {"command", "bytes"}, brief=True, heard=True)
        html += f"\n<details><summary>{escape(said)}</summary>\n{more}\n</details>"
    return f"<details><summary>{escape(summary)}</summary>\n{html}\n</details>"


def lines_html(text: str) -> str:
    """Return lines of text as HTML."""
    return "<br>".join(map(escape, text.split("\n")))


def scrolling(html: str, label: str) -> str:
    """Return a table that has the scrollbar itself where it is wider than its column: what is above it stays."""
    return f'<div tabindex="0" role="region" aria-label="{escape(label)}" style="overflow-x: auto">{html}</div>'


def idle_columns(table: Table) -> set[str]:
    """Return the columns that say nothing: nothing at all in each row, or zero."""
    return {column.name for n, column in enumerate(table.columns) if n and not any(row[n] for row in table.rows)}


def _bookkeeping(table: Table) -> tuple[tuple[Cell, ...], ...]:
    """Return the steps that write down what vmsnap_nb does, which by hand nobody does; none if there are no others.

    They have no command.
    """
    command = next((n for n, column in enumerate(table.columns) if column.kind == "command"), None)
    rows = tuple(row for row in table.rows if command is not None and not row[command])
    return rows if len(rows) < len(table.rows) else ()


def table_html(
    table: Table,
    caption: str,
    *,
    left_out: AbstractSet[str] | None = None,
    most: int | None = _MOST_ROWS,
    brief: bool = False,
    heard: bool = False,
) -> str:
    """Return a table for reading: sizes in binary units, the path as the row's tooltip, at most 60 rows.

    The ``<table>`` has a caption, and heads of columns and of rows: the index becomes the head of each row. In a
    `brief` table, a file is given by its name. A caption that is `heard` is not seen. If no columns to be `left_out`
    are given, these are the paths and those that say nothing.
    """
    if left_out is None:
        left_out = _LEFT_OUT | idle_columns(table)
    places = [number for number, column in enumerate(table.columns) if column.name not in left_out]
    path = next((number for number, column in enumerate(table.columns) if column.kind == "path"), None)
    heads = "".join(
        f'<th scope="col"{_align_head(table.columns[n])}>{escape(head_text(table.columns[n].name))}</th>'
        for n in places
    )
    rows = [_row(table, row, places, path, brief=brief) for row in table.rows[:most]]
    if most is not None and (more := len(table.rows) - most) > 0:
        said = t("… {count} more rows: see .to_frame()", count=more)
        rows.append(f'<tr><td colspan="{len(places)}">{escape(said)}</td></tr>')
    return "\n".join(
        [
            "<table>",
            f"<caption{_more(_LEFT, _HEARD) if heard else _LEFT}>{lines_html(caption)}</caption>",
            f"<thead><tr>{heads}</tr></thead>",
            f"<tbody>\n{_join(rows)}\n</tbody>",
            "</table>",
        ]
    )


def _join(rows: Iterable[str]) -> str:
    return "\n".join(rows)


def _row(table: Table, row: tuple[Cell, ...], places: list[int], path: int | None, *, brief: bool) -> str:
    tip = "" if path is None or row[path] is None else f' title="{escape(shown(str(row[path])))}"'
    cells = []
    for number, place in enumerate(places):
        column, value, title = table.columns[place], row[place], ""
        text = _cell(column, value or None if column.name == "bytes" else value)
        if brief and isinstance(value, str) and (name := _file_name(column, value)):
            title, value, text = f' title="{escape(shown(value))}"', name, escape(isolate(shown(name)))
        said = term_text(column.kind, value) if isinstance(value, str) else value
        look = _room(said) + _align(column, said)
        cells.append(
            f'<th scope="row"{look}{tip or title}>{text}</th>' if number == 0 else f"<td{look}{title}>{text}</td>"
        )
    return f"<tr>{''.join(cells)}</tr>"


def _file_name(column: Column, path: str) -> str:
    """Return how a table names a file whose path is its tooltip; empty if it is no path, or several.

    Whether a backing file is written with its folder matters, so dots stand for that.
    """
    name = path.rstrip("/").rpartition("/")[2]
    if column.kind == "path":
        return name
    return f"…/{name}" if column.name in _PATHS and path.startswith("/") and ", /" not in path else ""


def _is_long(text: object) -> bool:
    return isinstance(text, str) and any(len(word) > _LONG_WORD for word in text.split())


def _room(text: object) -> str:
    if not isinstance(text, str) or _is_long(text):
        return ""
    return ' class="vmsnap-words"' if width(text) > (_LONG_WORD if _is_chinese(text) else _LONG_TEXT) else ""


def _is_chinese(text: str) -> bool:
    """Return whether a line may end within the words of a text: a column would become one character wide."""
    return width(text) > len(text)


def _align(column: Column, value: Cell = None) -> str:
    style = _RIGHT if column.kind in {"bytes", "count", "seconds"} else _LEFT
    if _is_long(value):  # here, and not in a style sheet: cards and listings have none
        return _more(style, "; min-width: 9em; overflow-wrap: anywhere")
    name = isinstance(value, str) and (" " not in value or _is_chinese(value)) and width(value) <= _LONG_WORD
    return _more(style, "; white-space: nowrap") if name or (value is not None and column.kind in _WHOLE) else style


def _more(style: str, more: str) -> str:
    return style.removesuffix('"') + more + '"'


def _align_head(column: Column) -> str:
    return _more(_align(column), "; word-break: keep-all")  # a Chinese word stays on its line


def _cell(column: Column, value: Cell) -> str:
    if value is None:
        return ""
    if column.kind == "bytes" and isinstance(value, int):
        return escape(human_size(value))
    if column.kind == "yes or no":
        return escape(t("yes")) if value else ""
    if column.kind == "seconds" and isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    if column.kind == "command":
        first, *rest = [f"<code>{escape(shown(line))}</code>" for line in str(value).split("\n")]
        whole = "<br>".join((first, *rest))
        if len(rest) < LONG_COMMAND:
            return whole
        more = escape(t("and {count} more lines", count=len(rest)))
        return f"<details><summary>{first} <small>{more}</small></summary>{whole}</details>"
    return escape(isolate(shown(term_text(column.kind, str(value)))))
