"""Which programs are this machine's QEMU: libvirt runs what a definition names as its emulator, to see what it can."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator

from vmsnap_nb.model.libvirt_xml import parse_xml
from vmsnap_nb.system.files.owner import owner_of, replaceable
from vmsnap_nb.words.message import t

__all__ = ["emulators", "foreign_emulator", "parse_definition"]

_NAME = re.compile(r"qemu-system-[\w-]+|qemu-kvm|kvm")
_FOLDERS = ("/usr/bin", "/usr/local/bin", "/usr/libexec", "/usr/lib/qemu", "/bin")
"""Where distributions have QEMU, some outside of PATH."""


def parse_definition(text: str) -> ET.Element:
    """Parse XML of a guest that libvirt will read itself; ValueError or ParseError unless both read the same.

    libvirt's parser follows encodings and entities that this one does not know.
    """
    if text.startswith("\ufeff") or text.lstrip().startswith("<?xml") or "<!DOCTYPE" in text:
        raise ValueError(t("it has an XML declaration, which libvirt never writes"))
    return ET.fromstring(text)


def emulators(xml: str) -> frozenset[str]:
    """Return the programs that XML of a guest which libvirt has itself names as emulators: those it runs anyway."""
    return frozenset(_named(parse_xml(xml)))


def foreign_emulator(xml: ET.Element, known: Collection[str] = ()) -> str | None:
    """Return the first program that XML names as an emulator and that is no QEMU of this machine, or None.

    `known` are those that libvirt runs already. It takes the whole text of the element, that of elements in it and
    blanks at its ends included.
    """
    return next((program for program in _named(xml) if program not in known and not _is_qemu(program)), None)


def _named(xml: ET.Element) -> Iterator[str]:
    return filter(None, ("".join(emulator.itertext()) for emulator in xml.iter("emulator")))


def _is_qemu(program: str) -> bool:
    name = os.path.basename(program)
    if not os.path.isabs(program) or _NAME.fullmatch(name) is None:
        return False
    known = {os.path.join(own, name) for own in (*filter(os.path.isabs, os.get_exec_path()), *_FOLDERS)}
    if program in known:
        return True
    return os.path.realpath(program) in set(map(os.path.realpath, known)) and _stays(program)


def _stays(program: str) -> bool:
    """Return whether nobody else can have a name lead to another file by the time that libvirt uses it."""
    owners = {0, os.geteuid()}
    return owner_of(os.stat(program)) in owners and not replaceable(program, owners)
