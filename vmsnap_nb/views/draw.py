"""What the figure of each kind of object shows: forests, chains, disks, plans, reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import singledispatch

from vmsnap_nb.model.by_host import ByHost
from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.model.guest import Disk, Disks
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.model.snapshot import SnapshotList, SnapshotLists
from vmsnap_nb.plans.concern import Concern
from vmsnap_nb.plans.plan import Alternative, Plan
from vmsnap_nb.plans.report import Report
from vmsnap_nb.views.box_lines import fill_of, sizes_line
from vmsnap_nb.views.figure import Arrow, Block, Box, Figure, Line, Move, Options, Section
from vmsnap_nb.views.moves import copied
from vmsnap_nb.views.plan_change import plan_change
from vmsnap_nb.views.plan_rows import plan_rows
from vmsnap_nb.views.plan_sides import lineages, sides_of
from vmsnap_nb.views.shown_text import clip, distinct_names, human_size, isolate, shown
from vmsnap_nb.views.snapshot_tree import snapshot_figure, snapshots_figure
from vmsnap_nb.views.trees import (
    chain_graph,
    forest_graph,
    name_images,
    tree_blocks,
)
from vmsnap_nb.words.message import N_, Message, counted, listed, t
from vmsnap_nb.words.options import option

__all__ = ["figure_of"]

_LEVELS = {
    "refuse": N_("{name}: {what}"),
    "warn": N_("Warning, {name}: {what}"),
    "note": N_("{name}: {what}"),
}
"""What is said of a concern: the banner above the figure says that a plan is refused, and a heading what are notes."""


@singledispatch
def figure_of(thing: Shown, options: Options) -> Figure:
    """Return the figure of an object; a new kind registers itself: ``@figure_of.register``."""
    raise NotImplementedError(f"no figure is known for a {type(thing).__name__}")


@figure_of.register
def _(forest: Forest, options: Options) -> Figure:
    graph = forest_graph(forest, options)
    blocks, notes = tree_blocks(graph, options, order=dict.fromkeys(lineages(graph, options.first), -1))
    if not forest.images:
        return Figure(t("A forest without images"), (), notes=(t("no images"),))
    summary = t(
        "A forest of {images}, {bases}, {leaves}",
        images=counted("{count} image", "{count} images", len(forest)),
        bases=counted("{count} base", "{count} bases", len(forest.roots)),
        leaves=t("{count} without overlays", count=len(forest.leaves)),
    )
    return Figure(summary, tuple(blocks), notes=tuple(notes))


@figure_of.register(ByHost)
def _(found: ByHost[Shown], options: Options) -> Figure:
    blocks: list[Block] = []
    notes: list[str] = []
    for host in found.hosts:
        name = isolate(clip(shown(host)))
        if host in found.problems:
            notes.append(t("{host} did not respond: {why}", host=name, why=found.problems[host].reason))
            continue
        figure = figure_of(found.parts[host], options)
        for number, block in enumerate(figure.blocks):
            caption = t("{host}: {name}", host=name, name=block.caption) if block.caption else name
            blocks.append(replace(block, caption=caption if number == 0 else block.caption))
        notes += [t("{host}: {note}", host=name, note=note) for note in figure.notes]
    summary = counted("{count} host", "{count} hosts", len(found.hosts))
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
    if chain.forest.alone:
        note = t("other guests were not read, and may also use these images; to read all guests, use host.survey()")
        notes = [*notes, note]
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
    blocks, moves, notes = _drawn(plan, plan.after, options)
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
        aligned=options.style != "change",
        refusals=refusals,
    )


@figure_of.register
def _(report: Report, options: Options) -> Figure:
    blocks, moves, notes = _drawn(report.performed, report.after, options)
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
        aligned=options.style != "change",
    )


def _drawn(plan: Plan, after: Forest, options: Options) -> tuple[tuple[Block, ...], tuple[Move, ...], tuple[str, ...]]:
    sides = sides_of(plan, after, options)
    return plan_change(sides, options) if options.style == "change" else plan_rows(sides, options)


def _plan_sections(plan: Plan) -> Iterable[Section]:
    if warnings := [concern for concern in plan.concerns if concern.level == "warn"]:
        yield Section(t("Concerns"), tuple(_concern(concern) for concern in warnings))
    facts = [(shown(plan.way),)] if plan.way else []
    if plan.moves:
        facts.append((copied(plan.bytes_to_copy),))
    if plan.space_needed:
        facts.append((t("may need {size} of disk space", size=human_size(plan.space_needed)),))
    if (freed := plan.frees.total) is not None and freed > 0:
        facts.append((t("frees {size} of disk space", size=human_size(freed)),))
    if facts:
        yield Section(t("How"), tuple(facts))
    if len(plan.alternatives) > 1:
        yield Section(t("Ways compared"), tuple((_alternative(way),) for way in plan.alternatives))
    if notes := [concern for concern in plan.concerns if concern.level == "note"]:
        yield Section(t("Notes"), tuple(_concern(concern) for concern in notes))


def _concern(concern: Concern) -> tuple[str, ...]:
    said = t(_LEVELS[concern.level], name=concern.name, what=shown(concern.what))
    remedy = shown(concern.remedy or "")
    if concern.waivable and remedy:
        override = t("remedy: {remedy} (override with {option})", remedy=remedy, option=option("waive", concern.name))
        return said, override
    if concern.waivable:
        return said, t("override with {option}", option=option("waive", concern.name))
    return (said, t("remedy: {remedy}", remedy=remedy)) if remedy else (said,)


def _alternative(way: Alternative) -> Message:
    size: str = t("unknown size") if way.size is None else human_size(way.size) if way.size else t("nothing to copy")
    what = shown(way.what)
    if way.chosen and way.refused:  # the plan is refused for this reason, unless it is waived
        return t(
            "{way} ({size}; would be chosen, but is refused: {reason})", size=size, way=what, reason=shown(way.refused)
        )
    if way.chosen:
        return t("{way} ({size}, chosen)", size=size, way=what)
    said = t("{way} ({size})", size=size, way=what)
    return t("{way}; not possible: {reason}", way=said, reason=shown(way.refused)) if way.refused else said


def _report_sections(report: Report) -> Iterable[Section]:
    if report.error is not None:
        yield Section(t("Stopped early"), (tuple(shown(line) for line in str(report.error).splitlines()),))
    if left := report.invalid:
        said = counted(
            "{names} is now INVALID but still on disk; to plan its removal, call report.cleanup(), "
            "or click “Clean up” in a panel",
            "{names} are now INVALID but still on disk; to plan their removal, call report.cleanup(), "
            "or click “Clean up” in a panel",
            len(left),
            names=listed(isolate(clip(shown(report.after[path].name))) for path in left),
        )
        yield Section(t("Left behind"), ((said,),))
    if report.said:
        lines = [shown(line) for said in report.said for line in said.splitlines()]
        yield Section(t("Printed to standard error"), tuple((line,) for line in lines))
    if report.differences:
        heading = t("Changed unexpectedly") if report.ended_early else t("Not as predicted")
        yield Section(heading, tuple((shown(difference),) for difference in report.differences))
