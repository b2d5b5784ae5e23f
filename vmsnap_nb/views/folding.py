"""Which images of a tree are drawn one by one, and which are folded into a box that counts them.

Nothing here recurses: a chain may be longer than Python's stack is deep.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["MOST_BOXES", "Fold", "Node", "grow"]

_LEAST_RUN = 3  # boxes that a stretch of layers keeps: its ends, and what is folded between them
_LEAST_NARROW_RUN, _NARROW = 2, 4  # in a figure with so few columns it keeps only its upper end
_FORCED = 3  # important layers of a stretch that are drawn even where this makes the figure wider

_FORKS = 2
"""Columns more than asked for that a tree may take before layers with branches of their own are folded, too."""

MOST_BOXES = 100
"""More boxes than this are too many to read: then deep layers are folded as well."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Images that are not drawn one by one."""

    # ``layers`` for a stretch in the middle of a chain; ``overlays`` (or ``bases``) for some that stand side by side,
    # each with all that is based on it.
    kind: Literal["layers", "overlays", "bases"]
    count: int  # how many of that kind
    members: tuple[str, ...]  # all images in it, in order


@dataclass(slots=True)
class Node:
    """What gets a box: the path of an image, or a fold."""

    what: str | Fold
    children: list[Node] = field(default_factory=list)


def grow(
    roots: Sequence[str],
    children: Mapping[str, Sequence[str]],
    *,
    fold: int | None,
    keep: int,
    columns: int,
    important: AbstractSet[str] = frozenset(),
    changed: AbstractSet[str] = frozenset(),
    apart: AbstractSet[str] = frozenset(),
    ends: AbstractSet[str] = frozenset(),
) -> list[Node]:
    """Decide what is drawn: a tree for each root, in which the images of `important` are drawn if there is room.

    Of `changed`, three in each stretch are drawn even without room. `children` are for each image its overlays, without
    loops; `fold`, `keep` and `columns` are as in `Options`. Of a row, those of `apart` are one box. A branch
    that leads to one of `ends` is not folded with the layer that it is based on.
    """
    narrow = columns <= _NARROW
    grower = _Grower(
        roots,
        children,
        fold=fold,
        keep=keep,
        run=columns,
        narrow=narrow,
        important=important,
        changed=changed,
        apart=apart,
        ends=ends,
    )
    trees, boxes, deepest = grower.grow(None)
    least = _LEAST_NARROW_RUN if narrow else _LEAST_RUN
    while fold is not None and deepest > columns and grower.run > least:
        grower.run -= 1  # several stretches one behind the other: each gets less room
        trees, boxes, deepest = grower.grow(None)
    while fold is not None and deepest > columns + _FORKS and grower.join(_deepest(trees)):
        grower.run = columns
        trees, boxes, deepest = grower.grow(None)
        while deepest > columns + _FORKS and grower.run > least:
            grower.run -= 1
            trees, boxes, deepest = grower.grow(None)
    if fold is None or boxes <= MOST_BOXES:
        return trees
    low, high = 1, deepest  # the deepest cut that is small enough
    while low < high:
        middle = (low + high + 1) // 2
        if grower.grow(middle)[1] <= MOST_BOXES:
            low = middle
        else:
            high = middle - 1
    return grower.grow(low)[0]


