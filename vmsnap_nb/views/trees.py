"""From a forest or a chain to the blocks of a figure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.model.image import Image, Status
from vmsnap_nb.model.need import Need
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.views.box_lines import bitmaps_line, fill_of, sizes_line, snapshots_line, use_line
from vmsnap_nb.views.figure import Arrow, Block, Box, Line, Options, Shape, Tone, fold_name
from vmsnap_nb.views.folding import Fold, Node, grow
from vmsnap_nb.views.layout import lay_out
from vmsnap_nb.views.shown_text import clip, distinct_names, isolate, natural, shown
from vmsnap_nb.words.message import N_, Message, counted, joined, t

__all__ = ["STATUS_WORDS", "Graph", "Mark", "chain_graph", "cut_loops", "forest_graph", "image_box", "tree_blocks"]

STATUS_WORDS: Mapping[Status, tuple[str, Shape]] = {
    "missing": (N_("MISSING"), "broken"),
    "unreadable": (N_("UNREADABLE"), "broken"),
    "not-a-file": (N_("NOT A FILE"), "broken"),
    "corrupt": (N_("CORRUPT"), "broken"),
    "unsupported": (N_("UNSUPPORTED FEATURES"), "broken"),
    "unknown": (N_("UNKNOWN FORMAT"), "unopened"),
    "outside": (N_("OUTSIDE, not opened"), "unopened"),
    "remote": (N_("REMOTE, not opened"), "unopened"),
    "loop": (N_("LOOP in its backing chain"), "loop"),
    "invalid": (N_("INVALID, was merged"), "gone"),
    "in-use": (N_("IN USE by a process"), "in-use"),
    "dirty": (N_("DIRTY, not closed"), "image"),
}
"""For each status but "ok": the template of what the box says, and its shape."""

_TONES: Mapping[Shape, Tone] = {"new": "good", "gone": "warn", "broken": "bad"}
_MOST_NOTES = 8
_MOST_BROKEN = 10  # more broken images than this are folded with the others, and counted in the fold
_MOST_USERS = 3
_MOST_ENDS = 3  # more branches that guests write to cannot all be drawn


@dataclass(frozen=True, slots=True)
class Mark:
    """What a plan does to an image: a line for its box, and a shape."""

    text: str
    shape: Shape | None = None
    changed_arrow: bool = False
    tone: Tone = "accent"  # where the shape does not give one

    def line(self) -> Line:
        """Return its line in a box."""
        return Line(self.text, "mark", tone=_TONES.get(self.shape, self.tone) if self.shape else self.tone)


@dataclass(frozen=True)
class Graph:
    """Images as a figure sees them: each file once, and no loop."""

    forest: Forest
    paths: tuple[str, ...]  # one path for each file
    parents: Mapping[str, str]  # the backing file, where there is one in the figure; loops are cut at one place
    active: Callable[[str], bool]  # whether writes go to an image
    cuts: Mapping[str, str] = field(default_factory=dict)  # where a loop was cut: the image and its backing file
    # How many overlays are not in the figure, by the image that they are based on.
    others: Mapping[str, int] = field(default_factory=dict)
    # Files of saved memory, by path, each with its record and the image whose state belongs to it.
    memory: Mapping[str, tuple[SnapshotRecord, str]] = field(default_factory=dict)

    def status(self, path: str) -> Status:
        """Return the status of a file; a loop under any of its names counts."""
        statuses = [self.forest.status(name) for name in self.forest.same_file(path)]
        if "loop" in statuses or path in self.cuts:
            return "loop"
        return self.forest.status(path)


def forest_graph(forest: Forest, options: Options) -> Graph:
    """See a whole forest."""
    paths = tuple(dict.fromkeys(forest.same_file(path)[0] for path in forest.images))
    parents: dict[str, str] = {}
    for path in paths:
        parent = forest.parent(path)
        if parent is not None and parent in forest.images:
            parents[path] = forest.same_file(parent)[0]
    cuts = cut_loops(paths, parents)
    active = forest.active if options.style == "handout" else _written(forest)
    return Graph(forest, paths, parents, active=active, cuts=cuts, memory=_memory(forest))


def cut_loops(paths: Iterable[str], parents: dict[str, str]) -> dict[str, str]:
    """Take an edge out of each loop; return these edges."""
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
    return cuts


def _written(forest: Forest) -> Callable[[str], bool]:
    """Return whether a guest writes to an image."""
    return lambda path: bool(forest.known_writers(path))


def _memory(forest: Forest) -> dict[str, tuple[SnapshotRecord, str]]:
    found: dict[str, tuple[SnapshotRecord, str]] = {}
    saved = (*forest.needs, *forest.stale_memory)
    files = {need.name: need for need in saved if need.kind == "saved memory" and need.path in forest.images}
    found |= {path: (_saved(need), forest.same_file(need.path)[0]) for path, need in files.items()}
    for record in forest.records:
        if record.memory != "external":
            continue
        held = [disk.source for disk in record.held_disks if disk.source is not None]
        beside = held or [use.path for use in forest.uses if use.guest == record.guest]
        image = next((path for path in beside if path in forest.images), None)
        if image is not None:
            key = record.memory_file or f"{record.name} of {record.guest}"
            found[key] = record, forest.same_file(image)[0]
    return found


def _saved(need: Need) -> SnapshotRecord:
    return SnapshotRecord(need.guest, need.name, "", memory="external", memory_file=need.name)


def chain_graph(chain: Chain, options: Options) -> Graph:
    """See one chain."""
    layers = [image.path for image in chain.layers]
    parents = {above: below for below, above in itertools.pairwise(layers)}
    cuts: dict[str, str] = {}
    backing = chain.forest.parent(layers[0]) if layers else None
    if backing is not None and backing in layers:
        cuts[layers[0]] = backing
    inside = {name for path in layers for name in chain.forest.same_file(path)}
    others = {path: sum(child not in inside for child in chain.forest.children(path)) for path in layers}

    def handed(path: str) -> bool:
        return chain.active(chain.forest[path])

    active = handed if options.style == "handout" else _written(chain.forest)
    return Graph(chain.forest, tuple(layers), parents, active=active, cuts=cuts, others=others)


def tree_blocks(
    graph: Graph,
    options: Options,
    *,
    names: Mapping[str, str] | None = None,
    marks: Mapping[str, Mark] | None = None,
    columns: Mapping[str, int] | None = None,
    order: Mapping[str, int] | None = None,
    only: AbstractSet[str] | None = None,
) -> tuple[list[Block], list[str]]:
    """Return the trees of a graph, laid out, and notes on images that are not as they should be.

    The base of each is at row 0 and column 0. `names` are names to show by path, where they are not to be found out
    from these images alone; `columns` those that images have in another figure and keep in this one if they can. Of the
    images that are based on the same one those of a low `order` come first, and the very first stays on its row; 0 for
    those that are not named. If `only` is given, branches without any of its images are folded.
    """
    return _Trees(
        graph,
        options,
        names=names or name_images(graph),
        marks=marks or {},
        columns=columns or {},
        order=order or {},
        only=only,
    ).draw()


def image_box(graph: Graph, path: str, options: Options, *, names: Mapping[str, str], marks: Mapping[str, Mark]) -> Box:
    """Return the box of one image, or of saved memory, at no place yet."""
    trees = _Trees(graph, options, names=names, marks=marks, columns={}, order={}, only=None)
    return trees.box(path, row=0, column=0, trunks=0)


def name_images(*graphs: Graph) -> dict[str, str]:
    """Return for all images of some graphs names that tell them apart."""
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
    only: AbstractSet[str] | None
    problems: dict[str, list[str]] = field(default_factory=dict)

    def draw(self) -> tuple[list[Block], list[str]]:
        graph = self.graph
        children: dict[str, list[str]] = {}
        for path in graph.paths:
            if path in graph.parents:
                children.setdefault(graph.parents[path], []).append(path)
        only = None if self.options.fold is None else self.only
        for key, (_, image) in graph.memory.items():
            if image in graph.paths and (only is None or key in only or key in self.marks):
                children.setdefault(image, []).append(key)
        roots = [path for path in graph.paths if path not in graph.parents]
        for row in (roots, *children.values()):
            row.sort(key=self._place_in_row)
        broken = [path for path in graph.paths if graph.status(path) != "ok"]
        important = {path for path in (*graph.paths, *graph.memory) if path in self.marks}
        if len(important) > _MOST_BROKEN:
            important = set(list(self.marks)[:2]) & set(graph.paths)
        fold, keep = self.options.fold, self.options.keep
        if self.only is not None and fold is not None:
            important.update(self.only if len(self.only) <= _MOST_BROKEN else ())
            fold, keep = 1, 0
        changed = frozenset(important)
        if len(broken) <= _MOST_BROKEN:
            important.update(broken)
        apart = self._apart(children) if fold is not None and self.only is None else frozenset()
        active = frozenset(path for path in graph.paths if graph.active(path))
        trees = grow(
            roots,
            children,
            fold=fold,
            keep=keep,
            columns=self.options.columns,
            important=important,
            changed=changed,
            apart=apart,
            ends=active if len(active) <= _MOST_ENDS else frozenset(),
        )
        blocks = [self._block(tree) for tree in trees]
        notes: list[str] = [
            t("{image}: {problem}", image=_some(names), problem=why) for why, names in self.problems.items()
        ]
        if len(notes) > _MOST_NOTES:
            more = sum(len(names) for names in list(self.problems.values())[_MOST_NOTES - 1 :])
            notes[_MOST_NOTES - 1 :] = [t("… and {count} more images with a problem", count=more)]
        return blocks, notes

    def _apart(self, children: Mapping[str, Sequence[str]]) -> frozenset[str]:
        """Return the branches that have none of the images of `Options.only`."""
        forest = self.graph.forest
        near = {forest.same_file(path)[0] for path in self.options.only if path in forest.images}
        if not near:
            return frozenset()
        parents = {child: path for path, overlays in children.items() for child in overlays}
        for path in list(near):
            while (path := parents.get(path, "")) and path not in near:
                near.add(path)
        return frozenset(self.graph.paths) - near

    def _place_in_row(self, path: str) -> tuple[int, bool, tuple[tuple[int, str], ...]]:
        """Return by what images side by side are sorted: as given, memory and invalid images last, then by name."""
        memory = path in self.graph.memory
        last = memory or self.graph.status(path) == "invalid"  # what is still read stays on the row of its base
        return self.order.get(path, 0), last, () if memory else natural(self.names[path])

    def _block(self, tree: Node) -> Block:
        block = lay_out(tree, self.box, columns=self.columns, changed=self._changed)
        places = {box.path: place for place, box in enumerate(block.boxes) if box.path is not None}
        ends = [(path, backing) for path, backing in self.graph.cuts.items() if path in places and backing in places]
        closing = (Arrow(places[path], places[backing], wrong=True, beside=True) for path, backing in ends)
        boxes = list(block.boxes)
        for path, _ in ends:  # a picture says it by the arrow
            box, said = boxes[places[path]], self._cut_line(path)
            lines = tuple(replace(line, picture="") if line == said else line for line in box.lines)
            boxes[places[path]] = replace(box, lines=lines)
        return replace(block, boxes=tuple(boxes), arrows=(*block.arrows, *closing))

    def _changed(self, path: str) -> bool:
        return path in self.marks and self.marks[path].changed_arrow

    def box(self, what: str | Fold, /, *, row: int, column: int, trunks: int) -> Box:
        if isinstance(what, Fold):
            what = replace(what, members=tuple(path for path in what.members if path not in self.graph.memory))
            for path in what.members:
                if problem := self.graph.forest[path].problem:
                    self.problems.setdefault(shown(problem), []).append(self.names[path])
            names = joined(self.names[path] for path in what.members[:20])
            title = (
                t("folded: {names}, …", names=names) if len(what.members) > 20 else t("folded: {names}", names=names)
            )
            key = f"{what.kind} from {shown(what.members[0])}"
            lines = tuple(self._fold_lines(what))
            return Box(key, lines, title, shape="fold", row=row, column=column, trunks=trunks, members=what.members)
        if what in self.graph.memory:
            return self._memory_box(what, row, column, trunks)
        image = self.graph.forest[what]
        status = self.graph.status(what)
        about = [isolate(shown(what))]
        if image.snapshots:
            inside = joined(shown(snapshot.name) for snapshot in image.snapshots[:20])
            about.append(t("internal snapshots: {names}", names=inside))
        if image.bitmaps:
            about.append(t("dirty bitmaps: {names}", names=joined(shown(one.name) for one in image.bitmaps[:20])))
        if image.problem:
            about.append(shown(image.problem))
            self.problems.setdefault(shown(image.problem), []).append(self.names[what])
        mark = self.marks.get(what)
        shape: Shape = "image" if status == "ok" else STATUS_WORDS[status][1]
        if shape == "image" and mark is not None and mark.shape is not None:
            shape = mark.shape
        active = self.graph.active(what)
        lines = tuple(self._lines(what, image, status, active))
        return Box(
            what,
            lines,
            "\n".join(about),
            shape=shape,
            row=row,
            column=column,
            active=active and self.options.shows("active"),
            path=what,
            trunks=trunks,
            fill=fill_of(image.virtual_size, image.allocated) if self.options.shows("sizes") else None,
        )

    def _memory_box(self, key: str, row: int, column: int, trunks: int) -> Box:
        record, _ = self.graph.memory[key]
        guest = isolate(clip(shown(record.guest)))
        name: str = t("managed save of {guest}", guest=guest)  # libvirt names no file of it
        if record.memory_file is not None:
            name = isolate(clip(shown(record.memory_file.rpartition("/")[2])))
        lines = [Line(name, "name")]
        if key in self.marks:
            lines.append(self.marks[key].line())
        lines.append(Line(t("(memory of {guest})", guest=guest), "format"))
        if record.kind != "vm-state":
            lines.append(Line(t("snapshot {name}", name=isolate(clip(shown(record.name))))))
        if self.options.shows("sizes") and record.memory_size is not None:
            lines += _known(sizes_line(None, record.memory_size))
        title = t("memory of {guest}: {file}", guest=guest, file=shown(key))
        return Box(key, tuple(lines), title, shape="memory", row=row, column=column, trunks=trunks)

    def _lines(self, path: str, image: Image, status: Status, active: bool) -> list[Line]:
        shows, forest = self.options.shows, self.graph.forest
        lines = [Line(self.names[path], "name")]
        if status != "ok":
            known = status == "unknown" and image.format is not None  # and qemu-img, which reads it, is not here
            lines.append(Line(t("NOT READ") if known else t(STATUS_WORDS[status][0]), "status"))
        if path in self.graph.cuts:
            lines.append(self._cut_line(path))
        elif image.backing is not None and path not in self.graph.parents and image.backing.key not in forest.images:
            lines.append(Line(t("on {image}, not read", image=isolate(clip(shown(image.backing.key)))), "status"))
        if image.format == "qcow2" and image.backing is not None and image.backing.format is None:
            lines.append(Line(t("NO BACKING FORMAT"), "status"))
        if path in self.marks:
            lines.append(self.marks[path].line())
        label = self.options.labels.get(path, self.options.labels.get(image.name))
        if label is not None:
            lines.append(Line(shown(label), "format"))
        elif shows("format") and image.format:
            kind = shown(image.format)
            text = t("({format}, block device)", format=kind) if image.device else f"({kind})"
            usual = image.format == "qcow2" and not image.device
            lines.append(Line(text, "format", picture="" if usual else None))
        if shows("active") and active:
            lines.append(Line(t("(Active)"), "active", tone="accent"))
        if shows("sizes"):
            lines += _known(sizes_line(image.virtual_size, image.allocated))
        if shows("users"):
            lines += self._users(path)
        if shows("snapshots") and image.snapshots:
            lines.append(snapshots_line(len(image.snapshots)))
        if shows("bitmaps") and image.bitmaps:
            lines.append(bitmaps_line(len(image.bitmaps)))
        links = [name for name in forest.same_file(path) if name != path]
        if shows("links") and links:
            also = isolate(clip(shown(links[0].rpartition("/")[2])))
            more = len(links) - 1
            named = t("also named {name} and {count} more", name=also, count=more) if more else None
            lines.append(Line(named or t("also named {name}", name=also)))
        if shows("others") and (count := self.graph.others.get(path)):
            lines.append(Line(counted("+ {count} other overlay", "+ {count} other overlays", count)))
        if shows("protected") and not image.writable and image.status == "ok":
            lines.append(Line(t("write-protected")))
        return lines

    def _cut_line(self, path: str) -> Line:
        return Line(t("its backing file is {image}", image=self.names[self.graph.cuts[path]]), "status")

    def _users(self, path: str) -> list[Line]:
        names = set(self.graph.forest.same_file(path))
        uses = [use for use in self.graph.forest.known_users(path) if use.path in names]
        said = [use_line(use) for use in uses]
        said += [Line(isolate(clip(shown(text)))) for text in dict.fromkeys(need.text for need in self._needs(path))]
        if len(said) > _MOST_USERS:
            said[_MOST_USERS - 1 :] = [Line(t("and {count} more users", count=len(said) - _MOST_USERS + 1))]
        return said

    def _needs(self, path: str) -> Iterator[Need]:
        """Yield what needs the image beside what is drawn as what it is: disks, overlays, memory."""
        drawn = {"disk", "snapshot", "managed save", "saved memory"}
        return (need for need in self.graph.forest.known_needs(path) if need.kind not in drawn)

    def _fold_lines(self, fold: Fold) -> list[Line]:
        graph, shows = self.graph, self.options.shows
        images = [graph.forest[path] for path in fold.members]
        guests = {use.guest for path in fold.members for use in graph.forest.known_users(path)}
        only = self.options.only
        of_others = bool(only) and set(only).isdisjoint(fold.members) and fold.kind != "layers"
        of_guests = of_others and len(guests) == fold.count
        name = counted("… {count} other guest …", "… {count} other guests …", len(guests)) if of_guests else None
        lines = [fold_name(name or _folded(fold))]
        if len(images) != fold.count:
            lines.append(Line(counted("({count} image)", "({count} images)", len(images))))
        for status, count in sorted(Counter(graph.status(path) for path in fold.members).items()):
            if status != "ok":
                lines.append(Line(t("{count} {what}", count=count, what=t(STATUS_WORDS[status][0])), "status"))
        for text, count in sorted(Counter(self.marks[p].text for p in fold.members if p in self.marks).items()):
            plain = t("{count} {what}", count=count, what=text.strip("()（）"))
            lines.append(Line(t("{count} {what}", count=count, what=text), "mark", picture=plain))
        active = sum(graph.active(path) for path in fold.members)
        if shows("active") and active:
            lines.append(Line(t("({count} Active)", count=active), "active"))
        sizes = [image.allocated for image in images if image.allocated is not None]
        if shows("sizes") and sizes:
            lines += _known(sizes_line(None, sum(sizes)))
        if shows("users") and guests and not of_guests:
            lines.append(Line(counted("used by {count} guest", "used by {count} guests", len(guests))))
        snapshots = sum(len(image.snapshots) for image in images)
        if shows("snapshots") and snapshots:
            lines.append(snapshots_line(snapshots))
        bitmaps = sum(len(image.bitmaps) for image in images)
        if shows("bitmaps") and bitmaps:
            lines.append(bitmaps_line(bitmaps))
        return lines


def _folded(fold: Fold) -> Message:
    if fold.kind == "layers":
        return counted("… {count} more layer …", "… {count} more layers …", fold.count)
    if fold.kind == "overlays":
        return counted("… {count} more overlay …", "… {count} more overlays …", fold.count)
    return counted("… {count} more base …", "… {count} more bases …", fold.count)


def _known(line: Line | None) -> list[Line]:
    return [] if line is None else [line]


def _some(names: Sequence[str]) -> Message:
    first = joined(names[:_MOST_NOTES])
    more = len(names) - _MOST_NOTES
    return t("{names}, and {count} more", names=first, count=more) if more > 0 else first


def chain_paths(blocks: Sequence[Block]) -> dict[str, int]:
    """Return the column of each image that is drawn."""
    return {box.path: box.column for block in blocks for box in block.boxes if box.path is not None}
