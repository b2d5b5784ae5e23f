"""Control of the library that makes calls fail, or ends processes, at the N-th call (`inject.c`)."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import subprocess
from pathlib import Path

__all__ = ["ERRORS", "KINDS", "ROLES", "STRIKES", "Injector"]

KINDS = ("write", "sync", "rename", "link", "unlink", "length", "create", "mode", "monitor")
"""Kinds of calls, in the order of their bits."""
ROLES = {"us": 1, "tool": 2, "qemu": 4}
"""Who makes a call: the process that runs the plan, a program that it or libvirt has started, or the guest's QEMU."""
STRIKES = {
    "fail": 1,
    "from": 2,  # that call, and all after it
    "kill-us": 4,
    "kill-caller": 8,
    "kill-qemu": 16,
    "stop-us": 32,
    "power": 64,
    "read-only": 128,
    "after": 256,
}
ERRORS = {"eio": errno.EIO, "enospc": errno.ENOSPC, "erofs": errno.EROFS}


class _Control(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("armed", "action", "error", "kinds", "roles", "us", "qemu")),
        *((name, ctypes.c_int64) for name in ("at", "count")),
        *((name, ctypes.c_int32) for name in ("hits", "logged")),
        ("folder", ctypes.c_char * 256),
        ("what", ctypes.c_char * 512),
        ("log", ctypes.c_char * (1 << 20)),
    ]


class Injector:
    """The library in a folder, compiled there when it is used for the first time, and what it is told.

    Parameters
    ----------
    folder : Path
        Another one for each that works at the same time.
    """

    def __init__(self, folder: Path) -> None:
        self.library = folder / "inject.so"
        control = Path(f"{self.library}.control")
        if not self.library.exists():
            with open(control, "wb") as file:
                file.truncate(ctypes.sizeof(_Control))
            source = Path(__file__).with_name("inject.c")
            argv = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(self.library), str(source), "-ldl"]
            subprocess.run(argv, check=True)
        with open(control, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), ctypes.sizeof(_Control))
        self._control = _Control.from_buffer(self._map)

    def arm(
        self,
        folder: Path,
        *,
        at: int = 0,
        action: int = 0,
        error: int = 0,
        kinds: int,
        roles: int,
        us: int = 0,
        qemu: int = 0,
    ) -> None:
        """Count from now on the calls of these kinds and processes below a folder; strike at one, unless that is 0."""
        control = self._control
        control.armed = 0
        control.action, control.error, control.kinds, control.roles = action, error, kinds, roles
        control.us, control.qemu, control.at = us, qemu, at
        control.count = control.hits = control.logged = 0
        control.folder, control.what = os.fsencode(folder), b""
        ctypes.memset(self._log, 0, 1 << 12)
        control.armed = 1

    @property
    def _log(self) -> int:
        return ctypes.addressof(self._control) + _Control.log.offset

    def note(self, what: str) -> None:
        """Have it count as a hit that something happened which is no call."""
        self._control.hits, self._control.what = 1, os.fsencode(what)

    def disarm(self) -> None:
        """Let all calls be as they are."""
        self._control.armed = 0

    def forget(self) -> None:
        """Forget what there was."""
        self._control.hits, self._control.what = 0, b""

    @property
    def count(self) -> int:
        """How many calls there were."""
        return int(self._control.count)

    @property
    def us(self) -> int:
        """The process that runs the plan."""
        return int(self._control.us)

    @property
    def hit(self) -> str:
        """At which call it struck, or empty."""
        return os.fsdecode(self._control.what) or ("?" if self._control.hits else "")

    @property
    def calls(self) -> str:
        """The calls around the one at which it struck, or all if it was only to count."""
        start = _Control.log.offset
        return self._map[start : start + min(self._control.logged, 1 << 20)].decode(errors="replace")
