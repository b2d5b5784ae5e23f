"""How the steps about images that no QEMU has open are performed: overlays, and merges."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from vmsnap_nb.errors import (
    ImageError,
    InUseError,
    MissingPartError,
    NotFoundError,
    PermissionDeniedError,
    StalePlanError,
    VmsnapError,
)
from vmsnap_nb.live.internal_snapshots import settle
from vmsnap_nb.live.job import StepStopped, stop_asked, tell_fraction
from vmsnap_nb.live.journal import begun, drop_entry, read_entry, write_entry
from vmsnap_nb.live.step_action import Action, Undo, no_way_back, undo_of
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.by_hand import rebase_argv, repair_advice, upgrade_argv
from vmsnap_nb.plans.checks.interrupted import finishing
from vmsnap_nb.plans.journal import MergeEntry
from vmsnap_nb.plans.leftovers.steps import MoveFile
from vmsnap_nb.plans.merge.steps import (
    CarryBitmaps,
    CheckContent,
    CommitLayers,
    Finish,
    MarkInvalid,
    PullLayers,
    RemoveFile,
    RemoveLeftover,
    Repoint,
    TakeContent,
    Unprotect,
)
from vmsnap_nb.plans.repair.steps import CopyImage, ForgetEntry, RepairCopy, SettleInside
from vmsnap_nb.plans.step import CreateOverlay, Protect, Step
from vmsnap_nb.system.base_record import write_base_record
from vmsnap_nb.system.files.copying import copy_same
from vmsnap_nb.system.files.errors import os_errors
from vmsnap_nb.system.files.identity import SameFile, check_same, own_file, same_file, unlink_same
from vmsnap_nb.system.files.locks import held
from vmsnap_nb.system.files.permission import permission_below
from vmsnap_nb.system.files.temporary import NO_LINKS, Temporary, leftovers, publish_new, sync_folder, temporary
from vmsnap_nb.system.image_file import read_image
from vmsnap_nb.system.process import Limits
from vmsnap_nb.system.qcow2 import mark as qcow2_mark
from vmsnap_nb.system.qemu import qemu_img
from vmsnap_nb.system.qemu.blockmap import reads_none_of
from vmsnap_nb.system.qemu.check import damage
from vmsnap_nb.system.qemu.content import content_digest, reads_alike_on
from vmsnap_nb.system.qemu.fill import fill
from vmsnap_nb.system.qemu.progress import run_watched
from vmsnap_nb.words.message import Message, clauses, t

__all__ = ["image_actions", "point_back", "write_overlay"]

_CLOSES = 2.0
"""Seconds in which QEMU closes an image that it has merged."""
_LOOK = 0.02
_NOTHING_WRITTEN = (InUseError, MissingPartError, NotFoundError, PermissionDeniedError)
"""With these qemu-img ends before it writes anything."""


def image_actions() -> Mapping[type[Step], Action]:
    """Return how each kind of step about images alone is performed, with a memory of their own for checksums."""
    contents: dict[str, str] = {}

    def take(step: TakeContent) -> Undo:
        contents[step.path] = content_digest(step.path, step.format, step.length)
        return _nothing

    def check(step: CheckContent) -> Undo:
        if content_digest(step.path, step.format, step.length) != contents[step.was]:
            raise ImageError(
                t("compare {image} with its previous content", image=step.path),
                why=t("its content has changed"),
                next_step=t("keep the old files, all of which still exist, and report this problem"),
            )
        return _nothing

    return {
        CreateOverlay: create_overlay,
        Protect: protect,
        CommitLayers: commit,
        PullLayers: pull,
        CarryBitmaps: carry_bitmaps,
        Repoint: repoint,
        Unprotect: unprotect,
        MarkInvalid: mark,
        RemoveFile: remove,
        RemoveLeftover: remove_leftover,
        Finish: finish,
        MoveFile: move,
        CopyImage: copy_image,
        RepairCopy: repair_copy,
        SettleInside: settle_inside,
        ForgetEntry: forget,
        TakeContent: take,
        CheckContent: check,
    }


def _nothing() -> None:
    return


def _removal(path: str, identity: Identity, tried: Message) -> Undo:
    """Return what removes a file again that was made."""

    def undo() -> None:
        with os_errors(undo_of(tried)):
            unlink_same(path, identity, undo_of(tried))

    return undo


# -- overlays --------------------------------------------------------------------------------------------


def create_overlay(step: CreateOverlay) -> Undo:
    """Make the image under another name first, so that a half-made one never has the right name.

    Until it has owner and mode of the image below only this user may open it: a descriptor from before stays open.
    """
    tried = t("create {image}", image=step.path)
    permission = permission_below(step.backing.path)
    with os_errors(tried), temporary(os.path.dirname(step.path)) as new:
        made = os.fstat(new.fd)
        identity = made.st_dev, made.st_ino
        write_overlay(new, step, tried)
        check_same(new.path, identity, tried)
        permission.give(new.fd)
        publish_new(new, step.path)
        check_same(step.path, identity, tried)
    return _removal(step.path, identity, tried)


def write_overlay(new: Temporary, step: CreateOverlay, tried: Message) -> None:
    """Write an overlay without content into the very file that was made, whatever its name leads to by now.

    A backing file that is named relative to it is found from its descriptor only by its absolute name.
    """
    name, backing = f"/proc/{os.getpid()}/fd/{new.fd}", step.backing
    if backing.kind == "relative":
        backing = replace(backing, written=os.path.join(os.path.dirname(new.path), backing.written))
    for argv in replace(step, path=name, backing=backing).argvs:
        qemu_img.run(argv, tried=tried)
    if backing is not step.backing:
        qemu_img.run(rebase_argv(name, step.backing, "-u"), tried=tried)
    write_base_record(new.fd, step.backing)


# -- permission ------------------------------------------------------------------------------------------


def protect(step: Protect) -> Undo:
    """Take the write permission of an image, of owner, group and others."""
    return _with_mode(step, lambda mode: mode & ~0o222, t("write-protect {image}", image=step.path))


def unprotect(step: Unprotect) -> Undo:
    """Give the owner the write permission."""
    return _with_mode(step, lambda mode: mode | stat.S_IWUSR, t("make {image} writable", image=step.path))


def _with_mode(step: Protect | Unprotect, change: Callable[[int], int], tried: Message) -> Undo:
    path = step.path
    with os_errors(tried), same_file(path, step.identity, tried) as file:
        identity, mode = file.identity, file.mode
        file.chmod(change(mode))

    def undo() -> None:
        with same_file(path, identity, undo_of(tried)) as again:
            again.chmod(mode)

    return undo


# -- merges ----------------------------------------------------------------------------------------------


def _run(argv: tuple[str, ...], tried: Message) -> None:
    if not run_watched(argv, tried=tried, tell=tell_fraction, stop=stop_asked):
        raise StepStopped


def commit(step: CommitLayers) -> Undo:
    """Copy layers down; an entry beside the base says so until all is done."""
    entry = step.entry
    tried = t("commit {top} into {base}", top=entry.top, base=entry.base)
    before = read_entry(entry.path, MergeEntry)
    known = before is not None
    if before is not None:
        if before.guest:
            entry = replace(entry, guest=before.guest, uuid=before.uuid)
        _whole(entry.base, tried)  # it may be damaged by what was interrupted, and would be more so
    write_entry(begun(entry))
    try:
        for argv in step.argvs:
            _run(argv, tried)
    except _NOTHING_WRITTEN:
        if not known:
            drop_entry(entry)
        raise
    except VmsnapError as error:
        error.add_note(
            t(
                "{base} may contain part of the data. The content of images based on {top} is unchanged. {call} "
                "returns the plan that finishes the commit",
                base=entry.base,
                top=entry.top,
                call=finishing(entry),
            )
        )
        _note_damage(error, entry.base)
        raise
    if known:
        _whole(entry.base, tried)
    write_entry(begun(replace(entry, phase="copied")))
    return no_way_back(
        tried,
        t(
            "the data remains in {base}; the content of images based on {top} is unchanged",
            base=entry.base,
            top=entry.top,
        ),
        t("{call} returns the plan that finishes the commit", call=finishing(entry)),
    )


def _damage(path: str) -> Message | None:
    """Return what is damaged in an image that was written to; QEMU repairs one that is only dirty."""
    image = read_image(path, os.path.dirname(path))[0]
    return None if image.format != "qcow2" or image.dirty else damage(path)


def _whole(path: str, tried: Message) -> None:
    """Raise if an image is damaged."""
    if why := _damage(path):
        raise ImageError(tried, why=t("{image} is damaged: {why}", image=path, why=why), next_step=repair_advice(path))


def _note_damage(error: VmsnapError, path: str) -> None:
    """Say so if an image is damaged into which data was being written when that failed."""
    with contextlib.suppress(VmsnapError):
        if why := _damage(path):
            damaged = t("{image} is damaged: {why}", image=path, why=why)
            error.add_note(clauses([damaged, repair_advice(path)]))


def pull(step: PullLayers) -> Undo:
    """Fill the image first, then write the new backing file's name.

    QEMU itself has to say before that the image reads nothing any more from the layers that are left out. Where its map
    does not show that, it compares all that the image does not hold, which takes far longer on a large disk.
    """
    tried = t("pull into {image}", image=step.path)
    try:
        _pull(step, tried)
    except _NOTHING_WRITTEN:
        raise
    except VmsnapError as error:
        _note_damage(error, step.path)
        _point_back_if_moved(step)
        raise
    return lambda: point_back(step.path, step.before)


def _point_back_if_moved(step: PullLayers) -> None:
    """Give an image its old backing file again if qemu-img has changed it and failed after that, as on a full disk.

    A snapshot between the two would not be what its record says.
    """
    with contextlib.suppress(VmsnapError):  # with either of them it reads the same
        backing = read_image(step.path, os.path.dirname(step.path))[0].backing
        if backing is None or backing.key != step.before.key:
            point_back(step.path, step.before)


def _pull(step: PullLayers, tried: Message) -> None:
    if step.extents is None:
        for argv in step.argvs:
            _run(argv, tried)
        return
    if not fill(step.path, step.extents, tell=tell_fraction, stop=stop_asked):
        raise StepStopped
    if step.verify and reads_alike_on(step.path, step.backing) is False:
        raise ImageError(
            t("compare {image} without the layers that were pulled", image=step.path),
            why=t("its content would change"),
            next_step=t("keep all files as they are, and report this problem"),
        )
    shown = step.left is not None and reads_none_of(step.path, step.left, below=step.backing is not None)
    if shown:
        qemu_img.run(rebase_argv(step.path, step.backing, "-u"), tried=tried)
    else:
        _run(rebase_argv(step.path, step.backing), tried)


def carry_bitmaps(step: CarryBitmaps) -> Undo:
    """Add the bitmaps that the image does not have, and merge those of the layers into them; they may stay."""
    tried = t("copy dirty bitmaps into {image}", image=step.path)
    known = [bitmap.name for bitmap in read_image(step.path, os.path.dirname(step.path))[0].bitmaps]
    for argv in step.argvs_for(known):
        qemu_img.run(argv, tried=tried)
    return _nothing


def repoint(step: Repoint) -> Undo:
    """Write the new backing file's name into the header, and nothing else."""
    tried = t("change the backing file of {image} to {backing}", image=step.path, backing=step.backing.written)
    for argv in step.argvs:
        qemu_img.run(argv, tried=tried)
    return lambda: point_back(step.path, step.before)


