"""From a forest or a chain to the blocks of a figure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vmsnap_nb.model.counting import plural
from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.model.image import Image, Status
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.views.figure import Block, Box, Line, Options, Shape
from vmsnap_nb.views.folding import Fold, Node, grow
from vmsnap_nb.views.layout import lay_out
from vmsnap_nb.views.words import clip, distinct_names, human_size, isolate, shown

__all__ = ["STATUS_WORDS", "Graph", "Mark", "chain_graph", "forest_graph", "tree_blocks"]

STATUS_WORDS: Mapping[Status, tuple[str, Shape]] = {
    "missing": ("MISSING", "broken"),
    "unreadable": ("UNREADABLE", "broken"),
    "not-a-file": ("NOT A FILE", "broken"),
    "corrupt": ("CORRUPT", "broken"),
    "unknown": ("UNKNOWN FORMAT", "unopened"),
    "outside": ("OUTSIDE, not opened", "unopened"),
    "remote": ("REMOTE, not opened", "unopened"),
    "loop": ("LOOP, stands on itself", "loop"),
    "invalid": ("INVALID, was merged", "gone"),
    "in-use": ("IN USE by a process", "in-use"),
}
"""For each status but "ok": what the box says, and its shape."""

_MOST_NOTES = 8
_MOST_BROKEN = 10  # more broken images than this are folded with the others, and counted in the fold
_MOST_USERS = 3


@dataclass(frozen=True, slots=True)
class Mark:
    """What a plan does to an image: a line for its box, and a shape."""

    text: str
    shape: Shape | None = None
    changed_arrow: bool = False


@dataclass(frozen=True)
class Graph:
    """Images as a figure sees them: each file once, and no loop.

    Attributes
    ----------
    forest : Forest
        Where they come from.
    paths : tuple of str
        One path for each file.
    parents : mapping of str to str
        The backing file, where there is one in the figure; loops are cut at one place.
    active : callable
        Whether writes go to an image.
    cuts : mapping of str to str
        Where a loop was cut: the image and its backing file.
    others : mapping of str to int
        Overlays that are not in the figure, by the image that they stand on.
    memory : mapping of str to (SnapshotRecord, str)
        Files of saved memory, by path, each with its record and the image whose state belongs to it.
    """

    forest: Forest
    paths: tuple[str, ...]
    parents: Mapping[str, str]
    active: Callable[[str], bool]
    cuts: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, int] = field(default_factory=dict)
    memory: Mapping[str, tuple[SnapshotRecord, str]] = field(default_factory=dict)

    def status(self, path: str) -> Status:
        """Give the status of a file; a loop under any of its names counts."""
        statuses = [self.forest.status(name) for name in self.forest.same_file(path)]
        if "loop" in statuses or path in self.cuts:
            return "loop"
        return self.forest.status(path)


def forest_graph(forest: Forest) -> Graph:
    """See a whole forest."""
    paths = tuple(dict.fromkeys(forest.same_file(path)[0] for path in forest.images))
    parents: dict[str, str] = {}
    for path in paths:
        parent = forest.parent(path)
        if parent is not None and parent in forest:
            parents[path] = forest.same_file(parent)[0]
    cuts: dict[str, str] = {}
    sound: set[str] = set()
    for start in paths:
        trail: dict[str, None] = {}
        step: str | None = start
        while step is not None and step not in sound and step not in trail:
            trail[step] = None
            step = parents.get(step)
        if step in trail:  # came back: cut at the first image of the loop that was met
            cuts[step] = parents.pop(step)
        sound.update(trail)
    return Graph(forest, paths, parents, forest.active, cuts, memory=_memory(forest))


def _memory(forest: Forest) -> dict[str, tuple[SnapshotRecord, str]]:
    found: dict[str, tuple[SnapshotRecord, str]] = {}
    for record in forest.records:
        if record.memory != "external":
            continue
        held = [disk.source for disk in record.held_disks if disk.source is not None]
        beside = held or [use.path for use in forest.uses if use.guest == record.guest]
        image = next((path for path in beside if path in forest), None)
        if image is not None:
            key = record.memory_file or f"{record.name} of {record.guest}"
            found[key] = record, forest.same_file(image)[0]
    return found


def chain_graph(chain: Chain) -> Graph:
    """See one chain."""
    layers = [image.path for image in chain.layers]
    parents = {above: below for below, above in itertools.pairwise(layers)}
    cuts: dict[str, str] = {}
    backing = chain.forest.parent(layers[0]) if layers else None
    if backing is not None and backing in layers:
        cuts[layers[0]] = backing
    inside = {name for path in layers for name in chain.forest.same_file(path)}
    others = {path: sum(child not in inside for child in chain.forest.children(path)) for path in layers}

    def active(path: str) -> bool:
        return chain.active(chain.forest[path])

    return Graph(chain.forest, tuple(layers), parents, active, cuts, others)


def tree_blocks(
    graph: Graph,
    options: Options,
    *,
    names: Mapping[str, str] | None = None,
    marks: Mapping[str, Mark] | None = None,
    columns: Mapping[str, int] | None = None,
    order: Mapping[str, int] | None = None,
) -> tuple[list[Block], list[str]]:
    """Lay out the trees of a graph.

    Parameters
    ----------
    graph : Graph
        What is to be drawn.
    options : Options
        How much of it.
    names : mapping of str to str, optional
        Names to show by path, where they are not to be found out from these images alone.
    marks : mapping of str to Mark, optional
        What a plan does.
    columns : mapping of str to int, optional
        Columns that images have in another figure and keep in this one if they can.
    order : mapping of str to int, optional
        Of the images that stand on the same one those of a low number come first, and the very first stays on its row;
        0 for those that are not named.

    Returns
    -------
    list of Block
        One for each tree, the base of each at row 0 and column 0.
    list of str
        Notes on images that are not as they should be.
    """
    return _Trees(graph, options, names or name_images(graph), marks or {}, columns or {}, order or {}).draw()


def name_images(*graphs: Graph) -> dict[str, str]:
    """Give all images of some graphs names that tell them apart."""
    images = {path: graph.forest[path].name for graph in graphs for path in graph.paths}
    for graph in graphs:
        for path in graph.cuts.values():
            images.setdefault(path, graph.forest[path].name)
    return distinct_names(images.items())


@dataclass(slots=True)
class _Trees:
    graph: Graph
    options: Options
    names: Mapping[str, str]
    marks: Mapping[str, Mark]
    columns: Mapping[str, int]
    order: Mapping[str, int]
    problems: dict[str, list[str]] = field(default_factory=dict)

    def draw(self) -> tuple[list[Block], list[str]]:
        graph = self.graph
        children: dict[str, list[str]] = {}
        for path in graph.paths:
            if path in graph.parents:
                children.setdefault(graph.parents[path], []).append(path)
        for key, (_, image) in graph.memory.items():
            if image in graph.paths:
                children.setdefault(image, []).append(key)
        roots = [path for path in graph.paths if path not in graph.parents]
        for row in (roots, *children.values()) if self.order else ():
            row.sort(key=lambda path: self.order.get(path, 0))
        broken = [path for path in graph.paths if graph.status(path) != "ok"]
        important = {path for path in (*graph.paths, *graph.memory) if path in self.marks}
        if len(important) > _MOST_BROKEN:
            important = set(list(self.marks)[:2]) & set(graph.paths)
        if len(broken) <= _MOST_BROKEN:
            important.update(broken)
        trees = grow(roots, children, fold=self.options.fold, keep=self.options.keep, important=important)
        blocks = [self._block(tree) for tree in trees]
        notes = [f"{_some(names)}: {problem}" for problem, names in self.problems.items()]
        if len(notes) > _MOST_NOTES:
            more = sum(len(names) for names in list(self.problems.values())[_MOST_NOTES - 1 :])
            notes[_MOST_NOTES - 1 :] = [f"… and {more} more images with a problem"]
        return blocks, notes

    def _block(self, tree: Node) -> Block:
        return lay_out(tree, self._box, columns=self.columns, changed=self._changed)

    def _changed(self, path: str) -> bool:
        return path in self.marks and self.marks[path].changed_arrow

    def _box(self, what: str | Fold, /, *, row: int, column: int, trunks: int) -> Box:
        if isinstance(what, Fold):
            what = replace(what, members=tuple(path for path in what.members if path not in self.graph.memory))
            title = "folded: " + ", ".join(self.names[path] for path in what.members[:20])
            title += ", …" if len(what.members) > 20 else ""
            key = f"{what.kind} from {shown(what.members[0])}"
            return Box(key, tuple(self._fold_lines(what)), title, "fold", row, column, trunks=trunks)
        if what in self.graph.memory:
            return self._memory_box(what, row, column, trunks)
        image = self.graph.forest[what]
        status = self.graph.status(what)
        title = isolate(shown(what))
        if image.snapshots:
            title += "\nsnapshots inside: " + ", ".join(shown(one.name) for one in image.snapshots[:20])
        if image.problem:
            title += "\n" + shown(image.problem)
            self.problems.setdefault(shown(image.problem), []).append(self.names[what])
        mark = self.marks.get(what)
        shape: Shape = "image"
        if status != "ok":
            shape = STATUS_WORDS[status][1]
        elif mark is not None and mark.shape is not None:
            shape = mark.shape
        active = self.graph.active(what)
        lines = tuple(self._lines(what, image, status, active))
        return Box(what, lines, title, shape, row, column, active and self.options.shows("active"), what, trunks)

    def _memory_box(self, key: str, row: int, column: int, trunks: int) -> Box:
        record, _ = self.graph.memory[key]
        name = key if record.memory_file is None else record.memory_file.rpartition("/")[2]
        lines = [Line(isolate(clip(shown(name))), "name")]
        if key in self.marks:
            lines.append(Line(self.marks[key].text, "mark"))
        guest = isolate(clip(shown(record.guest)))
        lines.append(Line(f"(memory of {guest})", "format"))
        if record.kind != "vm-state":
            lines.append(Line(f"snapshot {isolate(clip(shown(record.name)))}"))
        if self.options.shows("sizes") and record.memory_size is not None:
            lines.append(Line(f"{human_size(record.memory_size)} on disk"))
        return Box(key, tuple(lines), f"memory of {guest}: {shown(key)}", "memory", row, column, trunks=trunks)

    def _lines(self, path: str, image: Image, status: Status, active: bool) -> list[Line]:
        shows, forest = self.options.shows, self.graph.forest
        lines = [Line(self.names[path], "name")]
        if status != "ok":
            known = status == "unknown" and image.format is not None  # and qemu-img, which reads it, is not here
            lines.append(Line("NOT READ" if known else STATUS_WORDS[status][0], "status"))
        if path in self.graph.cuts:
            lines.append(Line(f"its backing file is {self.names[self.graph.cuts[path]]}", "status"))
        elif image.backing is not None and path not in self.graph.parents and image.backing.key not in forest:
            lines.append(Line(f"on {isolate(clip(shown(image.backing.key)))}, not read", "status"))
        if image.format == "qcow2" and image.backing is not None and image.backing.format is None:
            lines.append(Line("NO BACKING FORMAT", "status"))
        if path in self.marks:
            lines.append(Line(self.marks[path].text, "mark"))
        label = self.options.labels.get(path, self.options.labels.get(image.name))
        if label is not None:
            lines.append(Line(shown(label), "format"))
        elif shows("format") and image.format:
            lines.append(Line(f"({shown(image.format)})", "format"))
        if shows("active") and active:
            lines.append(Line("(Active)", "active"))
        if shows("sizes"):
            sizes = [] if image.virtual_size is None else [human_size(image.virtual_size)]
            sizes += [] if image.allocated is None else [f"{human_size(image.allocated)} on disk"]
            if sizes:
                lines.append(Line(", ".join(sizes)))
        if shows("users"):
            lines += self._users(path)
        if shows("snapshots") and image.snapshots:
            lines.append(Line(plural(len(image.snapshots), "internal snapshot")))
        links = [name for name in forest.same_file(path) if name != path]
        if shows("links") and links:
            also = isolate(clip(shown(links[0].rpartition("/")[2])))
            lines.append(Line(f"also named {also}" + (f" and {len(links) - 1} more" if len(links) > 1 else "")))
        if shows("others") and self.graph.others.get(path):
            lines.append(Line("+ " + plural(self.graph.others[path], "other overlay")))
        if shows("protected") and not image.writable and image.status == "ok":
            lines.append(Line("write-protected"))
        return lines

    def _users(self, path: str) -> list[Line]:
        names = set(self.graph.forest.same_file(path))
        uses = [use for use in self.graph.forest.users(path) if use.path in names]
        said = [
            f"{isolate(clip(shown(use.guest)))}: {shown(use.target)}" + (f" ({use.state})" if use.running else "")
            for use in uses
        ]
        if len(said) > _MOST_USERS:
            said[_MOST_USERS - 1 :] = [f"and {len(said) - _MOST_USERS + 1} more disks"]
        return [Line(text) for text in said]

    def _fold_lines(self, fold: Fold) -> list[Line]:
        graph, shows = self.graph, self.options.shows
        images = [graph.forest[path] for path in fold.members]
        noun = {"layers": "layer", "overlays": "overlay", "bases": "base"}[fold.kind]
        lines = [Line(f"… {plural(fold.count, 'more ' + noun)} …", "name")]
        if len(images) != fold.count:
            lines.append(Line(f"({plural(len(images), 'image')})"))
        for status, count in sorted(Counter(graph.status(path) for path in fold.members).items()):
            if status != "ok":
                lines.append(Line(f"{count} {STATUS_WORDS[status][0]}", "status"))
        for text, count in sorted(Counter(self.marks[p].text for p in fold.members if p in self.marks).items()):
            lines.append(Line(f"{count} {text}", "mark"))
        active = sum(graph.active(path) for path in fold.members)
        if shows("active") and active:
            lines.append(Line(f"({active} Active)", "active"))
        sizes = [image.allocated for image in images if image.allocated is not None]
        if shows("sizes") and sizes:
            lines.append(Line(f"{human_size(sum(sizes))} on disk"))
        if shows("users"):
            guests = {use.guest for path in fold.members for use in graph.forest.users(path)}
            if guests:
                lines.append(Line("used by " + plural(len(guests), "guest")))
        snapshots = sum(len(image.snapshots) for image in images)
        if shows("snapshots") and snapshots:
            lines.append(Line(plural(snapshots, "internal snapshot")))
        return lines


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NOTES} more" if len(names) > _MOST_NOTES else ""
    return ", ".join(names[:_MOST_NOTES]) + more


def chain_paths(blocks: Sequence[Block]) -> dict[str, int]:
    """Give the column of each image that is drawn."""
    return {box.path: box.column for block in blocks for box in block.boxes if box.path is not None}
