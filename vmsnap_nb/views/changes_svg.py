"""What changed in files as SVG: the picture of `vmsnap_nb.views.changes_figure`."""

from __future__ import annotations

from vmsnap_nb.model.files import FileChanges
from vmsnap_nb.views.changes_figure import ChangesPicture, Chip, Rung, place_changes
from vmsnap_nb.views.content import CHIP_SIZE, LINE_SIZE, NAME_SIZE
from vmsnap_nb.views.looks import GREY, INK, PAPER, TONES
from vmsnap_nb.views.svg import FIGURE_RULES, arrow_svg, box_svg, classes, root_of, safe, scope_of, tag, theme_style

__all__ = ["changes_svg"]

_RULES = FIGURE_RULES + "{0} .paper {{ fill: {paper}; }}\n"


def changes_svg(changes: FileChanges, *, narrow: bool = False) -> str:
    """Draw them as an ``<svg>`` element, which may be for a narrow column."""
    picture = place_changes(changes, narrow=narrow)
    frame = {"x": 0.5, "y": 0.5, "width": picture.wide - 1, "height": picture.high - 1, "rx": 10.0, "class": "paper"}
    parts = [tag("rect", {**frame, "fill": PAPER.light, "stroke": GREY, "stroke-opacity": 0.6})]
    for line, base in picture.heading:
        face = {"x": picture.left, "y": base, "font-size": NAME_SIZE, "font-weight": 600, "fill": INK.light}
        parts.append(tag("text", face, safe(line)))
    parts += map(_chip, picture.chips)
    parts += map(arrow_svg, picture.routes)
    parts += map(box_svg, picture.boxes)
    parts += [_rung(rung, picture) for rung in picture.rungs]
    for line, base in picture.notes:
        face = {"x": picture.left, "y": base, "font-size": LINE_SIZE, "class": "note faint", "fill": INK.light}
        parts.append(tag("text", face, safe(line)))
    drawn = "\n".join(parts)
    scope = scope_of(drawn)
    root = root_of(scope, picture.summary, picture.wide, picture.high)
    return tag("svg", root, tag("style", {}, theme_style(scope, _RULES)), "\n", drawn, "\n")


def _chip(chip: Chip) -> str:
    look = {"fill": TONES[chip.tone], "fill-opacity": 0.18, "stroke": TONES[chip.tone], "stroke-opacity": 0.6}
    box = tag("rect", {"x": chip.left, "y": chip.top, "width": chip.wide, "height": 18.0, "rx": 5.0, **look})
    face = {"x": chip.left + 7.0, "y": chip.top + 12.8, "font-size": CHIP_SIZE, "fill": INK.light}
    return tag("g", {"class": classes("chip", chip.change)}, box, tag("text", face, safe(chip.text)))


def _rung(rung: Rung, picture: ChangesPicture) -> str:
    x, parts = rung.left, []
    face = {"y": rung.top + 14.5, "font-size": LINE_SIZE, "fill": INK.light}
    if rung.sign:
        colour = TONES[rung.tone]
        parts.append(tag("title", {}, safe(rung.title)))
        sign = {"x": x, "y": rung.top + 3, "width": 15, "height": 15, "rx": 4, "fill": colour, "fill-opacity": 0.22}
        parts.append(tag("rect", sign))
        mark = {**face, "x": x + 7.5, "text-anchor": "middle", "font-weight": 700}
        parts.append(tag("text", mark, safe(rung.sign)))
        if rung.bar:
            bar = {"x": picture.bar_end - rung.bar, "y": rung.top + 8, "width": rung.bar, "height": 6, "fill": colour}
            parts.append(tag("rect", {**bar, "rx": min(3.0, rung.bar / 2)}))
    parts.append(tag("text", {**face, "x": rung.name_at, "class": None if rung.sign else "faint"}, safe(rung.name)))
    if rung.said:
        end = {**face, "x": picture.said_end, "text-anchor": "end", "class": "faint"}
        parts.append(tag("text", end, safe(rung.said)))
    return tag("g", {"class": classes("row", rung.kind)}, *parts)
