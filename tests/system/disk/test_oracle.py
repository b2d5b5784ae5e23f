"""Random images with every feature: what is read of them is what QEMU's tools read, byte for byte."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.commands import qemu_img
from support.disks import (
    OPTIONS,
    Made,
    change,
    converted,
    mapped,
    merged_parts,
    random_chain,
    read_by_qemu_io,
)
from support.images import MIB, create

import vmsnap_nb as vs
from vmsnap_nb.errors import ImageError
from vmsnap_nb.system.disk.open import open_disk, open_layer
from vmsnap_nb.system.disk.qcow2_layer import Qcow2Layer
from vmsnap_nb.system.sources.source import BytesSource

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vmsnap-test-", dir="/dev/shm") as name:
        yield Path(name)


def check(made: Made, chance: random.Random) -> None:
    """Compare all that can be read of a chain."""
    where = made.paths[0].parent
    chain = vs.chain(made.top)
    for image, path, format, options in zip(chain, made.paths, made.formats, made.options, strict=True):
        with open_layer(image) as layer:
            assert merged_parts(layer) == mapped(path, format), options
    with open_disk(chain) as disk:
        content = converted(made.top, made.formats[-1], where)
        assert disk.size == len(content)
        assert disk.pread(0, len(content) + 1) == content, made.options
        for _ in range(3):
            start = chance.randrange(disk.size)
            length = min(chance.choice((1, 511, 70_000)), disk.size - start)
            assert disk.pread(start, length) == content[start : start + length], made.options
        start = chance.randrange(disk.size // 512) * 512
        length = min(1024, disk.size - start)
        assert disk.pread(start, length) == read_by_qemu_io(made.top, made.formats[-1], start, length)
        outside, place = bytearray(content), 0
        for begin, end in disk.data(0, disk.size):
            assert begin >= place
            outside[begin:end], place = bytes(end - begin), end
        assert not any(outside)
    for snapshot in chain[-1].snapshots:
        with open_disk(chain, snapshot=snapshot.id) as disk:
            assert disk.pread(0, disk.size) == converted(made.top, "qcow2", where, snapshot.id), made.options


@settings(max_examples=12, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_random_chains(seed: int) -> None:
    chance = random.Random(seed)
    with folder() as where:
        check(random_chain(where, chance), chance)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_kind_of_image(options: dict[str, object]) -> None:
    """Each alone, and below a larger and a smaller overlay, so that no run is without one of them."""
    chance = random.Random(str(options))
    with folder() as where:
        path = where / "0.qcow2"
        options = {key: str(value).format(path) for key, value in options.items()}
        size = 3 * MIB + 512
        made = Made([create(path, size=size, **options)], ["qcow2"], [options], [size])
        change(made, 0, chance, 20)
        for number, other in ((1, 4 * MIB), (2, 2 * MIB)):
            made.paths.append(create(where / f"{number}.qcow2", made.top, size=other))
            made.formats.append("qcow2")
            made.options.append({})
            made.sizes.append(other)
            change(made, number, chance, 3)
        check(made, chance)


def test_snapshots_of_an_image_that_was_resized() -> None:
    """A snapshot has the size of its time; `qemu-img convert -l` gives it that of now, and what may be there."""
    with folder() as where:
        path = create(where / "0.qcow2", size=3 * MIB)
        made = Made([path], ["qcow2"], [{}], [3 * MIB])
        change(made, 0, random.Random(1), 10)
        qemu_img("snapshot", "-c", "small", path)
        qemu_img("resize", "-q", path, "5M")
        made.sizes[0] = 5 * MIB
        change(made, 0, random.Random(2), 10)
        qemu_img("snapshot", "-c", "1", path)  # a name that is another one's ID
        qemu_img("snapshot", "-c", "large", path)
        chain = vs.chain(path)
        for name, size in (("small", 3), ("1", 3), ("2", 5), ("large", 5)):
            with open_disk(chain, snapshot=name) as disk:
                assert disk.size == size * MIB
                assert disk.pread(0, disk.size) == converted(path, "qcow2", where, name)[: size * MIB]
        with pytest.raises(vs.NotFoundError, match="no internal snapshot 'none'"):
            open_disk(chain, snapshot="none")


@settings(max_examples=40, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_what_qemu_reads_of_a_damaged_image(seed: int) -> None:
    """It is read alike, or refused: never is anything else read, and nothing that QEMU refuses."""
    chance = random.Random(seed)
    with folder() as where:
        made = random_chain(where, chance, layers=1, changes=12)
        if made.formats[0] == "raw" or "data_file" in made.options[0]:
            return
        content = bytearray(made.top.read_bytes())
        layer = Qcow2Layer(BytesSource(content))
        places = [layer.geometry.l1_offset, *layer._offsets.tolist()]
        for _ in range(chance.choice((1, 1, 3))):
            place = chance.choice(places) + 8 * chance.randrange(min(64, layer.geometry.cluster // 8))
            content[place : place + 8] = _damaged(bytes(content[place : place + 8]), len(content), chance)
        made.top.write_bytes(content)
        try:
            theirs: object = (mapped(made.top, "qcow2"), converted(made.top, "qcow2", where))
        except AssertionError:
            theirs = None
        try:
            layer = Qcow2Layer(BytesSource(content))
            with open_disk(vs.chain(made.top)) as disk:
                ours: object = (merged_parts(disk._layers[0]), disk.pread(0, disk.size))
        except ImageError:
            ours = None
        assert ours is None or ours == theirs


def _damaged(entry: bytes, size: int, chance: random.Random) -> bytes:
    number = int.from_bytes(entry)
    match chance.randrange(5):
        case 0:
            return (number ^ 1 << chance.randrange(64)).to_bytes(8)
        case 1:
            return chance.randbytes(8)
        case 2:
            return (chance.randrange(size) & ~511 | chance.choice((0, 1, 2, 3)) << 62).to_bytes(8)
        case 3:
            return (size + chance.randrange(1 << 40) & ~0xFFFF | 1 << 63).to_bytes(8)
    return bytes(8)
