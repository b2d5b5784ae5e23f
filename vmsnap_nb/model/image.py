"""One image file: what its header says, and what state it was found in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

from vmsnap_nb.errors import InvalidRequestError
from vmsnap_nb.model.base_record import BaseRecord
from vmsnap_nb.model.fast_build import FastBuild
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.model.image_check import ImageCheck
from vmsnap_nb.model.reference import Reference
from vmsnap_nb.model.shown import Carded
from vmsnap_nb.model.size import human_size
from vmsnap_nb.words.message import N_, NOTHING, Message, t
from vmsnap_nb.words.states import state_words

if TYPE_CHECKING:
    import os

    from vmsnap_nb.model.files import Files

__all__ = [
    "MOST_BYTES",
    "NOT_READ",
    "NO_FILE",
    "OPENABLE",
    "Bitmap",
    "Image",
    "InternalSnapshot",
    "KnownFrom",
    "Status",
    "found_beyond",
    "reason",
    "register_check",
    "register_files",
]

Status = Literal[
    "ok",
    "missing",  # something refers to it, and there is no such file
    "unreadable",  # no permission, or an input/output error
    "not-a-file",  # a folder, FIFO, socket or device
    "corrupt",  # truncated, or a field that cannot be
    "unsupported",  # it needs features of its format that are not known here, and QEMU refuses those it does not know
    "unknown",  # none of the formats known here, and nobody says that it is raw
    "outside",  # outside the folders that were to be read: not opened
    "remote",  # at a network address: not opened
    "loop",  # it is based on itself (only a Forest can tell)
    "invalid",  # it was merged into another image, and marked so that QEMU refuses it
    "in-use",  # a process holds it for writing, and no known guest accounts for that (only a Forest can tell)
    "dirty",  # it was not closed properly: QEMU repairs it when it is next opened for writing (only a Forest can tell)
]
"""What an image was found to be; all but "ok" come with a sentence in `Image.problem`."""

OPENABLE: frozenset[Status] = frozenset({"ok", "in-use", "dirty"})
"""With these QEMU opens an image, if no other process keeps it from that."""

NO_FILE = N_("the file does not exist")
"""What was found where there is nothing."""

MOST_BYTES = 2**63 - 1
"""The largest size that QEMU can deal with."""

KnownFrom = Literal[
    "file",  # it was looked at by this process
    "volume data",  # its first bytes, which libvirt has read out of a volume of a storage pool
    "volume",  # what libvirt says of a volume
    "definition",  # what libvirt says of the disks of a guest
    "worker",  # a process on its own machine has looked at it
]
"""Where what is known of an image comes from; all but "file" and "worker" is what libvirt says."""

NOT_READ: frozenset[Status] = frozenset({"unreadable", "outside", "remote"})
"""Of an image of these nobody here knows what it holds, or whether it is there at all."""


@dataclass(frozen=True)
class InternalSnapshot(FastBuild, Carded):
    """One entry of a qcow2 image's snapshot table (QEMU, docs/interop/qcow2.rst, "Snapshots").

    Attributes
    ----------
    id : str
        The ID, which `qemu-img info` shows in the column ID.
    name : str
        The name, which `qemu-img info` shows in the column TAG.
    created : datetime.datetime or None
        The time of the snapshot, in UTC.
    vm_state_size : int
        The size of the memory and device state, in bytes; 0 for a snapshot of the disk alone.
    vm_clock : int
        The time that the guest had run, in nanoseconds.
    virtual_size : int or None
        The size of the disk at that time, in bytes; None if the entry does not record it (qcow2 version 2).
    """

    id: str
    name: str
    created: datetime | None = None
    vm_state_size: int = 0
    vm_clock: int = 0
    virtual_size: int | None = None


@dataclass(frozen=True)
class Bitmap(FastBuild, Carded):
    """A persistent dirty bitmap of a qcow2 image: it records the parts of the disk that were written since the bitmap
    was created.

    Incremental backups copy only the recorded parts. A libvirt checkpoint is a bitmap with the same name in each disk's
    images.

    Attributes
    ----------
    name : str
        The name of the bitmap.
    granularity : int
        The number of bytes of the disk for each bit.
    flags : tuple of str
        The flags, as `qemu-img info` shows them: ``auto`` if the bitmap records writes, and ``in-use`` if it was not
        saved when QEMU exited, so that it misses writes.
    size : int
        The maximum number of bytes that the bitmap takes in the file, including its table.
    """

    name: str
    granularity: int
    flags: tuple[str, ...] = ()
    size: int = 0

    @property
    def recording(self) -> bool:
        """Whether QEMU records writes to the image in this bitmap."""
        return "auto" in self.flags

    @property
    def consistent(self) -> bool:
        """Whether the bitmap records all writes, because it was saved when the image was closed."""
        return "in-use" not in self.flags


@dataclass(frozen=True)
class Image(FastBuild, Carded):
    """An image file.

    Attributes
    ----------
    path : str
        The absolute path with which QEMU would open the image (symbolic links are not resolved), or the address of a
        remote image.
    format : str or None
        QEMU's name for the format: ``qcow2``, ``raw``, ``vmdk``, …; None if unknown.
    status : str
        A value of `Status`.
    problem : str
        A description of the problem; empty if there is none.
    virtual_size : int or None
        The size of the disk that the guest sees, in bytes.
    allocated : int or None
        The disk space that the file takes, in bytes (``st_blocks`` × 512, as `qemu-img info` counts "disk size"). For a
        block device, the size of the device, or the end of the last cluster that a qcow2 image on it uses.
    backing : Reference or None
        The backing file that is recorded in the header.
    data_file : Reference or None
        The external data file that is recorded in the header.
    extents : tuple of Reference
        For vmdk, the other files that are listed in the descriptor.
    snapshots : tuple of InternalSnapshot
        The internal snapshots that are listed in the image's snapshot table.
    bitmaps : tuple of Bitmap
        The persistent dirty bitmaps in the file; while a guest writes to the image, all are "in-use".
    identity : tuple or None
        The identity of the image, which is the same for all its names: device and inode of a file, ``device`` and
        number of a block device, protocol, host and export of a network image; None if unknown.
    link : tuple or None
        For a file with several hard links, the name under which it was read: the device and inode of the folder, and
        the file name.
    file_size : int or None
        The length of the file, or the size of the device, in bytes.
    mtime_ns : int or None
        The time of the last modification, in nanoseconds since 1970 (UTC); None for a device.
    writable : bool
        Whether any write permission bit is set (root can write without one); for a device, whether the device is
        writable.
    device : bool
        Whether the image is on a block device; vmsnap_nb never creates, removes or write-protects block devices.
    held : str
        ``write`` or ``read`` if a process holds QEMU's lock on the image; otherwise empty.
    compat : str or None
        For qcow2, the version of the format: ``0.10`` or ``1.1``.
    cluster_size : int or None
        For qcow2, the size of a cluster, in bytes.
    refcount_bits : int or None
        For qcow2, the size of a reference count, in bits.
    compression : str or None
        For qcow2, the compression type: ``zlib`` or ``zstd``.
    encryption : str or None
        ``aes`` or ``luks`` if the content is encrypted and can be read only with a key.
    lazy_refcounts : bool
        Whether the qcow2 feature bit for lazy reference counts is set.
    extended_l2 : bool
        Whether the qcow2 feature bit for extended L2 entries is set.
    data_file_raw : bool
        Whether the qcow2 feature bit for a raw external data file is set.
    dirty : bool
        Whether the qcow2 dirty bit is set.
    corrupt : bool
        Whether the qcow2 corrupt bit is set.
    data_status : str or None
        The status of the external data file, one of `Status`; None if the image has no data file, or if the file was
        not inspected.
    known_from : str
        The source of this information, one of `KnownFrom`. Unless the source is ``file``, this process cannot open the
        image, and only libvirt can work with it.
    hidden_base : tuple or None
        For a file that an overlay records as raw, but whose content is an overlay itself: the identity of the backing
        file that is recorded in it.
    base_record : BaseRecord or None
        The state of the backing file when vmsnap_nb created the overlay; None if that state is not known.

    Examples
    --------
    >>> Image("/images/base.img", "raw", virtual_size=67108864, writable=False)
    <Image '/images/base.img': raw, 64 MiB>
    """

    path: str
    format: str | None = None
    status: Status = "ok"
    problem: str = NOTHING
    virtual_size: int | None = None
    allocated: int | None = None
    backing: Reference | None = None
    data_file: Reference | None = None
    extents: tuple[Reference, ...] = field(default=(), repr=False)
    snapshots: tuple[InternalSnapshot, ...] = ()
    bitmaps: tuple[Bitmap, ...] = ()
    identity: Identity | None = field(default=None, repr=False)
    file_size: int | None = field(default=None, repr=False)
    mtime_ns: int | None = field(default=None, repr=False)
    writable: bool = True
    device: bool = False
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
    data_status: Status | None = field(default=None, repr=False)
    known_from: KnownFrom = "file"
    link: Identity | None = field(default=None, repr=False)
    hidden_base: Identity | None = field(default=None, repr=False)
    base_record: BaseRecord | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        known = [self.format, None if self.virtual_size is None else human_size(self.virtual_size), self.status]
        told = ", ".join(part for part in known if part and part != "ok")
        based = "" if self.backing is None else f", based on {(self.backing.path or self.backing.written)!r}"
        return f"<Image {self.path!r}: {told}{based}>"

    @property
    def is_seen(self) -> bool:
        """Whether the image's header was read, so that its internal snapshots and features are known."""
        return self.status not in NOT_READ and self.known_from in {"file", "volume data", "worker"}

    @property
    def name(self) -> str:
        """The last part of the path, without ``.qcow2``, ``.img`` or ``.raw``."""
        name = self.path.rstrip("/").rpartition("/")[2] or self.path
        stem, dot, suffix = name.rpartition(".")
        return stem if dot and stem and suffix in {"qcow2", "img", "raw"} else name

    def check(self, *, timeout: float = 600.0) -> ImageCheck:
        """Check the tables of the image with `qemu-img check`; backing files are not opened, and nothing is changed.

        Parameters
        ----------
        timeout : float
            The maximum number of seconds for the check.

        Returns
        -------
        ImageCheck
            `ImageCheck.to_frame` returns it as a table.

        Raises
        ------
        ImageError
            The image was not read on this machine, is encrypted, or cannot be opened by QEMU.
        InUseError
            A guest or another process writes to it.
        CommandError
            The check took longer than `timeout`.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> vs.Lab().scenario("figure-1")["Overlay-1"].check().result
        'ok'
        """
        if not _checks:
            raise _not_read(t("check {image}", image=self.path))
        return _checks[-1](self, timeout)

    def read(self, path: str | os.PathLike[str], *, most: int = 64 << 20) -> bytes:
        """Return the content of one of the guest's files, from the disk that has this image as its top layer.

        Parameters
        ----------
        path : path
            The path in the guest; symbolic links are followed within the disk.
        most : int
            The maximum size in bytes; `copy_out` copies larger files.

        Returns
        -------
        bytes

        Raises
        ------
        InvalidRequestError
            The path is not a file, or the file is larger than `most`.
        NotFoundError
            The path does not exist.
        ImageError
            A layer cannot be read, or there is no supported file system; the error states what was found instead.
        """
        return self._files(t("read files of {image}", image=self.path)).read(self, path, most)

    def copy_out(self, path: str | os.PathLike[str], to: str | os.PathLike[str]) -> str:
        """Copy one of the guest's files to this machine, readable only by you; no existing file is overwritten.

        Parameters
        ----------
        path : path
            As in `read`.
        to : path
            The new file, or a folder; in a folder, the new file gets the name of the copied file.

        Returns
        -------
        str
            The path of the new file.

        Raises
        ------
        InvalidRequestError
            The path is not a file, or the target already exists.
        NotFoundError, ImageError
            As in `read`.
        """
        return self._files(t("copy a file of {image}", image=self.path)).copy_out(self, path, to)

    def find(self, pattern: str, *, path: str | os.PathLike[str] = "/", newer: str | datetime | None = None) -> Files:
        """Search a folder and its subfolders for files whose names match a pattern, on the disk with this image as its
        top layer.

        Parameters
        ----------
        pattern : str
            A shell pattern such as ``*.log``. The pattern is compared with the name or, if the pattern contains a
            ``/``, with the whole path.
        path : path
            The folder to search.
        newer : str or datetime, optional
            List only files that were changed after this time. A string such as ``"2026-11-29 08:00"`` is in UTC unless
            it has a time zone.

        Returns
        -------
        Files

        Raises
        ------
        NotFoundError, ImageError
            As in `read`.

        Examples
        --------
        >>> import vmsnap_nb as vs
        >>> [entry.path for entry in vs.Lab().base("RootBase").find("alpine-release")]
        ['/etc/alpine-release']
        """
        return self._files(t("find files in {image}", image=self.path)).find(self, pattern, path, newer)

    def _files(self, tried: Message) -> FileVerbs:
        if not _file_verbs:
            raise _not_read(tried)
        return _file_verbs[-1]


