"""Reads guests: libvirt's domains and their XML (https://libvirt.org/formatdomain.html)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, TypeVar

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.model.address import address
from vmsnap_nb.model.disk_xml import is_ended, layers_below
from vmsnap_nb.model.guest import OFF, Disk, Domain, State
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.model.names import there_are
from vmsnap_nb.model.need import Need, NeedKind
from vmsnap_nb.system.libvirt.each import ask_each
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.named import files_named
from vmsnap_nb.system.libvirt.volumes import with_volume_paths
from vmsnap_nb.words.message import t

__all__ = [
    "Roll",
    "channels",
    "checkpoints_of",
    "find_domain",
    "is_starting",
    "read_disks",
    "read_domain",
    "read_domain_and_xml",
    "read_roll",
    "state_of",
    "unless_gone",
]

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_NEEDED: tuple[tuple[NeedKind, str], ...] = (
    ("boot", "os/loader"),
    ("boot", "os/kernel"),
    ("boot", "os/initrd"),
    ("boot", "os/dtb"),
    ("nvdimm", "devices/memory/source/path"),
)
"""Files that a definition names beside disks."""

_STATES: tuple[State, ...] = (
    "no state",
    "running",
    "idle",
    "paused",
    "in shutdown",
    "shut off",
    "crashed",
    "pmsuspended",
)
"""In the order of virDomainState."""


def find_domain(connection: Any, name: str) -> Any:
    """Return the domain of that name; the error lists those that there are."""
    libvirt, tried = library(), t("find the guest {name}", name=name)
    with libvirt_errors(tried):
        try:
            return connection.lookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
        names = sorted(domain.name() for domain in connection.listAllDomains())
    next_step = there_are(name, names, none=t("create a guest first"))
    raise NotFoundError(tried, why=t("no guest has that name"), next_step=next_step)


@dataclass(frozen=True)
class Roll:
    """All guests of a connection at one moment, by name, each with the XML from which it was read.

    `saved` and `recorded` are libvirt's handles of those with a managed save, and of those with snapshots; `far` is
    whether each answer of that libvirt takes long.
    """

    guests: tuple[tuple[Domain, str], ...] = ()
    saved: tuple[Any, ...] = ()
    recorded: tuple[Any, ...] = ()
    far: bool = False


def read_roll(connection: Any, *, far: bool = False) -> Roll:
    """Read all guests of a connection; one that goes away meanwhile is left out."""
    with libvirt_errors(t("list the guests")):
        domains = connection.listAllDomains()
    texts = ask_each(partial(unless_gone, _xml), domains, far=far)
    told = _Told.read(connection, far=far)
    there = [(domain, xml) for domain, xml in zip(domains, texts, strict=True) if xml is not None]
    found = ask_each(partial(unless_gone, told.domain), there)
    guests = sorted((pair for pair in found if pair is not None), key=lambda pair: pair[0].name)
    return Roll(tuple(guests), told.saved or (), told.recorded or (), far)


def unless_gone(question: Callable[[Item], Answer], item: Item) -> Answer | None:
    """Return the answer to a question about a guest; None if the guest is gone."""
    try:
        return question(item)
    except NotFoundError:
        return None


def read_domain(domain: Any) -> Domain:
    """Read what libvirt records of one guest."""
    return read_domain_and_xml(domain)[0]


def read_domain_and_xml(domain: Any) -> tuple[Domain, str]:
    """Read what libvirt records of one guest, and the XML from which that was read: the live one while it runs."""
    return _Told().domain((domain, _xml(domain)))


def _xml(domain: Any) -> str:
    with libvirt_errors(t("read the guest {name}", name=domain.name())):
        return with_volume_paths(domain.connect, str(domain.XMLDesc()))


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What libvirt tells of all guests in a few answers; what is None each guest is to be asked for."""

    states: Mapping[str, int] | None = None
    saved: tuple[Any, ...] | None = None
    persistent: tuple[Any, ...] | None = None
    checkpointed: tuple[Any, ...] | None = None
    recorded: tuple[Any, ...] | None = None

    @classmethod
    def read(cls, connection: Any, *, far: bool) -> _Told:
        libvirt = library()
        flags = {
            "saved": libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE,
            "persistent": libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT,
            "checkpointed": libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT,
            "recorded": libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT,
        }
        questions: list[Callable[[], Any]] = [partial(_states, connection)]
        questions += [partial(_list_handles, connection, flag) for flag in flags.values()]
        states, *listed = ask_each(_answered, questions, far=far)
        return cls(states=states, **dict(zip(flags, listed, strict=True)))

    @cached_property
    def _uuids(self) -> Mapping[str, frozenset[str] | None]:
        lists = {"saved": self.saved, "persistent": self.persistent, "checkpointed": self.checkpointed}
        return {
            name: None if handles is None else frozenset(handle.UUIDString() for handle in handles)
            for name, handles in lists.items()
        }

    def domain(self, found: tuple[Any, str]) -> tuple[Domain, str]:
        """Return what libvirt records of a guest, of libvirt's handle of it and its XML."""
        domain, xml = found
        uuid, name = str(domain.UUIDString()), str(domain.name())
        with libvirt_errors(t("read the guest {name}", name=name)):
            number, saved = (self.states or {}).get(uuid), self._has("saved", uuid)
            state = state_of(domain) if number is None or saved is None else _state(number, saved=saved)
            persistent = self._has("persistent", uuid)
            persistent = bool(domain.isPersistent()) if persistent is None else persistent
            later = None
            if persistent and state not in OFF:
                later = with_volume_paths(domain.connect, str(domain.XMLDesc(library().VIR_DOMAIN_XML_INACTIVE)))
            disks = read_disks(xml)
            needs = list(_needs(name, xml))
            if later is not None:
                needs += (*_next_start(name, disks, later), *_needs(name, later))
            record = Domain(
                name=name,
                uuid=uuid,
                state=state,
                persistent=persistent,
                disks=disks,
                needs=tuple(dict.fromkeys(needs)),
                checkpoints=() if self._has("checkpointed", uuid) is False else checkpoints_of(domain),
                definition=later or "",
            )
        return record, xml

    def _has(self, name: str, uuid: str) -> bool | None:
        uuids = self._uuids[name]
        return None if uuids is None else uuid in uuids


