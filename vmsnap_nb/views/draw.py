"""What the figure of each kind of object shows: forests, chains, disks, plans, reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import singledispatch

from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.model.guest import Disk, Disks
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.model.snapshot import SnapshotList, SnapshotLists
from vmsnap_nb.plans.concern import Concern
from vmsnap_nb.plans.plan import Alternative, Plan
from vmsnap_nb.plans.plan import Move as PlannedMove
from vmsnap_nb.plans.report import Report
from vmsnap_nb.views.box_lines import fill_of, sizes_line
from vmsnap_nb.views.figure import Arrow, Block, Box, Figure, Line, Move, Options, Section
from vmsnap_nb.views.snapshot_tree import snapshot_figure, snapshots_figure
from vmsnap_nb.views.trees import (
    Graph,
    Mark,
    chain_graph,
    chain_paths,
    forest_graph,
    name_images,
    tree_blocks,
)
from vmsnap_nb.views.words import clip, distinct_names, human_size, isolate, shown
from vmsnap_nb.words.message import N_, Message, counted, joined, t

__all__ = ["figure_of"]

_LEVELS = {
    "refuse": N_("REFUSED, {name}: {what}"),
    "warn": N_("Warning, {name}: {what}"),
    "note": N_("Note, {name}: {what}"),
}


@singledispatch
def figure_of(thing: Shown, options: Options) -> Figure:
    """Return the figure of an object; a new kind registers itself: ``@figure_of.register``."""
    raise NotImplementedError(f"no figure is known for a {type(thing).__name__}")


@figure_of.register
def _(forest: Forest, options: Options) -> Figure:
    blocks, notes = tree_blocks(forest_graph(forest, options), options)
    if not forest.images:
        return Figure(t("A forest without images"), (), notes=(t("no images"),))
    summary = t(
        "A forest of {images}, {bases}, {leaves}",
        images=counted("{count} image", "{count} images", len(forest)),
        bases=counted("{count} base", "{count} bases", len(forest.roots)),
        leaves=t("{count} without overlays", count=len(forest.leaves)),
    )
    return Figure(summary, tuple(blocks), notes=tuple(notes))


@figure_of.register
def _(chain: Chain, options: Options) -> Figure:
    if not len(chain):
        return Figure(t("A chain without images"), (), notes=(t("{image} was not read", image=shown(chain.top)),))
    graph = chain_graph(chain, options)
    blocks, notes = tree_blocks(graph, options)
    names = name_images(graph)
    base, top = names[chain[0].path], names[chain.top]
    summary = counted(
        "A chain of {count} image from {base} to {top}",
        "A chain of {count} images from {base} to {top}",
        len(chain),
        base=base,
        top=top,
    )
    return Figure(summary, tuple(blocks), notes=tuple(notes))


@figure_of.register
def _(disks: Disks, options: Options) -> Figure:
    sources = {disk.source for disk in disks if disk.source}
    names = distinct_names((source, source.rpartition("/")[2]) for source in sorted(sources))
    depths = disks.depths or (None,) * len(disks)
    blocks = [_disk(disks.guest, disk, depth, names, options) for disk, depth in zip(disks, depths, strict=True)]
    guest = isolate(clip(shown(disks.guest)))
    notes = () if blocks else (t("guest {guest} has no disks", guest=guest),)
    summary = counted("Guest {guest} with {count} disk", "Guest {guest} with {count} disks", len(disks), guest=guest)
    return Figure(summary, tuple(blocks), notes=notes, aligned=True)


def _disk(guest: str, disk: Disk, depth: int | None, names: dict[str, str], options: Options) -> Block:
    target, name = shown(disk.target), isolate(clip(shown(guest)))
    bus = " ".join(shown(word) for word in (disk.bus, disk.device) if word)
    own = [
        Line(t("{guest}: {disk}", guest=name, disk=target), "name"),
        Line(t("{device}, read-only", device=bus) if disk.readonly else bus),
    ]
    if not disk.source:
        return Block((Box(disk.target, (*own, Line(t("(empty)"), "status")), disk.target, "guest", column=1),), ())
    lines = [Line(names[disk.source], "name")]
    if options.shows("format") and disk.format:
        usual = "" if disk.format == "qcow2" else None
        lines.append(Line(f"({shown(disk.format)})", "format", picture=usual))
    if options.shows("sizes"):
        sizes = sizes_line(disk.capacity, disk.allocated)
        lines += [] if sizes is None else [sizes]
        lines += [] if depth is None or depth < 2 else [Line(t("top of {count} layers", count=depth))]
    image = Box(
        disk.source,
        tuple(lines),
        isolate(shown(disk.source)),
        path=disk.source,
        active=not disk.readonly,
        fill=fill_of(disk.capacity, disk.allocated) if options.shows("sizes") else None,
    )
    title = t("disk {disk} of guest {guest}", disk=target, guest=shown(guest))
    user = Box(disk.target, tuple(own), title, "guest", column=1)
    return Block((image, user), (Arrow(1, 0),))


@figure_of.register
def _(snapshots: SnapshotList, options: Options) -> Figure:
    return snapshot_figure(snapshots, options)


@figure_of.register
def _(lists: SnapshotLists, options: Options) -> Figure:
    return snapshots_figure(lists, options)


@figure_of.register
def _(plan: Plan, options: Options) -> Figure:
    blocks, moves, notes = _before_and_after(plan, plan.after, options)
    title = shown(plan.title)
    summary = t("Plan: {title}, refused", title=title) if plan.refused else t("Plan: {title}", title=title)
    refusals = tuple(_concern(concern) for concern in plan.concerns if concern.level == "refuse")
    return Figure(
        summary,
        blocks,
        heading=summary,
        moves=moves,
        notes=notes,
        sections=tuple(_plan_sections(plan)),
        aligned=True,
        refusals=refusals,
    )


@figure_of.register
def _(report: Report, options: Options) -> Figure:
    blocks, moves, notes = _before_and_after(report.performed, report.after, options)
    title = shown(report.plan.title)
    if report.as_predicted:
        summary = t("Report: {title}, done as predicted", title=title)
    elif report.cancelled:
        summary = t("Report: {title}, cancelled", title=title)
    else:
        summary = t("Report: {title}, NOT as predicted", title=title)
    return Figure(
        summary,
        blocks,
        heading=summary,
        moves=moves,
        notes=notes,
        sections=tuple(_report_sections(report)),
        aligned=True,
    )


def _before_and_after(
    plan: Plan, after: Forest, options: Options
) -> tuple[tuple[Block, ...], tuple[Move, ...], tuple[str, ...]]:
    was = _around(plan, plan.before)
    # What was around an image that goes is still there, and must not look as if it went, too.
    left = after.tree(*(path for path in was.images if path in after.images))
    below = forest_graph(after.only({*_around(plan, after).images, *left.images}), options)
    above = forest_graph(was, options)
    below = replace(below, active=_active_after(plan, above, below))
    names = name_images(above, below)
    gone, kept = _marks(plan, above, below)
    # What moves is at the lower edge of what is above, and at the upper edge of what is below: arrows cross no box.
    leaving = dict.fromkeys(_below(above, [move.source for move in plan.moves]), 1)
    before_blocks, before_notes = tree_blocks(above, options, names=names, marks=gone, order=leaving)
    columns = chain_paths(before_blocks)
    after_blocks, after_notes = tree_blocks(
        below, options, names=names, marks=kept, columns=columns, order=_order_after(plan, above, below)
    )
    blocks = (*_captioned(before_blocks, t("before")), *_captioned(after_blocks, t("after")))
    notes = tuple(dict.fromkeys((*before_notes, *after_notes)))
    return blocks, _moves(plan, blocks, len(before_blocks) or 1), notes


def _active_after(plan: Plan, above: Graph, below: Graph) -> Callable[[str], bool]:
    """Return what is active then: a layer is not active only because the plan removes the overlays on it."""

    def active(path: str) -> bool:
        led = path not in above.forest.images or above.active(path) or path in plan.writes
        return below.active(path) and (led or bool(below.forest.known_writers(path)))

    return active


def _order_after(plan: Plan, above: Graph, below: Graph) -> dict[str, int]:
    """Put first what takes data, then that to which writes went and still go: what a plan leaves behind gives way."""
    active = [path for path in below.paths if path in above.paths and above.active(path) and path not in plan.invalid]
    first = dict.fromkeys(_below(below, active), -1)
    return first | dict.fromkeys(_below(below, [move.target for move in plan.moves]), -2)


def _below(graph: Graph, paths: Iterable[str]) -> list[str]:
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


def _marks(plan: Plan, above: Graph, below: Graph) -> tuple[dict[str, Mark], dict[str, Mark]]:
    gone = {path: Mark(t("(removed)"), "gone") for path in above.paths if path not in below.forest.images}
    gone |= {key: Mark(t("(removed)")) for key in above.memory if key not in below.memory}
    kept: dict[str, Mark] = {}
    corrupted = _corrupted(plan, below)
    for path in below.paths:
        known = path in above.forest.images and above.forest[path].status != "missing"
        if not known:
            if below.forest[path].status != "missing":
                kept[path] = Mark(t("(new)"), "new")
        elif path in plan.invalid:
            valid = t("(valid before)") if below.status(path) == "invalid" else t("(becomes INVALID)")
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
    kept |= {key: Mark(t("(new)")) for key in below.memory if key not in above.memory}
    return gone, kept


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


def _captioned(blocks: list[Block], caption: str) -> list[Block]:
    if not blocks:
        return [Block((), (), t("{caption}: no images", caption=caption))]
    return [replace(block, caption=caption if number == 0 else "") for number, block in enumerate(blocks)]


def _moves(plan: Plan, blocks: tuple[Block, ...], first_after: int) -> tuple[Move, ...]:
    places: dict[tuple[bool, str], tuple[int, int]] = {}
    for number, block in enumerate(blocks):
        for place, box in enumerate(block.boxes):
            if box.path is not None:
                places[number >= first_after, box.path] = (number, place)
    moves: list[Move] = []
    for move in plan.moves:
        source, target = places.get((False, move.source)), places.get((True, move.target))
        if source is not None and target is not None:
            moves.append(Move(source, target, _label(move)))
    return tuple(moves)


def _label(move: PlannedMove) -> Message:
    commits = move.label == "commit data"
    if move.size is None:
        return t("commit data") if commits else t("stream data")
    size = human_size(move.size)
    return t("commit data, {size}", size=size) if commits else t("stream data, {size}", size=size)


def _plan_sections(plan: Plan) -> Iterable[Section]:
    if others := [concern for concern in plan.concerns if concern.level != "refuse"]:
        yield Section(t("Concerns"), tuple(_concern(concern) for concern in others))
    facts = [(shown(plan.way),)] if plan.way else []
    if plan.moves:
        size = plan.bytes_to_copy
        copied = t("copies an unknown amount of data") if size is None else t("copies {size}", size=human_size(size))
        facts.append((copied,))
    if plan.space_needed:
        facts.append((t("may need {size} of disk space", size=human_size(plan.space_needed)),))
    if facts:
        yield Section(t("How"), tuple(facts))
    if len(plan.alternatives) > 1:
        yield Section(t("Ways compared"), tuple((_alternative(way),) for way in plan.alternatives))


def _concern(concern: Concern) -> tuple[str, ...]:
    said = t(_LEVELS[concern.level], name=concern.name, what=shown(concern.what))
    remedy = shown(concern.remedy or "")
    if concern.waivable and remedy:
        override = t('remedy: {remedy} (to override: waive="{name}")', remedy=remedy, name=concern.name)
        return said, override
    if concern.waivable:
        return said, t('to override: waive="{name}"', name=concern.name)
    return (said, t("remedy: {remedy}", remedy=remedy)) if remedy else (said,)


def _alternative(way: Alternative) -> Message:
    size, what = t("unknown size") if way.size is None else human_size(way.size), shown(way.what)
    said = t("{size}, chosen: {way}", size=size, way=what) if way.chosen else t("{size}: {way}", size=size, way=what)
    return t("{way}; not possible: {reason}", way=said, reason=shown(way.refused)) if way.refused else said


def _report_sections(report: Report) -> Iterable[Section]:
    if report.error is not None:
        yield Section(t("Stopped early"), (tuple(shown(line) for line in str(report.error).splitlines()),))
    if left := report.invalid:
        said = counted(
            "{names} is INVALID now and still on disk; report.cleanup(), or Clean up in a panel, plans its removal",
            "{names} are INVALID now and still on disk; report.cleanup(), or Clean up in a panel, plans their removal",
            len(left),
            names=joined(isolate(clip(shown(report.after[path].name))) for path in left),
        )
        yield Section(t("Left behind"), ((said,),))
    if report.said:
        lines = [shown(line) for said in report.said for line in said.splitlines()]
        yield Section(t("Printed to standard error"), tuple((line,) for line in lines))
    if report.differences:
        heading = t("Not as before") if report.ended_early else t("Not as predicted")
        yield Section(heading, tuple((shown(difference),) for difference in report.differences))
