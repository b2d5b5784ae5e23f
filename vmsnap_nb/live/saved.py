"""Files of saved memory that lie in the folders of a forest: what they need, and which are of no use any more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from vmsnap_nb.model.aliases import names_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.need import Need
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.system.libvirt.saved import saved_memory
from vmsnap_nb.system.survey import Survey

__all__ = ["with_saved_memory"]

_CLOSED = 10_000_000_000
"""Nanoseconds in which QEMU has closed its images once libvirt has written its memory to a file."""
_READ: dict[tuple[str, int], tuple[Need, ...]] = {}
"""By path, and the time at which it was completed."""
_MOST_READ = 1000


def with_saved_memory(
    forest: Forest, survey: Survey, records: Iterable[SnapshotRecord] = (), connection: Any = None
) -> Forest:
    """Return the forest with what the files of saved memory need that the survey has found.

    Those of checkpoints are known by their records. Memory is of no use once the guest has gone on with the same disk.
    """
    if not survey.saved:
        return forest
    known = {record.memory_file for record in records}
    running = names_of(forest, (use.path for use in forest.uses if use.running))
    current: list[Need] = []
    stale: list[Need] = []
    for path, completed in survey.saved.items():
        needs = () if path in known else _needs(path, completed, connection)
        (stale if any(_is_stale(forest, need, completed, running) for need in needs) else current).extend(needs)
    return forest.edited(needs=(*forest.needs, *current), stale_memory=stale)


def _is_stale(forest: Forest, need: Need, completed: int, running: set[str]) -> bool:
    image = forest.images.get(need.path)
    later = image is not None and (image.mtime_ns or 0) > completed + _CLOSED
    gone = (forest.images[path].status in ("missing", "invalid") for path in _layers(forest, need))
    return later or need.path in running or any(gone)


def _layers(forest: Forest, need: Need) -> Iterator[str]:
    return (path for path in (need.path, *need.layers) if path in forest.images)


def _needs(path: str, completed: int, connection: Any) -> tuple[Need, ...]:
    key = path, completed
    if key not in _READ:
        while len(_READ) >= _MOST_READ:
            _READ.pop(next(iter(_READ)), None)
        _READ[key] = saved_memory(path, connection)
    return _READ[key]
