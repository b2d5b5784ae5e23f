"""The qcow2 reader on single images, made by hand or by qemu-img and then changed."""

from __future__ import annotations

import itertools
import json
import os
import struct
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.commands import qemu_img
from support.images import KIB, MIB, create, extension, header, sparse
from support.oracle import in_our_words, in_the_same_words

from vmsnap_nb.model.base_mismatch import MERGED
from vmsnap_nb.model.image import Image
from vmsnap_nb.system.disk.snapshot_table import read_table
from vmsnap_nb.system.image_file import read_image
from vmsnap_nb.system.qcow2.format import BACKING_FORMAT, BITMAPS, DATA_FILE_NAME
from vmsnap_nb.system.qcow2.format import MERGED as MERGED_BIT

FEATURE_NAMES, LUKS_HEADER = 0x6803F857, 0x0537BE77


def read(path: Path) -> Image:
    return read_image(str(path), str(path.parent))[0]


def read_bytes(tmp_path: Path, content: bytes, size: int = 256 * KIB) -> Image:
    return read(sparse(tmp_path / "image", content, size))


def test_the_least_version_3_image(tmp_path: Path) -> None:
    image = read_bytes(tmp_path, header())
    assert (image.status, image.problem, image.format, image.compat) == ("ok", "", "qcow2", "1.1")
    assert (image.virtual_size, image.cluster_size, image.refcount_bits) == (64 * MIB, 64 * KIB, 16)
    assert (image.backing, image.snapshots, image.encryption, image.compression) == (None, (), None, "zlib")


def test_version_2_has_no_feature_bits(tmp_path: Path) -> None:
    # What would be feature bits in version 3 is an extension here, or the name of the backing file itself.
    image = read_bytes(tmp_path, header(version=2, backing=b"\xff" * 40, length=72, extensions=b""))
    assert (image.status, image.compat, image.refcount_bits) == ("ok", "0.10", 16)
    bits = (image.dirty, image.corrupt, image.extended_l2, image.lazy_refcounts, image.data_file_raw)
    assert bits == (False,) * 5
    assert image.backing is not None
    assert os.fsencode(image.backing.written) == b"\xff" * 40
    named = header(version=2, backing=b"b", length=72, extensions=extension(BACKING_FORMAT, b"raw") + bytes(8))
    image = read_bytes(tmp_path, named)
    assert image.backing is not None
    assert (image.backing.path, image.backing.format) == (str(tmp_path / "b"), "raw")


def test_a_name_ends_at_its_first_null_byte_as_for_qemu(tmp_path: Path) -> None:
    image = read_bytes(tmp_path, header(backing=b"base\0junk"))
    assert image.backing is not None
    assert image.backing.written == "base"
    assert read_bytes(tmp_path, header(backing=b"\0junk")).backing is None


def test_unknown_extensions_are_passed_over(tmp_path: Path) -> None:
    extensions = b"".join(
        extension(kind, data)
        for kind, data in (
            (0x12345678, b"x" * 13),
            (FEATURE_NAMES, bytes(48 * 5)),
            (BACKING_FORMAT, b"qcow2"),
            (BITMAPS, bytes(24)),
        )
    )
    image = read_bytes(tmp_path, header(backing=b"base", extensions=extensions + bytes(8)))
    assert image.status == "ok"
    assert image.backing is not None
    assert (image.backing.written, image.backing.format) == ("base", "qcow2")


