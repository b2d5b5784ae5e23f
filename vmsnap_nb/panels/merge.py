"""Merging by mouse: which image into which, seen before it happens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import ipywidgets as widgets

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.panels.call import Call
from vmsnap_nb.panels.flow import Remedy
from vmsnap_nb.panels.panel import Panel, choose, group, in_thread, names_of, row
from vmsnap_nb.panels.source import Reading

__all__ = ["MergePanel"]

_HINT = "Drag one image onto another, or choose here. By keyboard: m on the one, Enter on the other."
_NOTHING = "There is nothing to merge: no image here stands on another."
_WAYS = {
    "commit": "Data of the top, and of what lies between, goes down into the base; the merged files become invalid.",
    "pull": "Data of what lies between goes up into the top, which then stands on the base; all files stay valid.",
    "shorten": "Of the chain below the top, as many images remain as you say; the plan finds the cheapest way.",
    "remove": "The top alone goes: its data is kept by a neighbour in the chain, and its file is removed.",
}


class MergePanel(Panel):
    """Choose two images by list, by click or by dragging one onto another; see the plan; confirm."""

    def build(self) -> None:
        """Make the controls."""
        self.direction = widgets.ToggleButtons(
            options=[
                ("Commit (data down)", "commit"),
                ("Pull (data up)", "pull"),
                ("Shorten", "shorten"),
                ("Take one out", "remove"),
            ],
            value="commit",
            description="Direction",
            style={"button_width": "auto"},
        )
        self.top = widgets.Dropdown(description="Top", options=[], value=None)
        self.base = widgets.Dropdown(description="Base", options=[], value=None)
        self.keep = widgets.BoundedIntText(description="Keep", value=2, min=1, max=200, tooltip="images that remain")
        self.remove = widgets.Checkbox(
            description="Remove the merged files in the end", indent=False, layout=widgets.Layout(width="auto")
        )
        self.verify = widgets.Checkbox(
            description="Read what every disk holds before and after, and compare",
            indent=False,
            layout=widgets.Layout(width="auto"),
        )
        self.limit = widgets.BoundedIntText(
            description="Limit MiB/s",
            value=0,
            min=0,
            max=1 << 20,
            tooltip="at most, while the guest runs; 0: no limit",
        )
        self.map_button = widgets.Button(description="Block map")
        self.map_view = widgets.HTML()
        self.map_button.on_click(lambda _: self.flow.guarded(self.show_map))
        self.plan_button = widgets.Button(description="Plan merge")
        self.plan_button.on_click(lambda _: self.flow.guarded(self.propose))
        self.flow.home = self.plan_button
        self.cleanup_button = widgets.Button(description="Clean up", tooltip="plan to remove what merges left invalid")
        self.cleanup_button.on_click(lambda _: self.flow.guarded(self.cleanup))
        self.explained = widgets.HTML()
        self.chain.observe(self._clicked, "selected")
        self.chain.observe(self._dragged, "proposed")
        self.chain.can_propose = True
        self.direction.observe(lambda _: self._fit(), "value")
        self._fit()
        self.hint = widgets.HTML()
        form = group(
            "Merge",
            self.hint,
            self.direction,
            self.explained,
            row(self.top, self.base, self.keep, self.limit),
            self.remove,
            self.verify,
            row(self.plan_button, self.map_button, self.cleanup_button),
        )
        self.children = (self.time_line, self.chain, form, self.map_view, self.flow)

    def _fit(self) -> None:
        """Show the controls that mean something for this direction."""
        way = self.direction.value
        copies = way in {"commit", "pull"}
        self.explained.value = f"<p>{_WAYS[way]}</p>"
        for control, wanted in (
            (self.base, copies),
            (self.limit, copies),
            (self.keep, way == "shorten"),
            (self.remove, way != "remove"),
        ):
            control.layout.display = None if wanted else "none"

    def update(self, reading: Reading) -> None:
        """Show what was read."""
        super().update(reading)
        self.cleanup_button.disabled = all(image.status != "invalid" for image in reading.shown)
        images = names_of(reading.shown)
        tops = [pair for pair in images if reading.shown.parent(pair[1]) is not None]
        self.hint.value = f"<p>{_HINT if tops else _NOTHING}</p>"
        choose(self.top, tops)
        choose(self.base, [("(the next below, or none)", ""), *images])
        if self.reading is None:  # for the first time
            self.base.value = ""

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
        top, way = self._top("plan a merge"), self.direction.value
        call = self._call_of_guest(top, way) or self._call_of_forest(top, way)
        self.flow.propose(call.plan, str(call))

    def _top(self, tried: str) -> str:
        if not self.top.value or self.reading is None:
            raise InvalidRequestError(
                tried, said="no image was chosen", next_step="choose the top in the figure or in the list"
            )
        return cast(str, self.top.value)

    def _call_of_guest(self, top: str, way: str) -> Call | None:
        """Ask the guest, if the image is in a chain of its own: it may run meanwhile, and its record follows."""
        assert self.reading is not None
        guest, forest = self.source.guest, self.reading.forest
        disks = guest.domain().disks if guest is not None else ()
        found = [disk for disk in disks if disk.source and disk.source in forest and top in forest.lineage(disk.source)]
        if not found or way == "remove" or (way == "shorten" and top != found[0].source):
            return None
        options: dict[str, Any] = {"disk": found[0].target, **self._wishes(way)}
        if way == "shorten":
            return Call(guest, self.source.called, "shorten", {"keep": self.keep.value, **options})
        image = {"commit": "top", "pull": "into"}[way]
        limit = {"bandwidth": self.limit.value << 20} if self.limit.value else {}
        return Call(guest, self.source.called, way, {image: top, "base": self.base.value or None, **limit, **options})

    def _call_of_forest(self, top: str, way: str) -> Call:
        assert self.reading is not None
        more = {"shorten": {"keep": self.keep.value}, "remove": {}}.get(way, {"base": self.base.value or None})
        image = "top" if way == "commit" else "image"
        return Call(self.reading.forest, self.source.forest_called, way, {image: top, **more, **self._wishes(way)})

    def _wishes(self, way: str) -> dict[str, bool]:
        wishes = {"remove": self.remove.value and way != "remove", "verify": self.verify.value}
        return {name: True for name, wish in wishes.items() if wish}

    def cleanup(self) -> None:
        """Plan to remove the files that merges have left invalid."""
        assert self.reading is not None
        call = Call(self.source.guest or self.reading.forest, self.source.called, "cleanup", {})
        self.flow.propose(call.plan, str(call))

    def remedies(self, plan: LivePlan) -> Iterator[Remedy]:
        """Give those of all panels, and a pull where a commit would spoil what somebody else reads."""
        yield from super().remedies(plan)
        if self.direction.value != "commit" or "shared-base" not in [concern.name for concern in plan.concerns]:
            return
        shown, top, base = plan.before, self.top.value, self.base.value
        above = shown.children(top)
        if len(above) == 1 or (base and shown.parent(top) != base):
            yield "Pull up instead", lambda: self._pull_instead(above[0] if len(above) == 1 else top)

    def _pull_instead(self, into: str) -> None:
        base = self.base.value or (self.reading and self.reading.shown.parent(self.top.value)) or ""
        self.direction.value, self.top.value, self.base.value = "pull", into, base
        self.propose()

    def show_map(self) -> None:
        """Show which layer of the chosen image's chain owns which part of the disk.

        Raises
        ------
        InvalidRequestError
            No image was chosen.
        """
        top = self._top("draw a block map")
        assert self.reading is not None
        forest = self.reading.forest

        def work() -> None:
            self.map_view.value = forest.blockmap(top)._repr_mimebundle_()["text/html"]

        in_thread(self.flow, work)
