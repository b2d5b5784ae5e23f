"""The journal on the disk: files beside images that say what is going on with them."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans.journal import (
    Began,
    Entry,
    FileFact,
    InsideEntry,
    MergeEntry,
    PullEntry,
    RecordEntry,
    RevertEntry,
    Stranger,
    UnknownEntry,
    UnreadEntry,
    entry_of,
    kind_of,
    revert_places,
    text_of,
)
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.system.files.identity import same_place
from vmsnap_nb.system.files.owner import owner_of
from vmsnap_nb.system.files.temporary import publish, sync_folder, temporary
from vmsnap_nb.words.message import NOTHING, Message, t

__all__ = [
    "begun",
    "drop_entry",
    "drop_unless_begun",
    "facts_of",
    "is_begun",
    "is_untouched",
    "read_all",
    "read_entries",
    "read_entry",
    "revert_entries",
    "write_entry",
]

_MOST = 4 << 20
_MARK = stat.S_ISVTX
"""The permission bit that entries have.

It means nothing for files, and only their owner can set it. A user who may write to a folder can rename any file there.
That of root can hold whatever another wants: it is the disk or the log of a guest, or the result of a merge.
"""
_ENDED = "ended\n"
_WRITTEN: dict[str, int] = {}
"""Open files of entries that this process has written, by path."""
_E = TypeVar("_E", bound=Entry | UnknownEntry)
_Found = Entry | UnknownEntry | UnreadEntry | Stranger
_Begun = TypeVar("_Begun", InsideEntry, MergeEntry, PullEntry)


def read_entry(path: str, cls: type[_E]) -> _E | None:
    """Return the entry of a class at a path; None where there is none, or none that belongs there."""
    entry = _read(path)
    return entry if isinstance(entry, cls) else None


def read_entries(folders: Iterable[str], cls: type[_E]) -> tuple[_E, ...]:
    """Return the entries of a class that can be read in some folders."""
    return tuple(entry for entry in read_all(folders) if isinstance(entry, cls))


def read_all(folders: Iterable[str]) -> tuple[_Found, ...]:
    """Return what lies in some folders under the name of an entry, also what is not acted on or cannot be read."""
    entries = [entry for folder in sorted(set(folders)) for entry in _in_folder(folder)]
    # By another name of a folder that was read, too, they are the same.
    known = {entry.path for entry in entries if isinstance(entry, Entry)}
    return tuple(entry for entry in entries if not (isinstance(entry, UnknownEntry) and _own_path(entry) in known))


def _own_path(entry: UnknownEntry) -> str:
    is_alias = entry.folder and not entry.is_elsewhere
    return os.path.join(entry.folder, os.path.basename(entry.path)) if is_alias else ""


def _in_folder(folder: str) -> Iterator[_Found]:
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        is_closed = isinstance(error, PermissionError) and not os.access(folder, os.W_OK | os.X_OK, effective_ids=True)
        yield UnreadEntry(path=folder, why=_why(error), is_folder=True, is_closed=is_closed)
        return
    for name in names:
        if kind_of(name) and (entry := _read(os.path.join(folder, name))) is not None:
            yield entry


def _read(path: str) -> _Found | None:
    """Read an entry without following links and without waiting; whose file it is, is asked of the open file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _unread(path, error)
    try:
        found = os.fstat(fd)
        if why := _strange(found):
            return Stranger(path=path, why=why)
        if not found.st_mode & _MARK and _is_open(os.path.dirname(path)):
            return UnreadEntry(path=path, why=t("other users can move files into its folder"), is_unmarked=True)
        text = os.read(fd, _MOST).decode(errors="surrogateescape")
    except OSError as error:
        return UnreadEntry(path=path, why=_why(error))
    finally:
        os.close(fd)
    if text.startswith(_ENDED):
        return None  # others have kept it, or its removal was lost in a power failure
    entry = entry_of(path, text, lambda folder: same_place(folder, os.path.dirname(path)))
    if entry is None:
        return UnreadEntry(path=path, why=t("it is incomplete or damaged"), is_damaged=True)
    return _renumbered(entry) if isinstance(entry, InsideEntry | MergeEntry | PullEntry) else entry


