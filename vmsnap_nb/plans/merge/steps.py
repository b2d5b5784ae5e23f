"""The single actions of merges: of images that no guest has open, and in the chain of a guest by QEMU's block jobs."""

from __future__ import annotations

import math
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Self

from vmsnap_nb.model.blockmap import Extent
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.by_hand import edited, other_image, rebase_argv, upgrade_argv
from vmsnap_nb.plans.checks.bitmaps import BitmapMerge
from vmsnap_nb.plans.journal import MergeEntry, PullEntry
from vmsnap_nb.plans.step import GuestStep, PathOf, PathsOf, Says, Step
from vmsnap_nb.words.message import N_, Message, counted, joined, t

__all__ = [
    "CarryBitmaps",
    "CheckContent",
    "CommitLayers",
    "EndPull",
    "Finish",
    "LiveCommit",
    "LivePull",
    "MarkInvalid",
    "PullLayers",
    "RemoveFile",
    "RemoveLeftover",
    "Repoint",
    "SetSource",
    "TakeContent",
    "Unprotect",
    "WriteOut",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unprotect(Step):
    """Give the owner of an image the permission to write to it, for the steps that follow."""

    path: str
    identity: Identity | None = field(default=None, compare=False, repr=False)  # of the file when it was planned

    action = N_("unprotect")
    image = PathOf("path")
    opens = PathsOf("path")
    what = Says(N_("give its owner write permission for the next step"))

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (("chmod", "u+w", "--", self.path),)


# -- qemu-img ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitLayers(Step):
    """Copy what the layers above a base hold into that base.

    The merged layers are left as they are (``-d``), so that what is based on the top of them reads the same at
    every moment: what is written below is what those layers cover.
    """

    entry: MergeEntry
    top_format: str
    base_name: str
    size: int | None = None

    action = N_("commit")
    performer = "qemu-img"
    writes = PathsOf("entry.base")
    relies = PathsOf("entry.top")
    entry_path = PathOf("entry.path")

    @property
    def what(self) -> Message:
        return counted(
            "copy the data of {count} layer down into this image",
            "copy the data of {count} layers down into this image",
            len(self.entry.merged),
        )

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        base = () if len(self.entry.merged) == 1 else ("-b", self.base_name)
        return (("qemu-img", "commit", "-q", "-f", self.top_format, "-d", *base, "--", self.entry.top),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repoint(Step):
    """Write another backing file into an overlay's header, where both read the same."""

    path: str
    backing: Reference
    before: Reference | None
    back: bool = False  # it was based on that before, and its current backing file may not read the same

    action = N_("repoint")
    performer = "qemu-img"
    writes = PathsOf("path")

    @property
    def changes(self) -> tuple[str, ...]:
        return (self.path,) if self.back else ()

    @property
    def what(self) -> Message:
        name = self.backing.written
        if self.back:
            return t("its backing file becomes {base} again; {base} was only read", base=name)
        return t("its backing file becomes {base}, which now has the same content", base=name)

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (rebase_argv(self.path, self.backing, "-u"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullLayers(Step):
    """Copy into an image what it reads from the layers below it, down to a new backing file or to none.

    By hand it is one command, which writes through, since else QEMU writes the new backing file's name into the
    header before it writes down where the copied data lies: a crash between the two would lose that data.
    """

    path: str
    backing: Reference | None
    before: Reference
    size: int | None = None
    extents: tuple[Extent, ...] | None = None  # where the data is that is copied; without it QEMU has to look for it
    left: int | None = None
    """How many layers it will no longer be based on.

    None if one of them is shorter than the image: what lies beyond its end reads as zeros, which QEMU's map of a chain
    does not tell from those of the image itself.
    """
    verify: bool = False  # whether it is read with the new backing file before its header names that

    action = N_("pull")
    performer = "qemu-img"
    writes = PathsOf("path")
    changes = ()

    @property
    def what(self) -> Message:
        if self.backing is None:
            return t("copy into this image all data that it reads from its backing files; it then has no backing file")
        return t(
            "copy into this image the data that it reads from the layers above {base}; {base} becomes its backing file",
            base=self.backing.written,
        )

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (rebase_argv(self.path, self.backing, "-t", "writethrough"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class CarryBitmaps(Step):
    """Let the dirty bitmaps of an image record what those of other layers have recorded, too.

    Done again it changes nothing, and what they record is right before and after it: a backup reads those of all
    layers.
    """

    path: str
    bitmaps: tuple[BitmapMerge, ...]

    action = N_("copy bitmaps")
    performer = "qemu-img"
    writes = PathsOf("path")

    @property
    def what(self) -> Message:
        return t(
            "merge the dirty bitmaps with these names into it, so that incremental backups can continue: {names}",
            names=joined(bitmap.name for bitmap in self.bitmaps),
        )

    def argvs_for(self, known: Collection[str]) -> Iterator[tuple[str, ...]]:
        """Yield the command lines where the image has bitmaps of these names."""
        for bitmap in self.bitmaps:
            if bitmap.name not in known:
                kind = () if bitmap.recording else ("--disable",)
                size = ("-g", str(bitmap.granularity))
                yield ("qemu-img", "bitmap", "--add", *kind, *size, "-f", "qcow2", "--", self.path, bitmap.name)
            for source in bitmap.sources:
                merge = ("--merge", bitmap.name, "-b", source, "-F", "qcow2")
                yield ("qemu-img", "bitmap", *merge, "-f", "qcow2", "--", self.path, bitmap.name)

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return tuple(self.argvs_for([bitmap.name for bitmap in self.bitmaps if not bitmap.new]))


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkInvalid(Step):
    """Mark a merged layer, so that QEMU refuses to open it, and to put anything on it."""

    path: str
    into: str
    upgrade: bool = False  # from version 2 of qcow2, which has no such bits
    identity: Identity | None = field(default=None, compare=False, repr=False)  # of the file when it was planned

    action = N_("mark invalid")
    what = Says(N_("set the header bit that makes QEMU refuse to open the image, because its backing file has changed"))
    invalidates = PathsOf("path")

    @property
    def commands(self) -> tuple[str, ...]:
        # The highest bit of the incompatible features, a big-endian number at byte 72 of a version 3 header.
        mark = f"printf '\\200' | dd of={shlex.quote(self.path)} bs=1 seek=72 conv=notrunc status=none"
        return (shlex.join(upgrade_argv(self.path)), mark) if self.upgrade else (mark,)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFile(Step):
    """Remove a file that nothing is based on any more."""

    path: str
    identity: Identity | None = field(default=None, compare=False, repr=False)  # of the file when it was planned

    action = N_("remove")
    what = Says(N_("remove the file: no image is based on it any more"))
    unlinks = PathsOf("path")

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (("rm", "-f", "--", self.path),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish(Step):
    """Take away the entry that a merge is going on."""

    entry: MergeEntry

    action = N_("finish")
    image = PathOf("entry.base")
    entry_path = PathOf("entry.path")
    is_note = True
    what = Says(N_("remove the journal entry of this merge"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveLeftover(RemoveFile):
    """Remove a file of ours that was never completed, since its process was killed."""

    action = N_("remove")
    what = Says(
        N_(
            "remove the file: the process that was writing it ended before the file was complete, and no "
            "process has it open"
        )
    )
    unlinks = PathsOf("path")


# -- content ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeContent(Step):
    """Read all that a guest would read of an image, and keep its checksum."""

    path: str
    format: str
    length: int | None = None

    action = N_("checksum before")
    performer = "qemu-img"
    image = PathOf("path")
    relies = PathsOf("path")
    what = Says(N_("read the whole disk and remember its checksum"))

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (("qemu-img", "convert", "-f", self.format, "-O", "raw", "--", self.path, f"{self.path}.before"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckContent(Step):
    """Read an image again; its content must be what it was, or what the image had that was merged into it."""

    path: str
    format: str
    was: str
    length: int | None = None

    action = N_("checksum after")
    performer = "qemu-img"
    image = PathOf("path")
    relies = PathsOf("path")
    what = Says(N_("read the whole disk again: its content must be unchanged"))

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        before = f"{self.was}.before"
        return (
            ("qemu-img", "compare", "-q", "-f", "raw", "-F", self.format, "--", before, self.path),
            ("rm", "-f", "--", before),
        )


# -- in the chain of a guest ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockJobStep(GuestStep):
    """A step that QEMU performs as a block job, while the guest runs."""

    target: str  # the disk, as vda
    source: str  # path of the image that the disk has when it is planned
    relative: bool = False  # overlays of the top name their backing file relative to their own folder, and keep that
    size: int | None = field(default=None, compare=False)  # changes while the guest writes
    bandwidth: int = 0  # bytes a second at most; 0 for no limit
    timeout: float | None = None  # seconds, since a guest can write faster than QEMU copies; None for no limit
    adopt: bool = False  # the job is there already, started by a process that has ended since
    noted: bool = True  # whether an entry lies beside the images meanwhile
    extents: tuple[Extent, ...] | None = field(default=None, compare=False, repr=False)
    """Where on the disk the data lies that is copied: QEMU tells only at which place it is."""
    length: int = field(default=0, compare=False)  # bytes of the disk

    def unnoted(self) -> Self:
        return replace(self, noted=False)

    @property
    def options(self) -> tuple[str, ...]:
        """What virsh is told of every block job."""
        options: tuple[str, ...] = ("--keep-relative",) if self.relative else ()
        if self.bandwidth:
            options += ("--bytes", "--bandwidth", str(self.bandwidth))
        if self.timeout is not None:
            options += ("--timeout", str(math.ceil(self.timeout)))
        return options


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCommit(BlockJobStep):
    """Let QEMU copy layers down (https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainBlockCommit)."""

    entry: MergeEntry
    keep: bool = False  # the guest goes on writing to the top; else it then writes to the base (the pivot)

    action = N_("commit live")
    entry_path = PathOf("entry.path")
    writes = PathsOf("entry.base")
    based_again = PathsOf("entry.top")

    @property
    def active(self) -> bool:
        """Whether the top is the image that the guest writes to."""
        return self.source == self.entry.top

    @property
    def what(self) -> Message:
        number = len(self.entry.merged)
        if not self.active:
            return counted(
                "QEMU copies the data of {count} layer down into this image, then changes the backing file of the "
                "overlay above it",
                "QEMU copies the data of {count} layers down into this image, then changes the backing file of the "
                "overlay above it",
                number,
            )
        if self.keep:
            return counted(
                "QEMU copies the data of {count} layer down into this image, and {guest} keeps writing to {image}",
                "QEMU copies the data of {count} layers down into this image, and {guest} keeps writing to {image}",
                number,
                guest=self.guest.name,
                image=self.source,
            )
        return counted(
            "QEMU copies the data of {count} layer down into this image, and {guest} then writes to it (pivot)",
            "QEMU copies the data of {count} layers down into this image, and {guest} then writes to it (pivot)",
            number,
            guest=self.guest.name,
        )

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        if self.adopt:
            end = "--abort" if self.keep else "--pivot"
            return (self.virsh("blockjob", "--path", self.target, end),) if self.active else ()
        layers = ("--base", self.entry.base, "--top", self.entry.top)
        active = ("--active", "--keep-overlay" if self.keep else "--pivot") if self.active else ()
        return (self.virsh("blockcommit", "--path", self.target, *layers, "--wait", *active, *self.options),)


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePull(BlockJobStep):
    """Let QEMU copy data up into the image that the guest writes to (https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainBlockRebase).

    In the end the guest is suspended and resumed, which takes some milliseconds: then QEMU writes all its tables of the
    image (QEMU, softmmu/cpus.c, ``do_vm_stop``). Without that a part of them is in its memory alone until the guest
    flushes its disk, while the header says already that the image has no backing file.
    """

    base: str | None  # the image on which it will stand; None to copy everything
    entry: PullEntry  # lies beside the image until all of it is on the disk
    below: str | None = None  # how libvirt is told the base where that has no path
    paused: bool = field(default=False, compare=False)  # need not be suspended: the command alone differs

    action = N_("pull live")
    entry_path = PathOf("entry.path")
    writes = PathsOf("source")
    changes = ()

    @property
    def what(self) -> Message:
        if self.base is None:
            return t(
                "QEMU copies into this image all data that it reads from its backing files, then writes out its "
                "tables; it then has no backing file"
            )
        return t(
            "QEMU copies into this image the data that it reads from the layers above {base}, then writes out its "
            "tables; {base} becomes its backing file",
            base=self.base,
        )

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        base = () if self.base is None else ("--base", self.below or self.base)
        pull = (self.virsh("blockpull", "--path", self.target, *base, *self.options, "--wait"),)
        return (*(() if self.adopt else pull), *_write_out(self, paused=self.paused))


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOut(GuestStep):
    """Let QEMU write what it holds of images in memory, before the merged layers that hold the same go."""

    paths: tuple[str, ...]  # the base, and the overlays that are based on it
    paused: bool = field(default=False, compare=False)  # need not be suspended: the command alone differs

    action = N_("flush tables")
    what = Says(N_("QEMU writes out the tables of this image and of its overlays"))

    @property
    def image(self) -> str:
        return self.paths[0]

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return _write_out(self, paused=self.paused)


def _write_out(step: GuestStep, *, paused: bool) -> tuple[tuple[str, ...], ...]:
    if paused:  # for libvirt there is nothing to suspend, so QEMU itself is asked
        return (step.virsh("qemu-monitor-command", "--cmd", '{"execute": "stop"}'),)
    return (step.virsh("suspend"), step.virsh("resume"))


@dataclass(frozen=True, slots=True, kw_only=True)
class EndPull(Step):
    """Take away the note of a pull."""

    entry: PullEntry

    action = N_("finish")
    image = PathOf("entry.image")
    entry_path = PathOf("entry.path")
    is_note = True
    what = Says(N_("remove the journal entry of the pull into it"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSource(GuestStep):
    """Give a guest that is off another image as its disk."""

    target: str
    before: str
    path: str
    format: str
    devices: tuple[str, ...] = ()  # those of the two that are block devices

    action = N_("set disk")
    image = PathOf("path")

    @property
    def what(self) -> Message:
        return t(
            "this image replaces {path} as disk {disk} of {guest}",
            path=self.before,
            disk=self.target,
            guest=self.guest.name,
        )

    @property
    def commands(self) -> tuple[str, ...]:
        read = self.virsh("dumpxml", "--inactive", "--security-info")
        write = self.virsh("define", "--file", "/dev/stdin", domain=False)
        return (edited(read, other_image(self.before, self.path, self.format, self.devices), write),)
