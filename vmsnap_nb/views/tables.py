"""What the table of each kind of object holds, as plain data: frames and HTML tables are both made from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import singledispatch
from typing import Literal

from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.model.guest import Disks
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.shown import Shown
from vmsnap_nb.model.snapshot import Snapshot, SnapshotList, SnapshotLists
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.report import Report

__all__ = ["Cell", "Column", "Table", "table_of", "table_of_alternatives"]

Cell = str | int | float | bool | datetime | None


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name and what it holds; ``bytes`` are numbers to be read in KiB and GiB, a ``time`` is in UTC."""

    name: str
    kind: Literal["text", "bytes", "count", "seconds", "yes or no", "path", "command", "time"] = "text"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; the first column is the index.

    Attributes
    ----------
    columns : tuple of Column
        The index first.
    rows : tuple of tuple
        One cell a column; None where nothing is known or nothing applies.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


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
    Column("used_by"),
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
    Column("snapshots", "count"),
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
_SNAPSHOT = (
    Column("kind"),
    Column("state"),
    Column("created", "time"),
    Column("parent"),
    Column("current", "yes or no"),
    Column("disks"),
    Column("files"),
    Column("memory_file"),
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
_REPORT = (
    Column("step", "count"),
    Column("action"),
    Column("image", "path"),
    Column("state"),
    Column("bytes", "bytes"),
    Column("seconds", "seconds"),
    Column("command", "command"),
)


@singledispatch
def table_of(thing: Shown) -> Table:
    """Give the table of an object.

    Parameters
    ----------
    thing : Shown
        A Forest, Chain, Disks, SnapshotList, Plan or Report. A new kind registers itself: ``@table_of.register``.

    Returns
    -------
    Table
        Sizes in bytes. ``snapshots`` counts internal snapshots, ``used_by`` names the guests that read an image, as
        their source or below it. Steps are counted from 1, layers from 0.
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
            _snapshots(image),
            _guests(forest, path),
            forest.status(path),
        )


@table_of.register
def _(chain: Chain) -> Table:
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
            _guests(chain.forest, image.path),
            _snapshots(image),
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
def _(snapshots: SnapshotList) -> Table:
    return Table((Column("name"), *_SNAPSHOT), tuple((one.name, *_snapshot(one)) for one in snapshots))


@table_of.register
def _(lists: SnapshotLists) -> Table:
    rows = tuple((every.guest, one.name, *_snapshot(one)) for every in lists for one in every)
    return Table((Column("guest"), Column("name"), *_SNAPSHOT), rows)


def _snapshot(snapshot: Snapshot) -> tuple[Cell, ...]:
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
        record.description or None,
        snapshot.status,
    )


@table_of.register
def _(plan: Plan) -> Table:
    rows = tuple(
        (number, step.action, step.image, step.what, step.size, "\n".join(step.commands) or None)
        for number, step in enumerate(plan.steps, 1)
    )
    return Table(_PLAN, rows)


def table_of_alternatives(plan: Plan) -> Table:
    """Give the ways that a plan compared, the cheapest first."""
    rows = tuple((way.what, way.size, way.chosen, way.refused or None) for way in plan.alternatives)
    return Table(_ALTERNATIVES, rows)


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
            "\n".join(done.step.commands) or None,
        )
        for number, done in enumerate(report.steps, 1)
    )
    return Table(_REPORT, rows)


def _guests(forest: Forest, path: str) -> str | None:
    return ", ".join(sorted({use.guest for use in forest.users(path)})) or None


def _snapshots(image: Image) -> int | None:
    """Count internal snapshots; None where the header was not read, so that nobody knows."""
    read = image.status in {"ok", "in-use", "loop"} or bool(image.snapshots)
    return len(image.snapshots) if read else None
