"""What exactly a new snapshot would hold and where: kind, names and files, decided before anything is judged."""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.names import check_name
from vmsnap_nb.model.snapshot import Held, Kind, SnapshotDisk

__all__ = ["KINDS", "LeftOut", "SnapshotDraft", "SnapshotRequest", "draft_snapshot"]

KINDS: tuple[Kind, ...] = ("internal-disk", "internal-checkpoint", "external-disk", "external-checkpoint")
"""The kinds that a snapshot can be asked for; VM state alone is saved by `vmsnap_nb.live.guest.Guest.save`."""


_FILE_NAME_MAX = 255


@dataclass(frozen=True)
class SnapshotRequest:
    """What the user asked for.

    Attributes
    ----------
    name : str or None
        `stem` and the first number that is free if None.
    kind : str or None
        One of `KINDS`; chosen by the guest's state and disks if None.
    description : str
        The user's words.
    disks : mapping of str to str, or None
        By target: ``internal``, ``external``, ``no``, or the absolute path of the new overlay.
    quiesce : bool
        Whether the guest agent freezes the file systems meanwhile.
    memory_file : str or None
        Absolute path, for an external checkpoint.
    atomic : bool
        All disks or none.
    reuse : bool
        Whether the overlays are there already, made by the user.
    metadata : bool
        Whether libvirt keeps a record.
    stem : str
        What names begin with that are chosen here: ``snap1``, ``snap2``, ….
    """

    name: str | None = None
    kind: Kind | None = None
    description: str = ""
    disks: Mapping[str, str] | None = None
    quiesce: bool = False
    memory_file: str | None = None
    atomic: bool = True
    reuse: bool = False
    metadata: bool = True
    stem: str = "snap"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A disk that the snapshot does not hold, and why; `asked` where the user wanted it so."""

    target: str
    why: str
    writable: bool = False
    asked: bool = False


@dataclass(frozen=True)
class SnapshotDraft:
    """A decided snapshot.

    Attributes
    ----------
    request : SnapshotRequest
        What was asked for.
    name : str
        Its name.
    kind : str
        One of `KINDS`.
    why : str
        Why this kind, in a clause, or empty where it was asked for.
    disks : tuple of SnapshotDisk
        All disks of the guest.
    left_out : tuple of LeftOut
        Those that it does not hold.
    memory_file : str or None
        For an external checkpoint.
    taken : frozenset of str
        Names that snapshots of the guest have already.
    """

    request: SnapshotRequest
    name: str
    kind: Kind
    why: str
    disks: tuple[SnapshotDisk, ...]
    left_out: tuple[LeftOut, ...] = ()
    memory_file: str | None = None
    taken: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def overlays(self) -> tuple[str, ...]:
        """The files that would become the disks' sources."""
        return tuple(disk.file for disk in self.disks if disk.held == "external" and disk.file)

    @property
    def paths(self) -> tuple[str, ...]:
        """All files that it is about beside the images: overlays and memory file."""
        return (*self.overlays, *((self.memory_file,) if self.memory_file else ()))


def draft_snapshot(forest: Forest, domain: Domain, request: SnapshotRequest, *, pflash: bool = False) -> SnapshotDraft:
    """Decide what is left open in a request.

    Parameters
    ----------
    forest : Forest
        The images, with the guest's snapshot records.
    domain : Domain
        The guest.
    request : SnapshotRequest
        What was asked for.
    pflash : bool
        Whether the guest's firmware keeps variables in a flash image.

    Returns
    -------
    SnapshotDraft

    Raises
    ------
    InvalidRequestError
        A name, kind, disk or combination that cannot be meant.
    """
    _check(request, domain)
    kind, why = (request.kind, "") if request.kind else _choose_kind(forest, domain, request, pflash=pflash)
    taken = frozenset(record.name for record in forest.records if record.guest == domain.name)
    tags = {inside.name for use in domain.uses for inside in _image(forest, use.path).snapshots}
    number = 0
    while True:
        number += 1
        name = request.name or f"{request.stem}{number}"
        disks, left_out = _disks(forest, domain, request, kind, name)
        memory_file = request.memory_file
        if kind == "external-checkpoint" and memory_file is None:
            memory_file = _memory_file(domain, disks, name)
        draft = SnapshotDraft(request, name, kind, why, disks, left_out, memory_file, taken)
        # A file that the user names is no reason to look for another name.
        ours = set(draft.overlays) - set((request.disks or {}).values())
        if request.name or (name not in taken | tags and (request.reuse or not any(path in forest for path in ours))):
            _check_lengths(draft)
            return draft


