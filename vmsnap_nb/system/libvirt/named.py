"""Files that a definition names anywhere but in its disks: in arguments for QEMU, as a ROM, an ACPI table, a log."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from vmsnap_nb.model.libvirt_xml import parse_xml

__all__ = ["files_named"]

_ELSEWHERE = frozenset({"metadata", "name", "title", "description"})
"""Elements in which a text is the user's own."""
_KNOWN = frozenset({"disk", "emulator", "memory", "loader", "nvram", "kernel", "initrd", "dtb"})
"""Elements that are read as what they are."""
_QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
_PATH = re.compile("/(?:[^,]|,,)+")
"""In ``file=/images/a,,b.qcow2,format=qcow2`` a comma in the name is doubled (qemu(1), -drive)."""


@lru_cache(maxsize=512)  # most surveys of a host find the same definitions again
def files_named(xml: str) -> tuple[str, ...]:
    """Return the paths in a domain XML that are outside of its disks, and of what is read as firmware and the like.

    Examples
    --------
    >>> files_named("<domain><devices><interface><rom file='/i/rom'/></interface></devices></domain>")
    ('/i/rom',)
    """
    return tuple(dict.fromkeys(_named(parse_xml(xml))))


def _named(element: ET.Element) -> Iterator[str]:
    of_qemu = element.tag.startswith(_QEMU)
    for text in (element.text or "", *element.attrib.values()):
        if of_qemu and "/" in text:
            yield from _in_argument(text)
        elif text.startswith("/") and not text.startswith("/dev/"):
            yield text.strip()
    for child in element:
        if child.tag not in _KNOWN and child.tag not in _ELSEWHERE:
            yield from _named(child)


def _in_argument(text: str) -> Iterator[str]:
    """Yield the paths in an argument for QEMU: in its JSON, or behind what stands before them."""
    try:
        strings = list(_strings(json.loads(text)))
    except (ValueError, RecursionError):
        yield from (match[0].replace(",,", ",") for match in _PATH.finditer(text))
    else:
        yield from (string[string.index("/") :] for string in strings if "/" in string)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
