"""Figures for Graphviz: the same boxes, lines and arrows at the same places as in the SVG, in the same look.

Graphviz keeps the places (``layout=nop2``: "use the positions, change nothing", https://graphviz.org/docs/layouts/nop2/),
and whoever edits the graph can choose another layout.
"""

from __future__ import annotations

import functools
import itertools
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vmsnap_nb.errors import MissingPartError
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.views.content import CHIP_SIZE, LINE_SIZE, NAME_SIZE, PAD, Item, text_width
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Figure, Options
from vmsnap_nb.views.looks import ACCENT, BAD, FONTS, GOOD, GREY, INK, PAPER, TONES, WARN, look_of
from vmsnap_nb.views.placed import Key, Placed, Point, Route, Words
from vmsnap_nb.views.positions import LEAD, place_figure
from vmsnap_nb.views.shown_text import shown
from vmsnap_nb.words.message import t

if TYPE_CHECKING:
    import graphviz

__all__ = [
    "arrow_edge",
    "box_node",
    "figure_graph",
    "graph_of",
    "html",
    "identifier",
    "mixed",
    "node_names",
    "points",
    "quote",
    "to_graphviz",
]

_POINT = 0.75  # of a pixel
_HEAD = 9.0  # length of an arrow head in pixels
_SIZES = {"name": NAME_SIZE, "chip": CHIP_SIZE}


def to_graphviz(thing: Shown, **options: Any) -> graphviz.Digraph:
    """Return an object's figure for Graphviz; its source is the same whenever the figure is."""
    return figure_graph(figure_of(thing, Options.of(**options)))


def figure_graph(figure: Figure) -> graphviz.Digraph:
    """Return a figure for Graphviz; each node has an ``id`` of its block's and its box's number, as ``box-0-3``."""
    return graph_of("figure", _lines(figure))


def graph_of(name: str, lines: Iterable[str]) -> graphviz.Digraph:
    """Return a graph of lines of DOT."""
    try:
        import graphviz
    except ImportError as error:
        raise MissingPartError(
            t("create a graph with the Python package graphviz"),
            said=str(error),
            next_step=t("pip install graphviz, or use .to_text()"),
        ) from error
    graph = _class(graphviz.Digraph)(name)
    graph.body += [f"\t{line}\n" for line in lines]
    return graph


@functools.cache
def _class(base: type[graphviz.Digraph]) -> type[graphviz.Digraph]:
    """Return the class of graphs, which say in a notebook why Graphviz does not draw them."""

    class Digraph(base):  # type: ignore[misc]
        def _repr_mimebundle_(self, *arguments: Any, **options: Any) -> dict[str, Any]:
            try:
                return dict(super()._repr_mimebundle_(*arguments, **options))
            except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
                said = str(error)
                why = t("cannot draw this graph with Graphviz ({error}). Without Graphviz, use to_svg()", error=said)
                return {"text/plain": f"{why}\n\n{self.source}"}

    return Digraph


def node_names(figure: Figure) -> dict[Key, str]:
    """Return the name of each node, by the numbers of block and box: the path, and ``(after)`` where it comes twice."""
    names: dict[Key, str] = {}
    used: set[str] = set()
    caption = ""
    for number, block in enumerate(figure.blocks):
        caption = block.caption or caption
        for place, box in enumerate(block.boxes):
            name = base = shown(box.key)
            if name in used and caption:
                name = base = f"{base} ({caption})"
            again = 2
            while name in used:
                name, again = f"{base} ({again})", again + 1
            used.add(name)
            names[number, place] = name
    return names


