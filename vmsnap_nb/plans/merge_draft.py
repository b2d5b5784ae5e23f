"""Putting a merge together: commits, pulls and removals, each on the forest that the ones before it leave behind.

The order of the steps is what makes a merge safe to be killed at any moment:

1. A note of what is going to happen is written beside the base.
2. Data is copied into the base. What is written there is covered by the merged layers, so whoever stands on the top of
   them reads the same before, during and after. (Others on the base would not: so they are a reason to refuse.)
3. The note says that all is copied. Only then overlays are repointed, one by one: each reads the same before and
   after, because base and top read the same now. From here on the copying must not be repeated.
4. With ``verify`` the disks are read again, while every old file is still there.
5. The merged layers are marked invalid, then removed if that was asked for; the note is taken away.

A pull first fills the image with what it reads from below, and closes it, which writes qcow2's tables to the disk. Only
then its header gets the new backing file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from vmsnap_nb.model.blockmap import Extent
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans import merge_concerns as about
from vmsnap_nb.plans.merge_cut_short import is_gone, standing_on_base
from vmsnap_nb.plans.merge_facts import MergeFacts
from vmsnap_nb.plans.merge_note import MergeNote
from vmsnap_nb.plans.merge_steps import (
    CheckContent,
    CommitLayers,
    Finish,
    MarkInvalid,
    PullLayers,
    RemoveFile,
    Repoint,
    TakeContent,
    Unprotect,
)
from vmsnap_nb.plans.overlay import backing_reference
from vmsnap_nb.plans.plan import Alternative, Concern, Move, Plan
from vmsnap_nb.plans.steps import Protect, Step

__all__ = ["INVALID", "MergeDraft"]

INVALID = "merged into another image, and what lies below has changed; opening is refused by QEMU"
"""`Image.problem` of a merged layer."""

_Copied = tuple[int | None, tuple[Extent, ...] | None]
_LEVELS = ("refuse", "warn", "note")


class MergeDraft:
    """A merge that is being put together.

    Parameters
    ----------
    forest : Forest
        What is there.
    facts : MergeFacts
        What is known of it beyond that.

    Attributes
    ----------
    where : str
        Who merges, in a few words.
    pulls_only_to_top : bool
        Whether data can be pulled only into the last image of the chain.
    """

    where = "offline"
    pulls_only_to_top = False

    def __init__(self, forest: Forest, facts: MergeFacts) -> None:
        self.before = forest
        self.forest = forest
        self._facts = facts
        self.moves: list[Move] = []
        self.concerns: list[Concern] = []
        self._copying: list[Step] = []
        self._marking: list[Step] = []
        self._removing: list[Step] = []
        self._ending: list[Step] = []
        self._room: dict[str, int] = {}
        self._touched: dict[str, None] = {}
        self._contents: dict[str, str] = {}

    def overlays(self, path: str) -> tuple[str, ...]:
        """Give the overlays of an image that count, each file once."""
        found: dict[str, None] = {}
        for child in self.forest.children(path):
            if about.sound(self.forest, child) and not any(name in found for name in self.forest.same_file(child)):
                found[child] = None
        return tuple(found)

    @property
    def notes(self) -> tuple[MergeNote, ...]:
        """The merges that were cut short."""
        return self._facts.notes

    # -- the three things that can be done ------------------------------------------------------------------

    def commit(self, base: str, merged: Sequence[str], *, remove: bool) -> None:
        """Copy layers, lowest first, down into the image below the lowest of them."""
        merged = tuple(merged)
        forest, top = self.forest, merged[-1]
        children = self.overlays(top)
        note = MergeNote(base, top, merged, children, remove=remove)
        self._touched.update(dict.fromkeys((base, *merged, *children)))
        self.concerns += [
            *about.about_sharing(forest, base, merged),
            *about.about_readers(forest, top, base),
            *about.about_use(forest, (base, *children, *merged), forest.lineage(base)[1:]),
            *about.about_chain(forest, top, (base, *merged), layers=merged),
            *about.about_sizes(forest, self._facts, base, top, children),
            *about.about_snapshots(forest, merged, "which would not be valid any more"),
            *about.about_names(forest, merged if remove else ()),
            *about.about_seen(forest, base),
        ]
        size, _ = self._copy((base, *merged), base, "commit data")
        step = CommitLayers(note, forest[top].format or "qcow2", self._name(base, merged), size)
        # QEMU opens the top for writing as well: it could empty it.
        self._copying += self._with_write(step, base, top)
        self._put_size(base, forest[top].virtual_size)
        self._after_copying(replace(note, phase="copied"), children)

    def complete(self, note: MergeNote) -> None:
        """Do what is left of a commit that was cut short when all had been copied."""
        forest = self.forest
        merged = tuple(path for path in note.merged if not is_gone(forest, path))
        children = tuple(dict.fromkeys(self.overlays(note.top) if note.top in forest else ()))
        self._touched.update(dict.fromkeys((note.base, *merged, *children)))
        self.concerns += about.about_use(forest, (*children, *merged), ())
        if note.top in merged:
            self.concerns += about.about_readers(forest, note.top, note.base)
        self._after_copying(note, children, merged)

    def take_back(self, note: MergeNote, *, untouched: bool) -> None:
        """Let overlays stand on what was merged again, where nobody knows whether the base holds all of it.

        The note stays: a part of it may be in the base, so the merge is to be made again.
        """
        forest, top, base = self.forest, self.forest[note.top].name, self.forest[note.base].name
        children = standing_on_base(forest, note)
        self._touched.update(dict.fromkeys((note.base, *note.merged, *children)))
        self.concerns += about.about_use(forest, children, ())
        self.concerns.append(
            Concern(
                "active-job",
                "warn",
                f"{base} may not hold all of {top}: QEMU, or the machine, may have ended before all was written",
                f"merge {top} again afterwards: a part of it is in {base}",
                images=(note.base, note.top),
            )
        )
        if not untouched:
            self.concerns.append(
                Concern(
                    "disk-changed",
                    "refuse",
                    f"{top} was written to after this merge had begun: it may be another image than the one merged",
                    "put back the one that was merged; waive this if you know that it is that one (a copy is younger); "
                    f"or, if {base} has all of it, remove {note.path}",
                    images=(note.top,),
                    waivable=True,
                )
            )
        for child in children:
            if forest[child].encryption:
                self.concerns.append(
                    Concern(
                        "not-supported",
                        "refuse",
                        f"{forest[child].name} is encrypted, and qemu-img does not change it without the key",
                        f"let it stand on {note.top} by qemu-img rebase -u, with its key in --object and --image-opts",
                        images=(child,),
                    )
                )
            self._repoint(child, note.top, back=True)
            self.concerns += about.about_chain(self.forest, child, (), layers=(child,), keys=True)

    def miss(self, note: MergeNote, *, said: str) -> None:
        """Refuse to go on with a merge whose images are not as it had left them."""
        there = tuple(path for path in (note.base, *note.merged, *note.children) if path in self.forest)
        self._touched.update(dict.fromkeys(there))
        self.concerns.append(
            Concern(
                "missing-base",
                "refuse",
                f"{note.top} was being merged into {note.base}, and {said}",
                "put it back as it was, and ask again with guest.unfinished(); or, if you know that nothing is left to "
                f"be done, remove {note.path}",
                images=there,
            )
        )

    def _after_copying(self, note: MergeNote, children: Sequence[str], merged: Sequence[str] | None = None) -> None:
        merged = note.merged if merged is None else merged
        for child in children:
            self._repoint(child, note.base)
        for path in reversed(merged):
            if about.sound(self.forest, path):
                # Version 2 has no bit for it, so QEMU makes it version 3 first: it needs the permission to write.
                written = [path] if self.forest[path].compat == "0.10" else []
                self._marking += self._with_write(MarkInvalid(path, note.base, bool(written)), *written)
        if note.remove:
            self._removing += [RemoveFile(path) for path in reversed(merged)]
        self._ending.append(Finish(note))
        names = [name for path in merged for name in self.forest.same_file(path)]
        spoilt = [replace(self.forest[name], status="invalid", problem=INVALID) for name in names]
        self.forest = self.forest.edited(put=spoilt, drop=merged if note.remove else ())
        self._contents[note.top] = note.base

    def pull(self, image: str, base: str | None) -> None:
        """Copy into an image what it reads from the layers above `base`, or all that it reads from below."""
        forest = self.forest
        lineage = forest.lineage(image)
        below = lineage[lineage.index(base) :] if base is not None else ()
        layers = lineage[: len(lineage) - len(below)]
        self._touched.update(dict.fromkeys((*reversed(layers), *below[:1])))
        self.concerns += [
            *about.about_use(forest, (image,), lineage[1:]),
            *about.about_chain(forest, image, layers, layers=(image,)),
            *about.about_snapshots(forest, (image,), "which would read other content from the new backing file"),
        ]
        size, extents = self._copy(tuple(reversed(layers)), image, "stream data")
        if base is None and extents is not None:
            # Without a backing file, what is not there is zero.
            extents = tuple(extent for extent in extents if not extent.zero)
        old = forest[image].backing
        assert old is not None
        new = None if base is None else self._reference(image, base, old)
        short = any((forest[path].virtual_size or 0) < (forest[image].virtual_size or 0) for path in layers[1:])
        left = None if short and new is not None else len(layers) - 1
        self._copying += self._with_write(PullLayers(image, new, old, size, extents, left), image)
        self._put(image, backing=new, allocated=None)

    def remove(self, paths: Iterable[str], *, asked: bool) -> None:
        """Remove files that nobody stands on any more, highest first; others stay, and a concern says so.

        With `asked` the files are what the plan is about, so that whatever stands in the way is a reason to refuse.
        """
        for path in paths:
            users = tuple(dict.fromkeys(use.guest for use in self.forest.users(path)))
            standing = self.overlays(path)
            if standing or users:
                needing = tuple(self.forest[child].name for child in standing) or users
                self.concerns.append(
                    Concern(
                        "shared-base",
                        "refuse" if asked else "note",
                        f"{self.forest[path].name} stays: "
                        + _several(needing)
                        + (" still needs it" if len(needing) == 1 else " still need it"),
                        images=(path, *standing),
                        holders=users,
                    )
                )
                continue
            self.concerns += about.about_snapshots(self.before, (path,), "which would be lost")
            self.concerns += about.about_names(self.before, (path,))
            self._removing.append(RemoveFile(path))
            self.forest = self.forest.edited(drop=[path])

    # -- the plan -------------------------------------------------------------------------------------------

    def plan(
        self,
        title: str,
        way: str,
        *,
        verify: bool = False,
        subjects: Sequence[str] = (),
        alternatives: Sequence[Alternative] = (),
        resumed: MergeNote | None = None,
    ) -> Plan:
        """Give the plan.

        Parameters
        ----------
        title, way, subjects, alternatives
            As in `Plan`.
        verify : bool
            Whether the content of every disk that survives is read before and after.
        resumed : MergeNote, optional
            The merge cut short that this one finishes.
        """
        self.concerns += about.about_space(self._facts, self._room)
        others = [note for note in self._facts.notes if resumed is None or note.path != resumed.path]
        self.concerns += about.about_notes(replace(self._facts, notes=tuple(others)), self._touched)
        taking, checking = self._content_steps() if verify else ([], [])
        self._forget_raw()
        steps = (*taking, *self._copying, *checking, *self._marking, *self._removing, *self._ending)
        concerns = dict.fromkeys(self.concerns)
        return Plan(
            title=title,
            before=self.before,
            steps=steps,
            after=self.forest,
            moves=tuple(self.moves),
            concerns=tuple(sorted(concerns, key=lambda concern: _LEVELS.index(concern.level))),
            way=way,
            space_needed=sum(self._room.values()),
            subjects=tuple(subjects) or tuple(self._touched),
            alternatives=tuple(alternatives),
        )

    @property
    def refused(self) -> str:
        """The first reason to refuse it, or empty."""
        return next((c.what for c in self.concerns if c.level == "refuse"), "")

    @property
    def bytes(self) -> int | None:
        """Bytes to copy so far."""
        sizes = [move.size for move in self.moves]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    # -- parts ----------------------------------------------------------------------------------------------

    def _name(self, base: str, merged: Sequence[str]) -> str:
        # QEMU finds an image of a chain by its path, but one that was written as file: or json: only as written.
        reference = self.forest[merged[0]].backing
        return base if reference is None or reference.kind in {"relative", "absolute"} else reference.written

    def _reference(self, path: str, base: str, old: Reference | None) -> Reference:
        relative = old is not None and old.kind == "relative" and len(self.forest.same_file(path)) == 1
        return backing_reference(path, base, self.forest[base].format, relative=relative)

    def _with_write(self, step: Step, *paths: str) -> list[Step]:
        """Take the protection off the images that a step opens for writing, and put it back after it."""
        protected = [path for path in paths if not self.forest[path].writable]
        for path in protected:
            image = self.forest[path]
            what = f"{image.name} is protected; the plan takes the protection off and puts it back"
            if image.backing is None:  # a template: only a commit writes to it
                concern = Concern(
                    "read-only",
                    "warn",
                    f"{what}; whatever is put on this base later begins with the data that is committed",
                    "pull the layers up instead, if it is to stay a template",
                    images=(path,),
                )
            else:
                concern = Concern("read-only", "note", what, images=(path,))
            if concern not in self.concerns:
                self.concerns.append(concern)
        return [*map(Unprotect, protected), step, *map(Protect, protected)]

    def _repoint(self, child: str, base: str, *, back: bool = False) -> None:
        old = self.forest[child].backing
        assert old is not None
        new = self._reference(child, base, old)
        self._copying += self._with_write(Repoint(child, new, old, back), child)
        self._put(child, backing=new)

    def _forget_raw(self) -> None:
        """A raw image looks like any file: once no overlay and no guest refers to it, nothing tells that it is one."""
        self.forest = self.forest.edited(
            drop=[
                path
                for path, image in self.forest.images.items()
                if image.format == "raw"
                and self.before.children(path)
                and not self.forest.children(path)
                and not self.forest.users(path)
            ]
        )

    def _put(self, path: str, **changes: object) -> None:
        put: list[Image] = [replace(self.forest[name], **changes) for name in self.forest.same_file(path)]  # type: ignore[arg-type]
        self.forest = self.forest.edited(put=put)

    def _put_size(self, base: str, size: int | None) -> None:
        had = self.forest[base].virtual_size
        self._put(base, virtual_size=max(had, size) if had is not None and size is not None else size, allocated=None)

    def _copy(self, layers: Sequence[str], into: str, label: Literal["commit data", "stream data"]) -> _Copied:
        """Note what is copied from which of the layers (lowest first) into one of them, and the room that it takes."""
        blocks = self._facts.block_map(layers)
        if blocks is None:
            self.moves += [Move(path, into, None, label) for path in layers if path != into]
            return None, None
        last, target = len(layers) - 1, layers.index(into)
        sizes = blocks.to_copy(0, last, target)
        for number, path in enumerate(layers):
            if path != into:
                self.moves.append(Move(path, into, sizes.get(number, 0), label))
        room = blocks.room_to_copy(0, last, target, fresh=bool(self.forest[into].snapshots))
        self._room[into] = self._room.get(into, 0) + room
        self._facts = replace(self._facts, maps={**self._facts.maps, into: blocks.merged(target)})
        return sum(sizes.values()), blocks.clusters_to_fill(0, last, target)

    def _content_steps(self) -> tuple[list[Step], list[Step]]:
        """Read every disk that survives: the leaves that read anything of what is changed."""
        written = {path for step in self._copying for path in step.writes}
        taking: list[Step] = []
        checking: list[Step] = []
        for path in self._surviving(written):
            before = path
            for top, base in self._contents.items():
                if base == path:
                    before = top
            image = self.before[before]
            taking.append(TakeContent(before, image.format or "raw", image.virtual_size))
            checking.append(CheckContent(path, self.forest[path].format or "raw", before, image.virtual_size))
        return taking, checking

    def _surviving(self, written: Iterable[str]) -> list[str]:
        found: dict[str, None] = {}
        for path in written:
            for leaf in (path, *self.forest.descendants(path)):
                if leaf in self.forest and about.sound(self.forest, leaf) and not self.overlays(leaf):
                    found[self.forest.same_file(leaf)[0]] = None
        return list(found)


def _several(names: Sequence[str]) -> str:
    """Write up to three names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
