"""Reads from a program's file what it needs to be run: its loader and its libraries. Nothing is run.

Source: the System V ABI, chapters 4 and 5 (https://www.sco.com/developers/gabi/latest/contents.html).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from vmsnap_nb.errors import ImageError
from vmsnap_nb.words.message import t

__all__ = ["Needs", "read_needs"]

_IDENT = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_END, _NEEDED, _STRINGS = 0, 1, 5


@dataclass(frozen=True, slots=True)
class Needs:
    """What a program or a library needs."""

    machine: int  # the processor; 62 is x86-64
    loader: str  # path of the program that loads it; empty for libraries, and for programs that need none
    libraries: tuple[str, ...]  # names of files, without folders


def read_needs(data: bytes) -> Needs:
    """Read what a program or a library for a 64-bit little-endian processor needs."""
    tried = t("determine which libraries a program needs")
    if not data.startswith(_IDENT):
        raise ImageError(tried, why=t("it is not an ELF file for a 64-bit little-endian processor"))
    try:
        (machine,) = struct.unpack_from("<H", data, 18)
        (table,) = struct.unpack_from("<Q", data, 32)
        size, count = struct.unpack_from("<HH", data, 54)
        # Each: type, flags, offset, address, physical address, size in the file, size in memory, alignment.
        parts = [struct.unpack_from("<IIQQQQQQ", data, table + i * size) for i in range(count)]
        loader = "".join(_text(data, part[2]) for part in parts if part[0] == _INTERPRETER)
        libraries = [
            name for part in parts if part[0] == _DYNAMIC for name in _libraries(data, part[2], part[5], parts)
        ]
    except (struct.error, ValueError) as error:
        raise ImageError(tried, why=t("it is damaged: {error}", error=error)) from error
    return Needs(machine, loader, tuple(libraries))


def _libraries(data: bytes, at: int, size: int, parts: list[tuple[int, ...]]) -> Iterator[str]:
    entries = []
    for place in range(at, at + min(size, len(data)), 16):
        tag, value = struct.unpack_from("<QQ", data, place)
        if tag == _END:
            break
        entries.append((tag, value))
    names = [value for tag, value in entries if tag == _NEEDED]
    addresses = [value for tag, value in entries if tag == _STRINGS]
    if names and not addresses:
        raise ValueError(t("it lists libraries, but has no string table"))
    for name in names:
        yield _text(data, _offset(addresses[0], parts) + name)


def _offset(address: int, parts: list[tuple[int, ...]]) -> int:
    """Return where in the file lies what is loaded to an address."""
    for kind, _, offset, start, _, size, *_ in parts:
        if kind == _LOAD and start <= address < start + size:
            return offset + address - start
    raise ValueError(t("nothing is loaded at address {address:#x}", address=address))


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()
