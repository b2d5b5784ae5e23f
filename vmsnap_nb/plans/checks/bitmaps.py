"""Checks of dirty bitmaps, on which incremental backups are based: what a plan would lose, carry over or enlarge.

A backup takes the bitmap of one name from the image that a guest writes to, and from each layer below as long as that
has one of this name (libvirt, docs/kbase/internals/incremental-backup.rst). So where layers become one image, their
bitmaps become one.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Bitmap, Image
from vmsnap_nb.plans.concern import Concern, refuse, remark
from vmsnap_nb.words.message import Message, counted, listed, t

__all__ = [
    "BitmapMerge",
    "Merged",
    "bitmap_bytes",
    "enlarged",
    "lost",
    "merged_down",
    "merged_up",
    "removed",
    "with_bitmaps",
]

_CLUSTER = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class BitmapMerge:
    """One bitmap that an image takes over: from which images, and whether it has none of that name yet."""

    name: str
    granularity: int
    recording: bool
    sources: tuple[str, ...]
    new: bool


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What becomes of the bitmaps of layers that become one image: carried over, or by name why that is not possible.

    `lost` has by image and name those that end with their layers, `worthless` those of them that miss writes already.
    """

    carried: tuple[BitmapMerge, ...] = ()
    lost: Mapping[tuple[str, str], Message] = field(default_factory=dict)
    worthless: tuple[tuple[str, str], ...] = ()

    @property
    def sources(self) -> frozenset[tuple[str, str]]:
        """By image and name, those that are carried over."""
        return frozenset((path, one.name) for one in self.carried for path in one.sources)


