"""Snapshots of a live guest: what is read, and which plans are made of it."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from vmsnap_nb.live.files import absolute, ground_of
from vmsnap_nb.live.plan import LivePlan, World
from vmsnap_nb.live.revert_notes import revert_notes
from vmsnap_nb.live.snapshot_actions import snapshot_actions
from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.snapshot import Kind, SnapshotList, SnapshotLists, SnapshotRecord
from vmsnap_nb.plans.ground import Ground
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.reconcile import plan_reconcile
from vmsnap_nb.plans.saved_state import SavedState, plan_restore, plan_save, saved_record
from vmsnap_nb.plans.snapshot import plan_snapshot
from vmsnap_nb.plans.snapshot_draft import SnapshotRequest, draft_snapshot
from vmsnap_nb.plans.snapshot_facts import SnapshotFacts
from vmsnap_nb.system.guest_agent import AGENT_PORT
from vmsnap_nb.system.libvirt_block_jobs import active_jobs
from vmsnap_nb.system.libvirt_domains import channels, read_disks
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_library import library
from vmsnap_nb.system.libvirt_snapshots import read_all_records, read_records, read_saved_state
from vmsnap_nb.system.os_errors import from_os_error

if TYPE_CHECKING:
    from vmsnap_nb.live.guest import Guest
    from vmsnap_nb.live.host import Host

__all__ = [
    "PathLike",
    "facts_of",
    "guest_world",
    "jobs_of",
    "reconcile_plan",
    "restore_plan",
    "save_plan",
    "snapshot_list",
    "snapshot_lists",
    "snapshot_plan",
    "snapshot_request",
]

PathLike = str | os.PathLike[str]


# -- what is read ----------------------------------------------------------------------------------------


def guest_world(guest: Guest, paths: Iterable[str] = (), *, saved: str | None = None) -> World:
    """Give the place where plans about one guest's snapshots read and run: its images, and its records.

    Parameters
    ----------
    guest : Guest
        The guest.
    paths : iterable of str
        Files whose folders are to be read as well.
    saved : str, optional
        A file of saved memory; it counts as a record as soon as it is there.

    Returns
    -------
    World
    """
    records = _records_of(guest)
    sources = (disk.source for disk in guest.domain().disks)
    named = (path for record in records for path in _files_of(record))
    world = guest.host.world(*_folders((*sources, *named, *paths)))

    def read() -> Forest:
        found = _records_of(guest)
        if saved is not None and os.path.lexists(saved):
            found += (saved_record(guest.name, saved),)
        return world.read().edited(records=found)

    return World(read, {**world.actions, **snapshot_actions(guest.host)}, world.readonly)


def _folders(paths: Iterable[str | None]) -> list[str]:
    """Give the folders of some files, as far as they are there."""
    folders = dict.fromkeys(os.path.dirname(path) for path in paths if path and path.startswith("/"))
    return [folder for folder in folders if not folder.startswith("/dev") and os.path.isdir(folder)]


def _files_of(record: SnapshotRecord) -> tuple[str, ...]:
    """Give all files that a record names."""
    disks = [path for disk in record.held_disks for path in (disk.source, disk.file) if path]
    return (*disks, *((record.memory_file,) if record.memory_file else ()))


def _records_of(guest: Guest) -> tuple[SnapshotRecord, ...]:
    return tuple(map(_sized, read_records(guest._domain)))


def _sized(record: SnapshotRecord) -> SnapshotRecord:
    if record.memory_file is None:
        return record
    try:
        return replace(record, memory_size=os.stat(record.memory_file).st_size)
    except OSError:
        return record


def _gone(records: Iterable[SnapshotRecord]) -> frozenset[str]:
    paths = {path for record in records for path in _files_of(record) if path.startswith("/")}
    return frozenset(path for path in paths if not os.path.lexists(path))


def snapshot_list(guest: Guest) -> SnapshotList:
    """Read the snapshots of a guest, and whether they agree with the files."""
    forest = guest_world(guest).read()
    gone = _gone(forest.records) if guest.host.files_are_here else frozenset()
    note = next(revert_notes(guest, forest.records), None) if guest.host.files_are_here else None
    found = list_snapshots(guest.domain(), forest, gone=gone)
    return found if note is None else replace(found, going_back_to=note.name)


def snapshot_lists(host: Host) -> SnapshotLists:
    """Read the snapshots of all guests of a host at once, and whether they agree with the files."""
    guests = host.guests()
    every = [tuple(map(_sized, records)) for records in read_all_records([guest._domain for guest in guests])]
    records = [record for of_guest in every for record in of_guest]
    domains = [guest.domain() for guest in guests]
    sources = (disk.source for domain in domains for disk in domain.disks)
    named = (path for record in records for path in _files_of(record))
    forest = host.world(*_folders((*sources, *named))).read()
    gone = _gone(records) if host.files_are_here else frozenset()
    lists = (
        list_snapshots(domain, replace_records(forest, of_guest), gone=gone)
        for domain, of_guest in zip(domains, every, strict=True)
    )
    return SnapshotLists(tuple(lists))


def replace_records(forest: Forest, records: Iterable[SnapshotRecord]) -> Forest:
    """Give the same forest with the records of one guest; what it has worked out already is kept."""
    same = replace(forest, records=tuple(records))
    for name, value in vars(forest).items():
        if name not in vars(same):
            vars(same)[name] = value
    return same


def facts_of(guest: Guest, ground: Ground, forest: Forest) -> SnapshotFacts:
    """Read what plans about snapshots must know of a guest beyond its record.

    Parameters
    ----------
    guest : Guest
        The guest.
    ground : Ground
        Of the files that the plan would make.
    forest : Forest
        The images and records.

    Returns
    -------
    SnapshotFacts
    """
    xml = guest.xml()
    root = ET.fromstring(xml)
    loader, nvram = root.find("os/loader"), root.find("os/nvram")
    with libvirt_errors(f"read the state of {guest.name}"):
        version = guest.host.connection.getLibVersion()
        memory = guest._domain.info()[1] * 1024
    return SnapshotFacts(
        ground,
        guest.host.uri,
        agent=guest.running and channels(xml).get(AGENT_PORT, False),
        jobs=jobs_of(guest, read_targets(xml)) if guest.running else {},
        memory=memory,
        pflash=loader is not None and loader.get("type") == "pflash",
        nvram="" if nvram is None else (nvram.text or ""),
        nvram_format="raw" if nvram is None else nvram.get("format", "raw"),
        libvirt_version=(version // 1_000_000, version // 1000 % 1000, version % 1000),
        gone=_gone(forest.records) if guest.host.files_are_here else frozenset(),
    )


def read_targets(xml: str) -> list[str]:
    """Give the targets of those disks in a domain XML that have an image."""
    return [disk.target for disk in read_disks(xml) if disk.source]


def jobs_of(guest: Guest, targets: Iterable[str]) -> dict[str, str]:
    """Give what goes on with the disks of a guest that runs, by target, and under ``""`` what concerns all of it."""
    libvirt = library()
    jobs = active_jobs(guest._domain, targets)
    with libvirt_errors(f"read the jobs of {guest.name}"):
        try:
            if guest._domain.jobInfo()[0] not in (libvirt.VIR_DOMAIN_JOB_NONE, libvirt.VIR_DOMAIN_JOB_COMPLETED):
                jobs[""] = "saving, migrating, dumping or deleting a snapshot"
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                raise
    return jobs


# -- plans -----------------------------------------------------------------------------------------------


def snapshot_request(
    guest: Guest,
    *,
    name: str | None,
    kind: Kind | None,
    description: str,
    disks: Mapping[str, PathLike | None] | Iterable[str] | None,
    quiesce: bool,
    memory_file: PathLike | None,
    atomic: bool,
    reuse: bool,
    metadata: bool,
) -> SnapshotRequest:
    """Write down what `Guest.snapshot` was called with; paths become absolute, a bare name goes beside the disk."""
    chosen: dict[str, str] | None = None
    if isinstance(disks, Mapping):
        sources = {disk.target: disk.source for disk in guest.domain().disks}
        chosen = {target: _choice(choice, sources.get(target)) for target, choice in disks.items()}
    elif disks is not None:
        wanted = [disks] if isinstance(disks, str) else list(disks)
        known = [disk.target for disk in guest.domain().disks]
        chosen = {target: "no" for target in known if target not in wanted}
        # A name that no disk has goes on, to be refused with those that there are.
        chosen |= {target: "external" for target in wanted if target not in known}
    return SnapshotRequest(
        name,
        kind,
        description,
        chosen,
        quiesce,
        None if memory_file is None else absolute(memory_file),
        atomic,
        reuse,
        metadata,
    )


def _choice(choice: PathLike | None, source: str | None) -> str:
    if choice is None:
        return "no"
    text = os.fspath(choice)
    if text in ("internal", "external", "no"):
        return text
    if "/" not in text and source is not None and source.startswith("/"):
        return absolute(os.path.join(os.path.dirname(source), text))
    return absolute(text)


def _bind(guest: Guest, make: Callable[[Forest], Plan], world: World) -> LivePlan:
    return LivePlan.bind(make, replace(world, guest=guest.uuid))


def snapshot_plan(guest: Guest, request: SnapshotRequest) -> LivePlan:
    """Plan a snapshot of a guest; nothing happens until its `run`."""
    named = [choice for choice in (request.disks or {}).values() if choice.startswith("/")]
    world = guest_world(guest, [*named, *([request.memory_file] if request.memory_file else [])])

    def make(forest: Forest) -> Plan:
        domain = guest.domain()
        facts = facts_of(guest, Ground(), forest)
        if request.quiesce and guest.running and not guest.host.readonly:
            # One that is connected and hangs would keep libvirt waiting without an end.
            facts = replace(facts, agent=guest._agent_answers())
        draft = draft_snapshot(forest, domain, request, pflash=facts.pflash)
        images = [disk.source for disk in draft.disks if disk.held == "internal" and disk.source]
        ground = ground_of((*draft.paths, *images)) if guest.host.files_are_here else Ground()
        return plan_snapshot(forest, domain, draft, replace(facts, ground=ground))

    return _bind(guest, make, world)


def save_plan(guest: Guest, path: PathLike | None) -> LivePlan:
    """Plan to save a guest's memory; nothing happens until its `run`."""
    file = None if path is None else absolute(path)

    def make(forest: Forest) -> Plan:
        ground = Ground() if file is None or not guest.host.files_are_here else ground_of([file])
        return plan_save(forest, guest.domain(), file, facts_of(guest, ground, forest))

    return _bind(guest, make, guest_world(guest, saved=file))


