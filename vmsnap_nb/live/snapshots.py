"""Snapshots of a live guest: what is read, which plans are made of it, and how their steps are performed."""

from __future__ import annotations

import os
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vmsnap_nb.errors import GuestError, GuestNotReadyError, LibvirtError, StalePlanError, VmsnapError
from vmsnap_nb.live.files import absolute, ground_of
from vmsnap_nb.live.plan import Action, LivePlan, Undo, World
from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.snapshot import Kind, SnapshotDisk, SnapshotList, SnapshotLists, SnapshotRecord
from vmsnap_nb.plans.ground import Ground
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.reconcile import plan_reconcile
from vmsnap_nb.plans.saved_state import SavedState, plan_restore, plan_save, saved_record
from vmsnap_nb.plans.snapshot import plan_snapshot
from vmsnap_nb.plans.snapshot_draft import SnapshotRequest, draft_snapshot
from vmsnap_nb.plans.snapshot_facts import SnapshotFacts
from vmsnap_nb.plans.snapshot_steps import DefineRecord, ForgetRecord, RestoreState, SaveState, TakeSnapshot
from vmsnap_nb.plans.steps import Step
from vmsnap_nb.system import qemu_img
from vmsnap_nb.system.guest_agent import AGENT_PORT
from vmsnap_nb.system.libvirt_domains import channels, read_disks, read_domain
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_library import library
from vmsnap_nb.system.libvirt_snapshots import find_snapshot, read_all_records, read_records, read_saved_state
from vmsnap_nb.system.os_errors import from_os_error

if TYPE_CHECKING:
    from vmsnap_nb.live.guest import Guest
    from vmsnap_nb.live.host import Host

__all__ = [
    "PathLike",
    "facts_of",
    "guest_world",
    "reconcile_plan",
    "restore_plan",
    "save_plan",
    "snapshot_actions",
    "snapshot_list",
    "snapshot_lists",
    "snapshot_plan",
    "snapshot_request",
]

PathLike = str | os.PathLike[str]

_BLOCK_JOBS = {1: "pull", 2: "copy", 3: "commit", 4: "active commit", 5: "backup"}
"""virDomainBlockJobType (https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainBlockJobType)."""

