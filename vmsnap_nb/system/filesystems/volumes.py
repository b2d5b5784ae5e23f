"""The volumes of a disk: the disk as a whole, its partitions, and the logical volumes on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytsk3

from vmsnap_nb.system.filesystems.lvm import LvmError, find_logical_volumes
from vmsnap_nb.system.filesystems.part_names import PartName, mbr_name, part_names
from vmsnap_nb.system.filesystems.region import Region
from vmsnap_nb.system.filesystems.signatures import LVM, READABLE, Content, content_of
from vmsnap_nb.system.filesystems.tsk import TskImage
from vmsnap_nb.system.sources.source import Source
from vmsnap_nb.words.message import t

__all__ = ["Volume", "find_volumes"]

_MOST_VOLUMES = 512
_NO_NAME = PartName()


@dataclass(frozen=True)
class Volume:
    """A part of the disk that can have a file system, under the name that users give it."""

    name: str  # "disk", "p1" for the first partition, "group/volume" for a logical volume
    region: Region | None
    content: Content
    problem: str = ""
    part: PartName = _NO_NAME

    @property
    def where(self) -> str:
        """The name in a sentence."""
        return t("the disk") if self.name == "disk" else self.name

    @property
    def readable(self) -> bool:
        """Whether it has a file system that is read here."""
        return self.region is not None and self.content.kind in READABLE


def find_volumes(disk: Source) -> list[Volume]:
    """Return the volumes of a disk, in the order of their partitions."""
    whole = Region.part(disk)
    content = content_of(whole)
    parts = [] if content.kind else list(_partitions(disk, whole))
    found = parts or [Volume("disk", whole, content)]
    physical = [volume for volume in found if volume.content.kind == LVM]
    rest = [volume for volume in found if volume.content.kind != LVM]
    return (rest + list(_logical(physical)))[:_MOST_VOLUMES]


def _partitions(disk: Source, whole: Region) -> Iterator[Volume]:
    """Yield the partitions of an MBR or a GPT; those inside an extended one are counted from 5."""
    try:
        table = pytsk3.Volume_Info(TskImage(whole))
    except OSError:
        return
    sector, logical = int(table.info.block_size), 4
    is_mbr = table.info.vstype == pytsk3.TSK_VS_TYPE_DOS
    names = {} if is_mbr else part_names(whole, sector)
    for part in table:
        if not int(part.flags) & int(pytsk3.TSK_VS_PART_FLAG_ALLOC):
            continue
        slot = int(part.slot_num) + 1
        if is_mbr and int(part.table_num) > 0:
            logical += 1
            slot = logical
        start = int(part.start) * sector
        region = Region.part(disk, start, int(part.len) * sector)
        name = mbr_name(whole, slot) if is_mbr else names.get(start, _NO_NAME)
        yield Volume(f"p{slot}", region, content_of(region), part=name)


def _logical(physical: list[Volume]) -> Iterator[Volume]:
    regions = [volume.region for volume in physical if volume.region is not None]
    found, said = [], t("an LVM physical volume that describes no readable logical volume")
    try:
        found = list(find_logical_volumes(regions))
    except LvmError as error:
        said = t("an LVM physical volume: {why}", why=str(error))
    for name, region, problem in found:
        yield Volume(name, region, Content("") if region is None else content_of(region), problem)
    if not found:
        for volume in physical:
            yield Volume(volume.name, None, volume.content, said)
