"""Images that are no files of this machine: volumes of another one, read range by range, and block devices."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from support.devices import MakeDevice
from support.disks import OPTIONS, Made, change, converted, mapped, merged_parts
from support.hosts import IMAGES, SystemLibvirt, define, file_disk, pool
from support.images import MIB, create, write

import vmsnap_nb as vs
from vmsnap_nb.errors import VmsnapError
from vmsnap_nb.system.disk.disk import Disk
from vmsnap_nb.system.disk.open import open_disk
from vmsnap_nb.system.disk.qcow2_layer import Qcow2Layer
from vmsnap_nb.system.libvirt.library import library
from vmsnap_nb.system.maps import MapReader
from vmsnap_nb.system.sources.volume import VolumeSource
from vmsnap_nb.system.survey import Survey

pytestmark = pytest.mark.hosts


def volume(connection: Any, name: str) -> Any:
    try:
        pool = connection.storagePoolLookupByName("default")
    except library().libvirtError:
        xml = f"<pool type='dir'><name>default</name><target><path>{IMAGES}</path></target></pool>"
        pool = connection.storagePoolCreateXML(xml)
    pool.refresh()
    return pool.storageVolLookupByName(name)


def test_a_chain_on_another_host_is_read_as_qemu_reads_it_there(other: SystemLibvirt) -> None:
    chance = random.Random(7)
    paths = [IMAGES / name for name in ("0.qcow2", "1.qcow2")]
    made = Made()
    with other.entered():
        for number, options in enumerate((OPTIONS[9], OPTIONS[8])):
            create(paths[number], paths[number - 1] if number else None, size=3 * MIB, **options)
            made.paths.append(paths[number])
            made.formats.append("qcow2")
            made.options.append(options)
            made.sizes.append(3 * MIB)
            change(made, number, chance, 12)
        content = converted(paths[1], "qcow2", IMAGES)
        maps = [mapped(path, "qcow2") for path in paths]
        (IMAGES / "plain").write_bytes(b"0123456789")
    assert not Path(paths[0]).exists()
    with vs.connect(other.uri) as host:
        sources = [VolumeSource(host.connection, volume(host.connection, path.name)) for path in paths]
        layers = [Qcow2Layer(source) for source in sources]
        assert [merged_parts(layer) for layer in layers] == maps
        with Disk(layers) as disk:
            assert disk.name == "volume 1.qcow2 of pool default"
            assert disk.pread(0, disk.size) == content
            assert disk.pread(2 * MIB - 5, 10) == content[2 * MIB - 5 :][:10]
        plain = VolumeSource(host.connection, volume(host.connection, "plain"))
        assert plain.size == 10
        assert (plain.pread(0, 100), plain.pread(9, 1), plain.pread(10, 5)) == (b"0123456789", b"9", b"")
        gone = volume(host.connection, "plain")
        with other.entered():
            (IMAGES / "plain").unlink()
        with pytest.raises(VmsnapError, match="plain of pool default"):
            VolumeSource(host.connection, gone).pread(0, 5)


def test_a_chain_on_block_devices_is_read_as_qemu_reads_it(device: MakeDevice, tmp_path: Path) -> None:
    base, middle = device(8 * MIB), device(16 * MIB)
    with open(base, "r+b") as file:
        file.write(random.Random(1).randbytes(3 * MIB))
    create(middle, base, size=8 * MIB, backing_format="raw", cluster_size="4k")
    top = create(tmp_path / "top.qcow2", middle, size=8 * MIB)
    pattern = tmp_path / "pattern"
    pattern.write_bytes(random.Random(2).randbytes(7919))
    write(middle, f"write -q -s {pattern} 1M 512k", "write -q -z 5M 1M")
    write(top, f"write -q -s {pattern} 100k 300k", "write -q -c -P 3 6M 64k")
    forest = Survey((), images={str(base): "raw", str(middle): "qcow2", str(top): "qcow2"}).read()
    chain = [forest[str(path)] for path in (base, middle, top)]
    assert [image.device for image in chain] == [True, True, False]
    ours = MapReader().read(chain)
    for image in chain:
        parts = [(extent.start, extent.length, extent.zero) for extent in ours[image.path].extents]
        assert parts == mapped(Path(image.path), image.format or "")
    with open_disk(chain) as disk:
        assert disk.pread(0, disk.size) == converted(top, "qcow2", tmp_path)


def test_an_overlay_in_a_pool_of_devices_is_seen_from_anywhere(
    connection: Any, system: SystemLibvirt, device: MakeDevice
) -> None:
    """libvirt does not say what a partition or a logical volume holds, so its first bytes are read."""
    disk = device(partition=True)
    pool(connection, "images", IMAGES)
    connection.storagePoolDefineXML(
        f"<pool type='disk'><name>disk</name><source><device path='{disk}'/><format type='dos'/></source>"
        "<target><path>/dev</path></target></pool>"
    ).create()
    part = Path(f"{disk}p1")
    assert [one.path() for one in connection.storagePoolLookupByName("disk").listAllVolumes()] == [str(part)]
    base, top = create(IMAGES / "base.qcow2", size=4 * MIB), IMAGES / "top.qcow2"
    create(top, backing=base)
    define(connection, "g", file_disk(top), running=True)
    for uri in ("qemu:///system", system.uri):
        with vs.connect(uri) as host:
            assert not host.guest("g").commit().refused
            assert str(part) not in {one.path for one in host.leftovers()}  # a partition is nobody's to remove
    create(part, backing=base)
    for uri in ("qemu:///system", system.uri):
        with vs.connect(uri) as host:
            assert sorted(host.survey().children(base)) == sorted((str(part), str(top)))
            refusals = [one.name for one in host.guest("g").commit().concerns if one.level == "refuse"]
            assert refusals == ["shared-base"]
            assert str(part) not in {one.path for one in host.leftovers()}
