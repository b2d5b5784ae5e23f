"""Reading qcow2 headers, snapshot tables and bitmap directories: bounded, without locks, also while a guest writes.

Whatever a file contains, reading it ends with a description; what is wrong with it is said in there.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any, NamedTuple

from vmsnap_nb.model.base_mismatch import MERGED
from vmsnap_nb.model.image import MOST_BYTES
from vmsnap_nb.model.reference import Reference, parse_reference
from vmsnap_nb.system.qcow2 import format as f
from vmsnap_nb.system.qcow2.directories import BitmapsHeader, Pread, Room, read_bitmaps, read_snapshots, text
from vmsnap_nb.words.message import N_, NOTHING, Message, clauses, joined, t

__all__ = ["Header", "parse_header", "read_qcow2"]

_ENCODING = sys.getfilesystemencoding()
_FIXED = f.HEADER.size + 4
_backing_of = f.BACKING.unpack_from
_TABLES = {"L1": N_("L1 table"), "refcount": N_("refcount table"), "snapshot": N_("snapshot table")}
_PLACES = dict.fromkeys(("path", "allocated", "identity", "file_size", "mtime_ns", "backing"))
"""What is filled in for each image: a dictionary that is copied with room for it need not grow."""


def read_qcow2(pread: Pread, head: bytes, file_size: int, folder: str, room: Room | None = None) -> dict[str, Any]:
    """Return the fields of an `Image` that the header of a qcow2 image tells, with its snapshots and bitmaps.

    `head` is more than the fixed part of the header, or all of the file; backing files are named relative to `folder`,
    that of the image. The status is ``corrupt`` or ``unknown`` where QEMU would refuse the image, and ``problem`` says
    why. `room` is for the entries of its tables.
    """
    if len(head) < _FIXED:
        if len(head) < (f.VERSION_2_LENGTH if head[4:8] == b"\0\0\0\2" else f.VERSION_3_LENGTH):
            return _broken(t("its header is truncated after {size} bytes", size=len(head)))
        head += bytes(_FIXED - len(head))
    backing_offset, backing_size = _backing_of(head)
    end = backing_offset or len(head)
    common = _common(head[:16] + head[20:end])
    if common.cluster > len(head) and (not common.complete or (backing_offset and end + backing_size > len(head))):
        # Nearly all headers end within what was read first; this one refers to more of its first cluster.
        head = pread(0, common.cluster)
        head += bytes(common.cluster - len(head))
        end = backing_offset or len(head)
        common = _common.__wrapped__(head[:16] + head[20:end])
    fields, cluster, complete, tables, last_table, backing_format, data_file, snapshots, snapshots_at, bitmaps = common
    fields = fields.copy()
    if not cluster:
        return fields
    if not complete:
        _complain(fields, t("its header extensions do not end within the header"))
    if last_table >= file_size:
        for name, offset in tables.items():
            if offset >= file_size:  # QEMU would read zeros there, and show an empty disk
                _complain(
                    fields,
                    t(
                        "its {table} is at byte {offset}, but the file ends at {end}: the file is truncated, or was "
                        "never completely written",
                        table=t(_TABLES[name]),
                        offset=offset,
                        end=file_size,
                    ),
                )
                break  # one says it all
    if backing_offset:
        if backing_size > f.MOST_BACKING_NAME or end + backing_size > cluster:
            why = t("the name of its backing file is {size} bytes long, which is too long", size=backing_size)
            return _complain(fields, why)
        written = head[end : end + backing_size]
        if b"\0" in written:
            written = written.partition(b"\0")[0]
        if written:
            name = written.decode(_ENCODING, "surrogateescape")
            fields["backing"] = parse_reference(name, folder=folder, format=backing_format)
    if data_file is not None:
        fields["data_file"] = _data_file(data_file, folder)
    try:
        if snapshots and snapshots_at < file_size:
            entries, problem = read_snapshots(pread, snapshots_at, snapshots, file_size, room)
            fields["snapshots"] = tuple(entry.snapshot for entry in entries)
            if problem:
                _complain(fields, problem)
        if bitmaps is not None:
            fields["bitmaps"], problem = read_bitmaps(pread, bitmaps, file_size, common.cluster, room)
            if problem:
                _complain(fields, problem)
    except MemoryError:
        fields["status"] = "unreadable"
        _note(fields, t("its snapshots or bitmaps, together with those of other images, take too much memory"))
    return fields


class _Common(NamedTuple):
    """What a header says besides the name of the backing file: images that were made in the same way share it."""

    fields: dict[str, Any]
    cluster: int = 0  # bytes; 0 for a header of which nothing more can be read
    complete: bool = True  # whether the extensions end where they should, within what was read
    tables: dict[str, int] = {}  # noqa: RUF012 - where its tables begin; never changed
    last_table: int = 0  # where the last of them begins
    backing_format: str | None = None
    data_file: bytes | None = None
    snapshot_count: int = 0
    snapshots_offset: int = 0
    bitmaps: BitmapsHeader | None = None


class _Extensions(NamedTuple):
    """What header extensions say."""

    backing_format: str | None = None
    data_file: bytes | None = None
    bitmaps: bytes | None = None


class Header(NamedTuple):
    """The fixed part of a header, in its order, without the length of the backing file's name."""

    magic: bytes
    version: int
    backing_offset: int
    cluster_bits: int
    size: int
    crypt: int
    l1_size: int
    l1_offset: int
    refcount_offset: int
    refcount_clusters: int
    snapshot_count: int
    snapshots_offset: int
    incompatible: int
    compatible: int
    autoclear: int
    refcount_order: int
    length: int
    compression: int


