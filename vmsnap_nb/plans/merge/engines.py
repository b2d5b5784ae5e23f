"""The two engines of merges: qemu-img for images that no QEMU has open, and QEMU's block jobs for guests that run.

A block job copies first. What it writes into the base is covered by the layers that are merged, so that a kill or a
cancel at any moment leaves the old chain as it was; QEMU switches the overlay (or the guest) to the base in the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.blockmap import Extent
from vmsnap_nb.model.find import find_disk
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.layer_name import layer_name
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.checks import devices, given_up, security, users
from vmsnap_nb.plans.checks.needed import other_chains
from vmsnap_nb.plans.concern import Concern, either, refuse
from vmsnap_nb.plans.facts import GuestFacts
from vmsnap_nb.plans.journal import MergeEntry, PullEntry
from vmsnap_nb.plans.merge.steps import CommitLayers, LiveCommit, LivePull, PullLayers
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.step import Says, Step
from vmsnap_nb.words.message import N_, Message, joined, t

if TYPE_CHECKING:
    from vmsnap_nb.plans.merge.request import MergeRequest

__all__ = ["BlockJobs", "Copied", "Engine", "QemuImg", "check_verify", "engine_of", "is_relative"]


_WITH_CHECKPOINTS = (7, 6, 0)
"""Since this version libvirt carries the bitmaps of checkpoints over in block jobs; before it refuses these."""


class Copied(NamedTuple):
    """Bytes that are copied, and where on the disk they are; None where that is not known."""

    size: int | None
    extents: tuple[Extent, ...] | None


@dataclass(frozen=True, kw_only=True)
class QemuImg:
    """qemu-img, on images alone or on those of a guest that is off."""

    owner: GuestFacts | None = None
    own: Use | None = None

    commit_way = Says(
        N_(
            "offline, with qemu-img commit, which copies all layers in one pass; data that several "
            "layers hold is copied only once"
        )
    )
    pull_way = Says(N_("offline, with qemu-img rebase in safe mode; the header changes only after the data is on disk"))
    live = False

    @property
    def source(self) -> str:
        """Path of the image that the guest writes to; empty if there is none."""
        return "" if self.own is None else self.own.path

    def about_users(self, forest: Forest, written: Sequence[str], read: Sequence[str]) -> Iterator[Concern]:
        """Check that nobody has open what is written, or writes what is read."""
        yield from users.in_use(forest, written, read, instead=users.merge_while_running)
        if self.owner is not None and self.own is not None:
            yield from devices.parts_of_files(self.owner, (self.own.target,))
            yield from other_chains(forest, self.own.guest, (self.own.target,))

    def about_commit(self, forest: Forest, written: Sequence[str]) -> Iterator[Concern]:
        """Check that qemu-img can reopen the base for writing: with all that it is based on."""
        for path in forest.known_lineage(written[0])[1:]:
            if forest[path].format == "parallels":
                yield refuse(
                    "not-supported",
                    t(
                        "{image} has the format parallels, and qemu-img cannot commit into an overlay on such an image",
                        image=forest[path].name,
                    ),
                    t("pull instead"),
                    images=(path,),
                )

    def commit(self, forest: Forest, entry: MergeEntry, copied: Copied) -> Step:
        """Return one step for all layers."""
        # QEMU finds an image of a chain by its path, but one that was written as file: or json: only as written.
        below = forest[entry.merged[0]].backing
        name = below.written if below is not None and below.kind in {"file:", "json:", "remote"} else entry.base
        format = forest[entry.top].format or "qcow2"
        return CommitLayers(entry=entry, top_format=format, base_name=name, size=copied.size)

    def pull(self, forest: Forest, layers: Sequence[str], new: Reference | None, copied: Copied) -> Step:
        """Return the step that fills the first of the layers, and then writes its header."""
        image, (size, extents) = forest[layers[0]], copied
        assert image.backing is not None
        if new is None and extents is not None:
            # Without a backing file, what is not there is zero.
            extents = tuple(extent for extent in extents if not extent.zero)
        short = any((forest[path].virtual_size or 0) < (image.virtual_size or 0) for path in layers[1:])
        left = None if short and new is not None else len(layers) - 1
        return PullLayers(path=image.path, backing=new, before=image.backing, size=size, extents=extents, left=left)


@dataclass(frozen=True, kw_only=True)
class BlockJobs:
    """Block jobs of the QEMU of a guest that runs; with `adopt` the job is there, begun by a process that has ended."""

    owner: GuestFacts
    own: Use
    bandwidth: int = 0
    timeout: float | None = None
    adopt: bool = False

    commit_way = pull_way = Says(N_("live, with a QEMU block job; the guest keeps running"))
    live = True

    @property
    def source(self) -> str:
        """Path of the image that the guest writes to."""
        return self.own.path

    def about_users(self, forest: Forest, written: Sequence[str], read: Sequence[str]) -> Iterator[Concern]:
        """Check that no job goes on with the disk, and that no other guest has the images open."""
        own = self.own
        if not self.adopt:
            yield from users.active_jobs(self.owner, (own.target,), images=(own.path,))
            yield from other_chains(forest, own.guest, (own.target,))
        checkpoints, version = self.owner.domain.checkpoints, self.owner.libvirt_version
        if checkpoints and version < _WITH_CHECKPOINTS:
            yield refuse(
                "backup-chain",
                t(
                    "{guest} has checkpoints ({checkpoints}), and libvirt {version} cannot start a block job on such "
                    "a guest (7.6 and later can)",
                    guest=own.guest,
                    checkpoints=joined(checkpoints),
                    version=".".join(map(str, version)),
                ),
                t("shut {guest} down, then merge", guest=own.guest),
                holders=(own.guest,),
            )
        yield from devices.no_jobs(self.owner, own.target)
        if own.readonly:
            yield refuse(
                "read-only",
                t("disk {disk} of {guest} is read-only", disk=own.target, guest=own.guest),
                t("shut {guest} down, so that qemu-img can merge the chain", guest=own.guest),
                holders=(own.guest,),
            )
        yield from users.in_use(forest, written, read, besides=own.guest)

    def about_commit(self, forest: Forest, written: Sequence[str]) -> Iterator[Concern]:
        """Check that QEMU may write to these layers, beside the image that the guest writes to."""
        below = tuple(path for path in written if path != self.source)
        yield from security.denied_writes(self.owner, forest, below)
        yield from security.not_relabelled(self.owner, below)
        yield from given_up.no_writes(self.owner, () if self.adopt else below)

    def about_pull(self, forest: Forest, image: str) -> Iterator[Concern]:
        """Check that data is pulled only into the image that the guest writes to."""
        guest = self.own.guest
        if forest[image].held == "read" and not self.adopt:
            yield from given_up.no_writes(self.owner, (image,))
        if image != self.source:
            yield refuse(
                "not-supported",
                t(
                    "libvirt can pull only into the active layer of a running guest, and {image} is below the active "
                    "layer of {guest}",
                    image=forest[image].name,
                    guest=guest,
                ),
                either(t("shut {guest} down, so that qemu-img performs the pull", guest=guest), t("commit instead")),
                images=(image,),
                holders=(guest,),
            )

    def commit(self, forest: Forest, entry: MergeEntry, copied: Copied) -> Step:
        """Return the job that copies down, and lets the overlay or the guest go over to the base."""
        active = entry.top == self.source
        return LiveCommit(
            entry=entry,
            keep=active and not entry.active,
            relative=not active and is_relative(forest, (*entry.merged, self.above(forest, entry.top))),
            **self._job(forest, entry.top, copied),
        )

    def pull(self, forest: Forest, layers: Sequence[str], new: Reference | None, copied: Copied) -> Step:
        """Return the job that copies up into the first of the layers."""
        image, base = forest[layers[0]], None if new is None else new.key
        remote = base is not None and not base.startswith("/")
        assert image.backing is not None
        written, format = image.backing.written, image.backing.format
        return LivePull(
            base=base,
            entry=PullEntry(image=image.path, written=written, format=format, base=base),
            relative=base is not None and not remote and is_relative(forest, layers),
            below=layer_name(self.owner.xml, self.own.target, len(layers)) if remote else None,
            paused=self.paused,
            **self._job(forest, image.path, copied),
        )

    @property
    def paused(self) -> bool:
        """Whether the guest need not be suspended."""
        return self.owner.domain.state == "paused"

    def above(self, forest: Forest, layer: str) -> str:
        """Return the overlay of a layer in the guest's chain, by the name under which the guest has it."""
        lineage = forest.lineage(self.source)
        return lineage[lineage.index(layer) - 1]

    def _job(self, forest: Forest, image: str, copied: Copied) -> dict[str, Any]:
        """Return what all steps by block jobs are told."""
        return {
            "guest": self.owner.ref,
            "target": self.own.target,
            "source": self.source,
            "size": copied.size,
            "extents": copied.extents,
            "length": forest[image].virtual_size or 0,
            "bandwidth": self.bandwidth,
            "timeout": self.timeout,
            "adopt": self.adopt,
        }


Engine = QemuImg | BlockJobs


def is_relative(forest: Forest, paths: Iterable[str]) -> bool:
    """Return whether all these images name their backing files relative to their own folders."""
    references = [forest[path].backing for path in paths]
    return all(reference is not None and reference.kind == "relative" for reference in references)


def engine_of(reading: Reading, request: MergeRequest) -> Engine:
    """Return the engine for the chain of a guest's disk, as the forest has it, or for images alone."""
    if not request.guest:
        return QemuImg()
    owner, own = reading.owner, find_disk(reading.forest, request.guest, request.disk)
    return BlockJobs(owner=owner, own=own, **request.limits) if owner.running else QemuImg(owner=owner, own=own)


def check_verify(engine: Engine, request: MergeRequest, tried: Message) -> None:
    """Raise if content is to be compared to which the guest writes."""
    if engine.live and getattr(request, "verify", False):
        raise InvalidRequestError(
            tried,
            why=t("verify cannot compare the content of a disk while its guest writes to it"),
            next_step=t("omit verify and compare checksums in the guest, or shut the guest down first"),
        )
