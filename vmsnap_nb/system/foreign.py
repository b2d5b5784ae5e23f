"""Images of other formats than qcow2 and raw: `qemu-img info` reads them, under limits, where it stays inside."""

from __future__ import annotations

import os
import re
import stat
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from vmsnap_nb.errors import MissingPartError, PermissionDeniedError, VmsnapError
from vmsnap_nb.model.image import Image, Status
from vmsnap_nb.model.reference import parse_reference
from vmsnap_nb.system import qemu_img

__all__ = ["Foreign", "read_foreign"]

_DESCRIPTOR = 1 << 20
_AT_ONCE = 4
# What stands in quotes and is not the value of a key: the name of an extent. QEMU's own parser lets an entry go on in
# the next line, so the white space before the quote can be anything.
_EXTENT = re.compile(rb'(=?)\s*"([^"\r\n]*)"?')


@dataclass(frozen=True, slots=True)
class Foreign:
    """One image of such a format.

    Attributes
    ----------
    image : Image
        What is known of it.
    parts : tuple of str
        Paths of the other files that hold its data.
    lasting : bool
        Whether this stays true as long as the file does not change.
    """

    image: Image
    parts: tuple[str, ...] = ()
    lasting: bool = True


def read_foreign(images: list[Image]) -> list[Foreign]:
    """Complete images of which only the format is known.

    Parameters
    ----------
    images : list of Image
        As `vmsnap_nb.system.image_file.read_image` gives them.

    Returns
    -------
    list of Foreign
        In the same order.
    """
    if len(images) < 2:
        return [_read(image) for image in images]
    with ThreadPoolExecutor(min(_AT_ONCE, len(images))) as pool:
        return list(pool.map(_read, images))


def _read(image: Image) -> Foreign:
    format = image.format or "raw"
    try:
        parts = _extents(image.path) if format == "vmdk" else ()
    except OSError as error:
        return _failed(image, "unreadable", f"it cannot be read: {error.strerror}")
    except ValueError as error:
        return _failed(image, "outside", f"{error}; it was not opened, since its data may lie anywhere")
    try:
        answer = qemu_img.info(image.path, format)
    except MissingPartError as error:
        return _failed(image, "unknown", f"qemu-img is needed to read {format}: {error.next_step}")
    except PermissionDeniedError as error:
        return _failed(image, "unreadable", error.said or str(error))
    except VmsnapError as error:
        return _failed(image, "corrupt", f"qemu-img cannot read it as {format}: {error.said}")
    return Foreign(replace(image, **_fields(image, answer)), parts, lasting=not parts)


def _failed(image: Image, status: Status, problem: str) -> Foreign:
    return Foreign(replace(image, status=status, problem=problem), lasting=False)


def _fields(image: Image, answer: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "format": answer.get("format", image.format),
        "status": "ok",
        "problem": "",
        "virtual_size": answer.get("virtual-size"),
        "cluster_size": answer.get("cluster-size"),
        "allocated": answer.get("actual-size", image.allocated),
    }
    if answer.get("encrypted") and image.format == "qcow":
        fields["encryption"] = "aes"
    if written := answer.get("backing-filename"):
        folder = os.path.dirname(image.path)
        fields["backing"] = parse_reference(written, folder=folder, format=answer.get("backing-filename-format"))
    return fields


def _extents(path: str) -> tuple[str, ...]:
    """Give the other files of a vmdk image; ValueError if one of them may be outside of its folder."""
    text = _descriptor(path)
    folder = os.path.dirname(path)
    parts: list[str] = []
    for match in _EXTENT.finditer(text):
        if match[1]:
            continue
        name = os.fsdecode(match[2])
        part = f"{folder}/{name}"
        if not name or "/" in name or ":" in name:
            raise ValueError(f"its descriptor names {name!r}, which is not a file beside it")
        try:
            if not stat.S_ISREG(os.lstat(part).st_mode):
                raise ValueError(f"its descriptor names {name!r}, which is a link or no regular file")
        except FileNotFoundError:
            continue  # qemu-img will say so
        parts.append(part)
    return tuple(dict.fromkeys(part for part in parts if part != path))


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
