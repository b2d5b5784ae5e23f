"""Reads the head of files of saved memory, as ``virsh save`` and checkpoints write them (libvirt, qemu_saveimage.h)."""

from __future__ import annotations

import os
import stat
import struct
import sys
import xml.etree.ElementTree as ET
from collections.abc import Collection

from vmsnap_nb.model.image import Image
from vmsnap_nb.system.files.owner import owner_of, replaceable
from vmsnap_nb.system.qemu.program import foreign_emulator, parse_definition
from vmsnap_nb.words.message import N_, NOTHING, Message, t

__all__ = [
    "SAVED",
    "SAVED_MEMORY",
    "copy_saved",
    "is_other_file",
    "is_saved_memory",
    "read_definition",
    "why_not_to_restore",
]

SAVED_MEMORY = N_("it is not an image, but a file in which libvirt saved the memory of a guest")
"""`Image.problem` of such a file."""

SAVED = b"LibvirtQemudSave"
"""What such a file begins with once it is complete."""
_BEGUN = b"LibvirtQemud"
"""What it begins with, complete or not."""
_HEAD = struct.Struct("=16s5I14I")
"""The mark; version, length of what follows, whether it ran, compression, offset of the cookie; unused."""
_SWAPPED = struct.Struct((">" if sys.byteorder == "little" else "<") + "16s5I14I")
_NEWEST = 2
"""Version that libvirt writes."""
_MOST = 1 << 20
"""Bytes of a definition that are read."""


def is_saved_memory(image: Image) -> bool:
    """Return whether a file that was read as an image is saved memory."""
    return isinstance(image.problem, Message) and image.problem.template == SAVED_MEMORY


def read_definition(path: str) -> str | None:
    """Return the domain XML with which libvirt would go on; None where there is none that can be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        head = os.read(fd, _HEAD.size)
        if len(head) < _HEAD.size or not head.startswith(SAVED):
            return None
        fields = _HEAD.unpack(head)
        if fields[1] > _NEWEST:  # libvirt takes it for one of a machine with the other order of bytes
            fields = _SWAPPED.unpack(head)
        text = os.read(fd, min(max(fields[2], fields[5]), _MOST))
    except OSError:
        return None
    finally:
        os.close(fd)
    return text.partition(b"\0")[0].decode(errors="replace")


def copy_saved(path: str, target: int, xml: str) -> None:
    """Copy a file of saved memory into an open one, with another definition; ValueError if it is none."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        head = os.read(fd, _HEAD.size)
        if len(head) < _HEAD.size or not head.startswith(SAVED):
            raise ValueError
        mark, version, length, ran, packed, cookie_at, *unused = _HEAD.unpack(head)
        if version > _NEWEST or length > _MOST:
            raise ValueError
        texts = os.pread(fd, length, _HEAD.size)
        definition = xml.encode() + b"\0"
        cookie = texts[cookie_at:] if cookie_at else b""
        at = len(definition) if cookie_at else 0
        texts = definition + cookie
        os.write(target, _HEAD.pack(mark, version, len(texts), ran, packed, at, *unused) + texts)
        offset, end = _HEAD.size + length, os.fstat(fd).st_size
        while offset < end:
            sent = os.sendfile(target, fd, offset, end - offset)
            if not sent:
                raise ValueError
            offset += sent
    finally:
        os.close(fd)


def is_other_file(path: str) -> bool:
    """Return whether a file is known to be no saved memory, complete or not: it is not removed as such then."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        kind = os.fstat(fd).st_mode
        head = os.read(fd, len(_BEGUN)) if stat.S_ISREG(kind) or stat.S_ISBLK(kind) else b"-"
    except OSError:
        return False
    finally:
        os.close(fd)
    return head not in (b"", _BEGUN)


def why_not_to_restore(path: str, users: Collection[int] = (), emulators: Collection[str] = ()) -> Message:
    """Return why libvirt should not be given a file as saved memory; empty if nothing speaks against it.

    Its definition can name scripts and devices, too, so it must be a file of root, of this user, or of the `users` as
    whom QEMU runs. Nobody else may be able to give its name to another file: libvirt opens it by its name, after it was
    checked. `emulators` are programs that libvirt runs for the guest anyway.
    """
    real, owners = os.path.realpath(path), {0, os.geteuid(), *users}
    try:
        found = os.stat(real)
        place = replaceable(path, owners)
    except OSError:
        return NOTHING  # libvirt says so, or may see it
    if not stat.S_ISBLK(found.st_mode):
        if not stat.S_ISREG(found.st_mode):
            return t("it is neither a file nor a block device")
        if (owner := owner_of(found)) not in owners:
            return t("it belongs to another user (uid {uid})", uid=owner)
        if found.st_mode & 0o022:
            return t("other users can write to it")
    if place:
        return t("other users can put another file in its place, because they can change {path}", path=place)
    try:
        emulator = foreign_emulator(parse_definition(read_definition(real) or "<nothing/>"), emulators)
    except (ValueError, ET.ParseError) as error:
        return t("the definition in it cannot be checked: {error}", error=str(error))
    if not emulator:
        return NOTHING
    return t(
        "it specifies the emulator {program}, which is not a QEMU binary installed on this machine", program=emulator
    )
