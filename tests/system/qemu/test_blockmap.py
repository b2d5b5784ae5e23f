"""Maps of real images: small files with endless maps, and large ones that are what they seem."""

from __future__ import annotations

import os
import resource
import struct
import time
from itertools import pairwise
from pathlib import Path

import pytest
from support.images import GIB, MIB, create, qemu_img

import vmsnap_nb as vs
from vmsnap_nb.errors import ImageError
from vmsnap_nb.model.image import Image
from vmsnap_nb.system import process
from vmsnap_nb.system.maps import MapReader
from vmsnap_nb.system.qemu.blockmap import reads_none_of
from vmsnap_nb.system.qemu.content import content_digest

pytestmark = pytest.mark.system

CLUSTER = 1 << 16
KINDS = {"data": 1 << 63, "zero": 1}
"""Entries of an L2 table (QEMU, docs/interop/qcow2.rst): the number of a cluster, which is its own; and zeros."""


def bomb(path: Path, tables: int, kind: str, *, every: int = 2) -> Path:
    """Make an image whose L1 entries all name one L2 table, and whose data is one cluster."""
    create(path, size=tables * 512 * MIB)
    content = bytearray(path.read_bytes())
    content.extend(bytes(-len(content) % CLUSTER))
    l2, data = len(content), len(content) + CLUSTER
    content.extend(bytes(2 * CLUSTER))
    (l1,) = struct.unpack_from(">Q", content, 40)
    for number in range(tables):
        struct.pack_into(">Q", content, l1 + 8 * number, l2 | 1 << 63)
    for number in range(0, CLUSTER // 8, every):
        entry = KINDS[kind] if kind == "zero" else KINDS[kind] | data
        struct.pack_into(">Q", content, l2 + 8 * number, entry)
    path.write_bytes(content)
    return path


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_file_with_an_endless_map_is_an_error_that_names_it(tmp_path: Path, kind: str) -> None:
    path = bomb(tmp_path / "bomb.qcow2", 4096, kind)
    create(tmp_path / "top.qcow2", "bomb.qcow2", size=4096 * 512 * MIB)
    assert path.stat().st_size < 400 << 10
    before, began = peak(), time.monotonic()
    forest = vs.scan(tmp_path)
    for act in (lambda: forest.blockmap("bomb"), lambda: forest.commit("top"), lambda: forest.pull("top")):
        with pytest.raises(ImageError, match=r"bomb\.qcow2") as refused:
            act()
        assert "point to the same cluster" in str(refused.value.reason)
        assert "qemu-img check" in str(refused.value.next_step)
    assert time.monotonic() - began < 30
    assert peak() - before < 200 * MIB
    assert forest.refresh()["/bomb".join((str(tmp_path), ".qcow2"))].status == "ok"


def test_more_parts_than_memory_is_meant_for_are_an_error(tmp_path: Path) -> None:
    image = vs.chain(bomb(tmp_path / "a", 1, "zero"))[0]
    assert len(MapReader(4096).read([image])[image.path].extents) == 4096
    with pytest.raises(ImageError, match="more than 4095 parts"):
        MapReader(4095).read([image])
    other = vs.chain(bomb(tmp_path / "b", 1, "zero", every=4))[0]
    with pytest.raises(ImageError, match="more than 6000 parts"):
        MapReader(6000).read([image, other])


def test_maps_are_not_kept_for_ever(tmp_path: Path) -> None:
    images: list[Image] = [vs.chain(bomb(tmp_path / f"{n}", 1, "zero"))[0] for n in range(3)]
    time.sleep(0.05)
    reader = MapReader(10000)
    for image in images:
        reader.read([image])
    assert [key[0] for key in reader._known] == [image.identity for image in images[1:]]


def test_ten_layers_of_a_tebibyte_with_many_parts(tmp_path: Path) -> None:
    """What is large and in order works: each layer has 50 parts over the whole disk, and a large L1 table."""
    names = [f"{n}.qcow2" for n in range(10)]
    create(tmp_path / names[0], size=1024 * GIB)
    for below, name in pairwise(names):
        create(tmp_path / name, below, size=1024 * GIB)
    for number, name in enumerate(names):
        commands = [f"write -z {(n * 20000 + number) * MIB} 64k" for n in range(50)]
        argv = [word for command in commands for word in ("-c", command)]
        process.run(["qemu-io", "-f", "qcow2", *argv, str(tmp_path / name)], tried="write")
    forest = vs.scan(tmp_path)
    blocks = forest.blockmap("9")
    assert [len(layer.extents) for layer in blocks.layers] == [50] * 10
    plan = forest.commit("9", base="5")
    assert not plan.refused
    assert plan.run(progress=False).as_predicted
    assert not reads_none_of(str(tmp_path / names[5]), 1, below=True)
    assert content_digest(str(tmp_path / names[5]), "qcow2")


def test_a_large_l1_table(tmp_path: Path) -> None:
    image = vs.chain(create(tmp_path / "a", size=256 * 1024 * GIB))[0]
    assert os.path.getsize(image.path) > 4 * MIB
    assert MapReader().read([image])[image.path].extents == ()
    assert qemu_img("info", image.path)