def parse_header(head: bytes) -> Header:
    """Return the fixed part of a header, with the values that count where its version has no field for one."""
    return _parsed(head[:16] + head[20:_FIXED])


def _parsed(data: bytes) -> Header:
    header = Header._make(f.HEADER.unpack_from(data.ljust(f.HEADER.size, b"\0")))
    if header.version == 2:
        return header._replace(
            incompatible=0,
            compatible=0,
            autoclear=0,
            compression=0,
            refcount_order=f.VERSION_2_REFCOUNT_ORDER,
            length=f.VERSION_2_LENGTH,
        )
    return header._replace(compression=0) if header.length <= f.VERSION_3_LENGTH else header


@lru_cache(maxsize=1024)
def _common(data: bytes) -> _Common:
    """Read a header, without the length of the backing file's name and without the name."""
    header = _parsed(data)
    if header.version not in (2, 3):
        problem = t("qcow2 version {version} is unknown; only versions 2 and 3 are supported", version=header.version)
        return _Common({"format": "qcow2", "status": "unsupported", "problem": problem})
    if problem := _impossible(header):
        return _Common(_broken(problem))
    fields = _fields(header)
    tables = _tables(header, fields)
    if header.snapshot_count and (
        "snapshot" not in tables or any(offset % (1 << header.cluster_bits) for offset in tables.values())
    ):
        header = header._replace(snapshot_count=0)  # where a table cannot be, snapshots are not read either
    return _with_extensions(header, data, fields, tables)


def _impossible(header: Header) -> Message:
    """Return why nothing more of a header can be read, or an empty text."""
    if header.cluster_bits not in f.CLUSTER_BITS:
        return t("its cluster size of 2^{bits} bytes is invalid; 2^9 to 2^21 are valid", bits=header.cluster_bits)
    if header.version == 3 and not f.VERSION_3_LENGTH <= header.length <= 1 << header.cluster_bits:
        return t("its header length of {size} bytes is invalid", size=header.length)
    if header.refcount_order > f.MOST_REFCOUNT_ORDER:
        return t(
            "its reference counts of 2^{order} bits are invalid; at most 64 bits are valid", order=header.refcount_order
        )
    return NOTHING


