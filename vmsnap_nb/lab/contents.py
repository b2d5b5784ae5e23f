"""What a lab's folder holds as it is opened: it may come out of an archive, or from before this machine's last start.

A libvirt that is embedded in a folder acts on what it finds there before anybody has seen it: it runs the emulator that
a definition names to find out what that can do, starts what is marked to be started, and ends the process by whose
number a guest was running. QEMU writes logs through whatever link lies in their place. So all of this is checked first.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import stat
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

from vmsnap_nb.errors import LabError
from vmsnap_nb.model.caller import warn_caller
from vmsnap_nb.system.files.owner import owner_of
from vmsnap_nb.system.files.small import read_small
from vmsnap_nb.system.qemu.program import foreign_emulator, parse_definition
from vmsnap_nb.system.saved_memory import read_definition
from vmsnap_nb.words.message import N_, Message, t

__all__ = ["HAND", "OF_LIBVIRT", "check_definitions", "check_files", "prepare_run"]

OF_LIBVIRT = ("cache", "etc", "lib", "log", "run")
"""What an embedded libvirt makes in its folder."""
HAND = "hand"
"""The folder in a lab's for a second libvirt, which `virsh` loads."""
_WALKED = ("boot", "console", HAND, "port", *OF_LIBVIRT)
"""Folders in which all is made by the lab, its libvirt and its QEMU."""
_OWNED = ("boot", "etc")
"""Of those, the ones in which nothing is given to the user as whom QEMU may run."""
_QEMU_USER = re.compile(r'\s*user\s*=\s*"\+?([^"]+)"')
_MOST_FILES = 100_000
_MOST = 16 << 20
"""Bytes of a definition."""
_AUTOSTART = "autostart"
_NOTHING = "nothing"
"""The tag of what a file without content holds."""
_DISTRUST = N_("If another user created this lab, do not trust its other files")
_RECORDS = frozenset({"snapshot", "checkpoint"})
"""Folders of which libvirt reads every file."""
_TOO_SHORT = frozenset({3, 5, 6, 20})
"""What expat calls a text that ends too early (``XML_ERROR_NO_ELEMENTS``, ``UNCLOSED_TOKEN``, …): its head is sound."""


def check_files(root: Path) -> None:
    """Check that nothing in a lab's own folders leads elsewhere or belongs to somebody else, and close it to others."""
    own = {os.getuid()}
    users = own | _qemu_users()
    for place in _WALKED:
        for path, found in _entries(root, root / place):
            if stat.S_ISLNK(found.st_mode):
                if path.parent.name == _AUTOSTART and "etc" in path.relative_to(root).parts:
                    continue  # of libvirt, and of no effect: see `prepare_run`
                raise _refused(root, t("{path} is a symbolic link that leads elsewhere", path=path), path)
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) or stat.S_ISSOCK(found.st_mode)):
                raise _refused(root, t("{path} is a FIFO or a device", path=path), path)
            if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
                raise _refused(
                    root, t("{path} is a hard link, so the lab would write to another file", path=path), path
                )
            if (owner := owner_of(found)) not in (own if _is_owned(path.relative_to(root)) else users):
                raise LabError(
                    t("open the lab {folder}", folder=root),
                    why=t(
                        "{path} belongs to the user with uid {owner}, who can change the files that run in this lab",
                        path=path,
                        owner=owner,
                    ),
                    next_step=t("check its content and take ownership with chown, or open another lab"),
                )
            if found.st_mode & 0o022 and found.st_uid == os.getuid() and not stat.S_ISSOCK(found.st_mode):
                _close(path, found)


def _is_owned(name: Path) -> bool:
    """Return whether a file or folder in a lab's can only be the user's own."""
    parts = name.parts[1:] if name.parts[0] == HAND else name.parts
    return len(parts) < 2 or parts[0] in _OWNED


def _qemu_users() -> set[int]:
    """Return the user as whom QEMU runs if that was asked for: otherwise it is the one who has the lab."""
    import pwd  # a Python in which no lab can be opened has none

    found: set[int] = set()
    for line in os.environ.get("VMSNAP_QEMU_CONF", "").splitlines():
        if match := _QEMU_USER.match(line):
            with contextlib.suppress(KeyError):
                found.add(int(match[1]) if match[1].isdecimal() else pwd.getpwnam(match[1]).pw_uid)
    return found


def _close(path: Path, found: os.stat_result) -> None:
    """Take from others the permission to write to the file that was found."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.path.samestat(found, os.fstat(fd)):
            os.fchmod(fd, stat.S_IMODE(found.st_mode) & ~0o022)
    finally:
        os.close(fd)


def _entries(root: Path, top: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield a folder and what is in it and below, links as such; QEMU may end meanwhile and take its files along."""
    if not os.path.lexists(top):
        return
    yield top, (status := os.lstat(top))
    waiting, count = [top] if stat.S_ISDIR(status.st_mode) else [], 0
    while waiting:
        try:
            with os.scandir(waiting.pop()) as listing:
                for entry in listing:
                    count += 1
                    if count > _MOST_FILES:
                        raise _refused(root, t("{path} has more than {most} files", path=top, most=_MOST_FILES), top)
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(found.st_mode):
                        waiting.append(Path(entry.path))
                    yield Path(entry.path), found
        except FileNotFoundError:
            continue


def _refused(root: Path, why: Message, path: Path) -> LabError:
    return LabError(
        t("open the lab {folder}", folder=root),
        why=why,
        next_step=t("check what {path} is, then remove it. {warning}", path=path, warning=t(_DISTRUST)),
    )


# -- definitions -----------------------------------------------------------------------------------------