def _check(request: SnapshotRequest, domain: Domain) -> None:
    tried = f"take a snapshot of {domain.name}"
    if request.name is not None:
        check_name(request.name, "snapshot")
    if request.kind is not None and request.kind not in KINDS:
        raise InvalidRequestError(
            f"{tried} of the kind {request.kind!r}",
            said="there is no such kind",
            next_step="the kinds are: " + ", ".join(KINDS) + "; for memory alone use save()",
        )
    bad = [char for char in request.description if not char.isprintable() and char not in "\n\t"]
    if bad:
        raise InvalidRequestError(
            f"{tried} with the description {request.description[:60]!r}",
            said=f"it has a character that cannot be written in XML: {bad[0]!r}",
            next_step="leave that out",
        )
    targets = [disk.target for disk in domain.disks]
    for target, choice in (request.disks or {}).items():
        if target not in targets:
            raise InvalidRequestError(
                f"{tried} with the disk {target!r}",
                said="it has no such disk",
                next_step="it has: " + ", ".join(targets) if targets else "it has no disk at all",
            )
        if choice not in ("internal", "external", "no") and not choice.startswith("/"):
            raise InvalidRequestError(
                f"{tried} with the disk {target} {choice!r}",
                next_step="give 'internal', 'external', 'no', or the path of the new overlay",
            )
    if request.kind not in (None, "external-checkpoint") and request.memory_file is not None:
        raise InvalidRequestError(
            f"{tried} of the kind {request.kind} with a memory file",
            said="only an external checkpoint has one",
            next_step="leave memory_file out, or use kind='external-checkpoint'",
        )
    if request.quiesce and request.kind not in (None, "external-disk"):
        raise InvalidRequestError(
            f"{tried} of the kind {request.kind} with quiesce",
            said="a checkpoint holds the memory, so nothing needs to be flushed, and a guest that is off has no agent"
            if request.kind != "internal-disk"
            else "an internal disk snapshot is taken of a guest that is off",
            next_step="leave quiesce out, or use kind='external-disk'",
        )


def _image(forest: Forest, path: str) -> Image:
    return forest.images.get(path) or Image(path, status="missing")


def _format(forest: Forest, disk: Disk) -> str | None:
    return disk.format or (_image(forest, disk.source).format if disk.source else None)


def _choose_kind(forest: Forest, domain: Domain, request: SnapshotRequest, *, pflash: bool) -> tuple[Kind, str]:
    running = is_running(domain)
    choices = set((request.disks or {}).values()) - {"no"}
    if request.memory_file is not None:
        return "external-checkpoint", "a memory file was given"
    if request.quiesce:
        return "external-disk", "with quiesce the memory is not needed"
    if request.reuse:
        return "external-disk", "overlays are to be reused"
    if choices - {"internal"}:
        return "external-disk", "a disk is to be external"
    default = [disk for disk in domain.disks if not _why_never(disk)]
    other = [disk for disk in default if _format(forest, disk) != "qcow2" and disk.target not in (request.disks or {})]
    if other:
        which = f"{other[0].target} is {_format(forest, other[0]) or 'of unknown format'}"
        return "external-disk", f"{which}, and only qcow2 can hold a snapshot inside"
    without = [disk.target for disk in default if (request.disks or {}).get(disk.target) == "no"]
    if without:
        return "external-disk", f"{without[0]} is left out, and libvirt takes internal snapshots of all disks or none"
    if pflash:
        return "external-disk", "the guest has UEFI firmware, and not every libvirt takes internal snapshots of it"
    if running:
        return "internal-checkpoint", f"the guest is {domain.state} and its disks are qcow2"
    return "internal-disk", "the guest is off and its disks are qcow2"


def is_running(domain: Domain) -> bool:
    """Tell whether QEMU runs for the guest."""
    return domain.state not in {"shut off", "crashed", "no state"}


def _why_never(disk: Disk) -> str:
    """Give the reason why a disk is left out of every snapshot unless asked for, or an empty text."""
    if not disk.source:
        return "nothing is in it"
    if disk.device not in {"disk", "lun"}:
        return f"it is a {disk.device}"
    if disk.readonly:
        return "the guest cannot write to it"
    return ""


