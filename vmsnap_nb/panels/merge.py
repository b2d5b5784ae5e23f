"""Merging by mouse: which image into which, seen before it happens."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.panels.panel import Panel, choose
from vmsnap_nb.panels.source import Reading

__all__ = ["MergePanel"]


class MergePanel(Panel):
    """Choose two images by list, by click or by dragging one onto another; see the plan; confirm."""

    def build(self) -> None:
        """Make the controls."""
        self.direction = widgets.ToggleButtons(
            options=[("Commit (data down)", "commit"), ("Pull (data up)", "pull"), ("Shorten", "shorten")],
            value="commit",
            description="Direction",
            style={"button_width": "auto"},
        )
        self.top = widgets.Dropdown(description="Top", options=[], value=None)
        self.base = widgets.Dropdown(description="Base", options=[], value=None)
        self.keep = widgets.BoundedIntText(description="Keep", value=2, min=1, max=200, tooltip="images that remain")
        self.remove = widgets.Checkbox(description="Remove the merged files in the end", indent=False)
        self.plan_button = widgets.Button(description="Plan merge")
        self.plan_button.on_click(lambda _: self.flow.guarded(self.propose))
        self.chain.observe(self._clicked, "selected")
        self.chain.observe(self._dragged, "proposed")
        form = widgets.VBox([self.direction, self.top, self.base, self.keep, self.remove, self.plan_button])
        self.children = (self.time_line, self.chain, form, self.flow)

    def update(self, reading: Reading) -> None:
        """Show what was read."""
        super().update(reading)
        images = [(image.name, image.path) for image in reading.shown]
        choose(self.top, [pair for pair in images if reading.shown.parent(pair[1]) is not None])
        choose(self.base, [("(the next below, or none)", ""), *images])

    def _clicked(self, change: Any) -> None:
        if change["new"] in [path for _, path in self.top.options]:
            self.top.value = change["new"]

    def _dragged(self, change: Any) -> None:
        if len(change["new"]) == 2:
            self.flow.guarded(lambda: self.merge_onto(*change["new"]))

    def merge_onto(self, source: str, target: str) -> None:
        """Plan what dragging one image onto another means: down is a commit, up is a pull.

        Parameters
        ----------
        source, target : str
            Paths.

        Raises
        ------
        InvalidRequestError
            Neither stands on the other.
        """
        assert self.reading is not None
        shown = self.reading.shown
        if target in shown.lineage(source)[1:]:
            self.direction.value, self.top.value, self.base.value = "commit", source, target
        elif source in shown.lineage(target)[1:]:
            # Data of `source`, and of all between, goes up: what remains below is what `source` stands on.
            self.direction.value, self.top.value, self.base.value = "pull", target, shown.parent(source) or ""
        else:
            raise InvalidRequestError(
                f"merge {source} and {target}",
                said="neither stands on the other",
                next_step="drag an image onto one of the same chain",
            )
        self.propose()

    def propose(self) -> None:
        """Plan it.

        Raises
        ------
        InvalidRequestError
            No image was chosen.
        """
        top, base, way = self.top.value, self.base.value or None, self.direction.value
        keep, remove = self.keep.value, self.remove.value
        if not top or self.reading is None:
            raise InvalidRequestError(
                "plan a merge", said="no image was chosen", next_step="choose the top in the figure or in the list"
            )
        forest, guest = self.reading.forest, self.source.guest
        live = guest is not None and guest.running

        def make() -> LivePlan:
            if way == "shorten":
                return forest.refresh().shorten(top, keep=keep, remove=remove)
            if live and guest is not None:
                if way == "commit":
                    return guest.commit(top=top, base=base, remove=remove)
                return guest.pull(into=top, base=base, remove=remove)
            now = forest.refresh()
            return now.commit(top, base, remove=remove) if way == "commit" else now.pull(top, base, remove=remove)

        if way == "shorten":
            code = f"forest.shorten({top!r}, keep={keep}, remove={remove}).run()"
        elif live:
            first = "top" if way == "commit" else "into"
            code = f"guest.{way}({first}={top!r}, base={base!r}, remove={remove}).run()"
        else:
            code = f"forest.{way}({top!r}, {base!r}, remove={remove}).run()"
        self.flow.propose(make, code)