def _not_read(tried: Message) -> InvalidRequestError:
    return InvalidRequestError(
        tried,
        why=t("it was not read from a file"),
        next_step=t("read it with vmsnap_nb.chain(path) or vmsnap_nb.scan(folder)"),
    )


def reason(image: Image, status: Status | None = None) -> str:
    """Return in words why an image cannot be used, or was not read: what was found, or else its status."""
    return image.problem or state_words(status or image.status)


def found_beyond(image: Image) -> str:
    """Return what was found about an image that its status does not say; empty where a file simply is not there."""
    problem = image.problem
    is_plain = NO_FILE in (problem, getattr(problem, "template", ""))
    return "" if image.status == "missing" and is_plain else problem


class FileVerbs(Protocol):
    """What reads files of an image: the layer that reads images, which this one does not know."""

    def read(self, image: Image, path: str | os.PathLike[str], most: int) -> bytes:
        """Return the content of a file."""

    def copy_out(self, image: Image, path: str | os.PathLike[str], to: str | os.PathLike[str]) -> str:
        """Copy a file to this machine."""

    def find(self, image: Image, pattern: str, path: str | os.PathLike[str], newer: str | datetime | None) -> Files:
        """Return files by their names."""


_file_verbs: list[FileVerbs] = []


def register_files(verbs: FileVerbs) -> None:
    """Say what performs `Image.read`, `Image.copy_out` and `Image.find`."""
    _file_verbs[:] = [verbs]


_checks: list[Callable[[Image, float], ImageCheck]] = []


def register_check(check: Callable[[Image, float], ImageCheck]) -> None:
    """Say what performs `Image.check`: the layer that reads images, which this one does not know."""
    _checks[:] = [check]
