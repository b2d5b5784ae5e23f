"""The single actions of merges in the chain of a guest: QEMU's block jobs, and the guest's own record of its disk."""
# ruff: noqa: D102 - Step documents its properties once for all kinds

from __future__ import annotations

from dataclasses import dataclass, field

from vmsnap_nb.model.blockmap import Extent
from vmsnap_nb.model.counting import plural
from vmsnap_nb.plans.merge_note import MergeNote
from vmsnap_nb.plans.pull_note import PullNote
from vmsnap_nb.plans.snapshot_steps import GuestStep, edited, other_image
from vmsnap_nb.plans.steps import Step

__all__ = ["EndPull", "LiveCommit", "LivePull", "SetSource"]


@dataclass(frozen=True, slots=True)
class LiveCommit(GuestStep):
    """Let QEMU copy layers down while the guest runs (https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainBlockCommit).

    Attributes
    ----------
    target : str
        The disk, as ``vda``.
    source : str
        Path of the image that the disk has when it is planned.
    note : MergeNote
        Base, top and the layers between.
    keep : bool
        Only where the top is the image that the guest writes to: whether the guest goes on writing there; else it
        then writes to the base (the pivot).
    relative : bool
        Whether what stands on the top names its backing file relative to its own folder, and shall go on so.
    bytes : int or None
        To copy.
    bandwidth : int
        Bytes a second at most; 0 for no limit.
    timeout : float or None
        Seconds that it may take, since a guest can write faster than QEMU copies; None for no limit.
    adopt : bool
        Whether the job is there already, started by a process that has ended since.
    extents : tuple of Extent or None
        Where on the disk the data lies that is copied: QEMU tells only at which place it is.
    length : int
        Bytes of the disk.
    """

    target: str
    source: str
    note: MergeNote
    keep: bool = False
    relative: bool = False
    bytes: int | None = field(default=None, compare=False)  # changes while the guest writes
    bandwidth: int = 0
    timeout: float | None = None
    adopt: bool = False
    extents: tuple[Extent, ...] | None = field(default=None, compare=False, repr=False)
    length: int = field(default=0, compare=False)

    @property
    def active(self) -> bool:
        """Whether the top is the image that the guest writes to."""
        return self.source == self.note.top

    @property
    def action(self) -> str:
        return "commit live"

    @property
    def image(self) -> str:
        return self.note.base

    @property
    def what(self) -> str:
        copied = f"QEMU copies the data of {plural(len(self.note.merged), 'layer')} down into this image"
        if not self.active:
            return f"{copied}, and repoints what stands on them"
        if self.keep:
            return f"{copied}; {self.guest} goes on writing to {self.source}"
        return f"{copied}; then {self.guest} writes to it (pivot)"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        if self.adopt:
            end = () if self.keep else ("--pivot",)
            return (self.virsh("blockjob", "--path", self.target, *(end or ("--abort",))),) if self.active else ()
        options: tuple[str, ...] = ()
        if self.active:
            options = ("--active", "--keep-overlay" if self.keep else "--pivot")
        if self.relative:
            options += ("--keep-relative",)
        if self.bandwidth:
            options += ("--bytes", "--bandwidth", str(self.bandwidth))
        if self.timeout is not None:
            options += ("--timeout", str(int(self.timeout)))
        ends = ("--base", self.note.base, "--top", self.note.top)
        return (self.virsh("blockcommit", "--path", self.target, *ends, "--wait", *options),)

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.note.base,)

    @property
    def size(self) -> int | None:
        return self.bytes


@dataclass(frozen=True, slots=True)
class LivePull(GuestStep):
    """Let QEMU copy data up into the image that the guest writes to (https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainBlockRebase).

    In the end the guest is suspended and resumed, which takes some milliseconds: then QEMU writes all its tables of the
    image (QEMU, softmmu/cpus.c, ``do_vm_stop``). Without that a part of them is in its memory alone until the guest
    flushes its disk, while the header says already that the image stands on nothing else.

    Attributes
    ----------
    target, source, relative, bytes, bandwidth, timeout, adopt, extents, length
        As in `LiveCommit`.
    base : str or None
        Path of the image on which it will stand; None to copy everything.
    note : PullNote
        What lies beside the image until all of it is on the disk.
    paused : bool
        Whether the guest is paused when it is planned, and so need not be suspended.
    """

    target: str
    source: str
    base: str | None
    note: PullNote
    relative: bool = False
    bytes: int | None = field(default=None, compare=False)  # changes while the guest writes
    bandwidth: int = 0
    timeout: float | None = None
    adopt: bool = False
    paused: bool = field(default=False, compare=False)  # the command alone differs
    extents: tuple[Extent, ...] | None = field(default=None, compare=False, repr=False)
    length: int = field(default=0, compare=False)

    @property
    def action(self) -> str:
        return "pull live"

    @property
    def image(self) -> str:
        return self.source

    @property
    def what(self) -> str:
        end = "; in the end its tables are written out"
        if self.base is None:
            return f"QEMU copies all that it reads from below into it, so that it stands alone{end}"
        return f"QEMU copies into it what it reads from above {self.base}, which becomes its backing file{end}"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        options: tuple[str, ...] = () if self.base is None else ("--base", self.base)
        if self.relative:
            options += ("--keep-relative",)
        if self.bandwidth:
            options += ("--bytes", "--bandwidth", str(self.bandwidth))
        if self.timeout is not None:
            options += ("--timeout", str(int(self.timeout)))
        pull = (self.virsh("blockpull", "--path", self.target, *options, "--wait"),)
        flush: tuple[tuple[str, ...], ...] = (self.virsh("suspend"), self.virsh("resume"))
        if self.paused:  # for libvirt there is nothing to suspend, so QEMU itself is asked
            flush = (self.virsh("qemu-monitor-command", "--cmd", '{"execute": "stop"}'),)
        return (*(() if self.adopt else pull), *flush)

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.source,)

    @property
    def size(self) -> int | None:
        return self.bytes


@dataclass(frozen=True, slots=True)
class EndPull(Step):
    """Take away the note of a pull."""

    note: PullNote

    @property
    def action(self) -> str:
        return "finish"

    @property
    def image(self) -> str:
        return self.note.image

    @property
    def what(self) -> str:
        return "take away the note of the pull into it"


@dataclass(frozen=True, slots=True)
class SetSource(GuestStep):
    """Give a guest that is off another image as its disk.

    Attributes
    ----------
    target : str
        The disk.
    before, path : str
        The image that it has, and the one that it gets.
    format : str
        Of the latter.
    """

    target: str
    before: str
    path: str
    format: str

    @property
    def action(self) -> str:
        return "set disk"

    @property
    def image(self) -> str:
        return self.path

    @property
    def what(self) -> str:
        return f"it becomes the disk {self.target} of {self.guest}, in place of {self.before}"

    @property
    def commands(self) -> tuple[str, ...]:
        read = self.virsh("dumpxml", "--inactive", "--security-info")
        write = self.virsh("define", "--file", "/dev/stdin", domain=False)
        return (edited(read, other_image(self.before, self.path, self.format), write),)
