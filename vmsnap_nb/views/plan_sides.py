"""The two sides of a plan: the images before and after it, and what it does to each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.views.figure import Options
from vmsnap_nb.views.shown_text import clip, isolate, shown
from vmsnap_nb.views.trees import Graph, Mark, forest_graph, name_images
from vmsnap_nb.words.message import joined, t

__all__ = ["Sides", "lineages", "sides_of"]


@dataclass(frozen=True)
class Sides:
    """Both sides of a plan, with names that tell all images apart."""

    plan: Plan
    above: Graph  # before
    below: Graph  # after
    names: dict[str, str]
    gone: dict[str, Mark]  # what a plan does, to be said in the figure of the images before
    kept: dict[str, Mark]  # the same, in the figure of the images after


def sides_of(plan: Plan, after: Forest, options: Options) -> Sides:
    """Return the trees around the images that a plan is about, before and after it."""
    was = _around(plan, plan.before)
    # What was around an image that goes is still there, and must not look as if it went, too.
    left = after.tree(*(path for path in was.images if path in after.images))
    below = forest_graph(after.only({*_around(plan, after).images, *left.images}), options)
    above = forest_graph(was, options)
    below = replace(below, active=_active_after(plan, above, below))
    gone, kept = _marks(plan, above, below, told=options.style != "change")
    return Sides(plan, above, below, names=name_images(above, below), gone=gone, kept=kept)


def lineages(graph: Graph, paths: Iterable[str]) -> list[str]:
    """Return some images and all that they are based on, each under the name that the figure has for it."""
    forest = graph.forest
    return [forest.same_file(layer)[0] for path in paths if path in forest.images for layer in forest.lineage(path)]


def _around(plan: Plan, forest: Forest) -> Forest:
    """Return the trees that the plan is about."""
    touched = [path for step in plan.steps for path in (*step.creates, *step.writes, *step.unlinks, *step.invalidates)]
    paths = list(plan.subjects) or [*touched, *(move.source for move in plan.moves)]
    backing = [forest.parent(path) for path in paths if path in forest.images]
    present = [path for path in (*paths, *backing) if path is not None and path in forest.images]
    return forest.tree(*present) if paths else forest


def _active_after(plan: Plan, above: Graph, below: Graph) -> Callable[[str], bool]:
    """Return what is active then: a layer is not active only because the plan removes the overlays on it."""

    def active(path: str) -> bool:
        led = path not in above.forest.images or above.active(path) or path in plan.writes
        return below.active(path) and (led or bool(below.forest.known_writers(path)))

    return active


def _marks(plan: Plan, above: Graph, below: Graph, *, told: bool) -> tuple[dict[str, Mark], dict[str, Mark]]:
    """Return what a plan does to the images of both sides; `told` is whether their status afterwards is shown, too."""
    gone = {path: Mark(t("(removed)"), "gone") for path in above.paths if path not in below.forest.images}
    gone |= {key: Mark(t("(removed)"), tone="warn") for key in above.memory if key not in below.memory}
    kept: dict[str, Mark] = {}
    corrupted = _corrupted(plan, below)
    for path in below.paths:
        known = path in above.forest.images and above.forest[path].status != "missing"
        if not known:
            if below.forest[path].status != "missing":
                kept[path] = Mark(t("(new)"), "new")
        elif path in plan.invalid:
            valid = t("(valid before)") if told and below.status(path) == "invalid" else t("(becomes INVALID)")
            kept[path] = Mark(valid, "gone")
        elif path in corrupted:
            kept[path] = Mark(t("CORRUPTED"), "broken")
        elif above.forest.parent(path) != below.forest.parent(path):
            alone = below.forest[path].backing is None
            text = t("Standalone (w/o backing file)") if alone else t("(new backing file)")
            kept[path] = Mark(text, changed_arrow=True)
        elif inside := _inside(above, below, path):
            kept[path] = Mark(inside)
        elif path in plan.writes:
            kept[path] = Mark(t("(content changed)"))
        elif above.forest[path].writable != below.forest[path].writable:
            protected = above.forest[path].writable
            kept[path] = Mark(t("(now write-protected)") if protected else t("(now writable)"))
        elif _uses(above, path) != _uses(below, path):
            over = (
                above.forest.known_writers(path)
                and not below.forest.known_writers(path)
                and below.forest.known_children(path)
            )
            kept[path] = Mark(t("(now read-only)") if over else t("(new users)"))
    kept |= {key: Mark(t("(new)"), tone="good") for key in below.memory if key not in above.memory}
    for path, name in _refused(plan, below) if not told else ():
        kept.setdefault(path, Mark(t("(refused: {name})", name=name), tone="bad"))
    return gone, kept


def _refused(plan: Plan, below: Graph) -> Iterator[tuple[str, str]]:
    """Yield the images for which a plan is refused, and why."""
    for concern in plan.concerns:
        if concern.level == "refuse":
            named = (path for path in concern.images if path in below.forest.images)
            yield from ((below.forest.same_file(path)[0], concern.name) for path in named)


def _corrupted(plan: Plan, below: Graph) -> set[str]:
    """Return the images that a refused plan would corrupt, since it writes into a base that they share."""
    shared = (c.images for c in plan.concerns if c.name == "shared-base" and c.level == "refuse" and c.images)
    found = {path for base, *others in shared if base in plan.writes for path in others}
    return {name for path in found if path in below.forest.images for name in below.forest.same_file(path)}


def _inside(above: Graph, below: Graph, path: str) -> str:
    """Return which internal snapshots are new or removed, or an empty text."""
    had, has = ([snapshot.name for snapshot in graph.forest[path].snapshots] for graph in (above, below))
    signs = [f"+ {isolate(clip(shown(name)))}" for name in has if name not in had]
    signs += [f"- {isolate(clip(shown(name)))}" for name in had if name not in has]
    if not signs:
        return ""
    first = joined(signs[:2])
    if len(signs) > 2:
        return t("(internal snapshots: {names}, {count} more)", names=first, count=len(signs) - 2)
    return t("(internal snapshots: {names})", names=first)


def _uses(graph: Graph, path: str) -> set[tuple[str, str]]:
    return {(use.guest, use.target) for use in graph.forest.uses if use.path == path}