def _is_open(folder: str) -> bool:
    """Return whether others can give a file in a folder another name, or move one there from another folder."""
    try:
        found = os.stat(folder)
    except OSError:
        return True
    return owner_of(found) not in (0, os.geteuid()) or bool(found.st_mode & 0o022)


def _unread(path: str, error: OSError) -> UnreadEntry | Stranger | None:
    """Return what a file that cannot be opened is: an entry of this user or of root, unless it is known to be none."""
    try:
        why = _strange(os.lstat(path))
    except FileNotFoundError:
        return None
    except OSError:
        why = NOTHING
    return Stranger(path=path, why=why) if why else UnreadEntry(path=path, why=_why(error))


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _renumbered(entry: InsideEntry | MergeEntry | PullEntry) -> Entry:
    """Return an entry with the current device numbers if the machine was started after it was written.

    They are then given anew, by the order in which file systems are mounted: unlike inodes they identify nothing.
    """
    if entry.began is None or not _is_before_boot(entry.began.at):
        return entry
    return replace(entry, files=tuple(map(_with_device, entry.files)))


def _is_before_boot(at: str) -> bool:
    try:
        return datetime.fromisoformat(at).timestamp() < _booted()
    except (ValueError, OverflowError, OSError):
        return False


def _booted() -> float:
    """Return when the machine was started."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _with_device(fact: FileFact) -> FileFact:
    now = _fact(fact.path)
    is_renumbered = now is not None and now.inode == fact.inode and now.device and fact.device
    return replace(fact, device=now.device) if now is not None and is_renumbered else fact


def _strange(status: os.stat_result) -> Message:
    """Return why a file cannot be one that this user, or root, has written; empty if it can."""
    if stat.S_ISLNK(status.st_mode):
        return t("it is a symbolic link")
    if not stat.S_ISREG(status.st_mode):
        return t("it is not a regular file")
    if (owner := owner_of(status)) not in (0, os.geteuid()):
        return t("it belongs to another user (uid {uid})", uid=owner)
    if status.st_mode & 0o022:
        return t("other users can write to it")
    return t("the file is too large") if status.st_size > _MOST else NOTHING


def revert_entries(domain: Domain, records: Iterable[SnapshotRecord]) -> Iterator[RevertEntry]:
    """Yield the entries of a guest's reverts, wherever it has or had images; one revert leaves one."""
    for path in revert_places(domain, records):
        entry = read_entry(path, RevertEntry)
        if entry is not None:
            yield entry


