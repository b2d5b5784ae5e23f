"""What it means to drag one image onto another: down is a commit, up is a pull."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.size import human_size
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.words.message import Message, t

__all__ = ["Dragged", "Verdict", "dragged", "verdicts"]

Verdict = tuple[str, str, str]
"""The path of an image, what a merge of the dragged image with it does, and why that is refused, or an empty text."""


@dataclass(frozen=True, slots=True)
class Dragged:
    """The merge that is meant."""

    way: Literal["commit", "pull"]
    top: str
    base: str  # empty for none: the top needs no backing file afterwards


def dragged(forest: Forest, source: str, target: str) -> Dragged | None:
    """Return the merge that dragging one image onto another means; None if neither is based on the other."""
    if target in forest.known_lineage(source)[1:]:
        return Dragged("commit", source, target)
    if source in forest.known_lineage(target)[1:]:
        # Data of `source`, and of all between, goes up: what remains below is what `source` is based on.
        return Dragged("pull", target, forest.parent(source) or "")
    return None


def verdicts(forest: Forest, source: str, plan_of: Callable[[Dragged], Plan]) -> Iterator[Verdict]:
    """Plan the merge of an image with each other one: unrelated ones first, of them that is known already."""
    others = [path for path in forest.images if path != source]
    related = {path: meant for path in others if (meant := dragged(forest, source, path)) is not None}
    yield from ((path, "", t("neither image is based on the other")) for path in others if path not in related)
    for path, meant in related.items():
        try:
            plan = plan_of(meant)
        except VmsnapError as error:
            yield path, "", error.reason
            continue
        refusing = [concern.what for concern in plan.concerns if concern.level == "refuse"]
        yield path, _does(plan, meant.way), refusing[0] if refusing else ""


def _does(plan: Plan, way: str) -> Message:
    size = plan.bytes_to_copy
    if size is None:
        return t("commit") if way == "commit" else t("pull")
    amount = human_size(size)
    return t("commit {size}", size=amount) if way == "commit" else t("pull {size}", size=amount)
