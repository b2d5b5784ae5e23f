"""Internal snapshots are made, removed and applied with an entry beside the image; what is left damaged is repaired.

QEMU changes a snapshot inside an image in several writes. If it is killed in between, clusters can be counted wrongly;
if one flush fails, the header can name a table of snapshots that QEMU has freed, though the table before is still there
(QEMU, block/qcow2-snapshot.c, ``qcow2_write_snapshots``). In both cases the image's own tables say where all data is,
so that a copy can be repaired, and compared with the damaged image before it takes its place.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from vmsnap_nb.errors import ImageError, InUseError, PermissionDeniedError, StalePlanError, VmsnapError
from vmsnap_nb.live.journal import begun, drop_entry, read_entry, write_entry
from vmsnap_nb.plans.by_hand import repair_argv, repair_commands
from vmsnap_nb.plans.journal import InsideEntry
from vmsnap_nb.system.disk.snapshot_table import data_places, point_to_table, read_table
from vmsnap_nb.system.files.copying import copy_content
from vmsnap_nb.system.files.errors import os_errors
from vmsnap_nb.system.files.identity import replace_same, same_file
from vmsnap_nb.system.files.locks import held
from vmsnap_nb.system.files.permission import permission_of
from vmsnap_nb.system.files.temporary import Temporary, sync_folder, temporary
from vmsnap_nb.system.image_file import read_image
from vmsnap_nb.system.qemu import qemu_img
from vmsnap_nb.system.qemu.check import check
from vmsnap_nb.words.message import NOTHING, Message, clauses, t

__all__ = ["changing_inside", "settle"]

_SOUND = ("ok", "leaks")
_OPENED = ("ok", "in-use", "dirty")


@contextlib.contextmanager
def changing_inside(
    paths: Iterable[str],
    name: str,
    change: Literal["create", "delete", "revert"],
    *,
    running: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Have an entry beside each image while a snapshot inside them is changed; if that fails, see that they are whole.

    `running` asks a QEMU that has them open whether it still runs. As long as it does, nobody can see what it has yet
    to write: the entry stays, and the image is checked when the guest is off.
    """
    earlier, entries = [], []
    for path in dict.fromkeys(paths):
        entry = _entry(path, name, change)
        if entry is not None:
            earlier += [entry] if _is_unsettled(entry, running) else []
            with contextlib.suppress(PermissionDeniedError):  # libvirt may do what this user may not
                write_entry(entry)
                entries.append(entry)
    try:
        yield
    except VmsnapError as error:
        for entry in entries:
            _end_failed(entry, error, is_open=running())
        raise
    for entry in entries:
        if not _is_listed(entry):  # libvirt does not see each failure of QEMU
            raise ImageError(
                t("check {image}", image=entry.image),
                why=t("its table of internal snapshots can no longer be read"),
                next_step=t("shut the guest down, then repair a copy of the image with guest.unfinished()[0].run()"),
            )
        if change == "create" and name not in read_table(entry.image).names:  # nor that it was not made
            raise ImageError(
                t("create the internal snapshot {name} in {image}", name=name, image=entry.image),
                why=t("QEMU reported no error, but the image does not list it"),
                next_step=t("check the disk that stores the image, then try again"),
            )
        if entry not in earlier:
            drop_entry(entry)


def _entry(path: str, name: str, change: Literal["create", "delete", "revert"]) -> InsideEntry | None:
    """Return the entry of an image; None for one of another format, or one that this user may not read."""
    if not os.path.isabs(path):
        return None
    image, _ = read_image(path, os.path.dirname(path), os.path.realpath(path))
    if image.format != "qcow2" or image.status not in _OPENED:
        return None
    table = read_table(path)
    return begun(InsideEntry(image=path, name=name, change=change, table=table.offset, names=table.names))


def _is_unsettled(entry: InsideEntry, running: Callable[[], bool]) -> bool:
    """Return whether an earlier change was interrupted and its image cannot be checked, since a guest has it open.

    It is an error if that image is damaged.
    """
    before = read_entry(entry.path, InsideEntry)
    if before is None or _is_whole(before):
        return False
    if _is_listed(before) and running():
        return True
    raise ImageError(
        t("change the internal snapshot {name} in {image}", name=entry.name, image=entry.image),
        why=t("a change to its snapshot {name} was interrupted, and the image may be damaged", name=before.name),
        next_step=t("finish that change first: guest.unfinished()[0].run()"),
    )


def _is_whole(entry: InsideEntry) -> bool:
    """Return whether an image is as it was before, or as it was to become; that of one in use is not known."""
    with contextlib.suppress(VmsnapError):
        return _is_listed(entry) and check(entry.image, "qcow2").result in _SOUND
    return False


