"""Merges in the chain of a guest: which plans are made, and how the steps of running guests are performed."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vmsnap_nb.errors import GuestError, InvalidRequestError, NoSpaceError, NotFoundError, StalePlanError, VmsnapError
from vmsnap_nb.live.domains import guest_of
from vmsnap_nb.live.job import StepStopped, stop_asked, tell_fraction
from vmsnap_nb.live.merge_files import merge_actions, merge_facts, point_back, reads_alike
from vmsnap_nb.live.merge_notes import drop_unless_begun, is_untouched, read_notes, read_pull_notes
from vmsnap_nb.live.notes import drop_note, write_note
from vmsnap_nb.live.plan import Action, LivePlan, Undo, World
from vmsnap_nb.live.put_back import put_back, standing
from vmsnap_nb.live.snapshots import guest_world, jobs_of
from vmsnap_nb.live.written_chain import forget_old_chains
from vmsnap_nb.model.blockmap import share_before
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.plans.merge_cut_short import is_gone, is_torn, spoils
from vmsnap_nb.plans.merge_facts import MergeFacts, commit_needs, finish_needs, pull_needs
from vmsnap_nb.plans.merge_live import (
    LiveRequest,
    plan_guest_cleanup,
    plan_guest_commit,
    plan_guest_finish,
    plan_guest_finish_pull,
    plan_guest_pull,
    plan_guest_shorten,
)
from vmsnap_nb.plans.merge_live_steps import EndPull, LiveCommit, LivePull, SetSource
from vmsnap_nb.plans.merge_note import MergeNote
from vmsnap_nb.plans.merge_steps import Finish, PullLayers
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.pull_note import PullNote
from vmsnap_nb.plans.steps import Step
from vmsnap_nb.system.image_file import read_image
from vmsnap_nb.system.libvirt_block_jobs import (
    BlockJob,
    active_jobs,
    end_job,
    pivot,
    start_commit,
    start_pull,
    write_out,
)
from vmsnap_nb.system.libvirt_domains import read_domain
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_library import library

if TYPE_CHECKING:
    from vmsnap_nb.live.guest import Guest
    from vmsnap_nb.live.host import Host

__all__ = [
    "PathLike",
    "cleanup_plan",
    "commit_plan",
    "live_merge_actions",
    "merge_world",
    "notes_below",
    "pull_plan",
    "shorten_plan",
    "spoiling_commits",
    "unfinished_plans",
    "unfinished_pulls",
]

PathLike = str | os.PathLike[str]

_FULL = 1 << 20
"""With fewer bytes free than this a file system is full as far as QEMU is concerned."""
_BUSY: dict[tuple[str, str], threading.Lock] = {}
"""By the guest's UUID and the disk: two plans of one process never merge the chain of one disk at once."""


def merge_world(guest: Guest, *others: str) -> World:
    """Give the place where merges of a guest's chain read and run: with qemu-img, and with QEMU's block jobs.

    Every folder with a layer is read, since others may stand on it there, and the folders of other images.
    """
    forest = guest_world(guest).read()
    tops = [use.path for use in forest.uses if use.guest == guest.name]
    tops += [path for record in forest.records for path in record.files]
    layers = (layer for top in tops if top in forest for layer in forest.lineage(top))
    world = guest_world(guest, (*layers, *others))
    offline = merge_actions()
    kinds: tuple[type[Step], ...] = (Finish, PullLayers)
    ends = {kind: _then_forget_old_chains(guest, offline[kind]) for kind in kinds}
    return replace(world, actions={**world.actions, **offline, **live_merge_actions(guest.host), **ends})


def _then_forget_old_chains(guest: Guest, action: Action) -> Action:
    """Perform a step that ends a merge; then whoever starts the guest, by virsh also, has the chain as it is."""

    def perform(step: Any) -> Undo:
        undo = action(step)
        with contextlib.suppress(VmsnapError):  # guest.start() does it again
            if not guest.running:
                forget_old_chains(guest)
        return undo

    return perform