def _fields(header: Header) -> dict[str, Any]:
    """Return what a header says of the image itself."""
    compression = header.compression
    fields: dict[str, Any] = {
        **_PLACES,
        "format": "qcow2",
        "virtual_size": header.size & ~511,
        "compat": "0.10" if header.version == 2 else "1.1",
        "cluster_size": 1 << header.cluster_bits,
        "refcount_bits": 1 << header.refcount_order,
        "compression": f.COMPRESSION_TYPES.get(compression),
    }
    if header.size > MOST_BYTES:
        fields["virtual_size"] = None
        _complain(
            fields,
            t("its virtual size is {size} bytes, but QEMU supports at most {most}", size=header.size, most=MOST_BYTES),
        )
    _incompatible(fields, header.incompatible)
    if header.compatible & f.LAZY_REFCOUNTS:
        fields["lazy_refcounts"] = True
    if header.crypt:
        fields["encryption"] = f.ENCRYPTION.get(header.crypt)
        if header.crypt not in f.ENCRYPTION:
            _not_known(fields, t("its encryption method {number} is unknown", number=header.crypt))
    if bool(compression) != bool(header.incompatible & f.COMPRESSION):
        _complain(fields, t("its compression method and the header flag for compression methods contradict each other"))
    elif compression not in f.COMPRESSION_TYPES:
        _not_known(fields, t("its compression method {number} is unknown", number=compression))
    return fields


def _tables(header: Header, fields: dict[str, Any]) -> dict[str, int]:
    """Return where the tables of an image begin, and complain of those that cannot be."""
    bits = header.cluster_bits
    if not 0 < header.refcount_clusters << bits <= f.MOST_REFCOUNT_TABLE_BYTES:
        size = header.refcount_clusters << bits
        _complain(fields, t("the size of its refcount table, {size} bytes, is invalid", size=size))
    reach = bits * 2 - (4 if header.incompatible & f.EXTENDED_L2 else 3)
    if header.l1_size << reach < header.size or header.l1_size > f.MOST_L1_ENTRIES:
        _complain(
            fields,
            t(
                "its L1 table with {entries} entries does not match its virtual size of {size} bytes",
                entries=header.l1_size,
                size=header.size,
            ),
        )
    tables = {"refcount": header.refcount_offset}
    if header.l1_size:
        tables["L1"] = header.l1_offset
    if header.snapshot_count > f.MOST_SNAPSHOTS:
        _complain(
            fields,
            t(
                "it has {total} snapshots; at most {most} are allowed",
                total=header.snapshot_count,
                most=f.MOST_SNAPSHOTS,
            ),
        )
    elif header.snapshot_count:
        tables["snapshot"] = header.snapshots_offset
    for name, offset in tables.items():
        if offset % (1 << bits):
            why = t(
                "its {table} is at byte {offset}, which is not a cluster boundary",
                table=t(_TABLES[name]),
                offset=offset,
            )
            _complain(fields, why)
    return tables


def _with_extensions(header: Header, data: bytes, fields: dict[str, Any], tables: dict[str, int]) -> _Common:
    """Return all of it, with what the extensions say: they end where the backing file's name begins."""
    cluster = 1 << header.cluster_bits
    end = header.backing_offset or cluster
    if end > cluster:
        _complain(fields, t("the name of its backing file is outside the first cluster"))
        return _Common(fields, cluster)
    # Four bytes of the header were taken out.
    extensions = _extensions(data[header.length - 4 : end - 4], end - header.length)
    backing_format, data_file, bitmaps = extensions or _Extensions()
    if header.incompatible & f.DATA_FILE:
        fields["data_file_raw"] = bool(header.autoclear & f.DATA_FILE_RAW)
        if data_file is None:
            _note(fields, t("its data is in another file, but the header does not name that file"))
    else:
        data_file = None
    return _Common(
        fields,
        cluster,
        complete=extensions is not None,
        tables=tables,
        last_table=max(tables.values()),
        backing_format=backing_format,
        data_file=data_file,
        bitmaps=None if bitmaps is None else _bitmaps_header(header, bitmaps, fields),
        snapshot_count=header.snapshot_count,
        snapshots_offset=header.snapshots_offset,
    )