def _is_listed(entry: InsideEntry) -> bool:
    """Return whether an image's header names a table of snapshots: none in it is without an ID, as in one freed."""
    table = read_table(entry.image)
    return not table.problem and all(table.ids)


def _end_failed(entry: InsideEntry, error: VmsnapError, *, is_open: bool) -> None:
    """Let an error say what became of an image, and remove its entry if that is whole."""
    if is_open:
        error.add_note(t("shut the guest down, then check {image} with guest.unfinished()[0].run()", image=entry.image))
        return
    try:
        if repaired := settle(entry):
            error.add_note(repaired)
    except VmsnapError as failure:
        damaged = t("{image} may be damaged: {why}", image=entry.image, why=failure.reason or str(failure))
        error.why = clauses(filter(None, (error.why, damaged)))
        error.next_step = t("do not write to the image. Repair a copy of it with guest.unfinished()[0].run()")


def settle(entry: InsideEntry) -> Message:
    """Repair an image if it is damaged, and remove its entry; return what was done, or an empty text.

    The copy that takes its place has all data of the disk and of each snapshot where the damaged image had it.
    """
    path = os.path.realpath(entry.image)
    tried = t("check {image} after a change to its internal snapshot {name}", image=path, name=entry.name)
    with os_errors(tried):
        found = os.lstat(path)
    fact = next(iter(entry.files), None)
    if fact is None or not stat.S_ISREG(found.st_mode) or (found.st_dev, found.st_ino) != (fact.device, fact.inode):
        raise StalePlanError(
            tried,
            why=t("it is not the file that was changed"),
            next_step=t("restore that file. If no operation is pending, remove {path}", path=entry.path),
        )
    done = NOTHING
    if not _is_whole(entry):
        _repair(entry, path, found, tried)
        done = t("{image} was damaged by the interruption and has been repaired: no data was lost", image=path)
    drop_entry(entry)
    return done


def _repair(entry: InsideEntry, path: str, found: os.stat_result, tried: Message) -> None:
    """Put a repaired copy in the place of an image, if that is the only name of the file, and nobody has it open."""
    if found.st_nlink > 1 or os.geteuid() not in (0, found.st_uid):
        why = t("the image is damaged, and its file belongs to another user")
        if found.st_nlink > 1:
            why = t("the image is damaged, and its file has other names, which would still refer to the damaged file")
        raise ImageError(tried, why=why, next_step=_by_hand(path))
    identity = found.st_dev, found.st_ino
    with (
        os_errors(tried),
        same_file(path, identity, tried) as file,
        file.opened() as old,
        temporary(os.path.dirname(path)) as new,
    ):
        if held(old):
            how = t("shut the guest down, or end that process")
            raise InUseError(tried, why=t("a process has it open"), next_step=how)
        copy_content(old, new.fd)
        _repair_copy(entry, new, path, tried)
        now = os.fstat(old)
        if held(old) or (now.st_size, now.st_mtime_ns) != (found.st_size, found.st_mtime_ns):
            raise StalePlanError(
                tried, why=t("it was modified in the meantime"), next_step=t("call unfinished() again")
            )
        permission_of(old).give(new.fd, most=0o777, least=0)
        os.fsync(new.fd)
        replace_same(new.path, path, identity, tried)
        sync_folder(os.path.dirname(path))


def _repair_copy(entry: InsideEntry, new: Temporary, path: str, tried: Message) -> None:
    """Repair a copy of an image, and check that no data is elsewhere then."""
    table = read_table(new.path)
    if table.problem or not all(table.ids):
        point_to_table(new.fd, entry.table, len(entry.names))
        table = read_table(new.path)
        if table.problem or table.names != entry.names:
            raise ImageError(tried, why=t("its table of internal snapshots is lost"), next_step=_by_hand(path))
    places = data_places(new.path)
    name = f"/proc/{os.getpid()}/fd/{new.fd}"  # QEMU writes to this file, whatever its own name leads to by now
    qemu_img.run(repair_argv(name), tried=tried)
    sound = check(name, "qcow2").result in _SOUND
    if not sound or (read_table(new.path), data_places(new.path)) != (table, places):
        raise ImageError(
            tried, why=t("a repaired copy would not contain the same data as the image"), next_step=_by_hand(path)
        )


def _by_hand(path: str) -> Message:
    return t(
        "do not write to it. Repair a copy: {commands}. If the copy lists its snapshots, replace the image with the "
        "copy",
        commands=repair_commands(path),
    )
