"""Make a chain short with the fewest bytes to copy: which layers become one, and in whose file.

A short chain is a row of groups of neighbouring layers, each of which becomes one image: the last of the group gives
the content, and any of them the file. What lies above that file is copied down into it, what lies below is copied up.
The data of the file itself need not move at all, so the bytes of a group are all that is seen of its layers, less what
is seen of the file's own. The cheapest row of groups is found from the first layer on, one group after the other.

While a guest runs, QEMU pulls only into the image that the guest writes to: below that, a group is in its first file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.model.counting import plural
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.merge_concerns import sound
from vmsnap_nb.plans.merge_draft import MergeDraft
from vmsnap_nb.plans.merge_facts import MergeFacts
from vmsnap_nb.plans.plan import Alternative, Plan

__all__ = ["Group", "cheapest", "plan_shorten"]


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring layers that become one image.

    Attributes
    ----------
    first, last : int
        Numbers of the layers; the image will read as `last` does.
    into : int
        The layer whose file holds it.
    """

    first: int
    last: int
    into: int


def plan_shorten(
    forest: Forest,
    image: str,
    *,
    keep: int | Iterable[str],
    top_may_go: bool = False,
    remove: bool = False,
    verify: bool = False,
    facts: MergeFacts | None = None,
    draft: MergeDraft | None = None,
) -> Plan:
    """Plan to make the chain of an image short, with the fewest bytes to copy.

    Images on which others stand, or which a guest has as its disk, stay as they are in any case.

    Parameters
    ----------
    forest : Forest
        Must hold the chain and whatever else stands on it.
    image : str
        Path of the chain's last image; what it reads stays the same.
    keep : int or iterable of str
        How many images may remain at most; or the paths of those that must remain, under their names and with their
        content, beside the last one.
    top_may_go : bool
        Whether the content may end up in the file of a lower layer, so that the image itself becomes invalid.
    remove : bool
        Whether to remove the files that are not needed any more.
    verify, facts
        As in `vmsnap_nb.plans.merge.plan_commit`.
    draft : MergeDraft, optional
        Who merges: qemu-img if left out.

    Returns
    -------
    Plan
        `Plan.alternatives` has other ways to as many images, with their bytes.

    Raises
    ------
    InvalidRequestError
        The chain is as short as that already, an image to keep is not in it, the number is not positive, or it cannot
        be done while the guest runs.
    """
    facts = facts or MergeFacts()
    draft = draft or MergeDraft(forest, facts)
    layers = tuple(reversed(forest.lineage(image)))
    tried = f"shorten the chain of {forest[image].name}"
    fixed = _fixed(forest, layers)
    if isinstance(keep, int):
        if keep < 1:
            raise InvalidRequestError(tried, said=f"{keep} images cannot be kept", next_step="keep 1 or more")
        ends, most = frozenset[int](), max(keep, len(fixed | {len(layers) - 1}))
    else:
        fixed |= {_number(forest, layers, path, tried) for path in ((keep,) if isinstance(keep, str) else keep)}
        ends, most = fixed | {len(layers) - 1}, len(fixed | {len(layers) - 1})
    if most >= len(layers):
        raise InvalidRequestError(
            tried,
            said=f"it has {len(layers)} images, and {most} would be kept"
            + (", since others stand on them or use them" if isinstance(keep, int) and most > keep else ""),
        )
    blocks = facts.block_map(layers)
    costs = _Costs(blocks, len(layers))
    movable = frozenset(range(len(layers))) - fixed - (frozenset() if top_may_go else {len(layers) - 1})
    room = range(most, len(layers)) if isinstance(keep, int) else (most,)
    inside = frozenset(number for number, path in enumerate(layers) if forest[path].snapshots)
    # What would lose snapshots inside is better than nothing: the plan is refused then, and says why.
    tries = (
        cheapest(
            costs,
            len(layers),
            most=number,
            fixed=fixed,
            ends=ends,
            movable=movable,
            whole=whole,
            down=draft.pulls_only_to_top,
        )
        for number in room
        for whole in (inside, frozenset[int]())
    )
    groups = next(filter(None, tries), ())
    if not groups:
        raise InvalidRequestError(
            tried,
            said="QEMU pulls only into the image that a running guest writes to, and what must stay is in the way of a "
            "commit",
            next_step="keep the base, too, or shut the guest down",
        )
    _merge(draft, layers, groups, remove=remove)
    staying = {number: forest[layers[number]].name for number in fixed}
    others = _others(costs, groups, staying, top_may_go, down=draft.pulls_only_to_top)
    chosen = Alternative(_words(forest, layers, groups), costs.total(groups), True, draft.refused)
    end = plural(len(groups), "image")
    return draft.plan(
        f"{tried} from {len(layers)} to {end}",
        f"{draft.where}, {_words(forest, layers, groups)}: the fewest bytes of all ways to {end}",
        verify=verify,
        subjects=layers,
        alternatives=(chosen, *others),
    )


