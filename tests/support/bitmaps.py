"""What dirty bitmaps in qcow2 files have recorded, read from the files themselves."""

from __future__ import annotations

import struct
from pathlib import Path

from support.commands import qemu_img
from support.images import KIB

_BITMAPS = 0x23852875


def add(path: Path, *names: str, granularity: int = 64 * KIB, recording: bool = True) -> None:
    """Add dirty bitmaps to an image."""
    for name in names:
        kind = [] if recording else ["--disable"]
        qemu_img("bitmap", "--add", "-g", granularity, *kind, "--", path, name)


def recorded(path: Path) -> dict[str, set[int]]:
    """Return for each bitmap the offsets on the disk, in KiB, that it has recorded."""
    data = path.read_bytes()
    size, header_length = struct.unpack(">Q", data[24:32])[0], struct.unpack(">I", data[100:104])[0]
    cluster = 1 << struct.unpack(">I", data[20:24])[0]
    found: dict[str, set[int]] = {}
    for count, _, _, place in _headers(data, header_length):
        for _ in range(count):
            table, entries, _, _, bits, name_size, extra = struct.unpack(">QIIBBHI", data[place : place + 24])
            name_at = place + 24 + extra
            parts = (_part(data, number, cluster) for number in struct.unpack_from(f">{entries}Q", data, table))
            field = b"".join(parts)
            kib = max((1 << bits) // KIB, 1)
            count_bits = -(-size // (1 << bits))
            found[data[name_at : name_at + name_size].decode()] = {
                number * kib for number in range(count_bits) if field[number // 8] >> number % 8 & 1
            }
            place = name_at + name_size + (-(24 + extra + name_size) % 8)
    return found


def _headers(data: bytes, at: int) -> list[tuple[int, int, int, int]]:
    while True:
        kind, length = struct.unpack(">II", data[at : at + 8])
        if not kind:
            return []
        if kind == _BITMAPS:
            return [struct.unpack(">IIQQ", data[at + 8 : at + 32])]
        at += 8 + length + (-length % 8)


def _part(data: bytes, entry: int, cluster: int) -> bytes:
    offset = entry & 0x00FFFFFFFFFFFE00
    return data[offset : offset + cluster] if offset else (b"\xff" if entry & 1 else b"\0") * cluster
