"""Block devices for tests: loop devices, each on a sparse file that is not below the folder that a test reads."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.images import MIB

MakeDevice = Callable[..., Path]


@pytest.fixture
def device() -> Iterator[MakeDevice]:
    """Return a function that makes a block device of a size, with a partition if that is wanted."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vmsnap-devices-"))

        def make(size: int = 32 * MIB, *, readonly: bool = False, partition: bool = False) -> Path:
            fd, file = tempfile.mkstemp(dir=folder)
            os.truncate(fd, size)
            if partition:  # a table with one, from 1 MiB to the end
                entry = struct.pack("<8BII", 0, 0, 2, 0, 0x83, 0, 0, 0, MIB // 512, (size - MIB) // 512)
                os.pwrite(fd, entry, 446)
                os.pwrite(fd, b"\x55\xaa", 510)
            os.close(fd)
            argv = ["losetup", "--find", "--show", *(["--read-only"] if readonly else []), file]
            path = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
            stack.callback(subprocess.run, ["losetup", "--detach", path], check=True)
            if partition:  # a kernel may know none of the tables
                subprocess.run(["partx", "--add", "--nr", "1", path], check=True)
                stack.callback(subprocess.run, ["partx", "--delete", "--nr", "1", path], check=True)
                if not os.path.exists(f"{path}p1"):
                    pytest.skip("the system makes no nodes of partitions of loop devices")
            return Path(path)

        yield make


def block_disk(path: object, target: str = "vda", format: str = "qcow2") -> str:
    """Return the XML of a disk that is a block device."""
    return (
        f"<disk type='block' device='disk'><driver name='qemu' type='{format}'/><source dev='{path}'/>"
        f"<target dev='{target}' bus='virtio'/></disk>"
    )
