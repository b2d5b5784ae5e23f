"""The single actions of a repair: a copy, and what QEMU repairs in it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from vmsnap_nb.model.identity import Identity
from vmsnap_nb.plans.by_hand import repair_argv, repair_commands
from vmsnap_nb.plans.journal import Entry, InsideEntry
from vmsnap_nb.plans.step import PathOf, PathsOf, Says, Step
from vmsnap_nb.words.message import N_, Message, t

__all__ = ["CopyImage", "ForgetEntry", "RepairCopy", "SettleInside"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyImage(Step):
    """Copy the file of an image; its holes stay holes."""

    source: str
    path: str
    identity: Identity | None = field(default=None, compare=False, repr=False)  # of the file when it was planned
    size: int | None = None

    action = N_("copy image")
    relies = PathsOf("source")
    creates = PathsOf("path")

    @property
    def what(self) -> Message:
        return t("copy {path}; the original is only read", path=self.source)

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (("cp", "--sparse=always", "--reflink=auto", "--no-clobber", "--", self.source, self.path),)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairCopy(Step):
    """Let QEMU repair an image that was copied for it, without its backing files."""

    path: str

    action = N_("repair copy")
    performer = "qemu-img"
    image = PathOf("path")
    what = Says(N_("let QEMU rebuild its tables as far as possible; damaged data may be lost"))

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (repair_argv(self.path),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetEntry(Step):
    """Remove an entry whose guest is gone."""

    entry: Entry

    action = N_("forget")
    image = PathOf("entry.path")
    entry_path = PathOf("entry.path")
    what = Says(N_("remove the journal entry; no image is modified"))

    @property
    def argvs(self) -> tuple[tuple[str, ...], ...]:
        return (("rm", "--", self.entry.path),)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleInside(Step):
    """See that an image is whole after an interrupted change inside it; if not, a repaired copy takes its place."""

    entry: InsideEntry
    damaged: str = field(default="", compare=False)
    size: int | None = field(default=0, compare=False)

    action = N_("check image")
    image = PathOf("entry.image")
    writes = PathsOf("entry.image")
    replaces = PathsOf("entry.image")
    changes = ()
    entry_path = PathOf("entry.path")

    @property
    def what(self) -> Message:
        if not self.damaged:
            return t("let QEMU check its tables, and remove the journal entry of the snapshot")
        return t("let QEMU repair its tables in a copy; the copy replaces the image if no data has moved")

    @property
    def commands(self) -> tuple[str, ...]:
        path = self.entry.image
        if not self.damaged:
            return (shlex.join(("qemu-img", "check", "-f", "qcow2", path)), shlex.join(("rm", "--", self.entry.path)))
        return (
            repair_commands(path),
            shlex.join(("mv", "--", f"{path}.copy", path)),
            shlex.join(("rm", "--", self.entry.path)),
        )