def test_a_header_longer_than_what_is_read_first(tmp_path: Path) -> None:
    far = extension(0x12345678, bytes(20 * KIB)) + extension(BACKING_FORMAT, b"raw") + bytes(8)
    name = "目录/".encode() * 100 + b"base"
    image = read_bytes(tmp_path, header(backing=name, extensions=far))
    assert image.status == "ok"
    assert image.backing is not None
    assert (image.backing.written.encode(), image.backing.format) == (name, "raw")
    longer = header(length=4 * KIB, extensions=extension(DATA_FILE_NAME, b"/d.raw") + bytes(8), incompatible=4)
    image = read_bytes(tmp_path, longer)
    assert image.data_file is not None
    assert image.data_file.path == "/d.raw"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cluster_bits": 8}, "cluster size"),
        ({"cluster_bits": 22}, "cluster size"),
        ({"cluster_bits": 2**32 - 1}, "cluster size"),
        ({"length": 96}, "header length"),
        ({"length": 2**32 - 1}, "header length"),
        ({"refcount_order": 7}, "reference counts"),
        ({"refcount_order": 2**32 - 1}, "reference counts"),
        ({"refcount_offset": 1}, "refcount table"),
        ({"refcount_offset": 2**64 - 2**16}, "refcount table is at byte"),
        ({"refcount_clusters": 0}, "refcount table"),
        ({"refcount_clusters": 2**32 - 1}, "refcount table"),
        ({"l1_offset": 513}, "L1 table"),
        ({"l1_offset": 2**63}, "L1 table is at byte"),
        ({"l1_size": 0}, "L1 table"),
        ({"l1_size": 2**32 - 1}, "L1 table"),
        ({"size": 2**63}, "virtual size"),
        ({"size": 2**64 - 1}, "virtual size"),
        ({"backing": b"x", "backing_offset": 2**64 - 1}, "first cluster"),
        ({"backing": b"x", "backing_offset": 70000}, "first cluster"),
        ({"backing": b"x" * 1024}, "1024 bytes"),
        ({"backing": b"x", "backing_size": 2**32 - 1}, "which is too long"),
        ({"backing": b"x", "backing_offset": 65530, "backing_size": 7}, "which is too long"),
        ({"extensions": struct.pack(">II", 1, 2**32 - 1)}, "extensions"),
        ({"extensions": extension(BACKING_FORMAT, b"x" * 16)}, "extensions"),
        ({"extensions": struct.pack(">II", 1, 0) * 8000}, "extensions"),
        ({"snapshots": 2**32 - 1, "snapshots_offset": 0x20000}, "4294967295 snapshots"),
        ({"snapshots": 1, "snapshots_offset": 2**64 - 2**16}, "snapshot table is at byte"),
        ({"snapshots": 1, "snapshots_offset": 7}, "snapshot table"),
        ({"snapshots": 65536, "snapshots_offset": 0x20000}, "ends after"),
        ({"incompatible": 2}, "marked it as corrupt"),
        ({"incompatible": 8}, "compression"),
    ],
)
def test_a_field_that_cannot_be(tmp_path: Path, fields: dict[str, object], words: str) -> None:
    image = read_bytes(tmp_path, header(**fields))  # type: ignore[arg-type]
    assert (image.status, image.format) == ("corrupt", "qcow2")
    assert words in image.problem
    assert (image.virtual_size or 0) < 2**63  # more is no number of a table


@pytest.mark.system
@pytest.mark.parametrize(
    "fields",
    [
        {"cluster_bits": 8},
        {"cluster_bits": 22},
        {"length": 96},
        {"refcount_order": 7},
        {"crypt": 3},
        {"refcount_offset": 1},
        {"refcount_clusters": 0},
        {"refcount_clusters": 2**32 - 1},
        {"l1_offset": 513},
        {"l1_size": 0},
        {"l1_size": 2**32 - 1},
        {"size": 2**63},
        {"backing": b"x", "backing_offset": 70000},
        {"backing": b"x" * 1024},
        {"extensions": struct.pack(">II", 1, 2**32 - 1)},
        {"snapshots": 65537, "snapshots_offset": 0x20000},
        {"snapshots": 1, "snapshots_offset": 7},
        {"incompatible": 8},
        {"incompatible": 32},
        {"version": 4},
    ],
)
def test_qemu_refuses_what_has_a_problem_here(tmp_path: Path, fields: dict[str, object]) -> None:
    path = sparse(tmp_path / "image", header(**fields))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="Could not open"):
        qemu_img("info", path)
    assert read(path).problem


