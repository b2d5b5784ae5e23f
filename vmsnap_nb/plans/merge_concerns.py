"""What speaks against merging images that no guest has open."""

from __future__ import annotations

import os.path
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.ground import about_room
from vmsnap_nb.plans.merge_facts import MergeFacts
from vmsnap_nb.plans.plan import Concern

__all__ = [
    "about_chain",
    "about_exposure",
    "about_names",
    "about_notes",
    "about_readers",
    "about_seen",
    "about_sharing",
    "about_sizes",
    "about_snapshots",
    "about_space",
    "about_use",
    "outsiders",
    "sound",
]

_BROKEN = {"missing", "unreadable", "not-a-file", "corrupt", "invalid"}
_FORMATS = {"qcow2", "raw"}


def sound(forest: Forest, path: str) -> bool:
    """Tell whether an image counts as standing on its backing file: one that was marked invalid does not."""
    return forest[path].status != "invalid"


def _names(paths: Iterable[str], forest: Forest) -> str:
    return ", ".join(forest[path].name if path in forest else path for path in paths)


def about_chain(
    forest: Forest, path: str, parts: Sequence[str], *, layers: Sequence[str], keys: bool = False
) -> Iterator[Concern]:
    """Look at every image that would be opened.

    Parameters
    ----------
    forest : Forest
        Where they are.
    path : str
        The image whose whole chain is opened.
    parts : sequence of str
        Those of them that are read or written, not only opened.
    layers : sequence of str
        Those of them that must be qcow2.
    keys : bool
        Whether who merges them has the keys of encrypted images: a QEMU that runs on this chain.
    """
    lineage = forest.lineage(path)
    for one in lineage:
        image = forest[one]
        inside = one in parts
        yield from _about_image(forest, image, inside=inside)
        if inside and image.status == "ok":
            yield from _about_format(image, layer=one in layers, keys=keys)
        if image.backing is not None and image.backing.key in forest:
            yield from _about_edge(image, forest[image.backing.key])


def _about_image(forest: Forest, image: Image, *, inside: bool) -> Iterator[Concern]:
    status = forest.status(image.path)
    if status == "loop":
        yield Concern(
            "loop",
            "refuse",
            f"{image.path} stands on itself, so QEMU cannot open it",
            "mend the loop first: qemu-img rebase -u",
            images=(image.path,),
        )
    elif status in _BROKEN:
        yield Concern(
            "missing-base",
            "refuse",
            f"{image.path} is {status}: {image.problem or status}",
            "put it back, or mend the reference to it (qemu-img rebase -u)",
            images=(image.path,),
        )
    elif status in {"outside", "remote"}:
        yield Concern(
            "untrusted-backing",
            "refuse",
            f"{image.path} was not read: {image.problem or status}",
            "read it too: name its folder, or use follow=True",
            images=(image.path,),
            waivable=not inside,
        )
    elif status == "unknown":
        yield Concern(
            "backing-format-missing",
            "refuse",
            f"nothing tells the format of {image.path}, and guessing it is unsafe",
            "write it into the overlay: qemu-img rebase -u -F FORMAT",
            images=(image.path,),
        )


def _about_format(image: Image, *, layer: bool, keys: bool) -> Iterator[Concern]:
    if image.encryption and not keys:
        yield Concern(
            "not-supported",
            "refuse",
            f"{image.name} is encrypted ({image.encryption}), and its key is not known here",
            "merge it with the guest running: QEMU has the key then",
            images=(image.path,),
        )
    elif image.data_file is not None:
        yield Concern(
            "not-supported",
            "refuse",
            f"{image.name} keeps its data in another file, {image.data_file.written}",
            "copy it into one file first: qemu-img convert",
            images=(image.path,),
        )
    elif image.format != "qcow2" and layer:
        yield Concern(
            "not-supported",
            "refuse",
            f"{image.name} is {image.format}; only layers in qcow2 are merged",
            images=(image.path,),
        )
    elif image.format not in _FORMATS:
        yield Concern(
            "not-supported",
            "refuse",
            f"{image.name} is {image.format}, into which merging was never tried here; qcow2 and raw were",
            "convert it first: qemu-img convert",
            images=(image.path,),
            waivable=True,
        )


def about_exposure(forest: Forest, layers: Iterable[str], into: str) -> Iterator[Concern]:
    """Look whether what is encrypted would be written in the clear."""
    secret = [path for path in layers if forest[path].encryption]
    if secret and not forest[into].encryption:
        yield Concern(
            "not-supported",
            "refuse",
            f"{_names(secret, forest)}: encrypted, and {forest[into].name} is not, so that the data would be written "
            "there in the clear",
            "merge it into an image that is encrypted, too",
            images=(into, *secret),
            waivable=True,
        )


