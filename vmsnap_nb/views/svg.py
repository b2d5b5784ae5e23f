"""A figure as SVG that fits into a page: the colours of its theme, the names of its boxes, nothing that clashes.

Attributes have the colours of light paper, for programs that know no style sheets; a style sheet with the page's
colours overrides them. Its rules begin with a class that is this figure's own, and nothing has an ``id``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from vmsnap_nb.views.content import CHIP_SIZE, LINE_SIZE, NAME_SIZE, Item
from vmsnap_nb.views.figure import Figure
from vmsnap_nb.views.looks import ACCENT, BAD, FONTS, GOOD, GREY, INK, PAPER, TONES, WARN, Look, look_of
from vmsnap_nb.views.placed import Picture, Placed, Point, Route, Words
from vmsnap_nb.views.positions import LEAD, Room, place_figure

__all__ = [
    "FIGURE_RULES",
    "MOST_NARROW",
    "SMALLEST",
    "arrow_svg",
    "box_svg",
    "classes",
    "figure_svg",
    "least_width",
    "narrow_style",
    "root_of",
    "safe",
    "scope_of",
    "tag",
    "theme_style",
]

_SVG = "http://www.w3.org/2000/svg"
SMALLEST = 0.7
"""As small a part of its size as a page may make a picture."""
MOST_NARROW = 415
"""Pixels that a figure for a narrow column takes at most: a tab of a panel in a window of 600."""
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TURN = 7.0  # the radius of an arrow's corners
_SIZES = {"name": NAME_SIZE, "status": LINE_SIZE, "size": LINE_SIZE, "line": LINE_SIZE, "chip": CHIP_SIZE}
_LEADS = {"name": 18.0, "status": 15.0, "size": 16.0, "line": 15.0, "chip": 13.0}

# marimo has a class `outline` of its own, which draws a rectangle.
FIGURE_RULES = """
{0} text {{ fill: {ink}; }}
{0} .faint, {0} .caption text {{ fill-opacity: .75; }}
{0} .outline, {0} .sheet {{ fill: {paper}; outline: none; }}
{0} .label {{ stroke: {paper}; }}
{0} .chip text, {0} .box text {{ stroke: none; }}
"""


_NARROW = """
.{0} .vmsnap-picture {{ container-type: inline-size; }}
@container (max-width: {least}px) {{
  .{0} .vmsnap-scroll {{ display: none; }}
  .{0} .vmsnap-narrow {{ display: block !important; }}
}}
"""


def theme_style(scope: str, rules: str) -> str:
    """Return rules of a style sheet in which ``{ink}`` and ``{paper}`` are the colours of the page.

    VS Code's colours, then JupyterLab's: VS Code gives JupyterLab's variables their light values in dark themes too,
    since it shows widgets on white (panels/chain_view.css corrects that within them). Elsewhere the system's choice
    between light and dark counts.
    """

    def variables(place: int) -> dict[str, str]:
        names = ("ink", "foreground", "ui-font-color1", INK), ("paper", "background", "layout-color1", PAPER)
        return {
            name: f"var(--vscode-editor-{theirs}, var(--jp-{jupyter}, {theme[place]}))"
            for name, theirs, jupyter, theme in names
        }

    light, dark = (rules.format("." + scope, **variables(place)) for place in (0, 1))
    coloured = "".join(line for line in dark.splitlines(keepends=True) if "var(" in line)
    return f"{light}@media (prefers-color-scheme: dark) {{\n{coloured}}}\n"


def figure_svg(figure: Figure, room: Room = "wide") -> str:
    """Draw a figure, which may be for a narrow column; return an ``<svg>`` element.

    Each box is a ``<g>`` of the class ``box``. Its ``data-box="0-3"`` numbers its block and itself, its ``<title>`` is
    the full path and what is wrong with it. Nothing has an ``id``, so that a figure may stand twice on a page.
    """
    picture = place_figure(figure, room)
    drawn = "\n".join(_parts(picture))
    scope = scope_of(drawn)
    at = picture.left, picture.top
    root = root_of(scope, figure.summary, picture.wide, picture.high, at=at)
    return tag("svg", root, tag("style", {}, theme_style(scope, FIGURE_RULES)), "\n", drawn, "\n")


def scope_of(content: str) -> str:
    """Return a class of its own for an element, by what is in it: the same content has the same class."""
    return "vmsnap-" + hashlib.sha256(content.encode(errors="backslashreplace")).hexdigest()[:10]


def root_of(
    scope: str,
    summary: str,
    wide: float,
    high: float,
    *,
    at: tuple[float, float] = (0.0, 0.0),
    font_size: int | None = None,
) -> dict[str, object]:
    """Return the attributes of an ``<svg>`` element of some size (pixels), and where its upper left corner is.

    A page makes it as narrow as its column, but not below the part `SMALLEST`: smaller text cannot be read.
    """
    return {
        "xmlns": _SVG,
        "class": scope,
        "role": "img",
        "aria-label": summary,
        "width": f"{wide:.0f}",
        "height": f"{high:.0f}",
        "viewBox": f"{at[0]:.0f} {at[1]:.0f} {wide:.0f} {high:.0f}",
        "font-family": FONTS,
        "font-size": font_size,
        "style": f"max-width: 100%; min-width: {wide * SMALLEST:.0f}px; height: auto",
    }


def least_width(svg: str) -> int:
    """Return how many pixels a picture takes at least."""
    found = re.search(r"min-width: (\d+)px", svg)
    return int(found[1]) if found else 0


def narrow_style(scope: str, least: int) -> str:
    """Return the rules that show another picture in columns with less room: those know their width, windows do not."""
    return _NARROW.format(scope, least=least)


def tag(name: str, attributes: Mapping[str, object], *inside: str) -> str:
    """Return an element: attributes are escaped here, and what is inside is markup already."""
    written = "".join(f' {key}="{safe(value)}"' for key, value in attributes.items() if value is not None)
    return f"<{name}{written}>{''.join(inside)}</{name}>" if inside else f"<{name}{written}/>"


def safe(value: object) -> str:
    """Return a value as markup has it."""
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return escape(_NO_XML.sub("\ufffd", str(value)))


def classes(*names: str) -> str:
    """Return the value of an attribute `class`."""
    return " ".join(name for name in names if name)


def _parts(picture: Picture) -> Iterator[str]:
    for route in picture.routes:
        yield arrow_svg(route)
    for at in picture.boxes:
        yield box_svg(at)
    for words in picture.words:
        yield _words(words)


# -- boxes -----------------------------------------------------------------------------------------------


def box_svg(at: Placed) -> str:
    """Draw a box."""
    box = at.box
    kind = classes("box", box.shape, "active" if box.active else "", box.fate)
    parts = [tag("title", {}, safe(box.title)), *_outline(at, look_of(box))]
    parts += [part for item in at.items for part in _item(item, at)]
    return tag("g", {"class": kind, "data-box": f"{at.key[0]}-{at.key[1]}"}, *parts)


def _outline(at: Placed, look: Look) -> Iterator[str]:
    edge: dict[str, object] = {
        "x": at.left,
        "y": at.top,
        "width": at.wide,
        "height": at.high,
        "rx": min(look.radius, at.high / 2),
        "stroke": look.colour,
        "stroke-width": look.thick,
        "stroke-dasharray": " ".join(f"{dash:g}" for dash in look.dashes) or None,
    }
    if look.extra == "stack":
        yield tag("rect", {"class": "sheet", **edge, "x": at.left + 4, "y": at.top + 4, "fill": PAPER.light})
    yield tag("rect", {"class": "outline", **edge, "fill": PAPER.light})
    inner = {"class": "sign", "fill": "none", "stroke": look.colour, "stroke-width": 1.0}
    if look.tinted:
        plain = {key: value for key, value in edge.items() if not key.startswith("stroke")}
        yield tag("rect", {"class": "sign", **plain, "fill": look.colour, "fill-opacity": 0.1, "stroke": "none"})
    if look.extra == "cross":
        yield tag(
            "path", {"d": f"M{at.right - 18:.1f} {at.top + 8:.1f}l10 10m0 -10l-10 10", **inner, "stroke-width": 2}
        )
    elif look.extra == "corner":
        yield tag("path", {"d": f"M{at.right - 16:.1f} {at.top:.1f}v16h16", **inner})
    elif look.extra == "ring":
        yield tag(
            "rect",
            {
                "x": at.left + 3,
                "y": at.top + 3,
                "width": at.wide - 6,
                "height": at.high - 6,
                "rx": look.radius - 3,
                **inner,
            },
        )
    elif look.extra == "band":
        yield tag(
            "path", {"d": f"M{at.left + 5:.1f} {at.top + 8:.1f}v{at.high - 16:.1f}", **inner, "stroke-width": 3.0}
        )
    elif look.extra == "pins":
        pins = "".join(f"M{at.left + 16 + 12 * n:.1f} {at.bottom:.1f}v5" for n in range(int((at.wide - 24) // 12)))
        yield tag("path", {"d": pins, **inner, "stroke-width": 2.0})


def _item(item: Item, at: Placed) -> Iterator[str]:
    left, top = at.left + item.left, at.top + item.top
    if item.kind == "bar":
        yield _bar(item, left, top)
    elif item.kind == "chip":
        colour = TONES[item.tone]
        edge = {"x": left, "y": top, "width": item.wide, "height": item.high, "rx": 5.0}
        faint = {"fill": colour, "fill-opacity": 0.18}
        if item.fate == "goes":
            faint |= {"stroke": WARN, "stroke-width": 1.0, "stroke-dasharray": "3 2"}
        elif item.tone != "plain":
            faint |= {"stroke": colour, "stroke-opacity": 0.6, "stroke-width": 1.0}
        lines = _text(item, left + 6.0, top + 12.8)
        yield tag(
            "g", {"class": classes("chip", item.tone, item.role, item.fate)}, tag("rect", {**edge, **faint}), lines
        )
    else:
        yield _text(item, left, top + _SIZES[item.kind] * 1.02)


def _bar(item: Item, left: float, top: float) -> str:
    """Return a bar as wide as the box, filled as far as the image takes space; a little of it is always to be seen."""
    whole = {"x": left, "y": top, "width": item.wide, "height": item.high, "rx": item.high / 2}
    part = {**whole, "width": max(item.wide * min(item.fill, 1.0), item.high if item.fill else 0.0)}
    parts = [tag("rect", {**whole, "fill": GREY, "fill-opacity": 0.25})]
    if item.grown > item.fill:
        wide = min(max(item.wide * item.grown, part["width"] + 3.0), item.wide)
        parts.append(tag("rect", {"class": "comes", **whole, "width": wide, "fill": GOOD}))
    return tag("g", {"class": "bar"}, *parts, tag("rect", {**part, "fill": ACCENT}))


def _text(item: Item, left: float, base: float) -> str:
    bold = "600" if item.kind in {"name", "status"} else None
    attributes: dict[str, object] = {
        "class": classes("faint" if item.kind == "size" else item.kind, "" if item.kind == "chip" else item.fate),
        "x": left,
        "y": base,
        "fill": INK.light,
        "font-size": _SIZES[item.kind],
        "font-weight": bold,
        "text-decoration": "line-through" if item.fate == "goes" else None,
    }
    return tag("text", attributes, *_spans(item.texts, left, _LEADS[item.kind]))


def _spans(texts: Sequence[str], left: float, lead: float) -> Iterator[str]:
    if len(texts) == 1:
        yield safe(texts[0])
        return
    for number, text in enumerate(texts):
        yield tag("tspan", {"x": left, "dy": lead if number else 0}, safe(text))


# -- arrows and captions ---------------------------------------------------------------------------------


def arrow_svg(route: Route) -> str:
    """Draw an arrow, with its label if it has one."""
    colour, thick, dashes = GREY, 1.5, None
    if route.kind == "move":
        colour, thick, dashes = ACCENT, 2.0, "5 4"
    elif route.kind == "wrong":
        colour, thick, dashes = BAD, 2.0, "2 3"
    elif route.fate == "goes":
        colour, dashes = WARN, "2 4"
    elif route.fate == "comes":
        colour, thick, dashes = GOOD, 2.0, "7 4"
    elif route.kind == "changed":
        colour, thick = WARN, 2.0
    (x0, y0), (x1, y1) = route.corners[-2:]
    long = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-6)
    ux, uy = (x1 - x0) / long, (y1 - y0) / long
    stop = (x1 - 7 * ux, y1 - 7 * uy)
    line = {"d": _path((*route.corners[:-1], stop)), "fill": "none", "stroke": colour, "stroke-width": thick}
    head = f"{x1:.1f},{y1:.1f} {x1 - 9 * ux - 4.5 * uy:.1f},{y1 - 9 * uy + 4.5 * ux:.1f} "
    head += f"{x1 - 9 * ux + 4.5 * uy:.1f},{y1 - 9 * uy - 4.5 * ux:.1f}"
    parts = [tag("title", {}, safe(route.whole))] if route.whole not in {"", route.label} else []
    parts += [tag("path", {**line, "stroke-dasharray": dashes}), tag("polygon", {"points": head, "fill": colour})]
    if route.label:
        x, y = route.label_at
        face = {"x": x, "y": y, "font-size": LINE_SIZE, "text-anchor": "middle", "fill": INK.light}
        halo = {"stroke": PAPER.light, "stroke-width": 4, "stroke-linejoin": "round", "paint-order": "stroke"}
        parts.append(tag("text", {"class": "label", **face, **halo}, safe(route.label)))
    return tag("g", {"class": classes("arrow", route.kind, route.fate)}, *parts)


def _path(corners: Sequence[Point]) -> str:
    """Return a line from corner to corner, each rounded as far as there is room."""
    parts = ["M{:.1f} {:.1f}".format(*corners[0])]
    for (ax, ay), (bx, by), (cx, cy) in zip(corners, corners[1:], corners[2:], strict=False):
        before, after = max(abs(bx - ax), abs(by - ay)), max(abs(cx - bx), abs(cy - by))
        turn = min(_TURN, before / 2, after / 2)
        if turn < 1:
            parts.append(f"L{bx:.1f} {by:.1f}")
            continue
        near = bx - (bx - ax) / before * turn, by - (by - ay) / before * turn
        far = bx + (cx - bx) / after * turn, by + (cy - by) / after * turn
        parts.append(f"L{near[0]:.1f} {near[1]:.1f}Q{bx:.1f} {by:.1f} {far[0]:.1f} {far[1]:.1f}")
    parts.append("L{:.1f} {:.1f}".format(*corners[-1]))
    return "".join(parts)


def _words(words: Words) -> str:
    lines = [
        tag("text", {"x": words.left, "y": words.top + 12 + LEAD * number, "font-size": LINE_SIZE}, safe(line))
        for number, line in enumerate(words.lines)
    ]
    return tag("g", {"class": classes("caption", words.name.partition(" ")[0])}, *lines)
