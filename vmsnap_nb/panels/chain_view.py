"""The figure of images or snapshots, alive: select by a click or Enter, drag one onto another to propose a merge."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.plans.merge.dragged import Verdict
from vmsnap_nb.views.clickable import Clickable, clickable, spoken
from vmsnap_nb.views.strips import strips_text, summary_of
from vmsnap_nb.views.strips_svg import strips_svg
from vmsnap_nb.views.svg import least_width

__all__ = ["ChainView"]

_HERE = Path(__file__).parent


class ChainView(anywidget.AnyWidget):
    """A figure in which images, or snapshots, can be selected.

    Parameters
    ----------
    thing : Shown, optional
        A Forest, Chain, Plan or SnapshotList. Default: an empty forest. `show` displays another object.

    Attributes
    ----------
    selected : str or None
        The path of the selected image, or the name of the selected snapshot; None if the selected object no longer
        exists. You can observe this trait.
    proposed : list of str
        Two paths, after one image has been dragged onto another: first the dragged image, then the target. You can
        observe this trait.
    can_propose : bool
        Whether images can be dragged.
    judge : callable
        A function that takes the path of a dragged image, and returns the `Verdict` for each other image.
    views : int
        The number of places on pages where this view is shown; closed pages are still counted.
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
    is_narrow = traitlets.Bool(False).tag(sync=True)  # where the page has less room than `least`
    least = traitlets.Int(0).tag(sync=True)  # pixels that the figure takes if it is not drawn for a narrow column
    progress = traitlets.Float(None, allow_none=True).tag(sync=True)  # of a plan that runs: from 0 to 1
    look = traitlets.Int(0).tag(sync=True)  # counted up, it brings the figure into view
    words: Any = traitlets.Dict({}).tag(sync=True)  # what the JavaScript says

    def __init__(self, thing: Shown | None = None, **options: Any) -> None:
        options.setdefault("scope", f"vmsnap-view-{secrets.token_hex(4)}")
        super().__init__(words=spoken(), **options)
        self.judge: Callable[[str], Iterable[Verdict]] = lambda _: ()
        self._question = 0
        self.on_msg(lambda _, content, __: self._asked(content))
        self.thing: Shown | BlockMap = Forest()
        self.first: tuple[str, ...] = ()  # images whose branches come first
        self.only: frozenset[str] = frozenset()  # what is drawn one by one, unless it is empty: the rest is folded
        self.show(Forest() if thing is None else thing)
        self.observe(lambda _: self._again(), "is_narrow")

    def show(self, thing: Shown) -> None:
        """Show another object. The selection remains if the selected object still exists.

        Parameters
        ----------
        thing : Shown
            A Forest, Chain, Plan or SnapshotList.
        """
        self.thing = thing
        self._draw(clickable(thing, self.scope, narrow=self.is_narrow, first=self.first, only=self.only))

    def show_map(self, blocks: BlockMap) -> None:
        """Show a block map instead.

        Parameters
        ----------
        blocks : BlockMap
            The map; it has no boxes to select.
        """
        self.thing = blocks
        wide = strips_svg(blocks)
        svg = strips_svg(blocks, narrow=True) if self.is_narrow else wide
        self._draw(Clickable(svg=svg, text=strips_text(blocks), summary=summary_of(blocks), least=least_width(wide)))

    def _again(self) -> None:
        """Draw the same for another width."""
        if isinstance(self.thing, BlockMap):
            self.show_map(self.thing)
        else:
            self.show(self.thing)

    def _draw(self, found: Clickable) -> None:
        with self.hold_trait_notifications():
            self.boxes, self.text, self.summary, self.switch = found.boxes, found.text, found.summary, found.switch
            self.progress, self.least = None, found.least
            self.svg = found.svg  # the last one: with it all is drawn
            if self.selected is not None and self.selected not in found.boxes.values():
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
