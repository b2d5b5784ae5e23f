"""Images that are made to do harm: reading them ends soon, in little memory, with the content or a named error."""

from __future__ import annotations

import os
import struct
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.commands import qemu_img
from support.disks import merged_parts
from support.images import GIB, KIB, MIB, create, header, write

import vmsnap_nb as vs
from vmsnap_nb.errors import ImageError, StalePlanError
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.disk.disk import Disk
from vmsnap_nb.system.disk.file_space import qcow2_space
from vmsnap_nb.system.disk.layer import RawLayer
from vmsnap_nb.system.disk.open import open_layer
from vmsnap_nb.system.disk.qcow2_layer import Qcow2Layer
from vmsnap_nb.system.qcow2.compressed import decompress
from vmsnap_nb.system.qcow2.format import COMPRESSION
from vmsnap_nb.system.sources.file import FileSource
from vmsnap_nb.system.sources.source import BytesSource

CLUSTER = 4 * KIB
COPIED, COMPRESSED = 1 << 63, 1 << 62
L1, L2, FREE = 3 * CLUSTER, 4 * CLUSTER, 5 * CLUSTER
SOON = 20.0
"""Seconds: each of these takes much less than one."""


def image(
    entries: dict[int, int], *, size: int = 2 * MIB, l1: dict[int, int] | None = None, more: bytes = b"", **fields: int
) -> bytes:
    """Make an image of clusters of 4 KiB with one L2 table, which describes 2 MiB."""
    count = -(-size // (512 * CLUSTER))
    extra: dict[str, int] = {"cluster_bits": 12, "l1_size": count, "l1_offset": L1, "refcount_offset": CLUSTER}
    content = bytearray(header(size=size, **(extra | fields)).ljust(FREE, b"\0"))
    for number, entry in (l1 or {0: L2 | COPIED}).items():
        struct.pack_into(">Q", content, L1 + 8 * number, entry)
    for number, entry in entries.items():
        struct.pack_into(">Q", content, L2 + 8 * number, entry)
    return bytes(content) + more


def read(content: bytes) -> bytes:
    with Disk([Qcow2Layer(BytesSource(content))]) as disk:
        return disk.pread(0, min(disk.size, 4 * MIB))


def test_a_plain_one() -> None:
    content = image({0: FREE | COPIED, 2: FREE + CLUSTER | COPIED, 3: 1}, more=b"a" * CLUSTER + b"b" * 100)
    assert read(content)[: 4 * CLUSTER] == b"a" * CLUSTER + bytes(CLUSTER) + b"b" * 100 + bytes(2 * CLUSTER - 100)
    assert merged_parts(Qcow2Layer(BytesSource(content))) == [
        (0, CLUSTER, False),
        (2 * CLUSTER, CLUSTER, False),
        (3 * CLUSTER, CLUSTER, True),
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not a qcow2 image"),
        (b"QFI\xfb\0\0\0\3", "truncated"),
        (image({}, l1={0: 1 << 40}), "L2 table 0 is at byte 1099511627776, but the file ends at"),
        (image({}, l1={0: L2 + 512}), "not a cluster boundary"),
        (image({0: FREE + 512}), "for byte 0 of the disk is at byte 20992"),
        (image({5: 1}, version=2), "qcow2 version 2 does not support"),
        (image({5: COMPRESSED | FREE}, more=b"\xff" * 512), "compressed cluster for byte 20480 of the disk"),
        (image({5: COMPRESSED | 1 << 50}), "compressed cluster for byte 20480"),
        (image({}, crypt=1), "encrypted"),
        (image({}, incompatible=1 << 40), "features that this version does not know"),
        (image({}, incompatible=1 << 63), "merged into another image"),
    ],
)
def test_what_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(ImageError, match=r"(?s)read bytes in memory\n.*" + why) as refused:
        read(content)
    assert refused.value.reason


def test_data_after_the_end_of_the_file_is_zeros_as_for_qemu() -> None:
    assert not any(read(image({0: 1 << 40 | COPIED})))


def test_tables_that_name_themselves_and_each_other() -> None:
    """What is named as data is read as such, whatever else it is; nothing is followed from there."""
    content = image({0: L2, 1: L1, 2: 0 | COPIED, 3: L2})
    assert read(content)[:CLUSTER] == content[L2 : L2 + CLUSTER]
    content = image({}, l1={0: L1})
    assert len(read(content)) == 2 * MIB


def test_one_l2_table_for_a_whole_disk() -> None:
    count = 4 << 20
    start = image(dict.fromkeys(range(0, 512, 2), 1), size=count * 512 * CLUSTER, l1_offset=FREE)
    began = time.monotonic()
    with pytest.raises(ImageError, match="everal entries must therefore point to the same cluster"):
        Qcow2Layer(BytesSource(start + struct.pack(">Q", L2 | COPIED) * count))
    # With as many clusters of the file as entries it may be, and takes as long as so many tables do.
    start = image(dict.fromkeys(range(0, 512, 2), 1), size=300 * 512 * CLUSTER, l1_offset=FREE)
    layer = Qcow2Layer(BytesSource(start + struct.pack(">Q", L2 | COPIED) * 300 + bytes(300 * CLUSTER)))
    assert len(merged_parts(layer)) == 300 * 256
    assert time.monotonic() - began < SOON