def _fixed(forest: Forest, layers: Sequence[str]) -> frozenset[int]:
    """Give the layers that somebody else needs as they are."""
    fixed: set[int] = set()
    for number, path in enumerate(layers[:-1]):
        names = set(forest.same_file(path))
        above = set(forest.same_file(layers[number + 1]))
        others = [child for child in forest.children(path) if child not in above and sound(forest, child)]
        if others or any(use.path in names for use in forest.uses):
            fixed.add(number)
    return frozenset(fixed)


def _number(forest: Forest, layers: Sequence[str], path: str, tried: str) -> int:
    names = set(forest.same_file(path))
    found = next((number for number, layer in enumerate(layers) if layer in names), None)
    if found is None:
        raise InvalidRequestError(
            tried, said=f"{path} is not in this chain", next_step="its images are: " + ", ".join(layers)
        )
    return found


class _Costs:
    """Bytes to copy for any group; without a block map every layer counts as one byte, so that few layers move."""

    def __init__(self, blocks: BlockMap | None, count: int) -> None:
        self.known = blocks is not None
        self.count = count
        self._blocks = blocks

    @cached_property
    def _seen(self) -> list[list[int]]:
        """For each last layer, and each layer up to it, the bytes of data that are seen of the latter."""
        if self._blocks is None:
            return [[1] * (last + 1) for last in range(self.count)]
        seen = [[0] * (last + 1) for last in range(self.count)]
        for layer, covers in self._blocks.covers.items():
            left = sum(covers.values())
            for last in range(layer, self.count):
                left -= covers.get(last, 0)
                seen[last][layer] = left
        return seen

    def row(self, last: int) -> list[int]:
        """Give for each layer up to `last` the bytes that are seen of it."""
        return self._seen[last]

    def of(self, group: Group) -> int:
        """Give the bytes to copy for a group."""
        row = self._seen[group.last]
        return sum(row[group.first : group.last + 1]) - row[group.into]

    def total(self, groups: Iterable[Group]) -> int | None:
        """Give the bytes to copy for several groups, or None where they are not known."""
        return sum(self.of(group) for group in groups) if self.known else None


