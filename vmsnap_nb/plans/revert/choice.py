"""What exactly a revert would do: which images the disks get, what of the current state is kept, what is discarded."""

from __future__ import annotations

import os.path
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain, State
from vmsnap_nb.model.image import OPENABLE, Image
from vmsnap_nb.model.kernel_paths import is_kernel_path
from vmsnap_nb.model.snapshot import Kind, Snapshot, SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.checks.needed import beyond
from vmsnap_nb.plans.journal import InsideEntry, RevertEntry
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.revert.definition import NewSource, recorded_format
from vmsnap_nb.plans.revert.steps import Discard
from vmsnap_nb.plans.snapshot.choice import SnapshotChoice
from vmsnap_nb.plans.snapshot.choice import choose as choose_snapshot
from vmsnap_nb.plans.snapshot.request import SnapshotRequest
from vmsnap_nb.words.message import t

if TYPE_CHECKING:
    from vmsnap_nb.plans.revert.request import RevertRequest, To

__all__ = ["RevertChoice", "RevertDisk", "choose", "image_format"]

_Way = Literal["inside", "overlays", "memory"]
_STEM = "kept"
"""What the name of the snapshot of what is there now begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertDisk:
    """One disk of the guest as it will be.

    `then` is the image that holds it as it was, None where the snapshot does not hold it; `path` the one that it gets.
    """

    target: str
    then: str | None
    path: str
    format: str
    readonly: bool = False
    device: bool = False  # `path` is a block device

    @property
    def new(self) -> bool:
        """Whether it gets a new overlay."""
        return self.then is not None and self.then != self.path

    @property
    def held(self) -> str:
        """The image that has its content at that time, as far as anything has."""
        return self.path if self.then is None else self.then

    @property
    def source(self) -> NewSource:
        """The same, for a definition."""
        return NewSource(self.target, self.path, self.format, self.device)


@dataclass(frozen=True, kw_only=True)
class RevertChoice:
    """A revert in which nothing is left open.

    It goes back inside the images, by overlays on the images it names, or with the memory alone. `state` is what the
    guest does afterwards, `kept` the snapshot of what is there now, `discards` are the overlays whose content is thrown
    away, and `entry` is None where there is no folder for it.
    """

    request: RevertRequest
    snapshot: Snapshot
    way: _Way
    state: State
    with_memory: bool
    disks: tuple[RevertDisk, ...]
    kept: SnapshotChoice | None = None
    discards: tuple[Discard, ...] = ()
    entry: RevertEntry | None = None

    @property
    def record(self) -> SnapshotRecord:
        """The record of the snapshot."""
        return self.snapshot.record

    @property
    def overlays(self) -> tuple[RevertDisk, ...]:
        """The disks that get a new overlay."""
        return tuple(disk for disk in self.disks if disk.new)

    @property
    def kept_name(self) -> str | None:
        """The name of the snapshot of what is there now."""
        return None if self.kept is None else self.kept.name


def choose(reading: Reading, request: RevertRequest) -> RevertChoice:
    """Choose what a request leaves open; a NotFoundError lists the snapshots that there are."""
    forest, domain = reading.forest, reading.owner.domain
    snapshot = reading.snapshots[request.name]
    record = snapshot.record
    way = _way(record.kind)
    state, with_memory = _end(record, request.to)
    kept, keeps = None, request.keep_current and not _is_kept(reading, request, way)
    if keeps and way != "memory":
        keep = SnapshotRequest(
            guest=request.guest,
            kind=_kept_kind(domain, way),
            description=t("state before the revert to {name}", name=record.name),
            stem=_STEM,
        )
        kept = choose_snapshot(forest, reading.owner, keep)
    disks = tuple(_disks(forest, domain, record, way, kept))
    discards: tuple[Discard, ...] = ()
    if way == "overlays" and not keeps:
        discards = tuple(_discards(forest, domain, request, {disk.path for disk in disks}))
    choice = RevertChoice(
        request=request,
        snapshot=snapshot,
        way=way,
        state=state,
        with_memory=with_memory,
        disks=disks,
        kept=kept,
        discards=discards,
    )
    return replace(choice, entry=_entry(domain, choice))


def _is_kept(reading: Reading, request: RevertRequest, way: _Way) -> bool:
    """Return whether an interrupted revert has kept all that is there; what is not known may be new.

    The guest may have gone on after that, or have been started again: then what it wrote is nowhere else.
    """
    entry, domain = request.interrupted, reading.owner.domain
    if entry is None or entry.kept is None or domain.running or entry.kept not in reading.snapshots.names:
        return False
    snapshot = reading.snapshots[request.name]
    if way == "inside" and _is_there(reading, snapshot.record):
        return True
    if way == "inside":
        changes = (one for one in reading.entries if isinstance(one, InsideEntry) and one.change == "revert")
        return any(reading.forest.same(one.image, use.path) for one in changes for use in domain.uses)
    taken = {disk.target for disk in snapshot.record.held_disks}
    tops = [use.path for use in domain.uses if use.target in taken and not use.readonly]
    return all(path in reading.maps and not reading.maps[path].extents for path in tops)


def _is_there(reading: Reading, record: SnapshotRecord) -> bool:
    """Return whether a revert to an internal snapshot was complete, and nothing was written since."""
    held = {disk.target for disk in record.held_disks}
    tops = [use.path for use in reading.owner.domain.uses if use.target in held]
    return bool(tops) and all((path, record.name) in reading.as_taken for path in tops)


def _way(kind: Kind) -> _Way:
    if kind.startswith("internal"):
        return "inside"
    return "memory" if kind == "vm-state" else "overlays"


def _end(record: SnapshotRecord, to: To) -> tuple[State, bool]:
    """Return what the guest does in the end, and whether it continues from the saved memory."""
    if to == "off":
        return "shut off", False
    if record.memory == "no":
        return "shut off" if to == "as-taken" else to, False
    then: State = "paused" if record.state == "paused" else "running"
    return then if to == "as-taken" else to, True


def _kept_kind(domain: Domain, way: _Way) -> Kind:
    # Inside: an overlay would make the image that libvirt writes into a backing file.
    if way == "inside":
        return "internal-checkpoint" if domain.running else "internal-disk"
    return "external-checkpoint" if domain.running else "external-disk"


def _disks(
    forest: Forest, domain: Domain, record: SnapshotRecord, way: _Way, kept: SnapshotChoice | None
) -> Iterator[RevertDisk]:
    """Return the disks as they will be: those that the snapshot does not hold stay as they are then."""
    known = {disk.target: disk for disk in domain.disks}
    moved = {} if kept is None else {disk.target: disk.file for disk in kept.disks if disk.file}
    names: set[str] = set()
    for disk in record.disks:
        target, source = disk.target, disk.source
        now = known.get(target)
        readonly = now is not None and now.readonly
        if way == "overlays" and disk.held == "external" and source is not None:
            path = _overlay(forest, disk, names)
            names.add(path)
            yield RevertDisk(target=target, then=source, path=path, format="qcow2")
        elif way == "inside" and source is not None:
            format = image_format(forest, source, recorded_format(record.xml, target))
            device = source in forest.known_devices(source)
            yield RevertDisk(target=target, then=source, path=source, format=format, readonly=readonly, device=device)
        elif target in moved:
            yield RevertDisk(target=target, then=None, path=moved[target], format="qcow2")
        elif (current := now.source if now is not None else source) is not None:
            format = (now.format if now is not None else None) or image_format(forest, current)
            device = current in forest.known_devices(current)
            yield RevertDisk(target=target, then=None, path=current, format=format, readonly=readonly, device=device)


def image_format(forest: Forest, path: str, recorded: str | None = None) -> str:
    """Return the format of an image: of one that was not read what a record says, or raw, as libvirt takes it then."""
    image = forest.images.get(path)
    return (image.format if image is not None else None) or recorded or "raw"


def _overlay(forest: Forest, disk: SnapshotDisk, names: Collection[str]) -> str:
    """Return a name for the new overlay: after the one that the snapshot made, and beside it."""
    made = disk.file or disk.source or ""
    stem = os.path.join(os.path.dirname(made), Image(made).name)
    number = 2
    while (path := f"{stem}-{number}.qcow2") in forest.images or path in names:
        number += 1
    return path


def _discards(forest: Forest, domain: Domain, request: RevertRequest, staying: Collection[str]) -> Iterator[Discard]:
    """Return the current overlays, and those of an interrupted revert, whose content nothing else needs."""
    more = () if request.interrupted is None else request.interrupted.discards
    for path in dict.fromkeys((*(use.path for use in domain.uses if not use.readonly), *more)):
        discard = None if path in staying else _discard(forest, domain, path)
        if discard is not None:
            yield discard


def _discard(forest: Forest, domain: Domain, path: str) -> Discard | None:
    """Return how the content of an overlay is thrown away; None where something else needs it."""
    image = forest.images.get(path)
    if image is None or image.status != "ok" or image.format != "qcow2" or image.backing is None or image.device:
        return None
    if forest.status(image.backing.key) not in OPENABLE:
        return None
    others = [use for use in forest.known_users(path) if use.guest != domain.name]
    held = any(disk.source == path for record in forest.records for disk in record.held_disks)
    if others or held or beyond(forest, path) or forest.known_children(path):
        return None
    if image.snapshots or len(forest.same_file(path)) > 1:
        return None
    named = any(disk.file == path for record in forest.records for disk in record.disks)
    return Discard(path, image.backing if named else None, size=image.allocated, identity=image.identity)


def _entry(domain: Domain, choice: RevertChoice) -> RevertEntry | None:
    request, discards = choice.request, tuple(discard.path for discard in choice.discards)
    if request.interrupted is not None:
        return replace(request.interrupted, kept=choice.kept_name or request.interrupted.kept, discards=discards)
    sources = (*(use.path for use in domain.uses if not use.readonly), *(disk.path for disk in choice.disks))
    folder = next(
        (os.path.dirname(path) for path in sources if path.startswith("/") and not is_kernel_path(path)), None
    )
    if folder is None:
        return None
    return RevertEntry(
        folder=folder,
        guest=domain.name,
        uuid=domain.uuid,
        name=request.name,
        to=request.to,
        kept=choice.kept_name,
        discards=discards,
    )
