"""The layers that two states of a disk are read from: the newest first, the middle of a long chain folded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from vmsnap_nb.model.files import DiskLayer, FileChanges
from vmsnap_nb.views.labels import moment_text
from vmsnap_nb.words.message import Message, counted

__all__ = ["LayerRow", "fold_text", "layer_rows"]

_MOST = 8
"""Layers that are shown one by one, unless each has a reason of its own."""


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer, or several that are folded, the base first."""

    layers: tuple[DiskLayer, ...]
    below: int | None  # the place of the row that it is based on
    moments: tuple[str, ...] = ()  # the states that end with it
    changes: int = 0  # files that it holds the change of

    @property
    def folded(self) -> bool:
        """Whether it is a fold."""
        return len(self.layers) > 1

    @property
    def marked(self) -> bool:
        """Whether what changed is in it."""
        return bool(self.changes) or any(layer.states == ("after",) for layer in self.layers)


def layer_rows(changes: FileChanges) -> list[LayerRow]:
    """Return a row for each layer or fold, the newest layer first."""
    layers = changes.layers
    ends = _ends(changes)
    counts = Counter(change.layer for change in changes if change.layer)
    keep = {0, len(layers) - 1, *ends}
    if len(layers) <= _MOST:
        keep = set(range(len(layers)))
    else:
        busy = sorted(
            (n for n, layer in enumerate(layers) if counts[layer.name]), key=lambda n: -counts[layers[n].name]
        )
        keep |= set(busy[: max(_MOST - len(keep), 0)])
    stretches = list(_stretches(layers, keep))
    places = {number: len(stretches) - 1 - at for at, numbers in enumerate(stretches) for number in numbers}
    return [
        LayerRow(
            tuple(layers[number] for number in numbers),
            places.get(_below(layers, numbers[0])),
            tuple(ends.get(numbers[0], ())),
            sum(counts[layers[number].name] for number in numbers),
        )
        for numbers in reversed(stretches)
    ]


def _ends(changes: FileChanges) -> dict[int, list[str]]:
    """Return the names of the states that end with a layer, by its place; one that is called like it needs none."""
    found: dict[int, list[str]] = {}
    for state, name in (("before", changes.before), ("after", changes.after)):
        places = [number for number, layer in enumerate(changes.layers) if state in layer.states]
        if places:
            names = found.setdefault(places[-1], [])
            names += [moment_text(name)] if name != changes.layers[places[-1]].name else []
    return found


def _below(layers: tuple[DiskLayer, ...], number: int) -> int:
    """Return the place of the layer that one is based on; of the base one that is not there."""
    states = layers[number].states
    return next((n for n in range(number - 1, -1, -1) if set(states) <= set(layers[n].states)), -1)


def _stretches(layers: tuple[DiskLayer, ...], keep: set[int]) -> Iterator[list[int]]:
    """Yield the places of layers that stand for themselves, and of several that are folded."""
    for (kept, _), some in groupby(enumerate(layers), lambda pair: (pair[0] in keep, pair[1].states)):
        numbers = [number for number, _ in some]
        yield from [[number] for number in numbers] if kept or len(numbers) == 1 else [numbers]


def fold_text(row: LayerRow) -> Message:
    """Return what a fold is called."""
    return counted("… {count} more layer …", "… {count} more layers …", len(row.layers))
