"""Reads guests: libvirt's domains and their XML (https://libvirt.org/formatdomain.html)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from vmsnap_nb.errors import NotFoundError
from vmsnap_nb.model.guest import Disk, Domain, State
from vmsnap_nb.system.libvirt_errors import libvirt_errors

__all__ = ["channels", "find_domain", "list_domains", "read_disks", "read_domain", "state_of"]

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
    """Look a domain up by its name.

    Returns
    -------
    libvirt.virDomain

    Raises
    ------
    NotFoundError
        There is none; the error lists those that there are.
    """
    with libvirt_errors(f"find the guest {name}"):
        domains = {domain.name(): domain for domain in connection.listAllDomains()}
    if name in domains:
        return domains[name]
    raise NotFoundError(
        f"find the guest {name}",
        said="no guest has that name",
        next_step="there are: " + ", ".join(sorted(domains)) if domains else "there is no guest yet",
    )


def list_domains(connection: Any) -> tuple[Domain, ...]:
    """Read all guests of a connection, by name.

    A guest that goes away meanwhile is left out.
    """
    found = []
    with libvirt_errors("list the guests"):
        domains = connection.listAllDomains()
    for domain in domains:
        try:
            found.append(read_domain(domain))
        except NotFoundError:
            continue
    return tuple(sorted(found, key=lambda domain: domain.name))


def read_domain(domain: Any) -> Domain:
    """Read what libvirt records of one guest."""
    with libvirt_errors(f"read the guest {domain.name()}"):
        return Domain(
            domain.name(),
            domain.UUIDString(),
            state_of(domain),
            bool(domain.isPersistent()),
            read_disks(domain.XMLDesc()),
        )


def state_of(domain: Any) -> State:
    """Give a guest's state in virsh's words."""
    with libvirt_errors(f"read the state of {domain.name()}"):
        number, _ = domain.state()
    return _STATES[number] if 0 <= number < len(_STATES) else "no state"


def read_disks(xml: str) -> tuple[Disk, ...]:
    """Give the disks of a domain XML, in its order.

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
    driver, target = element.find("driver"), element.find("target")
    return Disk(
        target="" if target is None else target.get("dev", ""),
        source=_source(element.find("source")),
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
    if element.get("protocol"):
        host = element.find("host")
        address = "" if host is None else host.get("name", "") + (f":{host.get('port')}" if host.get("port") else "")
        return f"{element.get('protocol')}://{address}/{element.get('name', '')}"
    if element.get("pool"):
        return f"{element.get('pool')}/{element.get('volume', '')}"
    return None


def channels(xml: str) -> dict[str, bool]:
    """Give the guest's virtio serial ports by name, and whether a program in the guest has each open now."""
    return {
        target.get("name", ""): target.get("state") == "connected"
        for target in ET.fromstring(xml).iterfind("devices/channel/target")
        if target.get("type") == "virtio"
    }
