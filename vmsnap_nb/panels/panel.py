"""What all panels have in common: data that is kept up to date, a flow for plans, and an activity log."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from html import escape
from typing import Any

import ipywidgets as widgets
import traitlets

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.live.guest import Guest
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.panels.activity import Activity
from vmsnap_nb.panels.chain_view import ChainView, with_static
from vmsnap_nb.panels.decision import brief_html
from vmsnap_nb.panels.flow import Flow, Remedy
from vmsnap_nb.panels.local_time import LocalTimes, time_html
from vmsnap_nb.panels.source import Reading, Source, Subject, own_images
from vmsnap_nb.views.shown_text import distinct_names, natural
from vmsnap_nb.words.language import one_language
from vmsnap_nb.words.message import t

__all__ = [
    "Fold",
    "Panel",
    "choose",
    "fold",
    "group",
    "heading",
    "heading_text",
    "in_thread",
    "names_of",
    "paragraph",
    "row",
]


class Panel(widgets.VBox):
    """A panel that repeatedly reads its subject in a thread while the panel is displayed, until you close it.

    Parameters
    ----------
    subject : Guest, Host or LiveForest
        The object that the panel shows.
    activity : Activity, optional
        A log that several panels share. By default, the panel has its own log.
    every : float
        The number of seconds between two readings. If 0, only `refresh` reads the subject.

    Attributes
    ----------
    flow : Flow
        The part that shows the plan, the confirmation, the progress and the report.
    chain : ChainView
        The figure of the panel.
    last_error : Exception or None
        The last error of the flow, or the error of the last reading.
    """

    last_error = traitlets.Instance(Exception, allow_none=True)
    children: Any  # the trait of the box, which has no type

    def __init__(self, subject: Subject, *, activity: Activity | None = None, every: float = 1.0) -> None:
        self.source = Source(subject)
        self.activity = Activity() if activity is None else activity
        self.flow = Flow(self.activity, self.refresh, self.remedies)
        self.flow.observe(lambda change: setattr(self, "last_error", change["new"]), "last_error")
        self.flow.draw = self._draw_plan
        self.flow.follow = lambda part: setattr(self.chain, "progress", part)
        self.flow.closed = lambda _: self.reset()
        self.chain = ChainView(can_propose=False)
        self._drawn: Shown = Forest()
        self.reading: Reading | None = None
        self.time_line = LocalTimes().add_class("vmsnap-time")
        self._reading_lock = threading.Lock()
        self._closed = threading.Event()
        super().__init__()
        self.add_class("vmsnap-panel")
        self.begun = widgets.HTML()
        self.complete = widgets.Button(
            description=t("Complete operation"),
            tooltip=t("plan how to finish or undo the operation"),
            layout=widgets.Layout(width="auto"),
        )
        self.complete.on_click(lambda _: self._finish())
        self.unfinished = row(self.begun, self.complete).add_class("vmsnap-banner")
        self.unfinished.layout.display = "none"
        self.build()
        self.children = (self.unfinished, *self.children)
        self.refresh()
        if every > 0:
            threading.Thread(target=self._watch, args=(every,), name="vmsnap panel watch", daemon=True).start()

    def build(self) -> None:
        """Create the controls: each panel has its own."""
        self.children = (self.time_line, self.chain, self.flow, self.flow.decision)

    def update(self, reading: Reading) -> None:
        """Show what was read: each panel adds its own."""
        if self.source.guest is not None:  # other guests are below it, folded
            self.chain.first = tuple(disk.source for one in reading.domains for disk in one.disks if disk.source)
            self.chain.only = own_images(reading.shown, self.source.guest.name)
        self.draw(reading.shown)

    def reset(self) -> None:
        """Set the controls to their defaults, after a plan has run: each panel has its own."""

    def draw(self, thing: Shown) -> None:
        """Show something in the figure; a plan that waits for a decision stays there until the decision is made."""
        self._drawn = thing
        if self.flow.plan is None:
            self.chain.show(thing)

    def _draw_plan(self, plan: LivePlan | None) -> None:
        """Show a plan in the place of the figure, where it was clicked, and bring it into view."""
        self.chain.show(self._drawn if plan is None else plan)
        if plan is not None:
            self.chain.look += 1

    def remedies(self, plan: LivePlan) -> Iterator[Remedy]:
        """Return what can be done here about the concerns of a plan that is refused; a panel may add its own."""
        refusing = [concern for concern in plan.concerns if concern.level == "refuse"]
        holders = {name for concern in refusing if concern.name == "in-use" for name in concern.holders}
        running = dict.fromkeys(use.guest for use in plan.before.uses if use.running and use.guest in holders)
        host = self.source.host
        if host is not None:
            for name in running:
                yield t("Shut down {guest}", guest=name), partial(self._shut_down, host.guest(name))
        if any(concern.name == "active-job" for concern in refusing):
            yield t("Complete the interrupted merge"), self._finish

    def _shut_down(self, guest: Guest) -> None:
        self.flow.resolve(t("Shut down {guest}", guest=guest.name), guest.shutdown)

    def _finish(self) -> None:
        def make() -> LivePlan:
            unfinished = self.source.unfinished()
            if not unfinished:
                raise NotFoundError(
                    t("complete an interrupted merge"),
                    why=t("no merge was interrupted"),
                    next_step=t("wait for the running block job to end"),
                )
            return unfinished[0]

        self.flow.propose(make, f"{self.source.called}.unfinished()[0]", t("Complete operation"))

    def refresh(self) -> None:
        """Read the subject again now; if this fails, the error is shown in place of the time."""
        with self._reading_lock, one_language():
            try:
                reading = self.source.read()
                if reading.differs(self.reading):
                    self.update(reading)
                self._tell_begun(reading)
                self.reading = reading
            except Exception as error:  # noqa: BLE001 - shown to the user, whatever it is
                if str(error) != str(self.last_error):
                    self.last_error = error
                    self.activity.add(t("read the images"), str(error))
                self.time_line.value = f'<pre role="alert">{escape(str(error))}</pre>'
                return
            now = escape(t("Read at {time}", time="{time}")).format(time=time_html(datetime.now(UTC), zone=True))
            self.time_line.value = f"<small>{now}</small>"

    def _tell_begun(self, reading: Reading) -> None:
        """Say what an earlier process may have left half done; while this panel runs a plan, that is its own."""
        begun = () if self.flow.busy else reading.begun
        lines = "<br>".join(brief_html(one.what) for one in begun)
        self.begun.value = lines and f'<div class="vmsnap-begun" role="alert">{lines}</div>'
        self.unfinished.layout.display = "" if begun else "none"
        self.complete.layout.display = "none" if all(one.is_running for one in begun) else None

    def _watch(self, every: float) -> None:
        seen = False
        while not self._closed.wait(every):
            # One whose cell was run again is still there, but nobody sees it; it reads on when it is shown again.
            seen = seen or self.is_shown
            if self.is_shown or not seen:
                self.refresh()

    @property
    def is_shown(self) -> bool:
        """Whether a page shows it."""
        return self.chain.views > 0

    def close(self) -> None:
        """Stop reading, and remove the panel from the page."""
        self._closed.set()
        super().close()

    @property
    def shown(self) -> Shown:
        """What is shown to a reader without a kernel."""
        return Forest() if self.reading is None else self.reading.shown

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return with_static(super()._repr_mimebundle_(**kwargs), self.shown)


def names_of(images: Iterable[Image]) -> list[tuple[str, str]]:
    """Return for each image a name that no other has, and its path: the options of a list."""
    names = distinct_names((image.path, image.name) for image in images)
    return sorted(((name, path) for path, name in names.items()), key=lambda option: natural(option[0]))


def row(*controls: Any) -> Any:
    """Put controls side by side, as many as there is room for."""
    return widgets.HBox(controls).add_class("vmsnap-row")


def group(title: str, *controls: Any) -> Any:
    """Put controls that belong together one below the other under a heading."""
    return widgets.VBox([heading(title), *controls]).add_class("vmsnap-group")


class Fold(widgets.VBox):
    """Controls under a heading that opens and closes them."""

    unfolded = traitlets.Bool(False)
    title = traitlets.Unicode("")

    def __init__(self, title: str, controls: Iterable[Any]) -> None:
        self._head = widgets.ToggleButton(layout=widgets.Layout(width="auto")).add_class("vmsnap-fold")
        self._body = widgets.VBox(list(controls))
        super().__init__([self._head, self._body])
        traitlets.link((self, "unfolded"), (self._head, "value"))
        self.observe(lambda _: self._fit(), ["unfolded", "title"])
        self.title = title
        self._fit()

    def _fit(self) -> None:
        self._head.description = f"{'▾' if self.unfolded else '▸'} {self.title}"
        self._body.layout.display = None if self.unfolded else "none"


def fold(title: str, *controls: Any) -> Fold:
    """Put controls that are seldom needed under a heading that opens them, in a group of their own."""
    made = Fold(title, controls)
    made.add_class("vmsnap-group")
    return made


def paragraph(text: str) -> Any:
    """Return a sentence among the controls."""
    return widgets.HTML(f"<p>{escape(text)}</p>")


def heading(title: str) -> Any:
    """Return a heading, whose value is `heading_text`."""
    return widgets.HTML(heading_text(title)).add_class("vmsnap-heading")


def heading_text(title: str) -> str:
    """Return what a heading shows, as HTML: to change one that is there."""
    return f'<div role="heading" aria-level="3">{escape(title)}</div>'


def in_thread(flow: Flow, act: Callable[[], None]) -> None:
    """Do what takes time beside the kernel; an error is shown in the flow."""
    threading.Thread(target=lambda: flow.guarded(act), name="vmsnap panel", daemon=True).start()


def choose(control: Any, options: Iterable[tuple[str, str]]) -> None:
    """Set the options of a list; the chosen one stays chosen if it is still there, or else nothing is chosen."""
    options = list(options)
    if list(control.options) == options:
        return
    value = control.value if control.value in [key for _, key in options] else None
    control.options = options  # this chooses the first one
    control.value = value
