"""Maps by MapReader: no process for what is read here, QEMU for the rest, and the same map either way."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from support.disks import random_chain
from support.images import MIB, create, write

import vmsnap_nb as vs
from vmsnap_nb.errors import StalePlanError
from vmsnap_nb.model.image import Image
from vmsnap_nb.system import maps, process
from vmsnap_nb.system.maps import MapReader

pytestmark = pytest.mark.system


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(process, "run", refuse)


@pytest.mark.parametrize("seed", range(3))
def test_both_ways_give_the_same_map(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = random_chain(tmp_path, random.Random(seed))
    chain = vs.chain(made.top)
    ours = MapReader().read(chain)
    monkeypatch.setattr(maps, "can_open", lambda _: False)
    theirs = MapReader().read(chain)
    assert ours == theirs
    assert list(ours) == [str(path) for path in made.paths]


def test_qcow2_and_raw_images_take_no_process(tmp_path: Path, no_process: None) -> None:
    (tmp_path / "base.raw").write_bytes(b"x" * MIB)
    monkey = create(tmp_path / "a.qcow2", tmp_path / "base.raw", size=MIB, backing_format="raw")
    write(monkey, "write -q 0 64k")
    blocks = vs.scan(tmp_path).blockmap("a")
    assert blocks.totals == ((MIB - 65536, 65536), (65536, 0))


def test_other_formats_are_mapped_by_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "base.vmdk", size=4 * MIB, format="vmdk")
    write(tmp_path / "base.vmdk", "write -q 1M 64k", format="vmdk")
    top = create(tmp_path / "top.qcow2", tmp_path / "base.vmdk", size=4 * MIB, backing_format="vmdk")
    write(top, "write -q 2M 64k")
    assert vs.scan(tmp_path).blockmap("top").totals == ((65536, 0), (65536, 0))
    assert list(MapReader().read(vs.chain(top))) == [str(tmp_path / "base.vmdk"), str(top)]


def test_a_file_that_was_replaced_is_not_mapped_for_another(tmp_path: Path) -> None:
    path = create(tmp_path / "a.qcow2", size=MIB)
    image: Image = vs.chain(path)[0]
    create(tmp_path / "b.qcow2", size=2 * MIB).rename(path)
    with pytest.raises(StalePlanError, match="replaced by another file"):
        MapReader().read([image])


def test_what_is_kept_is_counted_once(tmp_path: Path) -> None:
    path = create(tmp_path / "a.qcow2", size=MIB)
    write(path, "write -q 0 64k", "write -q 256k 64k")
    time.sleep(0.05)
    reader, image = MapReader(), vs.chain(path)[0]
    first = reader.read([image])
    assert reader.read([image])[image.path] is first[image.path]
    assert reader._kept == 2
