"""How the steps of offline merges are performed, and the facts that their plans need."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import replace

from vmsnap_nb.errors import (
    ImageError,
    InUseError,
    MissingPartError,
    NotFoundError,
    PermissionDeniedError,
    VmsnapError,
)
from vmsnap_nb.live.files import ground_of
from vmsnap_nb.live.job import StepStopped, stop_asked, tell_fraction
from vmsnap_nb.live.merge_notes import read_notes
from vmsnap_nb.live.notes import drop_note, write_note
from vmsnap_nb.live.plan import Action, Undo
from vmsnap_nb.model.blockmap import BlockMap
from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.plans.merge_facts import MergeFacts
from vmsnap_nb.plans.merge_steps import (
    CheckContent,
    CommitLayers,
    Finish,
    MarkInvalid,
    PullLayers,
    RemoveFile,
    Repoint,
    TakeContent,
    Unprotect,
    rebase_argv,
    upgrade_argv,
)
from vmsnap_nb.plans.steps import Step
from vmsnap_nb.system import qcow2_mark, qemu_img
from vmsnap_nb.system.blockmap import MapReader, reads_none_of
from vmsnap_nb.system.content import content_digest
from vmsnap_nb.system.fill import fill
from vmsnap_nb.system.os_errors import from_os_error
from vmsnap_nb.system.qemu_img_progress import run_watched

__all__ = ["blockmap", "merge_actions", "merge_facts", "point_back", "reads_alike"]

_NOTHING_WRITTEN = (InUseError, MissingPartError, NotFoundError, PermissionDeniedError)
"""With these qemu-img ends before it writes anything."""

_MAPS = MapReader()


def merge_facts(forest: Forest, paths: Iterable[str], mapped: Iterable[str] | None = None) -> MergeFacts:
    """Look at what the plan of a merge must know.

    Parameters
    ----------
    forest : Forest
        Where the images are.
    paths : iterable of str
        Images that will be read or written, or stand on them.
    mapped : iterable of str, optional
        Of which a map is needed; of all of them if left out.

    Returns
    -------
    MergeFacts
    """
    paths = tuple(path for path in dict.fromkeys(paths) if path in forest)
    local = [path for path in paths if path.startswith("/")]
    folders = {os.path.dirname(path) for path in local}
    maps = _MAPS.read(forest[path] for path in (paths if mapped is None else mapped) if path in forest)
    return MergeFacts(maps, ground_of(local), read_notes(folders))


def reads_alike(forest: Forest, top: str, below: str) -> bool:
    """Tell whether the content of two images is the same; nobody may be writing to either.

    Parameters
    ----------
    forest : Forest
        Where they are.
    top, below : str
        Their paths; a QEMU may have them open.

    Returns
    -------
    bool
        False as well where that cannot be seen.
    """
    one, other = forest[top], forest[below]
    formats = ("-f", one.format or "raw", "-F", other.format or "raw")
    if one.virtual_size != other.virtual_size:
        return False
    try:
        qemu_img.run(
            ("qemu-img", "compare", "-q", "-U", *formats, "--", top, below), tried=f"compare {top} with {below}"
        )
    except VmsnapError:
        return False
    return True


def blockmap(chain: Chain) -> BlockMap:
    """Look which layer of a chain owns which part of the disk.

    Parameters
    ----------
    chain : Chain
        What `vmsnap_nb.chain` or `Forest.chain` gives; a guest may be writing to it.

    Returns
    -------
    BlockMap

    Raises
    ------
    ImageError
        A layer is missing, was not read, is encrypted, or is not a format that QEMU can map.
    """
    unknown = [layer for layer in chain if not MapReader.can(layer)]
    if unknown:
        raise ImageError(
            f"map the layers of {chain.top}",
            said="; ".join(f"{layer.path}: {layer.problem or layer.encryption or layer.status}" for layer in unknown),
            next_step="all layers must be readable: name their folders too, or use follow=True",
        )
    maps = _MAPS.read(chain)
    return BlockMap(tuple(maps[layer.path] for layer in chain))


def merge_actions() -> Mapping[type[Step], Action]:
    """Give the actions of merges, with a memory of their own for checksums."""
    contents: dict[str, str] = {}

    def take(step: TakeContent) -> Undo:
        contents[step.path] = content_digest(step.path, step.format, step.bytes)
        return _nothing

    def check(step: CheckContent) -> Undo:
        if content_digest(step.path, step.format, step.bytes) != contents[step.was]:
            raise ImageError(
                f"compare {step.path} with what it was",
                said="its content has changed",
                next_step="the old files are all still there; keep them, and report this",
            )
        return _nothing

    return {
        CommitLayers: commit,
        PullLayers: pull,
        Repoint: repoint,
        Unprotect: unprotect,
        MarkInvalid: mark,
        RemoveFile: remove,
        Finish: finish,
        TakeContent: take,
        CheckContent: check,
    }


def _nothing() -> None:
    return


def _run(argv: tuple[str, ...], tried: str) -> None:
    if not run_watched(argv, tried=tried, tell=tell_fraction, stop=stop_asked):
        raise StepStopped


def commit(step: CommitLayers) -> Undo:
    """Copy layers down; a note beside the base says so until all is done."""
    note = step.note
    tried = f"commit {note.top} into {note.base}"
    known = note.path if os.path.exists(note.path) else None
    write_note(note)
    try:
        for argv in step.argvs:
            _run(argv, tried)
    except _NOTHING_WRITTEN:
        if known is None:
            drop_note(note)
        raise
    except VmsnapError as error:
        error.add_note(
            f"{note.base} may hold a part of the data. What stands on {note.top} reads the same as before; "
            "forest.unfinished() gives the plan that finishes it"
        )
        raise
    write_note(replace(note, phase="copied"))

    def undo() -> None:
        raise VmsnapError(
            f"take back: {tried}",
            said=f"the data stays in {note.base}; what stands on {note.top} reads the same as before",
            next_step="forest.unfinished() gives the plan that finishes it",
        )

    return undo


def pull(step: PullLayers) -> Undo:
    """Fill the image first, then write the new backing file's name.

    QEMU itself has to say before that the image reads nothing any more from the layers that are left out. Where its map
    does not show that, it compares all that the image does not hold, which takes far longer on a large disk.
    """
    tried = f"pull into {step.path}"
    if step.extents is None:
        for argv in step.argvs:
            _run(argv, tried)
        return lambda: point_back(step.path, step.before)
    if not fill(step.path, step.extents, tell=tell_fraction, stop=stop_asked):
        raise StepStopped
    shown = step.left is not None and reads_none_of(step.path, step.left, below=step.backing is not None)
    qemu_img.run(rebase_argv(step.path, step.backing, *(("-u",) if shown else ())), tried=tried)
    return lambda: point_back(step.path, step.before)


def repoint(step: Repoint) -> Undo:
    """Write the new backing file's name into the header, and nothing else."""
    for argv in step.argvs:
        qemu_img.run(argv, tried=f"let {step.path} stand on {step.backing.written}")
    return lambda: point_back(step.path, step.before)


