"""Files on the disks of images and guests: read from the images, without booting, without root and without a lock.

The verbs are in `guest_files`, `chain` and `image_files`; here is what they have in common.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from vmsnap_nb.errors import ImageError, InvalidRequestError
from vmsnap_nb.live.journal import read_all
from vmsnap_nb.model.files import DiskLayer, FileChange, FileChanges, FileParts, Files
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.number import whole_number
from vmsnap_nb.plans.checks.interrupted import finishing
from vmsnap_nb.plans.disk_states import DiskPoint
from vmsnap_nb.plans.journal import MergeEntry, PullEntry
from vmsnap_nb.system.files.errors import os_errors
from vmsnap_nb.system.files.identity import same_place
from vmsnap_nb.system.files.paths import absolute, check_link
from vmsnap_nb.system.files.temporary import publish_new, temporary
from vmsnap_nb.system.filesystems.messages import Answers
from vmsnap_nb.system.filesystems.reader import COPY, QUESTION, DiskState, ask
from vmsnap_nb.system.sources.source import Source
from vmsnap_nb.words.message import Message, t

__all__ = [
    "MOST_READ",
    "PathLike",
    "When",
    "changes",
    "copy_out",
    "find_files",
    "list_files",
    "read_file",
    "state_of",
    "where",
]

PathLike = str | os.PathLike[str]
When = str | datetime

MOST_READ = 64 << 20
"""Bytes of a file that are read into memory unless more is asked for."""


def state_of(forest: Forest, point: DiskPoint, volume: Callable[[Image], Source] | None = None) -> DiskState:
    """Return the layers of a state of a disk, as they are read; `volume` opens those that libvirt alone may open."""
    layers = tuple(forest[layer] for layer in reversed(forest.lineage(point.image)))
    return DiskState(point.name or layers[-1].name, layers, point.inside, volume)


def list_files(state: DiskState, path: PathLike, *, recursive: bool = False) -> Files:
    """Return what is in a folder; a file as itself."""
    name = _path(path)
    tried = t("list {path}", path=name)
    answers = ask([state], tried, {"do": "list", "path": name, "recursive": recursive})
    return _files(state, answers)


def find_files(state: DiskState, pattern: str, path: PathLike, newer: When | None) -> Files:
    """Return the files below a folder that have a name, and were changed after a time."""
    name = _path(path)
    since = None if newer is None else _nanoseconds(newer)
    request = {"do": "list", "path": name, "recursive": True, "pattern": pattern, "newer": since}
    return _files(state, ask([state], t("find {pattern} in {path}", pattern=pattern, path=name), request))


def read_file(state: DiskState, path: PathLike, most: int) -> bytes:
    """Return the content of a file."""
    name, content = _path(path), bytearray()
    most = whole_number(most, "most", t("bytes"), least=0)
    tried = t("read {path}", path=name)
    _check_settled(state, tried)
    ask([state], tried, {"do": "read", "path": name, "most": most}, sink=content.extend)
    return bytes(content)


def copy_out(state: DiskState, path: PathLike, to: PathLike) -> str:
    """Copy a file to a new one on this machine; return its path."""
    name, target = _path(path), absolute(to)
    check_link(target, t("copy {source} to {target}", source=name, target=target))
    if os.path.isdir(target):
        target = os.path.join(target, name.rstrip("/").rpartition("/")[2])
    tried = t("copy {source} to {target}", source=name, target=target)
    if os.path.lexists(target):
        raise InvalidRequestError(
            tried,
            why=t("the target already exists"),
            next_step=t("choose another name, because existing files are not overwritten"),
        )
    _check_settled(state, tried)
    with os_errors(tried), temporary(os.path.dirname(target)) as new:
        size = 0

        def write(piece: bytes) -> None:
            nonlocal size
            end = size + len(piece)
            if piece.strip(b"\0"):
                while size < end:
                    size += os.pwrite(new.fd, piece[size - end :], size)
            size = end  # what is all zeros stays a hole: a hostile file system can name any size

        ask([state], tried, {"do": "read", "path": name, "most": None}, sink=write, limits=COPY)
        os.ftruncate(new.fd, size)
        publish_new(new, target)
    return target


def where(state: DiskState, path: PathLike) -> FileParts:
    """Return in which layer each part of a file lies."""
    name = _path(path)
    answers = ask([state], t("find {path}", path=name), {"do": "where", "path": name})
    parts = tuple(part._replace(image=_layer(state.layers, part.layer)) for part in answers.parts)
    return FileParts(state.label, name, parts, volumes=tuple(answers.volumes), notes=(*_doubts(state), *answers.notes))


def changes(before: DiskState, after: DiskState, path: PathLike, *, seconds: float | None = None) -> FileChanges:
    """Return what differs between two states of a disk; with `seconds` it is an error if that takes longer."""
    name = _path(path)
    tried = t("compare {before} with {after}", before=before.name, after=after.name)
    limits = QUESTION if seconds is None else replace(QUESTION, seconds=seconds)
    answers = ask([before, after], tried, {"do": "diff", "path": name}, limits=limits)
    found = tuple(
        FileChange(
            path=row.path,
            change=row.change,
            before=row.before,
            after=row.after,
            layer=_layer(after.layers, None if row.layer < 0 else row.layer),
        )
        for row in answers.rows
    )
    notes = dict.fromkeys((*_doubts(before), *_doubts(after), *answers.notes))
    return FileChanges(
        after.layers[-1].name,
        before.name,
        after.name,
        found,
        volumes=tuple(answers.volumes),
        notes=tuple(notes),
        layers=tuple(_layers(before.layers, after.layers)),
    )


def _layers(before: Sequence[Image], after: Sequence[Image]) -> Iterator[DiskLayer]:
    """Yield the layers of both states, then those of the first one alone, then those of the second one."""
    shared = 0
    for one, other in zip(before, after, strict=False):
        if one.path != other.path:
            break
        shared += 1
    parts: tuple[tuple[Sequence[Image], tuple[Literal["before", "after"], ...]], ...] = (
        (after[:shared], ("before", "after")),
        (before[shared:], ("before",)),
        (after[shared:], ("after",)),
    )
    for images, states in parts:
        for image in images:
            yield DiskLayer(
                image.name,
                image.path,
                states,
                allocated=image.allocated,
                virtual_size=image.virtual_size,
            )


def _doubts(state: DiskState) -> tuple[Message, ...]:
    """Return notes if what is read can be incomplete: a process is writing to it, or was interrupted."""
    return (*_in_use(state), *(why for why, _ in _unsettled(state)))


def _in_use(state: DiskState) -> Iterator[Message]:
    image = state.layers[-1]
    if state.snapshot is None and image.held == "write":
        yield t(
            "a process was writing to {image} while the image was read, so its file systems may be inconsistent",
            image=image.name,
        )


def _unsettled(state: DiskState) -> Iterator[tuple[Message, str]]:
    """Yield what has left a layer with a part of its data, as the journal tells, and the call whose plans finish it."""
    layers = [image.path for image in state.layers if image.known_from == "file" and image.path.startswith("/")]
    if state.snapshot is not None:  # its clusters are never written to
        layers = layers[:-1]
    for entry in read_all(dict.fromkeys(map(os.path.dirname, layers))):
        if isinstance(entry, MergeEntry):
            is_begun = entry.phase == "copying" and _number(layers, entry.base) is not None
            # What is merged hides what the base has already.
            if is_begun and all(_number(layers, layer) is None for layer in entry.merged):
                why = t(
                    "a merge of {top} into {base} is running or was interrupted, so the files of {image} may be a "
                    "mixture of old and new data",
                    top=entry.top,
                    base=entry.base,
                    image=state.label,
                )
                yield why, finishing(entry)
        elif isinstance(entry, PullEntry) and (number := _number(layers, entry.image)) is not None:
            # On what it was based on before, it reads the same in any case.
            if number and same_place(layers[number - 1], entry.before.key):
                continue
            why = t(
                "a pull into {path} was interrupted, so data may be missing from the files of {image}",
                path=entry.image,
                image=state.label,
            )
            yield why, "guest.unfinished()"


def _number(layers: Sequence[str], path: str) -> int | None:
    return next((number for number, layer in enumerate(layers) if same_place(layer, path)), None)


def _check_settled(state: DiskState, tried: Message) -> None:
    """Check that the content of a file, which comes without notes, is whole."""
    for why, call in _unsettled(state):
        raise ImageError(
            tried, why=why, next_step=t("wait until it ends, or finish it with {call}[0].run()", call=call)
        )


def _files(state: DiskState, answers: Answers) -> Files:
    return Files(
        state.label,
        tuple(answers.entries),
        volumes=tuple(answers.volumes),
        notes=(*_doubts(state), *answers.notes),
    )


def _layer(layers: Sequence[Image], number: int | None) -> str:
    return "" if number is None or not 0 <= number < len(layers) else layers[number].name


def _path(path: Any) -> str:
    try:
        text = os.fsdecode(path)
    except TypeError as error:
        raise _no_path(path) from error
    if "\0" in text or not text:
        raise _no_path(text)
    return text


def _no_path(path: object) -> InvalidRequestError:
    return InvalidRequestError(
        t("find {path}", path=repr(path)), why=t("it is not a path"), next_step=t("use a string such as '/etc'")
    )


def _nanoseconds(when: When) -> int:
    """Return a time as nanoseconds since 1970; one without a zone is in UTC."""
    try:
        moment = datetime.fromisoformat(when) if isinstance(when, str) else when
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1_000_000) * 1000
    except (ValueError, AttributeError, OverflowError) as error:
        raise InvalidRequestError(
            t("find files newer than {time!r}", time=when),
            said=str(error),
            next_step=t("use a time such as '2026-11-29 08:00', or a datetime"),
        ) from error
