"""What an object gives a notebook to show: SVG, HTML and text in one bundle.

Of several MIME types JupyterLab (``defaultRank`` 50 against 80), nbconvert (``display_data_priority``) and VS Code all
take ``text/html`` before ``image/svg+xml``, so the HTML holds the whole: picture, concerns and table. GitHub, and
JupyterLab with a notebook that is not trusted, clean the HTML of ``<style>`` and ``<svg>``; the text figure in it,
which only that style hides, then appears in the picture's place. ``image/svg+xml`` is the picture alone, for those
that take no HTML (nbconvert to LaTeX), and ``text/plain`` the text figure, for terminals. ``image/png``, for viewers
that take no SVG at all, is drawn only when it is asked for by name, since that takes a tenth of a second:
``display(thing, include=["image/png", "text/plain"])``.
"""

from __future__ import annotations

from collections.abc import Container

from vmsnap_nb.model.shown import Shown
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.report import Report
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Figure, Options
from vmsnap_nb.views.html import details, page
from vmsnap_nb.views.narrow import narrowed
from vmsnap_nb.views.pictures import png_of
from vmsnap_nb.views.svg import figure_svg
from vmsnap_nb.views.tables import table_of
from vmsnap_nb.views.text import to_text

__all__ = ["details_html", "mimebundle", "narrow_svg"]

_ZOOM = 2
_FEW = 3  # boxes side by side that have room in every column


def mimebundle(
    thing: Shown, include: Container[str] | None = None, exclude: Container[str] | None = None
) -> dict[str, str | bytes]:
    """Return what a notebook may show of an object, by MIME type."""

    def wanted(kind: str) -> bool:
        return (not include or kind in include) and (not exclude or kind not in exclude)

    bundle: dict[str, str | bytes] = {}
    text = to_text(thing) if wanted("text/plain") or wanted("text/html") else ""
    png = include is not None and "image/png" in include and wanted("image/png")
    if png or wanted("image/svg+xml") or wanted("text/html"):
        figure = figure_of(thing, Options())
        svg = figure_svg(figure)
        if wanted("image/svg+xml"):
            bundle["image/svg+xml"] = svg
        if png:
            bundle["image/png"] = png_of(svg, zoom=_ZOOM)
        if wanted("text/html"):
            narrow = narrow_svg(thing, figure)
            bundle["text/html"] = page(thing, figure, text, table_of(thing), svg=svg, narrow=narrow)
    if wanted("text/plain"):
        bundle["text/plain"] = text
    return bundle


def details_html(thing: Plan | Report) -> str:
    """Return what the HTML says beside the picture: concerns, steps and the like."""
    return details(thing, figure_of(thing, Options()), table_of(thing))


def narrow_svg(thing: Shown, figure: Figure) -> str:
    """Return a picture with narrower boxes, or an empty text where there is no need of one.

    It also has longer folds, since what is saved is read on telephones, too; of a plan all that it does is shown if
    there is room.
    """
    if all(box.column < _FEW for block in figure.blocks for box in block.boxes):
        return ""
    if not isinstance(thing, Plan | Report):
        figure = figure_of(thing, Options(columns=_FEW + 1))
    return narrowed(figure, lambda columns: figure_of(thing, Options(columns=columns)))[1]
