"""What the table of each kind of object holds, as plain data: frames and HTML tables are both made from it."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass, fields
from datetime import datetime
from functools import singledispatch
from typing import Literal

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.model.by_host import ByHost, TablesByHost
from vmsnap_nb.model.files import FileChanges, FileEntry, FileParts, Files, LostFiles
from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.model.guest import Disks, Domains
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.image_check import ImageCheck
from vmsnap_nb.model.leftovers import Leftovers
from vmsnap_nb.model.shown import Shown, Tabled
from vmsnap_nb.model.snapshot import Snapshot, SnapshotCost, SnapshotList, SnapshotLists
from vmsnap_nb.model.space import Space
from vmsnap_nb.plans.findings import Findings
from vmsnap_nb.plans.freed import Freed
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.report import Report
from vmsnap_nb.views.shown_text import natural
from vmsnap_nb.words.message import Message, t

__all__ = ["Cell", "Column", "Table", "table_of", "table_of_alternatives", "table_of_check", "table_of_internal"]

Kind = Literal["text", "bytes", "count", "seconds", "yes or no", "path", "command", "time", "state", "snapshot-kind"]
Cell = str | int | float | bool | datetime | None


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name and what it holds.

    ``bytes`` are numbers to be read in KiB and GiB, a ``time`` is in UTC. A ``state`` and a ``snapshot-kind`` are terms
    that people read as words.
    """

    name: str
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; the first column is the index."""

    columns: tuple[Column, ...]  # the index first
    rows: tuple[tuple[Cell, ...], ...]  # one cell a column; None where nothing is known or nothing applies


_FOREST = (
    Column("path", "path"),
    Column("image"),
    Column("format"),
    Column("backing"),
    Column("backing_path", "path"),
    Column("backing_format"),
    Column("virtual_size", "bytes"),
    Column("allocated", "bytes"),
    Column("depth", "count"),
    Column("children", "count"),
    Column("snapshots", "count"),
    Column("bitmaps", "count"),
    Column("used_by"),
    Column("needed_by"),
    Column("status"),
)
_CHAIN = (
    Column("layer", "count"),
    Column("image"),
    Column("path", "path"),
    Column("format"),
    Column("backing"),
    Column("backing_format"),
    Column("virtual_size", "bytes"),
    Column("allocated", "bytes"),
    Column("active", "yes or no"),
    Column("used_by"),
    Column("needed_by"),
    Column("snapshots", "count"),
    Column("bitmaps", "count"),
    Column("status"),
)
_DISKS = (
    Column("target"),
    Column("source", "path"),
    Column("format"),
    Column("bus"),
    Column("device"),
    Column("depth", "count"),
    Column("capacity", "bytes"),
    Column("allocated", "bytes"),
)
_DOMAINS = (
    Column("guest"),
    Column("state", "state"),
    Column("persistent", "yes or no"),
    Column("disks", "count"),
    Column("sources"),
)
_SNAPSHOT = (
    Column("kind", "snapshot-kind"),
    Column("state", "state"),
    Column("created", "time"),
    Column("parent"),
    Column("current", "yes or no"),
    Column("disks"),
    Column("files"),
    Column("memory_file"),
    Column("exclusive", "bytes"),
    Column("freed_if_deleted", "bytes"),
    Column("description"),
    Column("status"),
)
_PLAN = (
    Column("step", "count"),
    Column("action"),
    Column("image", "path"),
    Column("what"),
    Column("bytes", "bytes"),
    Column("command", "command"),
)
_ALTERNATIVES = (
    Column("way"),
    Column("bytes", "bytes"),
    Column("chosen", "yes or no"),
    Column("refused"),
)
_SPACE = (
    Column("path", "path"),
    Column("image"),
    Column("allocated", "bytes"),
    Column("exclusive", "bytes"),
    Column("hidden", "bytes"),
    Column("internal", "bytes"),
    Column("memory_files", "bytes"),
    Column("reclaim"),
)
_INTERNAL = (
    Column("path", "path"),
    Column("id"),
    Column("snapshot"),
    Column("exclusive", "bytes"),
    Column("vm_state_size", "bytes"),
)
_FINDINGS = (
    Column("finding"),
    Column("severity"),
    Column("where", "path"),
    Column("what"),
    Column("help", "command"),
)
_LEFTOVERS = (
    Column("path", "path"),
    Column("kind"),
    Column("allocated", "bytes"),
    Column("last_written", "time"),
    Column("evidence"),
    Column("doubt"),
)
_FREED = (
    Column("path", "path"),
    Column("foreseen", "bytes"),
    Column("freed", "bytes"),
)
_REPORT = (
    Column("step", "count"),
    Column("action"),
    Column("image", "path"),
    Column("state", "state"),
    Column("bytes", "bytes"),
    Column("seconds", "seconds"),
    Column("command", "command"),
)
_FILES = (
    Column("path"),
    Column("kind"),
    Column("size", "bytes"),
    Column("mtime", "time"),
    Column("mode"),
    Column("owner"),
    Column("inode", "count"),
    Column("links", "count"),
    Column("target"),
    Column("volume"),
)
_CHANGES = (
    Column("path"),
    Column("change"),
    Column("kind"),
    Column("size_before", "bytes"),
    Column("size_after", "bytes"),
    Column("mtime_before", "time"),
    Column("mtime_after", "time"),
    Column("mode"),
    Column("owner"),
    Column("layer"),
)
_LOST = (_FILES[0], Column("state"), *_FILES[1:6])
_PARTS = (
    Column("start", "bytes"),
    Column("length", "bytes"),
    Column("layer", "count"),
    Column("image"),
    Column("kind"),
    Column("place", "bytes"),
)


@singledispatch
def table_of(thing: Shown | Tabled) -> Table:
    """Return the table of an object; a new kind registers itself: ``@table_of.register``.

    Sizes are in bytes. ``snapshots`` counts internal snapshots, ``bitmaps`` dirty bitmaps, ``used_by`` names
    the guests that read an image, as their source or below it. Steps are counted from 1, layers from 0.
    """
    raise NotImplementedError(f"no table is known for a {type(thing).__name__}")


@table_of.register
def _(forest: Forest) -> Table:
    return Table(_FOREST, tuple(_forest_rows(forest)))


def _forest_rows(forest: Forest) -> Iterator[tuple[Cell, ...]]:
    for path, image in forest.images.items():
        backing = image.backing
        yield (
            path,
            image.name,
            image.format,
            backing.written if backing else None,
            backing.path if backing else None,
            backing.format if backing else None,
            image.virtual_size,
            image.allocated,
            forest.depth(path),
            len(forest.children(path)),
            _count(image, image.snapshots),
            _count(image, image.bitmaps),
            _guests(forest, path),
            _needs(forest, path),
            forest.status(path),
        )


@table_of.register
def _(chain: Chain) -> Table:
    unknown = chain.forest.alone  # who else uses the images
    rows = tuple(
        (
            layer,
            image.name,
            image.path,
            image.format,
            image.backing.written if image.backing else None,
            image.backing.format if image.backing else None,
            image.virtual_size,
            image.allocated,
            chain.active(image),
            None if unknown and image.path != chain.top else _guests(chain.forest, image.path),
            None if unknown else _needs(chain.forest, image.path),
            _count(image, image.snapshots),
            _count(image, image.bitmaps),
            chain.forest.status(image.path),
        )
        for layer, image in enumerate(chain.layers)
    )
    return Table(_CHAIN, rows)


@table_of.register
def _(disks: Disks) -> Table:
    depths = disks.depths or (None,) * len(disks)
    rows = tuple(
        (d.target, d.source, d.format, d.bus, d.device, depth, d.capacity, d.allocated)
        for d, depth in zip(disks, depths, strict=True)
    )
    return Table(_DISKS, rows)


@table_of.register
def _(domains: Domains) -> Table:
    rows = (
        (d.name, d.state, d.persistent, len(d.disks), ", ".join(use.path for use in d.uses) or None)
        for d in sorted(domains, key=lambda d: natural(d.name))
    )
    return Table(_DOMAINS, tuple(rows))


@table_of.register
def _(snapshots: SnapshotList) -> Table:
    return Table((Column("name"), *_SNAPSHOT), tuple(_snapshots(snapshots)))


@table_of.register
def _(lists: SnapshotLists) -> Table:
    ordered = sorted(lists, key=lambda snapshots: natural(snapshots.guest))
    rows = tuple((snapshots.guest, *row) for snapshots in ordered for row in _snapshots(snapshots))
    return Table((Column("guest"), Column("name"), *_SNAPSHOT), rows)


def _snapshots(snapshots: SnapshotList) -> Iterator[tuple[Cell, ...]]:
    for snapshot in snapshots:
        yield snapshot.name, *_snapshot(snapshot, snapshots.costs.get(snapshot.name, SnapshotCost()))


def _snapshot(snapshot: Snapshot, cost: SnapshotCost) -> tuple[Cell, ...]:
    record = snapshot.record
    held = [disk for disk in record.disks if disk.held != "no"]
    files = [path for disk in held if (path := disk.file if disk.held == "external" else disk.source)]
    return (
        record.kind,
        record.state,
        record.created,
        record.parent,
        record.current,
        ", ".join([disk.target for disk in held]) or None,
        ", ".join(files) or None,
        record.memory_file,
        cost.exclusive,
        cost.freed,
        record.description or None,
        snapshot.status,
    )


@table_of.register
def _(plan: Plan) -> Table:
    rows = tuple(
        (number, step.action, step.image, step.what, step.size, "\n".join(plan.lines_of(step)) or None)
        for number, step in enumerate(plan.steps, 1)
    )
    return Table(_PLAN, rows)


def table_of_alternatives(plan: Plan) -> Table:
    """Return the ways that a plan compared, the cheapest first."""
    rows = tuple((way.what, way.size, way.chosen, way.refused or None) for way in plan.alternatives)
    return Table(_ALTERNATIVES, rows)


def table_of_check(check: ImageCheck) -> Table:
    """Return what a check of one image has found."""
    columns = ((field.name, getattr(check, field.name)) for field in fields(check))
    kinds: dict[str, Kind] = {"path": "path", "format": "text", "result": "text", "image_end": "bytes"}
    names, row = zip(*columns, strict=True)
    return Table(tuple(Column(name, kinds.get(name, "count")) for name in names), (row,))


@table_of.register
def _(space: Space) -> Table:
    rows = tuple(
        (
            image.path,
            image.name,
            image.allocated,
            image.exclusive,
            image.hidden,
            image.internal,
            image.memory_files,
            image.reclaim,
        )
        for image in sorted(space, key=lambda image: natural(image.path))
    )
    return Table(_SPACE, rows)


@table_of.register(ByHost)
@table_of.register(TablesByHost)
def _(found: ByHost[Shown] | TablesByHost[Tabled]) -> Table:
    columns = table_of(found.empty).columns
    names = [column.name for column in columns]
    more = () if "status" in names else (Column("status"),)
    place = names.index("status") if not more else len(names)
    rows: list[tuple[Cell, ...]] = []
    for host in found.hosts:
        if host in found.problems:
            cells: list[Cell] = [None] * (len(names) + len(more))
            cells[place] = _unreachable(found.problems[host])
            rows.append((host, *cells))
        else:
            rows += ((host, *row, *(None for _ in more)) for row in table_of(found.parts[host]).rows)
    return Table((Column("host"), *columns, *more), tuple(rows))


def _unreachable(error: VmsnapError) -> Message:
    """Return why a host gave no answer, in one line."""
    return t("unreachable: {headline} ({why})", headline=error.headline, why=error.reason)


def table_of_internal(space: Space) -> Table:
    """Return the internal snapshots of all images, with what each of them takes."""
    rows = (
        (inside.path, inside.id, inside.name, inside.exclusive, inside.vm_state_size)
        for image in space
        for inside in image.snapshots
    )
    return Table(_INTERNAL, tuple(rows))


@table_of.register
def _(findings: Findings) -> Table:
    rows = ((one.name, one.severity, one.where or None, one.what, one.help or None) for one in findings)
    return Table(_FINDINGS, tuple(rows))


@table_of.register
def _(leftovers: Leftovers) -> Table:
    rows = ((one.path, one.kind, one.allocated, one.last_written, one.evidence, one.doubt or None) for one in leftovers)
    return Table(_LEFTOVERS, tuple(rows))


@table_of.register
def _(freed: Freed) -> Table:
    return Table(_FREED, tuple((path, freed.foreseen.get(path), freed.found.get(path)) for path in freed.paths))


@table_of.register
def _(report: Report) -> Table:
    rows = tuple(
        (
            number,
            done.step.action,
            done.step.image,
            done.state,
            done.size,
            done.seconds,
            "\n".join(report.plan.lines_of(done.step)) or None,
        )
        for number, done in enumerate(report.steps, 1)
    )
    return Table(_REPORT, rows)


@table_of.register
def _(files: Files) -> Table:
    rows = (
        (entry.path, *_entry(entry), entry.inode, entry.links, entry.target or None, entry.volume) for entry in files
    )
    return Table(_FILES, tuple(rows))


@table_of.register
def _(changes: FileChanges) -> Table:
    rows = []
    for one in changes:
        before, after = one.before, one.after
        last = after or before
        rows.append(
            (
                one.path,
                one.change,
                one.kind,
                before.size if before else None,
                after.size if after else None,
                before.mtime if before else None,
                after.mtime if after else None,
                last.permissions if last else None,
                last.owner if last else None,
                one.layer or None,
            )
        )
    return Table(_CHANGES, tuple(rows))


@table_of.register
def _(lost: LostFiles) -> Table:
    return Table(_LOST, tuple((one.path, one.state, *_entry(one.entry)) for one in lost))


@table_of.register
def _(parts: FileParts) -> Table:
    rows = ((part.start, part.length, part.layer, part.image or None, part.kind, part.place) for part in parts)
    return Table(_PARTS, tuple(rows))


def _entry(entry: FileEntry) -> tuple[Cell, ...]:
    return entry.kind, entry.size, entry.mtime, entry.permissions, entry.owner


def _guests(forest: Forest, path: str) -> str | None:
    return ", ".join(sorted({use.guest for use in forest.known_users(path)})) or None


def _needs(forest: Forest, path: str) -> str | None:
    return ", ".join(dict.fromkeys(need.text for need in forest.needed_by(path))) or None


def _count(image: Image, inside: Sized) -> int | None:
    """Count what is inside an image; None where its header was not read, so that nobody knows."""
    read = image.status in {"ok", "loop"} or bool(inside)
    return len(inside) if read else None
