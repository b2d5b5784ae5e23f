"""Images that are written to while they are read: what is read is never a mixture of two states of the tables."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.disks import merged_parts
from support.images import KIB, MIB, create, write

import vmsnap_nb as vs
from vmsnap_nb.errors import ImageError
from vmsnap_nb.system.disk.disk import Disk
from vmsnap_nb.system.disk.open import open_disk, open_layer
from vmsnap_nb.system.disk.qcow2_layer import Qcow2Layer
from vmsnap_nb.system.sources.source import Source

pytestmark = pytest.mark.system

UNIT = 4 * KIB


class Scripted(Source):
    """A file in which something happens before a read of some place."""

    name = "scripted"

    def __init__(self, path: Path, happens: Callable[[int], None]) -> None:
        self._path, self._happens = path, happens

    @property
    def size(self) -> int:
        return self._path.stat().st_size

    def pread(self, offset: int, length: int) -> bytes:
        self._happens(offset)
        with open(self._path, "rb") as file:
            file.seek(offset)
            return file.read(length)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = create(tmp_path / "a.qcow2", size=4 * MIB, cluster_size=UNIT)
    write(path, f"write -q -P 1 0 {UNIT}", f"write -q -P 2 1M {UNIT}")
    return path


def test_a_cluster_that_was_used_for_something_else_is_not_read(image: Path) -> None:
    """The table says that the cluster holds place 0; before it is read, it holds 1 MiB."""
    left = [True]
    where = next(Disk([Qcow2Layer(Scripted(image, lambda _: None))]).parts()).part.place

    def happens(offset: int) -> None:
        if offset == where and left:
            left.clear()
            write(image, f"discard -q 0 {UNIT}", f"write -q -P 9 2M {UNIT}")

    with Disk([Qcow2Layer(Scripted(image, happens))]) as disk:
        assert disk.pread(0, UNIT) == bytes(UNIT)
        assert not left
        assert disk.pread(2 * MIB, UNIT) == bytes([9]) * UNIT
        write(image, f"write -q -P 7 0 {UNIT}", f"write -q -P 8 3M {UNIT}")
        assert disk.pread(0, UNIT) == bytes([7]) * UNIT
        assert disk.pread(3 * MIB, UNIT) == bytes([8]) * UNIT


def test_what_changes_each_time_is_an_error_that_says_so(image: Path) -> None:
    numbers = iter(range(1000))
    table = Qcow2Layer(Scripted(image, lambda _: None))._offset(0)

    def happens(offset: int) -> None:
        if offset == table:
            write(image, f"discard -q 0 {UNIT}" if next(numbers) % 2 else f"write -q -P 3 0 {UNIT}")

    disk = Disk([Qcow2Layer(Scripted(image, happens))])
    with pytest.raises(ImageError, match="during each of 8 reads") as refused:
        disk.pread(0, UNIT)
    assert "guest.suspend()" in str(refused.value.next_step)


def test_a_map_is_of_one_state(image: Path) -> None:
    """A snapshot that is taken meanwhile copies the tables; new tables alone do no harm."""
    seen: list[int] = []
    layer = Qcow2Layer(Scripted(image, seen.append))
    offset = layer._offset(0)
    done: list[bool] = []

    def happens(place: int) -> None:
        if place == offset and not done:
            done.append(True)
            subprocess.run(["qemu-img", "snapshot", "-c", "s", str(image)], check=True)
            write(image, f"write -q -P 5 2560k {UNIT}", f"discard -q 0 {UNIT}")

    assert merged_parts(Qcow2Layer(Scripted(image, happens))) == [
        (0, UNIT, True),
        (MIB, UNIT, False),
        (2560 * KIB, UNIT, False),
    ]


def test_nothing_is_compared_of_a_file_that_is_at_rest(image: Path) -> None:
    time.sleep(0.05)
    with open_disk(vs.chain(image)) as disk:
        disk.pread(0, UNIT)
        [layer] = disk._layers
        assert isinstance(layer, Qcow2Layer)
        asked: list[int] = []
        pread = layer._source.pread
        layer._source.pread = lambda offset, length: (asked.append(offset), pread(offset, length))[1]  # type: ignore[method-assign]
        disk.pread(0, UNIT)
        assert asked == []
        write(image, f"write -q -P 4 0 {UNIT}")
        assert disk.pread(0, UNIT) == bytes([4]) * UNIT
        assert asked


def test_a_real_writer(tmp_path: Path) -> None:
    """Each place of the disk has zeros or its own number, whatever QEMU does; never that of another place."""
    count = 256
    path = create(tmp_path / "a.qcow2", size=count * UNIT, cluster_size=UNIT)
    chance = random.Random(5)
    argv = ["qemu-io", "-t", "unsafe", "-d", "unmap", "-f", "qcow2", str(path)]
    ends = threading.Event()
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as writer:
        assert writer.stdin is not None
        pipe = writer.stdin

        def work() -> None:
            while not ends.is_set():
                place = chance.randrange(count)
                if chance.random() < 0.5:
                    # Until QEMU writes its tables, those in the file say that the cluster is still in use.
                    pipe.write(f"discard -q {place * UNIT} {UNIT}\nflush\n")
                else:
                    pipe.write(f"write -q -P {place % 251 + 1} {place * UNIT} {UNIT}\n")
                pipe.flush()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            time.sleep(0.3)
            chain = vs.chain(path)
            until, reads, changing, found = time.monotonic() + 4, 0, 0, 0
            with open_disk(chain) as disk:
                while time.monotonic() < until:
                    start = chance.randrange(count - 8)
                    try:
                        content = disk.pread(start * UNIT, 8 * UNIT)
                    except ImageError as error:
                        changing += "changed during each of" in str(error)
                        continue
                    reads += 1
                    for number in range(8):
                        piece = content[number * UNIT : (number + 1) * UNIT]
                        found += any(piece)
                        assert not piece.strip(bytes([(start + number) % 251 + 1])).strip(b"\0")
            with open_layer(chain[0]) as layer:
                assert merged_parts(layer)
        finally:
            ends.set()
            thread.join()
            pipe.close()
        writer.wait(30)
    assert reads > 50
    assert found
    assert changing < reads