def commit_plan(
    guest: Guest,
    *,
    base: PathLike | None,
    top: PathLike | None,
    disk: str | None,
    keep_active: bool,
    remove: bool,
    verify: bool,
    bandwidth: int,
    timeout: float | None,
) -> LivePlan:
    """Plan what `Guest.commit` was called with."""
    world = merge_world(guest)
    now = world.read()
    target, source = _disk(guest, disk)
    low, high = _layer(now, source, base), _layer(now, source, top)

    def make(forest: Forest, *, remove: bool, verify: bool) -> Plan:
        request = _request(guest, target, remove=remove, verify=verify, bandwidth=bandwidth, timeout=timeout)
        end = request.source if high is None else high
        paths = (*forest.lineage(end), *forest.children(end))
        facts = _facts(forest, request, paths, commit_needs(forest, end, low))
        return plan_guest_commit(forest, request, base=low, top=high, keep_active=keep_active, facts=facts)

    return LivePlan.bind(make, world, now, remove=remove, verify=verify)


def pull_plan(
    guest: Guest,
    *,
    base: PathLike | None,
    into: PathLike | None,
    disk: str | None,
    remove: bool,
    verify: bool,
    bandwidth: int,
    timeout: float | None,
) -> LivePlan:
    """Plan what `Guest.pull` was called with."""
    world = merge_world(guest)
    now = world.read()
    target, source = _disk(guest, disk)
    low, high = _layer(now, source, base), _layer(now, source, into)

    def make(forest: Forest, *, remove: bool, verify: bool) -> Plan:
        request = _request(guest, target, remove=remove, verify=verify, bandwidth=bandwidth, timeout=timeout)
        end = high or request.source
        facts = _facts(forest, request, forest.lineage(end), pull_needs(forest, end, low))
        return plan_guest_pull(forest, request, base=low, into=high, facts=facts)

    return LivePlan.bind(make, world, now, remove=remove, verify=verify)


def shorten_plan(
    guest: Guest, *, keep: int | PathLike | Iterable[PathLike], disk: str | None, remove: bool, verify: bool
) -> LivePlan:
    """Plan what `Guest.shorten` was called with."""
    world = merge_world(guest)
    now = world.read()
    target, source = _disk(guest, disk)
    kept: int | tuple[str, ...]
    if isinstance(keep, int):
        kept = keep
    else:
        several = (keep,) if isinstance(keep, str | os.PathLike) else keep
        kept = tuple(path for one in several if (path := _layer(now, source, one)) is not None)

    def make(forest: Forest, *, remove: bool, verify: bool) -> Plan:
        request = _request(guest, target, bandwidth=0, timeout=None, remove=remove, verify=verify)
        facts = _facts(forest, request, forest.lineage(request.source))
        return plan_guest_shorten(forest, request, keep=kept, facts=facts)

    return LivePlan.bind(make, world, now, remove=remove, verify=verify)


def cleanup_plan(guest: Guest) -> LivePlan:
    """Plan what `Guest.cleanup` was called for."""

    def make(forest: Forest) -> Plan:
        return plan_guest_cleanup(forest, guest.name)

    return LivePlan.bind(make, merge_world(guest))


def _facts(
    forest: Forest, request: LiveRequest, paths: Iterable[str], mapped: Iterable[str] | None = None
) -> MergeFacts:
    """Look at what a plan must know; while a block job goes on QEMU lets nobody look into the layers."""
    if not request.jobs:
        return merge_facts(forest, paths, mapped)
    return MergeFacts(notes=read_notes(_folders(paths)))


def unfinished_plans(guest: Guest) -> tuple[LivePlan, ...]:
    """Give what `Guest.unfinished` gives."""
    world = merge_world(guest)
    now = world.read()
    found = dict.fromkeys((target, note) for target, top in _tops(guest, now) for note in notes_below(now, top))
    if not now.images.keys() >= {path for _, note in found for path in note.merged}:
        world = merge_world(guest, *(path for _, note in found for path in note.merged))
        now = world.read()
    commits = [_finisher(guest, target, note, world, now) for target, note in found]
    commits.sort(key=lambda plan: plan.refused)  # what can be done comes first
    pulls = tuple(_pull_finisher(guest, target, note) for target, note in unfinished_pulls(guest.domain()))
    return (*commits, *pulls)


