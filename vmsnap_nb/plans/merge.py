"""Plans that merge images which no guest has open: commit, pull, and the removal of one layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.merge_concerns import sound
from vmsnap_nb.plans.merge_cut_short import is_chain, is_gone, is_torn, settled
from vmsnap_nb.plans.merge_draft import MergeDraft
from vmsnap_nb.plans.merge_facts import MergeFacts
from vmsnap_nb.plans.merge_note import MergeNote
from vmsnap_nb.plans.plan import Alternative, Plan

__all__ = ["plan_cleanup", "plan_commit", "plan_finish", "plan_pull", "plan_remove"]


def plan_commit(
    forest: Forest,
    top: str,
    base: str | None = None,
    *,
    remove: bool = False,
    verify: bool = False,
    facts: MergeFacts | None = None,
) -> Plan:
    """Plan to copy the data of layers down: of `top` and all between it and `base`, into `base`.

    What stands on `top` will stand on `base` and reads the same. The merged images become invalid.

    Parameters
    ----------
    forest : Forest
        Must hold the chain and whatever else stands on it.
    top : str
        Path of the highest image that is merged; it may be a leaf.
    base : str, optional
        Path of the image that takes the data; the one below `top` if left out.
    remove : bool
        Whether to remove the merged files in the end, instead of marking them as invalid.
    verify : bool
        Whether to read every disk that survives before and after, and to compare.
    facts : MergeFacts, optional
        What each image holds, free space, and merges cut short.

    Returns
    -------
    Plan

    Raises
    ------
    InvalidRequestError
        `top` has no backing file, or `base` is not below it.
    """
    base, merged = _between(forest, top, base, f"commit {_name(forest, top)}")
    draft = MergeDraft(forest, facts or MergeFacts())
    draft.commit(base, merged, remove=remove)
    title = f"commit {_names(forest, merged)} into {_name(forest, base)}"
    resumed = next((n for n in draft.notes if n.phase == "copying" and (n.base, n.merged) == (base, merged)), None)
    return draft.plan(title, _COMMIT_WAY, verify=verify, resumed=resumed)


_COMMIT_WAY = "offline by qemu-img commit: one pass over all layers, so what several of them hold is copied once"
_PULL_WAY = "offline by qemu-img rebase in safe mode, with the data written down before the header changes"


def plan_pull(
    forest: Forest,
    image: str,
    base: str | None = None,
    *,
    remove: bool = False,
    verify: bool = False,
    facts: MergeFacts | None = None,
) -> Plan:
    """Plan to copy data up: into `image` what it reads from the layers between it and `base`.

    The layers below stay valid.

    Parameters
    ----------
    forest : Forest
        Must hold the chain.
    image : str
        Path of the image that takes the data; others may stand on it, and read the same afterwards.
    base : str, optional
        Path of the image that it will stand on. If left out, everything is copied, and it stands alone.
    remove : bool
        Whether to remove the layers between, as far as nobody else stands on them.
    verify, facts
        As in `plan_commit`.

    Returns
    -------
    Plan

    Raises
    ------
    InvalidRequestError
        There is nothing between the two.
    """
    lineage = forest.lineage(image)
    tried = f"pull into {_name(forest, image)}"
    if forest.parent(image) is None:
        raise InvalidRequestError(tried, said="it has no backing file: it stands alone already")
    if base is not None:
        base = _find(forest, lineage, base, tried)
        if base == lineage[1]:
            raise InvalidRequestError(
                tried,
                said=f"it stands on {_name(forest, base)} already, and nothing lies between",
                next_step="name a base further down, or none to copy everything",
            )
    between = lineage[1 : lineage.index(base)] if base is not None else lineage[1:]
    draft = MergeDraft(forest, facts or MergeFacts())
    draft.pull(image, base)
    if remove:
        draft.remove(between, asked=False)
    title = f"pull {_names(forest, tuple(reversed(between)))} into {_name(forest, image)}"
    return draft.plan(title, _PULL_WAY, verify=verify)


def plan_remove(
    forest: Forest,
    image: str,
    *,
    method: Literal[1, 2] | None = None,
    verify: bool = False,
    facts: MergeFacts | None = None,
) -> Plan:
    """Plan to take one layer out of its chain and to remove its file; what stands on it reads the same.

    Parameters
    ----------
    forest : Forest
        Must hold the chain and whatever else stands on it.
    image : str
        Path of the layer.
    method : int, optional
        1: copy its data down into the image below it; only if nobody else stands on that.
        2: copy its data up into each overlay that stands on it.
        If left out, the one that copies fewer bytes among those that are not refused.
    verify, facts
        As in `plan_commit`.

    Returns
    -------
    Plan
        `Plan.alternatives` has the bytes of both methods.

    Raises
    ------
    InvalidRequestError
        Nothing stands on the image, or method 1 is asked for and it stands on nothing.
    """
    facts = facts or MergeFacts()
    tried = f"remove {_name(forest, image)}"
    below = forest.parent(image)
    above = tuple(child for child in forest.children(image) if sound(forest, child))
    if not above:
        raise InvalidRequestError(
            tried,
            said="nothing stands on it, so removing it would lose what it holds",
            next_step="commit it into the image below it, or remove the file yourself",
        )
    drafts: dict[int, MergeDraft] = {}
    if below is not None and method != 2:
        drafts[1] = MergeDraft(forest, facts)
        drafts[1].commit(below, (image,), remove=True)
    elif method == 1:
        raise InvalidRequestError(tried, said="it stands on nothing, so there is no image to copy it into")
    if method != 1:
        drafts[2] = MergeDraft(forest, facts)
        for child in drafts[2].overlays(image):
            drafts[2].pull(child, below)
        drafts[2].remove((image,), asked=True)
    chosen = min(drafts, key=lambda number: (bool(drafts[number].refused), _cost(drafts[number].bytes), -number))
    alternatives = [
        Alternative(f"method {number}: {_METHODS[number]}", draft.bytes, number == chosen, draft.refused)
        for number, draft in sorted(drafts.items(), key=lambda item: _cost(item[1].bytes))
    ]
    way = {1: _COMMIT_WAY, 2: _PULL_WAY}[chosen]
    return drafts[chosen].plan(
        f"remove {_name(forest, image)}",
        f"method {chosen}, {_METHODS[chosen]}; {way}",
        verify=verify,
        alternatives=alternatives,
    )


_METHODS = {1: "copy its data down into its backing file", 2: "copy its data up into what stands on it"}


def plan_finish(forest: Forest, note: MergeNote, *, facts: MergeFacts | None = None, untouched: bool = False) -> Plan:
    """Plan to finish a commit that was cut short.

    Parameters
    ----------
    forest : Forest
        As it is now.
    note : MergeNote
        What the commit left behind.
    facts : MergeFacts, optional
        As in `plan_commit`.
    untouched : bool
        Whether nobody has written to the merged layers since.

    Returns
    -------
    Plan
        The whole commit again if it was cut short while copying: that does no harm, since nothing stands on the base
        but what it copies from. Else only what comes after the copying. Where QEMU let overlays stand on the base, and
        nobody knows whether it had written all of that: what lets them stand on the merged layers again.
    """
    note = settled(forest, note)
    draft = MergeDraft(forest, facts or MergeFacts())
    if note.phase == "copying":
        title = f"the merge of {_names(forest, note.merged)} into {_name(forest, note.base)}"
        if said := _not_as_left(forest, note):
            draft.miss(note, said=said)
            return draft.plan(f"finish {title}", "not at all, as it is", resumed=note)
        if is_torn(forest, note):
            draft.take_back(note, untouched=untouched)
            way = "offline: nothing is copied; what was merged is there as it was"
            return draft.plan(f"take back {title}", way, resumed=note)
        return plan_commit(forest, note.top, note.base, remove=note.remove, facts=facts)
    draft.complete(note)
    title = f"finish the merge of {_names(forest, note.merged)} into {_name(forest, note.base)}"
    return draft.plan(title, "offline: all data was copied before it was cut short", resumed=note)


def _not_as_left(forest: Forest, note: MergeNote) -> str:
    """Say what is not as a commit that was cut short while copying must have left it; empty if all is."""
    for path in (note.base, *note.merged):
        if is_gone(forest, path):
            return f"{path} is not there, or was not read: what it holds may be in no other image"
    if not is_chain(forest, note):
        return f"does not stand on it any more: {forest[note.top].problem or 'it has another backing file'}"
    by_itself = not note.children and not any(use.path in forest.same_file(note.top) for use in forest.uses)
    if note.active and by_itself:
        return "the guest that wrote to it may write to the base now; that guest is not known here"
    return ""


def plan_cleanup(forest: Forest, among: Iterable[str] | None = None) -> Plan:
    """Plan to remove files that are marked as invalid.

    Parameters
    ----------
    forest : Forest
        Must hold whatever stands on them.
    among : iterable of str, optional
        Paths: of these only those that are invalid; all that are if left out.

    Returns
    -------
    Plan

    Raises
    ------
    InvalidRequestError
        There are none.
    """
    wanted = forest.images if among is None else dict.fromkeys(among)
    invalid = [path for path in wanted if path in forest and forest[path].status == "invalid"]
    if not invalid:
        raise InvalidRequestError(
            "remove what is invalid",
            said="no image is marked as invalid" + ("" if among is None else " here"),
            next_step="there is nothing to do; what a pull has left below is valid still",
        )
    draft = MergeDraft(forest, MergeFacts())
    draft.remove(sorted(invalid, key=forest.depth, reverse=True), asked=True)
    return draft.plan("remove what is invalid", "unlink: nobody can open these files any more", subjects=invalid)


def _between(forest: Forest, top: str, base: str | None, tried: str) -> tuple[str, tuple[str, ...]]:
    """Give the base, as the chain names it, and the layers above it up to `top`, lowest first."""
    lineage = forest.lineage(top)
    if forest.parent(top) is None or len(lineage) < 2:
        raise InvalidRequestError(tried, said=f"top {top} has no backing file", next_step="name an overlay as the top")
    base = lineage[1] if base is None else _find(forest, lineage, base, tried)
    return base, tuple(reversed(lineage[: lineage.index(base)]))


def _find(forest: Forest, lineage: Sequence[str], base: str, tried: str) -> str:
    """Find an image below the first of a chain, under whatever name the chain refers to it."""
    names = set(forest.same_file(base))
    found = next((path for path in lineage[1:] if path in names), None)
    if found is None:
        raise InvalidRequestError(
            tried,
            said=f"base {base} is not below {lineage[0]}",
            next_step="the images below it are: " + ", ".join(_with_status(forest, path) for path in lineage[1:]),
        )
    return found


def _with_status(forest: Forest, path: str) -> str:
    status = forest.status(path)
    return path if status == "ok" else f"{path} ({status})"


def _name(forest: Forest, path: str) -> str:
    return forest[path].name if path in forest else path


def _names(forest: Forest, paths: Sequence[str]) -> str:
    if len(paths) > 3:
        return f"{_name(forest, paths[0])} … {_name(forest, paths[-1])} ({len(paths)} layers)"
    return ", ".join(_name(forest, path) for path in paths)


def _cost(size: int | None) -> float:
    return float("inf") if size is None else size