def _lines(figure: Figure) -> Iterator[str]:
    picture = place_figure(figure)
    names = node_names(figure)
    yield f"graph [layout=nop2 rankdir=RL bgcolor=transparent pad=0.1 fontname={quote(FONTS)}]"
    yield (
        f'node [shape=box margin=0 fillcolor="{PAPER.light}" fontcolor="{INK.light}" '
        f"fontsize={points(LINE_SIZE):g} fontname={quote(FONTS)}]"
    )
    yield f'edge [color="{GREY}" penwidth=1.2 arrowsize=0.7 fontname={quote(FONTS)}]'
    for words in picture.words:
        yield _caption(words)
    for at in picture.boxes:
        yield box_node(names[at.key], at)
    for route in picture.routes:
        yield arrow_edge(names, route)


# -- nodes -----------------------------------------------------------------------------------------------


def box_node(name: str, at: Placed) -> str:
    """Write the node of a box."""
    box, look = at.box, look_of(at.box)
    styles = ["filled", "rounded"]
    if look.dashes:
        styles.append("dotted" if look.dashes[0] < 3 else "dashed")
    if look.extra == "cross":
        styles[1] = "diagonals"
    more = {"ring": " peripheries=2", "corner": " shape=note", "pins": " shape=component", "band": " shape=tab"}
    if look.extra in {"corner", "pins", "band"}:
        styles.remove("rounded")
    x, y = points(at.across), -points(at.middle)
    classes = " ".join(filter(None, ("box", box.shape, "active" if box.active else "", box.fate)))
    return (
        f'{identifier(name)} [id="box-{at.key[0]}-{at.key[1]}" '
        f'class="{classes}" style="{",".join(styles)}" color="{look.colour}" '
        f'penwidth={points(look.thick):g}{more.get(look.extra, "")} pos="{x:.1f},{y:.1f}" '
        f"width={at.wide / 96:.3f} height={at.high / 96:.3f} "
        f"tooltip={quote(html(box.title))} label=<{_label(at)}>]"
    )


def _label(at: Placed) -> str:
    wide = points(at.wide - 2 * PAD)
    rows = []
    for _, row in itertools.groupby(at.items, lambda item: (item.kind == "chip", item.top)):
        items = list(row)
        if items[0].kind == "bar":
            rows.append(_bar(items[0], wide))
        elif items[0].kind == "chip":
            rows.append(_table("".join(map(_chip, items)), ' CELLSPACING="2" CELLPADDING="2"'))
        else:
            rows.append(_written(items[0]))
    inside = "".join(f'<TR><TD ALIGN="LEFT">{row}</TD></TR>' for row in rows)
    return f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="1">{inside}</TABLE>'


def _written(item: Item) -> str:
    text = _broken(item)
    if item.kind in {"name", "status"}:
        text = f"<B>{text}</B>"
    return f'<FONT POINT-SIZE="{points(_SIZES.get(item.kind, LINE_SIZE)):g}">{text}</FONT>'


def _chip(item: Item) -> str:
    tint = mixed(TONES[item.tone], PAPER.light, 0.2)
    return f'<TD STYLE="ROUNDED" BGCOLOR="{tint}"><FONT POINT-SIZE="{points(CHIP_SIZE):g}">{_broken(item)}</FONT></TD>'


def _bar(item: Item, wide: float) -> str:
    full = round(wide * min(item.fill, 1.0))
    grown = max(full, round(wide * min(item.grown, 1.0)))
    parts = [(full, ACCENT), (grown - full, GOOD), (round(wide) - grown, mixed(GREY, PAPER.light, 0.25))]
    cells = "".join(
        f'<TD FIXEDSIZE="TRUE" WIDTH="{part}" HEIGHT="4" BGCOLOR="{colour}"></TD>' for part, colour in parts if part > 0
    )
    return _table(cells, ' CELLSPACING="0" CELLPADDING="0"')


def _table(cells: str, spaces: str) -> str:
    return f'<TABLE BORDER="0" CELLBORDER="0"{spaces}><TR>{cells}</TR></TABLE>'


def _broken(item: Item) -> str:
    text = '<BR ALIGN="LEFT"/>'.join(html(text) for text in item.texts) + (
        '<BR ALIGN="LEFT"/>' if len(item.texts) > 1 else ""
    )
    return f"<S>{text}</S>" if item.fate == "goes" else text