def _tops(guest: Guest, now: Forest) -> Iterator[tuple[str, str]]:
    """Give the ends of a guest's chains by disk: what it writes to, and the branches that its snapshots hold."""
    disks = guest.domain().disks
    yield from ((disk.target, disk.source) for disk in disks if disk.source is not None)
    targets = {disk.target for disk in disks}
    for record in now.records:
        for disk in record.held_disks:
            if disk.target in targets:
                yield from ((disk.target, path) for path in (disk.source, disk.file) if path is not None)


def notes_below(now: Forest, top: str) -> Iterator[MergeNote]:
    """Give the notes of commits into layers of an image."""
    layers = now.lineage(top) if top in now else ()
    return (note for note in read_notes(_folders(layers)) if note.base in layers)


def unfinished_pulls(domain: Domain) -> tuple[tuple[str, PullNote], ...]:
    """Give the notes of pulls into the images of a guest's disks, with the disks."""
    sources = {disk.source: disk.target for disk in domain.disks if disk.source is not None}
    notes = read_pull_notes(_folders(sources))
    return tuple((sources[note.image], note) for note in notes if note.image in sources)


def spoiling_commits(guest: Guest, paths: Iterable[str], forest: Forest) -> tuple[MergeNote, ...]:
    """Give the notes of commits that were cut short so that one of these images may not read what it should."""
    paths = tuple(paths)
    notes = [(path, note) for path in paths for note in notes_below(forest, path)]
    # Whether libvirt has ended alone what it had begun only its records tell.
    found = [(path, note) for path, note in notes if spoils(forest, replace(note, by_libvirt=False), path)]
    if not found:
        return ()
    now = merge_world(guest).read()
    return tuple(dict.fromkeys(note for path, note in found if spoils(now, note, path)))


def _folders(paths: Iterable[str]) -> set[str]:
    return {os.path.dirname(path) for path in paths if path.startswith("/")}


def _finisher(guest: Guest, target: str, note: MergeNote, world: World, now: Forest) -> LivePlan:
    def make(forest: Forest) -> Plan:
        request = _request(guest, target, bandwidth=0, timeout=None, remove=note.remove)
        facts = _facts(forest, request, finish_needs(forest, note))
        seen = request.running and not request.jobs and is_torn(forest, note) and not is_gone(forest, note.top)
        alike = seen and reads_alike(forest, note.top, note.base)
        return plan_guest_finish(forest, request, note, facts=facts, alike=alike, untouched=is_untouched(note))

    return LivePlan.bind(make, world, now)


def _pull_finisher(guest: Guest, target: str, note: PullNote) -> LivePlan:
    world = merge_world(guest, note.before.key)

    def make(forest: Forest) -> Plan:
        request = _request(guest, target, bandwidth=0, timeout=None)
        facts = MergeFacts() if request.running else _facts(forest, request, (note.image,))
        return plan_guest_finish_pull(forest, request, note, facts=facts)

    return LivePlan.bind(make, world)


def _disk(guest: Guest, target: str | None) -> tuple[str, str]:
    disk = guest._pick(guest.domain().disks, target)
    return disk.target, disk.source or ""


def _layer(forest: Forest, source: str, layer: PathLike | None) -> str | None:
    """Find a layer of the chain by its path, or by its name as the figure shows it."""
    if layer is None:
        return None
    text = os.fspath(layer)
    lineage = forest.lineage(source)
    for path in lineage:
        if text in (path, forest[path].name, os.path.basename(path)) or path in _names(forest, text):
            return path
    raise NotFoundError(
        f"find the layer {text}",
        said=f"none of the {len(lineage)} images of the chain is called so",
        next_step="there are: " + ", ".join(forest[path].name for path in reversed(lineage)),
    )


def _names(forest: Forest, text: str) -> tuple[str, ...]:
    full = os.path.abspath(os.path.expanduser(text))
    return forest.same_file(full) if full in forest else ()


