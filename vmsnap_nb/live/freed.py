"""What a run really frees: measured before and after it, and for each file that it removes just before that."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from vmsnap_nb.system.files.shared import shared_bytes
from vmsnap_nb.system.files.taken import taken

__all__ = ["Meter"]


class Meter:
    """The bytes that some files have on disk for themselves alone, as a run goes on."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._before = {path: _own(path) for path in paths}
        self._removed: dict[str, int | None] = {}

    def look(self, paths: Iterable[str]) -> None:
        """Measure files again that are removed now: another that was removed before may have shared their data."""
        for path in self._before.keys() & set(paths):
            self._removed[path] = 0 if _has_other_name(path) else _own(path)

    def freed(self) -> Mapping[str, int]:
        """Return how many bytes each file has freed by now; negative if it has grown."""
        found: dict[str, int] = {}
        for path, before in self._before.items():
            gone = not os.path.lexists(path)
            was, now = (self._removed.get(path, before), 0) if gone else (before, _own(path))
            if was is not None and now is not None:
                found[path] = was - now
        return found


def _own(path: str) -> int | None:
    """Return what would be free without a file: not what other files have as well (reflinks)."""
    size = taken(path)
    return None if size is None else max(0, size - (shared_bytes(path) or 0))


def _has_other_name(path: str) -> bool:
    try:
        return os.lstat(path).st_nlink > 1
    except OSError:
        return False
