"""Which paths are of the kernel's own file systems, by their letters."""

from __future__ import annotations

__all__ = ["is_kernel_path"]

_KERNEL = ("/proc/", "/sys/", "/dev/")
_FILES = "/dev/shm/"  # noqa: S108 - nothing is made there: it is a file system in memory, with files like any other


def is_kernel_path(path: str) -> bool:
    """Return whether a path is /proc, /sys or /dev, or below: what is there is no file, and lost with a restart.

    Examples
    --------
    >>> [is_kernel_path(path) for path in ("/dev/vg/disk", "/dev/shm/disk.qcow2", "/device")]
    [True, False, False]
    """
    return f"{path}/".startswith(_KERNEL) and not f"{path}/".startswith(_FILES)