def _request(guest: Guest, target: str, *, bandwidth: int, timeout: float | None, **wishes: bool) -> LiveRequest:
    if bandwidth < 0 or (timeout is not None and timeout <= 0):
        raise InvalidRequestError(
            f"merge the chain of {guest.name}", said=f"bandwidth {bandwidth} or timeout {timeout} cannot be meant"
        )
    domain = guest.domain()
    disk = guest._pick(domain.disks, target)
    jobs = jobs_of(guest, [target]) if any(use.running for use in domain.uses) else {}
    return LiveRequest(domain, disk, guest.host.uri, jobs, bandwidth=bandwidth, timeout=timeout, **wishes)


# -- what the steps do -----------------------------------------------------------------------------------


def live_merge_actions(host: Host) -> Mapping[type[Step], Action]:
    """Give how each kind of step about the chain of a guest is performed on a host."""

    def commit(step: LiveCommit) -> Undo:
        with _alone(step):
            return _commit(host, _find(host, step), step)

    def pull(step: LivePull) -> Undo:
        with _alone(step):
            return _pull(_find(host, step), step)

    def set_source(step: SetSource) -> Undo:
        return _set_source(host, _find(host, step), step)

    def end_pull(step: EndPull) -> Undo:
        drop_note(step.note)
        return lambda: write_note(step.note)

    return {LiveCommit: commit, LivePull: pull, EndPull: end_pull, SetSource: set_source}


def _alone(step: LiveCommit | LivePull) -> threading.Lock:
    return _BUSY.setdefault((step.uuid, step.target), threading.Lock())


def _find(host: Host, step: LiveCommit | LivePull | SetSource) -> Any:
    with libvirt_errors(f"find the guest {step.guest}"):
        return host.connection.lookupByUUIDString(step.uuid)


def _commit(host: Host, domain: Any, step: LiveCommit) -> Undo:
    note = step.note
    guest = guest_of(host, domain)
    tried = f"commit {note.top} into {note.base}, the guest {step.guest} running"
    _check_source(domain, step, tried)
    noted = not step.keep
    known = noted and os.path.exists(note.path)
    job = BlockJob(domain, step.target, tried)
    before = standing(guest, [step.target], [note.top])
    with job.listening():
        if noted:
            write_note(note)
        if not step.adopt:
            try:
                start_commit(
                    domain,
                    step.target,
                    note.base,
                    note.top,
                    active=step.active,
                    relative=step.relative,
                    bandwidth=step.bandwidth,
                    tried=tried,
                )
            except VmsnapError:
                if noted and not known:
                    drop_note(note)
                raise
        try:
            end = job.follow(to_ready=step.active, tell=_tell(step), stop=stop_asked, timeout=step.timeout)
            if end == "ready":
                _finish_active(domain, job, step, tried)
        except VmsnapError as error:
            named = _explained(error, note.base)
            put_back(guest, [step.target], before, named)
            if noted:
                drop_unless_begun(note, known=known)
            raise named from error
    if end == "stopped":
        if noted:
            drop_unless_begun(note, known=known)
        raise StepStopped
    if noted:
        write_note(replace(note, phase="copied"))

    def undo() -> None:
        if step.keep:
            return
        raise VmsnapError(
            f"take back: {tried}",
            said=f"the data is in {note.base}, and the guest reads it there",
            next_step="guest.host.survey().unfinished() gives the plan that finishes it",
        )

    return undo


def _tell(step: LiveCommit | LivePull) -> Callable[[float], None]:
    """Say how much of the data is copied, where QEMU tells at which place of the disk it is."""
    share = share_before(step.extents or ())
    active = isinstance(step, LiveCommit) and step.active  # a mirror counts the data alone
    if share is None or active:
        return tell_fraction
    return lambda fraction: tell_fraction(share(fraction * step.length))


def _finish_active(domain: Any, job: BlockJob, step: LiveCommit, tried: str) -> None:
    """End a job that is ready: the guest writes to the base from now on, or goes on with its own image."""
    if stop_asked():
        end_job(domain, step.target, tried=tried)
        raise StepStopped
    if step.keep:
        end_job(domain, step.target, tried=tried)
    else:
        pivot(domain, step.target, tried=tried)
    job.wait_end()
    has = {disk.target: disk.source for disk in read_domain(domain).disks}[step.target]
    wanted = step.source if step.keep else step.note.base
    if has != wanted:
        raise GuestError(tried, said=f"the guest writes to {has}, not to {wanted}", next_step="look at chain()")


