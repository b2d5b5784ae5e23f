"""The only place that reads for plans: what a request needs beside the forest, of files and of a guest."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from vmsnap_nb.errors import ImageError, VmsnapError
from vmsnap_nb.live.journal import is_untouched, read_all
from vmsnap_nb.live.libvirt_images import Absent, absent
from vmsnap_nb.model.blockmap import BlockMap, LayerMap
from vmsnap_nb.model.disk_xml import mirrored
from vmsnap_nb.model.file_space import FileSpace
from vmsnap_nb.model.forest import Chain, Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.image import OPENABLE, Image
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans.facts import LOST_JOB, STARTING, FolderFacts, GuestFacts, SavedState
from vmsnap_nb.plans.journal import Entry, PullEntry
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.system import process
from vmsnap_nb.system.disk.file_space import qcow2_space, space_of_map
from vmsnap_nb.system.disk.open import check_references
from vmsnap_nb.system.disk.snapshot_table import is_as_taken
from vmsnap_nb.system.files.devices import protocol_of
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.system.files.owner import own_accounts, replaceable
from vmsnap_nb.system.files.readers import permits
from vmsnap_nb.system.files.temporary import incomplete, leftovers
from vmsnap_nb.system.guest.agent import AGENT_PORT
from vmsnap_nb.system.libvirt.block_jobs import active_jobs
from vmsnap_nb.system.libvirt.domains import channels, is_starting
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.knowledge import Knowledge
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.security import denied_among, not_relabelled, qemu_users, secmodels, unconfined
from vmsnap_nb.system.libvirt.snapshots import read_saved_state
from vmsnap_nb.system.libvirt.volumes import idle_pools, with_volume_paths
from vmsnap_nb.system.libvirt.written import has_given_up_images, written_paths
from vmsnap_nb.system.maps import MapReader, map_inside
from vmsnap_nb.system.qemu.check import damage
from vmsnap_nb.system.qemu.program import emulators
from vmsnap_nb.system.qemu.started import started
from vmsnap_nb.system.saved_memory import why_not_to_restore
from vmsnap_nb.words.message import Message, clauses, t
from vmsnap_nb.words.states import state_words

__all__ = [
    "blockmap",
    "file_spaces",
    "jobs_of",
    "look_at_files",
    "look_at_guest",
    "look_elsewhere",
    "reads_alike",
    "saved_state",
    "sources_of",
    "with_sizes",
]

_MAPS = MapReader()
_COMPARED: dict[tuple[object, ...], bool] = {}
"""By the state of all files that it depends on: whether two images read alike."""
_MOST_COMPARED = 64


# -- files -----------------------------------------------------------------------------------------------


def look_at_files(now: Reading, needs: Needs, *, by_libvirt: bool = False) -> Reading:
    """Return the reading with what is needed of the images and folders of this machine.

    With `by_libvirt` a libvirt with other rights can make files where this process may not.
    """
    forest = now.forest
    entries = read_all(needs.journal)
    compared = {pair: reads_alike(forest, *pair) for pair in needs.compared}
    return replace(
        now,
        maps=read_maps(forest, needs.maps),
        folders=folder_facts(needs.places, needs.listed, by_libvirt=by_libvirt),
        entries=tuple(entry for entry in entries if isinstance(entry, Entry)),
        strangers=tuple(entry for entry in entries if not isinstance(entry, Entry)),
        alike=frozenset(pair for pair, same in compared.items() if same),
        unlike=frozenset(pair for pair, same in compared.items() if same is False),
        damaged={path: said for path in needs.checked if (said := _damage(forest, path))},
        untouched=frozenset(entry.path for entry in needs.entries if is_untouched(entry)),
        times={path: mtime for path in needs.times if (mtime := _mtime(path)) is not None},
        leftovers=dict(left for folder in needs.leftovers for left in leftovers(folder)),
        incomplete={path: identity for path in needs.begun if (identity := incomplete(path)) is not None},
        space=file_spaces(forest, needs.space),
        permits=permits(needs.permits),
        as_taken=frozenset(pair for pair in needs.as_taken if _is_as_taken(forest, *pair)),
        modes={path: mode for path in needs.modes if (mode := _mode(path)) is not None},
        listed=forest.folders,
    )


def look_elsewhere(knowledge: Knowledge, now: Reading, needs: Needs) -> Reading:
    """Return the reading with what libvirt tells of folders of another machine: what its storage pools hold."""
    folders = {*map(os.path.dirname, needs.places), *needs.listed}
    content = {
        pool.folder: knowledge.content(pool) for pool in knowledge.pools if pool.active and pool.folder in folders
    }
    listed = frozenset().union(*(paths for paths, _ in content.values()))
    taken = {path for path in listed if path in needs.places or os.path.dirname(path) in needs.listed}
    free = {folder: bytes_free for folder, (_, bytes_free) in content.items()}
    named, images = now.forest.folders, now.forest.images
    pools = (pool.folder for pool in knowledge.pools if pool.active and pool.folder is not None)
    # A folder that is no pool is an image of its own there, of which nothing is known.
    known = tuple(dict.fromkeys((*(folder for folder in named if folder not in images), *pools)))
    return replace(now, folders=FolderFacts(frozenset(taken), free), listed=known)


def folder_facts(places: Iterable[str], listed: Iterable[str] = (), *, by_libvirt: bool = False) -> FolderFacts:
    """Return which of these files are there, and what their folders allow; of listed folders all names are taken."""
    places, listed = [path for path in places if path.startswith("/")], tuple(listed)
    free: dict[str, int] = {}
    closed: dict[str, str] = {}  # by folder, why
    shared: dict[str, str] = {}
    owners = own_accounts()
    taken = {path for path in places if os.path.lexists(path)}
    for folder in dict.fromkeys((*map(os.path.dirname, places), *listed)):
        try:
            if not stat.S_ISDIR(os.stat(folder).st_mode):
                closed[folder] = t("it is not a folder")
            elif not by_libvirt and not os.access(folder, os.W_OK | os.X_OK):
                closed[folder] = t("the current user has no write permission for that location")
            free[folder] = shutil.disk_usage(folder).free
            if owners and (place := replaceable(os.path.join(folder, "file"), owners)):
                shared[folder] = place
            if folder in listed:
                with contextlib.suppress(PermissionError):  # one may make files in a folder, and not list it
                    taken.update(os.path.join(folder, name) for name in os.listdir(folder))
        except FileNotFoundError:
            closed[folder] = t("there is no such folder")
        except OSError as error:
            if not (by_libvirt and isinstance(error, PermissionError)):
                closed[folder] = error.strerror or str(error)
    return FolderFacts(frozenset(taken), free, closed, shared)


def _mode(path: str) -> int | None:
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return None


def _mtime(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def with_sizes(records: Iterable[SnapshotRecord]) -> tuple[SnapshotRecord, ...]:
    """Return records with the sizes of their memory files, as far as these are there."""
    return tuple(map(_with_size, records))


def _with_size(record: SnapshotRecord) -> SnapshotRecord:
    if record.memory_file is None:
        return record
    try:
        return replace(record, memory_size=os.stat(record.memory_file).st_size)
    except OSError:
        return record


def reads_alike(forest: Forest, top: str, below: str) -> bool | None:
    """Return whether an image reads as another below it does, as far as that one goes; None if that cannot be seen.

    What was seen is remembered as long as none of the files changes.
    """
    stamps = _stamps(forest, (top, below))
    if stamps is None:
        return None
    layers = (layer for path in (top, below) for layer in forest.known_lineage(path))
    if any(forest[layer].device for layer in layers):
        _COMPARED.pop(stamps, None)  # nothing tells whether it was written to since
    if stamps not in _COMPARED:
        image, other = forest[top], forest[below]
        assert image.virtual_size is not None
        assert other.virtual_size is not None
        if image.virtual_size > other.virtual_size:
            return False
        argv = ("qemu-img", "compare", "-q", "-U", _part(image), _part(other, image.virtual_size))
        done = process.run(argv, tried=t("compare {image} with {other}", image=top, other=below), check=False)
        if done.exit_status not in (0, 1) or _stamps(forest, (top, below)) != stamps:
            return None
        while len(_COMPARED) >= _MOST_COMPARED:
            del _COMPARED[next(iter(_COMPARED))]
        _COMPARED[stamps] = done.exit_status == 0
    return _COMPARED[stamps]


def _is_as_taken(forest: Forest, path: str, name: str) -> bool:
    image = forest.images.get(path)
    if image is None or image.format != "qcow2" or image.held or image.known_from != "file":
        return False
    with contextlib.suppress(VmsnapError, OSError):
        return is_as_taken(path, name)
    return False


def _damage(forest: Forest, path: str) -> Message | None:
    """Return what is damaged in an image that nobody writes to; QEMU itself puts one in order that is only dirty."""
    image = forest.images.get(path)
    if image is None or image.format != "qcow2" or image.dirty or image.held or forest.status(path) != "ok":
        return None
    if image.known_from != "file":
        return None
    return damage(path)


def _stamps(forest: Forest, paths: Iterable[str]) -> tuple[object, ...] | None:
    """Return what changes whenever one of some images does, or one below; None where one cannot be compared."""
    found: list[object] = []
    for path in paths:
        if path not in forest.images or forest[path].virtual_size is None or forest.status(path) not in OPENABLE:
            return None
        for layer in forest.known_lineage(path):
            if not MapReader.can(forest[layer]):
                return None  # QEMU would open what was not looked at here
            try:
                status = os.stat(layer)
            except OSError:
                return None
            found.append((layer, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(found)


def _part(image: Image, length: int | None = None) -> str:
    """Return how qemu-img is told an image, or the first bytes of it."""
    disk: dict[str, object] = {
        "driver": image.format or "raw",
        "file": {"driver": protocol_of(image.path), "filename": image.path},
    }
    if length is not None and length < (image.virtual_size or 0):
        disk = {"driver": "raw", "size": length, "file": disk}
    return "json:" + json.dumps(disk)


def blockmap(chain: Chain, inside: str | None = None) -> BlockMap:
    """Return which layer of a chain owns which part of the disk; a guest may be writing to it.

    `inside` is the ID of an internal snapshot of the last layer, of which only what that snapshot holds counts.
    """
    unknown = [layer for layer in chain if not MapReader.can(layer)]
    if unknown:
        next_step = t("make all layers readable")
        if any(layer.known_from != "file" for layer in unknown):
            next_step = t("run this on the machine where the files are stored, as a user who can read them")
        elif any(layer.status == "outside" for layer in unknown):
            next_step = t("make all layers readable: also pass their folders, or use follow=True")
        elsewhere = t("this process cannot read it, and libvirt does not provide a map")

        def reason(layer: Image) -> str:
            if layer.problem or layer.known_from != "file":
                return layer.problem or elsewhere
            return (
                t("it is encrypted ({method})", method=layer.encryption)
                if layer.encryption
                else state_words(layer.status)
            )

        raise ImageError(
            t("map the layers of {image}", image=chain.top),
            why=clauses(t("{image}: {why}", image=layer.path, why=reason(layer)) for layer in unknown),
            next_step=next_step,
        )
    check_references(chain.layers, t("map the layers of {image}", image=chain.top))
    if inside is not None:
        maps = _MAPS.read(chain.layers[:-1])
        maps[chain.top] = map_inside(chain[chain.top], inside)
    else:
        maps = _MAPS.read(chain)
    return BlockMap(tuple(maps[layer.path] for layer in chain))


def read_maps(forest: Forest, paths: Iterable[str]) -> dict[str, LayerMap]:
    """Return by path what each of these images holds itself, of those that are in the forest.

    Those of which an overlay reads only a part are left out: their maps say nothing of what is read through it.
    """
    images = (forest[path] for path in dict.fromkeys(paths) if path in forest.images)
    return _MAPS.read(image for image in images if _is_read_whole(forest, image))


def _is_read_whole(forest: Forest, image: Image) -> bool:
    references = (forest[child].backing for child in forest.known_children(image.path))
    return all(reference is None or reference.is_plain for reference in references)


def file_spaces(forest: Forest, paths: Iterable[str] | None = None) -> dict[str, FileSpace]:
    """Return what these images take, each by itself, or all of the forest; those that cannot be read are left out."""
    found = {}
    for path in forest.images if paths is None else paths:
        image = forest.images.get(path)
        if image is not None and MapReader.can(image):
            with contextlib.suppress(VmsnapError):
                found[path] = _space(image)
    return found


def _space(image: Image) -> FileSpace:
    return qcow2_space(image) if image.format == "qcow2" else space_of_map(_MAPS.read((image,))[image.path])


# -- a guest ---------------------------------------------------------------------------------------------


def look_at_guest(
    knowledge: Knowledge,
    handle: Any,
    now: Reading,
    needs: Needs,
    *,
    here: bool,
    by_libvirt: bool = False,
    told: Absent | None = None,
) -> Reading:
    """Return the reading with what is needed of a guest: of libvirt's handle of it, and of its images if they are here.

    `told` is what is known of absent files, if that was found out before.

    While a job goes on QEMU lets nobody look into the layers.
    """
    known, connection = now.owner, knowledge.connection
    with libvirt_errors(t("read the state of {guest}", guest=known.domain.name)):
        version = connection.getLibVersion()
        definition = known.domain.definition or known.xml
        if known.running and not known.domain.persistent:
            definition = with_volume_paths(handle.connect, handle.XMLDesc(library().VIR_DOMAIN_XML_INACTIVE))
        memory = handle.info()[1] * 1024
        inactive = [] if known.running else [pool.name for pool in knowledge.pools if not pool.active]
        idle = idle_pools(handle, inactive)
    root = parse_xml(known.xml)
    loader, nvram = root.find("os/loader"), root.find("os/nvram")
    targets = [disk.target for disk in known.domain.disks if disk.source]
    jobs = jobs_of(handle, known.domain, targets) if known.running else {}
    denied, denied_unknown = denied_by_apparmor(connection, known, now.forest) if here else (frozenset[str](), "")
    guest = replace(
        known,
        denied=denied,
        denied_unknown=denied_unknown,
        not_relabelled=not_relabelled(known.xml),
        definition=definition,
        agent=known.running and channels(known.xml).get(AGENT_PORT, False),
        jobs=jobs,
        written=written_paths(handle) if needs.written and known.running else frozenset(),
        given_up=known.domain.state == "paused" and "" not in jobs and has_given_up_images(handle),
        memory=memory,
        pflash=loader is not None and loader.get("type") == "pflash",
        nvram="" if nvram is None else (nvram.text or ""),
        nvram_format="raw" if nvram is None else nvram.get("format", "raw"),
        libvirt_version=(version // 1_000_000, version // 1000 % 1000, version % 1000),
        is_system=by_libvirt,
        idle_pools=idle,
    )
    if jobs.keys() & (jobs.keys() if needs.disk is None else {"", needs.disk}):
        needs = replace(needs, maps=(), compared=(), checked=(), space=())
    looked = look_at_files(now, needs, by_libvirt=by_libvirt) if here else look_elsewhere(knowledge, now, needs)
    if here and known.running and looked.pulls:
        guest = replace(guest, restarted=_restarted(known.domain.uuid, looked.pulls))
    saved = None if needs.saved is None else saved_state(connection, needs.saved, here=here, xml=known.xml)
    gone, unknown = absent(knowledge, now.forest.records, here=here) if told is None else told
    distrusted = _distrusted(connection, known.xml, needs.restored) if here else {}
    return replace(looked, guest=guest, saved=saved, gone=gone, unknown=unknown, distrusted=distrusted)


def _distrusted(connection: Any, xml: str, paths: tuple[str, ...]) -> dict[str, Message]:
    """Return which saved memory of a guest libvirt should not be given, each with the reason."""
    users = qemu_users(connection) if paths else frozenset()
    found = {path: why_not_to_restore(path, users, emulators(xml)) for path in paths}
    return {path: why for path, why in found.items() if why}


def _restarted(uuid: str, entries: Iterable[PullEntry]) -> frozenset[str]:
    """Return the entries that were written before the QEMU of a guest was started, by their paths."""
    began = started(uuid)
    written = {entry.path: _mtime(entry.path) for entry in entries}
    return frozenset(path for path, at in written.items() if began is None or at is None or began * 1e9 > at)


def denied_by_apparmor(connection: Any, guest: GuestFacts, forest: Forest) -> tuple[frozenset[str], str]:
    """Return the layers of a running guest to which AppArmor denies its QEMU writing, or why that is not known."""
    if not guest.running or "apparmor" not in secmodels(connection) or unconfined(guest.xml, "apparmor"):
        return frozenset(), ""
    layers = dict.fromkeys(path for use in guest.domain.uses for path in forest.known_lineage(use.path))
    return denied_among(guest.domain.uuid, layers)


def jobs_of(handle: Any, domain: Domain, targets: Iterable[str]) -> dict[str, str]:
    """Return what goes on with the disks of a guest that runs, by target, and under ``""`` what concerns all of it."""
    libvirt = library()
    with libvirt_errors(t("read the state of {guest}", guest=domain.name)):
        if is_starting(handle):
            return {"": STARTING}
    jobs = active_jobs(handle, targets)
    if "active commit" in jobs.values():
        with libvirt_errors(t("read the definition of {guest}", guest=domain.name)):
            known = mirrored(handle.XMLDesc())
        jobs = {at: LOST_JOB if job == "active commit" and at not in known else job for at, job in jobs.items()}
    with libvirt_errors(t("read the jobs of {guest}", guest=domain.name)):
        try:
            if handle.jobInfo()[0] not in (libvirt.VIR_DOMAIN_JOB_NONE, libvirt.VIR_DOMAIN_JOB_COMPLETED):
                jobs[""] = t("saving, migrating, dumping or deleting a snapshot")
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_INVALID):
                raise
    return jobs


def sources_of(connection: Any, path: str, *, here: bool, xml: str) -> tuple[str, ...]:
    """Return the images of the disks that a file of saved memory names; `xml` is what libvirt has of the guest."""
    sources = read_saved_state(connection, path, here=here, emulators=emulators(xml))[2]
    return tuple(source for source in sources.values() if source)


def saved_state(connection: Any, path: str, *, here: bool, xml: str) -> SavedState:
    """Return what a file of saved memory says; `xml` is what libvirt has of the guest."""
    name, uuid, sources = read_saved_state(connection, path, here=here, emulators=emulators(xml))
    try:
        mtime: int | None = os.stat(path).st_mtime_ns if here else None
    except PermissionError:
        mtime = None
    except OSError as error:
        raise from_os_error(error, t("read the saved memory {path}", path=path)) from error
    return SavedState(name, uuid, sources, mtime)
