"""Pictures as values: SVG as text, and PNG as bytes, both of which show themselves in a notebook."""

from __future__ import annotations

import re
from typing import Any

from vmsnap_nb.errors import MissingPartError
from vmsnap_nb.model.number import check_above_zero, invalid
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Options
from vmsnap_nb.views.svg import figure_svg
from vmsnap_nb.words.message import t

__all__ = ["Png", "Svg", "png_of", "to_png", "to_svg"]


class Svg(str):
    """An ``<svg>`` element as text."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return f'<div class="vmsnap">{self}</div>'


class Png(bytes):
    """A picture as the content of a PNG file."""

    __slots__ = ()

    def _repr_png_(self) -> bytes:
        return bytes(self)


_SIDES = re.compile(r'<svg\b[^>]*? width="([\d.]+)" height="([\d.]+)"')
_MOST_PIXELS = 1 << 29
"""In a picture: each takes 4 bytes of memory."""


def to_svg(thing: Shown, **options: Any) -> Svg:
    """Return an object's figure as SVG."""
    return Svg(figure_svg(figure_of(thing, Options.of(**options))))


def to_png(thing: Shown, *, zoom: float, **options: Any) -> Png:
    """Return an object's figure as PNG."""
    return png_of(to_svg(thing, **options), zoom=check_above_zero(zoom, "zoom"))


def png_of(svg: str, *, zoom: float) -> Png:
    """Return an SVG as PNG on white paper; it takes a tenth of a second, so that no display does it unasked."""
    try:
        import resvg_py
    except ImportError as error:
        raise MissingPartError(
            t("create a PNG with the Python package resvg_py"),
            said=str(error),
            next_step=t('pip install "vmsnap_nb[png]", or use .to_svg()'),
        ) from error
    width, height = (float(side) for side in _SIDES.findall(svg)[0])
    if min(width, height) * zoom < 1 or (width * zoom) * (height * zoom) > _MOST_PIXELS:
        # where memory ends resvg would end this process
        rule = t(
            "a picture can have up to {most:,} pixels, and at {argument} this one has {width:.0f} × {height:.0f}",
            most=_MOST_PIXELS,
            argument="zoom=1",
            width=width,
            height=height,
        )
        raise invalid(zoom, "zoom", rule)
    # The colours of light paper are in the attributes; the style sheet has those of a page.
    plain = re.sub(r"<style>.*?</style>", "", svg, count=1, flags=re.DOTALL)
    return Png(resvg_py.svg_to_bytes(svg_string=plain, background="white", zoom=zoom))