def test_a_small_file_that_promises_much(tmp_path: Path) -> None:
    """An L1 table of 32 MiB in a file of holes, and a disk of 2 PiB."""
    path = tmp_path / "a"
    with open(path, "wb") as file:
        file.write(header(size=2 << 50, cluster_bits=16, l1_size=4 << 20, l1_offset=0x30000, refcount_offset=0x10000))
        file.truncate(64 * MIB)
    began = time.monotonic()
    with Disk([Qcow2Layer(FileSource(str(path)))]) as disk:
        assert disk.size == 2 << 50
        assert disk.pread(disk.size - 10, 100) == bytes(10)
        assert next(iter(disk.parts())).layer is None
        assert sys.getsizeof(disk._layers[0]._numbers) < KIB
    assert time.monotonic() - began < SOON


def test_a_compressed_bomb_gives_one_cluster() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    bomb = packer.compress(bytes(64 * MIB)) + packer.flush()
    other = zstandard.compress(bytes(64 * MIB))
    tracemalloc.start()
    try:
        assert decompress(bomb, CLUSTER, "zlib") == bytes(CLUSTER)
        assert decompress(other, CLUSTER, "zstd") == bytes(CLUSTER)
        # A frame that asks for a window of 2 GiB.
        greedy = b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00"
        assert decompress(greedy + bytes(100), CLUSTER, "zstd") is None
        assert tracemalloc.get_traced_memory()[1] < 32 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
@given(data=st.binary(max_size=300))
def test_any_bytes_decompress_to_a_cluster_or_to_nothing(compression: str, data: bytes) -> None:
    found = decompress(data, 512, compression)
    assert found is None or len(found) == 512


_interesting = st.sampled_from([0, 1, COPIED, COMPRESSED, FREE, L1, L2, 512, 1 << 40, 2**64 - 1, FREE | COPIED, L2 | 1])
_fields = st.fixed_dictionaries(
    {},
    optional={
        "version": st.sampled_from([2, 3]),
        "l1_size": st.sampled_from([0, 1, 2, 1 << 22]),
        "l1_offset": st.sampled_from([0, 512, L1, L2, 1 << 40]),
        "refcount_offset": st.sampled_from([0, CLUSTER, L2, 1 << 40]),
        "refcount_clusters": st.sampled_from([0, 1, 1 << 11]),
        "refcount_order": st.integers(0, 7),
        "incompatible": st.sampled_from([0, 1, COMPRESSION, 1 << 4, 1 << 2, 1 << 4 | 1 << 2]),
        "cluster_bits": st.sampled_from([9, 12, 14, 16, 21]),
        "snapshots": st.sampled_from([0, 1]),
        "snapshots_offset": st.sampled_from([0, L2, FREE]),
    },
)


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(
    entries=st.dictionaries(st.integers(0, 511), _interesting | st.integers(0, 2**64 - 1), max_size=12),
    l1=st.dictionaries(st.integers(0, 511), _interesting, max_size=4),
    size=st.sampled_from([0, 512, MIB, 2 * MIB, 2 * MIB + 512, GIB]),
    more=st.binary(max_size=64),
    fields=_fields,
)
def test_any_tables_are_read_or_refused(
    entries: dict[int, int], l1: dict[int, int], size: int, more: bytes, fields: dict[str, int]
) -> None:
    content = image(entries, size=size, l1={0: L2, **l1}, more=more * 200, **fields)
    began = time.monotonic()
    for snapshot in (None, "1"):
        for use in (merged_parts, lambda layer: Disk([layer]).pread(0, MIB), lambda layer: list(Disk([layer]).parts())):
            try:
                layer = Qcow2Layer(BytesSource(content), snapshot=snapshot)
                found = use(layer)
            except (ImageError, LookupError):
                continue
            assert found is not None
    assert time.monotonic() - began < SOON


# -- which file is opened ----------------------------------------------------------------------------------


def test_only_the_file_that_was_looked_at_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    found = path.stat()
    with FileSource(str(path), (found.st_dev, found.st_ino)) as source:
        path.rename(tmp_path / "b")
        path.write_bytes(b"two")
        assert source.pread(0, 9) == b"one"
    with pytest.raises(StalePlanError, match="replaced by another file"):
        FileSource(str(path), (found.st_dev, found.st_ino))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_nothing_but_files_is_opened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ImageError, match="not a regular file"):
        FileSource(str(tmp_path / "a"))
    with pytest.raises(ImageError, match="not a regular file"):
        open_layer(Image(str(tmp_path / "a"), "raw"))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("change", [{"format": "vmdk"}, {"encryption": "luks"}, {"status": "corrupt", "problem": "x"}])
