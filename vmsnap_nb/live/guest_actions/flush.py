"""What QEMU and the kernel hold of the images of a running guest gets onto the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable

from vmsnap_nb.live.handle import GuestHandle
from vmsnap_nb.system.files.errors import os_errors
from vmsnap_nb.system.libvirt.block_jobs import write_out
from vmsnap_nb.words.message import Message

__all__ = ["flush", "sync"]


def flush(guest: GuestHandle, images: Iterable[str], tried: Message, *, written: bool) -> None:
    """Have on the disk what merged layers held before they go, since a power failure may follow.

    QEMU writes the header of the overlay above, and waits for no disk. Of an image that the guest now writes to
    (`written`) it may have a part of the tables in memory, too.
    """
    # The files first, while the guest runs: what is left for the moment of its suspension is little. And QEMU does not
    # flush an image whose header it has changed but that it has open for reading only.
    here = [sync(guest, path, tried) for path in images]
    if written or not all(here):
        write_out(guest.domain, tried=tried)


def sync(guest: GuestHandle, path: str, tried: Message) -> bool:
    """Wait until a file is on the disk; return False of one that cannot be opened here: then QEMU alone does it."""
    if not guest.link.files_are_here:
        return False
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        with os_errors(tried):
            os.fsync(fd)
    finally:
        os.close(fd)
    return True
