"""Reads images through libvirt's storage pools: the way where they are files of another machine.

Sources: https://libvirt.org/formatstorage.html (volumes), https://libvirt.org/formatdomain.html (``backingStore``).
"""

from __future__ import annotations

import os.path
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.guest import Use
from vmsnap_nb.model.image import Image
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.system.libvirt_errors import libvirt_errors
from vmsnap_nb.system.libvirt_library import library

__all__ = ["pool_folders", "read_domain_chains", "read_volume", "read_volumes", "remote_forest"]

_DEEPEST = 1000
"""Layers after which a chain is not followed any further."""


def _pools(connection: Any) -> list[Any]:
    libvirt = library()
    try:
        return list(connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return []  # an embedded driver comes without storage
        with libvirt_errors("list the storage pools"):
            raise


def pool_folders(connection: Any) -> tuple[str, ...]:
    """Give the folders of all active storage pools that are folders."""
    folders = []
    for pool in _pools(connection):
        with libvirt_errors(f"read the storage pool {pool.name()}"):
            xml = ET.fromstring(pool.XMLDesc())
        path = xml.findtext("target/path")
        if path and xml.get("type") in {"dir", "fs", "netfs"}:
            folders.append(path)
    return tuple(folders)


def read_volumes(connection: Any, folders: Iterable[str] = ()) -> dict[str, Image]:
    """Read every volume of the active pools.

    Parameters
    ----------
    connection : libvirt.virConnect
        Where to read.
    folders : iterable of str
        Read only volumes in or below these; all if none is given.

    Returns
    -------
    dict
        By path.
    """
    wanted = tuple(folder.rstrip("/") + "/" for folder in folders)
    images: dict[str, Image] = {}
    for pool in _pools(connection):
        with libvirt_errors(f"read the storage pool {pool.name()}"):
            texts = [volume.XMLDesc() for volume in pool.listAllVolumes()]
        for text in texts:
            image = read_volume(text)
            if image is not None and (not wanted or image.path.startswith(wanted)):
                images[image.path] = image
    return images


def read_volume(xml: str) -> Image | None:
    """Give the image of a volume's XML; None for what is no image, as a folder or an ISO file."""
    volume = ET.fromstring(xml)
    path = volume.findtext("target/path")
    format = _format(volume.find("target"))
    if path is None or format in {"dir", "iso"} or volume.get("type") in {"dir", "network", "netdir"}:
        return None
    backing = volume.find("backingStore")
    return Image(
        path,
        format,
        virtual_size=_number(volume.findtext("capacity")),
        allocated=_number(volume.findtext("allocation")),
        backing=_reference(path, None if backing is None else backing.findtext("path"), _format(backing)),
        writable=int(volume.findtext("target/permissions/mode") or "0666", 8) & 0o222 != 0,
    )


def _format(element: ET.Element | None) -> str | None:
    format = None if element is None else element.find("format")
    return None if format is None else format.get("type")


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _reference(path: str, written: str | None, format: str | None) -> Reference | None:
    if not written:
        return None
    if written.startswith("/"):
        return Reference(written, "absolute", written, format)
    if "://" in written:
        return Reference(written, "remote", None, format)
    return Reference(written, "relative", os.path.normpath(os.path.join(os.path.dirname(path), written)), format)


def read_domain_chains(xml: str) -> Iterator[Image]:
    """Give the images that a domain's XML tells of: its sources and, while it runs, the layers below them."""
    for disk in ET.fromstring(xml).iterfind("devices/disk"):
        driver = disk.find("driver")
        format = None if driver is None else driver.get("type")
        layer: ET.Element | None = disk
        for _ in range(_DEEPEST):
            path = None if layer is None else _file(layer)
            if layer is None or path is None:
                break
            below = layer.find("backingStore")
            below_path = None if below is None else _file(below)
            # Only of a guest that runs libvirt tells the layers; the last one has an empty element.
            problem = _NOT_TOLD if below is None and format != "raw" else ""
            yield Image(path, format, problem=problem, backing=_reference(path, below_path, _format(below)))
            layer, format = below, _format(below)


_NOT_TOLD = (
    "what it stands on is not known: it is on another machine, in none of its storage pools, and its guest is not "
    "running; virsh pool-define-as makes a pool of a folder"
)


def _file(element: ET.Element) -> str | None:
    source = element.find("source")
    return None if source is None else source.get("file") or source.get("dev")


def remote_forest(connection: Any, domains: Iterable[tuple[Any, Iterable[Use]]], folders: Iterable[str] = ()) -> Forest:
    """Read a forest without opening a file: from pools, volumes and domains.

    Parameters
    ----------
    connection : libvirt.virConnect
        Where to read.
    domains : iterable of (libvirt.virDomain, uses)
        The guests and their uses of images.
    folders : iterable of str
        Of the volumes that no guest uses, only those in or below these; all if none is given.

    Returns
    -------
    Forest
        What libvirt cannot tell about is in it with the status "outside".
    """
    domains = [(domain, tuple(uses)) for domain, uses in domains]
    images = read_volumes(connection, folders)
    for domain, _ in domains:
        with libvirt_errors(f"read the XML of {domain.name()}"):
            xml = domain.XMLDesc()
        for told in read_domain_chains(xml):
            if told.path not in images:
                images[told.path] = _by_path(connection, told.path) or told
    uses = tuple(use for _, some in domains for use in some)
    queue = [use.path for use in uses] + [i.backing.key for i in images.values() if i.backing]
    for path in queue:
        if path in images:
            continue
        found = _by_path(connection, path) if path.startswith("/") else None
        images[path] = found or _unknown(path)
        backing = images[path].backing
        if backing is not None:
            queue.append(backing.key)
    return Forest(images, uses, tuple(folders), datetime.now(UTC))


def _by_path(connection: Any, path: str) -> Image | None:
    try:
        with libvirt_errors(f"find {path} in a storage pool"):
            return read_volume(connection.storageVolLookupByPath(path).XMLDesc())
    except VmsnapError:
        return None


def _unknown(path: str) -> Image:
    if not path.startswith("/"):
        return Image(path, status="remote", problem="it is at a network address, which is not opened")
    return Image(
        path,
        status="outside",
        problem="it is on another machine and in none of its storage pools: virsh pool-define-as makes one of a folder",
    )
