"""An open connection to one libvirt: its guests, the forest of all their images, and the place where plans run."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.live.image_actions import image_actions
from vmsnap_nb.live.libvirt_images import forest_elsewhere, is_absent, may_list, with_told
from vmsnap_nb.live.listed_layers import is_other_disk
from vmsnap_nb.live.open_images import with_real_uses
from vmsnap_nb.live.place import Place
from vmsnap_nb.live.reading import look_at_files, look_elsewhere, with_sizes
from vmsnap_nb.live.saved import with_saved_memory
from vmsnap_nb.live.step_action import Action, Undo
from vmsnap_nb.live.volumes import access_of, create_volume, remove_volume
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.listed_layers import of_other_chains
from vmsnap_nb.model.need import Need
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans.checks.access import Access
from vmsnap_nb.plans.concern import Concern
from vmsnap_nb.plans.machine import Machine
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.request import Needs, Reading
from vmsnap_nb.plans.step import CreateVolume, DefineDomain, GuestRef, RemoveVolume, Step
from vmsnap_nb.system.device_image import with_header
from vmsnap_nb.system.files.identity import place_of
from vmsnap_nb.system.files.paths import absolute
from vmsnap_nb.system.image_file import as_raw
from vmsnap_nb.system.libvirt.connection import Probe, files_are_here, is_lost, open_connection
from vmsnap_nb.system.libvirt.domains import Roll, read_roll
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.heads import Heads
from vmsnap_nb.system.libvirt.knowledge import Knowledge
from vmsnap_nb.system.libvirt.saved import managed_saves
from vmsnap_nb.system.libvirt.snapshots import read_all_records
from vmsnap_nb.system.libvirt.storage import read_domain_chains
from vmsnap_nb.system.sources.source import Source
from vmsnap_nb.system.sources.volume import open_volume
from vmsnap_nb.system.survey import Survey
from vmsnap_nb.words.message import N_, NOTHING, Message, t

__all__ = ["Connection", "Customs"]

_FILES = frozenset({"firmware", "boot", "nvdimm", "named", "data", "definition"})
"""What is no image, or is read as a layer of a disk."""
_PASSES: ContextVar[Mapping[Connection, list[Knowledge]]] = ContextVar("passes", default=MappingProxyType({}))
"""Of which connections something is read in one pass, each with what libvirt tells of images there: the last counts."""


_SECONDS_TO_ANSWER = 15.0
"""How long a daemon of this machine may take to answer before its guests are read."""
_TRUSTED = 1.0
"""Seconds for which one that has answered counts as one that does."""


@dataclass(frozen=True, kw_only=True)
class Customs:
    """What a lab, or a host of a fleet, does otherwise than a plain host.

    `owns` says by a guest's XML whether it counts, `formats` which images have a format that nothing else tells,
    `start` starts a guest faster than libvirt would, within some seconds, or returns False; it calls what it is given
    before it boots one. `started` and `made` are told of guests that were started and of files that were made (and for
    what), and `actions` may put others around the usual ones. `others` adds to a forest what other hosts have of its
    images, and `unseen` says what of that is not known.
    """

    owns: Callable[[str], bool] = lambda _: True
    formats: Callable[[], Mapping[str, str | None]] = dict
    start: Callable[[Any, Callable[[], None] | None, float], bool] = lambda *_: False
    started: Callable[[Any], None] = lambda _: None
    made: Callable[[str, str], None] = lambda *_: None
    actions: Callable[[dict[type[Step], Action]], Mapping[type[Step], Action]] = lambda actions: actions
    others: Callable[[Forest], Forest] = lambda forest: forest
    unseen: Callable[[Plan], Iterable[Concern]] = lambda _: ()
    if_closed: str = N_("connect again")


class Connection:
    """What everything below `Host` and `Guest` needs of a libvirt: an open handle, and who is to be told of what."""

    def __init__(self, uri: str, *, readonly: bool = False, customs: Customs | None = None) -> None:
        self.uri = uri
        self.files_are_here = files_are_here(uri)  # whether its images are files of this machine
        self.readonly = readonly
        self.customs = customs or Customs()
        self._handle: Any = open_connection(uri, readonly=readonly)
        self._process = os.getpid()
        self._machine: Machine | None = None
        self._probe = Probe()
        self._may_hang = self.files_are_here and urlsplit(uri).path != "/embed"  # keepalive watches other machines
        self._answered = -_TRUSTED
        self.heads = Heads()  # of images on another machine, as they were read

    @property
    def handle(self) -> Any:
        """libvirt's own handle; it connects again if the connection was lost, as by a restart of libvirt."""
        if self._is_copy:
            raise VmsnapError(
                t("use the connection to {uri}", uri=self.uri),
                why=t("this process was forked from the one that opened it"),
                next_step=t("use it there, or start this process in another way (multiprocessing: 'spawn')"),
            )
        if self._handle is None:
            raise VmsnapError(
                t("use the connection to {uri}", uri=self.uri),
                why=t("it was closed"),
                next_step=t(self.customs.if_closed),
            )
        if is_lost(self._handle):
            self._handle = open_connection(self.uri, readonly=self.readonly)
        return self._handle

    def check_answers(self, tried: Message, until: float) -> None:
        """Raise unless libvirt answers by a time (of `time.monotonic`), so that a limit of time holds."""
        self._probe.check(tried, lambda: self.handle.getLibVersion(), until)  # noqa: PLW0108 - it may connect first

    def check_soon(self, tried: Message) -> None:
        """Raise unless a daemon of this machine answers soon; what it answered a moment ago is enough."""
        if self._may_hang and time.monotonic() - self._answered > _TRUSTED:
            self.check_answers(tried, time.monotonic() + _SECONDS_TO_ANSWER)
            self._answered = time.monotonic()

    @property
    def is_open(self) -> bool:
        """Whether it can be used: it was not closed yet, and by this process."""
        return self._handle is not None and not self._is_copy

    @property
    def _is_copy(self) -> bool:
        """Whether this process was forked from that of the connection: libvirt's threads and answers are only there."""
        return os.getpid() != self._process

    @property
    def is_system(self) -> bool:
        """Whether its libvirt is that of the system, which may do what this user may not."""
        return self.files_are_here and urlsplit(self.uri).path == "/system"

    def machine(self) -> Machine | None:
        """Return the machine on which its libvirt runs; None for one of this user alone."""
        if self.files_are_here and not self.is_system:
            return None
        if self._machine is None:
            with libvirt_errors(t("read the host name of {uri}", uri=self.uri)):
                name = str(self.handle.getHostname())
            self._machine = Machine(name=name, uri=self.uri, here=self.files_are_here)
        return self._machine

    def close(self) -> None:
        """Close it; nothing happens if it was closed before, or in a copy of its process."""
        if self._is_copy:
            return
        handle, self._handle = self._handle, None
        if handle is not None:
            with libvirt_errors(t("close the connection to {uri}", uri=self.uri)):
                handle.close()

    def roll(self) -> Roll:
        """Read what libvirt records of its guests, by name, each with its XML."""
        self.check_soon(t("list the guests"))
        roll = read_roll(self.handle, far=not self.files_are_here)
        return replace(roll, guests=tuple(pair for pair in roll.guests if self.customs.owns(pair[1])))

    def find(self, guest: GuestRef) -> Any:
        """Return libvirt's handle of a guest."""
        with libvirt_errors(t("find the guest {name}", name=guest.name)):
            return self.handle.lookupByUUIDString(guest.uuid)

    def sized(self, records: Iterable[SnapshotRecord]) -> tuple[SnapshotRecord, ...]:
        """Return records with the sizes of their memory files, as far as these are on this machine."""
        return with_sizes(records) if self.files_are_here else tuple(records)

    # -- images ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def one_pass(self) -> Iterator[None]:
        """Let all that is read within, as for one plan, share what libvirt tells of images."""
        if self in _PASSES.get():
            yield
            return
        token = _PASSES.set({**_PASSES.get(), self: []})
        try:
            yield
        finally:
            _PASSES.reset(token)

    def knowledge(self, roll: Roll | None = None) -> Knowledge:
        """Return what libvirt tells of images, when it is asked; in one pass, what the last `roll` was given."""
        shared = _PASSES.get().get(self, [])
        if shared and roll is None:
            return shared[-1]
        xmls = () if roll is None else tuple(xml for _, xml in roll.guests)
        knowledge = Knowledge(self.handle, xmls, readonly=self.readonly, heads=self.heads, far=not self.files_are_here)
        shared.append(knowledge)
        return knowledge

    def forest(
        self,
        survey: Survey,
        roll: Roll,
        folders: Iterable[str] = (),
        around: Iterable[str] = (),
        *,
        records: tuple[SnapshotRecord, ...] | None = None,
    ) -> Forest:
        """Read the images of its guests, of its pools and of some folders, and all that needs one of them.

        What is elsewhere is known by what libvirt tells. Of the files of snapshots, whose lists say what is missing,
        those count that may be there. `records` are those of all guests, if they were read already.
        """
        needs = (*(need for domain, _ in roll.guests for need in domain.needs), *managed_saves(self.handle, roll.saved))
        records = tuple(chain.from_iterable(read_all_records(roll).values())) if records is None else records
        held = [path for record in records for disk in record.held_disks for path in (disk.source, disk.file) if path]
        knowledge, named = self.knowledge(roll), (*self._there(held), *_named(needs))
        forest = self._images(survey, roll, knowledge, folders, around, named)
        other_names = [need.path for need in needs if need.kind in _FILES]
        forest = self._with_names(forest, other_names)
        listed = {need.path for need in needs if need.kind == "definition"}
        if unseen := self._there(path for path in listed if forest.known(path) not in forest.images):
            forest = self._images(survey, roll, knowledge, folders, around, (*named, *unseen))
            forest = self._with_names(forest, other_names)
        forest = forest.edited(records=records, needs=of_other_chains(forest, needs, is_other=is_other_disk))
        if self.files_are_here:
            forest = with_saved_memory(forest, survey, records, self.handle)
        else:  # where libvirt lists every file as a volume
            forest = forest.edited(drop=[one.memory_file for one in records if one.memory_file])
        return self.customs.others(forest)

    def _with_names(self, forest: Forest, paths: Iterable[str]) -> Forest:
        """Return the forest with where some paths lead under which no image was read: they may be other names."""
        unseen = dict.fromkeys(path for path in paths if path.startswith("/") and path not in forest.images)
        if not unseen or not self.files_are_here:
            return forest
        places = {path: place for path in unseen if (place := place_of(path)) is not None}
        return forest.edited(places={**forest.places, **places})

    def _there(self, paths: Iterable[str]) -> list[str]:
        """Return those of some files that may be there; of another machine that is not seen from here."""
        return [path for path in dict.fromkeys(paths) if not (self.files_are_here and is_absent(path))]

    def _images(
        self,
        survey: Survey,
        roll: Roll,
        knowledge: Knowledge,
        folders: Iterable[str],
        around: Iterable[str],
        named: Iterable[str],
    ) -> Forest:
        """Read the images; those that are `named` count wherever they are.

        Of those that are elsewhere, or that this process may not read, it has what libvirt tells.
        """
        domains = roll.guests
        named = tuple(path for path in named if path.startswith("/"))
        if not self.files_are_here:
            return forest_elsewhere(knowledge, domains, folders, named)
        pools = [pool for pool in knowledge.pools if pool.folder is not None and os.path.isdir(pool.folder)]
        closed = [pool for pool in pools if not may_list(pool.folder or "")]
        listed = (pool.folder or "" for pool in pools if pool not in closed)
        survey.folders = tuple(dict.fromkeys((*folders, *listed)))
        survey.images = dict(self.customs.formats()) | {
            disk.source: disk.format
            for domain, _ in domains
            for disk in domain.disks
            if disk.source is not None and disk.is_image
        }
        chains = (read_domain_chains(xml) for _, xml in domains if "<backingStore" in xml)
        survey.devices.update(image.path for chain in chains for image in chain)
        overlays = with_header(path for pool in knowledge.pools if pool.devices for path in knowledge.volumes(pool))
        survey.devices.update((*named, *overlays))
        survey.images = dict.fromkeys((*named, *overlays)) | survey.images
        around = tuple(around)
        forest = survey.read([use for domain, _ in domains for use in domain.uses], around=around)
        forest = with_real_uses(self.handle, forest, domains, survey, around, readonly=self.readonly)
        forest = with_told(forest, knowledge, closed, named)
        # What libvirt names as a disk, and what begins like no other format, is raw.
        images = (forest.images[path] for path in named if path in forest.images)
        unmarked = [as_raw(image) for image in images if image.status == "unknown"]
        return forest.edited(put=unmarked) if unmarked else forest

    def open_volume(self, image: Image) -> Source:
        """Open an image as a volume of a storage pool: libvirt reads it."""
        return open_volume(self.handle, image, self.uri)

    def place(self, *folders: str | os.PathLike[str]) -> Place:
        """Return the place where requests about its images are read for, and where their plans run."""
        survey = Survey(follow=True)
        named = tuple(absolute(folder) if self.files_are_here else os.fspath(folder) for folder in folders)

        def read() -> Reading:
            return Reading(forest=self.forest(survey, self.roll(), named))

        return replace(self.place_of(read, self.look, self.actions()), uri=self.uri)

    def place_of(
        self,
        read: Callable[[], Reading],
        look: Callable[[Reading, Needs], Reading],
        actions: Mapping[type[Step], Action],
    ) -> Place:
        """Return a place of this connection, with what it permits and knows."""
        return Place(
            read,
            look,
            actions,
            readonly=self.why_readonly,
            access=self.access_if_other,
            unseen=self.customs.unseen,
            here=self.files_are_here,
            machine=self.machine,
            one_pass=self.one_pass,
            volume=self.open_volume,
        )

    @property
    def access_if_other(self) -> Callable[[Plan], Access] | None:
        """What looks at the files of a plan: what this process may do with them, where libvirt has other rights."""
        return self._access if self.is_system or not self.files_are_here else None

    def _access(self, plan: Plan) -> Access:
        return access_of(plan, self.knowledge(), self.uri, here=self.files_are_here)

    def look(self, now: Reading, needs: Needs) -> Reading:
        """Return the reading with what is needed of the images, of another machine as far as libvirt tells it."""
        if not self.files_are_here:
            return look_elsewhere(self.knowledge(), now, needs)
        return look_at_files(now, needs, by_libvirt=self.is_system)

    @property
    def why_readonly(self) -> Message:
        """Why no plan runs here, or empty."""
        return t("the connection to {uri} is read-only", uri=self.uri) if self.readonly else NOTHING

    def actions(self) -> Mapping[type[Step], Action]:
        """Return how steps about images, and the definition of new guests, are performed here."""
        own: dict[type[Step], Action] = {
            DefineDomain: self._define,
            CreateVolume: partial(create_volume, self.handle, here=self.files_are_here),
            RemoveVolume: partial(remove_volume, self.handle),
        }
        return self.customs.actions({**image_actions(), **own})

    def _define(self, step: DefineDomain) -> Undo:
        with libvirt_errors(t("define the guest {name}", name=step.name)):
            domain = self.handle.defineXML(step.xml)

        def undo() -> None:
            with libvirt_errors(t("undefine the guest {name}", name=step.name)):
                domain.undefine()

        return undo


def _named(needs: Iterable[Need]) -> Iterator[str]:
    """Yield the images that needs name: what is based on the images of guests may be known by these alone.

    Firmware and the like are no images that others are based on, and are mostly raw.
    """
    return (path for need in needs if need.kind not in _FILES for path in (need.path, *need.layers))
