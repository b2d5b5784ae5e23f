"""A plan as one picture: what comes and what goes are drawn into the images that are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.views.box_lines import fill_of
from vmsnap_nb.views.figure import Arrow, Block, Box, Fate, Line, Move, Options
from vmsnap_nb.views.moves import move_between
from vmsnap_nb.views.plan_sides import Sides, lineages
from vmsnap_nb.views.shown_text import human_size
from vmsnap_nb.views.trees import Graph, Mark, cut_loops, image_box, tree_blocks
from vmsnap_nb.words.message import t

__all__ = ["plan_change"]

_Edges = dict[str, tuple[str, Fate]]


def plan_change(sides: Sides, options: Options) -> tuple[tuple[Block, ...], tuple[Move, ...], tuple[str, ...]]:
    """Return blocks, moves and notes: each image once, branches that the plan does not touch folded."""
    change = _Change(sides, options)
    plan = sides.plan
    touched = {*sides.gone, *sides.kept, *plan.subjects, *(move.target for move in plan.moves)}
    touched.update(move.source for move in plan.moves)
    touched.update(_memory_of(sides, {*sides.gone, *sides.kept}))
    first = dict.fromkeys(lineages(sides.below, [move.target for move in plan.moves]), -1)
    first |= dict.fromkeys(lineages(sides.above, [move.source for move in plan.moves] or plan.subjects), -1)
    graph = change.graph()
    blocks, notes = tree_blocks(
        graph,
        options,
        names=sides.names,
        marks={**sides.gone, **sides.kept},
        order=first,
        only={name for name in touched if name in graph.paths or name in graph.memory},
    )
    drawn = tuple(change.block(block) for block in blocks)
    _, later = tree_blocks(sides.below, options, names=sides.names, marks=sides.kept)
    return drawn, _moves(sides, drawn), tuple(dict.fromkeys((*notes, *later)))


def _memory_of(sides: Sides, changed: AbstractSet[str]) -> Iterator[str]:
    """Yield the memory whose image changes, or is another one afterwards."""
    was, will = ({key: path for key, (_, path) in graph.memory.items()} for graph in (sides.above, sides.below))
    for key in {**was, **will}:
        if was.get(key) != will.get(key) or will[key] in changed:
            yield key


@dataclass
class _Change:
    sides: Sides
    options: Options
    layout: _Edges = field(default_factory=dict)  # the edges of the tree that is drawn
    beside: _Edges = field(default_factory=dict)  # other edges, around its boxes

    def graph(self) -> Graph:
        """Return the images of both sides as one graph, and decide which edges make its tree."""
        above, below = self.sides.above, self.sides.below
        new = [path for path in below.paths if path not in above.forest.images]
        paths = (*above.paths, *new)
        for path in paths:
            self._edges(path, above.parents.get(path), below.parents.get(path))
        parents = {path: backing for path, (backing, _) in self.layout.items()}
        cuts = {**above.cuts, **below.cuts, **cut_loops(paths, parents)}
        self.layout = {path: edge for path, edge in self.layout.items() if path in parents}
        return Graph(
            _joined(above.forest, below.forest, new),
            paths,
            parents,
            active=lambda path: above.active(path) if path in above.forest.images else below.active(path),
            cuts=cuts,
            memory={**above.memory, **below.memory},
        )

    def _edges(self, path: str, was: str | None, will: str | None) -> None:
        """Decide how the backing file of an image before and that after are drawn."""
        above, below = self.sides.above, self.sides.below
        if path not in above.forest.images:
            if will is not None:
                self.layout[path] = (will, "comes")
        elif path not in below.forest.images:
            if was is not None:
                self.layout[path] = (was, "goes")
        elif was == will:
            if was is not None:
                self.layout[path] = (was, "")
        elif was is None and will is not None:
            self.layout[path] = (will, "comes")
        elif was is not None and (will is None or (will in above.forest.images and will in above.forest.lineage(path))):
            self.layout[path] = (was, "goes")
            if will is not None:
                self.beside[path] = (will, "comes")
        elif was is not None and will is not None:
            self.layout[path] = (will, "comes")
            self.beside[path] = (was, "goes")

    def block(self, block: Block) -> Block:
        """Return a block with what comes and goes in it."""
        boxes = tuple(self._box(box) for box in block.boxes)
        arrows = [self._arrow(arrow, boxes) for arrow in block.arrows]
        places = {path: place for place, box in enumerate(boxes) for path in _paths(box)}
        for path, (backing, fate) in self.beside.items():
            tail, head = places.get(path), places.get(backing)
            if tail is not None and head is not None and tail != head:
                arrows.append(Arrow(tail, head, changed=fate == "comes", beside=True, fate=fate))
        return Block(boxes, tuple(arrows), block.caption)

    def _arrow(self, arrow: Arrow, boxes: tuple[Box, ...]) -> Arrow:
        box = boxes[arrow.tail]
        if arrow.beside:
            return arrow
        if box.fate in {"comes", "goes"}:  # the box says it already
            return replace(arrow, changed=False, fate=box.fate)
        fate = self.layout.get(box.key, ("", ""))[1]
        return replace(arrow, changed=fate == "comes", fate=fate)

    def _box(self, box: Box) -> Box:
        if box.members:
            fates = {self._fate(path) for path in box.members}
            return replace(box, fate=fates.pop()) if len(fates) == 1 else box
        sides, path = self.sides, box.key
        fate = self._fate(path)
        was = self._box_of(sides.above, path, sides.gone)
        will = self._box_of(sides.below, path, sides.kept)
        now = will or was
        if now is None:
            return box
        shape = "gone" if will is None and now.shape != "memory" else now.shape
        turned: Fate = "turns" if was is not None and will is not None and was.shape != will.shape else fate
        lines = tuple(_lines(was, will))
        grown = self._grown(path) if self.options.shows("sizes") and was is not None else None
        if grown is not None:
            image = sides.above.forest[path]
            lines = (*lines, _growth_line(image.allocated or 0, grown))
        return replace(
            box,
            lines=lines,
            shape=shape,
            active=now.active,
            fate=turned,
            title=now.title,
            fill=was.fill if was is not None else now.fill,
            grown=0.0 if grown is None else fill_of(image.virtual_size, grown) or 0.0,
        )

    def _grown(self, path: str) -> int | None:
        """Return what a file takes on disk afterwards, if the plan copies data into it."""
        growth, images = self.sides.plan.growth.get(path), self.sides.above.forest.images
        allocated = images[path].allocated if path in images else None
        return allocated + growth if growth and allocated is not None else None

    def _box_of(self, graph: Graph, path: str, marks: Mapping[str, Mark]) -> Box | None:
        known = path in graph.forest.images or path in graph.memory
        return image_box(graph, path, self.options, names=self.sides.names, marks=marks) if known else None

    def _fate(self, path: str) -> Fate:
        above, below = self.sides.above, self.sides.below
        if path not in above.forest.images and path not in above.memory:
            return "comes"
        return "goes" if path not in below.forest.images and path not in below.memory else ""


def _growth_line(before: int, after: int) -> Line:
    text = t("{before} → {after}", before=human_size(before), after=human_size(after))
    return Line(text, tone="good", fate="comes")


def _lines(was: Box | None, will: Box | None) -> Iterable[Line]:
    """Return the lines of both sides: those of one side alone come or go, and what a plan does is said from then on."""
    before, after = (box.lines if box is not None else () for box in (was, will))
    said = {(line.role, line.text) for line in after}
    for line in before:
        if line.role == "mark":
            yield replace(line, fate="comes")
        elif was is not None and will is not None and (line.role, line.text) not in said and line.role != "size":
            yield replace(line, fate="goes")
        else:
            yield line
    known = {(line.role, line.text) for line in before}
    sized = any(line.role == "size" for line in before)
    marked = was is not None and will is not None and any(line.role == "mark" for line in after)
    for line in after:
        if line.role == "status" and marked and will is not None and will.shape == "gone":
            continue  # the mark says it
        if (line.role, line.text) not in known and not (sized and line.role == "size"):
            yield replace(line, fate="comes" if was is not None or line.role == "mark" else "")


def _joined(before: Forest, after: Forest, new: Iterable[str]) -> Forest:
    return before.edited(put=[after.images[path] for path in new])


def _paths(box: Box) -> tuple[str, ...]:
    return box.members or ((box.path,) if box.path is not None else ())


def _moves(sides: Sides, blocks: tuple[Block, ...]) -> tuple[Move, ...]:
    """Return the moves; those from a fold, or into one, are one arrow with the sum of their bytes."""
    places = {
        path: (number, place)
        for number, block in enumerate(blocks)
        for place, box in enumerate(block.boxes)
        for path in _paths(box)
    }
    sums: dict[tuple[tuple[int, int], tuple[int, int], str], list[int | None]] = {}
    for move in sides.plan.moves:
        source, target = places.get(move.source), places.get(move.target)
        if source is not None and target is not None and source != target:
            sums.setdefault((source, target, move.label), []).append(move.size)
    return tuple(
        move_between(source, target, kind, None if None in sizes else sum(size or 0 for size in sizes))
        for (source, target, kind), sizes in sums.items()
    )
