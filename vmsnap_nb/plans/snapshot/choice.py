"""What exactly a new snapshot would hold and where: kind, names and files, chosen before anything is judged."""

from __future__ import annotations

import itertools
import os.path
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Disk, Domain
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.kernel_paths import is_kernel_path
from vmsnap_nb.model.names import check_name
from vmsnap_nb.model.snapshot import Held, Kind, SnapshotDisk
from vmsnap_nb.plans.facts import GuestFacts
from vmsnap_nb.words.message import Message, joined, t
from vmsnap_nb.words.states import state_words

if TYPE_CHECKING:
    from vmsnap_nb.plans.snapshot.request import SnapshotRequest

__all__ = ["KINDS", "WORDS", "LeftOut", "SnapshotChoice", "choose"]

KINDS: tuple[Kind, ...] = ("internal-disk", "internal-checkpoint", "external-disk", "external-checkpoint")
"""The kinds that a snapshot can be asked for; VM state alone is saved by `vmsnap_nb.live.guest.Guest.save`."""
WORDS = ("internal", "external", "no")
"""What can be asked for a disk, beside the path of its overlay."""

_FILE_NAME_MAX = 255


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A disk that the snapshot does not hold, and why; `asked` where the user wanted it so."""

    target: str
    why: Message
    writable: bool = False
    asked: bool = False


@dataclass(frozen=True, kw_only=True)
class SnapshotChoice:
    """A snapshot in which nothing is left open.

    `why` says in a clause why it is of this kind, and is None where that was asked for. `disks` are all disks of the
    guest, `left_out` those that it does not hold, and `taken` the names that the guest's snapshots have already.
    """

    request: SnapshotRequest
    name: str
    kind: Kind
    why: Message | None
    disks: tuple[SnapshotDisk, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    memory_file: str | None = None
    taken: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def inside(self) -> bool:
        """Whether the images themselves hold it."""
        return self.kind.startswith("internal")

    @property
    def with_memory(self) -> bool:
        """Whether it holds the guest's memory as well."""
        return self.kind.endswith("checkpoint")

    @property
    def overlays(self) -> tuple[str, ...]:
        """The files that would become the disks' sources."""
        return tuple(disk.file for disk in self.disks if disk.held == "external" and disk.file)

    @property
    def paths(self) -> tuple[str, ...]:
        """All files that it is about beside the images: overlays and memory file."""
        return (*self.overlays, *((self.memory_file,) if self.memory_file else ()))


def choose(forest: Forest, owner: GuestFacts, request: SnapshotRequest) -> SnapshotChoice:
    """Choose what a request leaves open: name, kind, and the files of the disks and of the memory.

    An InvalidRequestError says that a name, kind, disk or combination is not possible.
    """
    domain = owner.domain
    asked = _asked(domain, request)
    _check(request, domain, asked)
    kind, why = (request.kind, None) if request.kind else _choose_kind(forest, owner, request, asked)
    taken = frozenset(record.name for record in forest.records if record.guest == domain.name)
    choice = SnapshotChoice(request=request, name=request.name or "", kind=kind, why=why, taken=taken)
    choice = next(one for one in _named(forest, domain, choice, asked) if request.name or _is_free(forest, one, asked))
    _check_lengths(choice)
    return choice


def _named(
    forest: Forest, domain: Domain, choice: SnapshotChoice, asked: Mapping[str, str]
) -> Iterator[SnapshotChoice]:
    """Yield the choice with each name that it can have, and with the files that follow from the name."""
    for number in itertools.count(1):
        name = choice.request.name or f"{choice.request.stem}{number}"
        disks, left_out = _disks(forest, domain, asked, choice.kind, name)
        memory_file = choice.request.memory_file
        if choice.kind == "external-checkpoint" and memory_file is None:
            memory_file = _memory_file(domain, disks, name)
        yield replace(choice, name=name, disks=disks, left_out=left_out, memory_file=memory_file)


def _is_free(forest: Forest, choice: SnapshotChoice, asked: Mapping[str, str]) -> bool:
    """Return whether no snapshot has that name, and no image those of the overlays that are not named by the user."""
    sources = [disk.source for disk in choice.disks if disk.source]
    tags = {inside.name for source in sources for inside in _image(forest, source).snapshots}
    files = set(choice.overlays) - set(asked.values())
    return choice.name not in choice.taken | tags and (
        choice.request.reuse or not any(p in forest.images for p in files)
    )


def _asked(domain: Domain, request: SnapshotRequest) -> dict[str, str]:
    """Return by target what was asked for its disk: ``internal``, ``external``, ``no``, or the path of the overlay.

    A name without a folder goes beside the disk's image; for a disk that has no folder it stays what it is.
    """
    sources = {disk.target: disk.source or "" for disk in domain.disks}
    if request.disks is None:
        return {}
    if not isinstance(request.disks, Mapping):
        # A target that no disk has stays, to be refused with those that there are.
        wanted = dict.fromkeys((target for target in request.disks if target not in sources), "external")
        return {target: "no" for target in sources if target not in request.disks} | wanted
    return {target: _path(choice, sources.get(target, "")) for target, choice in request.disks.items()}


