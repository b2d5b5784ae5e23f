"""A checksum of what a guest would read of a disk, whatever layers it comes from."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator

from vmsnap_nb.errors import ImageError
from vmsnap_nb.system import qemu_img
from vmsnap_nb.system.os_errors import from_os_error

__all__ = ["content_digest"]

_PIECE = 64 << 20
"""Bytes that are copied out at once: so much room it takes in the folder for temporary files."""
_BLOCK = 1 << 20


def content_digest(path: str, format: str, size: int | None = None) -> str:
    """Read a disk through all of its layers.

    Zeros count as such whether they are stored, said or left out, so the digest of a disk does not depend on how its
    layers are cut.

    Parameters
    ----------
    path : str
        The image.
    format : str
        Its format.
    size : int, optional
        Bytes from the start that count; all of them if left out.

    Returns
    -------
    str
        Hexadecimal digits.

    Raises
    ------
    VmsnapError
        It cannot be read, or there is no room for a temporary file of 64 MiB.
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


def _options(path: str, format: str, prefix: str = "") -> str:
    # In this form a comma of a file name is written twice, and nothing else has a meaning.
    name = path.replace(",", ",,")
    return f"{prefix}driver={format},{prefix}file.driver=file,{prefix}file.filename={name}"


def _size(path: str, format: str) -> int:
    tried = f"read the size of {path}"
    done = qemu_img.run(("qemu-img", "info", "--output=json", "--image-opts", _options(path, format)), tried=tried)
    try:
        return int(json.loads(done.stdout)["virtual-size"])
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(tried, said=f"qemu-img's answer is not understood: {error}") from error


def _pieces(path: str, format: str, end: int) -> Iterator[tuple[int, bytes]]:
    """Copy out piece by piece what is not known to be zero."""
    tried = f"read the content of {path}"
    done = qemu_img.run(("qemu-img", "map", "--output=json", "--image-opts", _options(path, format)), tried=tried)
    wanted: dict[int, None] = {}
    for entry in json.loads(done.stdout):
        if entry["data"] and not entry["zero"]:
            last = entry["start"] + entry["length"] - 1
            wanted.update(dict.fromkeys(range(entry["start"] // _PIECE, last // _PIECE + 1)))
    with tempfile.TemporaryDirectory(prefix="vmsnap-") as folder:
        target = os.path.join(folder, "piece")
        for number in sorted(wanted):
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
