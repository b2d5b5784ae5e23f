"""Merging by mouse: which image into which, seen before it happens."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any, cast

import ipywidgets as widgets

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.panels.call import Call
from vmsnap_nb.panels.flow import Remedy
from vmsnap_nb.panels.panel import Panel, choose, group, in_thread, names_of, row
from vmsnap_nb.panels.source import Reading
from vmsnap_nb.plans.merge.dragged import Verdict, dragged, verdicts
from vmsnap_nb.words.message import N_, Message, t

__all__ = ["MergePanel"]

_HINT = N_(
    "Drag one image onto another, or choose both here. With the keyboard, press m on the first image and Enter on "
    "the second."
)
_NOTHING = N_("There is nothing to merge, because no image here has a backing file.")
_WAYS = {
    "commit": N_(
        "Moves the data of the top and of the layers in between down into the base. The merged files become invalid."
    ),
    "pull": N_(
        "Copies the data of the layers in between up into the top, which is then based directly on the base. All "
        "files remain valid."
    ),
    "shorten": N_("Keeps the chosen number of images of the chain. The plan finds the way that copies the least data."),
    "remove": N_("Removes only the top image. Its data is merged into a neighbouring image, and its file is removed."),
}


_VERBS = {
    "commit": (N_("Merge…"), N_("Merge now")),
    "pull": (N_("Merge…"), N_("Merge now")),
    "shorten": (N_("Shorten…"), N_("Shorten now")),
    "remove": (N_("Remove image…"), N_("Remove image")),
}
"""What the buttons say that plan it and that do it: the same as the title of the plan."""


class MergePanel(Panel):
    """A panel for merges. Choose two images from lists, by clicking them, or by dragging one image onto another; then
    review the plan and confirm it.
    """

    def build(self) -> None:
        """Make the controls."""
        self.direction = widgets.ToggleButtons(
            options=[
                (t("Commit (data down)"), "commit"),
                (t("Pull (data up)"), "pull"),
                (t("Shorten"), "shorten"),
                (t("Remove one"), "remove"),
            ],
            value="commit",
            description=t("Direction"),
            style={"button_width": "auto"},
        )
        self.top = widgets.Dropdown(description=t("Top"), options=[], value=None)
        self.base = widgets.Dropdown(description=t("Base"), options=[], value=None)
        self.keep = widgets.BoundedIntText(
            description=t("Keep"), value=2, min=1, max=200, tooltip=t("images that remain")
        )
        self.remove = widgets.Checkbox(
            description=t("Remove the merged files afterwards"), indent=False, layout=widgets.Layout(width="auto")
        )
        self.verify = widgets.Checkbox(
            description=t("Read the content of every disk before and after, and compare"),
            indent=False,
            layout=widgets.Layout(width="auto"),
        )
        self.limit = widgets.BoundedIntText(
            description=t("Limit MiB/s"),
            value=0,
            min=0,
            max=1 << 20,
            tooltip=t("bandwidth limit while the guest is running; 0: no limit"),
        )
        self.map_button = widgets.Button(description=t("Block map"))
        self.map_view = widgets.HTML()
        self.map_button.on_click(lambda _: self.flow.guarded(self.show_map))
        self.plan_button = widgets.Button(description=t("Merge…"))
        self.plan_button.on_click(lambda _: self.flow.guarded(self.propose))
        self.flow.home = self.plan_button
        self.cleanup_button = widgets.Button(description=t("Clean up…"))
        self.cleanup_button.on_click(lambda _: self.flow.guarded(self.cleanup))
        self.explained = widgets.HTML()
        self.chain.observe(self._clicked, "selected")
        self.chain.observe(self._dragged, "proposed")
        self.chain.can_propose, self.chain.judge = True, self._judge
        self.direction.observe(lambda _: self._fit(), "value")
        self._fit()
        self.hint = widgets.HTML()
        self.choices = widgets.VBox(
            [
                self.direction,
                self.explained,
                row(self.top, self.base, self.keep, self.limit),
                self.remove,
                self.verify,
                row(self.plan_button, self.map_button, self.cleanup_button),
            ]
        )
        form = group(t("Merge"), self.hint, self.choices)
        self.children = (self.time_line, self.chain, form, self.map_view, self.flow, self.flow.decision)

    def _fit(self) -> None:
        """Show the controls that mean something for this direction."""
        way = self.direction.value
        copies = way in {"commit", "pull"}
        self.plan_button.description = t(_VERBS[way][0])
        self.explained.value = f"<p>{escape(t(_WAYS[way]))}</p>"
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
        clean = all(image.status != "invalid" for image in reading.shown)
        self.cleanup_button.disabled = clean
        planned, nothing = (
            t("plan the removal of files that merges left invalid"),
            t("no merge has left invalid files"),
        )
        self.cleanup_button.tooltip = nothing if clean else planned
        images = names_of(reading.shown)
        tops = [pair for pair in images if reading.shown.parent(pair[1]) is not None]
        self.hint.value = f"<p>{escape(t(_HINT if tops else _NOTHING))}</p>"
        self.choices.layout.display = None if tops or not clean else "none"
        self.plan_button.disabled, self.plan_button.tooltip = not tops, "" if tops else t(_NOTHING)
        choose(self.top, tops)
        choose(self.base, [(t("(the next below, or none)"), ""), *images])
        if self.reading is None:  # for the first time
            self.base.value = ""
            self.top.value = self._usual_top(reading)

    def reset(self) -> None:
        """Set the controls to their defaults."""
        self.direction.value, self.base.value, self.keep.value, self.limit.value = "commit", "", 2, 0
        self.remove.value = self.verify.value = False
        self.top.value = None if self.reading is None else self._usual_top(self.reading)

    def _usual_top(self, reading: Reading) -> str | None:
        """Return the image that is meant where none was chosen: the only one that can be the end of a chain."""
        shown = reading.shown
        active = [disk.source for domain in reading.domains for disk in domain.disks] if self.source.guest else []
        ends = [path for _, path in self.top.options if not shown.known_children(path)]
        ends = [path for path in ends if path in active] or ends
        return ends[0] if len(ends) == 1 else None

    def _clicked(self, change: Any) -> None:
        if change["new"] in [path for _, path in self.top.options]:
            self.top.value = change["new"]

    def _dragged(self, change: Any) -> None:
        if len(change["new"]) == 2:
            self.chain.proposed = []  # so that the same drag counts once more
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
            Neither is based on the other.
        """
        assert self.reading is not None
        meant = dragged(self.reading.shown, source, target)
        if meant is None:
            raise InvalidRequestError(
                t("merge {image} and {other}", image=source, other=target),
                why=t("neither image is based on the other"),
                next_step=t("drag an image onto another image of the same chain"),
            )
        self.direction.value, self.top.value, self.base.value = meant.way, meant.top, meant.base
        self.propose()

    def _judge(self, source: str) -> Iterator[Verdict]:
        """Plan the merge of an image with each other one."""
        assert self.reading is not None
        shown = self.reading.shown
        return verdicts(shown, source, lambda meant: self._call(meant.top, meant.way, meant.base).plan())

    def propose(self) -> None:
        """Plan it.

        Raises
        ------
        InvalidRequestError
            No image was chosen.
        """
        top, way = self._top(t("plan a merge")), self.direction.value
        call = self._call(top, way, self.base.value)
        self.flow.propose(call.plan, str(call), t(_VERBS[way][1]))

    def _top(self, tried: Message) -> str:
        if not self.top.value or self.reading is None:
            raise InvalidRequestError(
                tried, why=t("no image is selected"), next_step=t("select the top in the figure or in the list")
            )
        return cast(str, self.top.value)

    def _call(self, top: str, way: str, base: str | None) -> Call:
        return self._call_of_guest(top, way, base) or self._call_of_forest(top, way, base)

    def _call_of_guest(self, top: str, way: str, base: str | None) -> Call | None:
        """Ask the guest, if the image is in a chain of its own: it may run meanwhile, and its record follows."""
        assert self.reading is not None
        guest, forest = self.source.guest, self.reading.forest
        disks = guest.domain().disks if guest is not None else ()
        found = [
            disk
            for disk in disks
            if disk.source and disk.source in forest.images and top in forest.lineage(disk.source)
        ]
        if not found or way == "remove" or (way == "shorten" and top != found[0].source):
            return None
        options: dict[str, Any] = {"disk": found[0].target, **self._wishes(way)}
        if way == "shorten":
            return Call(guest, self.source.called, "shorten", {"keep": self.keep.value, **options})
        image = {"commit": "top", "pull": "into"}[way]
        limit = {"bandwidth": self.limit.value << 20} if self.limit.value else {}
        return Call(guest, self.source.called, way, {image: top, "base": base or None, **limit, **options})

    def _call_of_forest(self, top: str, way: str, base: str | None) -> Call:
        assert self.reading is not None
        more = {"shorten": {"keep": self.keep.value}, "remove": {}}.get(way, {"base": base or None})
        image = "top" if way == "commit" else "image"
        return Call(self.reading.forest, self.source.forest_called, way, {image: top, **more, **self._wishes(way)})

    def _wishes(self, way: str) -> dict[str, bool]:
        wishes = {"remove": self.remove.value and way != "remove", "verify": self.verify.value}
        return {name: True for name, wish in wishes.items() if wish}

    def cleanup(self) -> None:
        """Plan to remove the files that merges have left invalid."""
        assert self.reading is not None
        call = Call(self.source.guest or self.reading.forest, self.source.called, "cleanup", {})
        self.flow.propose(call.plan, str(call), t("Remove files"))

    def remedies(self, plan: LivePlan) -> Iterator[Remedy]:
        """Return those of all panels, and a pull where a commit would corrupt other overlays."""
        yield from super().remedies(plan)
        if self.direction.value != "commit" or "shared-base" not in [concern.name for concern in plan.concerns]:
            return
        shown, top, base = plan.before, self.top.value, self.base.value
        above = shown.known_children(top)
        if len(above) == 1 or (base and shown.parent(top) != base):
            yield t("Pull up instead"), lambda: self._pull_instead(above[0] if len(above) == 1 else top)

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
        top = self._top(t("draw a block map"))
        assert self.reading is not None
        forest = self.reading.forest

        def work() -> None:
            self.map_view.value = forest.blockmap(top)._repr_mimebundle_()["text/html"]

        in_thread(self.flow, work)
