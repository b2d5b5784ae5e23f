"""The single actions that plans are made of; each knows its files and its command line, none does anything.

What a kind of step always says is an attribute of its class; files that stand in one of its fields are `PathOf` or
`PathsOf` that field; what follows from more than that is a property.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, Self

from vmsnap_nb.model.identity import Identity
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.by_hand import create_overlay_argv, domain_argument, edited, virsh_argv, with_input
from vmsnap_nb.words.message import N_, Message, t

__all__ = [
    "CreateOverlay",
    "CreateVolume",
    "DefineDomain",
    "GuestRef",
    "GuestStep",
    "PathOf",
    "PathsOf",
    "Performer",
    "Protect",
    "RemoveVolume",
    "Says",
    "Step",
]

if TYPE_CHECKING:
    Performer = Literal["libvirt", "qemu-img", "this process"]
else:
    Performer = str  # where a property's annotation is a Literal, jedi completes nothing of the whole object
"""Who does it: libvirt may do what the user may not; qemu-img runs as the user."""


class PathOf:
    """The path in a field of a step, as ``path`` or ``entry.base``; empty where it is None."""

    def __init__(self, field: str) -> None:
        self.field = field

    def __get__(self, step: Step, kind: type[Step]) -> str:
        return attrgetter(self.field)(step) or ""


class PathsOf:
    """The path, or the paths, in a field of a step."""

    def __init__(self, field: str) -> None:
        self.field = field

    def __get__(self, step: Step, kind: type[Step]) -> tuple[str, ...]:
        value: str | Iterable[str] = attrgetter(self.field)(step) or ()
        return (value,) if isinstance(value, str) else tuple(value)


class Says:
    """A sentence that is the same for all objects of a class, in the language that is current."""

    def __init__(self, template: str) -> None:
        self.template = template

    def __get__(self, thing: object, kind: type[object]) -> Message:
        return t(self.template)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One action of a plan. A property that a kind of step does not override means that this does not happen."""

    @property
    def action(self) -> str:
        """The kind of step, in two or three words."""
        raise NotImplementedError

    @property
    def image(self) -> str:
        """The path of the image that the step affects; by default, the first file that it changes."""
        return next(iter((*self.creates, *self.writes, *self.unlinks, *self.invalidates)), "")

    @property
    def what(self) -> Message:
        """A sentence that describes the step."""
        raise NotImplementedError

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        """The equivalent commands, as lists of arguments."""
        return ()

    @property
    def commands(self) -> tuple[str, ...]:
        """The equivalent commands, as lines for a shell."""
        return tuple(shlex.join(argv) for argv in self.argvs)

    @property
    def creates(self) -> tuple[str, ...]:
        """Files that will be new."""
        return ()

    @property
    def writes(self) -> tuple[str, ...]:
        """Existing images whose content will change."""
        return ()

    @property
    def changes(self) -> tuple[str, ...]:
        """Written images whose overlays will read different data."""
        return self.writes

    @property
    def unlinks(self) -> tuple[str, ...]:
        """Files that will be removed."""
        return ()

    @property
    def invalidates(self) -> tuple[str, ...]:
        """Images that remain on disk but must no longer be used."""
        return ()

    @property
    def size(self) -> int | None:
        """The number of bytes to copy; 0 if nothing is copied, None if not known."""
        return 0

    @property
    def performer(self) -> Performer:
        """The program that performs the step: ``libvirt``, ``qemu-img`` or ``this process``."""
        return "this process"

    @property
    def opens(self) -> tuple[str, ...]:
        """Images that are opened for writing."""
        return (*self.writes, *self.invalidates)

    @property
    def relies(self) -> tuple[str, ...]:
        """Other images that are read, together with their backing files."""
        return ()

    @property
    def based_again(self) -> tuple[str, ...]:
        """Images whose overlays are based on them again if the step is interrupted."""
        return ()

    @property
    def replaces(self) -> tuple[str, ...]:
        """Existing images that the step replaces with another file."""
        return ()

    @property
    def entry_path(self) -> str:
        """The path of the journal entry that the step writes or removes; empty if there is none."""
        return ""

    @property
    def is_note(self) -> bool:
        """Whether the step changes only that journal entry."""
        return False

    def unnoted(self) -> Self:
        """Return the same step without a journal entry."""
        return self

    @property
    def open_overlays(self) -> tuple[tuple[str, str], ...]:
        """Overlays that libvirt would create as world-readable files, each with its backing file."""
        return ()

    def reusing(self) -> Self:
        """Return the same step with overlays that already exist."""
        return self