def point_back(path: str, before: Reference | None) -> None:
    """Give an image its old backing file again: only while that is whole, else it is right as it is."""
    tried = t("remove the backing file of {image} again", image=path)
    if before is not None:
        tried = t("change the backing file of {image} back to {backing}", image=path, backing=before.written)
    if before is not None and before.path is not None:
        argv = ("qemu-img", "info", "--backing-chain", "-f", before.format or "raw", "--", before.path)
        qemu_img.run(argv, tried=tried, limits=Limits())
    qemu_img.run(rebase_argv(path, before, "-u"), tried=tried)


def mark(step: MarkInvalid) -> Undo:
    """Set the bit by which QEMU refuses the image; an old version of qcow2 becomes a newer one, which has such bits."""
    tried = t("mark {image} as invalid", image=step.path)
    with os_errors(tried), same_file(step.path, step.identity, tried) as file:
        identity = file.identity
    try:
        head = qcow2_mark.mark_invalid(step.path, identity)
    except ImageError:
        qemu_img.run(upgrade_argv(step.path), tried=tried)
        head = qcow2_mark.mark_invalid(step.path, identity)
    if head is None:
        return _nothing
    try:
        _check_unwritten(step.path, identity, tried)  # a QEMU that comes later cannot open it any more
    except VmsnapError:
        qcow2_mark.write_header(step.path, head, undo_of(tried), identity)
        raise
    return lambda: qcow2_mark.write_header(step.path, head, undo_of(tried), identity)