_BUSY: dict[str, threading.Lock] = {}
"""By the guest's UUID: two plans of one process never change the snapshots of one guest at once."""


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
    return list_snapshots(guest.domain(), forest, gone=gone)


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
    loader = root.find("os/loader")
    with libvirt_errors(f"read the state of {guest.name}"):
        version = guest.host.connection.getLibVersion()
        memory = guest._domain.info()[1] * 1024
    return SnapshotFacts(
        ground,
        guest.host.uri,
        agent=guest.running and channels(xml).get(AGENT_PORT, False),
        jobs=_jobs(guest, read_targets(xml)) if guest.running else {},
        memory=memory,
        pflash=loader is not None and loader.get("type") == "pflash",
        libvirt_version=(version // 1_000_000, version // 1000 % 1000, version % 1000),
        gone=_gone(forest.records) if guest.host.files_are_here else frozenset(),
    )


def read_targets(xml: str) -> list[str]:
    """Give the targets of those disks in a domain XML that have an image."""
    return [disk.target for disk in read_disks(xml) if disk.source]


def _jobs(guest: Guest, targets: Iterable[str]) -> dict[str, str]:
    libvirt = library()
    jobs: dict[str, str] = {}
    with libvirt_errors(f"read the jobs of {guest.name}"):
        try:
            for target in targets:
                info = guest._domain.blockJobInfo(target)
                if info:
                    jobs[target] = _BLOCK_JOBS.get(info["type"], "unknown")
            if guest._domain.jobInfo()[0] not in (libvirt.VIR_DOMAIN_JOB_NONE, libvirt.VIR_DOMAIN_JOB_COMPLETED):
                jobs[""] = "saving, migrating or dumping"
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


def snapshot_plan(guest: Guest, request: SnapshotRequest) -> LivePlan:
    """Plan a snapshot of a guest; nothing happens until its `run`."""
    named = [choice for choice in (request.disks or {}).values() if choice.startswith("/")]
    world = guest_world(guest, [*named, *([request.memory_file] if request.memory_file else [])])

    def make(forest: Forest) -> Plan:
        domain = guest.domain()
        facts = facts_of(guest, Ground(), forest)
        draft = draft_snapshot(forest, domain, request, pflash=facts.pflash)
        images = [disk.source for disk in draft.disks if disk.held == "internal" and disk.source]
        ground = ground_of((*draft.paths, *images)) if guest.host.files_are_here else Ground()
        return plan_snapshot(forest, domain, draft, replace(facts, ground=ground))

    return LivePlan.bind(make, world)


def save_plan(guest: Guest, path: PathLike | None) -> LivePlan:
    """Plan to save a guest's memory; nothing happens until its `run`."""
    file = None if path is None else absolute(path)

    def make(forest: Forest) -> Plan:
        ground = Ground() if file is None or not guest.host.files_are_here else ground_of([file])
        return plan_save(forest, guest.domain(), file, facts_of(guest, ground, forest))

    return LivePlan.bind(make, guest_world(guest, saved=file))


def restore_plan(guest: Guest, path: PathLike | None) -> LivePlan:
    """Plan to let a guest go on from its saved memory; nothing happens until its `run`."""
    file = None if path is None else absolute(path)
    saved = None if file is None else _saved_state(guest, file)
    sources = () if saved is None else tuple(source for source in saved.sources.values() if source)

    def make(forest: Forest) -> Plan:
        now = None if file is None else _saved_state(guest, file)
        return plan_restore(forest, guest.domain(), file, now, facts_of(guest, Ground(), forest))

    return LivePlan.bind(make, guest_world(guest, sources, saved=file))


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
        return plan_reconcile(forest, guest.domain(), _definition(guest._domain), facts_of(guest, Ground(), forest))

    return LivePlan.bind(make, guest_world(guest))


def _definition(domain: Any) -> str:
    """Give the domain XML as libvirt stores it for the next start."""
    libvirt = library()
    with libvirt_errors(f"read the XML of {domain.name()}"):
        return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))


# -- what the steps do -----------------------------------------------------------------------------------


def snapshot_actions(host: Host) -> Mapping[type[Step], Action]:
    """Give how each kind of step about snapshots is performed on a host."""

    def take(step: TakeSnapshot) -> Undo:
        with _guard(step.uuid):
            undo = _take(_find(host, step.uuid, step.guest), step)
        for path in step.creates:
            host._has_made(path, f"snapshot {step.name} of {step.guest}")
        return undo

    def forget(step: ForgetRecord) -> Undo:
        with _guard(step.uuid):
            return _forget(_find(host, step.uuid, step.guest), step)

    def define(step: DefineRecord) -> Undo:
        with _guard(step.uuid):
            return _define(_find(host, step.uuid, step.guest), step)

    def save(step: SaveState) -> Undo:
        undo = _save(host, _find(host, step.uuid, step.guest), step)
        for path in step.creates:
            host._has_made(path, f"memory of {step.guest}")
        return undo

    def restore(step: RestoreState) -> Undo:
        return _restore(host, _find(host, step.uuid, step.guest), step)

    return {TakeSnapshot: take, ForgetRecord: forget, DefineRecord: define, SaveState: save, RestoreState: restore}


def _guard(uuid: str) -> threading.Lock:
    return _BUSY.setdefault(uuid, threading.Lock())


def _find(host: Host, uuid: str, name: str) -> Any:
    with libvirt_errors(f"find the guest {name}"):
        return host.connection.lookupByUUIDString(uuid)


def _take(domain: Any, step: TakeSnapshot) -> Undo:
    libvirt = library()
    tried = f"take the snapshot {step.name} of {step.guest}"
    _check_unchanged(domain, step, tried)
    before = _definition(domain)
    there = {path for path in step.creates if os.path.lexists(path)}
    flags = sum(getattr(libvirt, f"VIR_DOMAIN_SNAPSHOT_CREATE_{flag}") for flag in step.flags)
    try:
        with libvirt_errors(tried):
            domain.snapshotCreateXML(step.xml, flags)
    except VmsnapError as error:
        named = _named(error)
        _clean_up(domain, step, there, named)
        raise named from error
    return lambda: _take_back(domain, step, before)


