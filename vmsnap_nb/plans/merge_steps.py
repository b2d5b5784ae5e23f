"""The single actions of merges of images that no guest has open."""
# ruff: noqa: D102 - Step documents its properties once for all kinds

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from vmsnap_nb.model.blockmap import Extent
from vmsnap_nb.model.counting import plural
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.merge_note import MergeNote
from vmsnap_nb.plans.steps import Step

__all__ = [
    "CheckContent",
    "CommitLayers",
    "Finish",
    "MarkInvalid",
    "PullLayers",
    "RemoveFile",
    "Repoint",
    "TakeContent",
    "Unprotect",
]


@dataclass(frozen=True, slots=True)
class Unprotect(Step):
    """Give the owner of an image the permission to write to it, for the steps that follow."""

    path: str

    @property
    def action(self) -> str:
        return "unprotect"

    @property
    def image(self) -> str:
        return self.path

    @property
    def what(self) -> str:
        return "give its owner the write permission, for the next step"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (("chmod", "u+w", "--", self.path),)


@dataclass(frozen=True, slots=True)
class CommitLayers(Step):
    """Copy what the layers above a base hold into that base.

    The merged layers are left as they are (``-d``), so that whoever stands on the top of them reads the same at
    every moment: what is written below is what those layers cover.
    """

    note: MergeNote
    top_format: str
    base_name: str
    bytes: int | None = None

    @property
    def action(self) -> str:
        return "commit"

    @property
    def image(self) -> str:
        return self.note.base

    @property
    def what(self) -> str:
        return f"copy the data of {plural(len(self.note.merged), 'layer')} down into this image"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        base = () if len(self.note.merged) == 1 else ("-b", self.base_name)
        return (("qemu-img", "commit", "-q", "-f", self.top_format, "-d", *base, "--", self.note.top),)

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.note.base,)

    @property
    def size(self) -> int | None:
        return self.bytes


@dataclass(frozen=True, slots=True)
class Repoint(Step):
    """Write another backing file into an overlay's header, where both read the same.

    Attributes
    ----------
    path : str
        The overlay.
    backing, before : Reference or None
        What it will stand on, and what it stands on now.
    back : bool
        Whether it stood there before, and what it stands on now may not read the same.
    """

    path: str
    backing: Reference
    before: Reference | None
    back: bool = False

    @property
    def action(self) -> str:
        return "repoint"

    @property
    def image(self) -> str:
        return self.path

    @property
    def what(self) -> str:
        name = self.backing.written
        if self.back:
            return f"its backing file is {name} again, which was only read"
        return f"its backing file becomes {name}, which reads the same now"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (rebase_argv(self.path, self.backing, "-u"),)

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.path,)


@dataclass(frozen=True, slots=True)
class PullLayers(Step):
    """Copy into an image what it reads from the layers below it, down to a new backing file or to none.

    By hand it is one command, which writes through, since else QEMU writes the new backing file's name into the
    header before it writes down where the copied data lies: a crash between the two would lose that data.

    Attributes
    ----------
    path : str
        The image.
    backing, before : Reference or None
        What it will stand on, and what it stands on now.
    bytes : int, optional
        Data to copy.
    extents : tuple of Extent, optional
        Where that is; without it QEMU has to look for it.
    left : int, optional
        How many layers it will stand on no longer. None if one of them is shorter than the image: what lies beyond its
        end reads as zeros, which QEMU's map of a chain does not tell from those of the image itself.
    """

    path: str
    backing: Reference | None
    before: Reference
    bytes: int | None = None
    extents: tuple[Extent, ...] | None = None
    left: int | None = None

    @property
    def action(self) -> str:
        return "pull"

    @property
    def image(self) -> str:
        return self.path

    @property
    def what(self) -> str:
        if self.backing is None:
            return "copy all that it reads from below into it, so that it stands alone"
        return f"copy into it what it reads from above {self.backing.written}, which becomes its backing file"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (rebase_argv(self.path, self.backing, "-t", "writethrough"),)

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.path,)

    @property
    def size(self) -> int | None:
        return self.bytes


@dataclass(frozen=True, slots=True)
class MarkInvalid(Step):
    """Mark a merged layer, so that QEMU refuses to open it, and to put anything on it."""

    path: str
    into: str
    upgrade: bool = False  # from version 2 of qcow2, which has no such bits

    @property
    def action(self) -> str:
        return "mark invalid"

    @property
    def image(self) -> str:
        return self.path

    @property
    def what(self) -> str:
        return "set the header bit by which QEMU refuses it: what it stood on has changed"

    @property
    def commands(self) -> tuple[str, ...]:
        # The highest bit of the incompatible features, a big-endian number at byte 72 of a version 3 header.
        mark = f"printf '\\200' | dd of={shlex.quote(self.path)} bs=1 seek=72 conv=notrunc status=none"
        return (shlex.join(upgrade_argv(self.path)), mark) if self.upgrade else (mark,)

    @property
    def invalidates(self) -> tuple[str, ...]:
        return (self.path,)


@dataclass(frozen=True, slots=True)
class RemoveFile(Step):
    """Remove a file that nobody stands on any more."""

    path: str

    @property
    def action(self) -> str:
        return "remove"

    @property
    def image(self) -> str:
        return self.path

    @property
    def what(self) -> str:
        return "remove the file: nobody stands on it any more"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (("rm", "-f", "--", self.path),)

    @property
    def unlinks(self) -> tuple[str, ...]:
        return (self.path,)


@dataclass(frozen=True, slots=True)
class Finish(Step):
    """Take away the note that a merge is going on."""

    note: MergeNote

    @property
    def action(self) -> str:
        return "finish"

    @property
    def image(self) -> str:
        return self.note.base

    @property
    def what(self) -> str:
        return "take away the note that this merge is going on"


@dataclass(frozen=True, slots=True)
class TakeContent(Step):
    """Read all that a guest would read of an image, and keep its checksum."""

    path: str
    format: str
    bytes: int | None = None

    @property
    def action(self) -> str:
        return "checksum before"

    @property
    def image(self) -> str:
        return self.path

    @property
    def what(self) -> str:
        return "read the whole disk and keep its checksum"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (("qemu-img", "convert", "-f", self.format, "-O", "raw", "--", self.path, f"{self.path}.before"),)


@dataclass(frozen=True, slots=True)
class CheckContent(Step):
    """Read an image again; its content must be what it was, or what the image had that was merged into it."""

    path: str
    format: str
    was: str
    bytes: int | None = None

    @property
    def action(self) -> str:
        return "checksum after"

    @property
    def image(self) -> str:
        return self.path

    @property
    def what(self) -> str:
        return "read the whole disk again: it must be what it was"

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        before = f"{self.was}.before"
        return (
            ("qemu-img", "compare", "-q", "-f", "raw", "-F", self.format, "--", before, self.path),
            ("rm", "-f", "--", before),
        )


def upgrade_argv(path: str) -> tuple[str, ...]:
    """Give the `qemu-img amend` command that makes an image version 3, without opening what it stands on."""
    alone = {"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": path}}
    return ("qemu-img", "amend", "-q", "-o", "compat=1.1", "--", "json:" + json.dumps(alone))


def rebase_argv(path: str, backing: Reference | None, *options: str) -> tuple[str, ...]:
    """Give the `qemu-img rebase` command of an overlay, with the format of the backing file if there is one."""
    onto = ("-b", "") if backing is None else ("-F", backing.format or "raw", "-b", backing.written)
    return ("qemu-img", "rebase", "-q", *options, "-f", "qcow2", *onto, "--", path)
