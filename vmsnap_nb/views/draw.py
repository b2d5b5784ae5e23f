"""What the figure of each kind of object shows: forests, chains, disks, plans, reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import singledispatch

from vmsnap_nb.model.counting import plural
from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.model.guest import Disk, Disks
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.model.snapshot import SnapshotList, SnapshotLists
from vmsnap_nb.plans.plan import Alternative, Plan
from vmsnap_nb.plans.report import Report
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

__all__ = ["figure_of"]

_TO_REMOVE = "the report's cleanup(), or Clean up in a panel,"


@singledispatch
def figure_of(thing: Shown, options: Options) -> Figure:
    """Give the figure of an object.

    Parameters
    ----------
    thing : Shown
        A Forest, Chain, Disks, SnapshotList, Plan or Report. A new kind registers itself: ``@figure_of.register``.
    options : Options
        How much of it to show.

    Returns
    -------
    Figure
    """
    raise NotImplementedError(f"no figure is known for a {type(thing).__name__}")


@figure_of.register
def _(forest: Forest, options: Options) -> Figure:
    blocks, notes = tree_blocks(forest_graph(forest), options)
    counts = [
        plural(len(forest), "image"),
        plural(len(forest.roots), "base"),
        f"{len(forest.leaves)} with nothing on top",
    ]
    if not forest.images:
        return Figure("A forest without images", (), notes=("no images",))
    return Figure("A forest of " + ", ".join(counts), tuple(blocks), notes=tuple(notes))


@figure_of.register
def _(chain: Chain, options: Options) -> Figure:
    if not len(chain):
        return Figure("A chain without images", (), notes=(f"{shown(chain.top)} was not read",))
    graph = chain_graph(chain)
    blocks, notes = tree_blocks(graph, options)
    names = name_images(graph)
    ends = f"from {names[chain[0].path]} to {names[chain.top]}"
    return Figure(f"A chain of {plural(len(chain), 'image')} {ends}", tuple(blocks), notes=tuple(notes))


@figure_of.register
def _(disks: Disks, options: Options) -> Figure:
    sources = {disk.source for disk in disks if disk.source}
    names = distinct_names((source, source.rpartition("/")[2]) for source in sorted(sources))
    depths = disks.depths or (None,) * len(disks)
    blocks = [_disk(disks.guest, disk, depth, names, options) for disk, depth in zip(disks, depths, strict=True)]
    guest = isolate(clip(shown(disks.guest)))
    notes = () if blocks else (f"guest {guest} has no disks",)
    return Figure(f"Guest {guest} with {plural(len(disks), 'disk')}", tuple(blocks), notes=notes, aligned=True)


def _disk(guest: str, disk: Disk, depth: int | None, names: dict[str, str], options: Options) -> Block:
    own = [Line(f"{isolate(clip(shown(guest)))}: {shown(disk.target)}", "name")]
    bus = " ".join(shown(word) for word in (disk.bus, disk.device) if word)
    own.append(Line(bus + (", read-only" if disk.readonly else "")))
    if not disk.source:
        return Block((Box(disk.target, (*own, Line("(empty)", "status")), disk.target, "guest", column=1),), ())
    lines = [Line(names[disk.source], "name")]
    if options.shows("format") and disk.format:
        lines.append(Line(f"({shown(disk.format)})", "format"))
    if options.shows("sizes"):
        sizes = [] if disk.capacity is None else [human_size(disk.capacity)]
        sizes += [] if disk.allocated is None else [f"{human_size(disk.allocated)} on disk"]
        lines += [Line(", ".join(sizes))] if sizes else []
        lines += [] if depth is None or depth < 2 else [Line(f"top of {depth} layers")]
    image = Box(disk.source, tuple(lines), isolate(shown(disk.source)), path=disk.source, active=not disk.readonly)
    user = Box(disk.target, tuple(own), f"disk {shown(disk.target)} of guest {shown(guest)}", "guest", column=1)
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
    summary = f"Plan: {shown(plan.title)}" + (", refused" if plan.refused else "")
    return Figure(summary, blocks, summary, moves, notes, tuple(_plan_sections(plan)), aligned=True)


@figure_of.register
def _(report: Report, options: Options) -> Figure:
    blocks, moves, notes = _before_and_after(report.plan, report.after, options)
    end = "done as predicted" if report.as_predicted else "cancelled" if report.cancelled else "NOT as predicted"
    summary = f"Report: {shown(report.plan.title)}, {end}"
    return Figure(summary, blocks, summary, moves, notes, tuple(_report_sections(report)), aligned=True)


def _before_and_after(
    plan: Plan, after: Forest, options: Options
) -> tuple[tuple[Block, ...], tuple[Move, ...], tuple[str, ...]]:
    was = _around(plan, plan.before)
    # What stood around an image that goes is still there, and must not look as if it went, too.
    left = after.tree(*(path for path in was.images if path in after))
    below = forest_graph(after.only({*_around(plan, after).images, *left.images}))
    above = forest_graph(was)
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
    blocks = (*_captioned(before_blocks, "before"), *_captioned(after_blocks, "after"))
    notes = tuple(dict.fromkeys((*before_notes, *after_notes)))
    return blocks, _moves(plan, blocks, len(before_blocks) or 1), notes


def _active_after(plan: Plan, above: Graph, below: Graph) -> Callable[[str], bool]:
    """Say what is active then: nobody writes to a layer only because the plan takes away what stood on it."""

    def active(path: str) -> bool:
        led = path not in above.forest or above.active(path) or path in plan.writes
        return below.active(path) and (led or bool(below.forest.writers(path)))

    return active


def _order_after(plan: Plan, above: Graph, below: Graph) -> dict[str, int]:
    """Put first what takes data, then that to which writes went and still go: what a plan leaves behind gives way."""
    active = [path for path in below.paths if path in above.paths and above.active(path) and path not in plan.invalid]
    first = dict.fromkeys(_below(below, active), -1)
    return first | dict.fromkeys(_below(below, [move.target for move in plan.moves]), -2)


def _below(graph: Graph, paths: Iterable[str]) -> list[str]:
    """Give some images and all on which they stand, each under the name that the figure has for it."""
    forest = graph.forest
    return [forest.same_file(layer)[0] for path in paths if path in forest for layer in forest.lineage(path)]


def _around(plan: Plan, forest: Forest) -> Forest:
    """Give the trees that the plan is about."""
    touched = [path for step in plan.steps for path in (*step.creates, *step.writes, *step.unlinks, *step.invalidates)]
    paths = list(plan.subjects) or [*touched, *(move.source for move in plan.moves)]
    backing = [forest.parent(path) for path in paths if path in forest]
    present = [path for path in (*paths, *backing) if path is not None and path in forest]
    return forest.tree(*present) if paths else forest


def _marks(plan: Plan, above: Graph, below: Graph) -> tuple[dict[str, Mark], dict[str, Mark]]:
    gone = {path: Mark("(removed)", "gone") for path in above.paths if path not in below.forest}
    gone |= {key: Mark("(removed)") for key in above.memory if key not in below.memory}
    kept: dict[str, Mark] = {}
    spoilt = _spoilt(plan, below)
    for path in below.paths:
        known = path in above.forest and above.forest[path].status != "missing"
        if not known:
            if below.forest[path].status != "missing":
                kept[path] = Mark("(new)", "new")
        elif path in plan.invalid:
            kept[path] = Mark("(from now on)" if below.status(path) == "invalid" else "(INVALID from now on)", "gone")
        elif path in spoilt:
            kept[path] = Mark("(SPOILT: other data)", "broken")
        elif above.forest.parent(path) != below.forest.parent(path):
            alone = below.forest[path].backing is None
            text = "Standalone (w/o backing file)" if alone else "(other backing file)"
            kept[path] = Mark(text, changed_arrow=True)
        elif inside := _inside(above, below, path):
            kept[path] = Mark(inside)
        elif path in plan.writes:
            kept[path] = Mark("(content changed)")
        elif above.forest[path].writable != below.forest[path].writable:
            kept[path] = Mark("(now write-protected)" if above.forest[path].writable else "(now writable)")
        elif _uses(above, path) != _uses(below, path):
            over = above.forest.writers(path) and not below.forest.writers(path) and below.forest.children(path)
            kept[path] = Mark("(read-only from now on)" if over else "(other users)")
    kept |= {key: Mark("(new)") for key in below.memory if key not in above.memory}
    return gone, kept


def _spoilt(plan: Plan, below: Graph) -> set[str]:
    """Give the images that read what a refused plan would write into a base that they share."""
    shared = (c.images for c in plan.concerns if c.name == "shared-base" and c.level == "refuse" and c.images)
    found = {path for base, *others in shared if base in plan.writes for path in others}
    return {name for path in found if path in below.forest for name in below.forest.same_file(path)}


def _inside(above: Graph, below: Graph, path: str) -> str:
    """Say which internal snapshots come and go."""
    had, has = ([one.name for one in graph.forest[path].snapshots] for graph in (above, below))
    signs = [f"+ {isolate(clip(shown(name)))}" for name in has if name not in had]
    signs += [f"- {isolate(clip(shown(name)))}" for name in had if name not in has]
    if not signs:
        return ""
    more = f", {len(signs) - 2} more" if len(signs) > 2 else ""
    return f"(snapshot inside: {', '.join(signs[:2])}{more})"


def _uses(graph: Graph, path: str) -> set[tuple[str, str]]:
    return {(use.guest, use.target) for use in graph.forest.uses if use.path == path}


def _captioned(blocks: list[Block], caption: str) -> list[Block]:
    if not blocks:
        return [Block((), (), f"{caption}: no images")]
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
            size = "" if move.size is None else f", {human_size(move.size)}"
            moves.append(Move(source, target, move.label + size))
    return tuple(moves)


def _plan_sections(plan: Plan) -> Iterable[Section]:
    if plan.concerns:
        levels = {"refuse": "REFUSED", "warn": "Warning", "note": "Note"}
        items = []
        for concern in plan.concerns:
            waive = f' (waive="{concern.name}" takes it upon yourself)' if concern.waivable else ""
            remedy = (f"remedy: {shown(concern.remedy)}{waive}",) if concern.remedy or waive else ()
            items.append((f"{levels[concern.level]}, {concern.name}: {shown(concern.what)}", *remedy))
        yield Section("Concerns", tuple(items))
    facts = [(shown(plan.way),)] if plan.way else []
    if plan.moves:
        size = plan.bytes_to_copy
        facts.append((f"copies {'an unknown number of bytes' if size is None else human_size(size)}",))
    if plan.space_needed:
        facts.append((f"may need {human_size(plan.space_needed)} of disk",))
    if facts:
        yield Section("How", tuple(facts))
    if len(plan.alternatives) > 1:
        yield Section("Ways compared", tuple((_alternative(way),) for way in plan.alternatives))


def _alternative(way: Alternative) -> str:
    size = "unknown" if way.size is None else human_size(way.size)
    refused = f"; not possible: {shown(way.refused)}" if way.refused else ""
    return f"{size}{', chosen' if way.chosen else ''}: {shown(way.what)}{refused}"


def _report_sections(report: Report) -> Iterable[Section]:
    if report.error is not None:
        yield Section("Ended early", (tuple(shown(line) for line in str(report.error).splitlines()),))
    if left := [path for path in report.plan.invalid if path in report.after]:
        names = ", ".join(isolate(clip(shown(report.after[path].name))) for path in left)
        verb = "is" if len(left) == 1 else "are"
        yield Section(
            "Left behind",
            ((f"{names} {verb} INVALID now, and still on disk: {_TO_REMOVE} is the plan to remove them",),),
        )
    if report.differences:
        yield Section("Not as predicted", tuple((shown(difference),) for difference in report.differences))
