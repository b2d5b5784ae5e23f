"""Plans that merge images: commit, pull, the removal of one layer, and of what merges have left invalid."""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vmsnap_nb.errors import InvalidRequestError, NothingToDoError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.need import Need
from vmsnap_nb.plans.checks import layers
from vmsnap_nb.plans.merge.builder import MergeBuilder
from vmsnap_nb.plans.merge.checks import check_read, sound
from vmsnap_nb.plans.merge.engines import Engine, QemuImg, check_verify, engine_of
from vmsnap_nb.plans.plan import Alternative, Plan
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.words.message import N_, Message, joined, listed, t
from vmsnap_nb.words.states import state_words

if TYPE_CHECKING:
    from vmsnap_nb.plans.merge.request import CleanupRequest, CommitRequest, PullRequest, RemoveRequest

__all__ = ["image_name", "image_names", "plan_cleanup", "plan_commit", "plan_pull", "plan_remove"]


def plan_commit(reading: Reading, request: CommitRequest) -> Plan:
    """Plan to copy the data of layers down: of the top and all between it and the base, into the base.

    Overlays of the top will be based on the base and read the same; a guest whose image it is gets the base as its
    disk. The merged images become invalid.
    """
    forest, engine = reading.forest, engine_of(reading, request)
    top = request.image(forest, request.top)
    if request.guest:
        tried = t("commit {image} of {guest}", image=forest[top].name, guest=request.guest)
    else:
        tried = t("commit {image}", image=forest[top].name)
    if request.keep_active:
        _check_keep(engine, top, tried)
    check_verify(engine, request, tried)
    base, merged = _between(forest, top, request.found(forest, request.base), tried)
    builder = MergeBuilder(reading, engine)
    builder.commit(base, merged, remove=request.remove, keep=request.keep_active)
    way = engine.commit_way
    if engine.live and top == engine.source:
        if request.keep_active:
            way = t("{way}, and keeps its image", way=way)
        else:
            way = t("{way}, and then writes to the base (pivot)", way=way)
    # Once QEMU was told to write to the base, or all was copied, the top may be older than the base.
    resumed = (entry for entry in reading.merges if entry.phase == "copying")
    return builder.plan(
        t("commit {images} into {base}", images=image_names(forest, merged), base=image_name(forest, base)),
        way,
        verify=request.verify,
        resumed=next((entry for entry in resumed if (entry.base, entry.merged) == (base, merged)), None),
    )


def _check_keep(engine: Engine, top: str, tried: Message) -> None:
    if top != engine.source:
        why = t("keep_active can be used only with the image that the guest writes to")
        raise InvalidRequestError(tried, why=why, next_step=t("omit keep_active"))
    if not engine.live:
        raise InvalidRequestError(
            tried, why=t("keep_active needs a running guest"), next_step=t("start it, or omit keep_active")
        )


def plan_pull(reading: Reading, request: PullRequest) -> Plan:
    """Plan to copy data up, into an image what it reads from the layers between it and the base; they stay valid."""
    forest, engine = reading.forest, engine_of(reading, request)
    image, base = request.image(forest, request.into), request.found(forest, request.base)
    lineage = forest.lineage(image)
    name = image_name(forest, image)
    tried = t("pull into {image}", image=name)
    check_read(forest, image, tried)
    if forest.parent(image) is None:
        why = t("{image} has no backing file", image=name)
        kind = NothingToDoError if base is None else InvalidRequestError
        raise kind(tried, why=why, next_step=t("choose an overlay"))
    if base is not None:
        base = _below(forest, lineage, base, tried)
        if base == lineage[1]:
            raise NothingToDoError(
                tried,
                why=t(
                    "{base} is already the direct backing file of {image}",
                    base=image_name(forest, base),
                    image=name,
                ),
                next_step=t("choose a base further down the chain, or omit the base to copy everything"),
            )
    between = lineage[1 : lineage.index(base)] if base is not None else lineage[1:]
    title = t("pull {images} into {image}", images=image_names(forest, tuple(reversed(between))), image=name)
    check_verify(engine, request, title)
    builder = MergeBuilder(reading, engine)
    builder.pull(image, base)
    if request.remove:
        builder.remove(between, asked=False)
    return builder.plan(title, engine.pull_way, verify=request.verify)


_METHODS = {
    1: N_("method 1: copy its data down into its backing file"),
    2: N_("method 2: copy its data up into the overlays based on it"),
}


def plan_remove(reading: Reading, request: RemoveRequest) -> Plan:
    """Plan to take one layer out of its chain and to remove its file; overlays of it read the same."""
    forest, image = reading.forest, request.find(reading.forest, request.top)
    tried = t("remove {image}", image=image_name(forest, image))
    below = forest.parent(image)
    check_read(forest, image, tried)
    if forest.status(image) == "loop":
        raise InvalidRequestError(
            tried,
            why=t("its backing files form a loop, so its content cannot be read"),
            next_step=t("correct the wrong backing file with qemu-img rebase -u"),
        )
    if not any(sound(forest, child) for child in forest.children(image)):
        raise InvalidRequestError(
            tried,
            why=t("no image is based on it, so its content would be lost"),
            next_step=t("commit it into its backing file, or remove the file yourself"),
        )
    if below is None and request.method == 1:
        raise InvalidRequestError(
            tried,
            why=t("method 1 copies its data into its backing file, but the image has none"),
            next_step=t("use method 2"),
        )
    builders: dict[int, MergeBuilder] = {}
    if below is not None and request.method != 2:
        builders[1] = MergeBuilder(reading, QemuImg())
        builders[1].commit(below, (image,), remove=True)
    if request.method != 1:
        builders[2] = MergeBuilder(reading, QemuImg())
        for child in builders[2].overlays(image):
            builders[2].pull(child, below)
        builders[2].remove((image,), asked=True)
    chosen = min(builders, key=lambda number: (bool(builders[number].refused), _cost(builders[number].bytes), -number))
    alternatives = [
        Alternative(t(_METHODS[number]), builder.bytes, number == chosen, builder.refused)
        for number, builder in sorted(builders.items(), key=lambda item: _cost(item[1].bytes))
    ]
    way = {1: QemuImg.commit_way, 2: QemuImg.pull_way}[chosen]
    return builders[chosen].plan(
        tried,
        t("{method}. This runs {way}", method=t(_METHODS[chosen]), way=way),
        verify=request.verify,
        alternatives=alternatives,
    )


