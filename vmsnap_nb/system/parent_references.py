"""References that contain ``..``: the kernel resolves it from where a symbolic link before it leads, not by letters."""

from __future__ import annotations

import os
from dataclasses import replace

from vmsnap_nb.model.reference import Reference
from vmsnap_nb.system.files.identity import same_place
from vmsnap_nb.system.files.paths import real_path

__all__ = ["Straight"]


class Straight:
    """Corrects the paths that references have by their letters; each folder is looked at once."""

    def __init__(self) -> None:
        self._folders: dict[tuple[str, str], str | None] = {}

    def of(self, image: str, reference: Reference) -> Reference:
        """Return a reference in the header of an image with the path to which it leads; nothing is opened."""
        if reference.path is None or not (".." in reference.written or reference.kind == "json:"):
            return reference
        folder, _, last = reference.name.rpartition("/")
        if ".." not in folder.split("/") or last in {"", ".", ".."}:
            return reference
        where = (os.path.dirname(image), folder)
        if where not in self._folders:
            named = folder if folder.startswith("/") else "/".join(where)
            same = same_place(named, os.path.dirname(reference.path))
            self._folders[where] = None if same else real_path(named).rstrip("/")
        real = self._folders[where]
        return reference if real is None else replace(reference, path=f"{real}/{last}")