def test_unknown_incompatible_features_have_a_status_and_leave_the_header_readable(tmp_path: Path) -> None:
    image = read_bytes(tmp_path, header(incompatible=1 << 5 | 1 << 62, backing=b"base"))
    assert image.status == "unsupported"
    assert "5, 62" in image.problem
    assert image.backing is not None
    assert (
        read_bytes(tmp_path, header(incompatible=1 << 5 | 2)).status == "unsupported"
    )  # nobody knows what 2 means then
    image = read_bytes(tmp_path, header(crypt=3))
    assert (image.status, image.encryption) == ("unsupported", None)
    assert "encryption method 3" in image.problem
    image = read_bytes(tmp_path, header(incompatible=8, length=112)[:104] + b"\2" + bytes(15))
    assert (image.status, image.compression) == ("unsupported", None)
    image = read_bytes(tmp_path, header(compatible=2**64 - 1, autoclear=2**64 - 1))
    assert (image.status, image.problem, image.lazy_refcounts, image.data_file_raw) == ("ok", "", True, False)


def test_an_unknown_version_is_named(tmp_path: Path) -> None:
    for version in (0, 4, 2**32 - 1):
        image = read_bytes(tmp_path, header(version=version))
        assert (image.status, image.format) == ("unsupported", "qcow2")
        assert str(version) in image.problem


def test_a_header_cut_off_anywhere_is_corrupt(tmp_path: Path) -> None:
    whole = header(backing=b"base", extensions=extension(BACKING_FORMAT, b"raw") + bytes(8)).ljust(256 * KIB, b"\0")
    for length in (*range(4, 200), 511, 512, 4096, 65535, 65536, 196608):
        image = read_bytes(tmp_path, whole[:length], 0)
        assert (image.status, image.format) == ("corrupt", "qcow2"), length
        assert "truncated" in image.problem
    assert read_bytes(tmp_path, whole[:3], 0).format is None


# -- snapshots ----------------------------------------------------------------------------------------------


def entry(
    name: bytes, *, id: bytes = b"1", extra: bytes = b"", state: int = 0, clock: int = 0, seconds: int = 1
) -> bytes:
    head = struct.pack(">QIHHIIQII", 0, 0, len(id), len(name), seconds, 5000, clock, state, len(extra))
    made = head + extra + id + name
    return made + bytes(-len(made) % 8)


def with_snapshots(tmp_path: Path, table: bytes, count: int) -> Image:
    content = header(snapshots=count, snapshots_offset=0x20000).ljust(0x20000, b"\0") + table
    return read_bytes(tmp_path, content)


def test_snapshot_entries_of_every_age(tmp_path: Path) -> None:
    table = (
        entry(b"oldest", state=7)
        + entry("中文".encode(), id=b"22", extra=struct.pack(">Q", 2**40), state=7, clock=3)
        + entry(b"x" * 65535, extra=struct.pack(">QQ", 0, 5 * MIB))
        + entry(b"bad\xff\xfe", extra=struct.pack(">QQQ", 1, 2, 3) + bytes(100), seconds=2**32 - 1)
        + entry(b"last\0junk")
    )
    image = with_snapshots(tmp_path, table, 5)
    assert (image.status, image.problem) == ("ok", "")
    first, second, third, fourth, last = image.snapshots
    assert (first.name, first.vm_state_size, first.virtual_size) == ("oldest", 7, None)
    assert first.created == datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC)
    assert (second.id, second.name, second.vm_state_size, second.vm_clock) == ("22", "中文", 2**40, 3)
    assert (len(third.name), third.vm_state_size, third.virtual_size) == (65535, 0, 5 * MIB)
    assert (fourth.name, fourth.vm_state_size, fourth.virtual_size) == ("bad\\xff\\xfe", 1, 2)
    assert fourth.created == datetime(2106, 2, 7, 6, 28, 15, 5, tzinfo=UTC)
    assert last.name == "last"


def test_a_table_that_ends_early_gives_what_there_is(tmp_path: Path) -> None:
    image = with_snapshots(tmp_path, entry(b"one") + entry(b"two", extra=bytes(16))[:-30], 2)
    # Beyond the file's end there is nothing; what is left of an entry is none.
    path = tmp_path / "image"
    os.truncate(path, 0x20000 + len(entry(b"one")) + 20)
    image = read(path)
    assert (image.status, [s.name for s in image.snapshots]) == ("corrupt", ["one"])
    assert "ends after 1 of 2 entries" in image.problem


