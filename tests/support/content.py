"""What disks hold, read without this package; and on what images stand."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

import vmsnap_nb as vs
from support.commands import qemu_img, run


def content(path: Path | str, format: str = "qcow2", *, snapshot: str | None = None, size: int | None = None) -> str:
    """Read a whole disk, and give its length and checksum."""
    found = content_or_refusal(path, format, snapshot=snapshot, size=size)
    assert not found.startswith("refused"), found  # two refusals would pass for the same content
    return found


def content_or_refusal(
    path: Path | str, format: str = "qcow2", *, snapshot: str | None = None, size: int | None = None
) -> str:
    """Read a whole disk, and give its length and checksum; or what qemu-img says where it refuses."""
    name = hashlib.sha1(str(path).encode(errors="surrogateescape")).hexdigest()
    raw = Path(f"/dev/shm/vmsnap-test-{os.getpid()}-{name}")  # hosts have files of the same paths
    argv = ["qemu-img", "convert", "-f", format, "-O", "raw"]
    if snapshot is not None:
        argv += ["-l", snapshot]
    try:
        done = run(*argv, str(path), str(raw), check=False)
        deadline = time.monotonic() + 5
        while '" lock' in done.stderr and time.monotonic() < deadline:
            time.sleep(0.1)  # a QEMU that was killed: the kernel has not yet let go of all that it had
            done = run(*argv, str(path), str(raw), check=False)
        if done.returncode != 0:
            return f"refused: {done.stderr.strip()}"
        return _checksum(raw, size)
    finally:
        raw.unlink(missing_ok=True)


def _checksum(raw: Path, size: int | None) -> str:
    """Read a sparse file, of which most can be holes: blocks of nothing but zeros count by their place alone."""
    block = 64 << 10
    digest = hashlib.sha1()
    with raw.open("rb") as file:
        end = min(os.fstat(file.fileno()).st_size, sys.maxsize if size is None else size)
        at = 0
        while at < end:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) // block * block
            except OSError:  # ENXIO: nothing but holes
                break
            data = os.pread(file.fileno(), min(block, end - at), at)
            if data.strip(b"\0"):
                digest.update(at.to_bytes(8) + data)
            at += block
    return f"{end} {digest.hexdigest()}"


def region(path: Path | str, format: str = "qcow2", *, start: str = "128k", length: str = "64k") -> str:
    """Return the checksum of a part of a disk, without reading all of it."""
    done = run("qemu-io", "-r", "-f", format, "-c", f"read -v {start} {length}", str(path), check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if re.match(r"[0-9a-f]{8}:", line)]
    assert lines, done.stdout
    return hashlib.sha1("\n".join(lines).encode()).hexdigest()


def chain_of(path: Path) -> list[str]:
    """Return the names of the images of a chain, as this package reads it, the base first."""
    return [image.name for image in vs.chain(path)]


def backing(path: Path) -> str | None:
    """Read what an image has as the name of its backing file."""
    return json.loads(qemu_img("info", "--output=json", path)).get("backing-filename")
