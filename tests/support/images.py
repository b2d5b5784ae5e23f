"""Makes images for tests and benchmarks: single ones, hostile ones, and a forest of a thousand."""

from __future__ import annotations

import atexit
import os
import random
import re
import shutil
import struct
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from support.commands import qemu_img, run
from vmsnap_nb.system.files.copying import copy_file

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SECRET = ("--object", "secret,id=s,data=abc123")


def luks(format: str, path: Path, size: int) -> None:
    """Make an encrypted image. QEMU times the making of its key, and gives up where the kernel's clock is coarse."""
    prefix = "encrypt.format=luks,encrypt." if format == "qcow2" else ""
    key = f"{prefix}key-secret=s,{'encrypt.' if prefix else ''}iter-time=10"
    argv = ["qemu-img", "create", "-q", *SECRET, "-f", format, "-o", key, str(path), str(size)]
    for _ in range(10):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if "accurate CPU usage" not in done.stderr:
            break
    assert done.returncode == 0, done


def create(
    path: Path,
    backing: object = None,
    *,
    size: object = None,
    format: str = "qcow2",
    backing_format: str | None = "qcow2",
    **options: object,
) -> Path:
    """Make one image, of 64 MiB unless it gets another size, or that of its base.

    The base is not looked at if a size is given: it need not be there.
    """
    argv: list[object] = ["create", "-q", "-f", format]
    if options:
        argv += ["-o", ",".join(f"{key}={str(value).replace(',', ',,')}" for key, value in options.items())]
    if backing is not None:
        argv += ["-b", backing, *(["-F", backing_format] if backing_format else [])]
        argv += ["-u"] if size is not None else []
    elif size is None:
        size = 64 * MIB
    qemu_img(*argv, "--", path, *([] if size is None else [size]))
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
    made = _handout(layers, size)
    for path in made:
        copy_file(path, folder / path.name)
    return [folder / path.name for path in made]


@cache
def _handout(layers: int, size: int) -> tuple[Path, ...]:
    """Make the images that are copied: they name each other without folders."""
    folder = Path(tempfile.mkdtemp(prefix="vmsnap-test-", dir="/dev/shm"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
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
    return tuple(paths)


def header(
    *,
    version: int = 3,
    backing: bytes = b"",
    backing_offset: int | None = None,
    backing_size: int | None = None,
    cluster_bits: int = 16,
    size: int = 64 * MIB,
    crypt: int = 0,
    l1_size: int = 1,
    l1_offset: int = 0x30000,
    refcount_offset: int = 0x10000,
    refcount_clusters: int = 1,
    snapshots: int = 0,
    snapshots_offset: int = 0,
    incompatible: int = 0,
    compatible: int = 0,
    autoclear: int = 0,
    refcount_order: int = 4,
    length: int = 104,
    extensions: bytes = bytes(8),
) -> bytes:
    """Return a qcow2 header with whatever is asked for in its fields."""
    if backing_offset is None:
        backing_offset = length + len(extensions) if backing else 0
    head = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb",
        version,
        backing_offset,
        len(backing) if backing_size is None else backing_size,
        cluster_bits,
        size,
        crypt,
        l1_size,
        l1_offset,
        refcount_offset,
        refcount_clusters,
        snapshots,
        snapshots_offset,
    )
    if version >= 3:
        head += struct.pack(">QQQII", incompatible, compatible, autoclear, refcount_order, length)
        head = head.ljust(min(length, 4 * KIB), b"\0")
    return head + extensions + backing


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)


def sparse(path: Path, content: bytes, size: int = 256 * KIB) -> Path:
    """Write a file that begins with `content` and is as long as a real empty image."""
    with open(path, "wb") as file:
        file.write(content)
        file.truncate(max(size, len(content)))
    return path


# -- a forest -------------------------------------------------------------------------------------------------


@dataclass
class Tree:
    """What a forest on disk was made of."""

    folder: Path
    paths: list[Path] = field(default_factory=list)
    raw: set[Path] = field(default_factory=set)
    parent: dict[Path, Path] = field(default_factory=dict)

    @property
    def leaves(self) -> list[Path]:
        bases = set(self.parent.values())
        return [path for path in self.paths if path not in bases]

    def depth(self, path: Path) -> int:
        return 1 if path not in self.parent else 1 + self.depth(self.parent[path])


_FOLDERS = ("", "sub folder", "虚拟机")
_NAMES = ("disk-{}.qcow2", "a disk {}.img", "快照-{}.qcow2", 'it\'s "{}".qcow2', "line\nbreak {}", "colon:{}.qcow2")
_OPTIONS: tuple[dict[str, object], ...] = (
    {},
    {"compat": "0.10"},
    {"compat": "0.10", "cluster_size": "4k"},
    {"extended_l2": "on", "cluster_size": "16k"},
    {"extended_l2": "on", "cluster_size": "128k"},
    {"lazy_refcounts": "on"},
    {"compression_type": "zstd"},
    {"compression_type": "zstd", "extended_l2": "on", "lazy_refcounts": "on"},
    {"cluster_size": "256k"},
    {"cluster_size": 512},
    {"refcount_bits": 1},
    {"refcount_bits": 64, "cluster_size": "64k"},
)
_SIZES = (MIB, 64 * MIB, 63 * MIB + 512, GIB, 10 * MIB - 7)
_UNFIT_FOR_SNAPSHOTS = re.compile(r"data_file|refcount_bits=1\b|encrypt\.")
_BASES, _DEEPEST = 20, 50