def test_an_empty_table_may_be_behind_the_end_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(header(snapshots=0, snapshots_offset=0x900000).ljust(0x20000, b"\0"))
    assert read(path).snapshots == ()
    assert read_table(str(path)) == (0x900000, (), (), "")


def test_a_false_size_in_an_entry(tmp_path: Path) -> None:
    head = struct.pack(">QIHHIIQII", 0, 0, 1, 1, 0, 0, 0, 0, 2**32 - 1)
    image = with_snapshots(tmp_path, head, 65536)
    assert (image.status, image.snapshots) == ("corrupt", ())


def test_very_many_snapshots(tmp_path: Path) -> None:
    table = b"".join(entry(b"n%d" % n, id=b"%d" % n, extra=bytes(16)) for n in range(20_000))
    image = with_snapshots(tmp_path, table, 20_000)
    assert image.status == "ok"
    assert [s.name for s in image.snapshots] == [f"n{n}" for n in range(20_000)]


# -- dirty bitmaps ------------------------------------------------------------------------------------------


def bitmap(
    name: bytes = b"chk1",
    *,
    bits: int = 16,
    flags: int = 2,
    kind: int = 1,
    entries: int = 1,
    extra: int = 0,
    name_size: int | None = None,
) -> bytes:
    size = len(name) if name_size is None else name_size
    made = struct.pack(">QIIBBHI", 0x30000, entries, flags, kind, bits, size, extra) + name
    return made + bytes(-len(made) % 8)


def with_bitmaps(
    tmp_path: Path,
    directory: bytes,
    count: int,
    *,
    size: int | None = None,
    offset: int = 0x20000,
    autoclear: int = 1,
    length: int = 24,
) -> Image:
    data = struct.pack(">IIQQ", count, 0, len(directory) if size is None else size, offset)[:length]
    extensions = extension(BITMAPS, data) + bytes(8)
    content = header(extensions=extensions, autoclear=autoclear).ljust(0x20000, b"\0") + directory
    return read_bytes(tmp_path, content)


def test_bitmaps_of_every_kind(tmp_path: Path) -> None:
    directory = (
        bitmap()
        + bitmap("备份".encode(), bits=9, flags=0, entries=9000)
        + bitmap(b"n" * 1023, bits=31, flags=3)
        + bitmap(b"broken", flags=1)
    )
    image = with_bitmaps(tmp_path, directory, 4)
    assert (image.status, image.problem) == ("ok", "")
    told = [(b.name, b.granularity, b.flags, b.size >> 16) for b in image.bitmaps]
    assert told == [
        ("chk1", 65536, ("auto",), 2),
        ("备份", 512, (), 9002),
        ("n" * 1023, 1 << 31, ("in-use", "auto"), 2),
        ("broken", 65536, ("in-use",), 2),
    ]
    states = [(b.recording, b.consistent) for b in image.bitmaps]
    assert states == [(True, True), (False, True), (True, False), (False, False)]


def test_bitmaps_that_another_program_has_made_worthless(tmp_path: Path) -> None:
    image = with_bitmaps(tmp_path, bitmap(), 1, autoclear=0)
    assert (image.status, image.bitmaps) == ("ok", ())
    assert "QEMU ignores" in image.problem


@pytest.mark.parametrize(
    ("directory", "fields", "words"),
    [
        (bitmap(), {"count": 0}, "0 bitmaps"),
        (bitmap(), {"count": 65536}, "65536 bitmaps"),
        (bitmap(), {"count": 2}, "ends after 1 of 2 entries"),
        (bitmap(), {"count": 1, "size": 0}, "directory of 0 bytes"),
        (bitmap(), {"count": 1, "size": 2**40}, "directory of"),
        (bitmap(), {"count": 1, "size": 1 << 20}, "after the end of the file"),
        (bitmap(), {"count": 1, "offset": 0x20008}, "not a cluster boundary"),
        (bitmap(), {"count": 1, "offset": 2**64 - 2**16}, "after the end of the file"),
        (bitmap(), {"count": 1, "length": 16}, "16 bytes"),
        (bitmap(kind=2), {"count": 1}, "type 2 is unknown"),
        (bitmap(bits=8), {"count": 1}, "granularity is 2^8"),
        (bitmap(bits=255), {"count": 1}, "granularity is 2^255"),
        (bitmap(b"x" * 1024), {"count": 1}, "name is 1024 bytes long"),
        (bitmap(name_size=65535), {"count": 1}, "ends after 0"),
        (bitmap(extra=2**32 - 1), {"count": 1}, "ends after 0"),
        (bitmap(entries=2**32 - 1), {"count": 1}, "table has 4294967295 entries"),
        (bitmap(flags=2**31), {"count": 1}, "unknown flags"),
    ],
)
def test_bitmaps_that_cannot_be(tmp_path: Path, directory: bytes, fields: dict[str, int], words: str) -> None:
    image = with_bitmaps(tmp_path, directory, **fields)
    assert image.status == "corrupt"
    assert words in image.problem
    assert len(image.bitmaps) <= 1
    with pytest.raises(AssertionError):
        qemu_img("info", tmp_path / "image")