def _check_unchanged(domain: Any, step: TakeSnapshot, tried: str) -> None:
    """Look once more, since another thread may have been first."""
    now = read_domain(domain)
    current = next((record.name for record in read_records(domain) if record.current), None)
    expected = {disk.target: disk.source for disk in step.disks}
    said = ""
    if {disk.target: disk.source for disk in now.disks} != expected:
        said = "its disks have other images now"
    elif now.state != step.state:
        said = f"it was {step.state}, and is {now.state} now"
    elif current != step.parent:
        said = f"its current snapshot was {step.parent}, and is {current} now"
    if said:
        raise StalePlanError(tried, said=said, next_step="make the plan again, look at it, and run that")


def _named(error: VmsnapError) -> VmsnapError:
    """Say what is known of libvirt's refusals of snapshots."""
    libvirt = library()
    if not isinstance(error, LibvirtError):
        return error
    said = error.said or ""
    if error.code == libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
        return GuestNotReadyError(
            error.tried, said=said, next_step="start qemu-guest-agent in the guest, or leave quiesce out"
        )
    if "domain is not running" in said or ("monitor" in said and ("read from" in said or "closed" in said)):
        return GuestError(
            error.tried,
            said=f"its QEMU has ended meanwhile: {said}",
            next_step="see whether its disks are in order with chain(), then start it again",
        )
    if error.next_step is None:
        error.next_step = "read the guest's snapshots() again: nothing of this one is left"
    return error


def _clean_up(domain: Any, step: TakeSnapshot, there: set[str], error: VmsnapError) -> None:
    """Remove what a failed snapshot has left, unless the guest has it."""
    try:
        used = _all_sources(domain)
        running = read_domain(domain).state not in {"shut off", "crashed", "no state"}
        for path in step.creates:
            if path not in there and path not in used and os.path.lexists(path):
                os.unlink(path)
        if step.kind == "internal-disk" and not running:
            for disk in step.disks:
                _drop_inside(disk, step.name)
    except (VmsnapError, OSError) as failure:
        error.add_note(f"could not clean up after it: {failure}")


def _all_sources(domain: Any) -> set[str]:
    """Give every file that the guest has or would have as a disk, with what libvirt knows to be below."""
    libvirt = library()
    found: set[str] = set()
    with libvirt_errors(f"read the XML of {domain.name()}"):
        texts = [domain.XMLDesc(), domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)]
    for text in texts:
        found |= {source.get("file", "") for source in ET.fromstring(text).iterfind("devices/disk//source")}
    return found


def _drop_inside(disk: SnapshotDisk, name: str) -> None:
    """Remove an internal snapshot from the image of a guest that is off, if it is there."""
    if disk.held != "internal" or disk.source is None:
        return
    inside = qemu_img.info(disk.source, "qcow2").get("snapshots", ())
    if any(snapshot["name"] == name for snapshot in inside):
        argv = ("qemu-img", "snapshot", "-d", name, disk.source)
        qemu_img.run(argv, tried=f"remove the snapshot {name} from {disk.source}")


def _take_back(domain: Any, step: TakeSnapshot, before: str) -> None:
    tried = f"take back the snapshot {step.name} of {step.guest}"
    running = read_domain(domain).state not in {"shut off", "crashed", "no state"}
    if step.kind.startswith("external") and running:
        raise GuestError(
            tried,
            said=f"{step.guest} writes to the new overlays already",
            next_step="keep the snapshot, or delete it: that merges the overlays",
        )
    libvirt = library()
    if step.kind.startswith("internal"):
        if step.metadata:
            with libvirt_errors(tried):
                find_snapshot(domain, step.name).delete()
        else:
            for disk in step.disks:
                _drop_inside(disk, step.name)
        return
    with libvirt_errors(tried):
        domain.connect().defineXML(before)
        if step.metadata:
            find_snapshot(domain, step.name).delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
            if step.parent is not None:
                _redefine(domain, find_snapshot(domain, step.parent).getXMLDesc(), current=True)
    for path in step.creates:
        os.unlink(path)