def _answered(question: Callable[[], Any]) -> Any:
    return question()


def _list_handles(connection: Any, flag: int) -> tuple[Any, ...] | None:
    """Return libvirt's handles of the guests for which a flag of its list holds; None if the driver knows no such."""
    libvirt = library()
    with libvirt_errors(t("list the guests")):
        try:
            return tuple(connection.listAllDomains(flag))
        except libvirt.libvirtError as error:
            if error.get_error_code() in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_INVALID_ARG):
                return None
            raise


def _states(connection: Any) -> dict[str, int] | None:
    """Return the state of each guest by UUID, as a number of virDomainState; None if the driver tells none."""
    libvirt = library()
    with libvirt_errors(t("read the states of the guests")):
        try:
            every = connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
                return None
            raise
    return {domain.UUIDString(): stats["state.state"] for domain, stats in every if "state.state" in stats}


def _next_start(guest: str, disks: Iterable[Disk], xml: str) -> Iterator[Need]:
    """Yield the disks of the definition for the next start that are images other than the current ones."""
    now = {disk.source for disk in disks}
    for disk in read_disks(xml):
        if disk.source and disk.source not in now:
            yield Need("next start", disk.source, guest, disk.target)


def _needs(guest: str, xml: str) -> Iterator[Need]:
    """Yield what a definition names beside disks: the target of a block job, and the file of the firmware."""
    if "<mirror" in xml:
        for disk in parse_xml(xml).iterfind("devices/disk"):
            mirror, target = disk.find("mirror"), disk.find("target")
            if mirror is not None and (path := _source(mirror.find("source"))):
                yield Need("block job", path, guest, "" if target is None else target.get("dev", ""))
    if "<nvram" in xml and (nvram := parse_xml(xml).find("os/nvram")) is not None:
        path = _source(nvram.find("source")) or (nvram.text or "").strip()
        if path:
            yield Need("firmware", path, guest)
    for kind, place in _NEEDED:
        if f"<{place.rpartition('/')[2]}" in xml:
            for element in parse_xml(xml).iterfind(place):
                if path := (element.text or "").strip():
                    yield Need(kind, path, guest)
    yield from _data_files(guest, xml)
    yield from _listed(guest, xml)
    yield from (Need("named", path, guest) for path in files_named(xml))


def _data_files(guest: str, xml: str) -> Iterator[Need]:
    """Yield the external data files that a definition names: from 10.10 on libvirt uses these."""
    for disk in parse_xml(xml).iterfind("devices/disk") if "<dataStore" in xml else ():
        target = disk.find("target")
        for store in disk.iter("dataStore"):
            if path := _source(store.find("source")):
                yield Need("data", path, guest, "" if target is None else target.get("dev", ""))


