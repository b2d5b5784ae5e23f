"""The names by which mount tables can mean a partition: PARTUUID and PARTLABEL (UEFI specification, chapter 5)."""

from __future__ import annotations

import codecs
from typing import NamedTuple
from uuid import UUID

from vmsnap_nb.system.filesystems.region import Region

__all__ = ["PartName", "mbr_name", "part_names"]

_UTF_16 = codecs.lookup("utf-16-le")  # now: later the process that reads volumes can open no file
_GPT = b"EFI PART"
_MOST_ENTRIES = 1024
_ENTRY = 128


class PartName(NamedTuple):
    """Names of one partition; empty where it has none."""

    uuid: str = ""
    label: str = ""


def part_names(disk: Region, sector: int) -> dict[int, PartName]:
    """Return the names in a GPT, by the byte at which each partition begins; none for an MBR."""
    head = disk.pread(sector, 92)
    if head[:8] != _GPT:
        return {}
    place = int.from_bytes(head[72:80], "little") * sector
    count, size = int.from_bytes(head[80:84], "little"), int.from_bytes(head[84:88], "little")
    if not _ENTRY <= size <= sector or not place:
        return {}
    found = {}
    for number in range(min(count, _MOST_ENTRIES)):
        entry = disk.pread(place + number * size, _ENTRY)
        if len(entry) < _ENTRY:
            break
        if entry[:16].strip(b"\0"):
            label = _UTF_16.decode(entry[56:128], "replace")[0].partition("\0")[0]
            start = int.from_bytes(entry[32:40], "little") * sector
            found[start] = PartName(str(UUID(bytes_le=entry[16:32])), label)
    return found


def mbr_name(disk: Region, number: int) -> PartName:
    """Return the PARTUUID that Linux gives a partition of an MBR: the disk's signature and its number."""
    signature = disk.pread(440, 4)
    return PartName(f"{int.from_bytes(signature, 'little'):08x}-{number:02x}" if signature.strip(b"\0") else "")
