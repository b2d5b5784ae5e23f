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
from typing import TYPE_CHECKING

from vmsnap_nb.errors import InvalidRequestError, NothingToDoError
from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.merge.builder import MergeBuilder
from vmsnap_nb.plans.merge.checks import check_read, sound
from vmsnap_nb.plans.merge.engines import check_verify, engine_of
from vmsnap_nb.plans.plan import Alternative, Plan
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.words.message import NOTHING, Message, clauses, counted, joined, listed, t

if TYPE_CHECKING:
    from vmsnap_nb.plans.merge.request import ShortenRequest

__all__ = ["Group", "cheapest", "plan_shorten"]


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring layers, by their numbers, that become one image: it will read as `last` does."""

    first: int
    last: int
    into: int  # the layer whose file holds it


def plan_shorten(reading: Reading, request: ShortenRequest) -> Plan:
    """Plan to make the chain of an image short, with the fewest bytes to copy.

    Images with other overlays, or which a guest has as its disk, stay as they are in any case.
    """
    forest, engine = reading.forest, engine_of(reading, request)
    image, keep = request.image(forest, request.top), request.kept(forest)
    tried = t("shorten the chain of {image}", image=forest[image].name)
    check_verify(engine, request, tried)
    check_read(forest, image, tried)
    layers = tuple(reversed(forest.lineage(image)))
    last = len(layers) - 1
    fixed, ends, most = _limits(forest, layers, keep, tried)
    movable = frozenset(range(len(layers))) - fixed - (frozenset() if request.top_may_go else {last})
    inside = frozenset(number for number, path in enumerate(layers) if forest[path].snapshots)
    costs = _Costs(reading.block_map(layers), len(layers))
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
            down=engine.live,
        )
        for number in (range(most, len(layers)) if isinstance(keep, int) else (most,))
        for whole in (inside, frozenset[int]())
    )
    groups = next(filter(None, tries), ())
    if not groups:
        raise InvalidRequestError(
            tried,
            why=t(
                "QEMU can pull only into the active layer of a running guest, and an image that must be kept "
                "prevents a commit"
            ),
            next_step=t("also keep the base, or shut the guest down"),
        )
    builder = MergeBuilder(reading, engine)
    _merge(builder, layers, groups, remove=request.remove)
    staying = {number: forest[layers[number]].name for number in fixed}
    words = _words(forest, layers, groups)
    chosen = Alternative(words, costs.total(groups), True, builder.refused)
    if engine.live:
        way = t("live, with QEMU block jobs: {merges}. No other way copies less data", merges=words)
    else:
        way = t("offline: {merges}. No other way copies less data", merges=words)
    return builder.plan(
        counted(
            "shorten the chain of {image} from {layers} to {count} image",
            "shorten the chain of {image} from {layers} to {count} images",
            len(groups),
            image=forest[image].name,
            layers=len(layers),
        ),
        way,
        verify=request.verify,
        subjects=layers,
        alternatives=(chosen, *_others(costs, groups, staying, request.top_may_go, down=engine.live)),
    )


def _limits(
    forest: Forest, layers: Sequence[str], keep: int | Sequence[str], tried: Message
) -> tuple[frozenset[int], frozenset[int], int]:
    """Return the layers that keep their files, the only ones that may end a group (if not all), and how many groups."""
    fixed, last = _fixed(forest, layers), len(layers) - 1
    if isinstance(keep, int):
        if keep < 1:
            raise InvalidRequestError(tried, why=t("keep must be 1 or more"), next_step=t("pass a greater number"))
        ends, most = frozenset[int](), max(keep, len(fixed | {last}))
    else:
        fixed |= {_number(forest, layers, path, tried) for path in keep}
        ends, most = fixed | {last}, len(fixed | {last})
    if most > last:
        if isinstance(keep, int) and most > keep:
            why = t(
                "the chain has {layers} images, and {count} of them must be kept because they have other overlays or "
                "users, or are on the network",
                layers=len(layers),
                count=most,
            )
            step = t("first remove the overlays and users that are no longer needed")
            kind = InvalidRequestError
        else:
            why = counted(
                "the chain has only {count} image, and it would be kept",
                "the chain has only {count} images, and all of them would be kept",
                len(layers),
            )
            step, kind = t("keep fewer images"), NothingToDoError
        raise kind(tried, why=why, next_step=step)
    return fixed, ends, most


def _fixed(forest: Forest, layers: Sequence[str]) -> frozenset[int]:
    """Return the layers that others need as they are, and those on the network."""
    fixed: set[int] = set()
    for number, path in enumerate(layers[:-1]):
        names = set(forest.same_file(path))
        above = set(forest.same_file(layers[number + 1]))
        others = [child for child in forest.children(path) if child not in above and sound(forest, child)]
        if others or any(use.path in names for use in forest.uses) or forest[path].status == "remote":
            fixed.add(number)
    return frozenset(fixed)


def _number(forest: Forest, layers: Sequence[str], path: str, tried: Message) -> int:
    names = set(forest.same_file(path))
    found = next((number for number, layer in enumerate(layers) if layer in names), None)
    if found is None:
        raise InvalidRequestError(
            tried,
            why=t("{path} is not in this chain", path=path),
            next_step=t("choose one of its images: {images}", images=joined(layers)),
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
        """Return for each layer up to `last` the bytes that are seen of it."""
        return self._seen[last]

    def of(self, group: Group) -> int:
        """Return the bytes to copy for a group."""
        row = self._seen[group.last]
        return sum(row[group.first : group.last + 1]) - row[group.into]

    def total(self, groups: Iterable[Group]) -> int | None:
        """Return the bytes to copy for several groups, or None where they are not known."""
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
    """Return the groups with the fewest bytes to copy, and of those the fewest groups, base first; none if impossible.

    There may be `most` groups. `fixed` layers must be the last of a group, in their own file; `ends`, if not empty, are
    the only ones that may be the last. `movable` are those whose content may end up in another file, `whole` those that
    are neither merged away nor pulled into (their overlays may go down into them). With `down` every group but the
    last one must be in the file of its first layer.
    """
    # Few groups are counted, or else the layers that go: what is left to be counted is less.
    surplus = max(0, count - most)
    counts_groups = most < surplus
    # best[n]: for the layers before n, by that number, the bytes and groups, the last group, and the number before it
    best: list[dict[int, tuple[tuple[int, int], Group | None, int]]] = [{} for _ in range(count + 1)]
    best[0][0] = ((0, 0), None, 0)
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
            size = total - row[file]
            for number, (known, _, _) in best[first].items():
                counted_now = number + 1 if counts_groups else min(number + last - first, surplus)
                if counted_now > most and counts_groups:
                    continue
                offer = known[0] + size, known[1] + 1
                found = best[last + 1].get(counted_now)
                if found is None or offer < found[0]:
                    best[last + 1][counted_now] = (offer, group, number)
    return _row_of(best, None if counts_groups else surplus)


def _row_of(
    best: Sequence[Mapping[int, tuple[tuple[int, int], Group | None, int]]], wanted: int | None
) -> tuple[Group, ...]:
    """Return the cheapest groups for all layers, with the number that is wanted; none if there are no such groups."""
    place = len(best) - 1
    ends = [number for number in best[place] if wanted in (None, number)]
    if not ends:
        return ()
    number = min(ends, key=lambda n: best[place][n][0])
    groups: list[Group] = []
    while place:
        _, group, number = best[place][number]
        assert group is not None
        groups.append(group)
        place = group.first
    return tuple(reversed(groups))


def _merge(builder: MergeBuilder, layers: Sequence[str], groups: Sequence[Group], *, remove: bool) -> None:
    below: str | None = None
    spare: list[str] = []
    for group in groups:
        file = layers[group.into]
        if group.into < group.last:
            builder.commit(file, layers[group.into + 1 : group.last + 1], remove=remove)
        if group.first < group.into:
            builder.pull(file, below)
            spare += reversed(layers[group.first : group.into])
        below = file
    if remove:
        builder.remove(_highest_first(layers, spare), asked=False)


def _highest_first(layers: Sequence[str], paths: Iterable[str]) -> list[str]:
    wanted = set(paths)
    return [path for path in reversed(layers) if path in wanted]


def _others(
    costs: _Costs, groups: Sequence[Group], staying: Mapping[int, str], top_may_go: bool, *, down: bool
) -> Iterator[Alternative]:
    """Yield the plain ways to the same groups: all up, all down, and down layer by layer."""
    if not costs.known:
        return
    up = [Group(group.first, group.last, group.last) for group in groups]
    committed = [Group(group.first, group.last, group.first) for group in groups]
    only_active = t("QEMU can pull only into the active layer of a running guest")
    no_pull = only_active if down and up[:-1] != committed[:-1] else NOTHING
    kept = next((staying[g.last] for g in groups if g.first < g.last and g.last in staying), "")
    no_commit = t("the file of {image} must be kept", image=kept) if kept else NOTHING
    if not kept and not top_may_go and groups[-1].first < groups[-1].last:
        no_commit = t("the top image would be merged into another. To permit this, pass top_may_go=True")
    step_by_step = sum(
        sum(costs.row(group.last)[layer : group.last + 1])
        for group in groups
        for layer in range(group.first + 1, group.last + 1)
    )
    ways = [
        (t("pull everything up"), costs.total(up), no_pull, up),
        (t("commit everything down"), costs.total(committed), no_commit, committed),
    ]
    for what, size, refused, way in ways:
        if list(way) != list(groups):
            yield Alternative(what, size, False, refused)
    if any(group.last - group.first > 1 for group in groups):
        yield Alternative(t("commit layer by layer, starting at the top"), step_by_step, False, no_commit)


def _words(forest: Forest, layers: Sequence[str], groups: Sequence[Group]) -> Message:
    def names(first: int, last: int) -> str:
        if last - first > 2:
            return f"{forest[layers[first]].name} … {forest[layers[last]].name}"
        return listed(forest[path].name for path in layers[first : last + 1])

    words: list[Message] = []
    for group in groups:
        file = forest[layers[group.into]].name
        if group.into < group.last:
            words.append(t("commit {images} into {base}", images=names(group.into + 1, group.last), base=file))
        if group.first < group.into:
            words.append(t("pull {images} into {image}", images=names(group.first, group.into - 1), image=file))
    return clauses(words)