def _about_edge(image: Image, below: Image) -> Iterator[Concern]:
    assert image.backing is not None
    if image.backing.format is None and below.format is not None:
        yield Concern(
            "backing-format-missing",
            "refuse",
            f"{image.name} does not say which format {below.name} has, so QEMU would guess it from what a guest wrote",
            f"write it down: {_rebase(image, below)}",
            images=(image.path, below.path),
            waivable=True,
        )
    elif image.backing.format and below.format and image.backing.format != below.format:
        yield Concern(
            "backing-format-wrong",
            "refuse",
            f"{image.name} takes {below.name} for {image.backing.format}, and it is {below.format}",
            f"put it right: {_rebase(image, below)}",
            images=(image.path, below.path),
            waivable=True,
        )


def _rebase(image: Image, below: Image) -> str:
    assert image.backing is not None
    argv = ("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", below.format or "raw", "-b", image.backing.written)
    return shlex.join((*argv, image.path))


def outsiders(forest: Forest, base: str, merged: Sequence[str]) -> tuple[str, ...]:
    """Give the overlays that read the base, or a merged layer, and not through the top one: a commit spoils them."""
    inside = {name for path in merged for name in forest.same_file(path)}
    found: dict[str, None] = {}
    for path in (base, *merged[:-1]):
        for child in forest.children(path):
            if child not in inside and sound(forest, child):
                found[child] = None
    return tuple(found)


def about_sharing(forest: Forest, base: str, merged: Sequence[str]) -> Iterator[Concern]:
    """Look who else reads what a commit changes: other overlays, and guests that have such an image as their disk."""
    name = forest[base].name
    others = outsiders(forest, base, merged)
    if others:
        spoilt = tuple(dict.fromkeys(p for o in others for p in (o, *forest.descendants(o)) if sound(forest, p)))
        guests = tuple(dict.fromkeys(use.guest for path in others for use in forest.users(path)))
        who = _names(others, forest) + (f" (and so {', '.join(guests)})" if guests else "")
        yield Concern(
            "shared-base",
            "refuse",
            f"{who} also {'reads' if len(others) == 1 else 'read'} {name} or a layer that stands on it: what is "
            f"written there would spoil {'it' if len(others) == 1 else 'them'} silently",
            f"pull the layers up instead, into what stands on {forest[merged[-1]].name}; "
            f"or first pull {name} into {_names(others, forest)}",
            images=(base, *spoilt),
            holders=guests,
            waivable=True,
        )
    inner = {alias for path in (base, *merged[:-1]) for alias in forest.same_file(path)}
    direct = [use for use in forest.uses if use.path in inner]
    if direct:
        guests = tuple(dict.fromkeys(use.guest for use in direct))
        yield Concern(
            "shared-base",
            "refuse",
            f"{_names(dict.fromkeys(use.path for use in direct), forest)}: a disk of {', '.join(guests)}, which "
            "would find other content in it",
            f"give {guests[0]} an overlay of its own first",
            images=tuple(dict.fromkeys(use.path for use in direct)),
            holders=guests,
            waivable=True,
        )


def about_readers(forest: Forest, top: str, base: str) -> Iterator[Concern]:
    """Look at the guests whose disk is the very image that is merged away."""
    names = set(forest.same_file(top))
    guests = tuple(dict.fromkeys(use.guest for use in forest.uses if use.path in names))
    if guests:
        yield Concern(
            "in-use",
            "refuse",
            f"{forest[top].name} is the disk of {', '.join(guests)}, and will not be valid any more",
            f"commit it by the guest, which then gets {forest[base].name} as its disk",
            images=(top,),
            holders=guests,
            waivable=True,
        )


def about_use(forest: Forest, written: Iterable[str], read: Iterable[str]) -> Iterator[Concern]:
    """Look for running guests and other processes: nobody may have open what is written, or write what is read."""
    written = tuple(written)
    for path in written:
        guests = dict.fromkeys(use.guest for use in forest.users(path) if use.running)
        yield from _in_use(forest, path, tuple(guests), bool(forest[path].held), "has it open")
    for path in read:
        if path not in written:
            guests = dict.fromkeys(use.guest for use in forest.writers(path) if use.running)
            yield from _in_use(forest, path, tuple(guests), forest[path].held == "write", "writes to it")


def _in_use(forest: Forest, path: str, guests: tuple[str, ...], held: bool, how: str) -> Iterator[Concern]:
    if not guests and not held:
        return
    who = f"{', '.join(guests)} is running and" if guests else "a process"
    yield Concern(
        "in-use",
        "refuse",
        f"{forest[path].name}: {who} {how}",
        f"shut {guests[0]} down, or merge with the guest running" if guests else "end that process first",
        images=(path,),
        holders=guests,
    )


