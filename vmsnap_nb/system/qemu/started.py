"""When the QEMU of a guest was started, as the kernel has it."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

__all__ = ["started"]


def started(uuid: str) -> float | None:
    """Return when the QEMU of a guest with this UUID was started, in seconds since 1970 UTC; None if none is seen."""
    wanted = f"\0-uuid\0{uuid}\0".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if wanted in Path("/proc", pid, "cmdline").read_bytes():
                ticks = int(Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[19])
                age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
                return time.time() - age
    return None
