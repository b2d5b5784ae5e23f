"""Who holds an image: asked of the kernel."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from imagery import MIB, create

from vmsnap_nb.model.guest import Use
from vmsnap_nb.system.locks import held, holders
from vmsnap_nb.system.survey import Survey


@contextmanager
def qemu_io(path: Path, *options: str) -> Iterator[int]:
    """Hold an image open, as a guest does."""
    argv = ["qemu-io", *options, "-f", "qcow2", str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("length\n")
        process.stdin.flush()
        assert "MiB" in process.stdout.readline()  # now it is open
        try:
            yield process.pid
        finally:
            process.stdin.close()
            process.stdout.read()
            process.wait(10)


def identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


@pytest.mark.system
def test_a_process_that_writes_holds_its_image_and_reads_the_base(tmp_path: Path) -> None:
    base = create(tmp_path / "base", MIB)
    over = create(tmp_path / "over", MIB, backing=(base, "qcow2"))
    survey = Survey((str(tmp_path),))
    assert {image.held for image in survey.read()} == {""}
    with qemu_io(over) as pid:
        forest = survey.read()
        assert (forest[str(over)].held, forest[str(base)].held) == ("write", "read")
        assert (forest.status(str(over)), forest.status(str(base))) == ("in-use", "ok")
        used = survey.read([Use("demo", "vda", str(over), "running")])
        assert used.status(str(over)) == "ok"
        assert holders(identity(over)) == holders(identity(base)) == [(pid, "qemu-io")]
    forest = survey.read()
    assert {image.held for image in forest} == {""}
    assert forest.status(str(over)) == "ok"
    assert holders(identity(over)) == []


@pytest.mark.system
def test_a_process_that_only_reads(tmp_path: Path) -> None:
    image = create(tmp_path / "image", MIB)
    with qemu_io(image, "-r"):
        assert Survey((str(tmp_path),)).read()[str(image)].held == "read"


def test_a_process_without_locks_holds_nothing(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"x")
    with open(image, "r+b") as file:
        assert held(file.fileno()) == ""
        assert holders(identity(image)) == []


@pytest.mark.system
def test_a_dirty_image_is_only_told_of_when_nobody_has_it_open(tmp_path: Path) -> None:
    image = create(tmp_path / "image", MIB, lazy_refcounts="on")
    with qemu_io(image) as _:
        dirty(image)
        assert Survey((str(tmp_path),)).read()[str(image)].problem == ""
    dirty(image)
    assert "not closed properly" in Survey((str(tmp_path),)).read()[str(image)].problem


def dirty(image: Path) -> None:
    with open(image, "r+b") as file:
        file.seek(79)
        file.write(b"\1")


@pytest.mark.system
def test_a_writer_is_seen_among_readers(tmp_path: Path) -> None:
    base = create(tmp_path / "base", MIB)
    survey = Survey((str(tmp_path),))
    with qemu_io(base, "-r"), qemu_io(base, "-r"):
        assert survey.read()[str(base)].held == "read"
    with raw_locks(base, 100), raw_locks(base, 100, 101), raw_locks(base, 100):
        assert survey.read()[str(base)].held == "write"
    with raw_locks(base, 201, 203):  # others must not write; nobody does
        assert survey.read()[str(base)].held == ""


@contextmanager
def raw_locks(path: Path, *positions: int) -> Iterator[None]:
    """Lock single bytes as QEMU does, by another open file."""
    with open(path, "rb") as file:
        for position in positions:
            lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, position, 1, 0)
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
        yield


def test_a_lock_comes_and_goes_on_a_file_that_does_not_change(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"QFI\xfb")
    (tmp_path / "link").symlink_to(image)
    time.sleep(0.05)
    survey = Survey((str(tmp_path),))
    for positions, expected in (((), ""), ((100,), "read"), ((100, 101), "write"), ((), "")):
        with raw_locks(image, *positions):
            assert {one.held for one in survey.read()} == {expected}
