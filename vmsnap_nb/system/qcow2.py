"""Reading qcow2 headers and snapshot tables: bounded, without locks, also while a guest writes.

Whatever a file contains, reading it ends with a description; what is wrong with it is said in there.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from vmsnap_nb.model.image import InternalSnapshot
from vmsnap_nb.model.reference import Reference, parse_reference
from vmsnap_nb.system import qcow2_format as f

__all__ = ["read_qcow2"]

_ENCODING = sys.getfilesystemencoding()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIXED = f.HEADER.size + 4
_backing_of = f.BACKING.unpack_from
_PLACES = dict.fromkeys(("path", "allocated", "identity", "file_size", "mtime_ns", "backing"))
"""What is filled in for each image: a dictionary that is copied with room for it need not grow."""
_PIECE = 4 << 10


def read_qcow2(fd: int, head: bytes, file_size: int, folder: str) -> dict[str, Any]:
    """Read what the header of a qcow2 image says, and its snapshot table.

    Parameters
    ----------
    fd : int
        The file, open for reading; read from by offset only.
    head : bytes
        The first bytes of the file: all of them, or more than the fixed part of the header.
    file_size : int
        Length of the file in bytes.
    folder : str
        Absolute path of the folder that holds the image: backing files are named relative to it.

    Returns
    -------
    dict
        Fields of `vmsnap_nb.model.image.Image`. The status is ``corrupt`` or ``unknown`` where QEMU would
        refuse the image, and ``problem`` says why.

    Raises
    ------
    OSError
        An input/output error.
    """
    if len(head) < _FIXED:
        if len(head) < (f.VERSION_2_LENGTH if head[4:8] == b"\0\0\0\2" else f.VERSION_3_LENGTH):
            return _broken(f"its header is cut off after {len(head)} bytes")
        head += bytes(_FIXED - len(head))
    backing_offset, backing_size = _backing_of(head)
    end = backing_offset or len(head)
    common = _common(head[:16] + head[20:end])
    if common.cluster > len(head) and (not common.complete or (backing_offset and end + backing_size > len(head))):
        # Nearly all headers end within what was read first; this one refers to more of its first cluster.
        head = os.pread(fd, common.cluster, 0)
        head += bytes(common.cluster - len(head))
        end = backing_offset or len(head)
        common = _common.__wrapped__(head[:16] + head[20:end])
    fields, cluster, complete, tables, last_table, backing_format, data_file, snapshots, snapshots_at = common
    fields = fields.copy()
    if not cluster:
        return fields
    if not complete:
        _complain(fields, "its header extensions do not end within the header")
    if last_table >= file_size:
        for name, offset in tables.items():
            if offset >= file_size:  # QEMU would read zeros there, and show an empty disk
                _complain(
                    fields,
                    f"its {name} table would begin at byte {offset}, and the file ends at {file_size}: "
                    "it was cut off, or was never written to its end",
                )
    if backing_offset:
        if backing_size > f.MOST_BACKING_NAME or end + backing_size > cluster:
            return _complain(fields, f"its backing file's name would be {backing_size} bytes long")
        written = head[end : end + backing_size]
        if b"\0" in written:
            written = written.partition(b"\0")[0]
        if written:
            name = written.decode(_ENCODING, "surrogateescape")
            fields["backing"] = parse_reference(name, folder=folder, format=backing_format)
    if data_file is not None:
        fields["data_file"] = _data_file(data_file, folder)
    if snapshots and snapshots_at < file_size:
        fields["snapshots"] = _snapshots(fd, snapshots_at, snapshots, file_size, fields)
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


@lru_cache(maxsize=1024)
def _common(header: bytes) -> _Common:
    """Read a header, without the length of the backing file's name and without the name."""
    (
        _,
        version,
        backing_offset,
        cluster_bits,
        size,
        crypt,
        l1_size,
        l1_offset,
        refcount_offset,
        refcount_clusters,
        snapshot_count,
        snapshots_offset,
        incompatible,
        compatible,
        autoclear,
        refcount_order,
        length,
        compression,
    ) = f.HEADER.unpack_from(header.ljust(f.HEADER.size, b"\0"))
    if version == 2:
        incompatible = compatible = autoclear = compression = 0
        refcount_order, length = f.VERSION_2_REFCOUNT_ORDER, f.VERSION_2_LENGTH
    elif version != 3:
        problem = f"version {version} of qcow2 is not known; versions 2 and 3 are"
        return _Common({"format": "qcow2", "status": "unknown", "problem": problem})
    if cluster_bits not in f.CLUSTER_BITS:
        return _Common(_broken(f"its clusters would have 2^{cluster_bits} bytes, and they can have 2^9 to 2^21"))
    cluster = 1 << cluster_bits
    if version == 3 and not f.VERSION_3_LENGTH <= length <= cluster:
        return _Common(_broken(f"its header length of {length} bytes cannot be"))
    if refcount_order > f.MOST_REFCOUNT_ORDER:
        return _Common(
            _broken(f"its reference counts would have 2^{refcount_order} bits, and they can have 64 at most")
        )
    if length <= f.VERSION_3_LENGTH:
        compression = 0

    fields: dict[str, Any] = {
        **_PLACES,
        "format": "qcow2",
        "virtual_size": size & ~511,
        "compat": "0.10" if version == 2 else "1.1",
        "cluster_size": cluster,
        "refcount_bits": 1 << refcount_order,
        "compression": f.COMPRESSION_TYPES.get(compression),
    }
    _incompatible(fields, incompatible)
    if compatible & f.LAZY_REFCOUNTS:
        fields["lazy_refcounts"] = True
    if crypt:
        fields["encryption"] = f.ENCRYPTION.get(crypt)
        if crypt not in f.ENCRYPTION:
            _complain(fields, f"its encryption method {crypt} is not known")
    if bool(compression) != bool(incompatible & f.COMPRESSION):
        _complain(fields, "it names a compression and does not mark it as used, or the reverse")
    elif compression not in f.COMPRESSION_TYPES:
        _complain(fields, f"its compression method {compression} is not known")

    if not 0 < refcount_clusters << cluster_bits <= f.MOST_REFCOUNT_TABLE_BYTES:
        _complain(fields, f"its refcount table would have {refcount_clusters << cluster_bits} bytes")
    reach = cluster_bits * 2 - (4 if incompatible & f.EXTENDED_L2 else 3)
    if l1_size << reach < size or l1_size > f.MOST_L1_ENTRIES:
        _complain(fields, f"its L1 table with {l1_size} entries does not fit its virtual size of {size} bytes")
    if snapshot_count > f.MOST_SNAPSHOTS:
        _complain(fields, f"it would have {snapshot_count} snapshots; {f.MOST_SNAPSHOTS} are possible")
        snapshot_count = 0
    tables = {"refcount": refcount_offset}
    if l1_size:
        tables["L1"] = l1_offset
    if snapshot_count:
        tables["snapshot"] = snapshots_offset
    for name, offset in tables.items():
        if offset % cluster:
            _complain(fields, f"its {name} table cannot be at byte {offset}, where no cluster begins")
            snapshot_count = 0

    end = backing_offset or cluster
    if end > cluster:
        _complain(fields, "its backing file's name would be outside of the first cluster")
        return _Common(fields, cluster)
    # Four bytes of the header were taken out.
    extensions = _extensions(header[length - 4 : end - 4], end - length)
    backing_format, data_file = extensions or (None, None)
    if incompatible & f.DATA_FILE:
        fields["data_file_raw"] = bool(autoclear & f.DATA_FILE_RAW)
        if data_file is None:
            _note(fields, "its data is in another file that it does not name")
    return _Common(
        fields,
        cluster,
        extensions is not None,
        tables,
        max(tables.values()),
        backing_format,
        data_file if incompatible & f.DATA_FILE else None,
        snapshot_count,
        snapshots_offset,
    )


