"""Reading qcow2 headers and snapshot tables: bounded, without locks, also while a guest writes.

Whatever a file contains, reading it ends with a description; what is wrong with it is said in there.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from vmsnap_nb.model.image import InternalSnapshot
from vmsnap_nb.model.reference import Reference, parse_reference
from vmsnap_nb.system import qcow2_format as f

__all__ = ["read_qcow2"]

_ENCODING = sys.getfilesystemencoding()
_NO_FIELDS = (0, 0, 0, 4, f.VERSION_2_LENGTH, 0)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PIECE = 16 << 10


def read_qcow2(fd: int, head: bytes, file_size: int, folder: str) -> dict[str, Any]:
    """Read what the header of a qcow2 image says, and its snapshot table.

    Parameters
    ----------
    fd : int
        The file, open for reading; read from by offset only.
    head : bytes
        The first bytes of the file, 4096 if it has as many.
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
    if len(head) < f.HEADER.size:
        if len(head) < f.VERSION_2_LENGTH:
            return _broken(f"its header is cut off after {len(head)} bytes")
        head += bytes(f.HEADER.size - len(head))
    (
        _,
        version,
        backing_offset,
        backing_size,
        cluster_bits,
        size,
        crypt,
        l1_size,
        l1_offset,
        refcount_offset,
        refcount_clusters,
        snapshot_count,
        snapshots_offset,
        *newer,
    ) = f.HEADER.unpack_from(head)
    if version == 2:
        newer = list(_NO_FIELDS)
    elif version != 3:
        return {
            "format": "qcow2",
            "status": "unknown",
            "problem": f"version {version} of qcow2 is not known; versions 2 and 3 are",
        }
    incompatible, compatible, autoclear, refcount_order, length, compression = newer
    if cluster_bits not in f.CLUSTER_BITS:
        return _broken(f"its clusters would have 2^{cluster_bits} bytes, and they can have 2^9 to 2^21")
    cluster = 1 << cluster_bits
    if not f.VERSION_3_LENGTH <= length <= cluster and version == 3:
        return _broken(f"its header length of {length} bytes cannot be")
    if length <= f.VERSION_3_LENGTH:
        compression = 0

    fields: dict[str, Any] = {
        "format": "qcow2",
        "virtual_size": size & ~511,
        "compat": "0.10" if version == 2 else "1.1",
        "cluster_size": cluster,
        "refcount_bits": 1 << refcount_order if refcount_order <= f.MOST_REFCOUNT_ORDER else None,
        "compression": f.COMPRESSION_TYPES[compression] if compression < len(f.COMPRESSION_TYPES) else None,
    }
    if incompatible:
        _incompatible(fields, incompatible)
    if compatible & f.LAZY_REFCOUNTS:
        fields["lazy_refcounts"] = True
    if crypt:
        fields["encryption"] = f.ENCRYPTION[crypt] if crypt < len(f.ENCRYPTION) else None

    mask = cluster - 1
    l2_bits = cluster_bits - (4 if incompatible & f.EXTENDED_L2 else 3)
    if (
        refcount_order > f.MOST_REFCOUNT_ORDER
        or crypt >= len(f.ENCRYPTION)
        or (compression and not incompatible & f.COMPRESSION)
        or refcount_offset & mask
        or refcount_offset >= file_size
        or not 0 < refcount_clusters << cluster_bits <= f.MOST_REFCOUNT_TABLE_BYTES
        or l1_size * 8 > f.MOST_L1_BYTES
        or l1_size << (l2_bits + cluster_bits) < size
        or (l1_size and (l1_offset & mask or l1_offset >= file_size))
    ):
        _complain(
            fields,
            _what_is_wrong(
                file_size,
                mask,
                refcount_order,
                crypt,
                refcount_offset,
                refcount_clusters << cluster_bits,
                l1_offset,
                l1_size * 8,
                l1_size << (l2_bits + cluster_bits) < size,
            ),
        )

    end = backing_offset or cluster
    if end > cluster:
        return _complain(fields, "its backing file's name lies outside of the first cluster")
    if backing_offset and backing_size > min(f.MOST_BACKING_NAME, cluster - backing_offset):
        return _complain(fields, f"its backing file's name would be {backing_size} bytes long")
    extensions = _extensions(head, length, end)
    if len(head) < cluster and (extensions is None or (backing_offset and len(head) < backing_offset + backing_size)):
        # Nearly all headers end well within the first 4 KiB; this one refers to more of its first cluster.
        head = os.pread(fd, cluster, 0)
        head += bytes(cluster - len(head))
        extensions = _extensions(head, length, end)
    if extensions is None:
        _complain(fields, "its header extensions do not end within the header")
        extensions = (None, None)
    backing_format, data_file = extensions

    if backing_offset and backing_size:
        written = head[backing_offset : backing_offset + backing_size].partition(b"\0")[0]
        if written:
            fields["backing"] = parse_reference(
                written.decode(_ENCODING, "surrogateescape"), folder=folder, format=backing_format
            )
    if incompatible & f.DATA_FILE:
        fields["data_file_raw"] = bool(autoclear & f.DATA_FILE_RAW)
        if data_file is None:
            _note(fields, "its data is in another file that it does not name")
        else:
            fields["data_file"] = _data_file(data_file, folder)
    if snapshot_count:
        if snapshot_count > f.MOST_SNAPSHOTS:
            return _complain(fields, f"it would have {snapshot_count} snapshots; {f.MOST_SNAPSHOTS} are possible")
        if snapshots_offset & mask or snapshots_offset >= file_size:
            return _complain(fields, _table("snapshot", snapshots_offset, 0, file_size))
        fields["snapshots"] = _snapshots(fd, snapshots_offset, snapshot_count, file_size, fields)
    return fields