def test_very_many_bitmaps(tmp_path: Path) -> None:
    image = with_bitmaps(tmp_path, b"".join(bitmap(b"b%d" % n) for n in range(20_000)), 20_000)
    assert [b.name for b in image.bitmaps] == [f"b{n}" for n in range(20_000)]


@pytest.mark.system
def test_real_bitmaps(tmp_path: Path) -> None:
    path = create(tmp_path / "image", size=MIB)
    for options, name in (((), "auto"), (("--disable",), "off"), (("-g", "4k"), "备份")):
        qemu_img("bitmap", "--add", *options, path, name)
    image = read(path)
    assert [b.flags for b in image.bitmaps] == [("auto",), (), ("auto",)]
    assert in_the_same_words(image) == in_our_words(json.loads(qemu_img("info", "--output=json", path)))
    qemu_img("bitmap", "--remove", path, "off")
    assert [b.name for b in read(path).bitmaps] == ["auto", "备份"]


# -- real images, changed -----------------------------------------------------------------------------------


@pytest.mark.system
def test_bits_that_only_a_running_qemu_sets(tmp_path: Path) -> None:
    for bits in (1, 2, 3):
        path = create(tmp_path / f"bits-{bits}", size=MIB, lazy_refcounts="on")
        with open(path, "r+b") as file:
            file.seek(72)
            file.write(struct.pack(">Q", bits))
        image = read(path)
        assert (image.dirty, image.corrupt) == (bool(bits & 1), bool(bits & 2))
        assert in_the_same_words(image) == in_our_words(json.loads(qemu_img("info", "--output=json", path)))


@pytest.mark.system
def test_snapshots_with_memory_and_clock(tmp_path: Path) -> None:
    path = create(tmp_path / "image", size=MIB)
    qemu_img("snapshot", "-c", "with memory", path)
    with open(path, "r+b") as file:
        file.seek(64)
        (offset,) = struct.unpack(">Q", file.read(8))
        file.seek(offset + 24)
        file.write(struct.pack(">QI", 5_000_000_007, 0))  # the clock of the guest, and 32 bits of state size
        file.seek(offset + 40)
        file.write(struct.pack(">Q", 3 << 32))
    image = read(path)
    assert [(s.vm_state_size, s.vm_clock, s.virtual_size) for s in image.snapshots] == [(3 << 32, 5_000_000_007, MIB)]
    assert in_the_same_words(image) == in_our_words(json.loads(qemu_img("info", "--output=json", path)))


@pytest.mark.system
def test_every_size_of_cluster(tmp_path: Path) -> None:
    for bits in range(9, 22):
        path = create(tmp_path / f"{bits}", "b" * 300, size=3 * MIB, backing_format="raw", cluster_size=1 << bits)
        assert in_the_same_words(read(path)) == in_our_words(json.loads(qemu_img("info", "--output=json", path)))


