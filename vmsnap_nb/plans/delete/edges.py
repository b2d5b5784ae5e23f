"""Snapshots as edges of the graph of images, and questions about it: who needs an image, what is merged together.

An external snapshot is an edge: below it the image that holds the state of that moment, above it the overlay to which
everything was written afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans.checks.needed import beyond
from vmsnap_nb.plans.merge.checks import sound
from vmsnap_nb.words.message import Message, counted, listed, t

__all__ = ["Run", "Staying", "below", "edges_of", "maybe_committed", "runs_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Edges of one disk that follow each other, or only one: from the image at the bottom to the overlay at the top.

    `names` are those of the snapshots.
    """

    target: str
    base: str
    top: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Staying:
    """What is there when a part of a deletion is done: the images, and the records of the snapshots that stay.

    They are those of all guests; `guest` is the one whose snapshots are deleted.
    """

    forest: Forest
    records: tuple[SnapshotRecord, ...]
    guest: str = ""

    def overlays(self, path: str) -> tuple[str, ...]:
        """Return what is based on an image, but for what is marked as invalid."""
        return tuple(child for child in self.forest.known_children(path) if sound(self.forest, child))

    def states(self, path: str) -> tuple[str, ...]:
        """Return the external snapshots whose state an image is: it must not change, or go."""
        return self._holding(path, "external")

    def needed(self, path: str) -> bool:
        """Return whether anything but the snapshots that go needs an image."""
        names = self.forest.same_file(path)
        named = any(disk.file in names for record in self.records for disk in record.disks)
        inside = self._holding(path, "internal")
        needed = self.forest.known_users(path) or self.overlays(path) or self.states(path) or self.others(path)
        return bool(needed or named or inside)

    def others(self, path: str) -> tuple[str, ...]:
        """Return what else needs an image, beside disks of guests, overlays and snapshots."""
        return tuple(dict.fromkeys(t("the {need}", need=need.text) for need in beyond(self.forest, path)))

    def why_stays(self, path: str, besides: Sequence[str] = ()) -> Message | None:
        """Return why a layer stays once it was pulled into what is based on it, if there is a reason.

        `besides` do not count as overlays: they read it through the image into which it was pulled.
        """
        name = self.forest[path].name
        if not self.forest[path].writable:
            return t("{image} is kept because it is write-protected", image=name)
        others = [self.forest[child].name for child in self.overlays(path) if child not in besides]
        states = [t("snapshot {name}", name=one) for one in (*self.states(path), *self._of_others(path))]
        found = dict.fromkeys([*others, *self._direct_users(path), *states, *self.others(path)])
        if not found:
            return None
        return counted(
            "{image} is kept because {needing} still needs it",
            "{image} is kept because {needing} still need it",
            len(found),
            image=name,
            needing=listed(list(found)[:3]),
        )

    def is_inner(self, path: str) -> bool:
        """Return whether nobody needs an image but the one overlay that is based on it."""
        return (
            len(self.overlays(path)) == 1
            and not self.states(path)
            and not self._direct_users(path)
            and not self._of_others(path)
            and not self.others(path)
        )

    def _direct_users(self, path: str) -> tuple[str, ...]:
        names = self.forest.same_file(path)
        return tuple(dict.fromkeys(use.guest for use in self.forest.uses if use.path in names))

    def _holding(self, path: str, held: str) -> tuple[str, ...]:
        names = self.forest.same_file(path)
        return tuple(
            self._name(record)
            for record in self.records
            if any(disk.held == held and disk.source in names for disk in record.disks)
        )

    def _of_others(self, path: str) -> tuple[str, ...]:
        """Return the snapshots of other guests that name an image."""
        names = self.forest.same_file(path)
        return tuple(
            self._name(record)
            for record in self.records
            if record.guest != self.guest and any({disk.source, disk.file} & {*names} for disk in record.held_disks)
        )

    def _name(self, record: SnapshotRecord) -> str:
        if record.guest == self.guest:
            return record.name
        return t("{name} of {guest}", name=record.name, guest=record.guest)


def edges_of(records: Iterable[SnapshotRecord]) -> tuple[Run, ...]:
    """Return the edges of some snapshots."""
    return tuple(
        Run(target=disk.target, base=disk.source, top=disk.file, names=(record.name,))
        for record in records
        for disk in record.disks
        if disk.held == "external" and disk.source and disk.file
    )


def below(forest: Forest, edge: Run) -> str | None:
    """Return the image at the bottom as the chain names it; None where the overlay is not based on it."""
    names = forest.same_file(edge.base)
    return next((path for path in forest.known_lineage(edge.top)[1:] if path in names), None)


def runs_of(staying: Staying, edges: Iterable[Run]) -> list[Run]:
    """Return the runs that edges make, the lowest first: those that follow each other are merged at once."""
    runs: list[Run] = []
    for edge in sorted(dict.fromkeys(edges), key=lambda edge: staying.forest.depth(edge.top)):
        lower = next((run for run in runs if run.top == edge.base and staying.is_inner(run.top)), None)
        if lower is None:
            runs.append(edge)
        elif edge.names[0] not in lower.names:
            runs[runs.index(lower)] = replace(edge, base=lower.base, names=(*lower.names, *edge.names))
    return runs


def maybe_committed(forest: Forest) -> Iterator[tuple[str, str]]:
    """Return overlays that may have been committed already, each with the image below it.

    Records say that images are based on such an overlay, but all of them are on the image below, and nobody reads the
    overlay: libvirt leaves that behind where it is interrupted in a deletion. A rebase by hand leaves the same: whether
    the two have the same content must be seen.
    """
    above: dict[str, list[str]] = {}
    for edge in edges_of(forest.records):
        if edge.base in forest.images:
            above.setdefault(edge.base, []).append(edge.top)
    for top, files in above.items():
        base = forest.parent(top)
        if base is None or base not in forest.images or forest.known_children(top) or forest.known_users(top):
            continue
        if all(file in forest.images and forest.parent(file) in forest.same_file(base) for file in files):
            yield top, base
