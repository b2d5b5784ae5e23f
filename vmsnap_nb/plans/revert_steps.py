"""The single actions of plans that take a guest back to a snapshot."""
# ruff: noqa: D102 - Step documents its properties once for all kinds

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from vmsnap_nb.model.guest import State
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.revert_definition import NewSource
from vmsnap_nb.plans.revert_note import RevertNote
from vmsnap_nb.plans.snapshot_steps import GuestStep
from vmsnap_nb.plans.steps import create_overlay_argv

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


@dataclass(frozen=True, slots=True)
class BeginRevert(GuestStep):
    """Write down what is about to be done, so that it is known if it is cut short."""

    note: RevertNote

    @property
    def action(self) -> str:
        return "note the revert"

    @property
    def image(self) -> str:
        return ""

    @property
    def what(self) -> str:
        return f"that {self.guest} goes back to {self.note.name}: unfinished() knows it then if this is cut short"


@dataclass(frozen=True, slots=True)
class EndRevert(BeginRevert):
    """Remove that note."""

    @property
    def action(self) -> str:
        return "remove the note"

    @property
    def what(self) -> str:
        return f"that {self.guest} was going back to {self.note.name}: it is there"


@dataclass(frozen=True, slots=True)
class EndGuest(GuestStep):
    """Pull the plug of a guest.

    Attributes
    ----------
    state : str
        What it does before.
    kept : str or None
        The snapshot that holds its memory of this moment, so that this can be taken back.
    """

    state: State
    kept: str | None = None

    @property
    def action(self) -> str:
        return "end the guest"

    @property
    def image(self) -> str:
        return ""

    @property
    def what(self) -> str:
        return f"{self.guest} is {self.state}: its plug is pulled"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (self.virsh("destroy"),)


@dataclass(frozen=True, slots=True)
class TakeDefinition(GuestStep):
    """Give a guest that is off the definition that it had at a snapshot, with these images as its disks.

    Attributes
    ----------
    name : str
        Of the snapshot.
    before, sources : tuple of NewSource
        The images that its disks have, and those that they get.
    xml : str
        The definition, for the command; passwords are not in it.
    """

    name: str
    before: tuple[NewSource, ...]
    sources: tuple[NewSource, ...]
    xml: str = field(default="", compare=False, repr=False)

    @property
    def action(self) -> str:
        return "point the guest"

    @property
    def image(self) -> str:
        had = {(source.target, source.path) for source in self.before}
        return next((one.path for one in self.sources if (one.target, one.path) not in had), "")

    @property
    def what(self) -> str:
        disks = ", ".join(f"{source.target} on {source.path}" for source in self.sources)
        return f"{self.guest} is defined as it was at {self.name}, with {disks}"

    @property
    def commands(self) -> tuple[str, ...]:
        argv = self.virsh("define", "--file", "/dev/stdin", domain=False)
        return (_with_input(argv, self.xml),)


@dataclass(frozen=True, slots=True)
class RestoreMemory(GuestStep):
    """Let a guest go on from the memory that a snapshot holds in a file, on these images.

    Attributes
    ----------
    name : str
        Of the snapshot.
    path : str
        The file.
    paused : bool
        Whether it is paused then.
    sources : tuple of NewSource
        The images that its disks have.
    xml : str
        As in `TakeDefinition`.
    """

    name: str
    path: str
    paused: bool
    sources: tuple[NewSource, ...]
    xml: str = field(default="", compare=False, repr=False)

    @property
    def action(self) -> str:
        return "restore state"

    @property
    def image(self) -> str:
        return self.path

    @property
    def what(self) -> str:
        end = ", and is paused" if self.paused else ""
        return f"{self.guest} goes on from the memory that {self.name} holds{end}; the file stays"

    @property
    def commands(self) -> tuple[str, ...]:
        options = ("--file", self.path, "--xml", "/dev/stdin", "--paused" if self.paused else "--running")
        return (_with_input(self.virsh("restore", *options, domain=False), self.xml),)


@dataclass(frozen=True, slots=True)
class StartGuest(GuestStep):
    """Start a guest from its disks."""

    paused: bool = False

    @property
    def action(self) -> str:
        return "start the guest"

    @property
    def image(self) -> str:
        return ""

    @property
    def what(self) -> str:
        return f"{self.guest} starts from its disks" + (", and is paused before its first instruction" * self.paused)

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (self.virsh("start", *(("--paused",) if self.paused else ())),)


@dataclass(frozen=True, slots=True)
class RevertInside(GuestStep):
    """Let libvirt go back to a snapshot that lies inside the images.

    Attributes
    ----------
    name : str
        Of the snapshot.
    state : str
        What the guest does before.
    sources : tuple of str
        The images that are written.
    to : str
        ``running``, ``paused``, or ``off`` for one without memory: what the guest does then.
    kept : str or None
        The snapshot of what is there before, to go back to if this fails.
    """

    name: str
    state: State
    sources: tuple[str, ...]
    to: str
    kept: str | None = None

    @property
    def action(self) -> str:
        return "revert inside"

    @property
    def image(self) -> str:
        return next(iter(self.sources), "")

    @property
    def what(self) -> str:
        return f"what {', '.join(self.sources)} held at {self.name} is its content again; {self.guest} is {self.to}"

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

    @property
    def writes(self) -> tuple[str, ...]:
        return self.sources


@dataclass(frozen=True, slots=True)
class MakeCurrent(GuestStep):
    """Make libvirt take a snapshot for the one that the guest goes on from."""

    name: str

    @property
    def action(self) -> str:
        return "make current"

    @property
    def image(self) -> str:
        return ""

    @property
    def what(self) -> str:
        return f"{self.name} is the snapshot that {self.guest} goes on from; no file is touched"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (self.virsh("snapshot-current", "--snapshotname", self.name),)


@dataclass(frozen=True, slots=True)
class Discard:
    """An overlay whose content is thrown away.

    Attributes
    ----------
    path : str
        The overlay.
    backing : Reference or None
        What it stands on: a snapshot's record names it, so that it stays, empty. None: it is removed.
    size : int or None
        Bytes on disk.
    """

    path: str
    backing: Reference | None = None
    size: int | None = field(default=None, compare=False)  # changes while the guest writes


@dataclass(frozen=True, slots=True)
class DiscardOverlays(GuestStep):
    """Throw the content of overlays away."""

    overlays: tuple[Discard, ...]

    @property
    def action(self) -> str:
        return "throw away"

    @property
    def image(self) -> str:
        return self.overlays[0].path

    @property
    def what(self) -> str:
        parts = {"removed": self.unlinks, "emptied, since a snapshot's record names it": self.writes}
        return "; ".join(f"{', '.join(paths)} is {how}" for how, paths in parts.items() if paths)

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        made = (create_overlay_argv(one.path, one.backing) for one in self.overlays if one.backing is not None)
        return (*made, *(("rm", "--", path) for path in self.unlinks))

    @property
    def writes(self) -> tuple[str, ...]:
        return tuple(one.path for one in self.overlays if one.backing is not None)

    @property
    def unlinks(self) -> tuple[str, ...]:
        return tuple(one.path for one in self.overlays if one.backing is None)


def _with_input(argv: tuple[str, ...], xml: str) -> str:
    return f"{shlex.join(argv)} <<'XML'\n{xml.rstrip()}\nXML"
