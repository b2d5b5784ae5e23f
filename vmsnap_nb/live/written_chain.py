"""The chain that libvirt has written down: with a snapshot of a running guest its definition lists all layers.

The next start goes by that list and not by the images' headers, and libvirt's revert to an internal snapshot by that
of then. A merge while the guest is off changes only the headers.
Source: https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms (backingStore).
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vmsnap_nb.live.domains import definition
from vmsnap_nb.live.snapshot_records import redefine, whole_record
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_snapshots import read_records

if TYPE_CHECKING:
    from vmsnap_nb.live.guest import Guest

__all__ = ["forget_old_chains"]


def forget_old_chains(guest: Guest, snapshot: str | None = None) -> None:
    """Let libvirt go by the headers again, for each disk whose list is not what they say.

    Parameters
    ----------
    guest : Guest
        One that is off, if its definition is meant. A list stays where the headers lead to something that is not in
        order: it may be right then.
    snapshot : str, optional
        The definition in the record of a snapshot; the one for the next start if left out.
    """
    if not guest.host.files_are_here:
        return
    domain = guest._domain
    root = ET.fromstring(definition(domain) if snapshot is None else whole_record(domain, snapshot))
    lists = [(disk, own, listed) for disk in root.iter("disk") for own, listed in _lists(disk)]
    if not lists:
        return
    forest = guest.host.survey(*sorted({os.path.dirname(own) for _, own, _ in lists}))
    old = [disk for disk, own, listed in lists if _is_old(forest, own, listed)]
    for disk in old:
        for element in disk.findall("backingStore"):
            disk.remove(element)
    text = ET.tostring(root, encoding="unicode")
    if old and snapshot is None:
        with libvirt_errors(f"let {guest.name} start on the chain as it is"):
            guest.host.connection.defineXML(text)
    elif old:
        current = any(record.current and record.name == snapshot for record in read_records(domain, xml=False))
        redefine(domain, text, current=current)


def _lists(disk: ET.Element) -> Iterator[tuple[str, list[str]]]:
    """Give the path of a disk's own image and those that it lists below, if all are files and there are any."""
    source, below = disk.find("source"), disk.find("backingStore")
    own = None if source is None else source.get("file")
    listed = []
    while below is not None and (source := below.find("source")) is not None:
        listed.append(source.get("file", ""))
        below = below.find("backingStore")
    if own and listed and all(listed):
        yield own, listed


def _is_old(forest: Forest, own: str, listed: list[str]) -> bool:
    """Tell whether other layers are listed than the headers name. What is below the end libvirt looks up itself."""
    layers = [forest[path] for path in forest.lineage(own)]
    if not layers or any(layer.status != "ok" for layer in layers):
        return False
    return [os.path.realpath(layer.path) for layer in layers[1:]][: len(listed)] != [*map(os.path.realpath, listed)]