def _path(choice: str, source: str) -> str:
    if choice in WORDS or "/" in choice or not source.startswith("/"):
        return choice
    return os.path.normpath(os.path.join(os.path.dirname(source), choice))


def _check(request: SnapshotRequest, domain: Domain, asked: Mapping[str, str]) -> None:
    tried = t("take a snapshot of {guest}", guest=domain.name)
    if request.name is not None:
        check_name(request.name, "snapshot")
    if request.kind is not None and request.kind not in KINDS:
        raise InvalidRequestError(
            tried,
            why=t("there is no snapshot kind {kind}", kind=repr(request.kind)),
            next_step=t("use one of these kinds: {kinds}. To save only the memory, use save()", kinds=joined(KINDS)),
        )
    bad = [char for char in request.description if not char.isprintable() and char not in "\n\t"]
    if bad:
        raise InvalidRequestError(
            tried,
            why=t(
                "the description contains a character that XML cannot represent: {character}", character=repr(bad[0])
            ),
            next_step=t("omit that character"),
        )
    _check_disks(domain, asked, tried)
    external = {"argument": "kind='external-disk'"}
    if request.kind not in (None, "external-checkpoint") and request.memory_file is not None:
        raise InvalidRequestError(
            tried,
            why=t("only an external checkpoint has a memory file, but the kind is {kind}", kind=request.kind),
            next_step=t("omit memory_file, or use {argument}", argument="kind='external-checkpoint'"),
        )
    if request.quiesce and request.kind == "internal-disk":
        raise InvalidRequestError(
            tried,
            why=t("quiesce requires a running guest, but an internal disk snapshot requires a guest that is off"),
            next_step=t("omit quiesce, or use {argument}", **external),
        )
    if request.quiesce and request.kind not in (None, "external-disk"):
        raise InvalidRequestError(
            tried,
            why=t("a checkpoint includes the memory, so quiesce is not needed"),
            next_step=t("omit quiesce, or use {argument}", **external),
        )


def _check_disks(domain: Domain, asked: Mapping[str, str], tried: Message) -> None:
    targets = [disk.target for disk in domain.disks]
    for target, choice in asked.items():
        if target not in targets:
            raise InvalidRequestError(
                tried,
                why=t("{guest} has no disk {disk}", guest=domain.name, disk=repr(target)),
                next_step=t("choose one of its disks: {disks}", disks=joined(targets))
                if targets
                else t("the guest has no disks"),
            )
        if choice not in WORDS and not choice.startswith("/"):
            raise InvalidRequestError(
                tried,
                why=t("{value} is not a valid value for disk {disk}", value=repr(choice), disk=target),
                next_step=t("pass 'internal', 'external', 'no', or the path of the new overlay"),
            )


def _image(forest: Forest, path: str) -> Image:
    return forest.images.get(path) or Image(path, status="missing")


def _format(forest: Forest, disk: Disk) -> str | None:
    return disk.format or (_image(forest, disk.source).format if disk.source else None)


def _choose_kind(
    forest: Forest, owner: GuestFacts, request: SnapshotRequest, asked: Mapping[str, str]
) -> tuple[Kind, Message]:
    domain = owner.domain
    choices = set(asked.values()) - {"no"}
    if request.memory_file is not None:
        return "external-checkpoint", t("a memory file was given")
    if request.quiesce:
        return "external-disk", t("quiesce makes the memory unnecessary")
    if request.reuse:
        return "external-disk", t("overlays are reused")
    if choices - {"internal"}:
        return "external-disk", t("an external disk was requested")
    default = [disk for disk in domain.disks if not _why_never(disk)]
    other = [disk for disk in default if _format(forest, disk) != "qcow2" and disk.target not in asked]
    if other:
        format = _format(forest, other[0])
        if format is None:
            why = t(
                "the format of {disk} is unknown, and only qcow2 can hold an internal snapshot", disk=other[0].target
            )
        else:
            why = t(
                "{disk} is {format}, and only qcow2 can hold an internal snapshot", disk=other[0].target, format=format
            )
        return "external-disk", why
    for reason in _why_not_inside(forest, owner, default, asked):
        return "external-disk", reason
    if owner.pflash:
        why = t("the guest has UEFI firmware, and some libvirt versions cannot take internal snapshots of such guests")
        return "external-disk", why
    if owner.running:
        return "internal-checkpoint", t("the guest is {state} and its disks are qcow2", state=state_words(domain.state))
    return "internal-disk", t("the guest is off and its disks are qcow2")


def _why_not_inside(
    forest: Forest, owner: GuestFacts, disks: Iterable[Disk], asked: Mapping[str, str]
) -> Iterator[Message]:
    """Yield the reasons why no internal snapshot is taken, though all disks are qcow2."""
    for disk in disks:
        if disk.device == "floppy" and not owner.running:
            yield t("{disk} is a floppy disk, which libvirt does not include in an internal snapshot", disk=disk.target)
        elif disk.source and _image(forest, disk.source).encryption:
            yield t("{disk} is encrypted, and only its guest can write to it", disk=disk.target)
        elif asked.get(disk.target) == "no":
            yield t("{disk} is left out, and an internal snapshot must include all disks", disk=disk.target)


