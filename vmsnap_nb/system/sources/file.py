"""Files and block devices of this machine as sources: opened once, without a lock, and never by a link."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator

from vmsnap_nb.errors import ImageError, StalePlanError
from vmsnap_nb.model.identity import Identity
from vmsnap_nb.system.files.devices import identity_of
from vmsnap_nb.system.files.errors import from_os_error
from vmsnap_nb.system.files.taken import bytes_on_disk
from vmsnap_nb.system.sources.source import Source
from vmsnap_nb.words.message import t

__all__ = ["FileSource"]

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW
_FRESH = 20_000_000
"""Nanoseconds. The clock of file systems goes in steps of up to 10 ms, in which a second change does not show."""


def _open(path: str) -> int:
    try:
        return os.open(path, _FLAGS)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    return os.open(os.path.realpath(path), _FLAGS)


class FileSource(Source):
    """One regular file, or one block device: whatever its names mean later, it stays the same one.

    `path` may be a symbolic link, which is resolved once. With an `identity` it is an error if the path leads to
    another file than that one, and `devices` allows block devices. With `fd` it is open already, and the path is only
    what messages call it.
    """

    def __init__(
        self, path: str, identity: Identity | None = None, *, devices: bool = False, fd: int | None = None
    ) -> None:
        self.name = path
        self._tried = t("read {image}", image=path)
        self._fd = -1
        try:
            self._fd = _open(path) if fd is None else fd
            found = os.fstat(self._fd)
        except OSError as error:
            self.close()
            raise from_os_error(error, self._tried) from error
        self._is_device = stat.S_ISBLK(found.st_mode)
        try:
            if not (stat.S_ISREG(found.st_mode) or (devices and self._is_device)):
                raise ImageError(self._tried, why=t("it is not a regular file"), next_step=t("check the path"))
            if identity is not None and identity != identity_of(found):
                raise StalePlanError(
                    self._tried,
                    why=t("it was replaced by another file after it was inspected"),
                    next_step=t("read the images again"),
                )
            self._device_size = os.lseek(self._fd, 0, os.SEEK_END) if self._is_device else 0
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return its descriptor, to be handed to a process of ours."""
        return self._fd

    @property
    def size(self) -> int:
        """Bytes that there are now."""
        return self._device_size if self._is_device else self._status().st_size

    @property
    def allocated(self) -> int | None:
        """Bytes that the file takes on its file system."""
        return None if self._is_device else bytes_on_disk(self._status())

    def pread(self, offset: int, length: int) -> bytes:
        """Return the bytes at an offset, fewer only where the file ends."""
        try:
            found = os.pread(self._fd, length, offset)
            if 0 < len(found) < length:  # the kernel reads 2 GiB at most, and network file systems may give less
                buffer = bytearray(length)
                buffer[: len(found)] = found
                more = self._fill(offset + len(found), memoryview(buffer)[len(found) :])
                return bytes(buffer[: len(found) + more])
        except OSError as error:
            raise from_os_error(error, self._tried) from error
        return found

    def pread_into(self, offset: int, buffer: memoryview) -> int:
        """Read into a buffer; return how many bytes there were."""
        try:
            return self._fill(offset, buffer)
        except OSError as error:
            raise from_os_error(error, self._tried) from error

    def _fill(self, offset: int, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer):
            count = os.preadv(self._fd, [buffer[done:]], offset + done)
            if not count:
                break
            done += count
        return done

    def data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Return the parts of a range that are not holes of the file."""
        place = start
        while place < end:
            try:
                begin = os.lseek(self._fd, place, os.SEEK_DATA)
                if begin >= end:
                    return
                stop = min(os.lseek(self._fd, begin, os.SEEK_HOLE), end)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole up to the end of the file
                    return
                if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # where nobody tells, anything may be there
                    yield place, end
                    return
                raise from_os_error(error, self._tried) from error
            yield begin, stop
            place = stop

    def stamp(self) -> object | None:
        """Return what changes with the file, or None while a change could go unseen: it was written to just now."""
        if self._is_device:
            return None
        found = self._status()
        last = max(found.st_mtime_ns, found.st_ctime_ns)
        return None if time.time_ns() - last < _FRESH else (found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def _status(self) -> os.stat_result:
        try:
            return os.fstat(self._fd)
        except OSError as error:
            raise from_os_error(error, self._tried) from error

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
