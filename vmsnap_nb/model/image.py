"""One image file: what its header says, and what state it was found in."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Literal

from vmsnap_nb.model.built import Built
from vmsnap_nb.model.reference import Reference

__all__ = ["Identity", "Image", "InternalSnapshot", "Status"]

Status = Literal[
    "ok",
    "missing",  # something refers to it, and there is no such file
    "unreadable",  # no permission, or an input/output error
    "not-a-file",  # a folder, FIFO, socket or device
    "corrupt",  # truncated, or a field that cannot be
    "unknown",  # none of the formats known here, and nobody says that it is raw
    "outside",  # outside the folders that were to be read: not opened
    "remote",  # at a network address: not opened
    "loop",  # it stands on itself (only a Forest can tell)
    "invalid",  # it was merged into another image, and marked so that QEMU refuses it
    "in-use",  # a process holds it for writing, and no known guest accounts for that
]
"""What an image was found to be; all but "ok" come with a sentence in `Image.problem`."""

Identity = tuple[int, int]
"""Device and inode: the same for all names of one file."""


@dataclass(frozen=True)
class InternalSnapshot(Built):
    """One entry of a qcow2 image's snapshot table.

    Attributes
    ----------
    id, name : str
        `qemu-img info` shows them as ID and TAG.
    created : datetime.datetime or None
        UTC.
    vm_state_size : int
        Bytes of RAM and device state; 0 for a disk-only snapshot.
    vm_clock : int
        Nanoseconds that the guest had run.
    virtual_size : int or None
        Size of the disk in bytes when it was taken; None where the entry does not tell (version 2).

    Notes
    -----
    Source: QEMU, docs/interop/qcow2.rst, "Snapshots".
    """

    id: str
    name: str
    created: datetime | None = None
    vm_state_size: int = 0
    vm_clock: int = 0
    virtual_size: int | None = None


@dataclass(frozen=True)
class Image(Built):
    """One image file.

    Attributes
    ----------
    path : str
        Absolute path as QEMU would open it (symbolic links are not resolved), or the address of a remote image.
    format : str or None
        QEMU's name of the format: ``qcow2``, ``raw``, ``vmdk``, …; None where it is not known.
    status : str
        One of `Status`.
    problem : str
        A sentence on anything that is not as it should be, or empty.
    virtual_size : int or None
        What the guest sees, in bytes.
    allocated : int or None
        What the file takes on disk, in bytes (``st_blocks`` × 512, as `qemu-img info` counts "disk size").
    backing : Reference or None
        The backing file that the header names.
    data_file : Reference or None
        The external data file that the header names.
    snapshots : tuple of InternalSnapshot
        The snapshot table.
    identity : tuple of int or None
        Device and inode.
    file_size : int or None
        Length of the file in bytes.
    mtime_ns : int or None
        Last modification, nanoseconds since 1970 UTC.
    writable : bool
        Whether any write permission bit is set (root could write even without).
    held : str
        ``write`` or ``read`` where a process has locked it in QEMU's way, or empty.
    compat : str or None
        qcow2: ``0.10`` or ``1.1``.
    cluster_size, refcount_bits : int or None
        qcow2: bytes; bits.
    compression : str or None
        qcow2: ``zlib`` or ``zstd``.
    encryption : str or None
        qcow2: ``aes`` or ``luks``.
    lazy_refcounts, extended_l2, data_file_raw, dirty, corrupt : bool
        qcow2 feature bits.

    Examples
    --------
    >>> Image("/images/base.img", "raw", virtual_size=67108864, writable=False)
    Image(path='/images/base.img', format='raw', virtual_size=67108864, writable=False)
    """

    path: str
    format: str | None = None
    status: Status = "ok"
    problem: str = ""
    virtual_size: int | None = None
    allocated: int | None = None
    backing: Reference | None = None
    data_file: Reference | None = None
    snapshots: tuple[InternalSnapshot, ...] = ()
    identity: Identity | None = field(default=None, repr=False)
    file_size: int | None = field(default=None, repr=False)
    mtime_ns: int | None = field(default=None, repr=False)
    writable: bool = True
    held: Literal["", "read", "write"] = ""
    compat: str | None = None
    cluster_size: int | None = None
    refcount_bits: int | None = None
    compression: str | None = None
    encryption: str | None = None
    lazy_refcounts: bool = False
    extended_l2: bool = False
    data_file_raw: bool = False
    dirty: bool = False
    corrupt: bool = False

    def __repr__(self) -> str:
        """Name what is known and not as usual: of 24 fields most are neither."""
        told = ((f.name, getattr(self, f.name)) for f in fields(self) if f.repr and getattr(self, f.name) != f.default)
        return f"Image({', '.join(f'{name}={value!r}' for name, value in told)})"

    @property
    def name(self) -> str:
        """The last part of the path, without ``.qcow2``, ``.img`` or ``.raw``."""
        name = self.path.rstrip("/").rpartition("/")[2] or self.path
        stem, dot, suffix = name.rpartition(".")
        return stem if dot and stem and suffix in {"qcow2", "img", "raw"} else name
