"""The labs that are open in this process, and the folders that it has locked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from vmsnap_nb.errors import LabError
from vmsnap_nb.lab.folder import LabFolder, default_root
from vmsnap_nb.lab.signals import stop_guests_first
from vmsnap_nb.model.arguments import checked
from vmsnap_nb.words.message import t

if TYPE_CHECKING:
    from vmsnap_nb.lab.driver import Driver
    from vmsnap_nb.lab.lab import Lab

__all__ = ["absolute_root", "enter", "leave", "lock_folder", "open_lab", "open_labs", "unlock_folder"]

_LABS: dict[Path, Lab] = {}
_FOLDERS: dict[Path, LabFolder] = {}


def _forget_all() -> None:
    # A copy of the process made by fork has neither the threads of an embedded libvirt nor the locks of the folders.
    _LABS.clear()
    _FOLDERS.clear()


os.register_at_fork(after_in_child=_forget_all)


@checked
def absolute_root(root: str | os.PathLike[str] | None) -> Path:
    """Return the absolute path of a lab's folder, or of the one that is used where none is named."""
    return Path(os.path.abspath(os.path.expanduser(default_root() if root is None else root)))


def open_labs() -> tuple[Lab, ...]:
    """Return the labs that are open in this process."""
    return tuple(_LABS.values())


def open_lab(root: Path, driver: Driver) -> Lab | None:
    """Return the lab of a folder if this process has it open; it must be open with this driver."""
    lab = _LABS.get(root)
    if lab is not None and lab.driver != driver:
        raise LabError(
            t("open the lab {folder} with the driver {driver}", folder=lab.root, driver=driver),
            why=t("this process has it open with the driver {driver}", driver=lab.driver),
            next_step=t("close it first, or use another folder"),
        )
    return lab


def enter(lab: Lab) -> None:
    """Add a lab that was opened, and that has registered already what it does at the exit."""
    _LABS[lab.root] = lab
    stop_guests_first()


def leave(lab: Lab) -> None:
    """Remove a lab that is closed, and let another process have its folder.

    An embedded libvirt goes on working in the folder until the process ends, and so does the lock.
    """
    _LABS.pop(lab.root, None)
    if lab.driver == "session":
        unlock_folder(lab.root)


def lock_folder(root: Path) -> LabFolder:
    """Open a lab's folder: once in a process, since an embedded libvirt keeps it for as long as the process runs."""
    folder = _FOLDERS.get(root)
    if folder is None:
        folder = _FOLDERS[root] = LabFolder(root)
    else:
        folder.restore()
    return folder


def unlock_folder(root: Path) -> None:
    """Let another process have a lab's folder."""
    _FOLDERS.pop(root).release()
