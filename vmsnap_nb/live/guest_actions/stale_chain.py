"""The chain that libvirt has written down: with a snapshot of a running guest its definition lists all layers.

The next start uses that list and not the images' headers, and libvirt's revert to an internal snapshot uses the list
in its record. A merge while the guest is off changes only the headers.
Source: https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms (backingStore).
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from vmsnap_nb.live.guest_actions.records import redefine, whole_record
from vmsnap_nb.live.handle import GuestHandle
from vmsnap_nb.live.listed_layers import is_other_disk
from vmsnap_nb.model.disk_xml import forget_layers, layers_below, named_image
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.system.files.paths import real_path
from vmsnap_nb.system.libvirt.snapshots import read_records
from vmsnap_nb.words.message import t

__all__ = ["forget_old_chains"]


def forget_old_chains(guest: GuestHandle, snapshot: str | None = None) -> None:
    """Let libvirt use the headers again, for each disk whose list is not what they say.

    It is the definition for the next start of a guest that is off, or the one in the record of a snapshot. A list stays
    where the headers lead to something that is not in order: it may be right then.
    """
    if not guest.link.files_are_here:
        return
    domain = guest.domain
    root = parse_xml(guest.definition() if snapshot is None else whole_record(domain, snapshot))
    lists = [(disk, own, listed) for disk in root.iter("disk") for own, listed in _lists(disk)]
    if not lists:
        return
    forest = guest.link.place(*sorted({os.path.dirname(own) for _, own, _ in lists})).forest()
    old = [disk for disk, own, listed in lists if _is_old(forest, own, listed)]
    for disk in old:
        forget_layers(disk)
    text = ET.tostring(root, encoding="unicode")
    if old and snapshot is None:
        guest.define(text, t("update the chain in the definition of {guest}", guest=guest.name))
    elif old:
        current = any(record.current and record.name == snapshot for record in read_records(domain, xml=False))
        redefine(guest, text, current=current)


def _lists(disk: ET.Element) -> Iterator[tuple[str, list[str]]]:
    """Return the path of a disk's own image and those that it lists below, if all are files and there are any."""
    own = named_image(disk.find("source"))
    listed = [named_image(below.find("source")) or "" for below in layers_below(disk)]
    if own and listed and all(listed):
        yield own, listed


def _is_old(forest: Forest, own: str, listed: list[str]) -> bool:
    """Return whether layers are listed that the headers do not name any more.

    What is below the end of the list libvirt looks up itself.
    """
    layers = [forest[path] for path in forest.known_lineage(own)]
    if not layers or any(layer.status != "ok" for layer in layers):
        return False
    if is_other_disk(forest, own, listed):
        return False  # that of another disk: nobody here knows which of them is meant
    return [real_path(layer.path) for layer in layers[1:]][: len(listed)] != [*map(real_path, listed)]