@dataclass(frozen=True, slots=True)
class GuestRef:
    """A guest, as a step names it: its name, its UUID, and libvirt's address, which stands in the commands."""

    name: str
    uuid: str
    uri: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestStep(Step):
    """A step that libvirt performs on one guest."""

    guest: GuestRef

    @property
    def performer(self) -> Performer:
        return "libvirt"

    def virsh(self, command: str, *arguments: str, domain: bool = True) -> tuple[str, ...]:
        """Return a command line of virsh about the guest."""
        about = ("--domain", domain_argument(self.guest.name, self.guest.uuid)) if domain else ()
        return virsh_argv(self.guest.uri, command, *about, *arguments)

    def rewrite(self, name: str, script: Iterable[str], *, current: bool) -> str:
        """Return a line that lets sed change the record of a snapshot, with the passwords in it."""
        read = self.virsh("snapshot-dumpxml", "--snapshotname", name, "--security-info")
        marked = ("--current",) if current else ()
        return edited(read, script, self.virsh("snapshot-create", "--xmlfile", "/dev/stdin", "--redefine", *marked))


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOverlay(Step):
    """Make a new qcow2 image that is based on another."""

    path: str
    backing: Reference
    virtual_size: int | None = None
    cluster_size: int | None = None

    action = N_("create overlay")
    performer = "qemu-img"
    creates = PathsOf("path")

    @property
    def relies(self) -> tuple[str, ...]:
        return () if self.backing.path is None else (self.backing.path,)

    @property
    def what(self) -> Message:
        if self.backing.format is None:
            return t("new qcow2 image based on {base} (format unknown)", base=self.backing.written)
        return t("new qcow2 image based on {base} ({format})", base=self.backing.written, format=self.backing.format)

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (create_overlay_argv(self.path, self.backing, size=self.virtual_size, cluster_size=self.cluster_size),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protect(Step):
    """Take the write permission of an image away, so that nobody changes what overlays are based on."""

    path: str
    identity: Identity | None = field(default=None, compare=False, repr=False)  # of the file when it was planned

    action = N_("protect")
    image = PathOf("path")
    opens = PathsOf("path")
    what = Says(N_("remove its write permission"))

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (("chmod", "a-w", "--", self.path),)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateVolume(Step):
    """Let libvirt make a new qcow2 image that is based on another, as a volume of a storage pool."""

    path: str
    backing: str
    format: str
    pool: str
    virtual_size: int | None = None
    uri: str = ""

    action = N_("create overlay")
    performer = "libvirt"
    creates = PathsOf("path")

    @property
    def what(self) -> Message:
        return t(
            "libvirt creates a qcow2 image based on {base} ({format}), as a volume of pool {pool}",
            base=self.backing,
            format=self.format,
            pool=self.pool,
        )

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        size = () if self.virtual_size is None else ("--capacity", f"{self.virtual_size}B")
        name = self.path.rpartition("/")[2]
        backing = ("--backing-vol", self.backing, "--backing-vol-format", self.format)
        words = ("vol-create-as", self.pool, name, *size, "--format", "qcow2", *backing)
        return (virsh_argv(self.uri, *words),)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveVolume(Step):
    """Let libvirt remove an image that is a volume of a storage pool."""

    path: str
    uri: str = ""

    action = N_("remove")
    performer = "libvirt"
    what = Says(N_("libvirt removes the file, a volume of a storage pool: no image is based on it any more"))
    unlinks = PathsOf("path")

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (virsh_argv(self.uri, "vol-delete", "--vol", self.path),)


@dataclass(frozen=True, slots=True, kw_only=True)
class DefineDomain(Step):
    """Make a guest known to libvirt, with an image as its disk."""

    name: str
    path: str
    xml: str
    uri: str = ""

    action = N_("define guest")
    performer = "libvirt"
    image = PathOf("path")

    @property
    def what(self) -> Message:
        return t("guest {guest}, with this image as disk vda", guest=self.name)

    @property
    def commands(self) -> tuple[str, ...]:
        return (with_input(virsh_argv(self.uri, "define", "/dev/stdin"), self.xml),)
