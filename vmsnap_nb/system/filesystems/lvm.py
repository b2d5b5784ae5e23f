"""Logical volumes of LVM2, from the label and the text that each physical volume has at its beginning.

Source: LVM2, lib/format_text/layout.h and format-text.c. libvslvm is not used: it refuses each logical volume that was
ever extended ("invalid physical volume value already set"), and does not say where on the disk a volume lies.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any

from vmsnap_nb.system.filesystems.region import Piece, Region
from vmsnap_nb.words.message import t

__all__ = ["LvmError", "find_logical_volumes"]

_MDA_MAGIC = b" LVM2 x[5A%r0N*>"
_MDA_HEADER = 512
_MOST_TEXT = 16 << 20
_MOST_DEPTH = 16
_MOST_PIECES = 100_000
_MOST_AREAS = 16
_SECTOR = 512
_CRC = 0xF597A6CF
_PAIR = Struct("<QQ")
_LOCATION = Struct("<QQII")
_TOKENS = re.compile(
    r'\s+|#[^\n]*|(?P<text>"(?:[^"\\]|\\.)*")|(?P<number>-?\d+)(?![\w.])|(?P<word>[\w.+-]+)|(?P<sign>[={}\[\],])'
)


class LvmError(ValueError):
    """What LVM has written cannot be used."""


@dataclass(frozen=True)
class _Physical:
    """A physical volume: its UUID without hyphens, what it lies on, and the text of its volume group."""

    uuid: str
    region: Region
    text: str


def find_logical_volumes(regions: Sequence[Region]) -> Iterator[tuple[str, Region | None, str]]:
    """Yield name, region and problem of each logical volume on some physical volumes; without a region it has one."""
    found = [_physical(region) for region in regions]
    groups: dict[str, dict[str, Any]] = {}
    for physical in found:
        for name, group in _parse(physical.text).items():
            if isinstance(group, dict) and "extent_size" in group:
                known = groups.get(name)
                if known is None or _number(group, "seqno") > _number(known, "seqno"):
                    groups[name] = group
    for name, group in groups.items():
        extent = _number(group, "extent_size") * _SECTOR
        places = _places(group, found)
        for volume, entry in _section(group, "logical_volumes").items():
            if isinstance(entry, dict) and "VISIBLE" in entry.get("status", ()):
                try:
                    yield f"{name}/{volume}", _region(entry, extent, places), ""
                except LvmError as error:
                    yield f"{name}/{volume}", None, str(error)


_Places = dict[str, tuple[Region, int] | str]


def _places(group: dict[str, Any], found: Sequence[_Physical]) -> _Places:
    """Return for each physical volume where it lies and where its first extent begins, or what it was to the guest."""
    by_uuid = {physical.uuid: physical.region for physical in found}
    places: _Places = {}
    for name, entry in _section(group, "physical_volumes").items():
        uuid = str(entry.get("id", "")).replace("-", "") if isinstance(entry, dict) else ""
        if uuid in by_uuid:
            places[name] = by_uuid[uuid], _number(entry, "pe_start") * _SECTOR
        elif isinstance(entry, dict):
            places[name] = t(
                "{name}, which was {device} in the guest",
                name=f"{name!s:.40}",
                device=f"{entry.get('device', '?')!s:.80}",
            )
    return places


def _region(entry: dict[str, Any], extent: int, places: _Places) -> Region:
    pieces: list[Piece] = []
    disk = None
    segments = (value for key, value in entry.items() if key.startswith("segment") and isinstance(value, dict))
    for segment in sorted(segments, key=lambda segment: _number(segment, "start_extent")):
        if segment.get("type") == "thin":
            pool = segment.get("thin_pool", "unknown")
            raise LvmError(
                t(
                    "it is a thin volume of the pool {pool}, but only linear and striped volumes can be read",
                    pool=f"{pool!s:.40}",
                )
            )
        if segment.get("type") not in {"striped", "linear"}:
            raise LvmError(
                t(
                    "its type is {kind}, but only linear and striped volumes can be read",
                    kind=f"{segment.get('type')!s:.40}",
                )
            )
        for piece, region in _pieces(segment, extent, places):
            disk = region.disk
            pieces.append(piece)
            if len(pieces) > _MOST_PIECES:
                raise LvmError(t("it has more than {count} pieces", count=_MOST_PIECES))
    if disk is None:
        raise LvmError(t("it has no segments"))
    ends = 0
    for piece in pieces:
        if piece.start != ends:
            raise LvmError(t("its segments are not contiguous"))
        ends += piece.length
    return Region(disk, pieces)


def _pieces(segment: dict[str, Any], extent: int, places: _Places) -> Iterator[tuple[Piece, Region]]:
    start, count = _number(segment, "start_extent") * extent, _number(segment, "extent_count") * extent
    stripes = segment.get("stripes", [])
    names, offsets = stripes[::2], stripes[1::2]
    if not names or len(names) != len(offsets) or len(names) != _number(segment, "stripe_count"):
        raise LvmError(t("its stripes are invalid"))
    areas = [places.get(name, f"{name!s:.40}") for name in names]
    for area in areas:
        if isinstance(area, str):
            raise LvmError(t("part of it is on another disk, on the physical volume {area}", area=area))
    unit = _number(segment, "stripe_size") * _SECTOR if len(names) > 1 else count
    if unit <= 0 or (count // unit) > _MOST_PIECES:
        raise LvmError(t("it has more than {count} pieces", count=_MOST_PIECES))
    for number, done in enumerate(range(0, count, unit)):
        area = areas[number % len(names)]
        assert not isinstance(area, str)
        region, begin = area
        offset = offsets[number % len(names)]
        if not isinstance(offset, int) or offset < 0:
            raise LvmError(t("its stripes are invalid"))
        at = begin + offset * extent + number // len(names) * unit
        length, within = min(unit, count - done), 0
        for place, size in region.places(at, length):
            yield Piece(start + done + within, size, place), region
            within += size
        if within < length:
            raise LvmError(t("part of it is beyond the end of its physical volume"))


# -- what is written on a physical volume --------------------------------------------------------------------


def _physical(region: Region) -> _Physical:
    head = region.pread(0, 4 * _SECTOR)
    at = next((at for at in range(0, len(head), _SECTOR) if head[at : at + 8] == b"LABELONE"), None)
    if at is None or head[at + 24 : at + 32] != b"LVM2 001":
        raise LvmError(t("the version of its label is unknown"))
    begin = at + int.from_bytes(head[at + 20 : at + 24], "little")
    uuid = head[begin : begin + 32].decode("ascii", "replace")
    lists = _areas(head[begin + 40 :])
    for offset, size in lists:
        text = _text(region, offset, size)
        if text:
            return _Physical(uuid, region, text)
    return _Physical(uuid, region, "")


def _areas(raw: bytes) -> list[tuple[int, int]]:
    """Return the metadata areas: they are listed after the data areas, and each list ends with a zero."""
    areas: list[tuple[int, int]] = []
    lists = 0
    for at in range(0, min(len(raw), 2 * _MOST_AREAS * _PAIR.size) - _PAIR.size + 1, _PAIR.size):
        offset, size = _PAIR.unpack_from(raw, at)
        if not offset:
            lists += 1
            if lists == 2:
                break
        elif lists == 1:
            areas.append((offset, size))
    return areas


def _text(region: Region, begin: int, length: int) -> str:
    """Return the newest text in a metadata area, which is a ring behind its header."""
    header = region.pread(begin, _MDA_HEADER)
    if len(header) < _MDA_HEADER or header[4:20] != _MDA_MAGIC or _checksum(header[4:]) != _word(header, 0):
        return ""
    offset, size, checksum, _ = _LOCATION.unpack_from(header, 40)
    if not offset or not 0 < size <= min(_MOST_TEXT, length - _MDA_HEADER) or offset >= length:
        return ""
    text = region.pread(begin + offset, min(size, length - offset))
    text += region.pread(begin + _MDA_HEADER, size - len(text)) if len(text) < size else b""
    if _checksum(text) != checksum:
        return ""
    return text.partition(b"\0")[0].decode(errors="replace")


def _checksum(data: bytes) -> int:
    return zlib.crc32(data, _CRC ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _number(section: dict[str, Any], name: str) -> int:
    value = section.get(name, 0)
    if not isinstance(value, int) or value < 0:
        raise LvmError(f"its {name} is {value!s:.40}")
    return value


def _section(group: dict[str, Any], name: str) -> dict[str, Any]:
    found = group.get(name, {})
    return found if isinstance(found, dict) else {}


def _parse(text: str) -> dict[str, Any]:
    """Return sections, lists, texts and numbers of LVM's text as dictionaries and lists."""
    top: dict[str, Any] = {}
    stack: list[dict[str, Any]] = [top]
    key, assigned = "", False
    values: list[str | int] | None = None
    for match in _TOKENS.finditer(text):
        kind, word = match.lastgroup, match.group()
        if kind is None:
            continue
        if kind == "sign":
            if word == "{" and key and len(stack) < _MOST_DEPTH:
                inner: dict[str, Any] = {}
                stack[-1][key] = inner
                stack.append(inner)
            elif word == "}" and len(stack) > 1:
                stack.pop()
            elif word == "[":
                values = []
            elif word == "]" and values is not None:
                stack[-1][key], values = values, None
            elif word not in "=,":
                raise LvmError(t("its metadata contains {word} in an invalid position", word=word))
            assigned = word == "="
            continue
        value: str | int = word[1:-1] if kind == "text" else int(word) if kind == "number" else word
        if values is not None:
            values.append(value)
        elif assigned:
            stack[-1][key], assigned = value, False
        else:
            key = word
    return top
