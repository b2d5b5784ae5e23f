"""Forests completed with what libvirt reports of images that this process may not open, or of another machine.

There are three answers to the question of whether a file is there: yes, no, and not known. Before "no" is believed,
libvirt is asked; where nobody knows, the reason is said, and a plan that needs the answer is refused.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.image import Image, KnownFrom
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.system.libvirt.each import ask_each
from vmsnap_nb.system.libvirt.knowledge import Knowledge
from vmsnap_nb.system.libvirt.storage import Pool
from vmsnap_nb.system.saved_memory import is_other_file
from vmsnap_nb.system.survey import Survey
from vmsnap_nb.words.message import NOTHING, Message, clauses, counted, t

__all__ = ["Absent", "absent", "files_of", "forest_elsewhere", "image_elsewhere", "is_absent", "may_list", "with_told"]


Absent = tuple[frozenset[str], Mapping[str, str]]
"""Which of the files that records name are gone, and of which that is not known, each with the reason."""


def files_of(record: SnapshotRecord) -> tuple[str, ...]:
    """Return all files that a record names."""
    disks = [path for disk in record.held_disks for path in (disk.source, disk.file) if path]
    return (*disks, *((record.memory_file,) if record.memory_file else ()))


def absent(knowledge: Knowledge, records: Iterable[SnapshotRecord], *, here: bool) -> Absent:
    """Return which of the files that records name are gone, and of which that is not known."""
    gone: set[str] = set()
    unknown: dict[str, Message] = {}
    records = tuple(records)
    paths = dict.fromkeys(path for record in records for path in files_of(record) if path.startswith("/"))
    memory = {record.memory_file for record in records}
    if paths and not here:
        knowledge.list_all()
    for path in paths:
        seen, why = _look(path) if here else (None, NOTHING)
        if seen:
            if path in memory and is_other_file(path):
                gone.add(path)  # the record of a guest that somebody else has made can name any file
            continue
        told = knowledge.why_unknown(path, here=here and seen is False)
        if seen is None and here and (told is None or not knowledge.has_folder(path)):
            unknown[path] = why  # libvirt has it in no pool, and this process may not look
        elif told is None:
            gone.add(path)
        elif told:
            unknown[path] = told
    return frozenset(gone), unknown


def is_absent(path: str) -> bool:
    """Return whether this process sees that there is no file of this machine; not so if it may not look."""
    return _look(path)[0] is False


def _look(path: str) -> tuple[bool | None, Message]:
    """Return whether a file is there, or None and the reason why that cannot be seen."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False, NOTHING
    except OSError as error:
        return None, t("the current user has no permission to access that location: {error}", error=error.strerror)
    return True, NOTHING


# -- images of this machine ----------------------------------------------------------------------------------


def may_list(folder: str) -> bool:
    """Return whether this process may list a folder, and read what is in it."""
    return os.access(folder, os.R_OK | os.X_OK)


def with_told(forest: Forest, knowledge: Knowledge, closed: Iterable[Pool], files: Iterable[str] = ()) -> Forest:
    """Return the forest with what libvirt tells of images that could not be read, and of all that they are based on.

    `closed` are pools whose folders this process may not list; `files` are images that are named elsewhere.
    """
    put: dict[str, Image] = {}
    queue = [path for path, image in forest.images.items() if image.status in {"unreadable", "missing"}]
    for pool in closed:
        assert pool.folder is not None
        volumes = knowledge.volumes(pool)
        put[pool.folder] = _closed(pool, len(volumes))
        queue += volumes
    queue += (path for path in files if path.startswith("/") and path not in forest.images)
    for path in queue:
        if path in put:
            continue
        image = forest.images.get(path) or _opened(path)
        told = _instead(image, knowledge)
        if told is not None:
            put[path] = told
        elif path not in forest.images and image.status != "missing":
            put[path] = image
        backing = put[path].backing if path in put else None
        if backing is not None and backing.key not in forest.images:
            queue.append(backing.key)
    return forest.edited(put=put.values()) if put else forest


def _opened(path: str) -> Image:
    """Return an image that nothing has led to before."""
    return Survey(images={path: None}, follow=True).read().images[path]


def _instead(image: Image, knowledge: Knowledge) -> Image | None:
    """Return what libvirt tells of an image that could not be read, or is not there; None if it tells nothing."""
    if image.status == "missing":
        why = knowledge.why_unknown(image.path, here=True)
        if not why:
            return None
        return replace(image, status="unreadable", problem=t("cannot tell whether it exists: {why}", why=why))
    if image.status != "unreadable":
        return None
    told = knowledge.image(image.path, whole=True)
    if told is None:
        return None
    if told.problem:  # what it is based on is not known
        return replace(told, status="unreadable", problem=clauses([image.problem, told.problem]))
    if told.known_from == "definition":
        problem = t(
            "this process cannot read the file, which libvirt lists as the disk of a guest: {why}", why=image.problem
        )
    else:
        problem = t("this process cannot read the file, which libvirt lists as a volume: {why}", why=image.problem)
    return replace(told, problem=problem)