def about_sizes(forest: Forest, facts: MergeFacts, base: str, top: str, children: Sequence[str]) -> Iterator[Concern]:
    """Compare the virtual sizes of what is merged with that of the base."""
    low, high = forest[base], forest[top]
    if low.virtual_size is None or high.virtual_size is None:
        return
    if high.virtual_size > low.virtual_size:
        grows = f"{low.name} grows from {low.virtual_size} to {high.virtual_size} bytes, the size of {high.name}"
        below = forest.images.get(low.backing.key) if low.backing is not None else None
        longer_below = below is not None and (below.virtual_size or 0) > low.virtual_size
        if low.compat == "0.10" and (low.snapshots or longer_below):
            why = "of its internal snapshots" if low.snapshots else "what it stands on goes on after its end"
            yield Concern(
                "grows-base",
                "refuse",
                f"{grows}, and QEMU cannot do that in version 2 of qcow2, because {why}",
                f"make it version 3 first: qemu-img amend -f qcow2 -o compat=1.1 {shlex.quote(low.path)}",
                images=(base,),
            )
        else:
            yield Concern("grows-base", "warn", grows, images=(base,))
    longer = [child for child in children if _would_see(forest, facts, base, child, high.virtual_size)]
    if low.virtual_size > high.virtual_size and longer:
        yield Concern(
            "smaller-size",
            "refuse",
            f"{high.name} ends after {high.virtual_size} bytes, so {_names(longer, forest)} reads zeros from there on; "
            f"{low.name} goes on, and what it holds there would come to light",
            f"pull {high.name} into what stands on it instead",
            images=(base, top, *longer),
            waivable=True,
        )
    elif low.virtual_size > high.virtual_size and not children:
        yield Concern(
            "smaller-size",
            "warn",
            f"{low.name} stays {low.virtual_size} bytes long: longer than {high.name}, whose content it takes",
            images=(base, top),
        )


def _would_see(forest: Forest, facts: MergeFacts, base: str, child: str, end: int) -> bool:
    """Tell whether an overlay that stands on the base reads data of it, or of what is below, after some place."""
    if (forest[child].virtual_size or 0) <= end:
        return False
    blocks = facts.block_map((*reversed(forest.lineage(base)), child))
    if blocks is None:
        return True
    own = len(blocks.layers) - 1
    return any(run.kind == "data" and run.layer != own and run.start + run.length > end for run in blocks.visible)


def about_snapshots(forest: Forest, lost: Iterable[str], why: str) -> Iterator[Concern]:
    """Look for internal snapshots that the merge would lose or spoil."""
    for path in lost:
        image = forest[path]
        if image.snapshots:
            names = ", ".join(snapshot.name for snapshot in image.snapshots[:5])
            more = f" and {len(image.snapshots) - 5} more" if len(image.snapshots) > 5 else ""
            yield Concern(
                "state-lost",
                "refuse",
                f"{image.name} has internal snapshots ({names}{more}), {why}",
                "delete them first, or copy out what is needed: qemu-img convert -l NAME",
                images=(path,),
                waivable=True,
            )


def about_space(facts: MergeFacts, room: Mapping[str, int]) -> Iterator[Concern]:
    """Compare the room that images need with what their folders have."""
    needed: dict[str, int] = {}
    for path, size in room.items():
        folder = os.path.dirname(path)
        needed[folder] = needed.get(folder, 0) + size
    yield from about_room(facts.ground, needed, dict.fromkeys(needed, ""))


def about_notes(facts: MergeFacts, paths: Iterable[str]) -> Iterator[Concern]:
    """Look for merges of these images that were cut short."""
    paths = set(paths)
    for note in facts.notes:
        touched = {note.base, *note.merged, *note.children}
        if touched & paths:
            yield Concern(
                "active-job",
                "refuse",
                f"a merge of {note.top} into {note.base} was cut short",
                "finish it first: guest.unfinished()[0].run(), or the same of the forest",
                images=(note.base, note.top),
            )


def about_names(forest: Forest, removed: Iterable[str]) -> Iterator[Concern]:
    """Look for files that would stay under another name."""
    for path in removed:
        others = tuple(name for name in forest.same_file(path) if name != path)
        if others:
            yield Concern(
                "shared-base",
                "note",
                f"{path} has other names, which stay: {', '.join(others)}",
                images=(path, *others),
            )


def about_seen(forest: Forest, base: str) -> Iterator[Concern]:
    """Say how far was looked: what stands on the base elsewhere would be spoilt, and nobody here knows it."""
    where = ", ".join(forest.folders) if forest.folders else "no folder, only the images of guests"
    yield Concern(
        "shared-base",
        "note",
        f"looked for other overlays of {forest[base].name} in: {where}",
        "read other folders too if there may be more: vmsnap_nb.scan(folder, folder, …)",
        images=(base,),
    )
