"""Random images with every feature of qcow2, written by QEMU's own tools, and what QEMU reads of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from support.commands import qemu_img, run
from support.images import KIB, create
from vmsnap_nb.system.disk.layer import Layer
from vmsnap_nb.system.disk.layer_map import map_layer
from vmsnap_nb.system.qemu.blockmap import Piece, map_argv

OPTIONS: tuple[dict[str, object], ...] = (
    {},
    {"compat": "0.10"},
    {"compat": "0.10", "cluster_size": "4k"},
    {"cluster_size": 512},
    {"cluster_size": "2M"},
    {"cluster_size": "4k", "refcount_bits": 1},
    {"refcount_bits": 64, "cluster_size": "1k"},
    {"extended_l2": "on", "cluster_size": "16k"},
    {"extended_l2": "on", "cluster_size": "128k"},
    {"compression_type": "zstd"},
    {"compression_type": "zstd", "extended_l2": "on", "cluster_size": "32k"},
    {"lazy_refcounts": "on"},
    {"preallocation": "metadata"},
    {"preallocation": "metadata", "cluster_size": "4k", "refcount_bits": 4},
    {"preallocation": "falloc", "cluster_size": "8k"},
    {"data_file": "{}.data"},
    {"data_file": "{}.data", "data_file_raw": "on", "cluster_size": "32k"},
    {"data_file": "{}.data", "extended_l2": "on", "cluster_size": "16k"},
)
"""How images are made; what has a name gets that of its own."""

SIZES = (4 << 20, (4 << 20) - 512, (3 << 20) + 37 * KIB + 512, 1536, 64 * KIB, 9 << 20)


@dataclass
class Made:
    """A chain that was made, base first."""

    paths: list[Path] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)
    options: list[dict[str, object]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    @property
    def top(self) -> Path:
        return self.paths[-1]


def random_chain(folder: Path, chance: random.Random, *, layers: int = 3, changes: int = 8) -> Made:
    """Make a chain of images of any kind and size, each with some content; of some, internal snapshots are taken."""
    made = Made()
    for number in range(layers):
        raw = number == 0 and chance.random() < 0.25
        format = "raw" if raw else "qcow2"
        options = {} if raw else dict(chance.choice(OPTIONS))
        if made.paths:
            options.pop("preallocation", None)
            options.pop("data_file_raw", None)
        path = folder / f"{number}.{format}"
        if "data_file" in options:
            options["data_file"] = str(options["data_file"]).format(path)
        size = chance.choice(SIZES if number == 0 or chance.random() < 0.4 else made.sizes[-1:])
        backing = made.paths[-1] if made.paths else None
        create(path, backing, size=size, format=format, backing_format=made.formats[-1] if backing else None, **options)
        made.paths.append(path)
        made.formats.append(format)
        made.options.append(options)
        made.sizes.append(size)
        for _ in range(chance.choice((0, 1, 1, 2)) if format == "qcow2" and "data_file" not in options else 1):
            change(made, number, chance, changes)
            if format == "qcow2" and "data_file" not in options and options.get("refcount_bits") != 1:
                qemu_img("snapshot", "-c", f"s{chance.randrange(100)}", path)
        change(made, number, chance, changes)
    return made


def change(made: Made, number: int, chance: random.Random, count: int) -> None:
    """Write to an image in every way that there is."""
    patterns = sorted(made.paths[0].parent.glob("pattern-*"))
    if not patterns:
        patterns = [made.paths[0].parent / f"pattern-{n}" for n in range(4)]
        for pattern in patterns:
            pattern.write_bytes(random.Random(str(pattern.name)).randbytes(7919))  # a prime: clusters differ
    options, size = made.options[number], made.sizes[number]
    commands = []
    for _ in range(count):
        start = chance.randrange(size // 512) * 512
        length = min(chance.choice((512, 4 * KIB, 65 * KIB, 512 * KIB)), size - start)
        kind = chance.choice(("write -q -s {}", "write -q -s {}", "write -q -z", "write -q -z -u", "discard -q"))
        if made.formats[number] == "qcow2" and "data_file" not in options and chance.random() < 0.3:
            cluster = cluster_size(options)
            start, length = start // cluster * cluster, cluster
            kind = "write -q -c -s {}"
            if start + length > size:
                length = size - start
        commands.append(f"{kind.format(chance.choice(patterns))} {start} {length}")
    argv = ["qemu-io", "-t", "unsafe", "-d", "unmap", "-f", made.formats[number]]
    done = run(*argv, *(word for command in commands for word in ("-c", command)), str(made.paths[number]), check=False)
    # A cluster that is there cannot be written again as a compressed one.
    assert set((done.stdout + done.stderr).splitlines()) <= {"write failed: Input/output error"}, (commands, done)


def cluster_size(options: dict[str, object]) -> int:
    text = str(options.get("cluster_size", "64k"))
    return int(text.rstrip("kM")) << {"k": 10, "M": 20}.get(text[-1], 0)


def mapped(path: Path, format: str) -> list[tuple[int, int, bool]]:
    """What `qemu-img map` says of one image alone: start, length, whether it is zero."""
    found: list[tuple[int, int, bool]] = []
    for entry in json.loads(qemu_img(*map_argv(str(path), format)[1:])):
        start, length, zero = entry["start"], entry["length"], entry["zero"]
        if not entry["present"]:
            continue
        if found and found[-1][0] + found[-1][1] == start and found[-1][2] == zero:
            found[-1] = (found[-1][0], found[-1][1] + length, zero)
        else:
            found.append((start, length, zero))
    return found


def converted(path: Path, format: str, folder: Path, snapshot: str | None = None) -> bytes:
    """What `qemu-img convert` reads through the whole chain."""
    target = folder / "converted.raw"
    of = ["-l", snapshot] if snapshot else []
    qemu_img("convert", "-f", format, *of, "-O", "raw", path, target)
    content = target.read_bytes()
    target.unlink()
    return content


def read_by_qemu_io(path: Path, format: str, start: int, length: int) -> bytes:
    """What `qemu-io` reads, from the dump that it prints."""
    out = run("qemu-io", "-r", "-f", format, "-c", f"read -v {start} {length}", str(path)).stdout
    lines = [line for line in out.splitlines() if line[8:11] == ":  "]
    return b"".join(bytes.fromhex(line[11:58].replace(" ", "")) for line in lines)


def merged_parts(layer: Layer) -> list[tuple[int, int, bool]]:
    """What our own map of a layer says, in the same form as `mapped`."""
    found: list[tuple[int, int, bool]] = []

    def take(pieces: Iterable[Piece]) -> None:
        for start, length, zero, _ in pieces:
            if found and found[-1][0] + found[-1][1] == start and found[-1][2] == zero:
                found[-1] = (found[-1][0], found[-1][1] + length, zero)
            else:
                found.append((start, length, zero))

    map_layer(layer, found.clear, take)
    return found
