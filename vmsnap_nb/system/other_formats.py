"""Images of other formats than qcow2 and raw: `qemu-img info` reads them, under limits, where it stays inside."""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from vmsnap_nb.errors import MissingPartError, PermissionDeniedError, VmsnapError
from vmsnap_nb.model.image import Image, Status
from vmsnap_nb.model.reference import Reference, parse_reference
from vmsnap_nb.system.confine import FileOf, only
from vmsnap_nb.system.qemu import qemu_img
from vmsnap_nb.system.threads import in_threads
from vmsnap_nb.words.message import NOTHING, clauses, t

__all__ = ["OtherImage", "extents_of", "read_other"]

_DESCRIPTOR = 1 << 20
_AT_ONCE = 4
_ENCRYPTION = {"qcow": "aes", "luks": "luks"}
# What stands in quotes and is not the value of a key: the name of an extent. QEMU's own parser lets an entry go on in
# the next line, so the white space before the quote can be anything.
_EXTENT = re.compile(rb'(=?)\s*"([^"\r\n]*)"?')


@dataclass(frozen=True, slots=True)
class OtherImage:
    """One image of such a format."""

    image: Image
    lasting: bool = True  # whether this stays true as long as the file does not change


def read_other(images: list[Image]) -> list[OtherImage]:
    """Complete images of which only the format is known, as `read_image` gives them, in the same order."""
    return in_threads(_read, images, _AT_ONCE)


def _read(image: Image) -> OtherImage:
    format = image.format or "raw"
    try:
        if format == "vmdk":
            image = replace(image, extents=tuple(_extents(image.path)))
        parts = extents_of(image.path) if image.extents else ()
    except OSError as error:
        return _failed(image, "unreadable", t("it cannot be read: {error}", error=error.strerror))
    except ValueError as error:
        not_opened = t("it was not opened, because its data could be in any file")
        return _failed(image, "outside", clauses([error.args[0], not_opened]))
    try:
        with only(FileOf(path=path) for path in (os.path.realpath(image.path), *parts)):
            answer = qemu_img.info(image.path, format)
    except MissingPartError as error:
        how = error.next_step
        return _failed(image, "unknown", t("qemu-img is needed to read {format}: {how}", format=format, how=how))
    except PermissionDeniedError as error:
        return _failed(image, "unreadable", error.reason or str(error))
    except VmsnapError as error:
        why = error.reason
        return _failed(image, "corrupt", t("qemu-img cannot read it as {format}: {why}", format=format, why=why))
    return OtherImage(replace(image, **_fields(image, answer)), lasting=not image.extents)


def _failed(image: Image, status: Status, problem: str) -> OtherImage:
    return OtherImage(replace(image, status=status, problem=problem), lasting=False)


def _fields(image: Image, answer: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "format": answer.get("format", image.format),
        "status": "ok",
        "problem": NOTHING,
        "virtual_size": answer.get("virtual-size"),
        "cluster_size": answer.get("cluster-size"),
        "allocated": answer.get("actual-size", image.allocated),
    }
    if answer.get("encrypted"):
        fields["encryption"] = _ENCRYPTION.get(image.format or "")
    if written := answer.get("backing-filename"):
        folder = os.path.dirname(image.path)
        fields["backing"] = parse_reference(written, folder=folder, format=answer.get("backing-filename-format"))
    return fields


def extents_of(path: str) -> tuple[str, ...]:
    """Return the other files of a vmdk image; ValueError if one of them may be outside of its folder."""
    folder = os.path.dirname(path)
    parts: list[str] = []
    for reference in _extents(path):
        name = reference.written
        part = f"{folder}/{name}"
        if not name or "/" in name or ":" in name:
            raise ValueError(t("its descriptor names {name!r}, which is not a file in the same folder", name=name))
        try:
            if not stat.S_ISREG(os.lstat(part).st_mode):
                raise ValueError(t("its descriptor names {name!r}, which is not a regular file", name=name))
        except FileNotFoundError:
            continue  # qemu-img will say so
        parts.append(part)
    return tuple(dict.fromkeys(part for part in parts if part != path))


def _extents(path: str) -> Iterator[Reference]:
    """Yield what the descriptor of a vmdk image names; QEMU resolves these names like those of backing files."""
    folder = os.path.dirname(path)
    for match in _EXTENT.finditer(_descriptor(path)):
        if not match[1]:
            yield parse_reference(os.fsdecode(match[2]), folder=folder, format="raw")


def _descriptor(path: str) -> bytes:
    with open(path, "rb", opener=_opener) as file:
        head = file.read(512)
        if head.startswith(b"KDMV"):
            # Source: QEMU, block/vmdk.c, VMDK4Header. Only with a capacity of 0 is there a list of other files in it.
            capacity, _, offset = struct.unpack_from("<QQQ", head.ljust(36, b"\0"), 12)
            if capacity or not offset:
                return b""
            file.seek(min(offset * 512, os.fstat(file.fileno()).st_size))
            return file.read(_DESCRIPTOR)
        return b"" if head.startswith(b"COWD") else head + file.read(_DESCRIPTOR)


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