def _why_never(disk: Disk) -> Message | None:
    """Return the reason why a disk is left out of every snapshot unless asked for, if there is one."""
    if not disk.source and disk.device in {"cdrom", "floppy"}:  # others are NVMe devices, vhost-user and the like
        return t("the drive is empty")
    if disk.device == "cdrom":
        return t("its device type is {device}", device=disk.device)
    if disk.readonly:
        return t("the guest cannot write to it")
    return None


def _disks(
    forest: Forest, domain: Domain, asked: Mapping[str, str], kind: Kind, name: str
) -> tuple[tuple[SnapshotDisk, ...], tuple[LeftOut, ...]]:
    disks: list[SnapshotDisk] = []
    left_out: list[LeftOut] = []
    files = dict(_files(forest, domain, name))
    for disk in domain.disks:
        choice = asked.get(disk.target)
        held: Held = "no"
        if choice == "no":
            left_out.append(LeftOut(disk.target, t("left out as requested"), not _why_never(disk), asked=True))
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


def _why_not(forest: Forest, disk: Disk, kind: Kind) -> Message | None:
    """Return the reason why a disk cannot be part of this kind of snapshot, if there is one."""
    if kind.startswith("internal"):
        format = _format(forest, disk)
        if format is None:
            return t("its format is unknown, and only qcow2 can hold an internal snapshot")
        if format != "qcow2":
            return t("it is {format}, and only qcow2 can hold an internal snapshot", format=format)
    elif not _is_file(forest, disk.source):
        return t("it is not a file, so its overlay has no default path")
    return None


def _is_file(forest: Forest, source: str | None) -> bool:
    """Return whether a disk is a file, beside which another can be made; so it is below /dev/shm, too."""
    if source is None or not source.startswith("/"):
        return False
    return not (is_kernel_path(source) or _image(forest, source).device)


def _files(forest: Forest, domain: Domain, name: str) -> Iterator[tuple[str, str]]:
    """Name the new overlays: beside the image, ``<image>.<snapshot>.qcow2``; a second snapshot replaces the name."""
    paths: dict[str, list[Disk]] = {}
    for disk in domain.disks:
        if disk.source is not None and _is_file(forest, disk.source):
            plain = os.path.normpath(disk.source)
            source = plain if forest.same(plain, disk.source) else disk.source
            folder = os.path.dirname(source)
            every = [os.path.join(folder, f"{stem}.{name}.qcow2") for stem in _stems(forest, domain, source)]
            own = forest.known_lineage(source)
            paths.setdefault(next((path for path in every if path not in own), every[-1]), []).append(disk)
    for path, disks in paths.items():
        for disk in disks:
            several = len(disks) > 1
            yield disk.target, path.removesuffix("qcow2") + f"{disk.target}.qcow2" if several else path


def _stems(forest: Forest, domain: Domain, source: str) -> Iterator[str]:
    """Return what the name of an overlay on an image can begin with, the shortest first and that of the image last.

    An image that is called after a layer below it, as ``demo.snap1-2`` after ``demo``, is an overlay of that one: names
    do not grow with each snapshot. A layer that is not the guest's alone, as a template, does not count.
    """
    image = Image(source)
    for path in reversed(forest.known_lineage(source)[1:]):
        layer = forest[path]
        alone = layer.writable and all(use.guest == domain.name for use in forest.users(path))
        if alone and os.path.dirname(path) == os.path.dirname(source) and image.name.startswith(f"{layer.name}."):
            yield layer.name
    for record in forest.records:
        if record.guest == domain.name and any(forest.same(source, disk.file) for disk in record.disks):
            yield image.name.removesuffix(f".{record.name}")
    yield image.name


def _memory_file(domain: Domain, disks: tuple[SnapshotDisk, ...], name: str) -> str:
    first = next((disk.file for disk in disks if disk.file), None)
    if first is None:
        raise InvalidRequestError(
            t("take an external checkpoint of {guest}", guest=domain.name),
            why=t("the snapshot includes no disk, so the memory file has no default path"),
            next_step=t("name the file: {argument}", argument="memory_file=…"),
        )
    return os.path.join(os.path.dirname(first), f"{Image(first).name.removesuffix('.' + name)}.{name}.mem")


def _check_lengths(choice: SnapshotChoice) -> None:
    for path in choice.paths:
        if len(os.fsencode(os.path.basename(path))) > _FILE_NAME_MAX:
            raise InvalidRequestError(
                t("create a file {name}…", name=os.path.basename(path)[:60]),
                why=t("a file name can have at most {most} bytes", most=_FILE_NAME_MAX),
                next_step=t("choose a shorter snapshot name, or pass the file names in disks"),
            )