def _listed(guest: str, xml: str) -> Iterator[Need]:
    """Yield the layers that a definition lists below the images of its disks, local ones and others."""
    for disk in parse_xml(xml).iterfind("devices/disk") if "<backingStore" in xml else ():
        target, own = disk.find("target"), _source(disk.find("source"))
        listed = [_source(layer.find("source")) for layer in layers_below(disk)]
        if own and target is not None and all(listed) and disk.get("type") != "dir":
            found = (own, *filter(None, listed))
            layers = (*found, "") if is_ended(disk) else found
            name = target.get("dev", "")
            named = found[1:] or layers[:-1]  # the image itself, where it is said that nothing is below it
            yield from (Need("definition", path, guest, name=name, layers=layers) for path in named)


def checkpoints_of(domain: Any) -> tuple[str, ...]:
    """Return the names of a guest's checkpoints; a driver that knows none has none."""
    libvirt = library()
    try:
        return tuple(sorted(str(checkpoint.getName()) for checkpoint in domain.listAllCheckpoints()))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return ()
        raise


def state_of(domain: Any) -> State:
    """Return a guest's state in virsh's words."""
    with libvirt_errors(t("read the state of {guest}", guest=domain.name())):
        number, _ = domain.state()
        state = _state(number, saved=False)
        return _state(number, saved=_has_managed_save(domain)) if state == "shut off" else state


def _state(number: int, *, saved: bool) -> State:
    state: State = _STATES[number] if 0 <= number < len(_STATES) else "no state"
    return "saved" if state == "shut off" and saved else state


def is_starting(domain: Any) -> bool:
    """Return whether libvirt is starting a guest: until that ends, a question about it waits 30 s, and fails.

    A libvirt that is killed meanwhile can be in that state for good after its next start (seen with 9.0).
    """
    libvirt = library()
    return bool(list(domain.state()) == [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP])


def _has_managed_save(domain: Any) -> bool:
    """Return whether the next start resumes from a managed save; a driver that knows none has none."""
    libvirt = library()
    try:
        return bool(domain.hasManagedSaveImage())
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return False
        raise


@lru_cache(maxsize=512)  # most surveys of a host find the same definitions again
def read_disks(xml: str) -> tuple[Disk, ...]:
    """Return the disks of a domain XML, in its order.

    Examples
    --------
    >>> read_disks(
    ...     "<domain><devices><disk type='file'><driver type='raw'/><source file='/a'/>"
    ...     "<target dev='vda' bus='virtio'/></disk></devices></domain>"
    ... )[0].source
    '/a'
    """
    return tuple(_disk(element) for element in parse_xml(xml).iterfind("devices/disk"))


def _disk(element: ET.Element) -> Disk:
    driver, target, source = element.find("driver"), element.find("target"), element.find("source")
    volume = None if source is None else source.get("volume")
    return Disk(
        volume=""
        if source is None or volume is None
        else t("volume {volume} of pool {pool}", volume=volume, pool=source.get("pool")),
        target="" if target is None else target.get("dev", ""),
        source=_source(source),
        format=_format(element, driver),
        bus=None if target is None else target.get("bus"),
        device=element.get("device", "disk"),
        readonly=element.find("readonly") is not None or element.get("device") == "cdrom",
    )


def _format(disk: ET.Element, driver: ET.Element | None) -> str | None:
    """Return the format of a disk; one that libvirt calls raw is LUKS if QEMU has a key for it."""
    format = None if driver is None else driver.get("type")
    encryption = disk.find("source/encryption") if format == "raw" else None
    encryption = disk.find("encryption") if encryption is None and format == "raw" else encryption
    return "luks" if encryption is not None and encryption.get("format") == "luks" else format


def _source(element: ET.Element | None) -> str | None:
    if element is None:
        return None
    for attribute in ("file", "dev", "dir"):
        if element.get(attribute):
            return element.get(attribute)
    if protocol := element.get("protocol"):
        hosts = [host.attrib for host in element.iterfind("host")]
        return address(protocol, element.get("name", ""), hosts, element.get("query", ""))
    if element.get("pool"):
        return f"{element.get('pool')}/{element.get('volume', '')}"
    return None


def channels(xml: str) -> dict[str, bool]:
    """Return the guest's virtio serial ports by name, and whether a program in the guest has each open now."""
    return {
        target.get("name", ""): target.get("state") == "connected"
        for target in parse_xml(xml).iterfind("devices/channel/target")
        if target.get("type") == "virtio"
    }