@pytest.mark.parametrize(
    ("bits", "status", "told"),
    [
        (1, "ok", {"dirty": True}),
        (2, "corrupt", {"corrupt": True}),
        (16, "ok", {"extended_l2": True}),
        (MERGED_BIT, "invalid", {}),
        (MERGED_BIT | 2, "invalid", {"corrupt": True}),
        (MERGED_BIT | 1, "invalid", {"dirty": True}),
        (32, "unsupported", {}),
        (0, "ok", {}),
    ],
)
def test_what_each_bit_says_that_a_program_must_understand(
    tmp_path: Path, bits: int, status: str, told: dict[str, bool]
) -> None:
    image = read_bytes(tmp_path, header(incompatible=bits))
    assert image.status == status
    assert {name: True for name in ("dirty", "corrupt", "extended_l2") if getattr(image, name)} == told
    assert (MERGED in image.problem) is bool(bits & MERGED_BIT)
    # An L2 table of extended entries has half of them, and so reaches half as far.
    assert read_bytes(tmp_path, header(incompatible=bits & 16, size=512 * MIB)).status == (
        "corrupt" if bits & 16 else "ok"
    )


def test_nothing_more_is_said_of_a_header_that_cannot_be_read(tmp_path: Path) -> None:
    for fields in ({"version": 4}, {"cluster_bits": 8}):
        image = read_bytes(tmp_path, header(backing=b"base", **fields))  # type: ignore[arg-type]
        assert image.backing is None
        assert "backing" not in image.problem
    image = read_bytes(tmp_path, header(size=2**63, l1_size=4 << 20))
    assert image.virtual_size is None
    assert "at most" in image.problem


def test_snapshots_are_not_read_where_a_table_cannot_be(tmp_path: Path) -> None:
    entry = header().ljust(0x20001, b"\0") + bytes(40)
    for fields in ({"snapshots_offset": 0x20001}, {"snapshots_offset": 0x20000, "l1_offset": 513}):
        content = header(snapshots=1, **fields)  # type: ignore[arg-type]
        image = read_bytes(tmp_path, content + entry[len(content) :])
        assert (image.status, image.snapshots) == ("corrupt", ())
        assert image.problem.endswith("which is not a cluster boundary")


@pytest.mark.parametrize("kind", [BACKING_FORMAT, DATA_FILE_NAME, BITMAPS])
def test_an_extension_across_the_end_of_what_is_read_first_is_read_whole(tmp_path: Path, kind: int) -> None:
    data = struct.pack(">IIQQ", 1, 0, 32, 0x20000) if kind == BITMAPS else b"raw"
    for padding, end in itertools.product((880, 888, 896, 904), (b"", bytes(8))):
        extensions = extension(0x12345678, bytes(padding)) + extension(kind, data) + end
        start = header(extensions=extensions, backing=b"base", incompatible=4 * (kind == DATA_FILE_NAME), autoclear=1)
        image = read_bytes(tmp_path, start.ljust(0x20000, b"\0") + bitmap().ljust(32, b"\0"))
        assert (image.status, image.problem) == ("ok", "")
        assert image.backing is not None
        assert {
            BACKING_FORMAT: image.backing.format,
            DATA_FILE_NAME: image.data_file and image.data_file.written,
            BITMAPS: ",".join(one.name for one in image.bitmaps),
        }[kind] == ("chk1" if kind == BITMAPS else "raw")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"refcount_clusters": 128}, "ok"),
        ({"refcount_clusters": 129}, "corrupt"),
        ({"l1_size": 4 << 20}, "ok"),
        ({"l1_size": (4 << 20) + 1}, "corrupt"),
        ({"size": 512 * MIB}, "ok"),
        ({"size": 512 * MIB + 512}, "corrupt"),
        ({"size": 256 * MIB, "incompatible": 16}, "ok"),
        ({"size": 256 * MIB + 512, "incompatible": 16}, "corrupt"),
        ({"extensions": extension(BACKING_FORMAT, b"x" * 15) + bytes(8)}, "ok"),
        ({"extensions": extension(0x12345678, bytes(16)), "backing": b"base"}, "ok"),
        ({"extensions": struct.pack(">II", 0x12345678, 17) + bytes(16), "backing": b"base"}, "corrupt"),
    ],
)
def test_what_is_just_at_a_limit_is_valid(tmp_path: Path, fields: dict[str, object], status: str) -> None:
    assert read_bytes(tmp_path, header(**fields)).status == status  # type: ignore[arg-type]