def point_back(path: str, before: Reference | None) -> None:
    """Let an image stand on its old backing file again: only while that is whole, else it is right as it is."""
    tried = f"let {path} stand on {before.written if before is not None else 'nothing'} again"
    if before is not None and before.path is not None:
        argv = ("qemu-img", "info", "--backing-chain", "-f", before.format or "raw", "--", before.path)
        qemu_img.run(argv, tried=tried)
    qemu_img.run(rebase_argv(path, before, "-u"), tried=tried)


def unprotect(step: Unprotect) -> Undo:
    """Give the owner the write permission."""
    try:
        mode = stat.S_IMODE(os.stat(step.path).st_mode)
        os.chmod(step.path, mode | stat.S_IWUSR)
    except OSError as error:
        raise from_os_error(error, f"unprotect {step.path}") from error
    return lambda: os.chmod(step.path, mode)


def mark(step: MarkInvalid) -> Undo:
    """Set the bit by which QEMU refuses the image; an old version of qcow2 becomes a newer one, which has such bits."""
    tried = f"mark {step.path} as invalid"
    try:
        head = qcow2_mark.mark_invalid(step.path)
    except ImageError:
        qemu_img.run(upgrade_argv(step.path), tried=tried)
        head = qcow2_mark.mark_invalid(step.path)
    if head is None:
        return _nothing
    return lambda: qcow2_mark.write_header(step.path, head, f"take back: {tried}")


def remove(step: RemoveFile) -> Undo:
    """Remove a file; there is no way back."""
    try:
        os.unlink(step.path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise from_os_error(error, f"remove {step.path}") from error

    def undo() -> None:
        raise VmsnapError(f"take back: remove {step.path}", said="the file is gone; nothing stood on it")

    return undo


def finish(step: Finish) -> Undo:
    """Take the note away."""
    drop_note(step.note)
    return lambda: write_note(step.note)