def _incompatible(fields: dict[str, Any], bits: int) -> None:
    if bits & f.DIRTY:
        fields["dirty"] = True
    if bits & f.EXTENDED_L2:
        fields["extended_l2"] = True
    if bits & f.CORRUPT:
        fields["corrupt"] = True
        _complain(fields, "QEMU has marked it as corrupt; `qemu-img check -r all` may repair a copy of it")
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


def _table(name: str, offset: int, most: int, file_size: int) -> str:
    if offset >= file_size:
        return (
            f"its {name} table would begin at byte {offset}, and the file ends at {file_size}: "
            "it was cut off, or was never written to its end"
        )
    return f"its {name} table at byte {offset} cannot be there" + (f", or has more than {most} bytes" if most else "")


def _what_is_wrong(
    file_size: int,
    mask: int,
    refcount_order: int,
    crypt: int,
    refcount_offset: int,
    refcount_bytes: int,
    l1_offset: int,
    l1_bytes: int,
    l1_too_small: bool,
) -> str:
    if refcount_order > f.MOST_REFCOUNT_ORDER:
        return f"its reference counts would have 2^{refcount_order} bits, and they can have 64 at most"
    if crypt >= len(f.ENCRYPTION):
        return f"its encryption method {crypt} is not known"
    if refcount_offset & mask or refcount_offset >= file_size or refcount_bytes > f.MOST_REFCOUNT_TABLE_BYTES:
        return _table("refcount", refcount_offset, f.MOST_REFCOUNT_TABLE_BYTES, file_size)
    if not refcount_bytes:
        return "it has no refcount table"
    if l1_bytes > f.MOST_L1_BYTES or (l1_bytes and (l1_offset & mask or l1_offset >= file_size)):
        return _table("L1", l1_offset, f.MOST_L1_BYTES, file_size)
    if l1_too_small:
        return "its L1 table is too small for its virtual size"
    return "it names a compression and does not mark it as used"


def _extensions(head: bytes, offset: int, end: int) -> tuple[str | None, bytes | None] | None:
    """Give the backing format and the data file's name; None where they do not end within `head` or before `end`."""
    backing_format: str | None = None
    data_file: bytes | None = None
    unpack = f.EXTENSION.unpack_from
    for _ in range(f.MOST_EXTENSIONS):
        if offset + 8 > end:
            return backing_format, data_file
        if offset + 8 > len(head):
            return None
        kind, length = unpack(head, offset)
        offset += 8
        if kind == f.END:
            return backing_format, data_file
        if length > end - offset:
            return None
        if kind == f.BACKING_FORMAT:
            if length > f.MOST_BACKING_FORMAT or offset + length > len(head):
                return None
            backing_format = _text(head[offset : offset + length]) or None
        elif kind == f.DATA_FILE_NAME:
            if offset + length > len(head):
                return None
            data_file = head[offset : offset + length].partition(b"\0")[0]
        offset += (length + 7) & ~7
    return None


def _data_file(name: bytes, folder: str) -> Reference:
    found = parse_reference(name.decode(_ENCODING, "surrogateescape"), folder=folder, format="raw")
    if found.kind == "relative":
        # Unlike a backing file: QEMU looks for it in the folder in which it was started.
        return Reference(found.written, "relative", None, "raw")
    return found


# -- snapshots ----------------------------------------------------------------------------------------------


class _Table:
    """The snapshot table, read piece by piece, so that a false count costs no more than what the file has."""

    def __init__(self, fd: int, start: int, end: int) -> None:
        self.fd = fd
        self.position = start
        self.end = end
        self.piece = b""
        self.at = start

    def take(self, length: int) -> bytes | None:
        """Give the next bytes, or None where the table or the file ends before."""
        if self.position + length > self.end:
            return None
        first = self.position - self.at
        if first + length > len(self.piece):
            self.piece = os.pread(self.fd, max(_PIECE, length), self.position)
            self.at, first = self.position, 0
        taken = self.piece[first : first + length]
        self.position += length
        return taken if len(taken) == length else None

    def skip(self, length: int) -> None:
        self.position += length


def _snapshots(
    fd: int, offset: int, count: int, file_size: int, fields: dict[str, Any]
) -> tuple[InternalSnapshot, ...]:
    table = _Table(fd, offset, min(file_size, offset + f.MOST_SNAPSHOT_BYTES))
    found: list[InternalSnapshot] = []
    for _ in range(count):
        snapshot = _snapshot(table)
        if snapshot is None:
            _complain(fields, f"its snapshot table has {count} entries and ends after {len(found)}")
            break
        found.append(snapshot)
        table.skip(-(table.position - offset) % 8)
    return tuple(found)


def _snapshot(table: _Table) -> InternalSnapshot | None:
    entry = table.take(f.SNAPSHOT.size)
    if entry is None:
        return None
    _, _, id_size, name_size, seconds, nanoseconds, clock, state_size, extra_size = f.SNAPSHOT.unpack(entry)
    extra = table.take(min(extra_size, f.SNAPSHOT_EXTRA.size))
    table.skip(max(0, extra_size - f.SNAPSHOT_EXTRA.size))
    names = table.take(id_size + name_size)
    if extra is None or names is None:
        return None
    disk_size = None
    if extra_size >= 8:
        state_size = int.from_bytes(extra[:8])
    if extra_size >= 16:
        disk_size = int.from_bytes(extra[8:])
    return InternalSnapshot(
        id=_text(names[:id_size]),
        name=_text(names[id_size:]),
        created=_EPOCH + timedelta(seconds=seconds, microseconds=nanoseconds // 1000),
        vm_state_size=state_size,
        vm_clock=clock,
        virtual_size=disk_size,
    )


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode(errors="backslashreplace")
