"""Block devices: which one a name leads to, how large it is, and how QEMU is told of it."""

from __future__ import annotations

import os
import stat

from vmsnap_nb.model.identity import Identity

__all__ = ["device_size", "identity_of", "is_device", "is_writable_device", "protocol_of"]

_SECTOR = 512


def identity_of(status: os.stat_result) -> Identity:
    """Return where a file lies, or which device it is, by whatever node it is reached."""
    if stat.S_ISBLK(status.st_mode):
        return ("device", status.st_rdev)
    return (status.st_dev, status.st_ino)


def is_device(path: str) -> bool:
    """Return whether a path leads to a block device, without opening it."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def device_size(status: os.stat_result) -> int | None:
    """Return the bytes of a block device that is not opened for that; None where the system does not tell."""
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    try:
        with open(f"/sys/dev/block/{number}/size", encoding="ascii") as file:
            return int(file.read()) * _SECTOR
    except (OSError, ValueError):
        return None


def is_writable_device(status: os.stat_result) -> bool:
    """Return whether a block device is not set to be read only."""
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    try:
        with open(f"/sys/dev/block/{number}/ro", encoding="ascii") as file:
            return file.read().strip() != "1"
    except OSError:
        return True


def protocol_of(path: str) -> str:
    """Return the name of the driver with which QEMU opens a local path."""
    return "host_device" if is_device(path) else "file"