def plan_cleanup(reading: Reading, request: CleanupRequest) -> Plan:
    """Plan to remove files that are marked as invalid: all, those named, or those on layers of a guest's chains.

    Files of ours that were never completed go with them, unless only some are named, and memory of checkpoints that is
    of no use any more.
    """
    forest = reading.forest
    among = _around(forest, request.guest) if request.guest else request.among
    invalid = [
        path
        for path in dict.fromkeys(forest.images if among is None else among)
        if path in forest.images and forest[path].status == "invalid"
    ]
    builder = MergeBuilder(reading, QemuImg())
    left, memory = builder.remove_leftovers(), builder.remove_memory(_stale_memory(forest, request))
    if not left and not memory and not invalid:
        raise NothingToDoError(
            t("remove invalid files"),
            why=t("no image is marked as invalid") if among is None else t("none of these images is marked as invalid"),
            next_step=t("no action is needed; a pull leaves the lower layers valid"),
        )
    builder.remove(sorted(invalid, key=forest.depth, reverse=True), asked=True)
    return builder.plan(t("remove invalid files"), t("unlink: these files are no longer valid"), subjects=invalid)


def _stale_memory(forest: Forest, request: CleanupRequest) -> tuple[Need, ...]:
    """Return files of memory that go: those that are named, or those of checkpoints that cannot be restored any more.

    What was saved under another name is a user's own file. That an image was modified later is no proof by itself, as
    the clock may have been set back: where no libvirt was asked, a snapshot may still need the memory.
    """
    if request.among is not None:
        found = [need for need in (*forest.needs, *forest.stale_memory) if need.kind == "saved memory"]
        return tuple({need.name: need for need in found if need.name in request.among}.values())
    if not request.guest and not request.uri:
        return ()
    found = [need for need in forest.stale_memory if not request.guest or need.guest == request.guest]
    return tuple({need.name: need for need in found if need.name.endswith(".mem")}.values())


def _around(forest: Forest, guest: str) -> tuple[str, ...]:
    """Return what is based on layers of a guest's chains, or on nothing any more in the folders of these."""
    layers = [layer for use in forest.uses if use.guest == guest for layer in forest.known_lineage(use.path)]
    folders = {os.path.dirname(layer) for layer in layers}
    # What was based on a layer that a later merge has removed has no backing file now.
    orphans = (
        path
        for path in forest.images
        if os.path.dirname(path) in folders and forest.status(forest.lineage(path)[-1]) == "missing"
    )
    return (*(above for layer in layers for above in forest.descendants(layer)), *orphans)


def _between(forest: Forest, top: str, base: str | None, tried: Message) -> tuple[str, tuple[str, ...]]:
    """Return the base, as the chain names it, and the layers above it up to `top`, lowest first."""
    lineage = forest.lineage(top)
    check_read(forest, top, tried)
    if forest.parent(top) is None or len(lineage) < 2:
        raise InvalidRequestError(
            tried, why=t("the top, {path}, has no backing file", path=top), next_step=t("choose an overlay as the top")
        )
    base = lineage[1] if base is None else _below(forest, lineage, base, tried)
    return base, tuple(reversed(lineage[: lineage.index(base)]))


def _below(forest: Forest, lineage: Sequence[str], base: str, tried: Message) -> str:
    """Return an image below the first of a chain, under whatever name the chain refers to it."""
    path = layers.named_in(forest, lineage[1:], base)
    if path not in lineage[1:]:
        raise InvalidRequestError(
            tried,
            why=t("the base, {path}, is not below {top}", path=base, top=lineage[0]),
            next_step=t(
                "choose one of the images below it: {images}",
                images=joined(_with_status(forest, path) for path in lineage[1:]),
            ),
        )
    return path


def _with_status(forest: Forest, path: str) -> str:
    status = forest.status(path)
    return path if status == "ok" else t("{path} ({status})", path=path, status=state_words(status))


def image_name(forest: Forest, path: str) -> str:
    """Return what an image is called in a title."""
    return forest[path].name if path in forest.images else path


def image_names(forest: Forest, paths: Sequence[str]) -> Message:
    """Return what layers are called in a title: the first and the last, if there are many."""
    if len(paths) > 3:
        first, last = image_name(forest, paths[0]), image_name(forest, paths[-1])
        return t("{first} … {last} ({count} layers)", first=first, last=last, count=len(paths))
    return listed(image_name(forest, path) for path in paths)


def _cost(size: int | None) -> float:
    return float("inf") if size is None else size
