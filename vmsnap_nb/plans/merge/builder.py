"""Putting a merge together: commits, pulls and removals, each on the forest that the ones before it leave behind.

The order of the steps is what makes a merge safe to be killed at any moment:

1. An entry of what is going to happen is written beside the base.
2. Data is copied into the base. What is written there is covered by the merged layers, so the overlays of the top of
   them read the same before, during and after. (Other overlays of the base would not: they are a reason to refuse.)
3. The entry says that all is copied. Only then overlays are repointed, one by one: each reads the same before and
   after, because base and top read the same now. From here on the copying must not be repeated.
4. With ``verify`` the disks are read again, while every old file is still there; what overlays are repointed to is
   read before that.
5. The merged layers are marked invalid, then removed if that was asked for; the entry is taken away.

An offline pull first fills the image with what it reads from below, and closes it, which writes qcow2's tables to the
disk. Only then its header gets the new backing file. Into the image of a running guest, QEMU pulls in one step, which
has an entry of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from vmsnap_nb.model.aliases import is_among
from vmsnap_nb.model.base_mismatch import MERGED
from vmsnap_nb.model.blockmap import Extent
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.need import Need
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.checks import bitmaps, layers, notes, readers
from vmsnap_nb.plans.checks.needed import needed
from vmsnap_nb.plans.checks.open_images import held_concerns
from vmsnap_nb.plans.concern import Concern, refuse, remark, sorted_concerns, warn
from vmsnap_nb.plans.journal import MergeEntry
from vmsnap_nb.plans.merge import checks, sizes
from vmsnap_nb.plans.merge.engines import BlockJobs, Copied, Engine, is_relative
from vmsnap_nb.plans.merge.records import with_records
from vmsnap_nb.plans.merge.steps import (
    CarryBitmaps,
    CommitLayers,
    Finish,
    LiveCommit,
    MarkInvalid,
    RemoveFile,
    RemoveLeftover,
    Repoint,
    SetSource,
    Unprotect,
)
from vmsnap_nb.plans.merge.verify import with_content
from vmsnap_nb.plans.overlay.reference import backing_reference
from vmsnap_nb.plans.plan import Alternative, Move, Plan
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.step import Protect, Step
from vmsnap_nb.words.message import NOTHING, Message, counted, t

__all__ = ["MergeBuilder", "without_lone_raw"]


class MergeBuilder:
    """A merge that is being put together: `reading` is what will be there after all that was decided so far."""

    def __init__(self, reading: Reading, engine: Engine) -> None:
        self.before = reading.forest
        self.reading = reading
        self.engine = engine
        self.moves: list[Move] = []
        self.concerns: list[Concern] = []
        self._copying: list[Step] = []
        self._marking: list[Step] = []
        self._removing: list[Step] = []
        self._ending: list[Step] = []
        self._room: dict[str, int] = {}
        self._growth: dict[str, int | None] = {}
        self._sizes: dict[str, int] = {}
        self._touched: dict[str, None] = {}
        self._contents: dict[str, str] = {}
        self._carried: set[tuple[str, str]] = set()

    @property
    def forest(self) -> Forest:
        """What will be there."""
        return self.reading.forest

    @forest.setter
    def forest(self, forest: Forest) -> None:
        self.reading = replace(self.reading, forest=forest)

    def overlays(self, path: str) -> tuple[str, ...]:
        """Return the overlays of an image that count, each file once."""
        found: dict[str, None] = {}
        for child in self.forest.known_children(path):
            if checks.sound(self.forest, child) and not is_among(self.forest, child, found):
                found[child] = None
        return tuple(found)

    # -- the three things that can be done ------------------------------------------------------------------

    def commit(self, base: str, merged: Sequence[str], *, remove: bool, keep: bool = False) -> None:
        """Copy layers, lowest first, down into the image below the lowest of them.

        With `keep` the guest goes on writing to the top.
        """
        merged, forest, engine, top = tuple(merged), self.forest, self.engine, merged[-1]
        # A block job lets the overlay in the guest's own chain refer to the base itself.
        own = (engine.above(forest, top),) if isinstance(engine, BlockJobs) and top != engine.source else ()
        others = tuple(child for child in self.overlays(top) if not is_among(forest, child, own))
        children, pivots = (*own, *others), top == engine.source and not keep
        domain = None if self.reading.guest is None else self.reading.guest.domain
        entry = MergeEntry(
            base=base,
            top=top,
            merged=merged,
            children=children,
            remove=remove,
            active=engine.live and pivots,
            guest="" if domain is None else domain.name,
            uuid="" if domain is None else domain.uuid,
        )
        self.touch(base, *merged, *children)
        self.concerns += [
            *checks.sharing(forest, base, merged),
            *checks.readers(forest, top, base, engine.own),
            *engine.about_users(forest, (base, *others, *merged), (*forest.lineage(base)[1:], *own)),
            *self._about_layers(engine.source if engine.live else top, (base, *merged), into=base, merged=merged),
            *engine.about_commit(forest, (base, *own)),
            *layers.plain_references(forest, (*merged, *children)),
            *layers.locked(forest, others),
            *sizes.hidden_data(self.reading, base, top, children),
            *checks.inner_snapshots(forest, () if keep else merged),
            *checks.other_names(forest, merged if remove and not keep else ()),
            *checks.searched(forest, base),
        ]
        step = engine.commit(forest, entry, self._copy((base, *merged), base, "commit data"))
        # qemu-img opens the top for writing as well: it could empty it.
        opened = (base, *own) if engine.live else (base, top)
        self._copying += self._with_write(step, *opened, leave=base if pivots else None)
        self._put_size(base, forest[top].virtual_size)
        if keep:
            return
        marks = bitmaps.merged_down(forest, base, merged, self.forest[base].virtual_size, **self._checkpoints)
        self.concerns += [
            *bitmaps.lost(forest, marks, base, live=engine.live),
            *bitmaps.enlarged(forest, base, marks),
        ]
        self._carry(base, marks)
        for child in own:
            self._put(child, backing=self._reference(child, base, relative=is_relative(forest, (child, *merged))))
        self._after_copying(replace(entry, phase="copied"), others, merged)
        if pivots:
            self._switch(top, base)

    @property
    def _checkpoints(self) -> dict[str, Any]:
        """What is known of bitmaps that are in no file yet."""
        owner, live = self.engine.owner, self.engine.live
        return {"checkpoints": owner.domain.checkpoints if owner is not None and live else (), "live": live}

    def _carry(self, path: str, marks: bitmaps.Merged) -> None:
        """Let an image take over bitmaps: libvirt does it where a guest runs, with the merge.

        QEMU writes each that records anew, and then frees the old: there must be room for both.
        """
        image = self.forest[path]
        if marks.carried and not self.engine.live:
            self._copying += self._with_write(CarryBitmaps(path=path, bitmaps=marks.carried), path)
        sizes = {one.name: bitmaps.bitmap_bytes(one, image) for one in image.bitmaps if one.recording}
        sizes |= {one.name: bitmaps.bitmap_bytes(one, image) for one in marks.carried}
        if sizes:
            self._room[path] = self._room.get(path, 0) + sum(sizes.values())
        self._carried |= marks.sources
        self._put(path, bitmaps=bitmaps.with_bitmaps(image, marks.carried))

    def _about_layers(self, path: str, parts: Sequence[str], *, into: str, merged: Sequence[str]) -> Iterator[Concern]:
        """Check the chain that is opened to copy between `parts`: a QEMU that runs on it has its keys."""
        yield from layers.usable(
            self.forest, path, parts, layers=merged, into=into, keys=self.engine.live, opened=self.engine.live
        )
        if self.engine.live:
            yield from layers.exposure(self.forest, parts, into)
        yield from readers.new_readers(self.reading.permits, parts, into, up=into == path)
        yield from readers.names_elsewhere(self.forest, self.reading.permits, (into, *merged))

    def _switch(self, top: str, base: str) -> None:
        """Let the base be the disk of the guest whose image is merged away: before that is marked invalid."""
        owner, own = self.engine.owner, self.engine.own
        assert owner is not None
        assert own is not None
        if not self.engine.live:
            format = self.forest[base].format or "raw"
            devices = self.forest.known_devices(top, base)
            step = SetSource(guest=owner.ref, target=own.target, before=top, path=base, format=format, devices=devices)
            self._marking.insert(0, step)
        self._put(base, writable=True)
        uses = (replace(use, path=base) if use == own else use for use in self.forest.uses)
        self.forest = self.forest.edited(uses=uses)

    def _after_copying(self, entry: MergeEntry, children: Sequence[str], merged: Sequence[str]) -> None:
        for child in children:
            self._repoint(child, entry.base)
        for path in reversed(merged):
            if checks.sound(self.forest, path):
                # Version 2 has no bit for it, so QEMU makes it version 3 first: it needs the permission to write.
                written = [path] if self.forest[path].compat == "0.10" else []
                step = MarkInvalid(
                    path=path, into=entry.base, upgrade=bool(written), identity=self.forest[path].identity
                )
                self._marking += self._with_write(step, *written)
        removed = [path for path in reversed(merged) if entry.remove and self._is_removable(path)]
        self._removing += [RemoveFile(path=path, identity=self.forest[path].identity) for path in removed]
        self._ending.append(Finish(entry=entry))
        names = [name for path in merged for name in self.forest.same_file(path)]
        marked = [replace(self.forest[name], status="invalid", problem=t(MERGED)) for name in names]
        self.forest = self.forest.edited(put=marked, drop=removed)
        self._contents[entry.top] = entry.base

    def pull(self, image: str, base: str | None) -> None:
        """Copy into an image what it reads from the layers above `base`, or all that it reads from below."""
        forest, engine, lineage = self.forest, self.engine, self.forest.known_lineage(image)
        base = None if base is None else layers.named_in(forest, lineage, base)
        below = lineage[lineage.index(base) :] if base is not None else ()
        parts = lineage[: len(lineage) - len(below)]
        self.touch(*reversed(parts), *below[:1])
        self.concerns += [
            *(engine.about_pull(forest, image) if isinstance(engine, BlockJobs) else ()),
            *engine.about_users(forest, (image,), lineage[1:]),
            *self._about_layers(image, parts, into=image, merged=(image,)),
            *layers.plain_references(forest, parts[:-1] if base is not None and _is_remote(forest, base) else parts),
            *sizes.stale_end(self.reading, lineage, parts),
            *(
                sizes.short_layers(self.reading, base, engine.own.guest, parts)
                if isinstance(engine, BlockJobs) and base is not None
                else ()
            ),
            *checks.inner_snapshots(forest, (image,), rebased=True),
        ]
        copied = self._copy(tuple(reversed(parts)), image, "stream data")
        relative = is_relative(forest, parts if engine.live else parts[:1])
        new = None if base is None else self._reference(image, base, relative=relative)
        if base is not None and _is_remote(forest, base):
            new = forest[parts[-1]].backing  # kept as it is written: what it says of the server cannot be made up
        marks = bitmaps.merged_up(forest, parts, forest[image].virtual_size, **self._checkpoints)
        self.concerns += bitmaps.lost(forest, marks, image, up=True, live=engine.live)
        if copied.extents is None:
            self.concerns += bitmaps.enlarged(forest, image, bitmaps.Merged())
        self._carry(image, marks)  # before the data: until the header changes, a backup reads those of the layers too
        self._copying += self._with_write(engine.pull(forest, parts, new, copied), image)
        self._put(image, backing=new, allocated=None)

    def remove(self, paths: Iterable[str], *, asked: bool) -> None:
        """Remove files that nothing is based on any more, highest first; others stay, and a concern says so.

        With `asked` the files are what the plan is about, so that whatever stands in the way is a reason to refuse.
        """
        for path in paths:
            users = tuple(dict.fromkeys(use.guest for use in self.forest.known_users(path)))
            standing = self.overlays(path)
            if standing or users:
                needing = tuple(self.forest[child].name for child in standing) or users
                concern = refuse if asked else remark
                self.concerns.append(
                    concern(
                        "shared-base",
                        counted(
                            "{image} is kept because {needing} still needs it",
                            "{image} is kept because {needing} still need it",
                            len(needing),
                            image=self.forest[path].name,
                            needing=checks.several(needing),
                        ),
                        t("first merge or remove the overlays that need it"),
                        images=(path, *standing),
                        holders=users,
                    )
                )
                continue
            if not self._is_removable(path):
                continue
            self.concerns += checks.inner_snapshots(self.before, (path,))
            self.concerns += bitmaps.removed(self.before, path, self._carried)
            self.concerns += checks.other_names(self.before, (path,))
            self._removing.append(RemoveFile(path=path, identity=self.before[path].identity))
            link = self.before[path].link  # a hard link stays
            # What has two names is dropped with the first.
            names = [name for name in self.forest.same_file(path) if name in self.forest.images]
            self.forest = self.forest.edited(drop=[name for name in names if self.forest[name].link == link])

    def _is_removable(self, path: str) -> bool:
        """Return whether an image can be removed; a block device stays, and a concern says so."""
        image = self.before[path]
        if image.device:
            self.concerns.append(
                remark(
                    "not-supported",
                    t("{path} is a block device, so it is not removed", path=path),
                    t("once nothing needs the device, remove it with the tool that created it, such as lvremove"),
                    images=(path,),
                )
            )
        return not image.device

    def remove_leftovers(self) -> bool:
        """Remove files of ours that nobody completes any more, and that are no images; return whether there are any."""
        images = {image.identity for image in self.forest}
        left = {path: one for path, one in self.reading.leftovers.items() if one not in images}
        self._removing += [RemoveLeftover(path=path, identity=one) for path, one in left.items()]
        return bool(left)

    def remove_memory(self, needs: Iterable[Need]) -> bool:
        """Remove files of memory that are of no use any more; return whether there are any."""
        found = False
        for need in needs:
            found = True
            self._removing.append(RemoveFile(path=need.name))
            what = t(
                "the memory of {guest} saved in {file} is removed: the image it belongs to, {path}, has changed",
                guest=need.guest,
                file=need.name,
                path=need.path,
            )
            self.concerns.append(warn("memory-lost", what, images=(need.name,), holders=(need.guest,)))
        return found

    # -- the plan -------------------------------------------------------------------------------------------

    def plan(
        self,
        title: Message,
        way: Message,
        *,
        verify: bool = False,
        subjects: Sequence[str] = (),
        alternatives: Sequence[Alternative] = (),
        resumed: MergeEntry | None = None,
    ) -> Plan:
        """Return the plan.

        With `verify` the content of every disk that survives is read before and after. `resumed` is the merge cut short
        that this one finishes.
        """
        files = {path: size for path, size in self._room.items() if not self.before[path].device}
        self.concerns += checks.room(self.reading.folders, files)
        self.concerns += checks.device_room(self.before, self._room, self._sizes)
        if self.engine.live and self.engine.owner is not None:
            self.concerns += held_concerns(self.before, self.engine.owner.domain.name)
        others = [entry for entry in self.reading.merges if resumed is None or entry.path != resumed.path]
        self.concerns += checks.interrupted(others, self._touched, self.reading.guest)
        self.concerns += notes.strangers(self.reading)
        copying = with_content(self.before, self.forest, self._copying, self._contents) if verify else self._copying
        steps = (*copying, *self._marking, *self._removing, *self._ending)
        written = [path for step in steps for path in step.writes]
        self.concerns += notes.unsettled(self.reading, written)
        if resumed is None:
            changed = [step.entry.base for step in steps if isinstance(step, CommitLayers | LiveCommit)]
            lost = [path for step in steps for path in (*step.invalidates, *step.unlinks)]
            own = "" if self.engine.owner is None else self.engine.owner.domain.name
            self.concerns += needed(self.before, written=written, changed=changed, lost=lost, own=own)
            self.concerns += readers.other_bases(self.before, (*written, *lost))
            self.concerns += notes.pulling(self.reading, self._touched, lower=True, steps=steps)
        plan = Plan(
            title=title,
            before=self.before,
            steps=steps,
            after=self.forest,
            moves=tuple(self.moves),
            concerns=sorted_concerns(self.concerns),
            way=way,
            space_needed=sum(self._room.values()),
            growth=self._growth,
            subjects=tuple(subjects) or tuple(self._touched),
            alternatives=tuple(alternatives),
        )
        if self.engine.owner is not None:
            plan = with_records(plan, self.engine.owner, self.reading.gone, resumed=resumed is not None)
        return replace(plan, after=without_lone_raw(self.before, plan.after))

    @property
    def refused(self) -> Message:
        """The first reason to refuse it, or empty."""
        return next((c.what for c in self.concerns if c.level == "refuse"), NOTHING)

    @property
    def bytes(self) -> int | None:
        """Bytes to copy so far."""
        sizes = [move.size for move in self.moves]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    # -- parts ----------------------------------------------------------------------------------------------

    def touch(self, *paths: str) -> None:
        """Count these images among those that it is about."""
        self._touched.update(dict.fromkeys(paths))

    def _reference(self, path: str, base: str, *, relative: bool) -> Reference:
        relative = relative and len(self.forest.same_file(path)) == 1
        return backing_reference(path, base, self.forest[base].format, relative=relative)

    def _with_write(self, step: Step, *paths: str, leave: str | None = None) -> list[Step]:
        """Take the protection off images that a step opens for writing, and put it back after it, but on `leave`."""
        protected = [path for path in paths if not self.forest[path].writable]
        for path in protected:
            image = self.forest[path]
            if image.device:
                self.concerns.append(
                    refuse(
                        "read-only",
                        t("the block device {path} is set to read-only", path=path),
                        t("make the device writable: {command}", command=f"blockdev --setrw {shlex.quote(path)}"),
                        images=(path,),
                    )
                )
                continue
            if (concern := _protected(image)) not in self.concerns:
                self.concerns.append(concern)
        protected = [path for path in protected if not self.forest[path].device]
        opening = [Unprotect(path=path, identity=self.forest[path].identity) for path in protected]
        closing = [Protect(path=path, identity=self.forest[path].identity) for path in protected if path != leave]
        return [*opening, step, *closing]

    def _repoint(self, child: str, base: str, *, back: bool = False) -> None:
        old = self.forest[child].backing
        assert old is not None
        new = self._reference(child, base, relative=is_relative(self.forest, [child]))
        self._copying += self._with_write(Repoint(path=child, backing=new, before=old, back=back), child)
        self._put(child, backing=new)

    def _put(self, path: str, **changes: object) -> None:
        put: list[Image] = [replace(self.forest[name], **changes) for name in self.forest.same_file(path)]  # type: ignore[arg-type]
        self.forest = self.forest.edited(put=put)

    def _put_size(self, base: str, size: int | None) -> None:
        had = self.forest[base].virtual_size
        self._sizes[base] = max(self._sizes.get(base, 0), size or 0)
        self._put(base, virtual_size=max(had, size) if had is not None and size is not None else size, allocated=None)

    def _copy(self, layers: Sequence[str], into: str, label: Literal["commit data", "stream data"]) -> Copied:
        """Count what is copied from which of the layers (lowest first) into one of them, and the room that it takes."""
        blocks = self.reading.block_map(layers)
        if blocks is None:
            self.moves += [Move(path, into, None, label) for path in layers if path != into]
            self._growth[into] = None
            return Copied(None, None)
        last, target = len(layers) - 1, layers.index(into)
        sizes = blocks.to_copy(0, last, target)
        for number, path in enumerate(layers):
            if path != into:
                self.moves.append(Move(path, into, sizes.get(number, 0), label))
        self._grow(into, blocks.growth(0, last, target, own=self._own(into)))
        room = blocks.room_to_copy(0, last, target, fresh=bool(self.forest[into].snapshots))
        self._room[into] = self._room.get(into, 0) + room
        self.reading = replace(self.reading, maps={**self.reading.maps, into: blocks.merged(target)})
        return Copied(sum(sizes.values()), blocks.clusters_to_fill(0, last, target))

    def _grow(self, path: str, size: int) -> None:
        before = self._growth.get(path, 0)
        self._growth[path] = None if before is None else before + size

    def _own(self, path: str) -> Sequence[Extent] | None:
        """Return the parts of an image that internal snapshots do not keep as they are; None if it has no snapshots."""
        if not self.forest[path].snapshots:
            return None
        return self.reading.space[path].own if path in self.reading.space else ()


def without_lone_raw(before: Forest, after: Forest) -> Forest:
    """Return a forest without raw images that nothing refers to any more: they look like any file then."""
    lone = [
        path
        for path, image in after.images.items()
        if image.format == "raw"
        and before.known_children(path)
        and not (after.known_children(path) or after.known_users(path) or after.known_needs(path))
    ]
    return after.edited(drop=lone) if lone else after


def _is_remote(forest: Forest, path: str) -> bool:
    return forest[path].status == "remote"


def _protected(image: Image) -> Concern:
    if image.backing is not None:
        what = t(
            "{image} is write-protected. The plan removes the protection and restores it afterwards", image=image.name
        )
        return remark("read-only", what, images=(image.path,))
    # A template: only a commit writes to it.
    return warn(
        "read-only",
        t(
            "{image} is write-protected. The plan removes the protection and restores it afterwards. Overlays that "
            "are later created on this base will contain the committed data",
            image=image.name,
        ),
        t("if the base must remain a template, pull the layers up instead"),
        images=(image.path,),
    )
