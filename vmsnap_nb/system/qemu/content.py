"""A checksum of what a guest would read of a disk, whatever layers it comes from."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from vmsnap_nb.model.reference import Reference
from vmsnap_nb.system import process
from vmsnap_nb.system.confine import may_write
from vmsnap_nb.system.files.devices import protocol_of
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.system.process import Limits
from vmsnap_nb.system.qemu import qemu_img
from vmsnap_nb.system.qemu.blockmap import read_map
from vmsnap_nb.words.message import t

__all__ = ["content_digest", "reads_alike_on"]

_PIECE = 64 << 20
"""Bytes that are copied out at once: so much room it takes in the folder for temporary files."""
_BLOCK = 1 << 20


def content_digest(path: str, format: str, size: int | None = None) -> str:
    """Return a checksum of a disk, or of its first `size` bytes, read through all of its layers.

    Zeros count as such whether they are stored, said or left out, so the digest of a disk does not depend on how its
    layers are cut. A temporary file of 64 MiB is needed.
    """
    digest = hashlib.blake2b(digest_size=32)
    zeros = bytes(_BLOCK)
    end = _size(path, format)
    if size is not None:
        end = min(size, end)
    for start, data in _pieces(path, format, end):
        for offset in range(0, len(data), _BLOCK):
            block = data[offset : offset + _BLOCK]
            if block != zeros[: len(block)]:
                digest.update((start + offset).to_bytes(8))
                digest.update(block)
    return digest.hexdigest()


def reads_alike_on(path: str, backing: Reference | None) -> bool | None:
    """Return whether an image would read alike with another backing file, or with none; nothing is written.

    None where the backing file is not named by its path alone.
    """
    node: dict[str, object] = {"driver": "qcow2", "file": {"driver": protocol_of(path), "filename": path}}
    below: dict[str, object] | None = None
    if backing is not None:
        if backing.path is None or backing.kind == "json:":
            return None
        file = {"driver": protocol_of(backing.path), "filename": backing.path}
        below = {"driver": backing.format or "raw", "file": file}
    argv = ("qemu-img", "compare", "-q", *(f"json:{json.dumps(one)}" for one in (node, {**node, "backing": below})))
    done = process.run(argv, tried=t("compare {image} with another backing file", image=path), check=False)
    return None if done.exit_status not in (0, 1) else done.exit_status == 0


def _options(path: str, format: str, prefix: str = "") -> str:
    # In this form a comma of a file name is written twice, and nothing else has a meaning.
    name = path.replace(",", ",,")
    return f"{prefix}driver={format},{prefix}file.driver={protocol_of(path)},{prefix}file.filename={name}"


def _size(path: str, format: str) -> int:
    tried = t("read the size of {image}", image=path)
    argv = ("qemu-img", "info", "--output=json", "--image-opts", _options(path, format))
    answer = qemu_img.read_json(argv, tried=tried, limits=Limits())
    try:
        return int(answer["virtual-size"])
    except (ValueError, KeyError, TypeError) as error:
        raise qemu_img.unreadable(
            tried, t("cannot parse the output of qemu-img ({error})", error=str(error))
        ) from error


def _pieces(path: str, format: str, end: int) -> Iterator[tuple[int, bytes]]:
    """Copy out piece by piece what is not known to be zero."""
    tried = t("read the content of {image}", image=path)
    wanted: list[range] = []

    def each(entry: Mapping[str, Any]) -> None:
        if entry["data"] and not entry["zero"]:
            first, last = entry["start"] // _PIECE, (entry["start"] + entry["length"] - 1) // _PIECE
            if wanted and first <= wanted[-1].stop:
                wanted[-1] = range(wanted[-1].start, last + 1)
            else:
                wanted.append(range(first, last + 1))

    read_map(("qemu-img", "map", "--output=json", "--image-opts", _options(path, format)), tried=tried, each=each)
    with tempfile.TemporaryDirectory(prefix="vmsnap-") as folder, may_write(folder):
        target = os.path.join(folder, "piece")
        for number in chain.from_iterable(wanted):
            start = number * _PIECE
            if start >= end:
                break
            length = min(_PIECE, end - start)
            whole = -(-length // 512) * 512
            source = f"driver=raw,offset={start},size={whole},{_options(path, format, 'file.')}"
            qemu_img.run(("qemu-img", "convert", "--image-opts", "-O", "raw", "--", source, target), tried=tried)
            try:
                with open(target, "rb") as file:
                    yield start, file.read(length)
            except OSError as error:
                raise from_os_error(error, tried) from error
