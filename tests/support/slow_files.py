"""A file system that is slow to open files, as one on a network is: a folder of this machine, seen through FUSE.

It is a process of its own (``python -m support.slow_files FOLDER MOUNT SECONDS``) that ends when it is unmounted.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mfusepy

from support import TESTS

__all__ = ["is_possible", "slow_files"]

_TIMES = ("st_atime", "st_ctime", "st_mtime")
_FIELDS = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks")


class _Slow(mfusepy.Operations):
    use_ns = True

    def __init__(self, folder: str, seconds: float) -> None:
        self._folder, self._seconds = folder, seconds

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        found = os.lstat(self._folder + path)
        return {name: getattr(found, name) for name in _FIELDS} | {
            name: getattr(found, f"{name}_ns") for name in _TIMES
        }

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._folder + path)]

    def open(self, path: str, flags: int) -> int:
        time.sleep(self._seconds)
        return os.open(self._folder + path, os.O_RDONLY)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0


def is_possible() -> bool:
    """Return whether this user may mount a file system of FUSE here."""
    return os.geteuid() == 0 and os.access("/dev/fuse", os.R_OK | os.W_OK)


@contextlib.contextmanager
def slow_files(folder: Path, mount: Path, seconds: float) -> Iterator[Path]:
    """Show a folder at another place, where each `open` takes so long; reading and listing take what FUSE takes."""
    mount.mkdir()
    words = [sys.executable, "-m", "support.slow_files", str(folder), str(mount), str(seconds)]
    process = subprocess.Popen(words, cwd=TESTS, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not os.path.ismount(mount):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=False)
        process.kill()
        process.wait()


if __name__ == "__main__":
    slow = _Slow(sys.argv[1], float(sys.argv[3]))
    mfusepy.FUSE(slow, sys.argv[2], foreground=True, ro=True, attr_timeout=60, kernel_cache=True)
