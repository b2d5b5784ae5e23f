"""A whole page of HTML: headings, figures and tables in one file that needs no other, for a browser or for paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from html import escape

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.model.shown import Shown, Tabled
from vmsnap_nb.views.bundle import narrow_svg
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Options
from vmsnap_nb.views.html import idle_columns, table_html
from vmsnap_nb.views.listing import caption_of
from vmsnap_nb.views.shown_text import isolate, shown
from vmsnap_nb.views.svg import figure_svg, least_width, narrow_style, scope_of
from vmsnap_nb.views.tables import Table, table_of
from vmsnap_nb.views.text import figure_text
from vmsnap_nb.words.language import language
from vmsnap_nb.words.message import t

__all__ = ["MARK", "Chapter", "Part", "page_html"]

MARK = '<!DOCTYPE html>\n<html data-report="vmsnap_nb"'
"""What such a page begins with."""

_STYLE = """
:root { color-scheme: light dark; --jp-ui-font-color1: #1a1a1a; --jp-ui-font-color2: #595959;
  --jp-layout-color1: #ffffff; --line: #d5d5d5; --head: #f2f2f2; --bad: #b3261e; }
@media screen and (prefers-color-scheme: dark) {
  :root { --jp-ui-font-color1: #e8e8e8; --jp-ui-font-color2: #b0b0b0; --jp-layout-color1: #16181b; --line: #3c4046;
    --head: #23262b; --bad: #ff8a80; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 1.5rem; max-width: 90rem;
  color: var(--jp-ui-font-color1); background: var(--jp-layout-color1); }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; overflow-wrap: anywhere; } h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; } h4 { font-size: 1rem; margin: 1rem 0 .3rem; }
p { margin: .3rem 0; } .faint { color: var(--jp-ui-font-color2); } .bad { color: var(--bad); white-space: pre-wrap; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; list-style: none; }
a { color: inherit; } .wide { overflow-x: auto; margin: .5rem 0; }
figure { padding: 0; } .wide:focus-visible { outline: 2px solid; } svg { height: auto; max-width: none; }
table { border-collapse: collapse; font-size: .87rem; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
.wide { position: relative; } .named caption { position: absolute; width: 1px; height: 1px; overflow: hidden; }
th, td { border: 1px solid var(--line); padding: .25rem .5rem; vertical-align: top; font-weight: normal; }
thead th { background: var(--head); font-weight: 600; } pre, code { font-size: .85em; overflow-wrap: anywhere; }
.vmsnap-words { min-width: 14em; }
@page { size: landscape; margin: 12mm; }
@media print { body { padding: 0; max-width: none; font-size: 10pt; } nav { display: none; }
  .wide { overflow: visible; } svg { max-width: 100%; } table { font-size: 8pt; } thead { display: table-header-group; }
  td, th { padding: .15rem .3rem; white-space: normal !important; } /* a page of paper cannot be scrolled */
  tr, figure, h2, h3 { break-inside: avoid; } h2, h3 { break-after: avoid; } }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A heading with what is below it: an object, a table of its own, or why there is none."""

    heading: str
    thing: Shown | Tabled | None = None
    table: Table | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """All that is said of one host, or of some folders."""

    heading: str
    facts: tuple[tuple[str, str], ...] = ()
    parts: tuple[Part, ...] = ()
    problem: str = ""


def page_html(title: str, chapters: Iterable[Chapter], *, made: datetime, by: str) -> str:
    """Return the page; `made` is the time of reading, in UTC, and `by` the program that read."""
    several = tuple(chapters)
    body = [f"<h1>{_safe(title)}</h1>", f'<p class="faint">{_safe(f"{made:%Y-%m-%d %H:%M:%S} UTC, {by}")}</p>']
    body += [_contents(several), *_chapters(several)]
    return (
        f'{MARK} lang="{language()}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_safe(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _safe(text: str) -> str:
    return escape(isolate(shown(text)))


def _place(chapter: int, part: int) -> str:
    return f"part-{chapter}-{part}"


def _contents(chapters: tuple[Chapter, ...]) -> str:
    """Return the links to all parts; of several hosts, those to the hosts."""
    if len(chapters) == 1:
        links = [(_place(0, number), part.heading) for number, part in enumerate(chapters[0].parts)]
    else:
        links = [(f"chapter-{number}", chapter.heading) for number, chapter in enumerate(chapters)]
    items = "".join(f'<li><a href="#{place}">{_safe(heading)}</a></li>' for place, heading in links)
    label = t("Contents")
    return f'<nav aria-label="{_safe(label)}"><ul>{items}</ul></nav>'


def _chapters(chapters: tuple[Chapter, ...]) -> Iterator[str]:
    for number, chapter in enumerate(chapters):
        yield from _chapter(number, chapter, alone=len(chapters) == 1)


def _chapter(number: int, chapter: Chapter, *, alone: bool) -> Iterator[str]:
    level = 2 if alone else 3
    if not alone:  # otherwise the title says it
        yield f'<h2 id="chapter-{number}">{_safe(chapter.heading)}</h2>'
    if chapter.problem:
        yield _problem(chapter.problem)
    said = (t("{name}: {value}", name=name, value=value) for name, value in chapter.facts if value)
    yield from (f"<p>{_safe(fact)}</p>" for fact in said)
    for place, part in enumerate(chapter.parts):
        yield f'<h{level} id="{_place(number, place)}">{_safe(part.heading)}</h{level}>'
        yield from _part(part)


def _problem(text: str) -> str:
    lines = "<br>".join(_safe(line) for line in text.split("\n"))
    return f'<p class="bad">{lines}</p>'


def _part(part: Part) -> Iterator[str]:
    if part.problem:
        yield _problem(part.problem)
    if isinstance(part.thing, Shown):
        yield from _figure(part.thing)
    table = part.table if part.thing is None else table_of(part.thing)
    caption = part.heading if part.thing is None or isinstance(part.thing, Shown) else caption_of(part.thing)
    if table is not None and table.rows:
        html = table_html(table, caption, left_out={"backing_path", *idle_columns(table)}, most=None)
        named = " named" if caption == part.heading else ""
        yield f'<div class="wide{named}" tabindex="0" role="region" aria-label="{_safe(part.heading)}">{html}</div>'
    elif table is not None:
        empty = t("None.") if part.thing is None or isinstance(part.thing, Shown) else caption
        yield f'<p class="faint">{_safe(empty)}</p>'


def _figure(thing: Shown) -> Iterator[str]:
    """Yield the picture, or the text figure where there is no Graphviz, and the sentences below it."""
    figure = figure_of(thing, Options())
    if figure.blocks:
        label = f'tabindex="0" role="region" aria-label="{_safe(figure.summary)}"'
        try:
            svg = figure_svg(figure)
            scope, narrow = scope_of(svg), narrow_svg(thing, figure)
            style = f"<style>{narrow_style(scope, least_width(svg))}</style>" if narrow else ""
            pictures = f'<div class="vmsnap-scroll">{svg}</div>'
            if narrow:
                pictures += f'<div class="vmsnap-narrow" hidden>{narrow}</div>'
            inside = f'{style}<div class="vmsnap-picture">{pictures}</div>'
            yield f'<figure class="wide {scope}" {label}>{inside}</figure>'
        except VmsnapError as error:
            yield f'<pre class="wide" {label}>{escape(figure_text(figure))}</pre>'
            why = t("No picture: {reason}", reason=error.reason)
            yield f'<p class="faint">{_safe(why)}</p>'
    else:
        yield from (f"<p>{_safe(note)}</p>" for note in figure.notes)
