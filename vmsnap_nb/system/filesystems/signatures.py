"""What is on a volume, by the bytes that each file system, partition table and container begins with."""

from __future__ import annotations

from typing import NamedTuple

from vmsnap_nb.system.filesystems.region import Region

__all__ = ["LVM", "READABLE", "Content", "content_of"]

LVM = "LVM"
READABLE = frozenset({"ext", "XFS", "NTFS", "FAT"})
"""The file systems that are read; every other is only named."""

_HEAD = 69 << 10
_BEGINNINGS = (
    (0, b"XFSB", "XFS"),
    (3, b"NTFS    ", "NTFS"),
    (3, b"EXFAT   ", "FAT"),
    (0, b"LUKS\xba\xbe", "LUKS, encrypted"),
    (3, b"-FVE-FS-", "BitLocker, encrypted"),
    (0x10040, b"_BHRfS_M", "Btrfs"),
    (3, b"ReFS\0\0\0\0", "ReFS"),
    (0x400, b"\x10\x20\xf5\xf2", "F2FS"),
    (0x1018, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", "bcachefs"),
    (0x1000, b"\xfc\x4e\x2b\xa9", "a member of a Linux RAID (md)"),
    (0, b"\xfc\x4e\x2b\xa9", "a member of a Linux RAID (md)"),
    (0, b"hsqs", "squashfs"),
    (0x8001, b"CD001", "ISO 9660"),
    (0x20, b"NXSB", "APFS"),
    (0x400, b"H+\0\x04", "HFS+"),
    (0x400, b"HX\0\x05", "HFS+"),
    (0x10034, b"ReIsEr", "ReiserFS"),
    (0x8000, b"JFS1", "JFS"),
    (4086, b"SWAPSPACE2", "swap"),
    (4086, b"SWAP-SPACE", "swap"),
)
_EXT = b"\x53\xef"
_UBERBLOCK = (b"\x0c\xb1\xba\0\0\0\0\0", b"\0\0\0\0\0\xba\xb1\x0c")
_POOL = 0x20000
"""Where a ZFS label has its uberblocks."""


class Content(NamedTuple):
    """What was found: a word for it, empty for nothing known; and what mount tables name it by."""

    kind: str
    uuid: str = ""
    label: str = ""


def content_of(region: Region) -> Content:
    """Return what is on a volume."""
    head = region.pread(0, _HEAD)
    if head[0x438:0x43A] == _EXT:
        return Content("ext", _uuid(head[0x468:0x478]), _text(head[0x478:0x488]))
    for sector in range(4):
        if head[sector * 512 : sector * 512 + 8] == b"LABELONE":
            return Content(LVM)
    for offset, magic, kind in _BEGINNINGS:
        if head[offset : offset + len(magic)] == magic:
            return _named(kind, head)
    if head[510:512] == b"\x55\xaa" and (head[54:57] == b"FAT" or head[82:85] == b"FAT"):
        at = 0x43 if head[82:85] == b"FAT" else 0x27
        serial = head[at : at + 4][::-1].hex().upper()
        return Content("FAT", f"{serial[:4]}-{serial[4:]}", _text(head[at + 4 : at + 15]))
    pool = region.pread(_POOL, 8 << 10)
    if any(pool[at : at + 8] in _UBERBLOCK for at in range(0, len(pool), 1024)):
        return Content("ZFS")
    return Content("")


def _named(kind: str, head: bytes) -> Content:
    if kind == "XFS":
        return Content(kind, _uuid(head[32:48]), _text(head[108:120]))
    if kind == "NTFS":
        return Content(kind, head[0x48:0x50][::-1].hex().upper())
    return Content(kind)


def _uuid(raw: bytes) -> str:
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="surrogateescape").rstrip()
