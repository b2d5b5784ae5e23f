"""The steps of a merge with ``verify``: content is compared before anything is switched to it, and again at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.plans.merge import checks
from vmsnap_nb.plans.merge.steps import CheckContent, CommitLayers, PullLayers, TakeContent
from vmsnap_nb.plans.step import Step

__all__ = ["with_content"]


def with_content(before: Forest, after: Forest, copying: Sequence[Step], merged: Mapping[str, str]) -> list[Step]:
    """Return the copying steps of a merge, with those that read content around and between them.

    Every disk that survives is read before and after: the leaves that read anything of what is changed. `merged` has
    the base of each top. What overlays are switched to is read before they are, and so is what is left of a layer into
    which others were pulled.
    """
    taken: dict[str, Step] = {}
    tops = {base: top for top, base in merged.items()}

    def check(path: str, was: str, format: str) -> Step:
        image = before[was]
        taken[was] = TakeContent(path=was, format=image.format or "raw", length=image.virtual_size)
        return CheckContent(path=path, format=format, was=was, length=image.virtual_size)

    steps: list[Step] = []
    for step in copying:
        steps.append(replace(step, verify=True) if isinstance(step, PullLayers) else step)
        if isinstance(step, CommitLayers) and step.entry.children:
            base, top = step.entry.base, step.entry.top
            steps.append(check(base, top, before[base].format or "raw"))
    written = dict.fromkeys(path for step in copying for path in step.writes)
    steps += [check(path, tops.get(path, path), after[path].format or "raw") for path in _surviving(after, written)]
    return [*taken.values(), *steps]


def _surviving(forest: Forest, written: Iterable[str]) -> Iterator[str]:
    found: dict[str, None] = {}
    for path in written:
        for leaf in (path, *forest.descendants(path)):
            if leaf in forest.images and checks.sound(forest, leaf) and not _overlays(forest, leaf):
                found[forest.same_file(leaf)[0]] = None
    yield from found


def _overlays(forest: Forest, path: str) -> bool:
    return any(checks.sound(forest, child) for child in forest.known_children(path))