def bitmap_bytes(bitmap: Bitmap | BitmapMerge, image: Image) -> int:
    """Return the bytes that a bitmap takes in an image at most, with its table and its place in the directory."""
    cluster = image.cluster_size or _CLUSTER
    bits = -(-(image.virtual_size or 0) // bitmap.granularity)
    clusters = -(-bits // 8 // cluster) or 1
    return (clusters + -(-clusters * 8 // cluster) + 1) * cluster


def with_bitmaps(image: Image, merged: Iterable[BitmapMerge]) -> tuple[Bitmap, ...]:
    """Return the bitmaps of an image that has taken some over."""
    cluster = image.cluster_size or _CLUSTER
    added = (
        Bitmap(one.name, one.granularity, ("auto",) if one.recording else (), bitmap_bytes(one, image) - cluster)
        for one in merged
        if one.new
    )
    return (*image.bitmaps, *added)


def merged_down(
    forest: Forest,
    base: str,
    merged: Sequence[str],
    size: int | None,
    *,
    checkpoints: Iterable[str] = (),
    live: bool = False,
) -> Merged:
    """Return what becomes of the bitmaps of layers (lowest first) that are committed into a base.

    `size` is the base's virtual size afterwards. With `live` QEMU has the images open, and libvirt carries bitmaps
    over: those in the file of an image that is written to are always marked as not saved, and of `checkpoints` that
    were made since it was opened nothing is in it.
    """
    layers = tuple(reversed(merged))
    result = _Result(forest, live=live)
    for bitmap in result.of(layers[0], checkpoints):
        run = (layers[0], *_run(forest, layers[1:], bitmap.name))
        there = _get(forest[base], bitmap.name)
        why = _no_room_for_bitmaps(forest[base]) or result.why_not(bitmap, run, size)
        if why is None and there is not None:
            why = result.conflict(bitmap, there, base)
        result.take(bitmap, run, new=there is None, why=why)
    for path in layers:
        for bitmap in forest[path].bitmaps:
            why = t(
                "{image} has no bitmap with that name, so backups no longer use this one", image=forest[layers[0]].name
            )
            result.leave(path, bitmap, why)
    return result.merged


def merged_up(
    forest: Forest,
    layers: Sequence[str],
    size: int | None,
    *,
    checkpoints: Iterable[str] = (),
    live: bool = False,
) -> Merged:
    """Return what becomes of the bitmaps of layers that are pulled into the first (and highest) of them.

    Only what that image loses counts: the layers below it stay as they are.
    """
    result = _Result(forest, live=live)
    for bitmap in result.of(layers[0], checkpoints):
        run = _run(forest, layers[1:], bitmap.name)
        if run and (bitmap.consistent or result.held(layers[0])):
            result.take(bitmap, run, new=False, why=result.why_not(bitmap, run, size))
    return result.merged


class _Result:
    """What becomes of bitmaps, as it is found out."""

    def __init__(self, forest: Forest, *, live: bool) -> None:
        self.forest = forest
        self.live = live
        self.carried: list[BitmapMerge] = []
        self.lost: dict[tuple[str, str], Message] = {}
        self.worthless: list[tuple[str, str]] = []
        self._taken: set[tuple[str, str]] = set()

    @property
    def merged(self) -> Merged:
        """All of it."""
        return Merged(carried=tuple(self.carried), lost=self.lost, worthless=tuple(self.worthless))

    def held(self, path: str) -> bool:
        """Return whether a QEMU has the bitmaps of an image in its memory, so that the file says nothing of them."""
        return self.live and self.forest[path].held == "write"

    def of(self, path: str, checkpoints: Iterable[str]) -> Iterator[Bitmap]:
        """Yield the bitmaps of an image, those of checkpoints that only its QEMU knows too."""
        image = self.forest[path]
        yield from image.bitmaps
        if self.held(path):
            known = {bitmap.name for bitmap in image.bitmaps}
            yield from (Bitmap(name, _CLUSTER, ("auto",)) for name in checkpoints if name not in known)

    def why_not(self, bitmap: Bitmap, run: Sequence[str], size: int | None) -> Message | None:
        """Return why the bitmaps of that name cannot become one, if there is a reason."""
        for path in run:
            image, other = self.forest[path], _get(self.forest[path], bitmap.name) or bitmap
            if why := self.conflict(bitmap, other, path):
                return why
            if size is not None and image.virtual_size != size and not self.live:
                return t("QEMU cannot merge it because {image} has a different size", image=image.name)
        return None

    def conflict(self, bitmap: Bitmap, other: Bitmap, path: str) -> Message | None:
        """Return why two bitmaps of one name do not belong together, if there is a reason."""
        name = self.forest[path].name
        if not other.consistent and not self.held(path):
            return t(
                "the bitmap in {image} was not saved when QEMU exited, so some writes are not recorded in it",
                image=name,
            )
        if bitmap.recording != other.recording:
            return t("either this bitmap or the one in {image} records writes, but not both", image=name)
        return None

    def take(self, bitmap: Bitmap, run: Sequence[str], *, new: bool, why: Message | None) -> None:
        """Count a bitmap, with those of its name in the other images of the run, as carried over; or as lost."""
        self._taken.update((path, bitmap.name) for path in run)
        if why is not None:
            self.leave(run[0], bitmap, why, again=True)
            return
        one = BitmapMerge(
            name=bitmap.name,
            granularity=bitmap.granularity,
            recording=bitmap.recording,
            sources=tuple(run),
            new=new,
        )
        self.carried.append(one)

    def leave(self, path: str, bitmap: Bitmap, why: Message, *, again: bool = False) -> None:
        """Count a bitmap as lost, if it was not counted already."""
        if (path, bitmap.name) in self._taken and not again:
            return
        if bitmap.consistent or self.held(path):
            self.lost[path, bitmap.name] = why
        else:
            self.worthless.append((path, bitmap.name))


def _run(forest: Forest, layers: Sequence[str], name: str) -> tuple[str, ...]:
    """Return the layers, from the first on, that have a bitmap of that name without a gap."""
    found: list[str] = []
    for path in layers:
        if _get(forest[path], name) is None:
            break
        found.append(path)
    return tuple(found)


def _get(image: Image, name: str) -> Bitmap | None:
    return next((bitmap for bitmap in image.bitmaps if bitmap.name == name), None)


def _no_room_for_bitmaps(image: Image) -> Message | None:
    """Return why an image cannot hold bitmaps, if there is a reason."""
    if image.format is None:
        return t("the format of {image} is unknown, and only qcow2 can hold bitmaps", image=image.name)
    if image.format != "qcow2":
        return t("{image} is {format}, and only qcow2 can hold bitmaps", image=image.name, format=image.format)
    return (
        t("{image} is qcow2 version 2, which cannot hold bitmaps", image=image.name) if image.compat == "0.10" else None
    )


# -- concerns ------------------------------------------------------------------------------------------------


def lost(forest: Forest, merged: Merged, into: str, *, up: bool = False, live: bool = False) -> Iterator[Concern]:
    """Check for bitmaps that would end, and say which are carried over.

    Where data is pulled `up`, an image would keep a bitmap that misses what the layers had recorded: that is worse.
    """
    by_reason: dict[Message, list[tuple[str, str]]] = {}
    for key, why in merged.lost.items():
        by_reason.setdefault(why, []).append(key)
    for why, keys in by_reason.items():
        paths = tuple(dict.fromkeys(path for path, _ in keys))
        names = list(dict.fromkeys(name for _, name in keys))
        where = listed(forest[path].name for path in paths)
        if up:
            yield _missed(forest, into, names, where, why, live=live, images=(into, *paths))
        else:
            yield refuse(
                "backup-chain",
                counted(
                    "the dirty bitmap {names} of {image} would be lost: {why}. The next backup would have to be a "
                    "full one",
                    "the dirty bitmaps {names} of {image} would be lost: {why}. The next backup would have to be a "
                    "full one",
                    len(names),
                    names=listed(names),
                    image=where,
                    why=why,
                ),
                _backup_first(),
                images=paths,
                waivable=True,
            )
    if merged.worthless:
        useless = dict.fromkeys(
            t("{name} of {image}", name=name, image=forest[at].name) for at, name in merged.worthless
        )
        yield remark(
            "backup-chain",
            counted(
                "the dirty bitmap {names} will be removed with its layer. It was not saved when QEMU exited, so it "
                "was already unusable",
                "the dirty bitmaps {names} will be removed with their layers. They were not saved when QEMU exited, "
                "so they were already unusable",
                len(useless),
                names=listed(useless),
            ),
            images=tuple(dict.fromkeys(path for path, _ in merged.worthless)),
        )
    if merged.carried:
        yield _carried(forest, into, merged, live=live)


def _backup_first() -> Message:
    return t("take the incremental backup first, or waive this if no backup depends on it")


def _missed(
    forest: Forest,
    into: str,
    names: Sequence[str],
    layers: Message,
    why: Message,
    *,
    live: bool,
    images: tuple[str, ...],
) -> Concern:
    commands = "; ".join(shlex.join(("qemu-img", "bitmap", "--remove", "--", into, name)) for name in names)
    return refuse(
        "backup-chain",
        counted(
            "the dirty bitmap {names} of {image} would miss what {layers} recorded: {why}. Backups would silently "
            "miss those changes",
            "the dirty bitmaps {names} of {image} would miss what {layers} recorded: {why}. Backups would silently "
            "miss those changes",
            len(names),
            names=listed(names),
            image=forest[into].name,
            layers=layers,
            why=why,
        ),
        t("take a full backup, then delete the checkpoints with these names")
        if live
        else t("take a full backup, then remove the bitmaps: {commands}", commands=commands),
        images=images,
    )


def _carried(forest: Forest, into: str, merged: Merged, *, live: bool) -> Concern:
    names = [one.name for one in merged.carried]
    if live:
        what = counted(
            "libvirt will copy the dirty bitmap {names} into {image}, so incremental backups can continue",
            "libvirt will copy the dirty bitmaps {names} into {image}, so incremental backups can continue",
            len(names),
            names=listed(names),
            image=forest[into].name,
        )
    else:
        what = counted(
            "qemu-img will copy the dirty bitmap {names} into {image}, so incremental backups can continue",
            "qemu-img will copy the dirty bitmaps {names} into {image}, so incremental backups can continue",
            len(names),
            names=listed(names),
            image=forest[into].name,
        )
    images = (into, *dict.fromkeys(path for one in merged.carried for path in one.sources))
    return remark("backup-chain", what, images=images)


def enlarged(forest: Forest, path: str, merged: Merged) -> Iterator[Concern]:
    """Remark that bitmaps of an image record all that is copied into it."""
    known = {one.name for one in merged.carried}
    names = [one.name for one in forest[path].bitmaps if one.recording and one.consistent and one.name not in known]
    if names:
        yield remark(
            "backup-chain",
            counted(
                "the dirty bitmap {names} of {image} will also record the copied data, so the next incremental "
                "backup will be larger",
                "the dirty bitmaps {names} of {image} will also record the copied data, so the next incremental "
                "backup will be larger",
                len(names),
                names=listed(names),
                image=forest[path].name,
            ),
            images=(path,),
        )


def removed(
    forest: Forest,
    path: str,
    carried: Collection[tuple[str, str]] = (),
    *,
    concern: Callable[..., Concern] = refuse,
) -> Iterator[Concern]:
    """Check for bitmaps that go with a file that is removed, beside those that were carried over."""
    image = forest[path]
    if image.status == "invalid":  # what it had was carried over when it was merged, or given up
        return
    names = [one.name for one in image.bitmaps if (path, one.name) not in carried and one.consistent]
    if names:
        yield concern(
            "backup-chain",
            counted(
                "the dirty bitmap {names} of {image} would be lost with the file, and the next backup would have to "
                "be a full one",
                "the dirty bitmaps {names} of {image} would be lost with the file, and the next backup would have to "
                "be a full one",
                len(names),
                names=listed(names),
                image=image.name,
            ),
            _backup_first(),
            images=(path,),
            waivable=True,
        )
