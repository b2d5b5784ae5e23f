"""Images from people who wish us ill: reading them ends with a status, soon, and opens nothing that it should not."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.images import MIB, extension, header, sparse
from support.nobody import as_nobody
from support.watch import watch

from vmsnap_nb.model.forest import Forest
from vmsnap_nb.model.image import Image, Status
from vmsnap_nb.model.reference import parse_reference
from vmsnap_nb.system import survey
from vmsnap_nb.system.image_file import read_image
from vmsnap_nb.system.qcow2.directories import Room
from vmsnap_nb.system.qcow2.format import BACKING_FORMAT, BITMAPS
from vmsnap_nb.system.survey import Survey

SOON = 30.0
"""Seconds. Each of these takes some milliseconds; a busy machine may take longer, but nothing may hang."""


def scan(folder: Path, **options: object) -> Forest:
    began = time.monotonic()
    with watch() as seen:
        forest = Survey((str(folder),), **options).read()  # type: ignore[arg-type]
    assert time.monotonic() - began < SOON
    assert [what for what in seen if not what.startswith(str(folder))] == []
    for image in forest:
        assert forest.status(image.path) in get_args(Status)
        assert (image.status == "ok") or image.problem
    assert len(forest.loops) + len(forest.leaves) >= (1 if len(forest) else 0)
    return forest


def overlay(path: Path, backing: str | bytes, format: str | None = "qcow2") -> Path:
    name = os.fsencode(backing)
    ext = b"" if format is None else extension(BACKING_FORMAT, format.encode())
    return sparse(path, header(backing=name, extensions=ext + bytes(8)))


def test_a_watch_sees_what_is_opened(tmp_path: Path) -> None:
    with watch() as seen:
        os.close(os.open(tmp_path, os.O_RDONLY))
        os.listdir(tmp_path)
    assert seen == [str(tmp_path)] * 2


@pytest.mark.parametrize("length", [1, 2, 3])
def test_every_loop_is_found(tmp_path: Path, length: int) -> None:
    for number in range(length):
        overlay(tmp_path / f"{number}", f"{(number + 1) % length}")
    overlay(tmp_path / "above", "0")
    forest = scan(tmp_path)
    assert [set(loop) for loop in forest.loops] == [{str(tmp_path / f"{n}") for n in range(length)}]
    assert forest.status(str(tmp_path / "0")) == "loop"
    assert forest.status(str(tmp_path / "above")) == "ok"


def test_a_loop_by_another_name(tmp_path: Path) -> None:
    overlay(tmp_path / "a", "b")
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").symlink_to("a")
    forest = scan(tmp_path)
    assert len(forest) == 3
    assert forest.loops
    assert {forest.status(str(tmp_path / name)) for name in "abc"} == {"loop"}
    assert forest.duplicates == (tuple(str(tmp_path / name) for name in "abc"),)


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        where = os.getcwd()
        os.chdir(tmp_path)  # the paths of sockets are short
        try:
            server.bind("socket")
        finally:
            os.chdir(where)
        for name in ("folder", "fifo", "socket"):
            overlay(tmp_path / f"over-{name}", name)
        overlay(tmp_path / "over-file", "over-fifo/below")
        forest = scan(tmp_path)
    assert {name: forest[str(tmp_path / name)].status for name in ("folder", "fifo", "socket")} == {
        "folder": "not-a-file",
        "fifo": "not-a-file",
        "socket": "not-a-file",
    }
    assert forest[str(tmp_path / "over-fifo/below")].status == "missing"
    assert len(forest) == 8


def test_devices_are_not_opened_even_when_asked_to_follow(tmp_path: Path) -> None:
    for number, name in enumerate(
        ("/dev/zero", "/dev/null", "/dev/tty", "/proc/kmsg", "/proc/self/mem", "/sys/power/state")
    ):
        overlay(tmp_path / f"{number}", name)
    (tmp_path / "link").symlink_to("/dev/zero")
    forest = scan(tmp_path, follow=True)
    assert {image.status for image in forest if not image.path.startswith(str(tmp_path))} == {"not-a-file"}
    with watch() as seen:
        named = Survey((), images={"/dev/zero": "raw", "/dev/full": None, "/proc/version_signature_": None}).read()
    assert [image.status for image in named] == ["not-a-file", "not-a-file", "missing"]
    assert seen == []


def test_what_may_not_be_read_is_listed_with_the_reason(nobodys_folder: Path) -> None:
    overlay(nobodys_folder / "secret", "base").chmod(0)
    overlay(nobodys_folder / "over", "secret")
    overlay(nobodys_folder / "over-closed", "closed/below")
    closed = nobodys_folder / "closed"
    closed.mkdir()
    overlay(closed / "below", "x")
    closed.chmod(0)
    found = as_nobody(
        lambda: {image.path: (image.status, image.problem) for image in Survey((str(nobodys_folder),)).read()}
    )
    status = {os.path.relpath(path, nobodys_folder): answer[0] for path, answer in found.items()}
    assert status == {
        "secret": "unreadable",
        "over": "ok",
        "over-closed": "ok",
        "closed": "unreadable",
        "closed/below": "unreadable",
    }
    assert all("ermission" in problem or "permi" in problem for state, problem in found.values() if state != "ok")


@pytest.mark.parametrize(
    "reference",
    [
        "nbd://127.0.0.1:9/x",
        "nbd:unix:/run/x.sock",
        "http://localhost/x",
        "ssh://localhost/x",
        "rbd:pool/x",
        "fat:/etc",
        "blkdebug::/etc/passwd",
        'json:{"driver":"nbd","server":{"type":"inet","host":"localhost","port":"9"}}',
        'json:{"driver":"qcow2","file":{"driver":"http","url":"http://localhost/x"}}',
    ],
)
@pytest.mark.parametrize("follow", [False, True])
def test_addresses_are_never_opened(tmp_path: Path, reference: str, follow: bool) -> None:
    overlay(tmp_path / "over", reference)
    forest = scan(tmp_path, follow=follow)
    assert forest[reference].status == "remote"
    assert forest.parent(str(tmp_path / "over")) == parse_reference(reference, folder=str(tmp_path)).key
    named = Survey((), images={reference: "qcow2"}, follow=follow)
    with watch() as seen:
        assert named.read()[reference].status == "remote"
    assert seen == []


@pytest.mark.parametrize(
    "way", ["absolute", "relative", "file:", "json:", "link to file", "link to folder", "own link"]
)
def test_nothing_outside_is_opened(tmp_path: Path, way: str) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir(), outside.mkdir()
    secret = overlay(outside / "secret", "deeper")
    (inside / "link").symlink_to(secret)
    (inside / "folder").symlink_to(outside)
    reference = {
        "absolute": str(secret),
        "relative": "../outside/secret",
        "file:": f"file:{secret}",
        "json:": json.dumps({"driver": "qcow2", "file": {"driver": "file", "filename": str(secret)}}),
        "link to file": "link",
        "link to folder": "folder/secret",
        "own link": "folder/../outside/secret",
    }[way]
    overlay(inside / "over", ("json:" if way == "json:" else "") + reference)
    forest = scan(inside)
    base = forest.parent(str(inside / "over"))
    assert base is not None
    assert forest[base].status == "outside"
    assert "follow=True" in forest[base].problem
    assert str(outside / "deeper") not in forest
    followed = Survey((str(inside),), follow=True).read()
    base = followed.parent(str(inside / "over"))
    assert base is not None
    assert followed[base].status == "ok"


def test_a_file_that_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    secret = sparse(tmp_path / "secret", header())
    (tmp_path / "image").symlink_to(secret)
    image, mark = read_image(str(tmp_path / "image"), str(tmp_path))
    assert (image.status, mark) == ("unreadable", None)


def test_raw_data_cannot_pose_as_an_image(tmp_path: Path) -> None:
    # A guest wrote a qcow2 header into its raw disk, to make the host open a file.
    inside = tmp_path / "inside"
    inside.mkdir()
    disk = overlay(inside / "disk.raw", "/etc/shadow")
    forest = Survey((str(inside),), images={str(disk): "raw"}, follow=True).read()
    assert (forest[str(disk)].format, forest[str(disk)].backing) == ("raw", None)
    assert list(forest) == [forest[str(disk)]]
    overlay(inside / "over", "disk.raw", "raw")
    forest = scan(inside)
    assert forest[str(disk)].format == "raw"
    assert "looks like qcow2" in forest[str(disk)].problem
    assert set(forest.images) == {str(disk), str(inside / "over")}


@pytest.mark.system
@pytest.mark.parametrize(
    "extents",
    [
        'RW 2048 FLAT "/etc/passwd" 0',
        'RW 2048 FLAT "../secret" 0',
        'RW 2048 FLAT "nbd:localhost:9" 0',
        'RW\n2048\nFLAT\n"/etc/passwd" 0',
        'x="y"\nRW 2048 FLAT "/etc/passwd" 0',
        'x="y\nRW 2048 FLAT "/etc/passwd" 0',
        'RW 2048 FLAT "link" 0',
        'RW 2048 SPARSE "sub/file"',
    ],
)
def test_extents_of_vmdk_stay_beside_it(tmp_path: Path, extents: str) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    text = f'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n{extents}\n'
    (tmp_path / "disk.vmdk").write_text(text)
    # The same inside of a sparse image whose capacity of 0 makes QEMU look for a descriptor.
    inner = b"KDMV" + struct.pack("<IIQQQ", 1, 3, 0, 128, 1)
    (tmp_path / "inner.vmdk").write_bytes(inner.ljust(512, b"\0") + text.encode())
    forest = scan(tmp_path)  # which also sees that qemu-img was not started
    for name in ("disk.vmdk", "inner.vmdk"):
        assert forest[str(tmp_path / name)].status == "outside"


@pytest.mark.system
def test_foreign_formats_that_are_not_what_they_seem(tmp_path: Path) -> None:
    starts = (
        b"KDMV",
        b"COWD",
        b"QED\0",
        b"vhdxfile",
        b"conectix",
        b"LUKS\xba\xbe",
        b"WithoutFreeSpace",
        b"QFI\xfb\0\0\0\1",
    )
    for number, start in enumerate(starts):
        (tmp_path / f"{number}").write_bytes(start + b"\xff" * 4096)
        (tmp_path / f"{number} short").write_bytes(start)
    began = time.monotonic()
    forest = Survey((str(tmp_path),)).read()
    assert time.monotonic() - began < 2 * SOON
    assert len(forest) == 2 * len(starts)
    assert {image.status for image in forest} <= {"corrupt", "outside"}


def test_names_of_all_bytes(tmp_path: Path) -> None:
    names = (b"\xff\xfe", b"two\nlines", b"'\"`$(x)", "虚拟机".encode(), b" ", b"-rf", b"x" * 255, b"\x01\x7f", b"a\\b")
    for name in names:
        sparse(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)), header())
        over = os.fsencode(tmp_path) + b"/" + name[:200] + b".over"
        overlay(Path(os.fsdecode(over)), name)
    forest = scan(tmp_path)
    assert len(forest) == 2 * len(names)
    assert {image.status for image in forest} == {"ok"}
    assert all(forest.depth(path) == 2 for path in forest.leaves)


def test_bounds_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path
    for _ in range(survey.DEEPEST + 3):
        deep /= "d"
        deep.mkdir()
        sparse(deep / "image", header())
    forest = scan(tmp_path)
    reached = tmp_path.joinpath(*["d"] * survey.DEEPEST)
    assert str(reached / "image") in forest
    assert forest[str(reached / "d")].status == "not-a-file"
    assert len(forest) == survey.DEEPEST + 1
    monkeypatch.setattr(survey, "MOST_ENTRIES", 10)
    forest = scan(tmp_path)
    assert sum(image.format == "qcow2" for image in forest) == 4  # in each but the first, a file and a folder
    assert "more than 10 names" in str([image.problem for image in forest])


# -- any bytes at all ---------------------------------------------------------------------------------------

_FUZZ = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])

_SNAPSHOT = struct.pack(">QIHHIIQII", 0x30000, 1, 1, 4, 1, 2, 3, 4, 16) + bytes(16) + b"1snap" + bytes(3)
_BITMAP = struct.pack(">QIIBBHI", 0x3000, 1, 2, 1, 16, 4, 0) + b"chk1" + bytes(4)
_VALID = (
    header(
        backing=b"base.qcow2",
        extensions=extension(BACKING_FORMAT, b"qcow2")
        + extension(BITMAPS, struct.pack(">IIQQ", 2, 0, 64, 0x4000))
        + extension(0x6803F857, bytes(96))
        + bytes(8),
        autoclear=1,
        snapshots=2,
        snapshots_offset=0x1000,
        cluster_bits=12,
        refcount_offset=0x2000,
        l1_size=64,
        l1_offset=0x3000,
    )
    .ljust(0x1000, b"\0")
    .__add__(_SNAPSHOT * 2)
    .ljust(0x4000, b"\0")
    .__add__(_BITMAP * 2)
    .ljust(0x5000, b"\0")
)
_interesting = st.sampled_from([0, 1, 7, 8, 0x7F, 0x80, 0xFF])


def read(tmp_path: Path, content: bytes) -> Image:
    path = tmp_path / "image"
    path.write_bytes(content)
    with watch() as seen:
        image, _ = read_image(str(path), str(tmp_path))
    assert set(seen) == {str(path)}
    assert image.status in {"ok", "corrupt", "unsupported", "unknown", "invalid"}
    assert (image.status == "ok") or image.problem
    assert len(image.snapshots) <= 65536
    assert len(image.bitmaps) <= 65535
    repr(image)
    return image


def test_the_image_that_is_mutated_is_a_valid_one(tmp_path: Path) -> None:
    image = read(tmp_path, _VALID)
    assert (image.status, image.problem, len(image.snapshots), len(image.bitmaps)) == ("ok", "", 2, 2)
    assert image.backing is not None


@_FUZZ
@given(
    changes=st.dictionaries(
        st.integers(0, 300) | st.integers(0x1000, 0x1090) | st.integers(0x4000, 0x4040),
        _interesting | st.integers(0, 255),
    )
)
def test_a_mutated_image_has_a_status(tmp_path: Path, changes: dict[int, int]) -> None:
    content = bytearray(_VALID)
    for offset, value in changes.items():
        content[offset] = value
    read(tmp_path, bytes(content))


@_FUZZ
@given(words=st.dictionaries(st.integers(0, 40), st.sampled_from([0, 1, 2**31, 2**32 - 1, 0x1000, 0x4000, 65536])))
def test_mutated_words(tmp_path: Path, words: dict[int, int]) -> None:
    content = bytearray(_VALID)
    for number, value in words.items():
        struct.pack_into(">I", content, 4 + 4 * number, value)
    read(tmp_path, bytes(content))


@_FUZZ
@given(length=st.integers(0, len(_VALID)))
def test_a_truncated_image_has_a_status(tmp_path: Path, length: int) -> None:
    read(tmp_path, _VALID[:length])


@_FUZZ
@given(content=st.binary(max_size=600), start=st.sampled_from([b"", b"QFI\xfb\0\0\0\2", b"QFI\xfb\0\0\0\3"]))
def test_random_bytes_have_a_status(tmp_path: Path, content: bytes, start: bytes) -> None:
    read(tmp_path, start + content)


@settings(_FUZZ, max_examples=100)
@given(name=st.binary(max_size=300), format=st.sampled_from([None, "raw", "qcow2", "vmdk", "x"]))
def test_any_backing_name(tmp_path: Path, name: bytes, format: str | None) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    overlay(folder / "over", name, format)
    forest = scan(folder)
    assert forest[str(folder / "over")].status == "ok"
    assert len(forest) <= 2


def test_a_large_false_table_costs_little(tmp_path: Path) -> None:
    content = header(snapshots=65536, snapshots_offset=0x20000)
    sparse(tmp_path / "zeros", content, 200 * MIB)
    big = struct.pack(">QIHHIIQII", 0, 0, 65535, 65535, 0, 0, 0, 0, 1024)
    sparse(tmp_path / "big", content.ljust(0x20000, b"\0") + big, 200 * MIB)
    huge = struct.pack(">QIHHIIQII", 0, 0, 65535, 65535, 0, 0, 0, 0, 2**32 - 1)
    sparse(tmp_path / "huge", content.ljust(0x20000, b"\0") + huge, 300 * MIB)
    forest = scan(tmp_path)
    assert len(forest[str(tmp_path / "zeros")].snapshots) == 65536
    assert forest[str(tmp_path / "huge")].status == "corrupt"
    assert len(forest) == 3


def test_many_tables_take_no_more_memory_than_a_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "Room", lambda: Room(100 * 700))
    entry = struct.pack(">QIHHIIQII", 0, 0, 1, 1, 0, 0, 0, 0, 0) + b"1a" + bytes(6)
    for number in range(3):  # hard links and sparse files cost an attacker nothing
        content = header(snapshots=50, snapshots_offset=0x20000)
        sparse(tmp_path / f"{number}", content, size=MIB)
        with open(tmp_path / f"{number}", "r+b") as file:
            file.seek(0x20000)
            file.write(entry * 50)
    states = [(image.status, len(image.snapshots)) for image in scan(tmp_path)]
    assert states == [("ok", 50), ("ok", 50), ("unreadable", 0)]


def test_names_that_are_no_text_are_read_fast(tmp_path: Path) -> None:
    entry = struct.pack(">QIHHIIQII", 0, 0, 1, 4000, 0, 0, 0, 0, 0) + b"1" + b"\xff" * 4000
    content = header(snapshots=4000, snapshots_offset=0x20000)
    with open(tmp_path / "image", "wb") as file:
        file.write(content)
        file.seek(0x20000)
        file.write((entry + bytes(-len(entry) % 8)) * 4000)
    began = time.process_time()
    assert len(scan(tmp_path)[str(tmp_path / "image")].snapshots) == 4000
    assert time.process_time() - began < 4


def test_a_header_cannot_have_the_whole_machine_read(tmp_path: Path) -> None:
    top = overlay(tmp_path / "top", "/not-there.qcow2")
    with watch() as seen:
        forest = Survey((str(tmp_path),), follow=True).read(around=(str(top),))
    assert not [what for what in seen if what.startswith(("/etc", "/usr", "/var"))]
    assert forest.status("/not-there.qcow2") == "missing"