def _incompatible(fields: dict[str, Any], bits: int) -> None:
    if bits & f.DIRTY:
        fields["dirty"] = True
    if bits & f.EXTENDED_L2:
        fields["extended_l2"] = True
    if bits & f.CORRUPT:
        fields["corrupt"] = True
        _complain(fields, "QEMU has marked it as corrupt; `qemu-img check -r all` may repair a copy of it")
    if bits & f.MERGED:
        fields["status"] = "invalid"
        _note(fields, "merged into another image, and what lies below has changed; opening is refused by QEMU")
    if unknown := bits & ~f.KNOWN_INCOMPATIBLE:
        numbers = ", ".join(str(bit) for bit in range(64) if unknown >> bit & 1)
        _note(fields, f"it needs features that are not known here (incompatible bits {numbers}); QEMU may refuse it")


def _note(fields: dict[str, Any], problem: str) -> None:
    before = fields.get("problem")
    fields["problem"] = f"{before}; {problem}" if before else problem


def _complain(fields: dict[str, Any], problem: str) -> dict[str, Any]:
    fields["status"] = "corrupt"
    _note(fields, problem)
    return fields


def _broken(problem: str) -> dict[str, Any]:
    return {"format": "qcow2", "status": "corrupt", "problem": problem}


def _extensions(area: bytes, room: int) -> tuple[str | None, bytes | None] | None:
    """Read header extensions.

    Parameters
    ----------
    area : bytes
        The bytes of the extension area, as far as they were read.
    room : int
        Length of the whole area.

    Returns
    -------
    tuple of (str or None, bytes or None), or None
        The backing format and the data file's name; None where they do not end within the area.
    """
    backing_format: str | None = None
    data_file: bytes | None = None
    at = 0
    for _ in range(f.MOST_EXTENSIONS):
        if at + 8 > room:
            return backing_format, data_file
        if at + 8 > len(area):
            return None
        kind, length = f.EXTENSION.unpack_from(area, at)
        at += 8
        if kind == f.END:
            return backing_format, data_file
        if length > room - at:
            return None
        if kind == f.BACKING_FORMAT:
            if length > f.MOST_BACKING_FORMAT or at + length > len(area):
                return None
            backing_format = _text(area[at : at + length]) or None
        elif kind == f.DATA_FILE_NAME:
            if at + length > len(area):
                return None
            data_file = area[at : at + length].partition(b"\0")[0]
        at += (length + 7) & ~7
    return None