def write_entry(entry: Entry) -> None:
    """Write an entry so that it is there as a whole, or not at all, also after a power failure.

    What is left of one that is interrupted is a file that `cleanup` knows, and removes.
    """
    data = text_of(entry).encode("utf-8", errors="surrogateescape")
    try:
        secret = isinstance(entry, RecordEntry)  # it can have passwords in it
        with temporary(os.path.dirname(entry.path), 0o600 if secret else 0o644) as new:
            with open(new.fd, "wb", closefd=False) as file:
                file.write(data)
            with contextlib.suppress(OSError):  # a file system without it also has no folders that are open to some
                os.fchmod(new.fd, stat.S_IMODE(os.fstat(new.fd).st_mode) | _MARK)
            publish(new, entry.path)
            _void(_WRITTEN.pop(entry.path, None))
            with contextlib.suppress(OSError):
                _WRITTEN[entry.path] = os.open(f"/proc/self/fd/{new.fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise from_os_error(error, t("write the journal entry {path}", path=entry.path)) from error


def begun(entry: _Begun) -> _Begun:
    """Return an entry that also says which files its images are at this moment, and who writes it."""
    import pwd  # where no plan runs there are no users either

    uid = os.geteuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = ""
    files = facts_of(entry.images)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return replace(
        entry, files=files, began=Began(user=user, uid=uid, pid=os.getpid(), host=os.uname().nodename, at=at)
    )


def facts_of(paths: Iterable[str]) -> tuple[FileFact, ...]:
    """Return which files some images are at this moment, as far as they can be looked at."""
    return tuple(fact for path in paths if path.startswith("/") and (fact := _fact(path)) is not None)


def _fact(path: str) -> FileFact | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    if stat.S_ISBLK(found.st_mode):
        return FileFact(path=path, device=0, inode=found.st_rdev, size=0, mtime_ns=0)
    return FileFact(path=path, device=found.st_dev, inode=found.st_ino, size=found.st_size, mtime_ns=found.st_mtime_ns)


def drop_entry(entry: Entry) -> None:
    """Remove an entry, if it is there.

    A folder that cannot be written to the disk then is no error, for which what was done would be taken back: after a
    power failure the entry may be there again, and is finished once more. The file itself says so, too: who may rename
    files in the folder can have kept it under another name, and put it back later.
    """
    found = _opened(entry)
    try:
        os.unlink(entry.path)
    except FileNotFoundError:
        pass
    except OSError as error:
        if found is not None:
            os.close(found)
        raise from_os_error(error, t("remove the journal entry {path}", path=entry.path)) from error
    _void(found)
    _void(_WRITTEN.pop(entry.path, None))
    with contextlib.suppress(OSError):
        sync_folder(os.path.dirname(entry.path))


def _opened(entry: Entry) -> int | None:
    """Return a descriptor of the file of an entry; None if another file, or one of another entry, has its name."""
    try:
        fd = os.open(entry.path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    folder = os.path.dirname(entry.path)
    with contextlib.suppress(OSError):
        if not _strange(os.fstat(fd)):
            text = os.pread(fd, _MOST, 0).decode(errors="surrogateescape")
            one = entry_of(entry.path, text, lambda other: same_place(other, folder))
            if isinstance(one, type(entry)):
                return fd
    os.close(fd)
    return None


def _void(fd: int | None) -> None:
    """Write into the file of an entry that it has ended, whatever its name is by now, and close it."""
    if fd is not None:
        with contextlib.suppress(OSError):
            os.pwrite(fd, _ENDED.encode(), 0)  # in one sector, and so whole or not at all
        os.close(fd)


def drop_unless_begun(entry: MergeEntry, *, known: bool) -> bool:
    """Drop the entry of a commit that wrote nothing, unless it was there before; return whether it stays."""
    if known or is_begun(entry):
        return True
    drop_entry(entry)
    return False


def is_untouched(entry: MergeEntry) -> bool:
    """Return whether nobody has written to the layers of a commit since its entry was written.

    The times that it records tell, also if the clock was set back since; without them, its own. Of a block device that
    is not known.
    """
    times = {fact.path: fact.mtime_ns for fact in entry.files}
    try:
        written = os.stat(entry.path).st_mtime_ns
        found = {path: os.stat(path) for path in entry.merged}
    except OSError:
        return False
    return all(
        stat.S_ISREG(one.st_mode) and one.st_mtime_ns <= written and times.get(path, one.st_mtime_ns) == one.st_mtime_ns
        for path, one in found.items()
    )


def is_begun(entry: MergeEntry) -> bool:
    """Return whether a part of a commit may be in its base: that was written to since the entry was.

    If the clock was set back meanwhile, only the time that the entry records tells.
    """
    noted = read_entry(entry.path, MergeEntry)
    times = {fact.path: fact.mtime_ns for fact in noted.files} if noted is not None else {}
    try:
        base = os.stat(entry.base)
        if not stat.S_ISREG(base.st_mode) or base.st_mtime_ns >= os.stat(entry.path).st_mtime_ns:
            return True
    except OSError:
        return True
    return times.get(entry.base, base.st_mtime_ns) != base.st_mtime_ns