def _disks(
    forest: Forest, domain: Domain, request: SnapshotRequest, kind: Kind, name: str
) -> tuple[tuple[SnapshotDisk, ...], tuple[LeftOut, ...]]:
    disks: list[SnapshotDisk] = []
    left_out: list[LeftOut] = []
    files = dict(_files(forest, domain, name))
    for disk in domain.disks:
        choice = (request.disks or {}).get(disk.target)
        held: Held = "no"
        if choice == "no":
            left_out.append(LeftOut(disk.target, "you said so", not _why_never(disk), asked=True))
        elif choice is not None:
            held = "internal" if choice == "internal" else "external"
        elif why := _why_never(disk) or _why_not(forest, disk, kind):
            left_out.append(LeftOut(disk.target, why, not _why_never(disk)))
        else:
            held = "internal" if kind.startswith("internal") else "external"
        file = None
        if held == "external":
            file = choice if choice is not None and choice.startswith("/") else files.get(disk.target)
        disks.append(SnapshotDisk(disk.target, held, disk.source, file))
    return tuple(disks), tuple(left_out)


def _why_not(forest: Forest, disk: Disk, kind: Kind) -> str:
    """Give the reason why a disk cannot be part of this kind of snapshot, or an empty text."""
    if kind.startswith("internal"):
        format = _format(forest, disk)
        return (
            "" if format == "qcow2" else f"it is {format or 'of unknown format'}, and only qcow2 has room for it inside"
        )
    if not _is_file(disk.source):
        return "it is no file, so no place for its overlay follows from it: name one in disks"
    return ""


def _is_file(source: str | None) -> bool:
    return source is not None and source.startswith("/") and not source.startswith("/dev/")


def _files(forest: Forest, domain: Domain, name: str) -> Iterator[tuple[str, str]]:
    """Name the new overlays: beside the image, ``<image>.<snapshot>.qcow2``; a second snapshot replaces the name."""
    paths: dict[str, list[Disk]] = {}
    for disk in domain.disks:
        if disk.source is not None and _is_file(disk.source):
            folder = os.path.dirname(disk.source)
            every = [os.path.join(folder, f"{stem}.{name}.qcow2") for stem in _stems(forest, domain, disk.source)]
            own = forest.lineage(disk.source)
            paths.setdefault(next((path for path in every if path not in own), every[-1]), []).append(disk)
    for path, disks in paths.items():
        for disk in disks:
            several = len(disks) > 1
            yield disk.target, path.removesuffix("qcow2") + f"{disk.target}.qcow2" if several else path


def _stems(forest: Forest, domain: Domain, source: str) -> Iterator[str]:
    """Give what the name of an overlay on an image can begin with, the shortest first and that of the image last.

    An image that is called after a layer below it, as ``demo.snap1-2`` after ``demo``, is an overlay of that one: names
    do not grow with each snapshot. A layer that is not the guest's alone, as a template, does not count.
    """
    image = Image(source)
    for path in reversed(forest.lineage(source)[1:]):
        layer = forest[path]
        alone = layer.writable and all(use.guest == domain.name for use in forest.users(path))
        if alone and os.path.dirname(path) == os.path.dirname(source) and image.name.startswith(f"{layer.name}."):
            yield layer.name
    for record in forest.records:
        if record.guest == domain.name and source in (disk.file for disk in record.disks):
            yield image.name.removesuffix(f".{record.name}")
    yield image.name


def _memory_file(domain: Domain, disks: tuple[SnapshotDisk, ...], name: str) -> str:
    first = next((disk.file for disk in disks if disk.file), None)
    if first is None:
        raise InvalidRequestError(
            f"take an external checkpoint of {domain.name}",
            said="no disk is part of it, so no place for the memory file follows",
            next_step="name one: memory_file=…",
        )
    return os.path.join(os.path.dirname(first), f"{Image(first).name.removesuffix('.' + name)}.{name}.mem")


def _check_lengths(draft: SnapshotDraft) -> None:
    for path in draft.paths:
        if len(os.fsencode(os.path.basename(path))) > _FILE_NAME_MAX:
            raise InvalidRequestError(
                f"name a file {os.path.basename(path)[:60]}…",
                said=f"the name would have more than {_FILE_NAME_MAX} bytes",
                next_step="give the snapshot a shorter name, or name the files in disks",
            )