def _pull(domain: Any, step: LivePull) -> Undo:
    tried = f"pull into {step.source}, the guest {step.guest} running"
    _check_source(domain, step, tried)
    job = BlockJob(domain, step.target, tried)
    with job.listening():
        write_note(step.note)
        try:
            if not step.adopt:
                start_pull(
                    domain, step.target, step.base, relative=step.relative, bandwidth=step.bandwidth, tried=tried
                )
            if not step.adopt or active_jobs(domain, [step.target]):
                end = job.follow(to_ready=False, tell=_tell(step), stop=stop_asked, timeout=step.timeout)
                if end == "stopped":
                    _settle_pull(domain, step)
                    raise StepStopped
            # The data first, while the guest goes on: what is left for the moment of its suspension is little.
            _sync(step.source)
            write_out(domain, tried=tried)
        except VmsnapError as error:
            _settle_pull(domain, step)
            raise _explained(error, step.source) from error
    drop_note(step.note)

    def undo() -> None:
        raise VmsnapError(
            f"take back: {tried}",
            said=f"{step.source} holds the data now, and reads the same; the layers below are as they were",
        )

    return undo


def _sync(path: str) -> None:
    with contextlib.suppress(OSError):  # on another machine, or not readable: then QEMU alone does it
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _settle_pull(domain: Any, step: LivePull) -> None:
    """After a pull that did not come to its end, see that the image reads what it did; the note stays if it may not."""
    note = step.note
    try:
        running = bool(domain.isActive())
    except library().libvirtError:
        running = True  # nobody knows
    backing = read_image(note.image, os.path.dirname(note.image))[0].backing
    old = backing is not None and backing.key == note.before.key
    try:
        if running and (not old or active_jobs(domain, [step.target])):
            return
        if not old:
            point_back(note.image, note.before)
        drop_note(note)
    except VmsnapError:
        return  # the note stays, and with it the plan that finishes it


def _check_source(domain: Any, step: LiveCommit | LivePull, tried: str) -> None:
    """Look once more, since another thread may have been first."""
    has = {disk.target: disk.source for disk in read_domain(domain).disks}.get(step.target)
    if has != step.source:
        raise StalePlanError(
            tried,
            said=f"its disk {step.target} was {step.source}, and is {has} now",
            next_step="make the plan again, look at it, and run that",
        )


def _explained(error: VmsnapError, written: str) -> VmsnapError:
    """Say so where the disk is full: libvirt says only that the job has failed."""
    try:
        free = shutil.disk_usage(os.path.dirname(written)).free
    except OSError:
        return error
    if free >= _FULL or isinstance(error, GuestError):
        return error
    return NoSpaceError(
        error.tried,
        said=f"{error.said}; {os.path.dirname(written)} has {free} bytes free",
        next_step="make room on that file system and try again",
    )


def _set_source(host: Host, domain: Any, step: SetSource) -> Undo:
    libvirt = library()
    tried = f"make {step.path} the disk {step.target} of {step.guest}"
    with libvirt_errors(tried):
        before = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    root = ET.fromstring(before)
    disks = [
        disk
        for disk in root.iterfind("devices/disk")
        if (target := disk.find("target")) is not None and target.get("dev") == step.target
    ]
    source = disks[0].find("source") if disks else None
    if source is None or source.get("file") != step.before:
        raise StalePlanError(tried, said=f"its disk is not {step.before}", next_step="make the plan again")
    source.set("file", step.path)
    driver = disks[0].find("driver")
    if driver is not None:
        driver.set("type", step.format)
    for old in disks[0].findall("backingStore"):
        disks[0].remove(old)
    with libvirt_errors(tried):
        host.connection.defineXML(ET.tostring(root, encoding="unicode"))

    def undo() -> None:
        with libvirt_errors(f"take back: {tried}"):
            host.connection.defineXML(before)

    return undo
