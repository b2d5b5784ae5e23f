"""Block maps as SVG: strips in the colours of their images, cut to where data is, with a legend."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.views.content import text_width
from vmsnap_nb.views.html import UNWRAPPED
from vmsnap_nb.views.looks import GREY, INK, PAPER
from vmsnap_nb.views.shown_text import capital, clip, human_size
from vmsnap_nb.views.strips import (
    KIND_WORDS,
    NEW,
    READS,
    Kind,
    Strips,
    colours_of,
    layer_names,
    part_title,
    said_of,
    strips_text,
    summary_of,
)
from vmsnap_nb.views.svg import least_width, narrow_style, root_of, scope_of, tag, theme_style
from vmsnap_nb.words.message import t

__all__ = ["LEGEND_KINDS", "strips_bundle", "strips_svg"]

LEGEND_KINDS: tuple[Kind, ...] = ("seen", "hidden", "zero")
"""What the legend explains; all else is empty."""
_CELLS, _NARROW_CELLS, _CELL, _NARROW_CELL, _BREAK = 256, 128, 2.2, 3.0, 16.0  # how many cells, and pixels
_HIGH, _STEP, _NARROW_STEP, _TOP = 18.0, 27.0, 44.0, 30.0
_LEGEND_LINE = 21.0
_RULES = "\n{0} text {{ fill: {ink}; stroke: {paper}; }}\n{0} .new {{ fill: {ink}; }}\n"


def strips_svg(blocks: BlockMap, *, narrow: bool = False) -> str:
    """Draw the strips as an ``<svg>`` in the colours of the page; every part has a title that says what it is.

    A `narrow` one has names and sizes above the strips instead of beside them.
    """
    if not blocks.size:
        empty = capital(t("an empty disk"))
        return _svg(blocks, tag("text", {"x": 4.0, "y": 18.0, "fill": INK.light}, escape(empty)), 200.0, 26.0)
    names = [clip(name, 24) for name in layer_names(blocks)]
    strips = Strips.of(blocks, _NARROW_CELLS if narrow else _CELLS, cut=True)
    drawing = _Drawing(blocks, strips, names=names, colours=colours_of(names), narrow=narrow)
    return _svg(blocks, "\n".join(drawing.parts()), drawing.right, drawing.bottom)


def _svg(blocks: BlockMap, inside: str, wide: float, high: float) -> str:
    scope = scope_of(inside)
    root = root_of(scope, summary_of(blocks), wide, high, font_size=12)
    return tag("svg", root, tag("style", {}, theme_style(scope, _RULES)), "\n", inside)


@dataclass
class _Drawing:
    blocks: BlockMap
    strips: Strips
    names: Sequence[str]
    colours: Sequence[str]
    narrow: bool

    def __post_init__(self) -> None:
        rows = [t(READS), *(self._head(number) for number in reversed(range(len(self.names))))]
        self.rows = rows
        self.cell = _NARROW_CELL if self.narrow else _CELL
        self.break_, self.step = (_BREAK / 2, _NARROW_STEP) if self.narrow else (_BREAK, _STEP)
        self.top = _TOP + (16.0 if self.narrow else 0.0)  # of the first strip
        self.left = 8.0 if self.narrow else max(text_width(row) for row in rows) + 28.0
        self.said = [said_of(self.blocks, number) for number in range(len(self.names))]
        self.end = self._x(self.strips.cells - 1) + self.cell
        self.cut_at_end = self.strips.cells > 0 and self.strips.spans[-1].end < self.blocks.size
        if self.cut_at_end:
            self.end += self.break_
        self.legend: list[tuple[Kind | None, str]] = [(kind, t(KIND_WORDS[kind])) for kind in LEGEND_KINDS]
        if self.blocks.new:
            self.legend.append((None, t(NEW)))
        words = [42.0 + text_width(word) for _, word in self.legend]
        lines = len(words) if self.narrow else 1
        if self.narrow:
            heads = (text_width(self._head_and_said(number)) for number in range(len(self.names)))
            labels = (x if anchor else x + text_width(label) for label, x, anchor in self._labels())
            self.right = max(self.end + 8.0, *words, *(32.0 + wide for wide in heads), *(x + 8.0 for x in labels))
        else:
            said = max(map(text_width, self.said), default=0.0)
            self.right = max(self.end + 12.0 + said + 8.0, self.left + sum(words))
        self.bottom = self.top + (len(rows) - 1) * self.step + _HIGH + 9.0 + 9.0 + _LEGEND_LINE * lines

    def _head_and_said(self, number: int) -> str:
        return t("{name}: {value}", name=self._head(number), value=self.said[number])

    def _head(self, number: int) -> str:
        return f"{number}  {self.names[number]}"

    def _x(self, cell: int) -> float:
        return self.left + cell * self.cell + self.strips.span_of(cell) * self.break_

    def parts(self) -> Iterator[str]:
        """Return the axis, the strips, and the legend."""
        yield from self._axis()
        for place, row in enumerate(self.rows):
            y = self.top + place * self.step
            number = len(self.names) - place
            mark_y = y - 16.0 if self.narrow else y
            if self.narrow:
                text = self._head_and_said(number) if place else row
                yield self._text(text, self.left + (18.0 if place else 0.0), y - 6.0)
            else:
                yield self._text(row, self.left - 8.0, y + 13.0, "end")
            if place:
                mark = {"x": self.left if self.narrow else 4.0, "y": mark_y + (0.0 if self.narrow else 3.0)}
                yield tag("rect", {**mark, "width": 12.0, "height": 12.0, "rx": 3.0, "fill": self.colours[number]})
            for span in self.strips.spans:
                box = {"x": self._x(span.first), "y": y, "width": span.cells * self.cell, "height": _HIGH}
                yield tag("rect", {**box, "rx": 2.0, "fill": "none", "stroke": GREY, "stroke-opacity": 0.6})
            cells = self.strips.read_cells() if place == 0 else self.strips.layer_cells(number)
            for first, count, kind, owners in cells:
                title = part_title(self.strips, first, count, kind, owners, self.names)
                yield self._part(kind, self.colours[owners[-1]], self._x(first), y, count * self.cell, title)
            for first, count in self.strips.new_cells(number) if place else ():
                yield self._new(self._x(first), y, count * self.cell)
            if place and not self.narrow:
                yield self._text(self.said[number], self.end + 12.0, y + 13.0)
        yield from self._legend()

    def _axis(self) -> Iterator[str]:
        for label, x, anchor in self._labels():
            yield self._text(label, x, 18.0, anchor)
        for span in self.strips.spans:
            last = span.first + span.cells - 1
            if last + 1 < self.strips.cells:
                yield self._gap(self._x(last) + self.cell)
        if self.cut_at_end:
            yield self._gap(self.end - self.break_)

    def _labels(self) -> Iterator[tuple[str, float, str | None]]:
        """Return the labels of the axis that have room, each with its place and anchor."""
        size, taken = human_size(self.blocks.size), -1.0
        # The size of the disk comes last; between narrow strips it has its room from the labels before it.
        most = self.end - text_width(size) - 6.0 if self.narrow and self.cut_at_end else self.end + _BREAK
        for span in self.strips.spans:
            last = span.first + span.cells - 1
            for place, x, anchor in (
                (span.start, self._x(span.first), None),
                (span.end, self._x(last) + self.cell, "end"),
            ):
                label = human_size(place) if place else "0"
                start = x - text_width(label) if anchor else x
                if start > taken and start + text_width(label) <= max(most, x if anchor else 0.0):
                    yield label, x, anchor
                    taken = start + text_width(label) + 6.0
        if self.cut_at_end:
            inside = self.narrow and taken <= most + 6.0
            yield (size, self.end, "end") if inside else (size, max(self.end, taken), None)

    def _gap(self, x: float) -> str:
        """Draw the sign for a part of the disk that is left out, through all strips; between narrow ones is text."""
        tops = [self.top + place * self.step for place in range(len(self.rows))]
        ends = [(top, top + _HIGH) for top in tops] if self.narrow else [(self.top, tops[-1] + _HIGH)]
        shifts = (3.0, 6.0) if self.narrow else (5.0, 10.0)
        path = "".join(f"M{x + shift:.1f} {top + 2:.1f}V{end - 2:.1f}" for shift in shifts for top, end in ends)
        line = {"d": path, "fill": "none", "stroke": GREY, "stroke-dasharray": "2 3"}
        return tag("g", {"class": "cut"}, tag("title", {}, escape(t("no data is stored here"))), tag("path", line))

    def _legend(self) -> Iterator[str]:
        x, y = self.left, self.bottom - _LEGEND_LINE * (len(self.legend) if self.narrow else 1) - 3.0
        for kind, word in self.legend:
            sign = self._new(x, y - _HIGH / 2, 18.0) if kind is None else self._part(kind, GREY, x, y, 18.0, "")
            yield tag("g", {"class": "legend"}, sign)
            yield self._text(word, x + 24.0, y + 13.0)
            if self.narrow:
                y += _LEGEND_LINE
            else:
                x += 24.0 + text_width(word) + 18.0

    def _new(self, x: float, y: float, wide: float) -> str:
        """Underline a part that is new."""
        line = {"class": "new", "x": x, "y": y + _HIGH + 1.5, "width": wide, "height": 3.0, "fill": INK.light}
        return tag("rect", line, tag("title", {}, escape(t(NEW))))

    def _part(self, kind: Kind, colour: str, x: float, y: float, wide: float, title: str) -> str:
        """Draw a part: full height for what is read, low and outlined for what is hidden, a line for zeros."""
        look: dict[str, object] = {"fill": colour}
        top, tall = y + 1.0, _HIGH - 2.0
        if kind == "hidden":
            look = {"fill": colour, "fill-opacity": 0.15, "stroke": colour, "stroke-dasharray": "2 1"}
            top, tall = y + _HIGH / 2, _HIGH / 2 - 1.0
        elif kind == "zero":
            top, tall = y + _HIGH / 2, 2.0
        inside = [tag("title", {}, escape(title))] if title else []
        return tag(
            "rect", {"class": kind if title else None, "x": x, "y": top, "width": wide, "height": tall, **look}, *inside
        )

    def _text(self, text: str, x: float, y: float, anchor: str | None = None) -> str:
        halo = {"stroke": PAPER.light, "stroke-width": 3, "stroke-linejoin": "round", "paint-order": "stroke"}
        return tag("text", {"x": x, "y": y, "text-anchor": anchor, "fill": INK.light, **halo}, escape(text))


def strips_bundle(
    blocks: BlockMap, include: Container[str] | None = None, exclude: Container[str] | None = None
) -> dict[str, str]:
    """Return what a notebook may show: the picture as SVG and in HTML, and the text."""
    text, svg = strips_text(blocks), strips_svg(blocks)
    summary, shown_text = escape(t("As text")), escape(text)
    scope = scope_of(svg)
    style = narrow_style(scope, least_width(svg))
    picture = f'<div class="vmsnap-scroll" tabindex="0" style="overflow-x: auto">{svg}</div>'
    narrow = f'<div class="vmsnap-narrow" tabindex="0" style="display:none">{strips_svg(blocks, narrow=True)}</div>'
    html = (
        f'<div class="vmsnap {scope}"><style>{style}</style><div class="vmsnap-picture">{picture}{narrow}</div>'
        f"<details><summary>{summary}</summary><pre{UNWRAPPED}>{shown_text}</pre></details></div>"
    )
    bundle = {"image/svg+xml": svg, "text/html": html, "text/plain": text}
    return {
        kind: value
        for kind, value in bundle.items()
        if (not include or kind in include) and (not exclude or kind not in exclude)
    }