def check_definitions(root: Path) -> None:
    """Check that what libvirt reads names no other emulator than a QEMU of this machine: it would be run."""
    for path, xml in _definitions(root):
        if program := foreign_emulator(xml):
            raise LabError(
                t("open the lab {folder}", folder=root),
                why=t(
                    "{path} specifies the emulator {program}, which is not a QEMU binary installed on this machine. "
                    "libvirt would run it as soon as the lab is open",
                    path=path,
                    program=program,
                ),
                next_step=t(
                    "replace it with the path of a QEMU binary ({qemu}), or move that file away. {warning}",
                    qemu=shutil.which("qemu-system-x86_64"),
                    warning=t(_DISTRUST),
                ),
            )


def _definitions(root: Path) -> Iterator[tuple[Path, ET.Element]]:
    for place in ("etc", "lib"):
        for path, found in _entries(root, root / place):
            if not stat.S_ISREG(found.st_mode):
                continue
            if path.suffix == ".save":
                yield path, _parsed(root, path, _xml_of_saved)
            elif path.suffix == ".xml" or _RECORDS.intersection(path.parts):
                yield path, (xml := _parsed(root, path, _xml))
                if xml.tag == _NOTHING and path.suffix != ".new":
                    _say_empty(path)


def _say_empty(path: Path) -> None:
    """Say that libvirt does not know what a file without content described, as after a loss of power."""
    if _RECORDS.intersection(path.parts):
        warn_caller(
            t(
                "{path} is empty, so libvirt does not list the snapshot or checkpoint {name} of the guest {guest}. The "
                "disk images are unchanged. Do not delete or merge any of them, and run the plans of "
                "guest.unfinished() first. If the snapshot is still missing, close the lab and restore the file from a "
                "backup.",
                path=path,
                name=path.stem if path.suffix == ".xml" else path.name,
                guest=path.parent.name,
            )
        )
    elif path.parent.name == "qemu":
        warn_caller(
            t(
                "{path} is empty, so libvirt does not know the guest {guest}. Its disk images are unchanged. Close the "
                "lab and restore the file from a backup. Without a backup, remove the file, then create the guest "
                "again on its last image: lab.guest({guest!r}, backing=…, overlay=…)",
                path=path,
                guest=path.stem,
            )
        )
    else:
        warn_caller(
            t("{path} is empty, so libvirt ignores it. Restore the file from a backup, or remove it.", path=path)
        )


def _parsed(root: Path, path: Path, read: Callable[[Path], bytes]) -> ET.Element:
    """Return the XML of a file; one without content is left out, as libvirt leaves it out.

    So is one that libvirt was killed while it wrote it: it has another name until it is complete, and ends too early.
    """
    try:
        text = read(path).strip(b"\0").decode()
        return parse_definition(text) if text.strip() else ET.Element(_NOTHING)
    except (OSError, ValueError, ET.ParseError) as error:
        if path.suffix == ".new" and isinstance(error, ET.ParseError) and error.code in _TOO_SHORT:
            return ET.Element(_NOTHING)
        raise LabError(
            t("open the lab {folder}", folder=root),
            why=t("{path} is not XML as libvirt writes it ({error})", path=path, error=error),
            next_step=t(
                "restore the file from a backup. Without a backup, move it out of the lab's folder and keep it, "
                "because it may be the only copy: {command}. Then open the lab again, and run the plans of "
                "unfinished() for each guest. {warning}",
                command=shlex.join(("mv", "--", str(path), f"{root}-{path.name}")),
                warning=t(_DISTRUST),
            ),
        ) from error


def _xml(path: Path) -> bytes:
    return read_small(path, _MOST)


def _xml_of_saved(path: Path) -> bytes:
    return (read_definition(str(path)) or "").encode()  # libvirt reads nothing of one that was never completed


# -- processes -------------------------------------------------------------------------------------------


def prepare_run(root: Path) -> None:
    """Leave nothing in a lab's folder by which its libvirt would start a guest, end a process or remove files unasked.

    It starts guests that are marked for that once after the start of the machine, which it knows by a file. For each
    guest that was running it has a file with the number of its QEMU and the folders of that: if that QEMU does not
    answer, it ends the process and removes the folders. After a restart of the machine, in a copy of the folder, or on
    another machine, these are somebody else's.
    """
    folder = root / "run" / "qemu"
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "autostarted").touch(mode=0o600)
    for path in sorted(folder.glob("*.xml")):
        if not _is_running(root, path, _parsed(root, path, _xml)):
            path.unlink()


def _is_running(root: Path, path: Path, status: ET.Element) -> bool:
    """Return whether the QEMU of which libvirt has written that it runs is there, as that of a guest in this folder."""
    pid, uuid = status.get("pid", ""), status.findtext("domain/uuid", "").strip()
    try:
        words = Path("/proc", str(int(pid)), "cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return False
    if not uuid or uuid.encode() not in words:
        return False  # another process has that number by now
    # libvirt has its folders in lib/qemu; newer ones have that of channels in run/qemu.
    own = tuple(str(root / folder / "qemu") + "/" for folder in ("lib", "run"))
    places = [part.get("path") for child in status if child.tag != "domain" for part in child.iter()]
    inside = all(place is None or os.path.normpath(place).startswith(own) for place in places)
    if inside and any(os.fsencode(own[0]) in word for word in words):
        return True
    raise LabError(
        t("open the lab {folder}", folder=root),
        why=t(
            "{path} refers to process {pid}, which runs that guest in another folder. libvirt would kill that process",
            path=path,
            pid=pid,
        ),
        next_step=t(
            "shut that guest down where it was started. If this folder is a copy, remove {path} here", path=path
        ),
    )
