"""What this process may not do with files, and what libvirt does for it: images as volumes of storage pools."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from typing import Any

from vmsnap_nb.live.step_action import Undo, no_way_back, undo_of
from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.plans.checks.access import Access, opened
from vmsnap_nb.plans.plan import Plan
from vmsnap_nb.plans.step import CreateVolume, RemoveVolume
from vmsnap_nb.system.files.permission import has_list
from vmsnap_nb.system.libvirt.errors import libvirt_errors
from vmsnap_nb.system.libvirt.knowledge import Knowledge
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.words.message import Message, t

__all__ = ["access_of", "create_volume", "remove_volume"]

_MOST_MODE = 0o664
"""Others may never write to a new image."""


def access_of(plan: Plan, knowledge: Knowledge, uri: str, *, here: bool = True) -> Access:
    """Check what this process may do with the files of a plan: nothing with those of another machine."""
    read: dict[str, None] = {}
    written: dict[str, None] = {}
    folders: dict[str, None] = {}
    for step in plan.steps:
        for paths, those in zip((read, written), opened(step, plan.before), strict=True):
            paths |= dict.fromkeys(those)
        by_us = () if step.performer == "libvirt" else (*step.creates, *step.unlinks)
        folders |= dict.fromkeys(os.path.dirname(path) for path in (*by_us, step.entry_path) if path.startswith("/"))
    if here:
        unread = dict(_denied(plan, read, os.R_OK))
        unwritten = dict(_denied(plan, written, os.W_OK))
        closed = {
            folder: t("the current user has no permission to create or remove files there")
            for folder in folders
            if os.path.isdir(folder) and not os.access(folder, os.W_OK | os.X_OK)
        }
    else:
        elsewhere = t("it is on the host at {uri}, and only libvirt can change it from here", uri=uri)
        unread, unwritten, closed = (dict.fromkeys(those, elsewhere) for those in (read, written, folders))
    is_root = here and os.geteuid() == 0
    if here and not (unread or unwritten or closed) and (is_root or not any(step.open_overlays for step in plan.steps)):
        return Access()
    gone = {path for step in plan.steps for path in (*step.unlinks, *step.invalidates)}
    return Access(
        is_root=is_root,
        unread=unread,
        unwritten=unwritten,
        closed=closed,
        volumes=frozenset(path for path in gone if knowledge.volume(path) is not None),
        pools={pool.folder: pool.name for pool in knowledge.pools if pool.folder is not None and pool.active},
        uri=uri,
        elsewhere=not here,
    )


def _denied(plan: Plan, paths: Iterable[str], mode: int) -> Iterator[tuple[str, Message]]:
    for path in paths:
        image = plan.before.images.get(path)
        if (image is not None and image.known_from != "file") or (not os.access(path, mode) and _is_of_another(path)):
            if mode == os.R_OK:
                yield path, t("the current user has no permission to read it")
            else:
                yield path, t("the current user has no permission to write to it")


def _is_of_another(path: str) -> bool:
    """Return whether a file is there that belongs to another user: of their own the mode can be changed."""
    try:
        return os.stat(path).st_uid != os.geteuid()
    except FileNotFoundError:
        return False
    except OSError:
        return True


# -- steps -----------------------------------------------------------------------------------------------


def create_volume(connection: Any, step: CreateVolume, *, here: bool = True) -> Undo:
    """Let libvirt make an overlay, with owner and mode of the image below.

    libvirt knows no access control lists: with one, the mode says what the list permits at most, to anybody in it.
    """
    closed = here and (has_list(step.backing) or has_list(os.path.dirname(step.path)))
    tried = t("create {image}", image=step.path)
    with libvirt_errors(tried):
        xml = _volume_xml(step, _below(connection, step), closed=closed)
        volume = connection.storagePoolLookupByName(step.pool).createXML(xml)

    def undo() -> None:
        with libvirt_errors(undo_of(tried)):
            volume.delete()

    return undo


def _below(connection: Any, step: CreateVolume) -> ET.Element:
    """Return what libvirt says of the image below; nothing of one that is in no pool."""
    try:
        return parse_xml(connection.storageVolLookupByPath(step.backing).XMLDesc())
    except library().libvirtError:
        return ET.Element("volume")


def _volume_xml(step: CreateVolume, below: ET.Element, *, closed: bool) -> str:
    volume = ET.Element("volume")
    ET.SubElement(volume, "name").text = os.path.basename(step.path)
    ET.SubElement(volume, "capacity", unit="bytes").text = str(step.virtual_size or below.findtext("capacity") or 0)
    target = ET.SubElement(volume, "target")
    ET.SubElement(target, "format", type="qcow2")
    ET.SubElement(target, "compat").text = "1.1"
    had, permissions = below.find("target/permissions"), ET.SubElement(target, "permissions")
    if had is None:
        ET.SubElement(permissions, "mode").text = "0600"
    else:
        for name in ("owner", "group"):
            ET.SubElement(permissions, name).text = had.findtext(name) or "0"
        most = 0o600 if closed else _MOST_MODE
        mode = int(had.findtext("mode") or "0600", 8) & most | 0o600
        ET.SubElement(permissions, "mode").text = f"0{mode:o}"
    backing = ET.SubElement(volume, "backingStore")
    ET.SubElement(backing, "path").text = step.backing
    ET.SubElement(backing, "format", type=step.format)
    return ET.tostring(volume, encoding="unicode")


def remove_volume(connection: Any, step: RemoveVolume) -> Undo:
    """Let libvirt remove an image; there is no way back."""
    tried = t("remove {image}", image=step.path)
    with libvirt_errors(tried):
        connection.storageVolLookupByPath(step.path).delete()
    return no_way_back(tried, t("the file was removed; no other image was based on it"), needed=True)
