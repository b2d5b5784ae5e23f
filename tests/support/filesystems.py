"""Disks with real file systems, made without mounting anything: by the tools of each, and LVM's labels by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from support.commands import qemu_img, run
from support.images import KIB, MIB, create

SBIN = "/usr/sbin:/sbin:" + os.environ["PATH"]
EXTENT = 4 * MIB
"""Of a volume group."""


def tool(*argv: object, input: bytes | None = None) -> bytes:
    """Run a tool of a file system."""
    words = [str(word) for word in argv]
    done = subprocess.run(words, input=input, capture_output=True, env={**os.environ, "PATH": SBIN}, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


# -- file systems ------------------------------------------------------------------------------------------------


def ext4(path: Path, tree: Path | None = None, *options: str, size: int = 16 * MIB) -> Path:
    """Make an ext4 file system with the content of a folder."""
    empty(path, size)
    tool("mkfs.ext4", "-q", "-F", *options, *(() if tree is None else ("-d", tree)), path)
    return path


def xfs(path: Path, tree: str, *options: str, size: int = 320 * MIB) -> Path:
    """Make an XFS file system of what a protofile describes (mkfs.xfs, option ``-p``)."""
    empty(path, size)
    proto = path.with_suffix(".proto")
    proto.write_text(f"/dev/null\n0 0\nd--755 0 0\n{tree}$\n")
    tool("mkfs.xfs", "-q", "-f", *options, "-p", proto, path)
    return path


def ntfs(path: Path, files: dict[str, bytes], *, size: int = 8 * MIB) -> Path:
    """Make an NTFS file system with files in its first folder."""
    empty(path, size)
    tool("mkntfs", "-F", "-Q", "-q", path)
    for name, content in files.items():
        source = path.with_suffix(".content")
        source.write_bytes(content)
        tool("ntfscp", "-q", "-f", path, source, name)
    return path


def fat(path: Path, files: dict[str, bytes], *options: str, size: int = 16 * MIB) -> Path:
    """Make a FAT file system with files; a name that ends with a slash is a folder."""
    empty(path, size)
    tool("mkfs.vfat", *options, path)
    for name, content in files.items():
        if name.endswith("/"):
            tool("mmd", "-i", path, f"::{name.rstrip('/')}")
        else:
            source = path.with_suffix(".content")
            source.write_bytes(content)
            tool("mcopy", "-i", path, source, f"::{name}")
    return path


def debugfs(path: Path, *commands: str) -> None:
    """Change an ext4 file system."""
    script = path.with_suffix(".commands")
    script.write_bytes(os.fsencode("\n".join(commands) + "\n"))
    tool("debugfs", "-w", "-f", script, path)


def empty(path: Path, size: int) -> Path:
    """Make a file of zeros."""
    with open(path, "wb") as file:
        file.truncate(size)
    return path


# -- disks of several volumes -------------------------------------------------------------------------------------


def partitioned(path: Path, label: str, parts: Sequence[Path], *, kinds: Sequence[str] = ()) -> Path:
    """Make a disk with partitions, each with what a file holds; of an MBR the fourth is extended if there are more."""
    lines, start, starts = [f"label: {label}", "unit: sectors"], 2048, []
    logical = label == "dos" and len(parts) > 3
    for number, part in enumerate(parts, 1):
        size = -(-part.stat().st_size // MIB) * 2048
        if logical and number == 4:
            rest = sum(-(-other.stat().st_size // MIB) * 2048 + 2048 for other in parts[3:])
            lines.append(f"4 : start={start}, size={rest}, type=5")
        if logical and number > 3:
            start += 2048
        kind = f", type={kinds[number - 1]}" if kinds else ""
        lines.append(f"{number + (logical and number > 3)} : start={start}, size={size}{kind}")
        starts.append(start)
        start += size
    empty(path, start * 512 + MIB)
    tool("sfdisk", "-q", path, input="\n".join(lines).encode())
    for place, part in zip(starts, parts, strict=True):
        put(path, part, place * 512)
    return path


def put(path: Path, content: Path, offset: int) -> None:
    """Write what a file holds to a place of another, but for its holes."""
    with open(content, "rb") as source, open(path, "r+b") as target:
        at = 0
        while piece := source.read(MIB):
            if piece.strip(b"\0"):
                target.seek(offset + at)
                target.write(piece)
            at += len(piece)


def checksum(data: bytes) -> int:
    """LVM's: a CRC-32 that begins with a number of its own, and is not inverted in the end."""
    return zlib.crc32(data, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def lvm(path: Path, volumes: dict[str, tuple[Path, Sequence[tuple[int, int]]]], *, kind: str = "striped") -> Path:
    """Make a physical volume of the group "cs", as pvcreate, vgcreate and lvcreate would.

    Each logical volume is what a file holds, in segments: first extent of the physical volume, and how many.
    """
    uuid, area = "Oz8uhO-sLhe-ORRr-uB1L-PKPL-Zsw0-IYFhYJ", MIB
    most = max(first + count for _, segments in volumes.values() for first, count in segments)
    empty(path, area + most * EXTENT)
    text = _group(uuid, most, {name: segments for name, (_, segments) in volumes.items()}, kind)
    areas = b"".join(
        number.to_bytes(8, "little") for number in (path.stat().st_size, area, 0, 0, 0, 4 * KIB, area - 4 * KIB, 0, 0)
    )
    body = (32).to_bytes(4, "little") + b"LVM2 001" + uuid.replace("-", "").encode() + areas
    body = body.ljust(512 - 20, b"\0")
    label = b"LABELONE" + (1).to_bytes(8, "little") + checksum(body).to_bytes(4, "little") + body
    with open(path, "r+b") as file:
        file.seek(512)
        file.write(label)
    write_group(path, text)
    for content, segments in volumes.values():
        _put_segments(path, content, segments, area)
    return path


def write_group(path: Path, text: str) -> None:
    """Write the text of a volume group into the metadata area of a physical volume."""
    content = text.encode() + b"\0"
    header = b" LVM2 x[5A%r0N*>" + (1).to_bytes(4, "little")
    header += b"".join(number.to_bytes(8, "little") for number in (4 * KIB, MIB - 4 * KIB, 512, len(content)))
    header = (header + checksum(content).to_bytes(4, "little")).ljust(508, b"\0")
    with open(path, "r+b") as file:
        file.seek(4 * KIB)
        file.write(checksum(header).to_bytes(4, "little") + header + content)


def _put_segments(path: Path, content: Path, segments: Sequence[tuple[int, int]], area: int) -> None:
    with open(content, "rb") as source, open(path, "r+b") as target:
        for first, count in segments:
            for number in range(first, first + count):
                piece = source.read(EXTENT)
                if piece.strip(b"\0"):
                    target.seek(area + number * EXTENT)
                    target.write(piece)


def _group(uuid: str, extents: int, volumes: dict[str, Sequence[tuple[int, int]]], kind: str) -> str:
    found = "".join(_volume(number, name, segments, kind) for number, (name, segments) in enumerate(volumes.items()))
    return f"""cs {{
id = "sEcrJQ-Nc4K-Ab3y-Ab3y-Ab3y-Ab3y-Ab3yAb"
seqno = 3
format = "lvm2"			# informational
status = ["RESIZEABLE", "READ", "WRITE"]
flags = []
extent_size = {EXTENT // 512}		# 4 Megabytes
max_lv = 0
max_pv = 0

physical_volumes {{

pv0 {{
id = "{uuid}"
device = "/dev/vda2"	# Hint only

status = ["ALLOCATABLE"]
flags = []
pe_start = 2048
pe_count = {extents}	# all of it
}}
}}

logical_volumes {{
{found}}}
}}
# Generated by LVM2 version 2.03.16(2) (2022-05-18): Sun Nov 29 03:49:05 2026

contents = "Text Format Volume Group"
version = 1
description = "Write from vgcfgrestore."
"""


def _volume(number: int, name: str, segments: Iterable[tuple[int, int]], kind: str) -> str:
    segments = list(segments)
    start, parts = 0, []
    for count, (first, extents) in enumerate(segments, 1):
        parts.append(
            f'segment{count} {{\nstart_extent = {start}\nextent_count = {extents}\n\ntype = "{kind}"\n'
            f'stripe_count = 1	# linear\n\nstripes = [\n"pv0", {first}\n]\n}}\n'
        )
        start += extents
    uuid = f"{number:06}-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaaa"
    return (
        f'\n{name} {{\nid = "{uuid}"\nstatus = ["READ", "WRITE", "VISIBLE"]\nflags = []\ncreation_time = 1700000000\n'
        f"segment_count = {len(segments)}\n\n{''.join(parts)}}}\n"
    )


# -- states of a disk ---------------------------------------------------------------------------------------------


def as_base(raw: Path, path: Path) -> Path:
    """Make a qcow2 image of a raw one."""
    qemu_img("convert", "-q", "-O", "qcow2", raw, path)
    return path


def change(image: Path, work: Callable[[Path], object]) -> None:
    """Change what an image holds, as a guest would: only what is different afterwards is written to it."""
    before, after = image.with_suffix(".before"), image.with_suffix(".after")
    qemu_img("convert", "-q", "-O", "raw", image, before)
    shutil.copyfile(before, after)
    work(after)
    commands: list[str] = []
    for number, (start, content) in enumerate(_different(before.read_bytes(), after.read_bytes())):
        piece = image.with_suffix(f".{number}")
        piece.write_bytes(content)
        commands += ["-c", f"write -s {piece} {start} {len(content)}"]
    run("qemu-io", "-f", "qcow2", *commands, str(image))
    for path in image.parent.glob(f"{image.stem}.*"):
        if path.suffix[1:].isdigit() or path.suffix in {".before", ".after", ".commands"}:
            path.unlink()


def _different(one: bytes, other: bytes) -> list[tuple[int, bytes]]:
    """Return the parts of `other` that differ, in blocks of a file system."""
    unit, found = 4 * KIB, []
    for large in range(0, len(other), MIB):
        if one[large : large + MIB] != other[large : large + MIB]:
            for start in range(large, min(large + MIB, len(other)), unit):
                block = other[start : start + unit]
                found += [(start, block)] if one[start : start + unit] != block else []
    merged: list[tuple[int, bytes]] = []
    for start, content in found:
        if merged and merged[-1][0] + len(merged[-1][1]) == start:
            merged[-1] = (merged[-1][0], merged[-1][1] + content)
        else:
            merged.append((start, content))
    return merged


def overlay(base: Path, path: Path) -> Path:
    """Make an overlay."""
    return create(path, base)