def _incompatible(fields: dict[str, Any], bits: int) -> None:
    if bits & f.DIRTY:
        fields["dirty"] = True
    if bits & f.EXTENDED_L2:
        fields["extended_l2"] = True
    if bits & f.CORRUPT:
        fields["corrupt"] = True
        _complain(fields, t("QEMU marked it as corrupt; qemu-img check -r all may repair a copy of it"))
    if unknown := bits & ~f.KNOWN_INCOMPATIBLE:
        numbers = joined(str(bit) for bit in range(64) if unknown >> bit & 1)
        _not_known(
            fields, t("it requires features that this version does not know (incompatible bits {bits})", bits=numbers)
        )

    if bits & f.MERGED:
        fields["status"] = "invalid"
        _note(fields, t(MERGED))


def _note(fields: dict[str, Any], problem: Message) -> None:
    fields["problem"] = clauses(filter(None, (fields.get("problem"), problem)))


def _not_known(fields: dict[str, Any], problem: Message) -> None:
    """Note what QEMU refuses too: nobody can say what such an image holds, so its other states do not matter."""
    fields["status"] = "unsupported"
    _note(fields, problem)


def _complain(fields: dict[str, Any], problem: Message) -> dict[str, Any]:
    if fields.get("status") != "unsupported":
        fields["status"] = "corrupt"
    _note(fields, problem)
    return fields


def _broken(problem: Message) -> dict[str, Any]:
    return {"format": "qcow2", "status": "corrupt", "problem": problem}


def _extensions(area: bytes, room: int) -> _Extensions | None:
    """Return what the extensions say that matters here; None where they do not end within `room`.

    `area` has the bytes as far as they were read.
    """
    backing_format: str | None = None
    data_file: bytes | None = None
    bitmaps: bytes | None = None
    at = 0
    for _ in range(f.MOST_EXTENSIONS):
        if at + 8 > room:
            return _Extensions(backing_format, data_file, bitmaps)
        if at + 8 > len(area):
            return None
        kind, length = f.EXTENSION.unpack_from(area, at)
        at += 8
        if kind == f.END:
            return _Extensions(backing_format, data_file, bitmaps)
        if length > room - at:
            return None
        if kind == f.BACKING_FORMAT:
            if length > f.MOST_BACKING_FORMAT or at + length > len(area):
                return None
            backing_format = text(area[at : at + length]) or None
        elif kind == f.DATA_FILE_NAME:
            if at + length > len(area):
                return None
            data_file = area[at : at + length].partition(b"\0")[0]
        elif kind == f.BITMAPS:
            if at + length > len(area):
                return None
            bitmaps = area[at : at + length]
        at += (length + 7) & ~7
    return None


def _bitmaps_header(header: Header, data: bytes, fields: dict[str, Any]) -> BitmapsHeader | None:
    """Return where the bitmap directory is; None where QEMU ignores it, or where it cannot be."""
    if len(data) != f.BITMAPS_HEADER.size:
        _complain(
            fields,
            t(
                "its bitmaps extension is {size} bytes long instead of {expected}",
                size=len(data),
                expected=f.BITMAPS_HEADER.size,
            ),
        )
        return None
    count, _, size, offset = f.BITMAPS_HEADER.unpack(data)
    if not header.autoclear & f.BITMAPS_VALID:
        if count:
            _note(fields, t("a program without support for dirty bitmaps wrote to it, so QEMU ignores its bitmaps"))
        return None
    if not 0 < count <= f.MOST_BITMAPS or not 0 < size <= f.MOST_BITMAP_DIRECTORY_BYTES:
        why = t("it has {total} bitmaps in a directory of {size} bytes, which is invalid", total=count, size=size)
        _complain(fields, why)
        return None
    if offset % (1 << header.cluster_bits):
        _complain(fields, t("its bitmap directory is at byte {offset}, which is not a cluster boundary", offset=offset))
        return None
    return BitmapsHeader(count, size, offset)


def _data_file(name: bytes, folder: str) -> Reference:
    found = parse_reference(name.decode(_ENCODING, "surrogateescape"), folder=folder, format="raw")
    if found.kind == "relative":
        # Unlike a backing file: QEMU looks for it in the folder in which it was started.
        return Reference(found.written, "relative", None, "raw")
    return found
