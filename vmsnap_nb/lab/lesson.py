"""The lab of a lesson: empty whenever the lesson begins, and apart from the student's own."""

from __future__ import annotations

import os
from pathlib import Path

from vmsnap_nb.lab.folder import MAX_ROOT, default_root

__all__ = ["WORK", "lesson_root"]

WORK = "lesson"
"""The folder in a lab's for files of a lesson."""


def lesson_root() -> Path:
    """Return the folder of the lab of a lesson: beside the default one, or where that path is too long, in /var/tmp."""
    root = default_root()
    beside = root.with_name(f"{root.name}-lesson")
    if len(os.fsencode(beside)) <= MAX_ROOT:
        return beside
    return Path(f"/var/tmp/vmsnap-{os.getuid()}-lesson")  # noqa: S108 - the owner is checked when a lab is opened
