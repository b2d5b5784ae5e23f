"""File systems that are soon full: real ones, in memory, which root may mount, or a user with sudo."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of this size (as ``512k``) in a folder, which is made if it is not there."""
    folder.mkdir(exist_ok=True)
    own = f"uid={os.getuid()},gid={os.getgid()},mode=755"
    as_root("mount", "-t", "tmpfs", "-o", f"size={size},{own}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        as_root("umount", str(folder))


def fill_up(folder: Path) -> None:
    """Leave no room on it."""
    fd = os.open(folder / "full", os.O_WRONLY | os.O_CREAT)
    try:
        with contextlib.suppress(OSError):
            while True:
                os.write(fd, bytes(4096))
    finally:
        os.close(fd)


def resize(folder: Path, size: str) -> None:
    """Give it another size."""
    as_root("mount", "-o", f"remount,size={size}", str(folder))


def as_root(*argv: str) -> None:
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    try:
        done = subprocess.run([*sudo, *argv], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.fail("sudo is not installed: tests of full disks mount small ones, which takes root or sudo")
    if done.returncode:
        pytest.fail(f"{' '.join(argv)}: {done.stderr.strip()}; tests of full disks take root, or sudo without asking")
