"""The chain that libvirt has written down: with a snapshot of a running guest its definition lists all layers.

The next start goes by that list and not by the images' headers. A merge while the guest is off changes only these.
Source: https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms (backingStore).
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from vmsnap_nb.live.domains import definition
from vmsnap_nb.system.libvirt_errors import libvirt_errors

if TYPE_CHECKING:
    from vmsnap_nb.live.guest import Guest

__all__ = ["forget_old_chains"]


def forget_old_chains(guest: Guest) -> None:
    """Let libvirt go by the headers again, for each disk whose list is not what they say.

    Parameters
    ----------
    guest : Guest
        One that is off. A list stays where the headers lead to something that is not in order: it may be right then.
    """
    root = ET.fromstring(definition(guest._domain))
    old = False
    for disk in root.iterfind("devices/disk"):
        target, listed = disk.find("target"), _listed(disk)
        if target is None or not listed or None in listed:
            continue
        chain = guest.chain(target.get("dev"))
        layers = [os.path.realpath(layer.path) for layer in reversed(chain)][1:]
        # What is below the end of the list libvirt looks up itself.
        same = layers[: len(listed)] == [os.path.realpath(path or "") for path in listed]
        if not same and all(layer.status == "ok" for layer in chain):
            for element in disk.findall("backingStore"):
                disk.remove(element)
            old = True
    if old:
        with libvirt_errors(f"let {guest.name} start on the chain as it is"):
            guest.host.connection.defineXML(ET.tostring(root, encoding="unicode"))


def _listed(disk: ET.Element) -> list[str | None]:
    """Give the paths that a disk lists below its own image; None for what is no file."""
    found = []
    below = disk.find("backingStore")
    while below is not None and (source := below.find("source")) is not None:
        found.append(source.get("file"))
        below = below.find("backingStore")
    return found
