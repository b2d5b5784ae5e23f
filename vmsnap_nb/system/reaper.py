"""Collects the QEMUs that an embedded libvirt leaves without a parent, once they have ended.

libvirt starts a QEMU so that it outlives this process; the system's process 1 becomes its parent, and has to take note
of its end (waitpid(2)), for which libvirt waits. In a container process 1 is often the notebook's own server or a
script, which never looks, and libvirt gives up after 80 seconds, at the end of every guest. So this process becomes the
parent of what is left behind below it, as prctl(2) has it under ``PR_SET_CHILD_SUBREAPER``, and takes note itself. When
it ends first, its QEMUs go on, with process 1 as their parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Iterator

__all__ = ["collect_orphans"]

_PR_SET_CHILD_SUBREAPER = 36
_PF_FORKNOEXEC = 0x40
"""Of the kernel's include/linux/sched.h: copied from its parent, and no program of its own begun since."""
_SESSION, _FLAGS = 3, 6
"""Fields of ``/proc/PID/stat`` after the name in parentheses; see proc(5)."""
_SHORTEST, _LONGEST = 0.02, 0.5
"""Seconds between two looks, while there is a child that has ended and that somebody else has to collect."""
_NO_CHILD = 0.2
"""Seconds until it is seen that the first child is there."""

_lock = threading.Lock()
_begun = False


def collect_orphans() -> None:
    """Collect, from now on, the processes that are left behind below this one; ask as often as you like.

    Where the system has no such thing as a subreaper, process 1 remains the one to do it.
    """
    global _begun  # noqa: PLW0603 - one for the whole process, as the setting is
    with _lock:
        if _begun or ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            return
        _begun = True
        threading.Thread(target=_collect, name="orphans", daemon=True).start()


def _collect() -> None:
    pause = _SHORTEST
    while True:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # until any child has ended; it is only looked at
        except ChildProcessError:
            time.sleep(_NO_CHILD)
            continue
        ended = list(_ended_orphans())
        for pid in ended:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        pause = _SHORTEST if ended else min(2 * pause, _LONGEST)
        time.sleep(pause)


def _ended_orphans() -> Iterator[int]:
    """Return the children that have ended and whose parent was another process before.

    A child of our own is in our session, or at the head of one that it has begun. What stands below a head that is
    not ours was begun by a process that is gone; and a head that calls itself QEMU without having been started as that
    was begun by a QEMU that makes itself a daemon. Whoever starts a child of this process waits for it, and must find
    it: libvirt, for one, starts many, and a notebook that calls QEMU's programs starts others.
    """
    ours = os.getsid(0)
    for thread in _listed("/proc/self/task"):
        for child in map(int, _read(f"/proc/self/task/{thread}/children").split()):
            name, _, rest = _read(f"/proc/{child}/stat").partition("(")[2].rpartition(")")
            fields = rest.split()
            if fields[:1] != ["Z"]:
                continue
            session, flags = int(fields[_SESSION]), int(fields[_FLAGS])
            daemon = name.startswith("qemu-system") and flags & _PF_FORKNOEXEC
            if session != ours and (session != child or daemon):
                yield child


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(path: str) -> str:
    """Read a file of the kernel; a process can be gone by then."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
