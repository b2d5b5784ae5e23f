"""The figure of images or snapshots, alive: select by click or Enter, drag one onto another to propose a merge."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.views.draw import figure_of
from vmsnap_nb.views.figure import Options
from vmsnap_nb.views.states import has_change, switch, switch_style
from vmsnap_nb.views.strips import strips_text, summary_of
from vmsnap_nb.views.strips_svg import strips_svg
from vmsnap_nb.views.svg import figure_svg
from vmsnap_nb.views.text import to_text
from vmsnap_nb.words.message import t

__all__ = ["ChainView", "Verdict"]

_HERE = Path(__file__).parent

Verdict = tuple[str, str, str]
"""The path of an image, what a merge of the dragged image with it does, and why that is refused, or an empty text."""


class ChainView(anywidget.AnyWidget):
    """A figure in which images, or snapshots, can be selected.

    Parameters
    ----------
    thing : Shown, optional
        A Forest, Chain, Plan or SnapshotList; an empty forest if left out. `show` shows another.

    Attributes
    ----------
    selected : str or None
        Path of the selected image, or name of the selected snapshot; it clears when that is no longer there. To be
        observed.
    proposed : list of str
        Two paths, after one image was dragged onto another: the one that was dragged first. To be observed.
    can_propose : bool
        Whether images can be dragged.
    judge : callable
        Gives for a path, as an image is dragged, the `Verdict` of each other image.
    views : int
        How many pages, or places on a page, show it now; a page that was closed is not taken off.
    """

    _esm = _HERE / "chain_view.js"
    _css = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in ("chain_view.css", "panel.css"))
    svg = traitlets.Unicode("").tag(sync=True)
    text = traitlets.Unicode("").tag(sync=True)
    summary = traitlets.Unicode("").tag(sync=True)
    boxes = traitlets.Dict({}).tag(sync=True)
    selected = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    proposed = traitlets.List(traitlets.Unicode(), []).tag(sync=True)
    can_propose = traitlets.Bool(True).tag(sync=True)
    views = traitlets.Int(0).tag(sync=True)
    switch = traitlets.Unicode("").tag(sync=True)  # of a plan: before, change, after
    scope = traitlets.Unicode("").tag(sync=True)  # a class of its own, for the style sheet of that
    progress = traitlets.Float(None, allow_none=True).tag(sync=True)  # of a plan that runs: from 0 to 1
    look = traitlets.Int(0).tag(sync=True)  # counted up, it brings the figure into view
    words: Any = traitlets.Dict({}).tag(sync=True)  # what the JavaScript says

    def __init__(self, thing: Shown | None = None, **options: Any) -> None:
        words = {
            "zoom_in": t("Zoom in"),
            "zoom_out": t("Zoom out"),
            "fit": t("Fit"),
            "fit_title": t("Fit into the width"),
            "refused": t("refused: {why}", why="{why}"),
            "wait": "…",
            "carry": t("Merge {image}: go to another image and press Enter, or Escape to cancel.", image="{image}"),
        }
        options.setdefault("scope", f"vmsnap-view-{secrets.token_hex(4)}")
        super().__init__(words=words, **options)
        self.judge: Callable[[str], Iterable[Verdict]] = lambda _: ()
        self._question = 0
        self.on_msg(lambda _, content, __: self._asked(content))
        self.thing: Shown | BlockMap = Forest()
        self.show(Forest() if thing is None else thing)

    def show(self, thing: Shown) -> None:
        """Show this instead; what is selected stays so, if it is still there.

        Parameters
        ----------
        thing : Shown
            A Forest, Chain, Plan or SnapshotList.
        """
        figure = figure_of(thing, Options())
        boxes = {
            f"{number}-{place}": meant
            for number, block in enumerate(figure.blocks)
            for place, box in enumerate(block.boxes)
            if (meant := box.path if box.path is not None else box.snapshot) is not None
        }
        states = f"<style>{switch_style(self.scope)}</style>{switch(self.scope)}" if has_change(figure) else ""
        self.thing = thing
        self._draw(figure_svg(figure), to_text(thing), figure.summary, boxes=boxes, switch=states)

    def show_map(self, blocks: BlockMap) -> None:
        """Show a block map instead.

        Parameters
        ----------
        blocks : BlockMap
            It has no box to select.
        """
        self.thing = blocks
        self._draw(strips_svg(blocks), strips_text(blocks), summary_of(blocks))

    def _draw(self, svg: str, text: str, summary: str, *, boxes: Mapping[str, str] = {}, switch: str = "") -> None:
        with self.hold_trait_notifications():
            self.boxes, self.text, self.summary, self.switch = dict(boxes), text, summary, switch
            self.progress = None
            self.svg = svg  # the last one: with it all is drawn
            if self.selected is not None and self.selected not in boxes.values():
                self.selected = None

    def _asked(self, content: Any) -> None:
        """Answer in a thread, one image after the other, what a merge of one image with each other one would do."""
        self._question = question = int(content["question"])
        source = str(content["source"])

        def work() -> None:
            for verdict in self.judge(source):
                if question != self._question:
                    return
                self.send({"question": question, "verdicts": [verdict]})

        threading.Thread(target=work, name="vmsnap judge", daemon=True).start()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return with_static(super()._repr_mimebundle_(**kwargs), self.thing)


def with_static(bundle: Any, thing: Shown | BlockMap) -> Any:
    """Add what a reader without a kernel sees to what a widget gives a notebook."""
    data, *metadata = bundle if isinstance(bundle, tuple) else (bundle,)
    data = {**(data or {}), **{k: v for k, v in thing._repr_mimebundle_().items() if k in {"text/html", "text/plain"}}}
    return (data, *metadata) if metadata else data