def mixed(colour: str, paper: str, part: float) -> str:
    """Return a colour as it looks when only so much of it covers the paper."""
    pairs = [(int(colour[n : n + 2], 16), int(paper[n : n + 2], 16)) for n in (1, 3, 5)]
    return "#" + "".join(f"{round(over * part + under * (1 - part)):02x}" for over, under in pairs)


# -- edges and captions ----------------------------------------------------------------------------------


def arrow_edge(names: Mapping[Key, str], route: Route) -> str:
    """Write an edge that goes straight from corner to corner, its head at the last."""
    (x0, y0), (x1, y1) = route.corners[-2:]
    long = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-6)
    stop = (x1 - (x1 - x0) / long * _HEAD, y1 - (y1 - y0) / long * _HEAD)
    spline = " ".join(_at(point) for point in _splined((*route.corners[:-1], stop)))
    more = ""
    if route.kind == "move":
        more = f' style=dashed color="{ACCENT}"'
    elif route.kind == "wrong":
        more = f' style=dotted color="{BAD}"'
    elif route.fate == "goes":
        more = f' style=dotted color="{WARN}"'
    elif route.fate == "comes":
        more = f' style=dashed color="{GOOD}"'
    elif route.kind == "changed":
        more = f' style=bold color="{WARN}"'
    if route.label:
        x, y = route.label_at
        more += f' fontsize={points(LINE_SIZE):g} fontcolor="{INK.light}" label={quote(html(route.label))}'
        more += f' lp="{_at((x, y - 4))}"'
    tail, head = identifier(names[route.tail]), identifier(names[route.head])
    kind = " ".join(name for name in ("arrow", route.kind, route.fate) if name)
    return f'{tail} -> {head} [class="{kind}" pos="e,{_at((x1, y1))} {spline}"{more}]'


def _splined(corners: Sequence[Point]) -> Iterator[Point]:
    yield corners[0]
    for (ax, ay), (bx, by) in itertools.pairwise(corners):
        yield ax + (bx - ax) / 3, ay + (by - ay) / 3
        yield ax + (bx - ax) / 1.5, ay + (by - ay) / 1.5
        yield bx, by


def _at(point: Point) -> str:
    return f"{points(point[0]):.1f},{-points(point[1]):.1f}"


def _caption(words: Words) -> str:
    wide = points(max(map(text_width, words.lines)))
    high = points(LEAD * len(words.lines))
    rows = "".join(f'<TR><TD ALIGN="LEFT">{html(line)}</TD></TR>' for line in words.lines)
    table = f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0" WIDTH="{wide:.0f}">{rows}</TABLE>'
    return (
        f'{identifier(words.name)} [class="caption" shape=plain style="" fontcolor="{GREY}" '
        f'pos="{points(words.left) + wide / 2:.1f},{-points(words.top) - high / 2:.1f}" '
        f"width={wide / 72:.3f} height={high / 72:.3f} label=<{table}>]"
    )


# -- Graphviz's words ------------------------------------------------------------------------------------


def points(pixels: float) -> float:
    """Return pixels in points, in which Graphviz measures."""
    return pixels * _POINT


def quote(text: str) -> str:
    """Write a text between quotation marks."""
    return '"' + text.replace("\n", "\\n").replace('"', '\\"') + '"'


def identifier(name: str) -> str:
    r"""Write a node's name; DOT knows no escape but ``\"``, and Graphviz writes ``&`` into SVG as it stands."""
    text = name.replace("&", "&amp;")
    return '"' + re.sub(r'(\\*)("|\Z)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), text) + '"'


def html(text: str) -> str:
    r"""Escape for a label of Graphviz; a backslash too, for ``\N`` and ``\G`` stand for names in labels of any kind."""
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("\\", "\\\\")):
        text = text.replace(char, entity)
    return text
