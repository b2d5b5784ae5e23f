"""Files that a snapshot record names beside its disks: of the next start, to boot from, below a disk, for QEMU."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html import unescape

from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.system.libvirt.named import files_named

__all__ = ["files_recorded"]

# To parse every record would take too long. What only looks like a path, as in the metadata, is kept for nothing.
_PATH = re.compile(r"""=(?:'(/[^']*)'|"(/[^"]*)")|>\s*(/[^<]*)<""")
_VOLUME = re.compile(r"""<source\b[^>]*? pool=(?:'([^']*)'|"([^"]*)") volume=(?:'([^']*)'|"([^"]*)")""")
_NO_IMAGES = ("/usr/", "/dev/pts/", "/dev/random", "/dev/urandom")


def files_recorded(xml: str) -> tuple[str, ...]:
    """Return the paths in the definitions that a record holds, and POOL/VOLUME of volumes without a known file.

    Examples
    --------
    >>> files_recorded("<domainsnapshot><inactiveDomain><disk><source file='/i/next'/></disk></inactiveDomain>")
    ('/i/next',)
    """
    return tuple(dict.fromkeys(path for path in _recorded(xml) if not path.startswith(_NO_IMAGES)))


def _recorded(xml: str) -> Iterator[str]:
    start = min(
        (at for at in (xml.find("<domain "), xml.find("<domain>"), xml.find("<inactiveDomain")) if at >= 0), default=0
    )
    for match in _PATH.finditer(xml, start):
        yield unescape(match[match.lastindex or 0]).rstrip()
    for match in _VOLUME.finditer(xml, start):
        yield unescape(f"{match[1] or match[2]}/{match[3] or match[4]}")
    if "commandline" in xml:
        root = parse_xml(xml)
        for definition in (root.find("domain"), root.find("inactiveDomain")):
            if definition is not None:
                yield from files_named(ET.tostring(definition, encoding="unicode"))
