"""A figure whose boxes can be clicked: what `panels/chain_view.js` shows, in a notebook or on a page of its own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from vmsnap_nb.model.shown import Shown
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Options
from vmsnap_nb.views.narrow import narrowed
from vmsnap_nb.views.states import has_change, switch, switch_style
from vmsnap_nb.views.svg import figure_svg, least_width
from vmsnap_nb.views.text import to_text
from vmsnap_nb.words.message import Message, t

__all__ = ["Clickable", "clickable", "spoken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clickable:
    """A figure, and what each of its boxes is."""

    svg: str
    text: str
    summary: str
    boxes: dict[str, str] = field(default_factory=dict)  # by number: the path of an image, or the name of a snapshot
    least: int = 0  # pixels of a column: in a narrower one it is to be drawn for a narrow one
    switch: str = ""  # of a plan, between before, change and after


def clickable(
    thing: Shown, scope: str, *, narrow: bool = False, first: Collection[str] = (), only: Collection[str] = ()
) -> Clickable:
    """Return the figure of an object, which may be for a narrow column.

    `scope` is a class of the element that it is shown in; `first` and `only` are as in `Options`.
    """
    figure = figure_of(thing, Options(first=first, only=only))
    svg = wide = figure_svg(figure)
    if narrow:
        figure, svg = narrowed(
            figure, lambda columns: figure_of(thing, Options(first=first, only=only, columns=columns))
        )
    boxes = {
        f"{number}-{place}": meant
        for number, block in enumerate(figure.blocks)
        for place, box in enumerate(block.boxes)
        if (meant := box.path if box.path is not None else box.snapshot) is not None
    }
    states = f"<style>{switch_style(scope)}</style>{switch(scope)}" if has_change(figure) else ""
    return Clickable(
        svg=svg,
        least=least_width(wide),
        text=to_text(thing),
        summary=figure.summary,
        boxes=boxes,
        switch=states,
    )


def spoken() -> dict[str, str]:
    """Return what the JavaScript itself says, as plain texts: not each front end takes a message for one."""
    words: dict[str, Message | str] = {
        "zoom_in": t("Zoom in"),
        "zoom_out": t("Zoom out"),
        "fit": t("Fit"),
        "fit_title": t("Fit to width"),
        "refused": t("refused: {why}", why="{why}"),
        "wait": "…",
        "carry": t("Merge {image}: go to another image and press Enter, or Escape to cancel.", image="{image}"),
    }
    return {name: str(text) for name, text in words.items()}
