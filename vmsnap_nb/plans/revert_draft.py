"""What exactly a revert would do: which images the disks get, what is kept of now, and what is thrown away."""

from __future__ import annotations

import os.path
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain, State
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.snapshot import Kind, Snapshot, SnapshotDisk, SnapshotRecord
from vmsnap_nb.plans.revert_definition import NewSource
from vmsnap_nb.plans.revert_note import RevertNote
from vmsnap_nb.plans.revert_steps import Discard
from vmsnap_nb.plans.snapshot_draft import SnapshotDraft, SnapshotRequest, draft_snapshot, is_running

__all__ = ["TO", "RevertDisk", "RevertDraft", "RevertRequest", "To", "draft_revert"]

To = Literal["as-taken", "running", "paused", "off"]
TO: tuple[To, ...] = ("as-taken", "running", "paused", "off")
"""What the guest can do after a revert."""

_STEM = "kept"


@dataclass(frozen=True)
class RevertRequest:
    """What the user asked for.

    Attributes
    ----------
    name : str
        Of the snapshot.
    to : str
        One of `TO`.
    keep_current : bool
        Whether a snapshot is taken first of what is there now.
    cut_short : RevertNote or None
        The note of a revert that this one finishes.
    """

    name: str
    to: To = "as-taken"
    keep_current: bool = True
    cut_short: RevertNote | None = None


@dataclass(frozen=True, slots=True)
class RevertDisk:
    """One disk of the guest as it will be.

    Attributes
    ----------
    target : str
        The disk, as ``vda``.
    then : str or None
        The image that holds it as it was; None where the snapshot does not hold it.
    path : str
        The image that it gets.
    format : str
        Of that.
    readonly : bool
        Whether the guest may only read it.
    """

    target: str
    then: str | None
    path: str
    format: str
    readonly: bool = False

    @property
    def new(self) -> bool:
        """Whether it gets a new overlay."""
        return self.then is not None and self.then != self.path

    @property
    def source(self) -> NewSource:
        """The same, for a definition."""
        return NewSource(self.target, self.path, self.format)


@dataclass(frozen=True)
class RevertDraft:
    """A decided revert.

    Attributes
    ----------
    request : RevertRequest
        What was asked for.
    snapshot : Snapshot
        Where it goes back to.
    way : str
        ``inside`` the images, by ``overlays`` on the images of then, or with the ``memory`` alone.
    state : str
        What the guest does afterwards.
    with_memory : bool
        Whether it goes on from the memory that the snapshot holds.
    disks : tuple of RevertDisk
        All that will have an image.
    kept : SnapshotDraft or None
        The snapshot of what is there now.
    discards : tuple of Discard
        Overlays whose content is thrown away.
    note : RevertNote or None
        None where there is no folder for it.
    """

    request: RevertRequest
    snapshot: Snapshot
    way: Literal["inside", "overlays", "memory"]
    state: State
    with_memory: bool
    disks: tuple[RevertDisk, ...]
    kept: SnapshotDraft | None = None
    discards: tuple[Discard, ...] = ()
    note: RevertNote | None = None

    @property
    def record(self) -> SnapshotRecord:
        """The record of the snapshot."""
        return self.snapshot.record

    @property
    def overlays(self) -> tuple[RevertDisk, ...]:
        """The disks that get a new overlay."""
        return tuple(disk for disk in self.disks if disk.new)

    @property
    def paths(self) -> tuple[str, ...]:
        """All files that it makes."""
        note = () if self.note is None else (self.note.path,)
        return (*(disk.path for disk in self.overlays), *(() if self.kept is None else self.kept.paths), *note)


def draft_revert(
    forest: Forest, domain: Domain, request: RevertRequest, *, gone: Collection[str] = (), pflash: bool = False
) -> RevertDraft:
    """Decide what is left open in a request.

    Parameters
    ----------
    forest : Forest
        The images, with the guest's snapshot records.
    domain : Domain
        The guest.
    request : RevertRequest
        What was asked for.
    gone : collection of str
        Paths that records name and at which there is no file.
    pflash : bool
        Whether the guest's firmware keeps variables in a flash image.

    Returns
    -------
    RevertDraft

    Raises
    ------
    NotFoundError
        There is no such snapshot; the error lists those that there are.
    InvalidRequestError
        A state that a guest cannot be reverted to.
    """
    if request.to not in TO:
        raise InvalidRequestError(
            f"revert {domain.name} to {request.name}, {request.to}",
            said=f"there is no state {request.to!r} to go to",
            next_step="the states are: " + ", ".join(TO),
        )
    snapshot = list_snapshots(domain, forest, gone=gone)[request.name]
    record = snapshot.record
    way = _way(record.kind)
    state, with_memory = _end(record, request.to)
    kept = None
    if request.keep_current and way != "memory":
        kept = draft_snapshot(
            forest,
            domain,
            SnapshotRequest(
                kind=_kept_kind(domain, way), description=f"what was there before {record.name}", stem=_STEM
            ),
            pflash=pflash,
        )
    disks = tuple(_disks(forest, domain, record, way, kept))
    discards: tuple[Discard, ...] = ()
    if way == "overlays" and not request.keep_current:
        more = () if request.cut_short is None else request.cut_short.discards
        candidates = [use.path for use in domain.uses if not use.readonly]
        staying = {disk.path for disk in disks}
        every = (path for path in dict.fromkeys((*candidates, *more)) if path not in staying)
        discards = tuple(found for path in every if (found := _discard(forest, domain, path)) is not None)
    return RevertDraft(
        request,
        snapshot,
        way,
        state,
        with_memory,
        disks,
        kept,
        discards,
        _note(domain, request, disks, kept, discards),
    )