def _data_file(name: bytes, folder: str) -> Reference:
    found = parse_reference(name.decode(_ENCODING, "surrogateescape"), folder=folder, format="raw")
    if found.kind == "relative":
        # Unlike a backing file: QEMU looks for it in the folder in which it was started.
        return Reference(found.written, "relative", None, "raw")
    return found


# -- snapshots ----------------------------------------------------------------------------------------------


def _snapshots(
    fd: int, offset: int, count: int, file_size: int, fields: dict[str, Any]
) -> tuple[InternalSnapshot, ...]:
    most = min(file_size - offset, f.MOST_SNAPSHOT_BYTES)
    table = os.pread(fd, min(most, _PIECE), offset)
    found: list[InternalSnapshot] = []
    at = 0
    fixed = f.SNAPSHOT.size
    for _ in range(count):
        need = at + fixed
        if need > len(table):
            table = _longer(fd, table, offset, need, most)
        if need <= len(table):
            _, _, id_size, name_size, seconds, nanoseconds, clock, state_size, extra_size = f.SNAPSHOT.unpack_from(
                table, at
            )
            extra = need
            need += extra_size + id_size + name_size
            if extra_size > f.MOST_SNAPSHOT_EXTRA:
                _complain(fields, f"entry {len(found) + 1} of its snapshot table would have {extra_size} extra bytes")
                break
            if need > len(table):
                table = _longer(fd, table, offset, need, most)
        if need > len(table):
            _complain(fields, f"its snapshot table has {count} entries and ends after {len(found)}")
            break
        disk_size = None
        if extra_size >= 16:
            state_size, disk_size = f.SNAPSHOT_EXTRA.unpack_from(table, extra)
        elif extra_size >= 8:
            state_size = int.from_bytes(table[extra : extra + 8])
        names = extra + extra_size
        found.append(
            InternalSnapshot.build(
                {
                    "id": _text(table[names : names + id_size]),
                    "name": _text(table[names + id_size : need]),
                    "created": _EPOCH + timedelta(0, seconds, nanoseconds // 1000),
                    "vm_state_size": state_size,
                    "vm_clock": clock,
                    "virtual_size": disk_size,
                }
            )
        )
        at = (need + 7) & ~7
    return tuple(found)


def _longer(fd: int, table: bytes, offset: int, need: int, most: int) -> bytes:
    """Read more of a table than is there, and at least twice as much, so that a long one is read a few times only."""
    if need > most:
        return table
    return os.pread(fd, min(most, max(need, 2 * len(table))), offset)


def _text(name: bytes) -> str:
    if b"\0" in name:
        name = name.partition(b"\0")[0]
    return name.decode("utf-8", "backslashreplace")
