"""The working directory of this process, where it was in a folder that was removed."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["is_working_in", "leave_removed"]


def is_working_in(folder: Path) -> bool:
    """Return whether this folder is the working directory."""
    try:
        return Path.cwd().samefile(folder)
    except FileNotFoundError:
        return False


def leave_removed(to: Path) -> None:
    """Go to another folder if the working directory is gone: without one, no relative path and no command works."""
    try:
        os.getcwd()
    except FileNotFoundError:
        os.chdir(to)
