"""Lists of snapshots, of a guest or of all guests of a host, with what does not agree with the files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property, partial

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.connection import Connection
from vmsnap_nb.live.handle import GuestHandle, folders_of
from vmsnap_nb.live.journal import revert_entries
from vmsnap_nb.live.libvirt_images import Absent, absent, files_of
from vmsnap_nb.live.place import with_sizes_of_files
from vmsnap_nb.live.reading import file_spaces, look_at_guest
from vmsnap_nb.model.drift import list_snapshots
from vmsnap_nb.model.file_space import FileSpace
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Domain
from vmsnap_nb.model.snapshot import SnapshotCost, SnapshotList, SnapshotLists, SnapshotRecord
from vmsnap_nb.model.space import Readers
from vmsnap_nb.plans.delete.request import DeleteRequest
from vmsnap_nb.plans.facts import GuestFacts
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.system.files.taken import taken
from vmsnap_nb.system.libvirt.snapshots import read_all_records
from vmsnap_nb.system.survey import Survey
from vmsnap_nb.words.language import one_language

__all__ = ["snapshot_list", "snapshot_list_in", "snapshot_lists"]


def snapshot_list(handle: GuestHandle) -> SnapshotList:
    """Read the snapshots of a guest, and whether they agree with the files."""
    with handle.link.one_pass():
        return _snapshot_list(handle, handle.survey(Survey(follow=True)))


def snapshot_list_in(forest: Forest, handle: GuestHandle, guest: GuestFacts) -> SnapshotList:
    """Return the snapshots of a guest in a survey of its host, which has their records."""
    with handle.link.one_pass():
        return _snapshot_list(handle, Reading(forest=forest, guest=guest))


def _snapshot_list(handle: GuestHandle, now: Reading) -> SnapshotList:
    forest, domain = now.forest, now.owner.domain
    here = handle.link.files_are_here
    gone, unknown = absent(handle.link.knowledge(), forest.records, here=here)
    found = list_snapshots(domain, forest, gone=gone, unknown=unknown)
    if here:
        found = replace(found, measure=partial(_costs, handle, now, found))
    entry = next(revert_entries(domain, forest.records), None) if here else None
    return found if entry is None else replace(found, going_back_to=entry.name)


def _costs(handle: GuestHandle, now: Reading, listed: SnapshotList) -> dict[str, SnapshotCost]:
    """Return what each snapshot takes; the plans that would delete them are made of one reading."""
    forest = now.forest
    tree = forest.tree(*(path for use in now.owner.domain.uses if (path := use.path) in forest.images))
    files = file_spaces(tree)
    return _measured(handle, now, listed, files, Readers(tree.edited(records=forest.records), files))


def _measured(
    handle: GuestHandle,
    now: Reading,
    listed: SnapshotList,
    files: Mapping[str, FileSpace],
    readers: Readers,
    told: Absent | None = None,
) -> dict[str, SnapshotCost]:
    requests = {row.name: DeleteRequest(guest=now.owner.ref, name=row.name) for row in listed}
    wanted = [request.needs(now.forest) for request in requests.values()]
    needs = Needs(maps=_all(need.maps for need in wanted), places=_all(need.places for need in wanted))
    try:
        knowledge, by_libvirt = handle.link.knowledge(), handle.link.is_system
        reading = look_at_guest(knowledge, handle.domain, now, needs, here=True, by_libvirt=by_libvirt, told=told)
    except VmsnapError:  # it is gone, or an image is
        return {}
    inside = _all(need.space for need in wanted)
    reading = replace(reading, space={path: files[path] for path in inside if path in files})
    return {row.name: _cost(row.record, reading, readers, requests[row.name]) for row in listed}


class _Costs:
    """What the snapshots of all guests take: the images are read once, when the first of them is asked for."""

    def __init__(self, link: Connection, forest: Forest, told: Absent) -> None:
        self._link, self._forest, self._told = link, forest, told

    def of(self, domain: Domain, xml: str, listed: SnapshotList) -> dict[str, SnapshotCost]:
        """Return what those of one guest take."""
        facts = GuestFacts(domain=domain, uri=self._link.uri, xml=xml)
        try:
            handle = GuestHandle.find(self._link, facts.ref)
        except VmsnapError:  # it is gone
            return {}
        now = Reading(forest=self._around(domain), guest=facts)
        with one_language():
            return _measured(handle, now, listed, self._files, self._readers, self._told)

    def _around(self, domain: Domain) -> Forest:
        """Return the part of the forest that is connected with the images of a guest and of its snapshots."""
        images = self._forest.images
        own = {path for record, paths in self._named if record.guest == domain.name for path in paths}
        tree = self._forest.tree(*sorted(own), *(use.path for use in domain.uses if use.path in images))
        there = tree.images.keys()
        near = (record for record, paths in self._named if record.guest == domain.name or not there.isdisjoint(paths))
        return tree.edited(records=near)

    @cached_property
    def _named(self) -> list[tuple[SnapshotRecord, list[str]]]:
        """Each record, with the images that it names."""
        images = self._forest.images
        return [(record, [path for path in files_of(record) if path in images]) for record in self._forest.records]

    @cached_property
    def _files(self) -> Mapping[str, FileSpace]:
        return file_spaces(self._forest)

    @cached_property
    def _readers(self) -> Readers:
        return Readers(self._forest, self._files)


def _all(paths: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path for some in paths for path in some))


def _cost(record: SnapshotRecord, reading: Reading, readers: Readers, request: DeleteRequest) -> SnapshotCost:
    memory = 0 if record.memory_file is None else taken(record.memory_file)
    only = readers.only_of(record)
    exclusive = None if memory is None or only is None else memory + only
    with contextlib.suppress(VmsnapError):
        plan = with_sizes_of_files(request.plan(reading))
        return SnapshotCost(exclusive, None if plan.refused else plan.frees.total)
    return SnapshotCost(exclusive)


def snapshot_lists(link: Connection) -> SnapshotLists:
    """Read the snapshots of all guests at once, and whether they agree with the files."""
    with link.one_pass(), one_language():
        return _snapshot_lists(link)


def _snapshot_lists(link: Connection) -> SnapshotLists:
    roll = link.roll()
    guests, read = roll.guests, read_all_records(roll)
    every = [link.sized(read.get(guest.uuid, ())) for guest, _ in guests]
    records = tuple(record for of_guest in every for record in of_guest)
    sources = (use.path for guest, _ in guests for use in guest.uses)
    named = (path for record in records for path in files_of(record))
    folders = folders_of((*sources, *named)) if link.files_are_here else ()
    forest = link.forest(Survey(follow=True), roll, folders, records=records)
    told = absent(link.knowledge(), records, here=link.files_are_here)
    for guest, _ in guests:  # once: the forests below take over what is known of the users
        for use in guest.uses:
            forest.known_users(use.path)
    costs = _Costs(link, forest, told)
    lists = []
    for (guest, xml), of_guest in zip(guests, every, strict=True):
        found = list_snapshots(guest, _with_records(forest, of_guest), gone=told[0], unknown=told[1])
        if link.files_are_here:
            found = replace(found, measure=partial(costs.of, guest, xml, found))
        lists.append(found)
    return SnapshotLists(tuple(lists))


def _with_records(forest: Forest, records: Iterable[SnapshotRecord]) -> Forest:
    """Return the same forest with the records of one guest; what it has worked out already is kept."""
    same = replace(forest, records=tuple(records))
    vars(same).update((name, value) for name, value in vars(forest).items() if name not in vars(same))
    return same
