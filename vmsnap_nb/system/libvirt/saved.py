"""Reads what saved memory of guests needs: libvirt's managed saves, and files that ``virsh save`` has written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from vmsnap_nb.errors import LibvirtError
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.model.need import Need, NeedKind
from vmsnap_nb.system.libvirt.domains import read_disks
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.libvirt.volumes import with_volume_paths
from vmsnap_nb.system.libvirt.written import named_below
from vmsnap_nb.system.saved_memory import read_definition

__all__ = ["managed_saves", "saved_memory"]


def managed_saves(connection: Any, domains: Iterable[Any]) -> Iterator[Need]:
    """Yield what the managed saves of these guests need; nothing for one whose own words cannot be read.

    A guest that was saved starts with the disks of that moment, whatever its definition says now.
    """
    libvirt = library()
    for domain in domains:
        try:
            xml = str(domain.managedSaveGetXMLDesc())
            yield from _needs(connection, "managed save", str(domain.name()), xml)
        except (libvirt.libvirtError, LibvirtError):
            continue


def saved_memory(path: str, connection: Any = None) -> tuple[Need, ...]:
    """Return what a file of saved memory needs; nothing where it cannot be read.

    The connection is asked for the files of volumes.
    """
    xml = read_definition(path)
    if xml is None:
        return ()
    try:
        guest = parse_xml(xml).findtext("name", "")
        return tuple(_needs(connection, "saved memory", guest, xml, path))
    except LibvirtError:
        return ()


def _needs(connection: Any, kind: NeedKind, guest: str, xml: str, name: str = "") -> Iterator[Need]:
    if connection is not None:
        xml = with_volume_paths(lambda: connection, xml)
    below = named_below(xml)
    for disk in read_disks(xml):
        if disk.source:
            layers = tuple(path for path, _ in below.get(disk.target, ()))
            yield Need(kind, disk.source, guest, name, layers=layers)