def _check_unwritten(path: str, identity: Identity | None, tried: Message) -> None:
    """Raise if a QEMU writes to an image: its guest was started since the plan was checked, and would lose all that.

    One that has just merged it may take a moment to close it.
    """
    deadline = time.monotonic() + _CLOSES
    while True:
        try:
            with os_errors(tried), same_file(path, identity, tried) as file, file.opened() as fd:
                if held(fd) != "write":
                    return
        except PermissionDeniedError:
            return  # who may not read it cannot tell
        if time.monotonic() > deadline:
            raise StalePlanError(
                tried,
                why=t("a guest was started in the meantime and writes to {image}", image=path),
                next_step=t("shut that guest down, then create the plan again, review it and run it"),
            )
        time.sleep(_LOOK)


def remove(step: RemoveFile) -> Undo:
    """Remove a file; there is no way back."""
    tried = t("remove {image}", image=step.path)
    with os_errors(tried), contextlib.suppress(FileNotFoundError):
        if os.path.isfile(step.path):
            _check_unwritten(step.path, step.identity, tried)
        unlink_same(step.path, step.identity, tried)
    return no_way_back(tried, t("the file was removed; no other image was based on it"), needed=True)


def remove_leftover(step: RemoveLeftover) -> Undo:
    """Remove a file that was never completed, if it is one still."""
    tried = t("remove {image}", image=step.path)
    if (step.path, step.identity) not in [*leftovers(os.path.dirname(step.path))]:
        raise StalePlanError(
            tried,
            why=t("a process has the file open, or it has been replaced by a different file"),
            next_step=t("create the plan again, review it and run it"),
        )
    return remove(step)