def cheapest(
    costs: _Costs,
    count: int,
    *,
    most: int,
    fixed: frozenset[int],
    ends: frozenset[int],
    movable: frozenset[int],
    whole: frozenset[int] = frozenset(),
    down: bool = False,
) -> tuple[Group, ...]:
    """Find the groups with the fewest bytes to copy, and of those the fewest groups.

    Parameters
    ----------
    costs : _Costs
        Bytes of each group.
    count : int
        Layers of the chain.
    most : int
        Groups that there may be.
    fixed : frozenset of int
        Layers that must be the last of a group, in their own file.
    ends : frozenset of int
        If not empty, the only layers that may be the last of a group.
    movable : frozenset of int
        Layers whose content may end up in another file.
    whole : frozenset of int
        Layers that are neither merged away nor pulled into; what stands on them may go down into them.
    down : bool
        Whether every group but the last one must be in the file of its first layer.

    Returns
    -------
    tuple of Group
        Base first; none where there is no such way.
    """
    # best[n]: for the layers before n, by the number of groups, the bytes and the last group
    best: list[dict[int, tuple[int, Group | None]]] = [{} for _ in range(count + 1)]
    best[0][0] = (0, None)
    group: Group | None
    for last in range(count):
        if ends and last not in ends:
            continue
        row = costs.row(last)
        committed = down and last < count - 1
        total, best_file = 0, last
        passed = False  # a layer that must stay whole: the file of what begins below it is above it
        for first in range(last, -1, -1):
            if first != last and (first in fixed or last in whole or (committed and (passed or last not in movable))):
                break
            total += row[first]
            file = best_file
            if not passed and (committed or (last in movable and row[first] > row[file])):
                file = first
            if first not in whole:
                best_file = file
            passed = passed or first in whole
            group = Group(first, last, file)
            for number, (size, _) in best[first].items():
                if number < most:
                    offer = size + total - row[file]
                    known = best[last + 1].get(number + 1)
                    if known is None or offer < known[0]:
                        best[last + 1][number + 1] = (offer, group)
    if not best[count]:
        return ()
    number = min(best[count], key=lambda n: (best[count][n][0], n))
    groups: list[Group] = []
    place = count
    while place:
        group = best[place][number][1]
        assert group is not None
        groups.append(group)
        place, number = group.first, number - 1
    return tuple(reversed(groups))


def _merge(draft: MergeDraft, layers: Sequence[str], groups: Sequence[Group], *, remove: bool) -> None:
    below: str | None = None
    spare: list[str] = []
    for group in groups:
        file = layers[group.into]
        if group.into < group.last:
            draft.commit(file, layers[group.into + 1 : group.last + 1], remove=remove)
        if group.first < group.into:
            draft.pull(file, below)
            spare += reversed(layers[group.first : group.into])
        below = file
    if remove:
        draft.remove(_highest_first(layers, spare), asked=False)


def _highest_first(layers: Sequence[str], paths: Iterable[str]) -> list[str]:
    wanted = set(paths)
    return [path for path in reversed(layers) if path in wanted]


def _others(
    costs: _Costs, groups: Sequence[Group], staying: Mapping[int, str], top_may_go: bool, *, down: bool
) -> Iterator[Alternative]:
    """Give the plain ways to the same groups: all up, all down, and down layer by layer."""
    if not costs.known:
        return
    up = [Group(group.first, group.last, group.last) for group in groups]
    committed = [Group(group.first, group.last, group.first) for group in groups]
    no_pull = "QEMU pulls only into the image that the guest writes to" if down and up[:-1] != committed[:-1] else ""
    kept = next((f"{staying[g.last]} must keep its file" for g in groups if g.first < g.last and g.last in staying), "")
    if not kept and not top_may_go and groups[-1].first < groups[-1].last:
        kept = "the last image would go; top_may_go=True permits it"
    step_by_step = sum(
        sum(costs.row(group.last)[layer : group.last + 1])
        for group in groups
        for layer in range(group.first + 1, group.last + 1)
    )
    ways = [
        ("pull everything up", costs.total(up), no_pull, up),
        ("commit everything down", costs.total(committed), kept, committed),
    ]
    for what, size, refused, way in ways:
        if list(way) != list(groups):
            yield Alternative(what, size, False, refused)
    if any(group.last - group.first > 1 for group in groups):
        yield Alternative("commit layer by layer, the highest first", step_by_step, False, kept)


def _words(forest: Forest, layers: Sequence[str], groups: Sequence[Group]) -> str:
    def names(first: int, last: int) -> str:
        if last - first > 2:
            return f"{forest[layers[first]].name} … {forest[layers[last]].name}"
        return ", ".join(forest[path].name for path in layers[first : last + 1])

    words: list[str] = []
    for group in groups:
        file = forest[layers[group.into]].name
        if group.into < group.last:
            words.append(f"commit {names(group.into + 1, group.last)} into {file}")
        if group.first < group.into:
            words.append(f"pull {names(group.first, group.into - 1)} into {file}")
    return "; ".join(words)
