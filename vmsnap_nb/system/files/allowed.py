"""Which files a survey may open: what lies in the folders that were given, symbolic links taken into account."""

from __future__ import annotations

import os
from collections.abc import Iterable

from vmsnap_nb.model.kernel_paths import is_kernel_path
from vmsnap_nb.system.files.paths import real_path

__all__ = ["Places"]


class Places:
    """The folders of a survey."""

    def __init__(self, folders: Iterable[str], *, anywhere: bool = False) -> None:
        self.anywhere = anywhere
        given = [folder.rstrip("/") + "/" for folder in folders]
        self._real = tuple(dict.fromkeys(real_path(folder).rstrip("/") + "/" for folder in given))
        self._near = tuple(dict.fromkeys((*given, *self._real)))
        self._folders: dict[str, bool] = {}

    def near(self, path: str) -> bool:
        """Tell, without touching the disk, whether a path may be looked at: by its letters it is inside."""
        return self.anywhere or path.startswith(self._near)

    def target(self, path: str) -> str | None:
        """Return the path that may be opened for this one: without symbolic links; None where that leads outside."""
        if not self.near(path):
            return None
        folder = os.path.dirname(path)
        inside = self._folders.get(folder)
        if inside is None:
            inside = self._folders[folder] = self._inside(real_path(folder) + "/")
        if not inside:
            return None
        if not os.path.islink(path):
            return path
        real = real_path(path)
        return real if self._inside(real) else None

    def _inside(self, real: str) -> bool:
        if self.anywhere:
            return not is_kernel_path(real)
        return real.startswith(self._real)
