"""One walk over all chains: how deep each image is, and which of them are loops."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["depths_and_loops"]


def depths_and_loops(
    parents: Mapping[str, str | None], aliases: Mapping[str, tuple[str, ...]]
) -> tuple[dict[str, int], tuple[tuple[str, ...], ...]]:
    """Return the depth of each image, 1 for a base, and the loops, each in the order of its references.

    `aliases` are the names of those files that have several.
    """
    depths: dict[str, int] = {}
    loops: list[tuple[str, ...]] = []
    for start in parents:
        if start in depths:
            continue
        trail: list[str] = []
        step: str | None = start
        again = None
        while step is not None and step not in depths and step in parents:
            if step in aliases and (again := next((name for name in aliases[step] if name in trail), None)):
                break
            depths[step] = 0  # so that a loop ends here, and is counted once around
            trail.append(step)
            step = parents[step]
        below = 0
        if again is not None:
            loops.append(tuple(trail[trail.index(again) :]))
        elif step in depths:
            below = depths[step]
            if not below:
                loops.append(_loop_from(parents, step))
        for path in reversed(trail):
            below += 1
            depths[path] = below
    return depths, tuple(loops)


def _loop_from(parents: Mapping[str, str | None], path: str) -> tuple[str, ...]:
    loop = [path]
    step = parents[path]
    while step is not None and step != path:
        loop.append(step)
        step = parents[step]
    return tuple(loop)
