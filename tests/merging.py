"""Real images for tests of merges, and their content read without this package."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

MIB = 1 << 20


def run(*argv: str, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, check=check, capture_output=True, text=True, cwd=cwd)


def create(
    path: Path,
    backing: str | Path | None = None,
    *,
    size: int | None = None,
    backing_format: str = "qcow2",
    options: Iterable[str] = (),
) -> Path:
    argv = ["qemu-img", "create", "-q", "-f", "qcow2"]
    for option in options:
        argv += ["-o", option]
    if backing is not None:
        argv += ["-F", backing_format, "-b", str(backing)]
    argv += ["--", str(path)]
    if size is not None:
        argv.append(str(size))
    run(*argv)
    return path


def write(path: Path, *commands: str, format: str = "qcow2") -> None:
    """Run commands of qemu-io, without waiting for the disk."""
    argv = ["qemu-io", "-t", "unsafe", "-f", format]
    for command in commands:
        argv += ["-c", command]
    done = run(*argv, str(path), check=False)
    assert done.returncode == 0, (commands, done.stdout, done.stderr)
    assert "failed" not in done.stdout, done.stdout


def handout_chain(folder: Path, layers: int = 4, size: int = 16 * MIB) -> list[Path]:
    """Make RootBase and Snap-1 … Snap-n. Each writes 1 MiB that the next one writes over in part, and 64 KiB alone."""
    paths = [create(folder / "RootBase.qcow2", size=size)]
    write(paths[0], "write -q -P 100 0 8M")
    for number in range(1, layers + 1):
        paths.append(create(folder / f"Snap-{number}.qcow2", paths[-1].name))
        write(
            paths[-1],
            f"write -q -P {number} {number * 512}k 1M",
            f"write -q -P {number} {8192 + number * 64}k 64k",
            f"write -q -z {number * 64}k 64k",
        )
    return paths


def content(path: Path | str, format: str = "qcow2", *, snapshot: str | None = None, size: int | None = None) -> str:
    """Read a whole disk, and give its length and checksum; or what qemu-img says where it refuses."""
    raw = Path(f"/dev/shm/vmsnap-test-{hashlib.sha1(str(path).encode(errors='surrogateescape')).hexdigest()}")
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


def shell(commands: Iterable[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Paste commands into a shell."""
    return run("sh", "-ec", "\n".join(commands), cwd=cwd, check=False)


def region(path: Path | str, format: str = "qcow2", *, start: str = "128k", length: str = "64k") -> str:
    """Give the checksum of a part of a disk, without reading all of it."""
    done = run("qemu-io", "-r", "-f", format, "-c", f"read -v {start} {length}", str(path), check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if re.match(r"[0-9a-f]{8}:", line)]
    assert lines, done.stdout
    return hashlib.sha1("\n".join(lines).encode()).hexdigest()