def make_forest(folder: Path, count: int = 1000, *, seed: int = 1) -> Tree:
    """Make a forest of real images: 20 bases, chains up to 50 deep, branches, snapshots, every feature of qcow2."""
    chance = random.Random(seed)
    tree = Tree(folder)
    for name in _FOLDERS:
        (folder / name).mkdir(exist_ok=True)
    _grow(tree, count, chance)
    leaves = set(tree.leaves)
    jobs = [_job(tree, path, path in leaves, chance) for path in tree.paths if path not in tree.raw]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda job: qemu_img(*job), jobs))
    for path, job in zip((path for path in tree.paths if path not in tree.raw), jobs, strict=True):
        if not _UNFIT_FOR_SNAPSHOTS.search(str(job)) and chance.random() < 0.1:
            for name in chance.sample(["snap1", "first 快照", 'with "quotes"', "x" * 200], chance.randint(1, 3)):
                qemu_img("snapshot", "-c", name, path)
    _encrypt(tree, chance)
    _mark(tree, random.Random(seed))
    return tree


def _grow(tree: Tree, count: int, chance: random.Random) -> None:
    depth: dict[Path, int] = {}
    families: list[list[Path]] = []
    for number in range(count):
        path = tree.folder / chance.choice(_FOLDERS) / chance.choice(_NAMES).format(number)
        tree.paths.append(path)
        if number < _BASES:
            depth[path] = 1
            families.append([path])
            if number % 5 == 4:
                tree.raw.add(path)
                with open(path, "wb") as file:
                    file.write(chance.randbytes(chance.choice([0, 700, 5000])))
                    file.truncate(chance.choice(_SIZES))
            continue
        family = families[number % _BASES]
        # The first families grow in one long chain, the others branch anywhere.
        candidates = family[-1:] if number % _BASES < 4 else family
        base = chance.choice([p for p in candidates if depth[p] < _DEEPEST] or family[:1])
        depth[path] = depth[base] + 1
        family.append(path)
        tree.parent[path] = base


def _refer(base: Path, path: Path, chance: random.Random) -> str:
    way = chance.randrange(50)
    if way < 2:
        return f"file:{base}"
    if way == 2 and '"' not in str(base) and "\n" not in str(base):
        return f'json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{base}"}}}}'
    if way < 25:
        relative = os.path.relpath(base, path.parent)
        return f"./{relative}" if ":" in relative.partition("/")[0] else relative
    return str(base)


def _job(tree: Tree, path: Path, leaf: bool, chance: random.Random) -> list[object]:
    base = tree.parent.get(path)
    size = chance.choice(_SIZES)
    options = dict(chance.choice(_OPTIONS))
    if leaf and chance.random() < 0.05:
        options = {"encrypt.format": "aes", "encrypt.key-secret": "s"}
    elif chance.random() < 0.03 and options.get("compat") != "0.10":
        options["data_file"] = f"{path}.data"
        if base is None:
            options["data_file_raw"] = "on"
    if options.get("cluster_size") == 512:
        size = min(size, 64 * MIB)
    job: list[object] = ["create", "-q", *SECRET, "-f", "qcow2"]
    if options:
        job += ["-o", ",".join(f"{key}={str(value).replace(',', ',,')}" for key, value in options.items())]
    if base is not None:
        job += ["-u", "-b", _refer(base, path, chance), "-F", "raw" if base in tree.raw else "qcow2"]
    return [*job, path, size]


def _mark(tree: Tree, chance: random.Random) -> None:
    """Add dirty bitmaps of every granularity to images that can have them."""
    plain = [path for path in tree.paths if path not in tree.raw and not os.path.exists(f"{path}.data")]
    for path in chance.sample(plain, min(40, len(plain) // 4)):
        with open(path, "rb") as file:
            version, _, _, bits, _, crypt = struct.unpack(">4xIQIIQI", file.read(36))
        if version == 2 or crypt or bits < 12:
            continue
        for number in range(chance.randint(1, 3)):
            name = chance.choice(["chk-{}", "备份 {}", "x" * 900 + "{}"]).format(number)
            options = chance.choice([(), ("--disable",), ("-g", str(1 << chance.randint(12, 24)))])
            qemu_img("bitmap", "--add", *options, "--", path, name)


def _encrypt(tree: Tree, chance: random.Random) -> None:
    """Turn some bases into LUKS. Its key takes seconds to derive, so one image is made and copied."""
    plain = [p for p in tree.paths[:_BASES] if p not in tree.raw]
    first, *others = chance.sample(plain, 3)
    first.unlink()
    luks("qcow2", first, 64 * MIB)
    for path in others:
        shutil.copyfile(first, path)


def filled(path: Path, base: Path | None = None) -> Path:
    """Make an image with something in it."""
    create(path, base, size=None if base else "4M")
    write(path, f"write -q -P {len(path.name)} 0 64k")
    return path
