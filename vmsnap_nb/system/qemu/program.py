"""Which programs are this machine's QEMU: libvirt runs what a definition names as its emulator, to see what it can."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET

__all__ = ["foreign_emulator"]

_NAME = re.compile(r"qemu-system-[\w-]+|qemu-kvm|kvm")
_FOLDERS = ("/usr/bin", "/usr/local/bin", "/usr/libexec", "/usr/lib/qemu", "/bin")
"""Where distributions have QEMU, some outside of PATH."""


def foreign_emulator(xml: ET.Element) -> str | None:
    """Return the first program that XML names as an emulator and that is no QEMU of this machine, or None."""
    programs = ((emulator.text or "").strip() for emulator in xml.iter("emulator"))
    return next((program for program in programs if program and not _is_qemu(program)), None)


def _is_qemu(program: str) -> bool:
    name = os.path.basename(program)
    if _NAME.fullmatch(name) is None:
        return False
    folders = (*filter(os.path.isabs, os.get_exec_path()), *_FOLDERS)
    return os.path.realpath(program) in {os.path.realpath(os.path.join(folder, name)) for folder in folders}
