"""Parses XML that libvirt has returned: what it never writes is an error that says so."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from vmsnap_nb.errors import LibvirtError
from vmsnap_nb.words.message import t

__all__ = ["disk_at", "parse_xml"]

_DEEPEST = 300
"""Elements in each other: libvirt lists up to 200 layers of a disk so. What walks through more of them cannot end."""


def parse_xml(text: str) -> ET.Element:
    """Return the root of XML that libvirt has returned; LibvirtError if it is none, or deeper than libvirt writes.

    Examples
    --------
    >>> parse_xml("<domain><name>g</name></domain>").findtext("name")
    'g'
    """
    try:
        root = ET.fromstring(text)
        if text.count("</") >= _DEEPEST:
            _check_depth(root)
    except (ET.ParseError, ValueError) as error:
        raise LibvirtError(
            t("read what libvirt returned"),
            why=t("cannot parse it ({error})", error=str(error)),
            next_step=t("check which program answers there, and its version"),
        ) from error
    return root


def _check_depth(root: ET.Element) -> None:
    level = [root]
    for _ in range(_DEEPEST):
        level = [child for element in level for child in element]
        if not level:
            return
    raise ValueError(t("its elements are nested more than {most} levels deep", most=_DEEPEST))


def disk_at(root: ET.Element, target: str) -> ET.Element | None:
    """Return the disk with a target in a domain's XML: the target can be any text, of which a path would be a part."""
    for disk in root.iterfind("devices/disk"):
        if any(found.get("dev") == target for found in disk.iterfind("target")):
            return disk
    return None
