"""A place for plans that is only a list."""

from __future__ import annotations

from collections.abc import Callable

from support.forests import forest, image
from vmsnap_nb.live.place import Place
from vmsnap_nb.live.plan import LivePlan
from vmsnap_nb.plans.overlay.request import OverlayRequest
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.step import CreateOverlay


class ListWorld:
    """Keeps its forest in memory; the file called `bad` cannot be made."""

    def __init__(self, hook: Callable[[str], None] = lambda path: None) -> None:
        self.forest = forest(image("base"))
        self.hook = hook
        self.readonly = ""

    def create(self, step: CreateOverlay) -> Callable[[], None]:
        self.hook(step.path)
        before = self.forest
        self.forest = before.edited(put=[image(step.path, step.backing.key)])

        def undo() -> None:
            self.forest = self.forest.edited(drop=[step.path])

        return undo

    def plan(self, *paths: str, size: int | None = None) -> LivePlan:
        return LivePlan.bind(
            OverlayRequest(paths=paths, backing="/i/base", size=size),
            Place(lambda: Reading(forest=self.forest), lambda now, _: now, {CreateOverlay: self.create}, self.readonly),
        )