def restore_plan(guest: Guest, path: PathLike | None) -> LivePlan:
    """Plan to let a guest go on from its saved memory; nothing happens until its `run`."""
    file = None if path is None else absolute(path)
    saved = None if file is None else _saved_state(guest, file)
    sources = () if saved is None else tuple(source for source in saved.sources.values() if source)

    def make(forest: Forest) -> Plan:
        now = None if file is None else _saved_state(guest, file)
        return plan_restore(forest, guest.domain(), file, now, facts_of(guest, Ground(), forest))

    return _bind(guest, make, guest_world(guest, sources, saved=file))


def _saved_state(guest: Guest, path: str) -> SavedState:
    name, uuid, sources = read_saved_state(guest.host.connection, path)
    try:
        mtime: int | None = os.stat(path).st_mtime_ns if guest.host.files_are_here else None
    except OSError as error:
        raise from_os_error(error, f"read the saved state {path}") from error
    return SavedState(name, uuid, sources, mtime)


def reconcile_plan(guest: Guest) -> LivePlan:
    """Plan to put libvirt's records of a guest's snapshots right; nothing happens until its `run`."""

    def make(forest: Forest) -> Plan:
        return plan_reconcile(forest, guest.domain(), facts_of(guest, Ground(), forest))

    return _bind(guest, make, guest_world(guest))