def _closed(pool: Pool, count: int) -> Image:
    assert pool.folder is not None
    if pool.active:
        problem = counted(
            "the current user has no permission to list the folder of the storage pool {pool}. libvirt lists {count} "
            "volume in it, but there may be other images",
            "the current user has no permission to list the folder of the storage pool {pool}. libvirt lists {count} "
            "volumes in it, but there may be other images",
            count,
            pool=pool.name,
        )
    else:
        problem = t(
            "the current user has no permission to list the folder of the storage pool {pool}, which is not active. "
            "The folder may contain other images",
            pool=pool.name,
        )
    known_from: KnownFrom = "volume" if pool.active else "file"
    return Image(pool.folder, status="unreadable", known_from=known_from, problem=problem)


# -- images of another machine -------------------------------------------------------------------------------


def forest_elsewhere(
    knowledge: Knowledge, domains: Iterable[tuple[Domain, str]], folders: Iterable[str] = (), files: Iterable[str] = ()
) -> Forest:
    """Read a forest without opening a file: from volumes, and the definitions of guests.

    All volumes of all pools are in it, as they are on the host itself: each may be an overlay of another. Of `folders`
    that are no pools nothing is known.
    """
    folders = tuple(folders)
    uses = tuple(use for domain, _ in domains for use in domain.uses)
    images: dict[str, Image] = {}
    sources = [use.path for use in uses]
    named = set(files) - set(sources)
    knowledge.list_all()
    row = list(dict.fromkeys([*sources, *files]))
    while row:  # one layer of all chains after the other
        question = partial(image_elsewhere, knowledge=knowledge, whole=True)
        found = dict(zip(row, ask_each(question, row, far=True), strict=True))
        below = [image.backing.key for image in found.values() if image.backing is not None]
        named.difference_update(below)
        # Of what is only named somewhere, the list of snapshots says that it is missing.
        images |= {path: image for path, image in found.items() if image.status != "missing" or path not in named}
        row = [path for path in dict.fromkeys(below) if path not in images]
    devices: list[str] = []
    for pool in knowledge.pools:
        for path in knowledge.volumes(pool):
            if path in images:
                continue
            told = knowledge.image(path)
            if told is not None:
                images[path] = told
                devices += [path] if told.device else []
    question = partial(image_elsewhere, knowledge=knowledge, whole=True)  # libvirt itself looks into no device
    images |= zip(devices, map(_unread_device, ask_each(question, devices, far=True)), strict=True)
    for image in tuple(images.values()):
        if image.backing is not None and image.backing.key not in images:
            images[image.backing.key] = image_elsewhere(image.backing.key, knowledge)
    active = [f"{pool.folder}/" for pool in knowledge.pools if pool.active and pool.folder is not None]
    for folder in folders:
        if folder not in images and not any(path.startswith(f"{folder.rstrip('/')}/") for path in active):
            images[folder] = _no_pool(folder)
    return Forest(images, uses, folders, datetime.now(UTC))


def _unread_device(image: Image) -> Image:
    """Return a device as what is not known where its first bytes were not read: it may be an overlay."""
    if image.known_from == "volume data" or image.format is not None or image.status != "ok":
        return image
    return replace(image, status="outside", problem=t("libvirt does not report what kind of file it is"))


def _no_pool(folder: str) -> Image:
    """Return what is shown of a folder that was named, and of which libvirt lists no file."""
    return Image(
        folder,
        status="unreadable",
        known_from="volume",
        problem=t(
            "the folder is not an active storage pool on that host, so its images are unknown: {command}",
            command=f"virsh pool-define-as NAME dir --target {shlex.quote(folder)}",
        ),
    )


def image_elsewhere(
    path: str, knowledge: Knowledge, whole: bool = False, early: Callable[[Image], None] = lambda _: None
) -> Image:
    """Return an image of another machine by what libvirt tells of it; `whole` and `early` are as for `Knowledge`."""
    if not path.startswith("/"):
        return Image(
            path, status="remote", problem=t("it is at a network address, and such addresses are never opened")
        )
    told = knowledge.image(path, whole=whole, early=early)
    if told is not None:
        return replace(told, status="outside") if told.problem and told.status == "ok" else told
    why = knowledge.why_unknown(path, here=False)
    if why is None:
        return Image(path, status="missing", problem=t("there is no such file in its storage pool"))
    return Image(path, status="outside", problem=why or t("libvirt does not report what kind of file it is"))