def move(step: MoveFile) -> Undo:
    """Move a file, within its file system or by a copy."""
    tried = t("move {path} to {to}", path=step.path, to=step.to)
    moved = _move(step.path, step.to, step.identity, tried)
    return lambda: _nothing_more(_move(step.to, step.path, moved, undo_of(tried)))


def _nothing_more(_: Identity) -> None:
    return


def _move(path: str, to: str, identity: Identity | None, tried: Message) -> Identity:
    """Give a file another name, and take away the one that it had; return which file it is then."""
    with os_errors(tried):
        with same_file(path, identity, tried) as file:
            moved = _linked(path, to, file, tried) or copy_same(file, to, whole=True)
        sync_folder(os.path.dirname(to))
        unlink_same(path, identity, tried)
        sync_folder(os.path.dirname(path))
    return moved


def _linked(path: str, to: str, file: SameFile, tried: Message) -> Identity | None:
    """Give a file a second name; None where the file system, or two of them, have no such thing."""
    try:
        os.link(path, to, follow_symlinks=False)  # a name that is taken is an error, and nothing is overwritten
    except OSError as error:
        if error.errno != errno.EXDEV and error.errno not in NO_LINKS:
            raise
        return None
    try:
        check_same(to, file.identity, tried)  # another may have had the name by then
    except BaseException:
        os.unlink(to)
        raise
    return file.identity


def copy_image(step: CopyImage) -> Undo:
    """Copy an image that is only read."""
    tried = t("copy {source} to {target}", source=step.source, target=step.path)
    with os_errors(tried), same_file(step.source, step.identity, tried) as file:
        made = copy_same(file, step.path)
    return _removal(step.path, made, tried)


def repair_copy(step: RepairCopy) -> Undo:
    """Let QEMU repair a copy, which must be without damage then."""
    tried = t("repair {image}", image=step.path)
    with os_errors(tried), own_file(step.path, tried) as fd:
        for argv in replace(step, path=f"/proc/{os.getpid()}/fd/{fd}").argvs:
            qemu_img.run(argv, tried=tried)
    _whole(step.path, tried)
    return _nothing


def settle_inside(step: SettleInside) -> Undo:
    """Check that an image is whole; there is no way back to a damaged one."""
    settle(step.entry)
    return no_way_back(t("check {image}", image=step.image), t("the tables of the image were repaired"))


def forget(step: ForgetEntry) -> Undo:
    """Take an entry away that nobody can finish, if it is still the one that was seen."""
    tried = t("remove the journal entry {path}", path=step.entry.path)
    if read_entry(step.entry.path, type(step.entry)) != step.entry:
        raise StalePlanError(tried, why=t("it has changed"), next_step=t("call unfinished() again"))
    drop_entry(step.entry)
    return lambda: write_entry(step.entry)


def finish(step: Finish) -> Undo:
    """Take the entry away."""
    entry = read_entry(step.entry.path, MergeEntry) or step.entry
    drop_entry(step.entry)
    return lambda: write_entry(entry)
