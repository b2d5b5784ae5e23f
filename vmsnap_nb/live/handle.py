"""A guest below `Guest`: libvirt's handle of it, and the connection through which it was found."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from vmsnap_nb.errors import (
    GuestError,
    GuestNotReadyError,
    LibvirtError,
    NotFoundError,
    ReadOnlyError,
    StalePlanError,
    VmsnapError,
)
from vmsnap_nb.live.connection import Connection
from vmsnap_nb.live.libvirt_images import files_of
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import OFF, Domain, State
from vmsnap_nb.model.kernel_paths import is_kernel_path
from vmsnap_nb.model.snapshot import SnapshotRecord
from vmsnap_nb.plans.facts import GuestFacts
from vmsnap_nb.plans.request import Reading
from vmsnap_nb.plans.save.request import saved_record
from vmsnap_nb.plans.step import GuestRef
from vmsnap_nb.system.files.paths import real_path, tidy
from vmsnap_nb.system.libvirt.domains import read_domain, read_domain_and_xml, state_of
from vmsnap_nb.system.libvirt.errors import has_own_step, libvirt_errors
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.security import qemu_users
from vmsnap_nb.system.libvirt.snapshots import read_all_records, read_records
from vmsnap_nb.system.qemu.program import emulators
from vmsnap_nb.system.saved_memory import why_not_to_restore
from vmsnap_nb.system.survey import Survey
from vmsnap_nb.words.message import Message, clauses, t

__all__ = ["GuestHandle", "ended_at_once", "explained", "folders_of", "guard"]

_BUSY: dict[str, threading.Lock] = {}
"""By the guest's UUID; in a copy of this process made by fork nobody would ever release them."""
os.register_at_fork(after_in_child=_BUSY.clear)


def guard(guest: GuestRef | str) -> threading.Lock:
    """Return the lock of a guest: two plans of one process never change its snapshots at once."""
    return _BUSY.setdefault(guest if isinstance(guest, str) else guest.uuid, threading.Lock())


@dataclass(frozen=True)
class GuestHandle:
    """What everything below `Guest` is given of a guest; `found` is the virDomain of a connection that may end."""

    link: Connection
    found: Any

    @property
    def domain(self) -> Any:
        """libvirt's virDomain, of the connection as it is now: found again after it was lost."""
        connection = self.link.handle
        if self.found.connect() is not connection:
            with libvirt_errors(t("find the guest {name}", name=self.found.name())):
                object.__setattr__(self, "found", connection.lookupByUUID(self.found.UUID()))
        return self.found

    @classmethod
    def find(cls, link: Connection, guest: GuestRef) -> GuestHandle:
        """Return the handle of a guest that a step names."""
        return cls(link, link.find(guest))

    @property
    def name(self) -> str:
        """The guest's name."""
        return str(self.domain.name())

    @property
    def ref(self) -> GuestRef:
        """Who it is, for a step."""
        return GuestRef(self.name, self.domain.UUIDString(), self.link.uri)

    @property
    def state(self) -> State:
        """What it does now."""
        return state_of(self.domain)

    @property
    def running(self) -> bool:
        """Whether QEMU has its images open now."""
        return self.state not in OFF

    @property
    def still_running(self) -> bool:
        """Whether it runs; one without a persistent record is gone with its end."""
        try:
            return self.running
        except NotFoundError:
            return False

    def check_answers(self, tried: Message, until: float) -> None:
        """Raise unless libvirt answers by a time (of `time.monotonic`), so that a limit of time holds."""
        self.link.check_answers(tried, until)

    def xml(self) -> str:
        """Return its domain XML: the live one while it runs."""
        with libvirt_errors(t("read the XML of {guest}", guest=self.name)):
            return str(self.domain.XMLDesc())

    def definition(self) -> str:
        """Return the domain XML as libvirt stores it for the next start, with passwords."""
        libvirt = library()
        with libvirt_errors(t("read the XML of {guest}", guest=self.name)):
            return str(self.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))

    def define(self, xml: str, tried: Message) -> None:
        """Let libvirt store a domain XML for the next start."""
        with libvirt_errors(tried):
            self.link.handle.defineXML(xml)

    def read(self) -> Domain:
        """Read what libvirt records of it."""
        return read_domain(self.domain)

    def records(self, *, xml: bool = True) -> tuple[SnapshotRecord, ...]:
        """Read libvirt's records of its snapshots, each with its whole XML if that is wanted."""
        return self.link.sized(read_records(self.domain, xml=xml, far=not self.link.files_are_here))

    def facts(self) -> GuestFacts:
        """Read what libvirt records of it, and the XML from which that was read."""
        domain, xml = read_domain_and_xml(self.domain)
        return GuestFacts(domain=domain, uri=self.link.uri, xml=xml)

    def check_writable(self, tried: Message) -> None:
        """Raise if the connection is read-only."""
        if self.link.readonly:
            raise ReadOnlyError(
                tried, why=t("the connection is read-only"), next_step=t("connect without readonly=True")
            )

    def why_not_to_restore(self, path: str) -> Message:
        """Return why libvirt should not be given a file as saved memory of this guest; empty if nothing does."""
        return why_not_to_restore(path, qemu_users(self.link.handle), emulators(self.xml()))

    def check_saved(self, path: str, tried: Message) -> None:
        """Check that libvirt can be given a file as saved memory, once more: it may be another one by now."""
        if self.link.files_are_here and (why := self.why_not_to_restore(path)):
            raise StalePlanError(
                tried, why=t("{image}: {why}", image=path, why=why), next_step=t("find out who created it")
            )

    def has_started(self) -> None:
        """Let whoever keeps a list know that it was started."""
        self.link.customs.started(self.domain)

    # -- images ----------------------------------------------------------------------------------------------

    def survey(
        self, survey: Survey, files: Iterable[str] = (), *, around: bool = False, saved: str | None = None
    ) -> Reading:
        """Read at one moment its definition, its records, and the forest of all images that are near its own.

        That are those in the folders of its disks' images, of the files that its records name, and of `files`; and if
        `around`, those in every folder that holds a layer of its chains, since others may be based on it there. The
        same survey reads those folders again, though the guest may have left them by then. A file of saved memory
        counts as a record as soon as it is there. Of another machine, the images of all storage pools are read.
        """
        uuid = self.domain.UUIDString()
        roll = self.link.roll()
        own = next((pair for pair in roll.guests if pair[0].uuid == uuid), None)
        domain, xml = own if own is not None else read_domain_and_xml(self.domain)
        here, read = self.link.files_are_here, read_all_records(roll, whole=uuid)
        records = self.link.sized(read.pop(uuid, ()))
        if here and saved is not None and os.path.lexists(saved):
            records += (saved_record(domain.name, saved),)
        sources = [use.path for use in domain.uses]
        named = [path for record in records for path in files_of(record)]
        tops = (*sources, *(path for record in records for path in record.files)) if around else ()
        folders = (*folders_of((*sources, *named, *files)), *filter(os.path.isdir, survey.folders)) if here else ()
        survey.devices.update(named)
        every = (*chain.from_iterable(read.values()), *records)
        forest = self.link.forest(survey, roll, folders, tops, records=every)
        survey.folders = forest.folders
        guest = GuestFacts(domain=domain, uri=self.link.uri, xml=xml)
        return Reading(forest=forest, guest=guest)

    def forest(self) -> Forest:
        """Read the forest of its images, and of those beside them."""
        return self.survey(Survey(follow=True)).forest


