"""The single actions of plans that revert a guest to a snapshot."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from vmsnap_nb.model.guest import State
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.by_hand import create_overlay_argv, with_input
from vmsnap_nb.plans.journal import RevertEntry
from vmsnap_nb.plans.revert.definition import NewSource
from vmsnap_nb.plans.step import GuestStep, PathOf, PathsOf
from vmsnap_nb.words.message import N_, Message, clauses, joined, listed, t
from vmsnap_nb.words.states import state_words

__all__ = [
    "BeginRevert",
    "Discard",
    "DiscardOverlays",
    "EndGuest",
    "EndRevert",
    "MakeCurrent",
    "RestoreMemory",
    "RevertInside",
    "StartGuest",
    "TakeDefinition",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginRevert(GuestStep):
    """Write down what is about to be done, so that it is known if it is interrupted."""

    entry: RevertEntry

    action = N_("record revert")
    performer = "this process"
    entry_path = PathOf("entry.path")
    is_note = True

    @property
    def what(self) -> Message:
        return t(
            "record the revert of {guest} to {name}, so that unfinished() finds it after an interruption",
            guest=self.guest.name,
            name=self.entry.name,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRevert(BeginRevert):
    """Remove that entry."""

    action = N_("remove entry")

    @property
    def what(self) -> Message:
        return t(
            "remove the journal entry of the revert of {guest} to {name}", guest=self.guest.name, name=self.entry.name
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EndGuest(GuestStep):
    """Power a guest off, without a shutdown."""

    state: State  # before
    kept: str | None = None  # the snapshot that holds its memory of this moment, to take this back

    action = N_("stop guest")

    @property
    def what(self) -> Message:
        return t("{guest} is {state}: power it off", guest=self.guest.name, state=state_words(self.state))

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (self.virsh("destroy"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeDefinition(GuestStep):
    """Give a guest that is off the definition that it had at a snapshot, with these images as its disks."""

    name: str  # of the snapshot
    before: tuple[NewSource, ...]  # the images that its disks have
    sources: tuple[NewSource, ...]  # the images that they get
    xml: str = field(default="", compare=False, repr=False)  # for the command; passwords are not in it

    action = N_("redefine guest")

    @property
    def image(self) -> str:
        had = {(source.target, source.path) for source in self.before}
        return next((one.path for one in self.sources if (one.target, one.path) not in had), "")

    @property
    def what(self) -> Message:
        disks = joined(t("{disk} = {path}", disk=source.target, path=source.path) for source in self.sources)
        return t(
            "restore the definition of {guest} from {name}, with these disks: {disks}",
            guest=self.guest.name,
            name=self.name,
            disks=disks,
        )

    @property
    def commands(self) -> tuple[str, ...]:
        argv = self.virsh("define", "--file", "/dev/stdin", domain=False)
        return (with_input(argv, self.xml),)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreMemory(GuestStep):
    """Let a guest resume from the memory that a snapshot holds in a file, on these images."""

    name: str  # of the snapshot
    path: str
    paused: bool  # whether it is paused then
    sources: tuple[NewSource, ...]
    xml: str = field(default="", compare=False, repr=False)  # for the command; passwords are not in it

    action = N_("restore state")
    image = PathOf("path")

    @property
    def what(self) -> Message:
        if self.paused:
            return t(
                "{guest} is restored from the memory of snapshot {name}, and is then paused; the file is kept",
                guest=self.guest.name,
                name=self.name,
            )
        return t(
            "{guest} resumes from the memory of snapshot {name}; the file is kept",
            guest=self.guest.name,
            name=self.name,
        )

    @property
    def commands(self) -> tuple[str, ...]:
        options = ("--file", self.path, "--xml", "/dev/stdin", "--paused" if self.paused else "--running")
        return (with_input(self.virsh("restore", *options, domain=False), self.xml),)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartGuest(GuestStep):
    """Start a guest from its disks."""

    paused: bool = False

    action = N_("start the guest")

    @property
    def what(self) -> Message:
        if self.paused:
            return t("{guest} starts from its disks, and is paused before its first instruction", guest=self.guest.name)
        return t("{guest} starts from its disks", guest=self.guest.name)

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (self.virsh("start", *(("--paused",) if self.paused else ())),)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertInside(GuestStep):
    """Let libvirt revert to a snapshot that lies inside the images."""

    name: str  # of the snapshot
    state: State  # before
    sources: tuple[str, ...]  # the images that are written
    to: str  # running, paused, or off for one without memory
    kept: str | None = None  # the snapshot of what is there before, to go back to if this fails
    created: datetime | None = field(default=None, repr=False)  # another one may have its name by then

    action = N_("revert in place")
    writes = PathsOf("sources")

    @property
    def what(self) -> Message:
        images = listed(self.sources)
        fields = {"images": images, "name": self.name, "guest": self.guest.name}
        if self.to == "off":
            return t("restore the content of {images} from snapshot {name}; {guest} is then off", **fields)
        if self.to == "paused":
            return t("restore the content of {images} from snapshot {name}; {guest} is then paused", **fields)
        return t("restore the content of {images} from snapshot {name}; {guest} then runs", **fields)

    @property
    def flags(self) -> tuple[str, ...]:
        """What follows ``VIR_DOMAIN_SNAPSHOT_REVERT_`` in the names of libvirt's flags.

        Always with ``FORCE``: what libvirt calls a risk then (another QEMU process, another definition) stands among
        the plan's concerns.
        """
        return (*((self.to.upper(),) if self.to in ("running", "paused") else ()), "FORCE")

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        flags = (f"--{flag.lower()}" for flag in self.flags)
        return (self.virsh("snapshot-revert", "--snapshotname", self.name, *flags),)


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeCurrent(GuestStep):
    """Make a snapshot the current one of its guest for libvirt."""

    name: str

    action = N_("make current")

    @property
    def what(self) -> Message:
        return t(
            "{name} becomes the current snapshot of {guest}; no file is modified", name=self.name, guest=self.guest.name
        )

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (self.virsh("snapshot-current", "--snapshotname", self.name),)


@dataclass(frozen=True, slots=True)
class Discard:
    """An overlay whose content is discarded."""

    path: str
    backing: Reference | None = None
    """Its backing file, if a snapshot's record names it, so that it stays, empty; None: it is removed."""
    size: int | None = field(default=None, compare=False)  # on disk; changes while the guest writes
    identity: Identity | None = field(default=None, compare=False, repr=False)  # of the file when it was planned


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardOverlays(GuestStep):
    """Discard the content of overlays."""

    overlays: tuple[Discard, ...]

    action = N_("discard")
    performer = "this process"

    @property
    def image(self) -> str:
        return self.overlays[0].path

    @property
    def what(self) -> Message:
        removed = t("remove {images}", images=listed(self.unlinks))
        emptied = t("empty {images}, because a snapshot record still names it", images=listed(self.writes))
        return clauses([*([removed] if self.unlinks else []), *([emptied] if self.writes else [])])

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        made = (create_overlay_argv(one.path, one.backing) for one in self.overlays if one.backing is not None)
        return (*made, *(("rm", "--", path) for path in self.unlinks))

    @property
    def writes(self) -> tuple[str, ...]:
        return tuple(one.path for one in self.overlays if one.backing is not None)

    @property
    def replaces(self) -> tuple[str, ...]:
        return self.writes

    @property
    def unlinks(self) -> tuple[str, ...]:
        return tuple(one.path for one in self.overlays if one.backing is None)
