"""Whether a file system was left in the middle of something: its journal has changes that are not in place yet."""

from __future__ import annotations

from vmsnap_nb.system.filesystems.region import Region

__all__ = ["is_dirty"]

_EXT_RECOVER = 4
_XFS_MAGIC = 0xFEEDBABE.to_bytes(4, "big")
_XFS_UNMOUNT = 0x20
_XFS_HEAD = 32 << 10
"""Bytes of a log record for each of which it has one sector of header."""
_SECTOR = 512
_MOST_SECTORS = 4096
"""Of an XFS log, how far back its last record is looked for."""


def is_dirty(kind: str, region: Region) -> bool | None:
    """Return whether it was in use; None where that cannot be told."""
    if kind == "ext":
        return bool(int.from_bytes(region.pread(0x460, 4), "little") & _EXT_RECOVER)
    if kind == "XFS":
        return _xfs(region)
    if kind == "FAT":
        return _fat(region.pread(0, _SECTOR), region)
    return _ntfs(region) if kind == "NTFS" else None


def _fat(boot: bytes, region: Region) -> bool | None:
    if boot[3:11] == b"EXFAT   ":
        return bool(boot[106] & 2)
    sector, reserved = int.from_bytes(boot[11:13], "little"), int.from_bytes(boot[14:16], "little")
    table = region.pread(sector * reserved, 8)
    if len(table) < 8:
        return None
    if boot[82:85] == b"FAT":
        return not table[7] & 0x08 or bool(boot[0x41] & 1)
    return (boot[54:59] == b"FAT16" and not table[3] & 0x80) or bool(boot[0x25] & 1)


def _ntfs(region: Region) -> bool | None:
    """Check the flags of the volume in entry 3 of the MFT."""
    boot = region.pread(0, _SECTOR)
    cluster = int.from_bytes(boot[11:13], "little") * boot[13]
    size = int.from_bytes(boot[64:65], "little", signed=True)
    entry = 1 << -size if -32 < size < 0 else size * cluster
    record = region.pread(int.from_bytes(boot[48:56], "little") * cluster + 3 * entry, min(entry, 1 << 16))
    if record[:4] != b"FILE":
        return None
    at = int.from_bytes(record[20:22], "little")
    while at + 24 <= len(record):
        kind, length = int.from_bytes(record[at : at + 4], "little"), int.from_bytes(record[at + 4 : at + 8], "little")
        if kind == 0x70:
            place = at + int.from_bytes(record[at + 20 : at + 22], "little")
            return bool(int.from_bytes(record[place + 10 : place + 12], "little") & 1)
        if kind == 0xFFFFFFFF or length < 24:
            return None
        at += length
    return None


def _xfs(region: Region) -> bool | None:
    """Check whether the last record of the log is the one that an unmount writes (kernel, fs/xfs/xfs_log_recover.c)."""
    head = region.pread(0, _SECTOR)
    block, bits = int.from_bytes(head[4:8], "big"), head[124]
    start, count = int.from_bytes(head[48:56], "big"), int.from_bytes(head[96:100], "big")
    groups = int.from_bytes(head[84:88], "big")
    if not start or not block:
        return None  # its log is on another device
    place = ((start >> bits) * groups + (start & ((1 << bits) - 1))) * block
    sectors = count * block // _SECTOR

    def cycle(number: int) -> int:
        raw = region.pread(place + number * _SECTOR, 8)
        return int.from_bytes(raw[4:8] if raw[:4] == _XFS_MAGIC else raw[:4], "big")

    first = cycle(0)
    low, high = 0, sectors  # the log is written as a ring, and each sector has the number of the turn
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cycle(middle) == first else (low, middle)
    for back in range(1, min(_MOST_SECTORS, sectors) + 1):
        number = (high - back) % sectors
        record = region.pread(place + number * _SECTOR, _SECTOR)
        if record[:4] == _XFS_MAGIC:
            alone = int.from_bytes(record[40:44], "big") == 1
            heads = max(1, int.from_bytes(record[320:324], "big") // _XFS_HEAD)
            operation = region.pread(place + (number + heads) % sectors * _SECTOR, 16)
            return not (alone and len(operation) > 9 and operation[9] & _XFS_UNMOUNT)
    return None