def test_what_is_not_read_here_is_an_error_that_says_why(change: dict[str, str]) -> None:
    with pytest.raises(ImageError, match="/i/a"):
        open_layer(Image("/i/a", **({"format": "qcow2"} | change)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "why", "step"),
    [
        ("{outside}/data", "its data file {outside}/data is outside the folders that were read", True),
        ("{inside}/link", "its data file {inside}/link is outside the folders that were read", True),
        ("nbd://host/data", "its data file is at a network address", False),
    ],
)
def test_a_data_file_that_was_not_read_is_named_and_not_to_be_copied(
    tmp_path: Path, data: str, why: str, *, step: bool
) -> None:
    places = {"inside": str(tmp_path / "inside"), "outside": str(tmp_path / "outside")}
    for place in places.values():
        Path(place).mkdir()
    (tmp_path / "outside" / "data").write_bytes(bytes(MIB))
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "outside" / "data")
    name = data.format(**places).encode()
    extension = struct.pack(">II", 0x44415441, len(name)) + name.ljust(-(-len(name) // 8) * 8, b"\0") + bytes(8)
    path = tmp_path / "inside" / "image.qcow2"
    path.write_bytes(header(incompatible=4, autoclear=2, extensions=extension).ljust(256 * KIB, b"\0"))
    # QEMU's tools would open whatever file the header names: no remedy is to run them.
    with pytest.raises(ImageError) as caught:
        vs.chain(path, follow=True).files()
    assert why.format(**places) in str(caught.value)
    assert "qemu-img" not in str(caught.value)
    assert ("also pass the folder" in str(caught.value)) == step


def test_a_raw_image_ends_with_its_sector() -> None:
    layer = RawLayer(BytesSource(b"x" * 700))
    assert layer.size == 1024
    assert Disk([layer]).pread(0, 2000) == b"x" * 700 + bytes(324)


def with_snapshots(path: Path, tables: int, snapshots: int) -> Image:
    """Make an image of clusters of 512 bytes: each L2 table is that of other snapshots, and full."""
    cluster = 512
    table = -(-8 * tables // cluster) * cluster
    first = 2 * cluster
    listed = first + (snapshots + 1) * table
    l2 = -(-(listed + 128 * snapshots) // cluster) * cluster
    data, each = l2 + tables * cluster, cluster // 8
    size = tables * each * cluster
    fields = {"cluster_bits": 9, "l1_size": tables, "l1_offset": first, "refcount_offset": cluster}
    head = header(size=size, **fields, snapshots=snapshots, snapshots_offset=listed)
    with open(path, "wb") as file:
        file.write(head)
        for number in range(snapshots):
            place = first + (number + 1) * table
            file.seek(place)
            own = [l2 + n * cluster if (n * 2654435761 >> 3) >> number & 1 else 0 for n in range(tables)]
            file.write(struct.pack(f">{tables}Q", *own))
            name = f"{number + 1:04}".encode()
            entry = struct.pack(">QIHHIIQII", place, tables, len(name), len(name), 0, 0, 0, 0, 16)
            file.seek(listed + number * (len(entry) + 16 + 2 * len(name)))
            file.write(entry + struct.pack(">QQ", 0, size) + 2 * name)
        file.seek(l2)
        for n in range(tables * each):
            file.write(struct.pack(">Q", data + n * cluster))
        file.truncate(data + tables * each * cluster)
    (found,) = vs.scan(path.parent)
    assert (found.status, len(found.snapshots)) == ("ok", snapshots)
    return found


def test_snapshots_that_share_in_many_ways_are_counted_soon(tmp_path: Path) -> None:
    image = with_snapshots(tmp_path / "many", 24 * KIB, 18)
    began = time.process_time()
    assert len(qcow2_space(image).held) > 8 * KIB
    assert time.process_time() - began < SOON


def test_a_wrong_table_of_a_snapshot_is_named(tmp_path: Path) -> None:
    image = create(tmp_path / "wrong", create(tmp_path / "base"))
    write(image, "write -P 1 0 128k")
    qemu_img("snapshot", "-c", "s", image)
    write(image, "write -P 2 0 64k")
    with open(image, "r+b") as file:

        def number(place: int) -> int:
            file.seek(place)
            return int(struct.unpack(">Q", file.read(8))[0])

        table = number(number(number(64))) & (1 << 56) - 1
        entry = number(table)
        file.seek(table)
        file.write(struct.pack(">Q", entry + 512))
    found = vs.scan(tmp_path)
    with pytest.raises(ImageError, match="compute the space"):
        qcow2_space(found["wrong"])
    assert len(found.space().to_frame()) == 2
