"""The files that nobody can restore after a plan, because only states have them that it makes unreadable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.files import PathLike, changes, list_files, state_of
from vmsnap_nb.model.files import FileEntry, FileRead, LostFile, LostFiles
from vmsnap_nb.model.image import Image
from vmsnap_nb.plans.disk_states import DiskPoint
from vmsnap_nb.plans.lost_states import LostState, lost_states
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Request
from vmsnap_nb.system.filesystems.reader import DiskState
from vmsnap_nb.system.sources.source import Source
from vmsnap_nb.words.message import Message, counted, t

__all__ = ["lost_files"]

_MOST_STATES = 8
_MOST_KEPT = 8


def lost_files(
    plan: Plan,
    request: Request,
    path: PathLike,
    *,
    seconds: float | None = None,
    volume: Callable[[Image], Source] | None = None,
) -> LostFiles:
    """Return the files that can no longer be restored after a plan; `seconds` is how long that may take in all."""
    losses = lost_states(plan, request)
    ends = None if seconds is None else time.monotonic() + seconds
    several = len({loss.target for loss in losses}) > 1
    names = tuple(_name(plan, loss, several=several) for loss in losses)
    files: list[LostFile] = []
    notes: dict[Message | str, None] = {}
    volumes: dict[str, None] = {}
    failed: list[VmsnapError] = []
    for loss, name in list(zip(losses, names, strict=True))[:_MOST_STATES]:
        found: dict[str, FileEntry] | None = None
        try:
            for compared, entries in _compared(partial(state_of, plan.before, volume=volume), loss, path, ends):
                found = entries if found is None else {key: found[key] for key in found if key in entries}
                notes |= dict.fromkeys(compared.notes)
                volumes |= dict.fromkeys(compared.volumes)
                if not found:
                    break
        except VmsnapError as error:
            failed.append(error)
            notes[t("{state} was not compared: {why}", state=name, why=error.reason or str(error))] = None
        else:
            files += [LostFile(name, entry) for entry in (found or {}).values()]
    if failed and not files and len(failed) == len(losses[:_MOST_STATES]):
        raise failed[0]
    if (more := len(losses) - _MOST_STATES) > 0:
        notes[counted("{count} more state was not compared", "{count} more states were not compared", more)] = None
    return LostFiles(plan.title, names, tuple(files), volumes=tuple(volumes), notes=tuple(notes))


def _name(plan: Plan, loss: LostState, *, several: bool) -> str:
    name = loss.state.name or plan.before[loss.state.image].name
    return f"{name} ({loss.target})" if several and loss.target else name


def _compared(
    state: Callable[[DiskPoint], DiskState], loss: LostState, path: PathLike, ends: float | None
) -> Iterator[tuple[FileRead, dict[str, FileEntry]]]:
    """Yield what differs from each state that stays: the files whose content that one does not have."""
    if not loss.kept:
        every = list_files(state(loss.state), path, recursive=True)
        yield every, {entry.path: entry for entry in every if entry.kind != "folder"}
    for other in loss.kept[:_MOST_KEPT]:
        left = None if ends is None else max(0.01, ends - time.monotonic())
        found = changes(state(loss.state), state(other), path, seconds=left)
        gone = (one.before for one in found if one.change in {"changed", "removed"} and one.before is not None)
        yield found, {entry.path: entry for entry in gone if entry.kind != "folder"}