def folders_of(paths: Iterable[str]) -> list[str]:
    """Return the folders of some files, as far as they are there."""
    named = dict.fromkeys(path.rpartition("/")[0] or "/" for path in paths if path.startswith("/"))
    folders = dict.fromkeys(map(tidy, named))
    return [folder for folder in folders if not is_kernel_path(real_path(folder)) and os.path.isdir(folder)]


_ENDED_AT_ONCE = re.compile(
    r"connect(ing)? to monitor|exited prior to exec|notify child process|Child process \(.* -name guest=|"
    r"domain is no longer running"
)
"""What libvirt says of a QEMU that has ended before, or as soon as, it was there."""


def ended_at_once(error: VmsnapError) -> bool:
    """Return whether a QEMU had ended before it could tell libvirt why."""
    return isinstance(error, LibvirtError) and _ENDED_AT_ONCE.search(error.quoted or "") is not None


_MONITOR_LOST = ("read from", "write to", "closed", "End of file")
"""What libvirt says, in the same sentence as "monitor", where a QEMU has ended in the middle of something."""


def explained(error: VmsnapError) -> VmsnapError:
    """Return an error of libvirt about snapshots with what is known of it."""
    libvirt = library()
    if not isinstance(error, LibvirtError):
        return error
    said = error.quoted or ""
    if error.code == libvirt.VIR_ERR_AGENT_UNRESPONSIVE:
        return GuestNotReadyError(
            error.tried, said=said, next_step=t("start qemu-guest-agent in the guest, or omit quiesce")
        )
    gone = "domain is not running" in said or "domain is no longer running" in said
    if gone or ("monitor" in said and any(words in said for words in _MONITOR_LOST)):
        ended = GuestError(
            error.tried,
            why=clauses(filter(None, (t("its QEMU process has exited"), error.why))),
            said=said,
            next_step=error.next_step
            if has_own_step(error)
            else t("check its disks with chain(), then start it again"),
        )
        for note in getattr(error, "__notes__", ()):
            ended.add_note(note)
        return ended
    if "writing VM state" in said and not has_own_step(error):
        error.next_step = t("free space on the file system of the image that stores the memory, and try again")
    return error
