"""The core on which an embedded libvirt is loaded: always the same one.

libvirt keeps what it found out about QEMU, and believes it later if all that CPUID says is the same. On some processors
that includes the number of the core that is asked: leaf 0x1f of Intel's, which libvirt 9.0 compares as it is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

__all__ = ["on_first_core"]


@contextlib.contextmanager
def on_first_core() -> Iterator[None]:
    """Let this thread, in which libvirt is loaded, run on the first core that it may use."""
    threads = set(os.listdir("/proc/self/task"))
    allowed = os.sched_getaffinity(0)
    first = {min(allowed)}
    try:
        os.sched_setaffinity(0, first)
    except OSError:  # not permitted: then libvirt may ask QEMU again
        yield
        return
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
        for thread in set(os.listdir("/proc/self/task")) - threads:  # they inherit it
            with contextlib.suppress(OSError):
                if os.sched_getaffinity(int(thread)) == first:
                    os.sched_setaffinity(int(thread), allowed)
