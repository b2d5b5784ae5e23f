"""Who holds an image: seen in the kernel's table, without opening the image."""

from __future__ import annotations

import os
import subprocess
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
        assert held()[identity(over)] == "write"
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
    with open(image, "r+b"):
        assert identity(image) not in held()
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


def test_the_table_is_read_line_by_line(tmp_path: Path) -> None:
    table = tmp_path / "locks"
    table.write_text(
        "1: OFDLCK ADVISORY  READ -1 fe:00:11 100 101\n"
        "2: OFDLCK ADVISORY  READ -1 fe:00:12 100 100\n"
        "2: OFDLCK ADVISORY  READ -1 fe:00:13 201 201\n"
        "3: OFDLCK ADVISORY  READ -1 fe:00:14 103 103\n"
        "3: OFDLCK ADVISORY  READ -1 fe:00:14 100 101\n"
        "4: POSIX  ADVISORY  WRITE 99 fe:00:15 0 EOF\n"
        "5: FLOCK  ADVISORY  WRITE 99 fe:00:16 100 101\n"
        "6: -> OFDLCK ADVISORY  READ -1 fe:00:17 100 101\n"
        "7: OFDLCK ADVISORY  READ -1 <none>:0 100 101\n"
        "8: OFDLCK\n\n"
        "9: OFDLCK ADVISORY  READ -1 fd:1a:18 90 110\n"
    )
    assert held(str(table)) == {
        (os.makedev(0xFE, 0), 11): "write",
        (os.makedev(0xFE, 0), 12): "read",
        (os.makedev(0xFE, 0), 14): "write",
        (os.makedev(0xFD, 0x1A), 18): "write",
    }
    assert held(str(tmp_path / "none")) == {}
