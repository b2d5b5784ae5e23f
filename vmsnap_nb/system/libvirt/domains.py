"""Reads guests: libvirt's domains and their XML (https://libvirt.org/formatdomain.html)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.model.address import address
from vmsnap_nb.model.disk_xml import layers_below, named_image
from vmsnap_nb.model.guest import OFF, Disk, Domain, State
from vmsnap_nb.model.names import there_are
from vmsnap_nb.model.need import Need, NeedKind
from vmsnap_nb.system.libvirt.each import ask_each
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.volumes import with_volume_paths
from vmsnap_nb.words.message import Message, t

__all__ = [
    "channels",
    "checkpoints_of",
    "find_domain",
    "list_domains",
    "list_domains_and_xml",
    "list_handles",
    "read_disks",
    "read_domain",
    "read_domain_and_xml",
    "state_of",
]

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
    with libvirt_errors(t("find the guest {name}", name=name)):
        domains = {domain.name(): domain for domain in connection.listAllDomains()}
    if name in domains:
        return domains[name]
    raise NotFoundError(
        t("find the guest {name}", name=name),
        why=t("no guest has that name"),
        next_step=there_are(name, sorted(domains), none=t("there is no guest yet")),
    )


def list_handles(connection: Any, flag: int, tried: Message) -> list[Any] | None:
    """Return libvirt's handles of the guests for which a flag of its list holds; None if the driver knows no such."""
    libvirt = library()
    try:
        return list(connection.listAllDomains(flag))
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_INVALID_ARG):
            return None
        with libvirt_errors(tried):
            raise


def list_domains(connection: Any) -> tuple[Domain, ...]:
    """Read all guests of a connection, by name.

    A guest that goes away meanwhile is left out.
    """
    return tuple(domain for domain, _ in list_domains_and_xml(connection))


def list_domains_and_xml(connection: Any) -> tuple[tuple[Domain, str], ...]:
    """Read all guests of a connection, by name, each with the XML from which that was read."""
    with libvirt_errors(t("list the guests")):
        domains = connection.listAllDomains()
    found = (pair for pair in ask_each(_read_or_nothing, domains) if pair is not None)
    return tuple(sorted(found, key=lambda pair: pair[0].name))


def _read_or_nothing(domain: Any) -> tuple[Domain, str] | None:
    try:
        return read_domain_and_xml(domain)
    except NotFoundError:
        return None


def read_domain(domain: Any) -> Domain:
    """Read what libvirt records of one guest."""
    return read_domain_and_xml(domain)[0]


def read_domain_and_xml(domain: Any) -> tuple[Domain, str]:
    """Read what libvirt records of one guest, and the XML from which that was read: the live one while it runs."""
    with libvirt_errors(t("read the guest {name}", name=domain.name())):
        xml = with_volume_paths(domain.connect, str(domain.XMLDesc()))
        state, persistent, name = state_of(domain), bool(domain.isPersistent()), str(domain.name())
        later = None
        if persistent and state not in OFF:
            later = with_volume_paths(domain.connect, str(domain.XMLDesc(library().VIR_DOMAIN_XML_INACTIVE)))
        disks = read_disks(xml)
        record = Domain(
            name=name,
            uuid=domain.UUIDString(),
            state=state,
            persistent=persistent,
            disks=disks,
            needs=(
                *_needs(name, xml),
                *(() if later is None else (*_next_start(name, disks, later), *_listed(name, later))),
            ),
            checkpoints=checkpoints_of(domain),
            definition=later or "",
        )
    return record, xml


def _next_start(guest: str, disks: Iterable[Disk], xml: str) -> Iterator[Need]:
    """Yield the disks of the definition for the next start that are images other than the current ones."""
    now = {disk.source for disk in disks}
    for disk in read_disks(xml):
        if disk.source and disk.source not in now:
            yield Need("next start", disk.source, guest, disk.target)


def _needs(guest: str, xml: str) -> Iterator[Need]:
    """Yield what a definition names beside disks: the target of a block job, and the file of the firmware."""
    if "<mirror" in xml:
        for disk in ET.fromstring(xml).iterfind("devices/disk"):
            mirror, target = disk.find("mirror"), disk.find("target")
            if mirror is not None and (path := _source(mirror.find("source"))):
                yield Need("block job", path, guest, "" if target is None else target.get("dev", ""))
    if "<nvram" in xml and (nvram := ET.fromstring(xml).find("os/nvram")) is not None:
        path = _source(nvram.find("source")) or (nvram.text or "").strip()
        if path:
            yield Need("firmware", path, guest)
    for kind, place in _NEEDED:
        if f"<{place.rpartition('/')[2]}" in xml:
            for element in ET.fromstring(xml).iterfind(place):
                if path := (element.text or "").strip():
                    yield Need(kind, path, guest)
    yield from _listed(guest, xml)


def _listed(guest: str, xml: str) -> Iterator[Need]:
    """Yield the layers that a definition lists below the images of its disks, where all are local."""
    for disk in ET.fromstring(xml).iterfind("devices/disk") if "<backingStore" in xml else ():
        target, own = disk.find("target"), named_image(disk.find("source"))
        listed = [named_image(layer.find("source")) for layer in layers_below(disk)]
        if own and target is not None and all(listed):
            layers = (own, *filter(None, listed))
            name = target.get("dev", "")
            yield from (Need("definition", path, guest, name=name, layers=layers) for path in layers[1:])


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
        state: State = _STATES[number] if 0 <= number < len(_STATES) else "no state"
        return "saved" if state == "shut off" and _has_managed_save(domain) else state


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
    return tuple(_disk(element) for element in ET.fromstring(xml).iterfind("devices/disk"))


def _disk(element: ET.Element) -> Disk:
    driver, target, source = element.find("driver"), element.find("target"), element.find("source")
    volume = None if source is None else source.get("volume")
    return Disk(
        volume=""
        if source is None or volume is None
        else t("volume {volume} of pool {pool}", volume=volume, pool=source.get("pool")),
        target="" if target is None else target.get("dev", ""),
        source=_source(source),
        format=None if driver is None else driver.get("type"),
        bus=None if target is None else target.get("bus"),
        device=element.get("device", "disk"),
        readonly=element.find("readonly") is not None or element.get("device") == "cdrom",
    )


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
        for target in ET.fromstring(xml).iterfind("devices/channel/target")
        if target.get("type") == "virtio"
    }
