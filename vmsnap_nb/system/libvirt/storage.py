"""Reads what libvirt says of images: its storage pools with their volumes, and the chains of guests' disks.

Sources: https://libvirt.org/formatstorage.html (volumes), https://libvirt.org/formatdomain.html (``backingStore``).
"""

from __future__ import annotations

import os.path
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vmsnap_nb.model.image import Image
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.system.libvirt.each import ask_each
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.words.message import N_, NOTHING, t

__all__ = ["Pool", "read_domain_chains", "read_pools", "read_volume"]

_DEEPEST = 1000
"""Layers after which a chain is not followed any further."""
_MOST, _MOST_DIGITS = (1 << 63) - 1, 19
"""What a file can have of bytes, and the digits of that."""
_ALL_WRITE = 0o222


@dataclass(frozen=True)
class Pool:
    """A storage pool: `folder` is where its volumes are, if it is a folder; `handle` is libvirt's own."""

    name: str
    active: bool
    folder: str | None
    handle: Any = field(compare=False, repr=False)
    xml: str = field(default="", compare=False, repr=False)
    devices: bool = False  # its volumes are block devices


def read_pools(connection: Any, *, far: bool = False) -> tuple[Pool, ...]:
    """Return all storage pools; an embedded driver comes without storage, and has none.

    `far` is whether each answer takes long.
    """
    libvirt = library()
    try:
        handles = connection.listAllStoragePools()
        active = {pool.UUID() for pool in connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)}
        xmls = ask_each(lambda handle: str(handle.XMLDesc()), handles, far=far)
        return tuple(
            _pool(handle, xml, active=handle.UUID() in active) for handle, xml in zip(handles, xmls, strict=True)
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return ()
        with libvirt_errors(t("list the storage pools")):
            raise


def _pool(handle: Any, text: str, *, active: bool) -> Pool:
    xml = parse_xml(text)
    path = xml.findtext("target/path") if xml.get("type") in {"dir", "fs", "netfs"} else None
    return Pool(
        name=str(handle.name()),
        active=active,
        folder=path and path.rstrip("/"),
        handle=handle,
        xml=text,
        devices=xml.get("type") in {"disk", "logical", "iscsi", "scsi", "mpath", "zfs"},
    )


def read_volume(xml: str) -> Image | None:
    """Return the image of a volume's XML; None for what is no image, as a folder or an ISO file."""
    volume = parse_xml(xml)
    path, device = volume.findtext("target/path"), volume.get("type") == "block"
    # libvirt looks into no device: what it calls the format is the kind of a partition.
    format = None if device else _format(volume.find("target"))
    if path is None or format in {"dir", "iso"} or volume.get("type") in {"dir", "network", "netdir"}:
        return None
    backing = volume.find("backingStore")
    return Image(
        path,
        format,
        virtual_size=_number(volume.findtext("capacity")),
        allocated=_number(volume.findtext("allocation")),
        backing=_reference(path, None if backing is None else backing.findtext("path"), _format(backing)),
        file_size=_number(volume.findtext("physical")),
        mtime_ns=_time(volume.findtext("target/timestamps/mtime")) if volume.get("type") == "file" else None,
        writable=_is_writable(volume.findtext("target/permissions/mode")),
        device=device,
    )


def _format(element: ET.Element | None) -> str | None:
    format = None if element is None else element.find("format")
    return None if format is None else format.get("type")


def _is_writable(mode: str | None) -> bool:
    """Return whether somebody may write to a file; as long as libvirt does not tell, somebody may."""
    try:
        return not mode or int(mode, 8) & _ALL_WRITE != 0
    except ValueError:
        return True


def _number(text: str | None) -> int | None:
    """Return a size in bytes; None for one that no file can have."""
    number = int(text) if text and text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None
    return None if number is None or number > _MOST else number


def _time(text: str | None) -> int | None:
    """Return nanoseconds since 1970; libvirt writes seconds, and those of a second behind a dot."""
    seconds, _, rest = (text or "").partition(".")
    whole, part = _number(seconds), _number(rest or "0")
    return None if whole is None or part is None else whole * 10**9 + part


def _reference(path: str, written: str | None, format: str | None) -> Reference | None:
    if not written:
        return None
    if written.startswith("/"):
        return Reference(written, "absolute", written, format)
    if "://" in written:
        return Reference(written, "remote", None, format)
    return Reference(written, "relative", os.path.normpath(os.path.join(os.path.dirname(path), written)), format)


def read_domain_chains(xml: str) -> Iterator[Image]:
    """Return the images that a domain's XML tells of: its sources and, while it runs, the layers below them."""
    for disk in parse_xml(xml).iterfind("devices/disk"):
        driver = disk.find("driver")
        format = None if driver is None else driver.get("type")
        layer: ET.Element | None = disk
        for _ in range(_DEEPEST):
            path = None if layer is None else _file(layer)
            if layer is None or path is None:
                break
            below = layer.find("backingStore")
            below_path = None if below is None else _file(below)
            # Only of a guest that runs libvirt tells the layers; the last one has an empty element. Without a format it
            # is raw.
            problem = t(_NOT_TOLD) if below is None and format not in ("raw", None) else NOTHING
            yield Image(path, format, problem=problem, backing=_reference(path, below_path, _format(below)))
            layer, format = below, _format(below)


_NOT_TOLD = N_(
    "its backing file is not known: it is in none of libvirt's storage pools, and its guest is not "
    "running; virsh pool-define-as creates a pool for its folder"
)


def _file(element: ET.Element) -> str | None:
    source = element.find("source")
    return None if source is None else source.get("file") or source.get("dev")