def _way(kind: Kind) -> Literal["inside", "overlays", "memory"]:
    if kind.startswith("internal"):
        return "inside"
    return "memory" if kind == "vm-state" else "overlays"


def _end(record: SnapshotRecord, to: To) -> tuple[State, bool]:
    """Give what the guest does in the end, and whether it goes on from the memory of then."""
    if to == "off":
        return "shut off", False
    if record.memory == "no":
        return "shut off" if to == "as-taken" else to, False
    then: State = "paused" if record.state == "paused" else "running"
    return then if to == "as-taken" else to, True


def _kept_kind(domain: Domain, way: str) -> Kind:
    # Inside: an overlay would make the image that libvirt writes into a backing file.
    if way == "inside":
        return "internal-checkpoint" if is_running(domain) else "internal-disk"
    return "external-checkpoint" if is_running(domain) else "external-disk"


def _disks(
    forest: Forest, domain: Domain, record: SnapshotRecord, way: str, kept: SnapshotDraft | None
) -> Iterator[RevertDisk]:
    """Give the disks as they will be: those that the snapshot does not hold stay as they are then."""
    known = {disk.target: disk for disk in domain.disks}
    moved = {} if kept is None else {disk.target: disk.file for disk in kept.disks if disk.file}
    names: set[str] = set()
    for disk in record.disks:
        now = known.get(disk.target)
        readonly = now is not None and now.readonly
        if way == "overlays" and disk.held == "external" and disk.source is not None:
            path = _overlay(forest, disk, names)
            names.add(path)
            yield RevertDisk(disk.target, disk.source, path, "qcow2")
        elif way == "inside" and disk.source is not None:
            yield RevertDisk(disk.target, disk.source, disk.source, _format(forest, disk.source), readonly)
        elif disk.target in moved:
            yield RevertDisk(disk.target, None, moved[disk.target], "qcow2")
        elif (source := now.source if now is not None else disk.source) is not None:
            format = (now.format if now is not None else None) or _format(forest, source)
            yield RevertDisk(disk.target, None, source, format, readonly)


def _format(forest: Forest, path: str) -> str:
    found = forest.images.get(path)
    return (found.format if found is not None else None) or "raw"


def _overlay(forest: Forest, disk: SnapshotDisk, names: Collection[str]) -> str:
    """Name the new overlay after the one that the snapshot made, and beside it."""
    made = disk.file or disk.source or ""
    stem = os.path.join(os.path.dirname(made), Image(made).name)
    number = 2
    while (path := f"{stem}-{number}.qcow2") in forest or path in names:
        number += 1
    return path


def _discard(forest: Forest, domain: Domain, path: str) -> Discard | None:
    """Tell how the content of an overlay is thrown away; None where something else needs it."""
    image = forest.images.get(path)
    if image is None or image.status != "ok" or image.format != "qcow2" or image.backing is None:
        return None
    if forest.status(image.backing.key) not in {"ok", "in-use"}:
        return None
    others = [use for use in forest.users(path) if use.guest != domain.name]
    held = any(disk.source == path for record in forest.records for disk in record.held_disks)
    if others or held or forest.children(path) or image.snapshots or len(forest.same_file(path)) > 1:
        return None
    named = any(disk.file == path for record in forest.records for disk in record.disks)
    return Discard(path, image.backing if named else None, image.allocated)


def _note(
    domain: Domain,
    request: RevertRequest,
    disks: tuple[RevertDisk, ...],
    kept: SnapshotDraft | None,
    discards: tuple[Discard, ...],
) -> RevertNote | None:
    if request.cut_short is not None:
        return replace(request.cut_short, discards=tuple(one.path for one in discards))
    sources = (*(use.path for use in domain.uses if not use.readonly), *(disk.path for disk in disks))
    folder = next((os.path.dirname(path) for path in sources if path.startswith("/") and path[:5] != "/dev/"), None)
    if folder is None:
        return None
    name = None if kept is None else kept.name
    files = tuple(one.path for one in discards)
    return RevertNote(folder, domain.name, domain.uuid, request.name, request.to, name, files)