@dataclass(slots=True)
class _Grower:
    roots: Sequence[str]
    children: Mapping[str, Sequence[str]]
    fold: int | None
    keep: int
    run: int  # boxes that a stretch of layers may take
    narrow: bool  # whether a base gives way to three layers that must be drawn
    important: AbstractSet[str]
    changed: AbstractSet[str]
    apart: AbstractSet[str]
    ends: AbstractSet[str]
    above_important: set[str] = field(default_factory=set)
    above_ends: set[str] = field(default_factory=set)
    joins: dict[str, str] = field(default_factory=dict)  # layers that are folded with their branches, but not this one

    def __post_init__(self) -> None:
        parents = {child: path for path, overlays in self.children.items() for child in overlays}
        for paths, above in ((self.important, self.above_important), (self.changed | self.ends, self.above_ends)):
            for path in paths:
                step: str | None = path
                while step is not None and step not in above:
                    above.add(step)
                    step = parents.get(step)

    def join(self, way: Sequence[str | Fold]) -> bool:
        """Let the forks along a way up be folded like layers without branches; return whether there were any."""
        before = len(self.joins)
        for here, after in itertools.pairwise(way):
            if isinstance(here, str):
                following = after if isinstance(after, str) else after.members[0]
                overlays = self.children.get(here, ())
                beside = [path for path in overlays if path != following]
                if following in overlays and beside and self.above_ends.isdisjoint(beside):
                    self.joins.setdefault(here, following)
        return len(self.joins) > before

    def grow(self, most_columns: int | None) -> tuple[list[Node], int, int]:
        """Return the trees, the number of their boxes and of their columns, cut at so many columns."""
        top = Node("")
        boxes = deepest = 0
        stack: list[tuple[Node, str | Fold, int]] = []

        def push(parent: Node, items: Sequence[str | Fold], column: int) -> None:
            stack.extend((parent, item, column) for item in reversed(items))

        def put(parent: Node, what: str | Fold, column: int) -> Node:
            nonlocal boxes, deepest
            if isinstance(what, Fold) and len(what.members) == 1:  # a box for one is no shorter than its image
                what = what.members[0]
            node = Node(what)
            parent.children.append(node)
            boxes += 1
            deepest = max(deepest, column)
            return node

        push(top, self._row(self.roots, "bases"), 1)
        while stack:
            node, item, column = stack.pop()
            if isinstance(item, Fold):
                put(node, item, column)
                continue
            run = self._run(item)
            for piece in self._row(run, "layers"):
                first = piece if isinstance(piece, str) else piece.members[0]
                if self._cut(first, column, most_columns):
                    members = tuple(self._members([first]))
                    put(node, Fold("overlays", len(members), members), column)
                    break
                node = put(node, piece, column)
                column += 1
                if isinstance(piece, str) and piece in self.joins and piece != run[-1]:
                    beside = [path for path in self.children[piece] if path != self.joins[piece]]
                    push(node, self._row(beside, "overlays"), column)
            else:
                overlays = self.children.get(run[-1], ())
                if most_columns is not None and column > most_columns:
                    items: list[str | Fold] = [path for path in overlays if path in self.above_important]
                    rest = [path for path in overlays if path not in self.above_important]
                    if rest:
                        items.append(Fold("overlays", len(rest), tuple(self._members(rest))))
                    push(node, items, column)
                else:
                    push(node, self._row(overlays, "overlays"), column)
        return top.children, boxes, deepest

    def _cut(self, path: str, column: int, most_columns: int | None) -> bool:
        return most_columns is not None and column > most_columns and path not in self.above_important

    def _run(self, start: str) -> list[str]:
        run = [start]
        while len(overlays := self.children.get(run[-1], ())) == 1 or run[-1] in self.joins:
            run.append(self.joins.get(run[-1], overlays[0]))
        return run

    def _row(self, row: Sequence[str], kind: Literal["layers", "overlays", "bases"]) -> list[str | Fold]:
        """Fold the middle of a row, around what is important in it."""
        if kind != "layers" and self.apart and not self.apart.isdisjoint(row):
            others = [path for path in row if path in self.apart]
            near = self._row([path for path in row if path not in self.apart], kind)
            return [*near, Fold(kind, len(others), tuple(self._members(others)))]
        if self.fold is None or len(row) <= (self.run if kind == "layers" else max(self.fold, self.keep)):
            return list(row)
        if kind == "layers":
            kept = self._kept(row)
        elif not self.keep:  # nothing but what is important: all others together, however many are based on each
            rest = [path for path in row if path not in self.above_important]
            drawn = [path for path in row if path in self.above_important]
            return [*drawn, *([Fold(kind, len(rest), tuple(self._members(rest)))] if rest else [])]
        else:
            head, tail = (self.keep + 1) // 2, self.keep // 2
            ends = {*range(head), *range(len(row) - tail, len(row))}
            kept = ends | {place for place, path in enumerate(row) if path in self.above_important}
        items: list[str | Fold] = []
        stretch: list[str] = []

        def close() -> None:
            if len(stretch) == 1:
                items.append(stretch[0])
            elif stretch:
                members = self._members_of_layers(stretch) if kind == "layers" else self._members(stretch)
                items.append(Fold(kind, len(stretch), tuple(members)))
            stretch.clear()

        for place, path in enumerate(row):
            if place in kept:
                close()
                items.append(path)
            else:
                stretch.append(path)
        close()
        return items

    def _kept(self, row: Sequence[str]) -> set[int]:
        """Return what stays visible of a stretch of layers: its ends, then what is important, as far as it has room.

        What must be seen is drawn without room, too, and then the lower end of a stretch on another one is folded.
        """
        inner = range(1, len(row) - 1)
        must = _from_both_ends([place for place in inner if row[place] in self.important])
        forced = _from_both_ends([place for place in inner if row[place] in self.changed])[:_FORCED]
        ends = 2 if self.run > _LEAST_NARROW_RUN else 1
        if forced and row[0] in self.roots and (not self.narrow or len(forced) < _FORCED):
            forced.insert(0, 0)
        kept: list[int] = []
        for place in (len(row) - 1, *forced, 0, *must, *_from_both_ends(inner)):
            more = sorted({*kept, place})
            folds = sum(after - before > 1 for before, after in itertools.pairwise((-1, *more, len(row))))
            if len(more) + folds <= self.run or len(more) <= ends or place in forced:
                kept = more
            elif len(kept) >= self.run - 1:
                break
        return set(kept)

    def _members_of_layers(self, stretch: Sequence[str]) -> list[str]:
        """Return layers with the branches that are folded with them."""
        found: list[str] = []
        for path in stretch:
            found.append(path)
            if path in self.joins:
                found += self._members([other for other in self.children[path] if other != self.joins[path]])
        return found

    def _members(self, paths: Sequence[str]) -> list[str]:
        found: list[str] = []
        stack = list(reversed(paths))
        while stack:
            path = stack.pop()
            found.append(path)
            stack.extend(reversed(self.children.get(path, ())))
        return found


def _deepest(trees: Sequence[Node]) -> list[str | Fold]:
    """Return what is drawn from a root up to what is farthest from it."""
    above: dict[int, Node] = {}
    row = list(trees)
    last = row[0]
    while row:
        last = row[0]
        above.update({id(child): node for node in row for child in node.children})
        row = [child for node in row for child in node.children]
    way = [last.what]
    while (node := above.get(id(last))) is not None:
        last = node
        way.append(node.what)
    return way[::-1]


def _from_both_ends(places: Sequence[int]) -> list[int]:
    """Return the last, the first, the last but one and so on."""
    ordered: list[int] = []
    for first, last in zip(places, reversed(places), strict=True):
        if first > last:
            break
        ordered += [last] if first == last else [last, first]
    return ordered