def _redefine(domain: Any, xml: str, *, current: bool) -> None:
    libvirt = library()
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
    if current:
        flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
    with libvirt_errors(f"write a record of a snapshot of {domain.name()}"):
        domain.snapshotCreateXML(xml, flags)


def _forget(domain: Any, step: ForgetRecord) -> Undo:
    """Forget one record, and leave those that stand on it as they are but for their parent.

    libvirt takes it that the overlay was merged down, and changes the images that they name.
    """
    libvirt = library()
    secure = libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE
    records = {record.name: record for record in read_records(domain)}
    snapshot = find_snapshot(domain, step.name)
    with libvirt_errors(f"forget the snapshot {step.name} of {step.guest}"):
        whole = snapshot.getXMLDesc(secure)
        above = snapshot.listAllChildren(libvirt.VIR_DOMAIN_SNAPSHOT_LIST_DESCENDANTS)
        # Parents first: a record can only be written when its parent is there.
        above.sort(key=lambda one: _depth(one.getName(), records))
        standing = [one.getXMLDesc(secure) for one in above]
        snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
    parent = records[step.name].parent
    for xml in standing:
        _redefine_above(domain, _with_parent(xml, step.name, parent), records)

    def undo() -> None:
        _redefine(domain, whole, current=records[step.name].current)
        for xml in standing:
            _redefine_above(domain, xml, records)

    return undo


def _depth(name: str, records: Mapping[str, SnapshotRecord]) -> int:
    depth, parent = 0, records[name].parent
    while parent is not None and parent in records and depth < len(records):
        depth, parent = depth + 1, records[parent].parent
    return depth


def _with_parent(xml: str, gone: str, parent: str | None) -> str:
    root = ET.fromstring(xml)
    above = root.find("parent")
    if above is not None and above.findtext("name") == gone:
        if parent is None:
            root.remove(above)
        else:
            name = above.find("name")
            assert name is not None
            name.text = parent
    return ET.tostring(root, encoding="unicode")


def _redefine_above(domain: Any, xml: str, records: Mapping[str, SnapshotRecord]) -> None:
    name = ET.fromstring(xml).findtext("name", "")
    _redefine(domain, xml, current=records[name].current)


def _define(domain: Any, step: DefineRecord) -> Undo:
    libvirt = library()
    old = {record.name: record for record in read_records(domain)}
    _redefine(domain, step.xml, current=step.current)

    def undo() -> None:
        if step.name in old:
            _redefine(domain, old[step.name].xml, current=old[step.name].current)
            return
        with libvirt_errors(f"forget the snapshot {step.name} of {step.guest}"):
            find_snapshot(domain, step.name).delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)

    return undo


def _save(host: Host, domain: Any, step: SaveState) -> Undo:
    there = step.path is not None and os.path.lexists(step.path)
    try:
        with libvirt_errors(f"save the memory of {step.guest}"):
            if step.path is None:
                domain.managedSave()
            else:
                domain.save(step.path)
    except VmsnapError as error:
        if step.path is not None and not there and os.path.lexists(step.path):
            try:
                os.unlink(step.path)
            except OSError as failure:
                error.add_note(f"could not remove the unfinished {step.path}: {failure}")
        raise _named(error) from error

    def undo() -> None:
        _restore(host, domain, RestoreState(step.guest, step.uuid, step.uri, step.path))
        if step.path is not None:
            os.unlink(step.path)

    return undo


def _restore(host: Host, domain: Any, step: RestoreState) -> Undo:
    with libvirt_errors(f"restore {step.guest} from its saved memory"):
        if step.path is None:
            domain.create()
        else:
            host.connection.restore(step.path)
    host._has_started(_guest(host, domain))

    def undo() -> None:
        with libvirt_errors(f"save the memory of {step.guest} again"):
            if step.path is None:
                domain.managedSave()
            else:
                domain.destroy()  # its file is still there

    return undo


def _guest(host: Host, domain: Any) -> Guest:
    from vmsnap_nb.live.guest import Guest  # guest.py itself calls this module

    return Guest(host, domain)
