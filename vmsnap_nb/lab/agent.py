"""The QEMU guest agent for the lab's guests: this machine's own, carried into them with its loader and libraries.

With it a guest's file systems can be frozen and thawed, which `quiesce` needs. A guest of another distribution could
not load it without its libraries, and they are read from this machine, not from the guest.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmsnap_nb.errors import ImageError, MissingPartError
from vmsnap_nb.lab.elf import Needs, read_needs
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.system.packages import missing_part
from vmsnap_nb.words.message import N_, Message, listed, t

__all__ = ["Agent", "find_agent"]

_X86_64 = 62
_PROGRAM = "qemu-ga"
# Where the usual distributions have it, for users whose PATH has no folder for administrators.
_PROGRAM_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/usr/local/sbin", "/usr/local/bin")
_LIBRARY_FOLDERS = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib64",
    "/usr/local/lib",
)
_THEN = N_(
    "then open the lab in a new process and restart its guests. Until then, the guests' file systems cannot be frozen"
)


@dataclass(frozen=True, slots=True)
class Agent:
    """The files of an agent."""

    program: bytes
    loader: bytes  # what loads it
    libraries: dict[str, bytes]  # all that it needs, by name


def find_agent(
    folders: Sequence[str | os.PathLike[str]] | None = None, libraries: Sequence[str | os.PathLike[str]] | None = None
) -> Agent:
    """Read the agent that is installed on this machine.

    By default its program is looked for in ``PATH`` and the folders for administrators, its libraries in the folders
    of the usual distributions.
    """
    tried = t("find the QEMU guest agent for the lab's guests")
    places = _program_folders() if folders is None else tuple(map(str, folders))
    found = shutil.which(_PROGRAM, path=os.pathsep.join(places))
    if found is None:
        raise missing_part(
            "qemu-guest-agent", tried, t("the program {program} is not installed", program=_PROGRAM), then=t(_THEN)
        )
    where = tuple(map(Path, _LIBRARY_FOLDERS if libraries is None else libraries))
    program = _read(Path(found), tried)
    needs = _needs(program, found, tried)
    collected: dict[str, bytes] = {}
    wanted = list(needs.libraries)
    loader = Path(needs.loader).name
    while wanted:
        name = wanted.pop()
        if name in collected or name == loader:
            continue
        path = next((folder / name for folder in where if (folder / name).is_file()), None)
        if path is None:
            raise MissingPartError(
                tried,
                why=t(
                    "{program} needs the library {library}, which was not found in {folders}",
                    program=found,
                    library=name,
                    folders=listed(map(str, where)),
                ),
                next_step=t("reinstall the package qemu-guest-agent of this system with all its dependencies"),
            )
        collected[name] = _read(path, tried)
        wanted += _needs(collected[name], str(path), tried).libraries
    if not loader:
        raise MissingPartError(
            tried,
            why=t("{program} does not specify a loader", program=found),
            next_step=t("install the package qemu-guest-agent of this system"),
        )
    return Agent(program, _read(Path(needs.loader), tried), dict(sorted(collected.items())))


def _program_folders() -> tuple[str, ...]:
    # The set-up of this project keeps one beside Python, where the machine has none.
    own = os.path.join(sys.prefix, "share", "vmsnap_nb", "guest-agent", "usr", "sbin")
    return (*os.get_exec_path(), *_PROGRAM_FOLDERS, own)


def _needs(data: bytes, path: str, tried: Message) -> Needs:
    try:
        needs = read_needs(data)
    except ImageError as error:
        raise MissingPartError(
            tried,
            why=t("{program}: {reason}", program=path, reason=error.reason),
            next_step=t("reinstall the package qemu-guest-agent of this system"),
        ) from error
    if needs.machine != _X86_64:
        raise MissingPartError(
            tried,
            why=t("{program} is for another processor architecture; the lab's guests are x86-64", program=path),
            next_step=t("use a machine with an x86-64 processor"),
        )
    return needs


def _read(path: Path, tried: Message) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise from_os_error(error, tried) from error
